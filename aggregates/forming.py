"""Blank disks that become a pool, or join one: whose they are is looked at before anything else."""

from datetime import timedelta

from aggregates import disk
from aggregates.decision import Decision, Facts
from aggregates.node import unfit
from schemas.answers import Refused, refuse
from schemas.pool import FormPool, PoolEvent, PoolFormingBegan
from schemas.refusals import Refusal
from schemas.units import readable


def begin(command: FormPool, facts: Facts) -> Decision[PoolEvent]:
    """Let a pool be formed, if its node takes part and its disks are free."""
    no = unfit(facts.world.nodes.get(command.node), command.node)
    no = no or unclaimable(command.disks, command.node, facts)
    if no is not None:
        return no
    seen = (facts.world.disks[name].sightings[command.node] for name in command.disks)
    total = sum(sighting.size_bytes for sighting in seen)
    if command.thin_bytes >= total:
        asked = readable(command.thin_bytes)
        short = f"the disks have {readable(total)}, a thin pool of {asked} does not fit"
        return refuse(Refusal.CAPACITY, short)
    return (
        PoolFormingBegan(
            pool=command.pool,
            node=command.node,
            uid=facts.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            disks=command.disks,
            thin_bytes=command.thin_bytes,
            thin_ratio_percent=command.thin_ratio_percent,
            volumes_max=command.volumes_max,
        ),
    )


def unclaimable(disks: tuple[str, ...], node: str, facts: Facts) -> Refused | None:
    """Return why one of *disks* cannot be had for a pool of *node*, or None."""
    if len(set(disks)) != len(disks):
        return refuse(Refusal.NO_DISKS_NAMED, "a disk is named twice")
    problems = (disk.unclaimable(facts.world.disks.get(name), name, node) for name in disks)
    return next((problem for problem in problems if problem is not None), None)
