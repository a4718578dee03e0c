"""Operations: what long work is under way, how far it is, and how it ended.

Everything that happens for an operation carries its id as correlation, so its row follows commits
of all kinds. Its steps are not kept here: they are the audit rows of that correlation.
"""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import OPERATIONS, ORIGINS, VOLUMES, OriginRow
from schemas.attaching import VolumeAttachingBegan, VolumeDetachingBegan, VolumeLimitingBegan
from schemas.attachment import AttachmentTroubled
from schemas.copying import VolumeCloneBegan
from schemas.deleting import VolumeDeletionBegan
from schemas.draining import DrainBegan, ForgettingBegan
from schemas.errand import ErrandTroubled
from schemas.grammar import Event, type_name
from schemas.group_moves import GroupMoveBegan
from schemas.growing import SnapshotGrowthBegan, ThinPoolGrowthBegan
from schemas.handing import FailoverBegan, HandOverBegan
from schemas.legs import (
    MigrationBegan,
    ReplicaAdditionBegan,
    ReplicaRemovalBegan,
    SplitSettlingBegan,
)
from schemas.node import NodeRemovalBegan
from schemas.operation import (
    CancelWanted,
    OperationEnded,
    OperationExpired,
    OperationKind,
    OperationProgressed,
    OperationStarted,
    Outcome,
    StepRefused,
)
from schemas.operation_views import OperationRow, OperationState
from schemas.pool import PoolFormingBegan, PoolGrowthBegan, PoolRemovalBegan, PoolTroubled
from schemas.replica import ReplicaTroubled
from schemas.replication import ReplicationChanged, Sync
from schemas.settling import DriftSettlingBegan
from schemas.shrinking import PoolShrinkBegan
from schemas.snapshot import SnapshotCreationBegan, SnapshotDeletionBegan, SnapshotRollbackBegan
from schemas.target import BackupBegan, TargetWorkBegan
from schemas.verifying import VerificationBegan
from schemas.volume import VolumeGrowthBegan, VolumeProvisioningBegan
from schemas.volume_group import GroupSnapshotBegan

_Began = (
    VolumeProvisioningBegan
    | VolumeGrowthBegan
    | VolumeDeletionBegan
    | VolumeAttachingBegan
    | VolumeDetachingBegan
    | VolumeLimitingBegan
    | PoolFormingBegan
    | PoolGrowthBegan
    | PoolRemovalBegan
    | PoolShrinkBegan
    | ThinPoolGrowthBegan
    | NodeRemovalBegan
    | SnapshotCreationBegan
    | SnapshotDeletionBegan
    | SnapshotRollbackBegan
    | GroupSnapshotBegan
    | GroupMoveBegan
    | SnapshotGrowthBegan
    | VolumeCloneBegan
    | BackupBegan
    | TargetWorkBegan
    | DriftSettlingBegan
    | ReplicaAdditionBegan
    | ReplicaRemovalBegan
    | HandOverBegan
    | FailoverBegan
    | MigrationBegan
    | SplitSettlingBegan
    | VerificationBegan
    | DrainBegan
    | ForgettingBegan
)
_FILLING = frozenset(
    {
        OperationKind.VOLUME_ADD_REPLICA,
        OperationKind.VOLUME_MIGRATE,
        OperationKind.VOLUME_SETTLE_SPLIT,
    }
)


