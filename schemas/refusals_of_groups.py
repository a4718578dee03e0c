"""What the codes about volume groups and schedules mean, and what the reader can do about it."""

GROUPS_AND_SCHEDULES: dict[str, tuple[str, str]] = {
    "HW-S009": (
        "The volumes could not be held still until the snapshot was taken; nothing was kept.",
        "hwbus op show ID names the tools and how long each took; try again when LVM is idle.",
    ),
    "HW-T001": ("There is no such volume group.", "hwbus group ls shows them."),
    "HW-T002": ("There is a volume group of that name.", "Choose another name."),
    "HW-T003": (
        "Something is under way: a snapshot of the group, a move, or that of one of its volumes.",
        "Wait for it or cancel it: hwbus group show NAME, hwbus op ls.",
    ),
    "HW-T004": (
        "The volume is in another group, and a volume is in one at most.",
        "Take it out first: hwbus group rm GROUP VOLUME.",
    ),
    "HW-T005": ("The volume is not in that group.", "hwbus group show NAME shows its volumes."),
    "HW-T006": (
        "The group has no volumes, so there is nothing to keep.",
        "Put some in: hwbus group add GROUP VOLUME.",
    ),
    "HW-T007": (
        "The volumes of the group are on several nodes; one instant can be had on one node only.",
        "Put those that must be kept together on one node, in a group of their own.",
    ),
    "HW-T008": (
        "A group has at most 16 volumes: all of them stand still until the last is kept.",
        "Make two groups, if they need not be of one instant.",
    ),
    "HW-T009": (
        "Several volumes of the group are in use beside an attachment: nobody can hold them still.",
        "Attach them (hwbus volume attach) and use /dev/hwbus/NAME, or stop what uses them.",
    ),
    "HW-T010": (
        "The volumes of a group stay on common nodes, and that would part them.",
        "Move all of them: hwbus group migrate, hand-over or add-replica NAME; or say --apart.",
    ),
    "HW-T011": (
        "Not all volumes of the group could be moved; each is whole where the operation says.",
        "Mend what is in the way and say it again: those that are there already stay.",
    ),
    "HW-C001": ("There is no such schedule.", "hwbus schedule ls shows them."),
    "HW-C002": ("There is a schedule of that name.", "Choose another name."),
    "HW-C003": (
        "Not clear: one volume or one group, and a time that lies within one turn, are needed.",
        "hwbus schedule create nightly --volume pg --every daily@02:00 --keep-daily 7.",
    ),
    "HW-C004": (
        "A schedule that keeps nothing would delete whatever it takes.",
        "Name at least one of --keep-hourly, --keep-daily and --keep-weekly.",
    ),
}
