"""More room for what changes: a thick snapshot that has enough of it never overflows."""

from datetime import timedelta
from typing import TYPE_CHECKING

from aggregates.decision import Decision, Facts
from aggregates.health import ailing
from aggregates.ledger import rounded_bytes, short_of
from schemas.answers import refuse
from schemas.growing import (
    GrowSnapshot,
    SnapshotGrown,
    SnapshotGrowthBegan,
    SnapshotGrowthEvent,
    SnapshotGrowthFailed,
)
from schemas.pool import Reserve
from schemas.refusals import Refusal
from schemas.snapshot import ConcludeSnapshot
from schemas.units import readable
from schemas.volume import Layout

if TYPE_CHECKING:
    from aggregates.snapshot import Snapshot

_CHUNK_BYTES = 4096
_CHUNKS_A_TABLE = 256
_CHUNKS_OF_HEAD = 2


def most_bytes(volume_bytes: int) -> int:
    """Return the room that a snapshot of a volume of that size can use at most.

    Device mapper counts chunks of 4 KiB, one more for the addresses of each 256, and two at the
    head.
    """
    chunks = -(-volume_bytes // _CHUNK_BYTES)
    tables = (chunks + _CHUNKS_A_TABLE) // _CHUNKS_A_TABLE
    return (_CHUNKS_OF_HEAD + chunks + tables) * _CHUNK_BYTES


def begin(
    snapshot: "Snapshot", command: GrowSnapshot, facts: Facts
) -> Decision[SnapshotGrowthEvent]:
    """Let it have more room, if it can use it and its pool has it."""
    name, has = command.snapshot, snapshot.reserve_bytes
    if snapshot.layout is Layout.THIN:
        return refuse(Refusal.NO_RESERVE, f"{name} is thin")
    if snapshot.lost:
        return refuse(Refusal.SNAPSHOT_LOST, f"{name}: {snapshot.lost}")
    pool = facts.world.pools.get((snapshot.node, snapshot.pool))
    usable = None if pool is None else pool.usable
    if pool is None or usable is None:
        return refuse(Refusal.POOL_NOT_READY, f"{snapshot.node}/{snapshot.pool} is not there")
    most = rounded_bytes(
        most_bytes(snapshot.size_bytes + snapshot.header_bytes), usable.extent_bytes, 1
    )
    wanted = min(rounded_bytes(command.reserve_bytes, usable.extent_bytes, 1), most)
    if wanted <= has:
        enough = "all that it can use" if has >= most else f"{readable(wanted)} are asked for"
        return refuse(Refusal.RESERVE_ENOUGH, f"{name} has {readable(has)}, {enough}")
    began = SnapshotGrowthBegan(
        snapshot=name,
        uid=snapshot.uid,
        operation=facts.operation,
        deadline=facts.at + timedelta(seconds=command.deadline_s),
        volume=snapshot.volume,
        volume_uid=snapshot.volume_uid,
        node=snapshot.node,
        pool=snapshot.pool,
        from_bytes=has,
        reserve_bytes=wanted,
    )
    no = ailing(snapshot.node, snapshot.pool, pool.staying, facts.world)
    no = no or short_of(
        pool.ledger, usable, pool.thin_ratio_percent, pool.volumes_max, room_for(began)
    )
    return no or (began,)


def room_for(began: SnapshotGrowthBegan) -> Reserve:
    """Return what its pool is to set aside besides what the snapshot has."""
    return Reserve(
        pool=began.pool,
        node=began.node,
        claim=began.uid,
        size_bytes=began.reserve_bytes - began.from_bytes,
        operation=began.operation,
        first=False,
    )


def conclude(report: ConcludeSnapshot) -> SnapshotGrowthEvent:
    """Say how growing ended."""
    if report.code is None:
        return SnapshotGrown(
            snapshot=report.snapshot,
            operation=report.operation,
            reserve_bytes=max(report.reserve_bytes, 1),
        )
    return SnapshotGrowthFailed(
        snapshot=report.snapshot,
        operation=report.operation,
        reserve_bytes=report.reserve_bytes,
        code=report.code,
        because=report.because,
    )
