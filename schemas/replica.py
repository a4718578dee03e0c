"""What is said about replicas: one leg of a volume on one node, wanted and observed."""

from enum import StrEnum

import msgspec

from schemas.backups import FromBackup
from schemas.disk import Wiping
from schemas.grammar import Event, Report, Request
from schemas.instants import InstantSettled, SettleInstant, Together
from schemas.keys import Encryption, Keys
from schemas.mending import SeenVolume
from schemas.refusals import Refusal
from schemas.replication import Replication
from schemas.units import Bytes, Count, Id, Name, Path, SomeBytes, Text
from schemas.volume import CopyOf, Filesystem, Layout, Stripes

REPLICAS = "replica"


class Consistency(StrEnum):
    """In what state a snapshot caught its volume.

    ``filesystem``: all that was written is in it, in order; ``crash``: as after a power cut, since
    a program had the device open that nobody could ask to pause.
    """

    FILESYSTEM = "filesystem"
    CRASH = "crash"


class SnapshotOf(msgspec.Struct, frozen=True, kw_only=True):
    """The volume in the same pool that a leg is the snapshot of."""

    volume: Name
    uid: Id


class ReplicaSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a leg shall be like. The logical volume is named like the volume, in ``pool``.

    With ``copy_of`` or ``from_backup`` it is there when all of that is in it.

    The leg of a snapshot is named like the snapshot; ``size_bytes`` of a thick one is the room for
    what changes in the volume, that of an encrypted one includes the header. ``together``: it is
    of the same instant as others. With ``disk`` it is that disk, whole: ``pool`` is then a group
    on that disk alone, by which it is known. With ``adopts`` it is there already, made by somebody
    else. With ``replication`` it is tied to its peers, whether or not they are there. ``bare``:
    it is to be, and nothing is made on it before.
    """

    uid: Id
    pool: Name
    size_bytes: Bytes
    layout: Layout = Layout.LINEAR
    stripes: Stripes = 1
    filesystem: Filesystem = Filesystem.NONE
    snapshot_of: SnapshotOf | None = None
    copy_of: CopyOf | None = None
    encryption: Encryption | None = None
    together: Together | None = None
    from_backup: FromBackup | None = None
    disk: Name | None = None
    adopts: SeenVolume | None = None
    replication: Replication | None = None
    bare: bool = False


class CreateReplica(Request, frozen=True, kw_only=True, tag="replica.create.v1"):
    """Step of provisioning: the node shall have this leg."""

    volume: Name
    node: Name
    operation: Id
    spec: ReplicaSpec


class ResizeReplica(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="replica.resize.v1"
):
    """Step of growing: the leg shall be so large. A smaller size withdraws a larger wish.

    ``device_bytes`` is what the replicated device shall have, if it is tied to others; the
    ``filesystem`` on that grows along, where it is written to.
    """

    volume: Name
    node: Name
    operation: Id
    size_bytes: Bytes
    device_bytes: SomeBytes = 0
    filesystem: Filesystem = Filesystem.NONE


class RemoveReplica(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="replica.remove.v1"
):
    """Step of deleting: the leg and its data shall go, a whole disk wiped in that way."""

    volume: Name
    node: Name
    operation: Id
    wiping: Wiping = Wiping.DISCARD


class MergeReplica(Request, frozen=True, kw_only=True, tag="replica.merge.v1"):
    """Step of rolling back: the snapshot's leg shall become its volume's, and so be gone."""

    volume: Name
    node: Name
    operation: Id


class HoldReplica(Request, frozen=True, kw_only=True, tag="replica.hold.v1"):
    """Step of deleting with a hold: the leg shall stay, and nobody shall use it."""

    volume: Name
    node: Name
    operation: Id


class KeepReplica(Request, frozen=True, kw_only=True, tag="replica.keep.v1"):
    """Step of undoing a deletion or a rollback: the leg shall stay in use, if it is there."""

    volume: Name
    node: Name
    operation: Id


class RekeyReplica(Request, frozen=True, kw_only=True, omit_defaults=True, tag="replica.rekey.v1"):
    """Step of rekeying, or of undoing it: by these keys the leg shall open, and by no others.

    No others that are known here: what a person put into the header by hand stays. ``elsewhere``:
    the volume is written to on another node, and so is its header; this one shall have the keys.
    """

    volume: Name
    node: Name
    operation: Id
    keys: Keys
    elsewhere: bool = False


class ReportReplicaPresent(
    Report, frozen=True, kw_only=True, omit_defaults=True, tag="replica.report-present.v1"
):
    """The node has the leg, made now or found made, with all that its spec asks for.

    ``withdrawn``: said by one who knows that it was to go and is to stay, so it will not go now.
    ``tie`` is the operation by which it is tied to its peers there: what was said of another tie is
    no answer to whoever waits for this one. Of a snapshot: the ``turn`` in which it was taken, and
    the nodes that have ``followed`` with theirs.
    """

    volume: Name
    node: Name
    uid: Id
    size_bytes: Bytes
    device: Path
    consistency: Consistency | None = None
    withdrawn: bool = False
    tie: Id | None = None
    turn: Id | None = None
    followed: tuple[Name, ...] = ()


class ReportReplicaHeld(Report, frozen=True, kw_only=True, tag="replica.report-held.v1"):
    """The node has the leg, and nobody uses it: it is not active."""

    volume: Name
    node: Name
    uid: Id


class ReportReplicaRekeyed(Report, frozen=True, kw_only=True, tag="replica.report-rekeyed.v1"):
    """The leg opens by the keys wanted in that ``generation``, and not by those dropped."""

    volume: Name
    node: Name
    uid: Id
    generation: Count


class ReportReplicaAbsent(Report, frozen=True, kw_only=True, tag="replica.report-absent.v1"):
    """Nothing of the leg that was to go is left; ``merged``: its volume is what it was."""

    volume: Name
    node: Name
    uid: Id
    merged: bool = False


class ReportReplicaTrouble(Report, frozen=True, kw_only=True, tag="replica.report-trouble.v1"):
    """The node could not do what is wanted; ``permanent``: trying again will not help."""

    volume: Name
    node: Name
    uid: Id
    code: Refusal
    because: Text
    permanent: bool = False


class ReplicaWanted(Event, frozen=True, kw_only=True, tag="replica.wanted.v1"):
    """The node shall have this leg."""

    volume: Name
    node: Name
    operation: Id
    spec: ReplicaSpec


class ReplicaCreated(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="replica.created.v1"
):
    """The node has the leg; ``disk``: it is that disk, whole.

    Of a snapshot: the ``turn`` in which it was taken, and the nodes that have ``followed``.
    """

    volume: Name
    node: Name
    uid: Id
    pool: Name
    size_bytes: Bytes
    device: Path
    thin: bool = False
    consistency: Consistency | None = None
    disk: Name | None = None
    turn: Id | None = None
    followed: tuple[Name, ...] = ()


class ReplicaResizeWanted(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="replica.resize-wanted.v1"
):
    """The leg shall be so large, and the replicated device ``device_bytes``, if it is one."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    size_bytes: Bytes
    device_bytes: SomeBytes = 0
    filesystem: Filesystem = Filesystem.NONE


