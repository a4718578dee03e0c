"""Volumes on several nodes: more and fewer replicas, and which of them is written to."""

from typing import Annotated, Literal

from cyclopts import Parameter

from hwbus.cli.changing import change, confirmed
from hwbus.cli.nouns import Apart, AtNode, AtPool, NodeName, VolumeName, Yes
from hwbus.cli.options import CHANGE, OPTIONS, Change, CopyDeadline, Deadline, Options, Size
from schemas.handing import FailVolumeOver, HandOverVolume, SetFailover
from schemas.legs import SYNC_S, AddReplica, MigrateVolume, RemoveReplicaOf, SettleSplitBrain
from schemas.verifying import VERIFY_S, VerifyVolume

FillRate = Annotated[
    Size | None, Parameter(help="Fill it with at most so much a second: 50MiB. [default: no limit]")
]

Replicas = Annotated[
    int, Parameter(help="So many nodes hold it, each all of it; see hwbus node ls, DRBD.")
]
Failover = Annotated[
    bool,
    Parameter(
        help="If the node that has it falls silent, whether another goes on by itself."
        " [default: it does]",
        show_default=False,
    ),
]


def add_replica(
    name: VolumeName,
    /,
    *,
    node: AtNode = None,
    pool: AtPool = None,
    rate: FillRate = None,
    apart: Apart = False,
    deadline: CopyDeadline = SYNC_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Give a volume one replica more, on another node; it stays in use while that is filled."""
    word = AddReplica(
        volume=name,
        node=node,
        pool=pool,
        resync_bytes_per_s=rate,
        deadline_s=deadline,
        apart=apart,
    )
    return change(word, options, how)


def remove_replica(
    name: VolumeName,
    node: NodeName,
    /,
    *,
    lost: Annotated[
        bool, Parameter(negative=(), help="The node is gone for good: nothing is asked of it.")
    ] = False,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Take the replica on a node from a volume, and its data there; the volume stays in use."""
    word = RemoveReplicaOf(volume=name, node=node, lost=lost, deadline_s=deadline)
    return change(word, options, how)


def hand_over(
    name: VolumeName,
    node: NodeName,
    /,
    *,
    apart: Apart = False,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Have a volume written to on another of its nodes; its consumer has it there, as here."""
    word = HandOverVolume(volume=name, node=node, deadline_s=deadline, apart=apart)
    return change(word, options, how)


def fail_over(
    name: VolumeName,
    /,
    *,
    node: AtNode = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Go on with another replica, since the node that has the volume is silent."""
    word = FailVolumeOver(volume=name, node=node, deadline_s=deadline)
    return change(word, options, how)


def failover(
    name: VolumeName,
    by_itself: Annotated[Literal["on", "off"], Parameter(help="Whether it shall.")],
    /,
    *,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Say whether another replica goes on by itself when the node that has the volume is silent."""
    return change(SetFailover(volume=name, auto=by_itself == "on"), options, how)


def migrate(
    name: VolumeName,
    /,
    *,
    source: Annotated[
        AtNode,
        Parameter(
            name="--from",
            help="The node whose replica moves. [default: the one that has the volume]",
        ),
    ] = None,
    node: Annotated[
        AtNode,
        Parameter(name="--to", help="The node that it moves to. [default: the best of all]"),
    ] = None,
    pool: AtPool = None,
    rate: FillRate = None,
    apart: Apart = False,
    deadline: CopyDeadline = SYNC_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Move a volume, or one of its replicas, to another node; it stays in use, but for a moment."""
    word = MigrateVolume(
        volume=name,
        source=source,
        node=node,
        pool=pool,
        resync_bytes_per_s=rate,
        deadline_s=deadline,
        apart=apart,
    )
    return change(word, options, how)


def verify(
    name: VolumeName,
    /,
    *,
    repair: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Then copy what differs from the replica that is written to, over the others.",
        ),
    ] = False,
    deadline: CopyDeadline = VERIFY_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Compare the replicas of a volume by checksum while it is in use, and say what differs."""
    word = VerifyVolume(volume=name, repair=repair, deadline_s=deadline)
    return change(word, options, how)


def settle_split(
    name: VolumeName,
    /,
    *,
    loses: Annotated[
        NodeName,
        Parameter(n_tokens=1, help="The node whose replica gives up what only it has."),
    ],
    deadline: Deadline = 600,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """End a split brain: one replica gives up its data, and is filled from the other."""
    if not options.show_call:
        what = f"This gives up what only the replica of {name[:80]!r} on {loses[:80]!r} has"
        confirmed(name, what, yes=yes or how.plan)
    word = SettleSplitBrain(volume=name, loses=loses, deadline_s=deadline)
    return change(word, options, how)
