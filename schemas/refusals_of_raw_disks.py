"""What the codes about raw disk volumes mean, and what to do about each."""

OF_RAW_DISKS: dict[str, tuple[str, str]] = {
    "HW-D011": (
        "No disk can be the volume; the answer names those that were looked at, and why not.",
        "hwbus disk ls shows the disks; it needs one that is free, and as large as asked.",
    ),
    "HW-D012": (
        "The disk gives less than what is asked for; hwbus keeps up to 6 MiB to know it by.",
        "Ask for less, or leave the size out.",
    ),
    "HW-D013": (
        "Raw disk volumes lie on the node, and with them perhaps data.",
        "Delete them first: hwbus volume ls --node NAME. One that is held can be purged.",
    ),
    "HW-V024": (
        (
            "A raw disk volume is one whole disk, and no more than that: it cannot grow, be "
            "snapshotted, cloned, backed up, restored into or put into a group."
        ),
        "For those, make a pool of disks, and volumes in it: hwbus pool create.",
    ),
    "HW-V025": (
        (
            "The wish is unclear: a disk or a class goes with the layout disk alone, and "
            "a pool, stripes or a key do not go with it."
        ),
        "Leave one of them out. What a raw disk volume holds is encrypted by whoever uses it.",
    ),
    "HW-V026": (
        "Only for a raw disk volume it can be said how its disk is to be wiped.",
        "Leave --wipe out; hwbus volume create --key-ref makes volumes that are erased with a key.",
    ),
}
