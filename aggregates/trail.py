"""The trail: what of the audit stream is archived, and may be missing in the stream."""

import msgspec

from aggregates.decision import Decision, Facts
from schemas.answers import refuse
from schemas.refusals import Refusal
from schemas.trail import AUDIT_TRAIL, PruneTrail, TrailReleased


class Trail(msgspec.Struct, frozen=True, kw_only=True):
    """How far it was released: up to ``until``, of which the root is ``root``; 0: not at all."""

    until: int = 0
    root: str = ""


def decide(trail: Trail, command: PruneTrail, facts: Facts) -> Decision[TrailReleased]:
    """Say what shall happen. May refuse a request."""
    if command.trail != AUDIT_TRAIL:
        return refuse(
            Refusal.TRAIL_STAYS,
            f"nothing is taken out of {command.trail}: it is what all else is computed from",
        )
    if command.newest > facts.at:
        return refuse(
            Refusal.NOT_OLD_YET, f"{command.newest.isoformat()} lies ahead: nothing was stored then"
        )
    if command.until == trail.until and command.root != trail.root:
        return refuse(
            Refusal.ANOTHER_TRAIL,
            f"messages 1 to {trail.until} were released with the root {trail.root}, "
            f"and not {command.root}",
        )
    if command.until <= trail.until:
        return ()
    return (
        TrailReleased(
            trail=command.trail,
            until=command.until,
            root=command.root,
            frontier=command.frontier,
            place=command.place,
            newest=command.newest,
        ),
    )


def evolve(trail: Trail, event: TrailReleased) -> Trail:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    return msgspec.structs.replace(trail, until=event.until, root=event.root)