class ReplicaResized(Event, frozen=True, kw_only=True, tag="replica.resized.v1"):
    """The leg is so large, and its filesystem too."""

    volume: Name
    node: Name
    uid: Id
    pool: Name
    size_bytes: Bytes
    thin: bool = False
    disk: Name | None = None


class ReplicaHoldWanted(Event, frozen=True, kw_only=True, tag="replica.hold-wanted.v1"):
    """The leg shall stay, if it is still there, and nobody shall use it."""

    volume: Name
    node: Name
    operation: Id
    uid: Id


class ReplicaHeld(Event, frozen=True, kw_only=True, tag="replica.held.v1"):
    """The leg is there, and nobody uses it."""

    volume: Name
    node: Name
    uid: Id


class ReplicaRemovalWanted(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="replica.removal-wanted.v1"
):
    """The leg and its data shall go, a whole disk wiped in that way."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    wiping: Wiping = Wiping.DISCARD


class ReplicaMergeWanted(Event, frozen=True, kw_only=True, tag="replica.merge-wanted.v1"):
    """The snapshot's leg shall become its volume's, and so be gone."""

    volume: Name
    node: Name
    operation: Id
    uid: Id


class ReplicaRemovalWithdrawn(Event, frozen=True, kw_only=True, tag="replica.removal-withdrawn.v1"):
    """The leg shall stay, if it is still there."""

    volume: Name
    node: Name
    operation: Id
    uid: Id


class ReplicaRekeyWanted(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="replica.rekey-wanted.v1"
):
    """The leg shall open by other keys; ``elsewhere``: its header is written on another node."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    encryption: Encryption
    elsewhere: bool = False


class ReplicaRekeyed(Event, frozen=True, kw_only=True, tag="replica.rekeyed.v1"):
    """The leg opens by each of these keys, and by no other that was ever named here."""

    volume: Name
    node: Name
    uid: Id
    keys: Keys
    generation: Count


class ReplicaKept(Event, frozen=True, kw_only=True, tag="replica.kept.v1"):
    """The leg that was to go, or was held, is still there and stays in use."""

    volume: Name
    node: Name
    uid: Id
    size_bytes: Bytes


class ReplicaRemoved(Event, frozen=True, kw_only=True, tag="replica.removed.v1"):
    """Nothing of the leg is left on the node; ``merged``: a snapshot has become its volume.

    ``disk``: it was that disk, which is wiped.
    """

    volume: Name
    node: Name
    uid: Id
    pool: Name
    snapshot: bool = False
    merged: bool = False
    disk: Name | None = None


class ReplicaTroubled(Event, frozen=True, kw_only=True, tag="replica.troubled.v1"):
    """The node could not do what is wanted of the leg."""

    volume: Name
    node: Name
    uid: Id
    code: Refusal
    because: str
    permanent: bool = False


ReplicaCommand = (
    CreateReplica
    | SettleInstant
    | ResizeReplica
    | RemoveReplica
    | HoldReplica
    | MergeReplica
    | KeepReplica
    | RekeyReplica
    | ReportReplicaPresent
    | ReportReplicaHeld
    | ReportReplicaRekeyed
    | ReportReplicaAbsent
    | ReportReplicaTrouble
)
ReplicaEvent = (
    ReplicaWanted
    | InstantSettled
    | ReplicaCreated
    | ReplicaResizeWanted
    | ReplicaResized
    | ReplicaHoldWanted
    | ReplicaHeld
    | ReplicaRemovalWanted
    | ReplicaMergeWanted
    | ReplicaRemovalWithdrawn
    | ReplicaRekeyWanted
    | ReplicaRekeyed
    | ReplicaKept
    | ReplicaRemoved
    | ReplicaTroubled
)
