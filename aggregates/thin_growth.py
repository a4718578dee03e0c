"""A thin pool that grows: its room is set aside by the pool itself before the node extends it."""

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from aggregates.decision import Decision, Facts
from aggregates.health import ailing
from aggregates.ledger import room_bytes, rounded_bytes
from aggregates.node import unheard
from schemas.answers import refuse
from schemas.growing import (
    ExtendThinPool,
    GrowThinPool,
    ThinGrowthEvent,
    ThinPoolGrown,
    ThinPoolGrowthAbandoned,
    ThinPoolGrowthBegan,
    ThinPoolGrowthWanted,
    ThinPoolKept,
)
from schemas.pool import (
    AbandonPool,
    PoolEvent,
    PoolFacts,
    PoolFactsChanged,
    ReportPoolBuilt,
    ReportThinFill,
    ThinPoolFilled,
)
from schemas.refusals import Refusal
from schemas.units import readable

if TYPE_CHECKING:
    from aggregates.pool import Pool

_MIB, _GIB = 1 << 20, 1 << 30
# What dm-thin's metadata may come to take: the node decides, and never takes more than this.
_CHUNK_BYTES_MIN = 64 * 1024
_METADATA_BYTES_A_CHUNK = 128
_METADATA_BYTES_MIN = 8 * _MIB
METADATA_BYTES_MAX = 15 * _GIB


class ThinGrowth(msgspec.Struct, frozen=True, kw_only=True):
    """What a thin pool is growing to, and the room that is set aside for it meanwhile.

    ``given_up``: it is to grow no more, and the node has yet to say how large it is.
    """

    from_bytes: int
    thin_bytes: int
    metadata_bytes: int
    reserved_bytes: int
    given_up: bool = False


def begin(pool: "Pool", command: GrowThinPool, facts: Facts) -> Decision[ThinGrowthEvent]:
    """Let the thin pool grow, if the pool has the room for data, metadata and its spare copy."""
    name = f"{command.node}/{command.pool}"
    if pool.facts is None or pool.usable is None:
        return refuse(Refusal.POOL_NOT_READY, f"{name} is not formed yet")
    has = pool.facts
    if not has.thin_bytes:
        return refuse(Refusal.NO_THIN_POOL, f"{name} has no thin pool")
    thin_bytes = rounded_bytes(command.thin_bytes, has.extent_bytes, 1)
    asked = min(rounded_bytes(command.metadata_bytes, has.extent_bytes, 1), METADATA_BYTES_MAX)
    more_metadata = asked > metadata_bytes(has)
    if thin_bytes < has.thin_bytes or (thin_bytes == has.thin_bytes and not more_metadata):
        small = f"the thin pool of {name} has {readable(has.thin_bytes)} and"
        return refuse(
            Refusal.THIN_NOT_LARGER,
            f"{small} {readable(metadata_bytes(has))} of metadata; {readable(thin_bytes)} and"
            f" {readable(asked)} are asked for",
        )
    no = unheard(facts.world.nodes.get(command.node), command.node)
    no = no or ailing(command.node, command.pool, pool.staying, facts.world)
    if no is not None:
        return no
    reserved_bytes = _needed_bytes(has, thin_bytes, asked)
    room = room_bytes(pool.ledger, pool.usable)
    if reserved_bytes > room:
        short = f"{name} has {readable(room)} free, {readable(reserved_bytes)} are needed"
        return refuse(Refusal.CAPACITY, f"{short}, metadata included")
    return (
        ThinPoolGrowthBegan(
            pool=command.pool,
            node=command.node,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            from_bytes=has.thin_bytes,
            thin_bytes=thin_bytes,
            metadata_bytes=asked if more_metadata else 0,
            reserved_bytes=reserved_bytes,
        ),
    )


def metadata_bytes(facts: PoolFacts) -> int:
    """Return how large the metadata is: LVM keeps a spare of the same size."""
    return facts.thin_overhead_bytes // 2


def _needed_bytes(has: PoolFacts, thin_bytes: int, asked_bytes: int) -> int:
    """Return what to set aside; 1 byte at least, since LVM may have grown it by hand meanwhile."""
    chunks = thin_bytes // _CHUNK_BYTES_MIN
    usual = max(chunks * _METADATA_BYTES_A_CHUNK, _METADATA_BYTES_MIN)
    usual = rounded_bytes(min(usual, METADATA_BYTES_MAX), has.extent_bytes, 1)
    more = max(0, max(usual, asked_bytes) - metadata_bytes(has))
    return max(1, thin_bytes - has.thin_bytes + 2 * more)


def ask_node(pool: "Pool", step: ExtendThinPool) -> Decision[ThinGrowthEvent]:
    """Have the node extend the thin pool."""
    growth = pool.thin_growth
    if not pool.operation or pool.operation != step.operation or growth is None:
        return refuse(Refusal.NOT_YOURS, f"{step.node}/{step.pool} does not know that operation")
    if pool.asked:
        return ()
    return (
        ThinPoolGrowthWanted(
            pool=step.pool,
            node=step.node,
            uid=pool.uid,
            thin_bytes=growth.thin_bytes,
            metadata_bytes=growth.metadata_bytes,
        ),
    )


def note(
    pool: "Pool", growth: ThinGrowth, report: ReportPoolBuilt
) -> Decision[PoolEvent | ThinGrowthEvent]:
    """Take over how large it is; it has grown when it has all that was asked for."""
    seen = report.facts
    about = {"pool": report.pool, "node": report.node, "uid": report.uid}
    if growth.given_up:
        return (ThinPoolKept(**about, facts=seen),)
    whole = seen.thin_bytes >= growth.thin_bytes
    if pool.asked and whole and metadata_bytes(seen) >= growth.metadata_bytes:
        return (ThinPoolGrown(**about, facts=seen),)
    return (PoolFactsChanged(**about, facts=seen),) if pool.facts != seen else ()


def abandon(
    pool: "Pool", growth: ThinGrowth, report: AbandonPool
) -> Decision[PoolEvent | ThinGrowthEvent]:
    """Let it stay as large as it is; the node says how large, if it was asked already."""
    given_up = ThinPoolGrowthAbandoned(
        pool=report.pool,
        node=report.node,
        uid=pool.uid,
        operation=report.operation,
        code=report.code,
        because=report.because,
        thin_bytes=growth.from_bytes,
    )
    if pool.asked or pool.facts is None:
        return (given_up,)
    kept = ThinPoolKept(pool=report.pool, node=report.node, uid=pool.uid, facts=pool.facts)
    return (given_up, kept)


def note_fill(pool: "Pool", report: ReportThinFill) -> Decision[PoolEvent]:
    """Take over how full it is; a word from before it has grown is late."""
    has = 0 if pool.facts is None else pool.facts.thin_bytes
    told = (report.data_percent, report.metadata_percent)
    known = told == (pool.thin_percent, pool.thin_metadata_percent)
    if known or not pool.thin_bytes or 0 < report.thin_bytes < has:
        return ()
    return (
        ThinPoolFilled(
            pool=report.pool,
            node=report.node,
            data_percent=report.data_percent,
            metadata_percent=report.metadata_percent,
        ),
    )
