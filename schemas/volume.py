"""What is said about volumes: what people asked for, and where it was put and why."""

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.backups import FromBackup
from schemas.deleting import DeletingCommand, DeletingEvent
from schemas.disk import DiskClass
from schemas.grammar import Event, Report, Request
from schemas.keys import KeyRef
from schemas.labels import Labels
from schemas.mending import SeenVolume
from schemas.refusals import Refusal
from schemas.units import Bytes, Id, Moment, Name, Rate, Seconds, SomeBytes, Text

VOLUMES = "volume"
STRIPES_MAX = 64
REPLICAS_MAX = 8
Stripes = Annotated[int, msgspec.Meta(ge=1, le=STRIPES_MAX)]
Replicas = Annotated[int, msgspec.Meta(ge=1, le=REPLICAS_MAX)]


class Layout(StrEnum):
    """How the extents of a volume lie; ``disk``: it is one whole disk, and in no pool."""

    LINEAR = "linear"
    STRIPED = "striped"
    THIN = "thin"
    DISK = "disk"


class Filesystem(StrEnum):
    """What is made on a new, blank volume."""

    NONE = "none"
    EXT4 = "ext4"
    XFS = "xfs"


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One pool, or ``disk``, that was looked at for a volume, in the order of preference.

    ``score`` is the sum of ``parts``; one that cannot take the volume has ``code`` and ``because``
    instead. ``room_bytes`` is what was free there at that moment, or what the disk would give.
    """

    node: Name
    pool: Name
    disk: Name | None = None
    room_bytes: SomeBytes = 0
    score: int = 0
    parts: dict[str, int] = {}
    code: Refusal | None = None
    because: str = ""


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """Where one replica of a volume is."""

    node: Name
    pool: Name


class CopyOf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The snapshot that a new volume is to hold the first ``size_bytes`` of.

    ``thin``: it shares its pool, so that in the same pool nothing needs to be copied. ``node`` is
    the one that has it, where that is another node than that of the volume.
    """

    snapshot: Name
    uid: Id
    volume: Name
    volume_uid: Id
    pool: Name
    size_bytes: Bytes
    thin: bool = False
    rate_bytes_per_s: Rate | None = None
    node: Name | None = None


class ProvisionVolume(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.provision.v1"
):
    """Make a volume. ``pool`` and ``node``, where given, narrow down where it may be put.

    With ``key_ref`` it is encrypted, by the key that its node finds there; with ``qos`` it has that
    class from the beginning. One of the layout ``disk`` is a whole blank disk of at least that
    size: ``disk``, or any of the class ``media``. So many ``replicas`` hold the same, each on
    another node; ``node`` and ``pool`` are then of the one that is written to. ``failover``: if its
    node falls silent, another goes on without anybody asking. In ``group`` it is put where the
    volumes of that group are; ``apart``: anywhere. ``labels`` say nothing about storage.
    """

    volume: Name
    size_bytes: Bytes
    layout: Layout = Layout.LINEAR
    stripes: Stripes = 1
    filesystem: Filesystem = Filesystem.NONE
    pool: Name | None = None
    node: Name | None = None
    deadline_s: Seconds = 600
    key_ref: KeyRef | None = None
    disk: Name | None = None
    media: DiskClass | None = None
    qos: Name | None = None
    replicas: Replicas = 1
    failover: bool = True
    group: Name | None = None
    apart: bool = False
    labels: Labels = msgspec.field(default_factory=dict)


class GrowVolume(Request, frozen=True, kw_only=True, tag="volume.grow.v1"):
    """Make the volume, and a filesystem on it, so large; it stays in use."""

    volume: Name
    size_bytes: Bytes
    deadline_s: Seconds = 600


