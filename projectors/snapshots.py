"""The snapshots as people ask about them: of what they are, what they caught, how full they are."""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import OWNERS, SNAPSHOTS, OwnerRow
from schemas.grammar import Event
from schemas.growing import SnapshotGrown, SnapshotGrowthBegan, SnapshotGrowthFailed
from schemas.replica import ReplicaCreated, ReplicaResized, ReplicaTroubled
from schemas.snapshot import (
    SnapshotCreated,
    SnapshotCreationBegan,
    SnapshotCreationFailed,
    SnapshotDeleted,
    SnapshotDeletionBegan,
    SnapshotDeletionFailed,
    SnapshotFailed,
    SnapshotFilled,
    SnapshotGone,
    SnapshotPrepared,
    SnapshotRollbackBegan,
    SnapshotRollbackFailed,
    SnapshotRolledBack,
)
from schemas.snapshot_view import SnapshotRow, SnapshotState


def snapshots(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the snapshot that *event* is about; one that failed to be is not shown."""
    name = seen.address.id
    row = rows.get(SNAPSHOTS, name)
    match event:
        case SnapshotCreationBegan() | SnapshotPrepared():
            yield put(OWNERS, event.uid, OwnerRow(volume=name, snapshot_of=event.volume))
            yield put(SNAPSHOTS, name, _stamped(_began(seen, event), seen))
        case SnapshotCreationFailed() | SnapshotDeleted() | SnapshotRolledBack() | SnapshotGone():
            yield drop(OWNERS, event.uid)
            yield drop(SNAPSHOTS, name)
        case _ if row is not None:
            yield put(SNAPSHOTS, name, _stamped(_changed(row, event), seen))
        case _:
            return


def of_snapshot_leg(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the snapshot whose leg *event* is about: its device, or its trouble."""
    row = rows.get(SNAPSHOTS, seen.address.id)
    if row is None:
        return
    match event:
        case ReplicaCreated() if event.uid == row.uid:
            taken = 0 if event.thin else event.size_bytes
            row = replace(row, device=event.device, reserve_bytes=taken, why="", code=None)
        case ReplicaResized() if event.uid == row.uid and not event.thin:
            row = replace(row, reserve_bytes=event.size_bytes, why="", code=None)
        case ReplicaTroubled() if event.uid == row.uid:
            row = replace(row, why=event.because, code=event.code)
        case _:
            return
    yield put(SNAPSHOTS, seen.address.id, replace(row, seq=seen.seq, changed_at=seen.at))


def _began(seen: Seen, event: SnapshotCreationBegan | SnapshotPrepared) -> SnapshotRow:
    return SnapshotRow(
        name=event.snapshot,
        uid=event.uid,
        volume=event.volume,
        state=SnapshotState.CREATING,
        size_bytes=event.size_bytes,
        reserve_bytes=event.reserve_bytes,
        header_bytes=event.header_bytes,
        layout=event.layout,
        node=event.node,
        pool=event.pool,
        schedule="" if event.by is None else event.by.schedule,
        group=(event.group or "") if isinstance(event, SnapshotPrepared) else "",
        together=_together(event),
        operation=event.operation,
        deadline=event.deadline if isinstance(event, SnapshotCreationBegan) else None,
        created_at=seen.at,
        changed_at=seen.at,
        seq=seen.seq,
    )


def _together(event: SnapshotCreationBegan | SnapshotPrepared) -> str:
    """Return what all snapshots of its instant are called, if there is more than one."""
    if isinstance(event, SnapshotPrepared):
        return event.together
    return event.snapshot if event.twins else ""


def _changed(row: SnapshotRow, event: Event) -> SnapshotRow:
    match event:
        case SnapshotCreated():
            return replace(
                _idle(row), reserve_bytes=event.reserve_bytes, consistency=event.consistency
            )
        case SnapshotDeletionFailed() | SnapshotRollbackFailed():
            return replace(_idle(row), why=event.because, code=event.code)
        case SnapshotDeletionBegan():
            return _working(row, SnapshotState.DELETING, event)
        case SnapshotRollbackBegan():
            return _working(row, SnapshotState.ROLLING_BACK, event)
        case SnapshotGrowthBegan():
            return _working(row, SnapshotState.GROWING, event)
        case SnapshotGrown():
            reserve_bytes = event.reserve_bytes
            return replace(_idle(row), reserve_bytes=reserve_bytes, fill_percent=0)
        case SnapshotGrowthFailed():
            return replace(_idle(row), why=event.because, code=event.code)
        case SnapshotFilled():
            return replace(row, fill_percent=event.data_percent)
        case SnapshotFailed():
            state = row.state if row.operation else SnapshotState.FAILED
            return replace(row, state=state, lost=True, why=event.because, code=event.code)
        case _:
            return row


def _idle(row: SnapshotRow) -> SnapshotRow:
    """Return the row with nothing going on; one that is lost stays so, with the reason."""
    idle = replace(row, operation="", deadline=None)
    if row.lost:
        return replace(idle, state=SnapshotState.FAILED)
    return replace(idle, state=SnapshotState.READY, why="", code=None)


def _working(
    row: SnapshotRow,
    state: SnapshotState,
    event: SnapshotDeletionBegan | SnapshotRollbackBegan | SnapshotGrowthBegan,
) -> SnapshotRow:
    return replace(row, state=state, operation=event.operation, deadline=event.deadline)


def _stamped(row: SnapshotRow, seen: Seen) -> SnapshotRow:
    return replace(row, seq=seen.seq, version=seen.commit.version, changed_at=seen.at)
