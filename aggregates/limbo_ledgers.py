"""The room of every pool, added up anew from the log: plain sums, apart from the ledger itself."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from aggregates.pool import Pool
from schemas.draining import PoolForgotten
from schemas.grammar import Event
from schemas.growing import ThinPoolGrown, ThinPoolGrowthBegan, ThinPoolKept
from schemas.limbo import Limbo
from schemas.pool import (
    PoolFacts,
    PoolFactsChanged,
    PoolFormed,
    PoolFormingBegan,
    PoolGrown,
    PoolRemoved,
    RoomReleased,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
)
from schemas.shrinking import PoolShrinkAbandoned, PoolShrinkBegan, PoolShrunk

OnNode = tuple[str, str]
_Claim = tuple[int, bool, int, bool]
_NOTHING: _Claim = (0, False, 0, False)
_OBSERVED = (PoolFormed, PoolGrown, PoolFactsChanged, PoolShrunk, ThinPoolGrown, ThinPoolKept)
_POSTINGS = (RoomReserved, RoomUnreserved, RoomSettled, RoomReleased)
_PLANS = (PoolFormingBegan, PoolShrinkBegan, PoolShrinkAbandoned, ThinPoolGrowthBegan)
TELLING: frozenset[type[Event]] = frozenset(
    {*_OBSERVED, *_POSTINGS, *_PLANS, PoolRemoved, PoolForgotten}
)
"""The events that say something of the room of a pool."""


class Books(msgspec.Struct, frozen=True):
    """The sums over one pool: set aside and taken of its own room, promised of its thin pool."""

    reserved_bytes: int = 0
    settled_bytes: int = 0
    promised_bytes: int = 0
    claims: int = 0


class _Room(msgspec.Struct):
    """One pool. Each claim is (set aside, of it thin, taken, of it thin)."""

    seq: int
    claims: dict[str, _Claim]
    reserved_bytes: int = 0
    settled_bytes: int = 0
    promised_bytes: int = 0
    facts: PoolFacts | None = None
    ratio_percent: int = 100
    leaving_bytes: int = 0
    growing_bytes: int = 0
    over: tuple[int, str] | None = None
    told: bool = False


class Ledgers:
    """All pools. What ``take`` returns is wrong for ever, what ``over`` gives is so now."""

    def __init__(self) -> None:
        self._pools: dict[OnNode, _Room] = {}

    def __len__(self) -> int:
        """Return how many pools there are."""
        return len(self._pools)

    def take(self, seq: int, key: OnNode, event: Any) -> tuple[Limbo, str] | None:
        """Apply *event* to the pool *key*; return what is wrong with it, or None."""
        if isinstance(event, PoolFormingBegan):
            self._pools[key] = _Room(seq, {}, ratio_percent=event.thin_ratio_percent)
            return None
        if isinstance(event, PoolForgotten):
            self._pools.pop(key, None)
            return None
        room = self._pools.get(key)
        if room is None:
            return Limbo.UNBALANCED, "there is no such pool"
        if isinstance(event, PoolRemoved):
            del self._pools[key]
            left = f"it goes with {len(room.claims)} claims in its ledger"
            return (Limbo.UNBALANCED, left) if room.claims else None
        wrong = _post(room, event) if isinstance(event, _POSTINGS) else _observe(room, event)
        return (Limbo.UNBALANCED, wrong) if wrong else _weigh(room, event)

    def touch(self, seq: int, key: OnNode) -> None:
        """Note that something was said of the pool *key*, of its room or not."""
        room = self._pools.get(key)
        if room is not None:
            room.seq = seq

    def seq_of(self, key: OnNode) -> int:
        """Return the sequence of what was said last of a pool; 0: nothing, or it is gone."""
        room = self._pools.get(key)
        return 0 if room is None else room.seq

    def books(self) -> Iterator[tuple[OnNode, int, Books]]:
        """Give the sums of each pool, and the sequence of what was said of it last."""
        for key, room in self._pools.items():
            yield key, room.seq, _sums(room)

    def over(self) -> Iterator[tuple[Limbo, int, str, str]]:
        """Give the pools that have promised more than they have, and since when."""
        for (node, name), room in self._pools.items():
            if room.over is not None and not room.told:
                seq, because = room.over
                yield Limbo.OVERCOMMITTED, seq, f"pool/{node}/{name}", because

    def differing(
        self, said: Mapping[OnNode, Books | None], by: str
    ) -> Iterator[tuple[Limbo, int, str, str]]:
        """Give the pools of which *said* is another sum than the log makes.

        *said* is what ``by`` knew at the very place where this is: None is not to be compared, and
        of a pool that is not in it nothing is set aside or taken.
        """
        mine = {key: (seq, books) for key, seq, books in self.books()}
        for node, name in sorted(mine.keys() | said.keys()):
            theirs = said.get((node, name), Books())
            seq, own = mine.get((node, name), (0, Books()))
            if theirs is None or theirs == own:
                continue
            fields = (f for f in Books.__struct_fields__ if getattr(own, f) != getattr(theirs, f))
            pairs = (f"{f} {getattr(own, f)}, not {getattr(theirs, f)}" for f in fields)
            because = f"the log makes {'; '.join(pairs)} as {by} says"
            yield Limbo.BOOKS_DIFFER, seq, f"pool/{node}/{name}", because


def books_of(pool: Pool) -> Books:
    """Return the sums as the aggregate keeps them."""
    ledger = pool.ledger
    return Books(
        ledger.thick_reserved_bytes,
        ledger.thick_settled_bytes,
        ledger.thin_promised_bytes,
        ledger.claims,
    )


def _sums(room: _Room) -> Books:
    return Books(room.reserved_bytes, room.settled_bytes, room.promised_bytes, len(room.claims))


def _count(room: _Room, claim: _Claim, sign: int) -> None:
    aside, aside_thin, taken, taken_thin = claim
    room.promised_bytes += sign * (aside * aside_thin + taken * taken_thin)
    room.reserved_bytes += sign * aside * (not aside_thin)
    room.settled_bytes += sign * taken * (not taken_thin)


def _post(room: _Room, event: Any) -> str:
    """Post *event*; return why it does not fit what was posted before, if it does not."""
    before = room.claims.get(event.claim)
    aside, _, taken, taken_thin = before or _NOTHING
    wrong = ""
    match event:
        case RoomReserved():
            wrong = f"{event.claim} has room set aside already" if aside else ""
            after = (event.size_bytes, event.thin, taken, taken_thin)
        case RoomUnreserved():
            wrong = "" if aside else f"nothing is set aside for {event.claim}"
            after = (0, False, taken, taken_thin)
        case RoomSettled():
            after = (0, False, event.size_bytes, event.thin)
        case _:
            wrong = "" if before else f"{event.claim} has nothing to give back"
            after = _NOTHING
    _count(room, before or _NOTHING, -1)
    _count(room, after, 1)
    if after[0] or after[2]:
        room.claims[event.claim] = after
    else:
        room.claims.pop(event.claim, None)
    return wrong


def _observe(room: _Room, event: Any) -> str:
    match event:
        case PoolShrinkBegan():
            room.leaving_bytes = event.leaving_bytes
        case PoolShrinkAbandoned():
            room.leaving_bytes = 0
        case ThinPoolGrowthBegan():
            room.growing_bytes = event.reserved_bytes
        case _:
            room.facts = event.facts
            room.leaving_bytes = 0 if isinstance(event, PoolShrunk) else room.leaving_bytes
            grown = isinstance(event, ThinPoolGrown | ThinPoolKept)
            room.growing_bytes = 0 if grown else room.growing_bytes
    return ""


def _weigh(room: _Room, event: Any) -> tuple[Limbo, str] | None:
    """Look whether the pool has what it promised; what it promises beyond that is wrong at once."""
    because = _too_much(room)
    if not because:
        room.over, room.told = None, False
        return None
    first = room.over is None
    room.over = (room.seq, because) if room.over is None else (room.over[0], because)
    if first and isinstance(event, RoomReserved):
        room.told = True
        return Limbo.OVERCOMMITTED, because
    return None


def _too_much(room: _Room) -> str:
    facts = room.facts
    if facts is None:
        return "room is set aside before there is any" if room.claims else ""
    books = _sums(room)
    thin = facts.thin_bytes + facts.thin_overhead_bytes + room.growing_bytes
    taken = thin + books.settled_bytes + books.reserved_bytes + room.leaving_bytes
    if taken > facts.size_bytes:
        return f"{taken} bytes are given out or promised, of {facts.size_bytes}"
    limit = facts.thin_bytes * room.ratio_percent // 100
    if books.promised_bytes > limit:
        return f"the thin pool has promised {books.promised_bytes} bytes, and may {limit}"
    return ""
