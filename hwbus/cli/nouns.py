"""Names on the command line: what they mean, and where their completion comes from."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.token import Token

from hwbus.cli import names

Converter = Callable[[Any, Sequence[Token]], Any]


def _of(kind: str) -> Converter:
    """Return what takes ``volume/pg``, as ``-o name`` prints it, for ``pg``."""

    def convert(_type: Any, tokens: Sequence[Token]) -> str:
        return tokens[0].value.removeprefix(f"{kind}/")

    return convert


def _all_of(kind: str) -> Converter:
    def convert(_type: Any, tokens: Sequence[Token]) -> list[str]:
        return [token.value.removeprefix(f"{kind}/") for token in tokens]

    return convert


NodeName = Annotated[
    str, Parameter(completer=names.nodes, converter=_of("node"), help="Name of a node.")
]
DiskId = Annotated[
    str, Parameter(completer=names.disks, converter=_of("disk"), help="Id of a disk.")
]
PoolName = Annotated[
    str,
    Parameter(completer=names.pools, converter=_of("pool"), help="Name of a pool, or NODE/POOL."),
]
VolumeName = Annotated[
    str, Parameter(completer=names.volumes, converter=_of("volume"), help="Name of a volume.")
]
SnapshotName = Annotated[
    str,
    Parameter(completer=names.snapshots, converter=_of("snapshot"), help="Name of a snapshot."),
]
PolicyName = Annotated[
    str, Parameter(completer=names.policies, converter=_of("policy"), help="Name of a policy.")
]
GroupName = Annotated[
    str, Parameter(completer=names.groups, converter=_of("group"), help="Name of a volume group.")
]
ScheduleName = Annotated[
    str,
    Parameter(completer=names.schedules, converter=_of("schedule"), help="Name of a schedule."),
]
QosClassName = Annotated[
    str,
    Parameter(completer=names.qos_classes, converter=_of("qos"), help="Name of a QoS class."),
]
ProtectionName = Annotated[
    str,
    Parameter(
        completer=names.protections, converter=_of("protection"), help="Name of a protection."
    ),
]
ApprovalId = Annotated[
    str,
    Parameter(completer=names.approvals, converter=_of("approval"), help="Id of a request."),
]
VolumeNames = Annotated[
    str, Parameter(completer=names.volumes, converter=_of("volume"), help="Names of volumes.")
]
OperationId = Annotated[
    str,
    Parameter(completer=names.operations, converter=_of("operation"), help="Id of an operation."),
]
AtNode = Annotated[
    str | None,
    Parameter(
        name="--node",
        completer=names.nodes,
        converter=_of("node"),
        n_tokens=1,
        help="The node, by name.",
    ),
]
AtPool = Annotated[
    str | None,
    Parameter(name="--pool", completer=names.pools, help="The pool, by name."),
]
AsDisk = Annotated[
    str | None,
    Parameter(
        name="--disk",
        completer=names.disks,
        converter=_of("disk"),
        n_tokens=1,
        help="This blank disk, whole: hwbus disk ls --free.",
    ),
]
AsClass = Annotated[
    Literal["hdd", "ssd", "nvme"] | None,
    Parameter(name="--class", help="A whole disk of this class."),
]
Wipe = Annotated[
    Literal["discard", "zero", "lost"],
    Parameter(
        name="--wipe",
        help="How a whole disk goes: told to forget, written over, or gone for good already.",
    ),
]
AtVolume = Annotated[
    str | None,
    Parameter(
        name="--volume",
        completer=names.volumes,
        converter=_of("volume"),
        n_tokens=1,
        help="The volume, by name.",
    ),
]
AtGroup = Annotated[
    str | None,
    Parameter(
        name="--group",
        completer=names.groups,
        converter=_of("group"),
        n_tokens=1,
        help="The volume group, by name.",
    ),
]
OfGroup = Annotated[
    str | None,
    Parameter(
        name="--group",
        completer=names.groups,
        converter=_of("group"),
        n_tokens=1,
        help="Make it for this volume group: it is put where the others are.",
    ),
]
Apart = Annotated[
    bool,
    Parameter(
        name="--apart",
        negative=(),
        help="It may be on other nodes than the other volumes of its group.",
    ),
]
AtClass = Annotated[
    str | None,
    Parameter(
        name="--class",
        completer=names.qos_classes,
        converter=_of("qos"),
        n_tokens=1,
        help="The QoS class, by name.",
    ),
]
OfClass = Annotated[
    str | None,
    Parameter(
        name="--qos",
        completer=names.qos_classes,
        converter=_of("qos"),
        n_tokens=1,
        help="Let it have this QoS class from the beginning.",
    ),
]
AtSchedule = Annotated[
    str | None,
    Parameter(
        name="--schedule",
        completer=names.schedules,
        converter=_of("schedule"),
        n_tokens=1,
        help="The schedule that took it, by name.",
    ),
]
DiskIds = Annotated[
    list[str],
    Parameter(
        name="--disk",
        completer=names.disks,
        converter=_all_of("disk"),
        negative=(),
        consume_multiple=True,
        help="Ids of blank disks of the node: hwbus disk ls --free.",
    ),
]
LeavingIds = Annotated[
    list[str],
    Parameter(
        name="--disk",
        completer=names.disks,
        converter=_all_of("disk"),
        negative=(),
        consume_multiple=True,
        help="Ids of disks of the pool: hwbus pool show NAME.",
    ),
]
Why = Annotated[str, Parameter(name="--because", help="Why; it is kept in the record.")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative=(), help="Do not ask.")]
