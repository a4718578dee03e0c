"""What the codes about volumes, replicas and snapshots mean, and what to do about each."""

OF_VOLUMES: dict[str, tuple[str, str]] = {
    "HW-V001": ("There is no such volume.", "hwbus volume ls shows the volumes."),
    "HW-V002": ("There is a volume of that name.", "Choose another name."),
    "HW-V003": (
        "Volumes grow and never shrink; the size asked for is not larger than the present one.",
        "Ask for more than the present size: hwbus volume show NAME.",
    ),
    "HW-V004": (
        "Another operation is running on the volume; one at a time keeps its data safe.",
        "Wait for it or cancel it: hwbus op show ID.",
    ),
    "HW-V005": (
        "No pool can take the volume; the answer names each one and why.",
        "Ask for less, grow a pool, or loosen the request.",
    ),
    "HW-V006": (
        "The volume is not ready for that.",
        "hwbus volume show NAME tells its state and why.",
    ),
    "HW-V007": (
        "The layout contradicts itself: stripes need a striped layout and at least two disks.",
        "Use --layout striped --stripes N, or leave stripes out.",
    ),
    "HW-V008": (
        "The volume is deleted; its data is held for a while, and nothing else is done with it.",
        "hwbus volume undelete NAME brings it back, hwbus volume purge NAME removes it now.",
    ),
    "HW-V009": (
        "The volume is not held: there is nothing to bring back and nothing to purge.",
        "hwbus volume ls shows what is held and until when; hwbus volume delete NAME deletes.",
    ),
    "HW-V010": (
        "A consumer has the volume attached.",
        "Let it end its work, then hwbus volume detach NAME.",
    ),
    "HW-V011": (
        "The node has not let go of an earlier attachment of the volume.",
        "Wait until it has: hwbus volume show NAME, hwbus node show NODE.",
    ),
    "HW-V012": (
        "The volume has no filesystem of ours, so it cannot be mounted by hwbus.",
        "Attach it without a mount point, or make a volume with --fs ext4 or xfs.",
    ),
    "HW-V013": (
        "Limits hold for a control group, and none was named, or there is no such one.",
        "Attach with --cgroup PATH, a path below /sys/fs/cgroup that exists on the node.",
    ),
    "HW-V014": (
        "The control group cannot limit I/O: the kernel has no io controller, or it is not on.",
        "On the node: echo +io > cgroup.subtree_control in each group above it; see docs/cli.md.",
    ),
    "HW-V015": (
        (
            "The volume has snapshots; with them a thick one cannot grow, and none can be deleted "
            "or get another key, since a snapshot keeps the header of its time."
        ),
        "Delete them first: hwbus snapshot ls --volume NAME.",
    ),
    "HW-V020": (
        "The new volume would be smaller than what it is to hold.",
        "Leave the size out, or ask for at least that of the source: hwbus snapshot show NAME.",
    ),
    "HW-V021": (
        "Of the two nodes, one cannot copy between nodes: its worker is too old for that.",
        (
            "Upgrade that worker (hwbus node show NAME lists what it can do: lending), or copy on "
            "the node of the source: leave --node out."
        ),
    ),
    "HW-V023": (
        "An encrypted volume cannot be copied or backed up by hwbus yet.",
        "Make a new encrypted volume, attach both, and copy what is on the filesystem.",
    ),
    "HW-V022": (
        "What was written to the new volume is not what is read from it, three times over.",
        "The disks below it cannot be trusted: hwbus disk ls, smartctl and the kernel's log.",
    ),
    "HW-V027": (
        "The worker of the node that has the source does not answer; the copy waits for it.",
        (
            "It goes on by itself when that node is back: hwbus node ls. To give up: "
            "hwbus op cancel OPERATION."
        ),
    ),
    "HW-V028": (
        "The node that has the source answers on the bus, but its data cannot be reached.",
        (
            "Let this node connect to it: see --lend and --address of its worker, firewalls, and "
            "the storage network. The copy goes on by itself then."
        ),
    ),
    "HW-V029": (
        "The node that has the source does not lend it just now, and says why.",
        "The copy goes on by itself when it does; docs/copies.md says more.",
    ),
    "HW-V043": (
        (
            "A label is not written as Kubernetes writes labels, is to be set and to be removed, "
            "or cannot be taken over since it is not known."
        ),
        (
            "Write --label team=shop or --label example.com/tier=gold: letters, digits, - _ and ., "
            "at most 63 of them, and a DNS name before the / if there is one."
        ),
    ),
    "HW-V044": (
        "A volume has at most 32 labels.",
        "Remove some: hwbus volume label NAME KEY-; hwbus volume show NAME lists them.",
    ),
    "HW-R001": ("There is no such replica.", "hwbus volume show NAME lists them."),
    "HW-R002": (
        "The node still holds an earlier replica of a volume of that name.",
        "Wait until it is removed, or choose another name.",
    ),
    "HW-S001": ("There is no such snapshot.", "hwbus snapshot ls shows them."),
    "HW-S002": (
        "There is a snapshot of that name; volumes and snapshots share their names.",
        "Choose another name.",
    ),
    "HW-S003": (
        "Another operation is running on the snapshot.",
        "Wait for it or cancel it: hwbus op show ID.",
    ),
    "HW-S004": (
        (
            "More has changed in the volume than the snapshot had room for, so it is lost. "
            "The volume is not affected."
        ),
        "Delete it, and take the next one with a larger --reserve.",
    ),
    "HW-S005": (
        "The volume has grown since the snapshot was taken, and volumes never shrink.",
        "Mount the snapshot (hwbus snapshot show NAME names its device) and copy what is needed.",
    ),
    "HW-S006": (
        "The node has no such snapshot any more, though nobody here removed it.",
        "hwbus drift tells what is missing; delete the snapshot to settle it.",
    ),
    "HW-S007": (
        "A snapshot of a thin volume shares the thin pool and has no reserve of its own.",
        "Leave --reserve out.",
    ),
    "HW-S008": (
        (
            "The snapshot has that much room already, or has all that it can ever use: "
            "then it cannot overflow."
        ),
        "Ask for more than it has, if that is not all: hwbus snapshot show NAME.",
    ),
}
