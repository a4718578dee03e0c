"""What the codes about replicated volumes mean, and what the reader can do about it."""

OF_REPLICAS: dict[str, tuple[str, str]] = {
    "HW-N008": (
        "The node has not told at which address its peers reach it.",
        "Start its worker with --address, the address of the node in the storage network.",
    ),
    "HW-N009": (
        "The node is heard: it may still write to the volume.",
        "Hand the volume over instead: hwbus volume hand-over VOLUME NODE.",
    ),
    "HW-N010": (
        "The lost node has the only replica of a volume, or the one that is written to.",
        "Fail the volume over (hwbus volume fail-over), or give it up: hwbus volume delete.",
    ),
    "HW-N011": (
        "Not all volumes could leave the node.",
        "The operation names each and why; the node stays cordoned: mend that and drain again.",
    ),
    "HW-V030": (
        "That cannot be done to a volume with several replicas yet.",
        "hwbus replica ls VOLUME shows them; hwbus volume remove-replica leaves one.",
    ),
    "HW-V031": (
        "The volume has one replica only.",
        "Give it another: hwbus volume add-replica VOLUME.",
    ),
    "HW-V032": (
        (
            "The node cannot hold that replica: it has no DRBD, or one that takes too few peers; "
            "or an encrypted volume is attached as an earlier version did it."
        ),
        (
            "Load DRBD there (modprobe drbd, package drbd-utils) and start its worker again; "
            "detach the volume and attach it again."
        ),
    ),
    "HW-V033": (
        "The log lets another node write to the volume: this one may not.",
        "Nothing to do: the node becomes a replica again, and is filled with what it has missed.",
    ),
    "HW-V034": (
        "There is no other replica that is known to have all that was written.",
        "hwbus replica ls VOLUME shows how each is; wait for the resync, or bring its node back.",
    ),
    "HW-V035": (
        "The replicas are still connected: the volume works, although the node is not heard.",
        "Look at the node's worker and its way to the broker; the volume needs no failover.",
    ),
    "HW-V036": (
        "The volume has no replica on that node.",
        "hwbus replica ls VOLUME shows where they are.",
    ),
    "HW-V037": (
        "That replica is the one that is written to.",
        "Hand the volume over first: hwbus volume hand-over VOLUME NODE.",
    ),
    "HW-V038": (
        "The replicas went different ways, and no longer connect.",
        "Say whose data is given up: hwbus volume settle-split VOLUME --loses NODE.",
    ),
    "HW-V039": (
        "The volume has as many replicas as it can.",
        "Remove one first, or let one move: hwbus volume migrate VOLUME.",
    ),
    "HW-V040": (
        "The peer is out of reach, and the log has not said that the node may go on without it.",
        "It goes on by itself when either is reached again; hwbus replica ls VOLUME shows both.",
    ),
    "HW-V041": (
        "The replication metadata at the end of the replica is gone, or was rolled back.",
        "Remove that replica and add another: hwbus volume remove-replica, add-replica.",
    ),
    "HW-V042": (
        "No replica of the volume tells of a split brain.",
        "hwbus replica ls VOLUME shows how they stand; a plain resync needs no help.",
    ),
    "HW-V060": (
        "The replicas were compared, and some blocks are not the same on all nodes.",
        "hwbus volume verify VOLUME --repair copies them from the replica that is written to.",
    ),
    "HW-V061": (
        "The comparison was broken off: a connection, a disk or a node was lost meanwhile.",
        "Wait until hwbus replica ls VOLUME shows both up to date, and verify again.",
    ),
}
