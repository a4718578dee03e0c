"""The pools and their ledgers, counted as LVM counts, so that ``vgs`` prints the same."""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import CLAIMS, OWNERS, POOLS, ClaimRow
from schemas.draining import PoolForgotten
from schemas.grammar import Event
from schemas.growing import (
    ThinPoolGrown,
    ThinPoolGrowthAbandoned,
    ThinPoolGrowthBegan,
    ThinPoolKept,
)
from schemas.pool import (
    PoolExtensionWanted,
    PoolFacts,
    PoolFactsChanged,
    PoolFormed,
    PoolFormingBegan,
    PoolGrown,
    PoolGrowthAbandoned,
    PoolGrowthBegan,
    PoolOperationEnded,
    PoolRemovalAbandoned,
    PoolRemovalBegan,
    PoolRemovalWanted,
    PoolRemoved,
    PoolTroubled,
    RoomReleased,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
    ThinPoolFilled,
)
from schemas.shrinking import PoolShrinkAbandoned, PoolShrinkBegan, PoolShrunk
from schemas.views import PoolRow, PoolState

# What the pool's own ledger counts for one volume in LVM's text (aggregates/ledger.py).
METADATA_PER_VOLUME_BYTES = 1024
_Posting = RoomReserved | RoomUnreserved | RoomSettled | RoomReleased


