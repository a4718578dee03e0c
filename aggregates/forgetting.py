"""Pools that are lost with their node, or as any other."""

from aggregates import pool as pools
from aggregates import pool_past
from aggregates.decision import Decision, Facts
from aggregates.pool import Pool, PoolPhase
from schemas.draining import ForgetPool, PoolForgotten
from schemas.growing import ThinGrowthCommand, ThinGrowthEvent
from schemas.pool import PoolCommand, PoolEvent
from schemas.shrinking import ShrinkCommand, ShrinkEvent

_Command = PoolCommand | ShrinkCommand | ThinGrowthCommand | ForgetPool
_Event = PoolEvent | ShrinkEvent | ThinGrowthEvent | PoolForgotten


def decide(pool: Pool, command: _Command, facts: Facts) -> Decision[_Event]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    if not isinstance(command, ForgetPool):
        return pools.decide(pool, command, facts)
    if pool.phase is PoolPhase.ABSENT:
        return ()
    disks = (*pool.disks, *pool.adding, *pool.dropping)
    gone = PoolForgotten(pool=command.pool, node=command.node, disks=tuple(dict.fromkeys(disks)))
    return (gone,)


def evolve(pool: Pool, event: _Event) -> Pool:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    return Pool() if isinstance(event, PoolForgotten) else pool_past.evolve(pool, event)