class LockVolume(Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.lock.v1"):
    """Step of work on one of its snapshots: nothing else shall be done to the volume meanwhile.

    ``twins`` are the snapshots of other replicas that come with it.
    """

    volume: Name
    uid: Id
    operation: Id
    snapshot: Name
    twins: tuple[Name, ...] = ()


class ConcludeVolume(
    Report, frozen=True, kw_only=True, omit_defaults=True, tag="volume.report-concluded.v1"
):
    """The running operation has come to its end; a ``code`` says that it failed.

    ``gone``: the volume is, or for work on a snapshot, the snapshot; ``gone_twins`` are those that
    were not taken with it.
    """

    volume: Name
    operation: Id
    node: Name | None = None
    pool: Name | None = None
    size_bytes: SomeBytes = 0
    gone: bool = False
    code: Refusal | None = None
    because: Text = ""
    disk: Name | None = None
    gone_twins: tuple[Name, ...] = ()


class ReportLegRemoved(
    Report, frozen=True, kw_only=True, omit_defaults=True, tag="volume.report-leg-removed.v1"
):
    """A leg turned out to be gone: its removal had been done before it could be withdrawn.

    Without ``node`` none of the volume is left.
    """

    volume: Name
    uid: Id
    node: Name | None = None


class ReportVolumeSnapshotGone(
    Report, frozen=True, kw_only=True, tag="volume.report-snapshot-gone.v1"
):
    """A snapshot of the volume turned out to be gone."""

    volume: Name
    uid: Id
    snapshot: Name


class VolumeProvisioningBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.provisioning-began.v1"
):
    """A volume shall be made, in the first of ``candidates`` that keeps its word.

    With ``source`` it shall hold what that snapshot holds, with ``backup`` what that does; else it
    is blank. With ``key_ref`` it is encrypted, and its leg larger than it by the header. With
    ``adopts`` it is there, and only becomes a volume. With ``group`` it belongs to that one from
    the beginning; ``apart``: it need not be where the others are.
    """

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    size_bytes: Bytes
    candidates: tuple[Candidate, ...]
    layout: Layout = Layout.LINEAR
    stripes: Stripes = 1
    filesystem: Filesystem = Filesystem.NONE
    source: CopyOf | None = None
    key_ref: KeyRef | None = None
    backup: FromBackup | None = None
    qos: Name | None = None
    adopts: SeenVolume | None = None
    replicas: Replicas = 1
    failover: bool = True
    group: Name | None = None
    apart: bool = False
    labels: Labels = msgspec.field(default_factory=dict)


class VolumeProvisioned(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.provisioned.v1"
):
    """The volume is there and may be used; ``disk``: it is that disk, whole."""

    volume: Name
    uid: Id
    operation: Id
    node: Name
    pool: Name
    size_bytes: Bytes
    disk: Name | None = None


class VolumeProvisioningFailed(
    Event, frozen=True, kw_only=True, tag="volume.provisioning-failed.v1"
):
    """There is no such volume: making it was given up and undone."""

    volume: Name
    uid: Id
    operation: Id
    code: Refusal
    because: str


class VolumeGrowthBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.growth-began.v1"
):
    """The volume, which is ``from_bytes`` large in that pool, shall become ``size_bytes``.

    Its leg is larger by ``header_bytes``, and by ``more_bytes`` when it has grown. Its other
    replicas are ``others``; the ``filesystem`` on them grows along, and ``inside_bytes`` are those
    of the header that lie in the replicated device.
    """

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    node: Name
    pool: Name
    from_bytes: Bytes
    size_bytes: Bytes
    layout: Layout = Layout.LINEAR
    stripes: Stripes = 1
    header_bytes: SomeBytes = 0
    others: tuple[Leg, ...] = ()
    more_bytes: SomeBytes = 0
    filesystem: Filesystem = Filesystem.NONE
    inside_bytes: SomeBytes = 0


class VolumeGrown(Event, frozen=True, kw_only=True, tag="volume.grown.v1"):
    """The volume is so large, with whatever filesystem is on it."""

    volume: Name
    operation: Id
    size_bytes: Bytes


class VolumeGrowthFailed(Event, frozen=True, kw_only=True, tag="volume.growth-failed.v1"):
    """Growing was given up; the volume is in use as before, ``size_bytes`` large."""

    volume: Name
    operation: Id
    size_bytes: Bytes
    code: Refusal
    because: str


class VolumeGone(Event, frozen=True, kw_only=True, tag="volume.gone.v1"):
    """The volume is gone: the node had deleted it before that was given up, or it was lost."""

    volume: Name
    uid: Id


class VolumeLocked(Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.locked.v1"):
    """Nothing else is done to the volume while that operation works on one of its snapshots.

    ``twins`` are those of other replicas that come with it.
    """

    volume: Name
    uid: Id
    operation: Id
    snapshot: Name
    twins: tuple[Name, ...] = ()


class VolumeUnlocked(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.unlocked.v1"
):
    """The work on a snapshot of the volume has ended; ``gone``: that snapshot is no more.

    ``gone_twins`` are those of other replicas that were not taken with it.
    """

    volume: Name
    operation: Id
    snapshot: Name
    gone: bool = False
    gone_twins: tuple[Name, ...] = ()


class VolumeSnapshotGone(Event, frozen=True, kw_only=True, tag="volume.snapshot-gone.v1"):
    """The volume has one snapshot less than was thought."""

    volume: Name
    snapshot: Name


VolumeCommand = (
    DeletingCommand
    | ProvisionVolume
    | GrowVolume
    | LockVolume
    | ConcludeVolume
    | ReportLegRemoved
    | ReportVolumeSnapshotGone
)
VolumeEvent = (
    DeletingEvent
    | VolumeProvisioningBegan
    | VolumeProvisioned
    | VolumeProvisioningFailed
    | VolumeGrowthBegan
    | VolumeGrown
    | VolumeGrowthFailed
    | VolumeGone
    | VolumeLocked
    | VolumeUnlocked
    | VolumeSnapshotGone
)
