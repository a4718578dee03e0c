"""What two legs make of each other when they meet: ``drbd_sync_handshake`` of Linux, in its order.

Who is filled from whom is decided by generations of data alone, and by how good the disks are.
"""

from enum import IntEnum

from node_workers.simulated.drbd_model import (
    CONSISTENT,
    INCONSISTENT,
    JUST_CREATED,
    Leg,
    Metadata,
    older,
)


class Outcome(IntEnum):
    """What becomes of a meeting, as the first of two sees it; the other sees the opposite.

    By the bitmap what differs is copied, and with ``FULL`` everything.
    """

    FULL_TARGET = -2
    TARGET = -1
    EQUAL = 0
    SOURCE = 1
    FULL_SOURCE = 2
    SPLIT = 100
    REFUSED = 1000


def meet(leg: Leg, here: Metadata, peer: Leg, there: Metadata) -> Outcome:
    """Return what becomes of the meeting of two legs that both have their disks."""
    outcome = compare(here, there)
    if outcome is Outcome.REFUSED:
        return outcome
    torn = (leg.disk == INCONSISTENT, peer.disk == INCONSISTENT)
    if torn in {(True, False), (False, True)}:
        full = outcome is Outcome.SPLIT or abs(outcome) == Outcome.FULL_SOURCE
        outcome = Outcome((1 if torn[1] else -1) * (2 if full else 1))
    if outcome is Outcome.SPLIT and leg.discard != peer.discard:
        outcome = Outcome.TARGET if leg.discard else Outcome.SOURCE
    if outcome in {Outcome.SPLIT, Outcome.EQUAL}:
        return outcome
    source, target = (leg, peer) if outcome > 0 else (peer, leg)
    in_use = target.primary and not older(target.disk, CONSISTENT)
    if in_use or source.disk == INCONSISTENT:
        return Outcome.REFUSED
    return outcome


def compare(here: Metadata, there: Metadata) -> Outcome:
    """Return what the generations say (``drbd_uuid_compare``)."""
    mine, theirs = here.current, there.current
    made = {0, JUST_CREATED}
    if mine in made and theirs in made:
        return Outcome.EQUAL
    if mine in made:
        return Outcome.FULL_TARGET
    if theirs in made:
        return Outcome.FULL_SOURCE
    if mine == theirs:
        return _after_a_crash(here, there)
    if mine in {there.bitmap, *there.history}:
        return Outcome.TARGET if mine == there.bitmap else Outcome.FULL_TARGET
    if theirs in {here.bitmap, *here.history}:
        return Outcome.SOURCE if theirs == here.bitmap else Outcome.FULL_SOURCE
    return _strange(here, there)


def _strange(here: Metadata, there: Metadata) -> Outcome:
    """Return it for legs of which neither is what the other was: they have parents in common."""
    if {here.bitmap, *here.history, 0} & {there.bitmap, *there.history} - {0}:
        return Outcome.SPLIT
    return Outcome.REFUSED


def _after_a_crash(here: Metadata, there: Metadata) -> Outcome:
    """Return it for equal generations: who was primary when it died has to send what was on."""
    if here.crashed_primary:
        return Outcome.SOURCE
    return Outcome.TARGET if there.crashed_primary else Outcome.EQUAL