def operations(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the operation that *event* is about, or that it happened for."""
    match event:
        case _ if isinstance(event, _Began) and rows.get(OPERATIONS, event.operation) is None:
            origin = OriginRow(actor=seen.commit.actor, at=seen.at)
            yield put(ORIGINS, event.operation, origin)
        case OperationStarted():
            yield from _start(rows, seen, event)
        case OperationProgressed():
            row = rows.get(OPERATIONS, event.operation)
            if row is not None:
                told = _progressed(row, seen, event.done_bytes, event.of_bytes)
                told = replace(told, step=_step(event), version=seen.commit.version)
                yield put(OPERATIONS, row.id, _stamped(told, seen))
        case ReplicationChanged():
            yield from _filled(rows, seen, event)
        case StepRefused() | CancelWanted() | OperationExpired() | OperationEnded():
            row = rows.get(OPERATIONS, event.operation)
            if row is not None:
                version = seen.commit.version
                after = replace(_told(row, seen, event), version=version)
                yield put(OPERATIONS, row.id, _stamped(after, seen))
        case _:
            row = rows.get(OPERATIONS, seen.commit.correlation)
            if row is not None:
                yield put(OPERATIONS, row.id, _stamped(_stepped(row, event), seen))


def _start(rows: Rows, seen: Seen, event: OperationStarted) -> Changes:
    origin = rows.get(ORIGINS, event.operation)
    if origin is None:
        origin = OriginRow(actor=seen.commit.actor, at=seen.at)
    yield drop(ORIGINS, event.operation)
    yield put(
        OPERATIONS,
        event.operation,
        OperationRow(
            id=event.operation,
            kind=event.kind,
            object=event.object,
            state=OperationState.RUNNING,
            step=_step(event),
            deadline=event.deadline,
            actor=origin.actor,
            created_at=origin.at,
            changed_at=seen.at,
            seq=seen.seq,
            version=seen.commit.version,
        ),
    )


def _told(
    row: OperationRow,
    seen: Seen,
    event: StepRefused | CancelWanted | OperationExpired | OperationEnded,
) -> OperationRow:
    match event:
        case StepRefused():
            return replace(
                row,
                step=f"{event.step} refused",
                why=f"{event.code.value} {event.because}",
                attempts=row.attempts + 1,
            )
        case CancelWanted():
            return replace(row, state=OperationState.CANCELLING, why=event.because)
        case OperationExpired():
            return replace(row, state=OperationState.EXPIRED, why="the deadline has passed")
        case OperationEnded():
            completed = event.outcome is Outcome.COMPLETED
            return replace(
                row,
                state=OperationState(event.outcome.value),
                ended_at=seen.at,
                code=event.code,
                because=event.because,
                leftovers=event.leftovers,
                # What was copied last is told by its end alone.
                copied_bytes=row.of_bytes if completed else row.copied_bytes,
            )


def _progressed(row: OperationRow, seen: Seen, done_bytes: int, of_bytes: int) -> OperationRow:
    since_s = (seen.at - (row.progressed_at or row.created_at)).total_seconds()
    more_bytes = max(0, done_bytes - (row.copied_bytes or 0))
    return replace(
        row,
        copied_bytes=done_bytes,
        of_bytes=of_bytes,
        bytes_per_s=int(more_bytes / since_s) if since_s > 0 else 0,
        progressed_at=seen.at,
    )


def _filled(rows: Rows, seen: Seen, event: ReplicationChanged) -> Changes:
    """Change the row of the operation that has a replica filled, by what its node tells."""
    volume = rows.get(VOLUMES, event.volume)
    row = rows.get(OPERATIONS, volume.operation) if volume is not None else None
    mine = next((p for p in event.seen.peers if p.sync is Sync.TARGET), None)
    if volume is None or row is None or row.kind not in _FILLING:
        row = rows.get(OPERATIONS, seen.commit.correlation)
        if row is not None:
            yield put(OPERATIONS, row.id, _stamped(_stepped(row, event), seen))
        return
    if mine is not None:
        of_bytes = volume.size_bytes
        done_bytes = max(0, of_bytes - mine.out_of_sync_bytes)
        row = _progressed(row, seen, done_bytes, of_bytes)
    yield put(OPERATIONS, row.id, _stamped(replace(row, step=_step(event)), seen))


def _stepped(row: OperationRow, event: Event) -> OperationRow:
    match event:
        case PoolTroubled() | ReplicaTroubled() | AttachmentTroubled() | ErrandTroubled():
            return replace(
                row,
                step=_step(event),
                why=f"{event.code.value} {event.because}",
                attempts=row.attempts + 1,
            )
        case _:
            return replace(row, step=_step(event))


def _step(event: Event) -> str:
    """Return the name of what happened, without its version: ``pool.room-reserved``."""
    return type_name(event).rpartition(".")[0]


def _stamped(row: OperationRow, seen: Seen) -> OperationRow:
    return replace(row, seq=seen.seq, changed_at=seen.at)
