"""The replicas of a volume, and which of them is written to: a part of the volume's row."""

from datetime import datetime
from typing import assert_never

from msgspec.structs import replace

from projectors.attaching import had
from schemas.attaching import VolumeAttachingBegan
from schemas.grammar import Event
from schemas.handing import (
    FailoverBegan,
    HandOverBegan,
    HandOverFailed,
    PeerFenced,
    PeerReturned,
    VolumeFailoverSet,
    VolumeHandedOver,
    VolumeHomeMoved,
    VolumeTiedAnew,
)
from schemas.legs import (
    MigrationBegan,
    MigrationFailed,
    ReplicaAdded,
    ReplicaAdditionBegan,
    ReplicaAdditionFailed,
    ReplicaRemovalBegan,
    ReplicaRemovalFailed,
    SplitSettled,
    SplitSettlingBegan,
    SplitSettlingFailed,
    VolumeMigrated,
    VolumeReplicaRemoved,
)
from schemas.replica_view import ReplicasCompared, VolumeLeg
from schemas.replication import Member
from schemas.verifying import (
    RepairBegan,
    VerificationBegan,
    VerificationFailed,
    VerifyingEvent,
    VolumeRepaired,
    VolumeVerified,
)
from schemas.views import VolumeRow, VolumeState

_SEVERAL = 2


def replicated(row: VolumeRow, event: Event) -> VolumeRow:
    """Return the row of a volume after an event of it that is about its replicas."""
    match event:
        case ReplicaAdditionBegan() if row.state is not VolumeState.PROVISIONING:
            # It may have been seen larger than it was made.
            seen = replace(row, size_bytes=event.size_bytes, wanted_bytes=event.size_bytes)
            return _working(seen, VolumeState.ADDING_REPLICA, event.operation, event.deadline)
        case ReplicaRemovalBegan():
            leaving = _working(row, VolumeState.REMOVING_REPLICA, event.operation, event.deadline)
            return _marked(_behind(leaving, event.node), event.node, leaving=True)
        case HandOverBegan():
            return _working(row, VolumeState.HANDING_OVER, event.operation, event.deadline)
        case FailoverBegan():
            moved = replace(_written_on(row, event.node), epoch=event.epoch)
            legs = (replace(leg, outdated=leg.node != event.node) for leg in moved.replicas)
            moved = replace(moved, replicas=tuple(legs))
            moved = had(moved, None)
            return _working(moved, VolumeState.FAILING_OVER, event.operation, event.deadline)
        case MigrationBegan():
            migrating = _working(row, VolumeState.MIGRATING, event.operation, event.deadline)
            return replace(migrating, migrating_from=event.source)
        case SplitSettlingBegan():
            behind = _behind(row, event.loses)
            return _working(behind, VolumeState.SETTLING_SPLIT, event.operation, event.deadline)
        case _ if isinstance(event, VerifyingEvent):
            return _compared(row, event)
        case _:
            return _ended(_moved(row, event), event)


def _compared(row: VolumeRow, event: VerifyingEvent) -> VolumeRow:
    known = row.compared or ReplicasCompared()
    match event:
        case VerificationBegan():
            return replace(row, compared=replace(known, operation=event.operation))
        case VolumeVerified():
            operation = known.operation if event.goes_on else ""
            found = ReplicasCompared(
                operation=operation, at=event.at, differing_bytes=event.differing_bytes
            )
            return replace(row, compared=found)
        case RepairBegan():
            return replace(row, state=VolumeState.REPAIRING, operation=event.operation)
        case VolumeRepaired():
            after = replace(row, compared=replace(known, operation="", differing_bytes=0))
            return _idle(after) if _is_repaired_by(row, event.operation) else after
        case VerificationFailed():
            after = replace(row, compared=replace(known, operation=""))
            after = _idle(after) if _is_repaired_by(row, event.operation) else after
            return replace(after, why=event.because, code=event.code)
        case _:
            assert_never(event)


def _is_repaired_by(row: VolumeRow, operation: str) -> bool:
    return row.state is VolumeState.REPAIRING and row.operation == operation


def _behind(row: VolumeRow, node: str) -> VolumeRow:
    """Return the row in an epoch in which that node may not become the one that writes."""
    return _marked(replace(row, epoch=row.epoch + 1), node, outdated=True)


def _moved(row: VolumeRow, event: Event) -> VolumeRow:
    match event:
        case VolumeAttachingBegan() if event.node != row.node:
            moved = _written_on(row, event.node)
            return replace(moved, epoch=row.epoch + 1) if moved is not row else row
        case VolumeHomeMoved():
            return replace(_written_on(row, event.node), epoch=event.epoch)
        case VolumeTiedAnew():
            moved = replace(_written_on(row, event.node), epoch=event.epoch)
            legs = (replace(leg, outdated=leg.node != event.node) for leg in moved.replicas)
            return replace(moved, replicas=tuple(legs))
        case PeerFenced():
            return _marked(replace(row, epoch=event.epoch), event.peer, outdated=True)
        case PeerReturned():
            return _marked(row, event.peer, outdated=False)
        case VolumeFailoverSet():
            return replace(row, failover=event.auto)
        case _:
            return row


