"""What is said about snapshots: a volume as it was at one moment, kept beside it in its pool."""

from typing import Annotated

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.refusals import Refusal
from schemas.replica import Consistency
from schemas.replication import Member
from schemas.rhythm import BySchedule
from schemas.units import Bytes, Id, Moment, Name, Seconds, SomeBytes, Text
from schemas.volume import Layout

SNAPSHOTS = "snapshot"
FULL_PERCENT = 100
ROLLBACK_S = 21_600
Fill = Annotated[int, msgspec.Meta(ge=0, le=FULL_PERCENT)]


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be made of one replica: a snapshot of that name, with that room for what changes.

    ``reserve_bytes`` is 0 for a thin one, which shares. The leg of an encrypted volume is larger
    than it by ``header_bytes``, and that of a replicated one by ``head_room_bytes``. It is where
    the volume is written to, or on another ``node``: then it is the twin of the snapshot
    ``twin_of``, which is taken there.
    """

    snapshot: Name
    volume: Name
    volume_uid: Id
    pool: Name
    size_bytes: Bytes
    reserve_bytes: SomeBytes = 0
    layout: Layout = Layout.LINEAR
    header_bytes: SomeBytes = 0
    head_room_bytes: SomeBytes = 0
    node: Name | None = None
    twin_of: Name | None = None

    @property
    def room_bytes(self) -> int:
        """What it takes of its pool: of a thin one, what it may come to."""
        thin = self.layout is Layout.THIN
        return self.size_bytes + self.header_bytes if thin else self.reserve_bytes


class CreateSnapshot(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="snapshot.create.v1"
):
    """Keep the volume as it is now.

    ``reserve_bytes`` is the room for what changes in a thick volume from now on: a fifth of the
    volume if it is not given, and never more than a volume that changes everywhere would need.
    ``operation`` is the larger operation that it is a step of; with ``keep`` it may outlive that.
    ``by`` is set by schedules.

    Of a replicated volume each replica that has all that was written is kept, at one instant, with
    ``single`` only the one that is written to. Those of the others are snapshots of their own.
    """

    snapshot: Name
    volume: Name
    reserve_bytes: Bytes | None = None
    deadline_s: Seconds = 600
    operation: Id | None = None
    keep: bool = False
    by: BySchedule | None = None
    single: bool = False


class PrepareSnapshot(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="snapshot.prepare.v1"
):
    """Step of taking several: there shall be one of this volume or replica, with the others.

    ``together`` is what the snapshot of the whole ``group`` is called, or that of the replica that
    is written to.
    """

    snapshot: Name
    operation: Id
    group: Name | None = None
    together: Name
    volume: Name
    volume_uid: Id
    node: Name
    pool: Name
    size_bytes: Bytes
    reserve_bytes: SomeBytes = 0
    layout: Layout = Layout.LINEAR
    by: BySchedule | None = None
    header_bytes: SomeBytes = 0
    head_room_bytes: SomeBytes = 0


class DeleteSnapshot(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="snapshot.delete.v1"
):
    """Remove the snapshot; the volume stays as it is.

    ``operation`` is the larger operation that it is a step of. With a ``uid``, only if it is still
    that one: somebody may have taken another of the same name.
    """

    snapshot: Name
    deadline_s: Seconds = 600
    operation: Id | None = None
    uid: Id | None = None


class RollBackSnapshot(Request, frozen=True, kw_only=True, tag="snapshot.roll-back.v1"):
    """Make the volume what it was when the snapshot was taken; the snapshot is used up by it.

    The deadline is long because a thick volume is written back: what is begun must be ended.
    """

    snapshot: Name
    deadline_s: Seconds = ROLLBACK_S


class ReadSnapshot(Request, frozen=True, kw_only=True, tag="snapshot.read.v1"):
    """Step of a copy: the snapshot shall neither go nor be rolled back to meanwhile."""

    snapshot: Name
    uid: Id
    operation: Id


class ReportSnapshotRead(Report, frozen=True, kw_only=True, tag="snapshot.report-read.v1"):
    """That operation needs the snapshot no more."""

    snapshot: Name
    uid: Id
    operation: Id


class ConcludeSnapshot(Report, frozen=True, kw_only=True, tag="snapshot.report-concluded.v1"):
    """The running operation has come to its end; a ``code`` says that it failed.

    ``gone``: nothing is left of the snapshot. ``reserve_bytes`` is what LVM really took for it.
    """

    snapshot: Name
    operation: Id
    reserve_bytes: SomeBytes = 0
    consistency: Consistency | None = None
    gone: bool = False
    code: Refusal | None = None
    because: Text = ""


class ReportSnapshotLegRemoved(
    Report, frozen=True, kw_only=True, tag="snapshot.report-leg-removed.v1"
):
    """The leg turned out to be gone: its removal had been done before it could be withdrawn."""

    snapshot: Name
    uid: Id


class ReportSnapshotFill(Report, frozen=True, kw_only=True, tag="snapshot.report-fill.v1"):
    """So full is the reserve of a thick snapshot; ``overflowed``: it is no snapshot any more.

    ``reserve_bytes`` is how large the reserve was then; 0: not said.
    """

    snapshot: Name
    uid: Id
    data_percent: Fill
    overflowed: bool = False
    reserve_bytes: SomeBytes = 0


class SnapshotCreationBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="snapshot.creation-began.v1"
):
    """A snapshot of that volume, which is ``size_bytes`` large, shall be taken in its pool.

    ``reserve_bytes`` is what is set aside for what changes; 0 for a thin one, which shares.
    ``of_operation`` is the larger operation that it is taken for, with which it goes.
    The leg of the volume is larger than it by ``header_bytes``, and by ``head_room_bytes`` for
    what its replication needs. ``twins`` are those of other replicas, of the same instant.
    """

    snapshot: Name
    uid: Id
    operation: Id
    deadline: Moment
    volume: Name
    volume_uid: Id
    node: Name
    pool: Name
    size_bytes: Bytes
    reserve_bytes: SomeBytes = 0
    layout: Layout = Layout.LINEAR
    of_operation: Id | None = None
    header_bytes: SomeBytes = 0
    by: BySchedule | None = None
    head_room_bytes: SomeBytes = 0
    twins: tuple[Part, ...] = ()


class SnapshotPrepared(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="snapshot.prepared.v1"
):
    """A snapshot shall be taken by the operation that takes those of its group or volume."""

    snapshot: Name
    uid: Id
    operation: Id
    group: Name | None = None
    together: Name
    volume: Name
    volume_uid: Id
    node: Name
    pool: Name
    size_bytes: Bytes
    reserve_bytes: SomeBytes = 0
    layout: Layout = Layout.LINEAR
    by: BySchedule | None = None
    header_bytes: SomeBytes = 0
    head_room_bytes: SomeBytes = 0


class SnapshotCreated(Event, frozen=True, kw_only=True, tag="snapshot.created.v1"):
    """The snapshot is there. ``consistency`` says in what state it caught the volume."""

    snapshot: Name
    uid: Id
    operation: Id
    reserve_bytes: SomeBytes = 0
    consistency: Consistency = Consistency.CRASH


class SnapshotCreationFailed(Event, frozen=True, kw_only=True, tag="snapshot.creation-failed.v1"):
    """There is no such snapshot: taking it was given up and undone."""

    snapshot: Name
    uid: Id
    operation: Id
    code: Refusal
    because: str


class SnapshotDeletionBegan(Event, frozen=True, kw_only=True, tag="snapshot.deletion-began.v1"):
    """The snapshot shall go from that pool."""

    snapshot: Name
    uid: Id
    operation: Id
    deadline: Moment
    volume: Name
    volume_uid: Id
    node: Name
    pool: Name


class SnapshotDeleted(Event, frozen=True, kw_only=True, tag="snapshot.deleted.v1"):
    """The snapshot is gone."""

    snapshot: Name
    uid: Id
    operation: Id


class SnapshotDeletionFailed(Event, frozen=True, kw_only=True, tag="snapshot.deletion-failed.v1"):
    """The snapshot stays: its deletion was given up."""

    snapshot: Name
    operation: Id
    code: Refusal
    because: str


class SnapshotRollbackBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="snapshot.rollback-began.v1"
):
    """The volume shall become what it was when the snapshot was taken.

    Of a volume with several replicas, ``members``, the one in that pool becomes it, and the others
    are filled from it; ``device_bytes`` is how large the replicated device is.
    """

    snapshot: Name
    uid: Id
    operation: Id
    deadline: Moment
    volume: Name
    volume_uid: Id
    node: Name
    pool: Name
    members: tuple[Member, ...] = ()
    device_bytes: SomeBytes = 0


class SnapshotRolledBack(Event, frozen=True, kw_only=True, tag="snapshot.rolled-back.v1"):
    """The volume is what it was, and the snapshot is used up."""

    snapshot: Name
    uid: Id
    operation: Id
    volume: Name


class SnapshotRollbackFailed(Event, frozen=True, kw_only=True, tag="snapshot.rollback-failed.v1"):
    """The rollback was given up: unless the node had begun, the volume is as it was before."""

    snapshot: Name
    operation: Id
    code: Refusal
    because: str


class SnapshotReadingBegan(Event, frozen=True, kw_only=True, tag="snapshot.reading-began.v1"):
    """That operation copies the snapshot, which stays until it has ended."""

    snapshot: Name
    uid: Id
    operation: Id


class SnapshotReadingEnded(Event, frozen=True, kw_only=True, tag="snapshot.reading-ended.v1"):
    """That operation needs the snapshot no more."""

    snapshot: Name
    uid: Id
    operation: Id


class SnapshotFilled(Event, frozen=True, kw_only=True, tag="snapshot.filled.v1"):
    """The reserve is that full: at 100 per cent the snapshot is lost, and the volume goes on."""

    snapshot: Name
    data_percent: Fill


class SnapshotFailed(Event, frozen=True, kw_only=True, tag="snapshot.failed.v1"):
    """What the snapshot held cannot be read any more. It can only be deleted."""

    snapshot: Name
    uid: Id
    code: Refusal
    because: str


class SnapshotGone(Event, frozen=True, kw_only=True, tag="snapshot.gone.v1"):
    """The snapshot is gone after all: its end was given up, but the node had done it."""

    snapshot: Name
    uid: Id
    volume: Name
    volume_uid: Id


SnapshotCommand = (
    CreateSnapshot
    | PrepareSnapshot
    | DeleteSnapshot
    | RollBackSnapshot
    | ReadSnapshot
    | ReportSnapshotRead
    | ConcludeSnapshot
    | ReportSnapshotLegRemoved
    | ReportSnapshotFill
)
SnapshotEvent = (
    SnapshotCreationBegan
    | SnapshotPrepared
    | SnapshotCreated
    | SnapshotCreationFailed
    | SnapshotDeletionBegan
    | SnapshotDeleted
    | SnapshotDeletionFailed
    | SnapshotRollbackBegan
    | SnapshotRolledBack
    | SnapshotRollbackFailed
    | SnapshotReadingBegan
    | SnapshotReadingEnded
    | SnapshotFilled
    | SnapshotFailed
    | SnapshotGone
)