def pools(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the pool that *event* is about, and the claim in its ledger."""
    key = f"{seen.address.place}/{seen.address.id}"
    row = rows.get(POOLS, key)
    match event:
        case RoomReserved() | RoomUnreserved() | RoomSettled() | RoomReleased():
            if row is not None:
                yield from _post(rows, seen, key, row, event)
        case PoolFormingBegan():
            yield put(POOLS, key, _stamped(_forming(seen, event), seen))
        case PoolRemoved() | PoolForgotten():
            yield drop(POOLS, key)
        case _ if row is not None:
            after = _observed(_thin(_worked_on(row, event), event), event)
            yield put(POOLS, key, _stamped(after, seen))
        case _:
            return


def _forming(seen: Seen, event: PoolFormingBegan) -> PoolRow:
    return PoolRow(
        name=event.pool,
        node=event.node,
        uid=event.uid,
        state=PoolState.FORMING,
        thin_ratio_percent=event.thin_ratio_percent,
        volumes_max=event.volumes_max,
        disks=event.disks,
        operation=event.operation,
        deadline=event.deadline,
        created_at=seen.at,
        changed_at=seen.at,
        seq=seen.seq,
    )


def _worked_on(row: PoolRow, event: Event) -> PoolRow:
    """Return the row as the operation that is running on the pool leaves it."""
    match event:
        case PoolGrowthBegan() | PoolRemovalBegan():
            grows = isinstance(event, PoolGrowthBegan)
            return replace(
                row,
                state=PoolState.GROWING if grows else PoolState.REMOVING,
                operation=event.operation,
                deadline=event.deadline,
                why="",
                code=None,
            )
        case PoolShrinkBegan():
            begun = replace(
                row,
                state=PoolState.SHRINKING,
                operation=event.operation,
                deadline=event.deadline,
                leaving_bytes=event.leaving_bytes,
                why="",
                code=None,
            )
            return _summed(begun)
        case PoolShrinkAbandoned():
            stays = replace(row, state=PoolState.READY, code=event.code, why=event.because)
            return _summed(replace(stays, leaving_bytes=0))
        case PoolGrowthAbandoned() | PoolRemovalAbandoned():
            disks = event.disks if isinstance(event, PoolGrowthAbandoned) else row.disks
            return replace(
                row, state=PoolState.READY, code=event.code, why=event.because, disks=disks
            )
        case PoolExtensionWanted():
            return replace(row, why="", code=None)
        case PoolRemovalWanted():
            return replace(row, state=PoolState.REMOVING, why=event.because)
        case PoolOperationEnded():
            return replace(row, operation="", deadline=None)
        case PoolTroubled():
            return replace(row, code=event.code, why=event.because)
        case _:
            return row


def _thin(row: PoolRow, event: Event) -> PoolRow:
    """Return the row as its thin pool fills up and grows."""
    match event:
        case ThinPoolFilled():
            metadata_percent = event.metadata_percent
            row = replace(row, thin_fill_percent=event.data_percent)
            return replace(row, thin_metadata_percent=metadata_percent)
        case ThinPoolGrowthBegan():
            growing = replace(row, operation=event.operation, deadline=event.deadline)
            growing = replace(growing, state=PoolState.GROWING, why="", code=None)
            return _summed(replace(growing, thin_growing_bytes=event.reserved_bytes))
        case ThinPoolGrowthAbandoned():
            return replace(row, code=event.code, why=event.because)
        case ThinPoolGrown():
            empty = replace(row, thin_fill_percent=0, thin_metadata_percent=0, why="", code=None)
            ready = replace(empty, state=PoolState.READY, thin_growing_bytes=0)
            return _with_facts(ready, event.facts)
        case ThinPoolKept():
            ready = replace(row, state=PoolState.READY, thin_growing_bytes=0)
            return _with_facts(ready, event.facts)
        case _:
            return row


def _observed(row: PoolRow, event: Event) -> PoolRow:
    """Return the row as the node says that the pool is."""
    match event:
        case PoolFormed() | PoolGrown() | PoolShrunk():
            ready = replace(row, state=PoolState.READY, why="", code=None, leaving_bytes=0)
            return _with_facts(ready, event.facts)
        case PoolFactsChanged():
            return _with_facts(row, event.facts)
        case _:
            return row


def _with_facts(row: PoolRow, facts: PoolFacts) -> PoolRow:
    settled = row.allocated_bytes - row.thin_bytes - row.thin_overhead_bytes
    return _summed(
        replace(
            row,
            size_bytes=facts.size_bytes,
            extent_bytes=facts.extent_bytes,
            metadata_bytes=facts.metadata_bytes,
            thin_bytes=facts.thin_bytes,
            thin_overhead_bytes=facts.thin_overhead_bytes,
            allocated_bytes=settled + facts.thin_bytes + facts.thin_overhead_bytes,
            disks=facts.disks,
        )
    )


def _post(rows: Rows, seen: Seen, key: str, row: PoolRow, event: _Posting) -> Changes:
    claim = f"{key}/{event.claim}"
    before = rows.get(CLAIMS, claim)
    if before is None or before.pool_uid != row.uid:
        owner = rows.get(OWNERS, event.claim)
        before = ClaimRow(pool_uid=row.uid)
        if owner is not None:
            before = replace(before, volume=owner.volume, snapshot_of=owner.snapshot_of)
    after = _posted(before, event)
    kept = after.reserved_bytes or after.settled_bytes
    yield put(CLAIMS, claim, after) if kept else drop(CLAIMS, claim)
    had = bool(before.reserved_bytes or before.settled_bytes)
    reserved, settled, promised = _weights(before)
    reserved_now, settled_now, promised_now = _weights(after)
    row = replace(
        row,
        allocated_bytes=row.allocated_bytes + settled_now - settled,
        reserved_bytes=row.reserved_bytes + reserved_now - reserved,
        thin_committed_bytes=row.thin_committed_bytes + promised_now - promised,
        volumes=row.volumes + bool(kept) - had,
    )
    yield put(POOLS, key, _stamped(_summed(row), seen))


def _posted(claim: ClaimRow, event: _Posting) -> ClaimRow:
    match event:
        case RoomReserved():
            return replace(claim, reserved_bytes=event.size_bytes, thin=event.thin)
        case RoomUnreserved():
            return replace(claim, reserved_bytes=0)
        case RoomSettled():
            return replace(claim, reserved_bytes=0, settled_bytes=event.size_bytes, thin=event.thin)
        case RoomReleased():
            return replace(claim, reserved_bytes=0, settled_bytes=0)


def _weights(claim: ClaimRow) -> tuple[int, int, int]:
    """Return what the claim adds to (reserved, allocated, promised by the thin pool)."""
    if claim.thin:
        return 0, 0, claim.reserved_bytes + claim.settled_bytes
    return claim.reserved_bytes, claim.settled_bytes, 0


def _summed(row: PoolRow) -> PoolRow:
    free = row.size_bytes - row.allocated_bytes
    text = row.volumes * METADATA_PER_VOLUME_BYTES
    return replace(
        row,
        free_bytes=free,
        available_bytes=free - row.reserved_bytes - row.leaving_bytes - row.thin_growing_bytes,
        thin_committed_ratio=_ratio(row.thin_committed_bytes, row.thin_bytes),
        metadata_used_ratio=_ratio(text, row.metadata_bytes),
    )


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _stamped(row: PoolRow, seen: Seen) -> PoolRow:
    return replace(row, seq=seen.seq, version=seen.commit.version, changed_at=seen.at)
