"""How a snapshot became what it is: its events applied, one after another."""

from typing import assert_never

from msgspec.structs import replace

from aggregates.snapshot import Snapshot, SnapshotPhase
from schemas.growing import (
    SnapshotGrown,
    SnapshotGrowthBegan,
    SnapshotGrowthEvent,
    SnapshotGrowthFailed,
)
from schemas.snapshot import (
    SnapshotCreated,
    SnapshotCreationBegan,
    SnapshotCreationFailed,
    SnapshotDeleted,
    SnapshotDeletionBegan,
    SnapshotDeletionFailed,
    SnapshotEvent,
    SnapshotFailed,
    SnapshotFilled,
    SnapshotGone,
    SnapshotPrepared,
    SnapshotReadingBegan,
    SnapshotReadingEnded,
    SnapshotRollbackBegan,
    SnapshotRollbackFailed,
    SnapshotRolledBack,
)


def evolve(snapshot: Snapshot, event: SnapshotEvent | SnapshotGrowthEvent) -> Snapshot:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case SnapshotCreationBegan() | SnapshotPrepared():
            return _creating(event)
        case SnapshotCreated():
            reserve_bytes = event.reserve_bytes
            ready = replace(snapshot, phase=SnapshotPhase.READY, operation="")
            return replace(ready, reserve_bytes=reserve_bytes)
        case SnapshotDeletionFailed() | SnapshotRollbackFailed():
            return replace(snapshot, phase=SnapshotPhase.READY, operation="")
        case SnapshotGrowthBegan() | SnapshotGrown() | SnapshotGrowthFailed():
            return _grown(snapshot, event)
        case SnapshotDeletionBegan():
            return replace(snapshot, phase=SnapshotPhase.DELETING, operation=event.operation)
        case SnapshotRollbackBegan():
            return replace(snapshot, phase=SnapshotPhase.ROLLING_BACK, operation=event.operation)
        case SnapshotReadingBegan():
            return replace(snapshot, readers=snapshot.readers | {event.operation})
        case SnapshotReadingEnded():
            return replace(snapshot, readers=snapshot.readers - {event.operation})
        case SnapshotFilled():
            return replace(snapshot, fill_percent=event.data_percent)
        case SnapshotFailed():
            return replace(snapshot, lost=event.because)
        case SnapshotCreationFailed() | SnapshotDeleted() | SnapshotRolledBack() | SnapshotGone():
            return Snapshot()
        case _:
            assert_never(event)


def _grown(snapshot: Snapshot, event: SnapshotGrowthEvent) -> Snapshot:
    if isinstance(event, SnapshotGrowthBegan):
        return replace(snapshot, phase=SnapshotPhase.GROWING, operation=event.operation)
    ready = replace(snapshot, phase=SnapshotPhase.READY, operation="")
    if event.reserve_bytes in {0, snapshot.reserve_bytes}:
        return ready
    # How full it was says nothing of what it has now: that is told anew.
    return replace(ready, reserve_bytes=event.reserve_bytes, fill_percent=0)


def _creating(event: SnapshotCreationBegan | SnapshotPrepared) -> Snapshot:
    larger = event.of_operation if isinstance(event, SnapshotCreationBegan) else None
    return Snapshot(
        phase=SnapshotPhase.CREATING,
        uid=event.uid,
        operation=event.operation,
        volume=event.volume,
        volume_uid=event.volume_uid,
        node=event.node,
        pool=event.pool,
        size_bytes=event.size_bytes,
        layout=event.layout,
        of_operation=larger or "",
        header_bytes=event.header_bytes,
        head_room_bytes=event.head_room_bytes,
        by=event.by,
    )