def _ended(row: VolumeRow, event: Event) -> VolumeRow:
    match event:
        case ReplicaAdded():
            more = 0 if row.migrating_from else len(event.members)
            wanted = max(row.replicas_wanted, more)
            return _at_rest(replace(_with(row, event.members), replicas_wanted=wanted))
        case VolumeReplicaRemoved():
            return _at_rest(_less(row, event))
        case VolumeHandedOver():
            return _at_rest(had(row, event.attachment))
        case SplitSettled():
            return _at_rest(row)
        case VolumeMigrated():
            return _idle(row)
        case (
            ReplicaAdditionFailed()
            | ReplicaRemovalFailed()
            | HandOverFailed()
            | MigrationFailed()
            | SplitSettlingFailed()
        ):
            return replace(_failed(row, event), why=event.because, code=event.code)
        case _:
            return row


def _failed(row: VolumeRow, event: Event) -> VolumeRow:
    match event:
        case ReplicaAdditionFailed():
            stay = left_of(tuple(leg for leg in row.replicas if not leg.joining))
            seen_bytes = 0 if _is_one_of_several(row) else event.size_bytes
            size = seen_bytes or row.size_bytes
            return _at_rest(replace(row, replicas=stay, size_bytes=size, wanted_bytes=size))
        case ReplicaRemovalFailed():
            stay = tuple(replace(leg, leaving=False) for leg in row.replicas)
            return _at_rest(replace(row, replicas=stay, epoch=row.epoch + 1))
        case HandOverFailed():
            return _at_rest(row if event.kept else had(row, event.attachment))
        case MigrationFailed():
            return _idle(row)
        case _:
            return _at_rest(row)


def left_of(legs: tuple[VolumeLeg, ...]) -> tuple[VolumeLeg, ...]:
    """Return the replicas, if there are several: one alone is told by the volume's own fields."""
    return legs if len(legs) >= _SEVERAL else ()


def _with(row: VolumeRow, members: tuple[Member, ...]) -> VolumeRow:
    outdated = {leg.node for leg in row.replicas if leg.outdated}
    legs = tuple(
        VolumeLeg(node=one.node, pool=one.pool, outdated=one.node in outdated) for one in members
    )
    return replace(row, replicas=legs)


def _less(row: VolumeRow, event: VolumeReplicaRemoved) -> VolumeRow:
    """Return the row without a replica; one that was lost, or moves, shall have a successor."""
    same = bool(event.members) or _is_one_of_several(row)
    size_bytes = row.size_bytes if same else event.size_bytes
    kept = event.lost or bool(row.migrating_from)
    return replace(
        _with(row, event.members),
        size_bytes=size_bytes,
        wanted_bytes=size_bytes,
        replicas_wanted=row.replicas_wanted if kept else max(1, len(event.members)),
    )


def _is_one_of_several(row: VolumeRow) -> bool:
    return bool(row.migrating_from) and row.replicas_wanted > 1


def _written_on(row: VolumeRow, node: str) -> VolumeRow:
    """Return the row of a volume that is written to there now, if it has a replica there."""
    there = next((leg for leg in row.replicas if leg.node == node), None)
    if there is None or node == row.node:
        return row
    known = {node, row.node}
    legs = tuple(leg if leg.node in known else replace(leg, outdated=True) for leg in row.replicas)
    return replace(row, node=node, pool=there.pool, replicas=legs)


def _marked(row: VolumeRow, node: str, **marks: bool) -> VolumeRow:
    legs = tuple(replace(leg, **marks) if leg.node == node else leg for leg in row.replicas)
    return replace(row, replicas=legs)


def _working(row: VolumeRow, state: VolumeState, operation: str, deadline: datetime) -> VolumeRow:
    """Return the row of a volume that is worked on; a migration has one deadline for all of it."""
    ends = row.deadline if row.migrating_from else deadline
    return replace(row, state=state, operation=operation, deadline=ends, why="", code=None)


def _at_rest(row: VolumeRow) -> VolumeRow:
    """Return the row after one step of something larger, or with nothing running."""
    if row.state is VolumeState.PROVISIONING:
        return row
    if row.migrating_from:
        return replace(row, state=VolumeState.MIGRATING, why="", code=None)
    return _idle(row)


def _idle(row: VolumeRow) -> VolumeRow:
    ready = replace(row, state=VolumeState.READY, operation="", deadline=None)
    return replace(ready, migrating_from="", why="", code=None)
