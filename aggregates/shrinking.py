"""Disks that leave a pool in use: what is on them must fit on the others before anything moves."""

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from aggregates.ledger import room_bytes
from aggregates.node import unheard
from schemas.answers import Refused, refuse
from schemas.pool import AbandonPool, PoolEvent, PoolFacts
from schemas.refusals import Refusal
from schemas.shrinking import (
    DrainDisks,
    PoolDisksKept,
    PoolShrinkAbandoned,
    PoolShrinkBegan,
    PoolShrinkWanted,
    ShrinkEvent,
    ShrinkPool,
)
from schemas.units import readable

if TYPE_CHECKING:
    from aggregates.pool import Pool


def begin(pool: "Pool", command: ShrinkPool, facts: Facts) -> Decision[PoolEvent | ShrinkEvent]:
    """Let the disks go, if they are the pool's, are there, and the others can hold it all."""
    name = f"{command.node}/{command.pool}"
    if pool.facts is None:
        return refuse(Refusal.POOL_NOT_READY, f"{name} is not formed yet")
    no = unheard(facts.world.nodes.get(command.node), command.node)
    no = no or _cannot_leave(pool, command, facts)
    if no is not None:
        return no
    leaving_bytes = _leaving_bytes(command, pool.facts, facts)
    left = replace(pool.facts, size_bytes=max(0, pool.facts.size_bytes - leaving_bytes))
    taken_bytes = pool.facts.size_bytes - room_bytes(pool.ledger, pool.facts)
    if taken_bytes > left.size_bytes:
        return refuse(
            Refusal.CAPACITY,
            f"{readable(taken_bytes)} are taken in {name}, and the disks that stay have room for"
            f" {readable(left.size_bytes)}",
        )
    return (
        PoolShrinkBegan(
            pool=command.pool,
            node=command.node,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            disks=command.disks,
            leaving_bytes=leaving_bytes,
        ),
    )


def _cannot_leave(pool: "Pool", command: ShrinkPool, facts: Facts) -> Refused | None:
    name = f"{command.node}/{command.pool}"
    if len(set(command.disks)) != len(command.disks):
        return refuse(Refusal.NO_DISKS_NAMED, "a disk is named twice")
    for disk in command.disks:
        if disk not in pool.disks:
            return refuse(Refusal.DISK_NOT_IN_POOL, f"{disk} is no disk of {name}")
        known = facts.world.disks.get(disk)
        if known is None or command.node not in known.sightings:
            gone = f"{disk} of {name} is not there, so nothing can be moved off it"
            return refuse(Refusal.DISK_GONE, gone)
    staying = len(pool.disks) - len(command.disks)
    if not staying:
        return refuse(Refusal.LAST_DISK, f"{name} has no other disks")
    widest = max(
        (v.stripes for v in facts.world.volumes.values() if _lies_in(v.node, v.pool, command)),
        default=1,
    )
    if widest > staying:
        few = f"{name} would have {staying} disks, and holds a volume of {widest} stripes"
        return refuse(Refusal.TOO_FEW_DISKS, few)
    return None


def _lies_in(node: str, pool: str, command: ShrinkPool) -> bool:
    return (node, pool) == (command.node, command.pool)


def _leaving_bytes(command: ShrinkPool, pool: PoolFacts, facts: Facts) -> int:
    """Return the room that goes with the disks: rather a little too much than too little.

    LVM keeps some of each disk for its own text; how much is not known here.
    """
    extent = pool.extent_bytes
    sizes = (facts.world.disks[disk].sightings[command.node].size_bytes for disk in command.disks)
    return max(extent, sum(size // extent * extent for size in sizes))


def ask_node(pool: "Pool", step: DrainDisks) -> Decision[PoolEvent | ShrinkEvent]:
    """Have the node empty the disks."""
    if not pool.operation or pool.operation != step.operation:
        return refuse(Refusal.NOT_YOURS, f"{step.node}/{step.pool} does not know that operation")
    if pool.asked:
        return ()
    return (
        PoolShrinkWanted(
            pool=step.pool,
            node=step.node,
            uid=pool.uid,
            disks=pool.staying,
            leaving=pool.leaving,
        ),
    )


def abandon(pool: "Pool", report: AbandonPool) -> Decision[PoolEvent | ShrinkEvent]:
    """Let the disks stay; the node confirms it, if it was asked already."""
    given_up = PoolShrinkAbandoned(
        pool=report.pool,
        node=report.node,
        uid=pool.uid,
        operation=report.operation,
        code=report.code,
        because=report.because,
        disks=pool.disks,
        kept=pool.leaving,
    )
    kept = PoolDisksKept(pool=report.pool, node=report.node, disks=pool.leaving)
    return (given_up,) if pool.asked else (given_up, kept)
