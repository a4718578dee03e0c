"""From what was asked for, a sequence or a moment, to the point in the past that is meant."""

import asyncio
from collections import OrderedDict
from datetime import datetime

import msgspec

from hwbus.ports import EVENTS as EVENT_SUBJECTS
from hwbus.ports import Stored
from projectors.asking import Found, Plan
from projectors.past import Then, ThinnedError
from projectors.projector import Projector
from projectors.sqlite import Store
from schemas.refusals import Refusal
from schemas.units import Moment

_BATCH_MAX = 2000
_READ_WITHIN_S = 20.0
_ATTEMPTS_MAX = 3
# Made points are kept for the next page and the next view of the same question: each holds what
# was changed between two marks.
_MADE_MAX = 3
_RESOLVED_MAX = 64


class NoPointError(Exception):
    """There is no such point to show; ``code`` says why for ever, the text says it in full."""

    def __init__(self, code: Refusal, because: str) -> None:
        super().__init__(because)
        self.code = code


class LateError(Exception):
    """The views have not reached ``seq``, which the log has."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"the views have not reached {seq}")
        self.seq = seq


class Looking:
    """The rows as they were then, to be asked as a store is."""

    def __init__(self, store: Store, then: Then) -> None:
        self._store = store
        self._then = then

    async def find(self, plan: Plan, *, limit: int, bytes_max: int) -> Found:
        """As ``Store.find``. Raises ``ThinnedError``: the point has to be made again."""
        return await self._store.find_then(self._then, plan, limit=limit, bytes_max=bytes_max)


class Points:
    """Makes points of the past from a projector's marks and its log, one after another."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self._source = projector.events
        self._clock = projector.clock
        self._made: OrderedDict[tuple[int, int], Then] = OrderedDict()
        self._resolved: OrderedDict[datetime, int] = OrderedDict()
        self._turn = asyncio.Lock()

    async def point(self, asked: int | str, *, within_s: float) -> Then:
        """Return the point that is meant by a sequence or an RFC 3339 moment.

        Raises:
            NoPointError: it is none, is not yet, was before the log, or the log has lost it.
            LateError: the views have not reached it within *within_s*.
        """
        at = asked if isinstance(asked, int) else _moment(asked)
        seq = at if isinstance(at, int) else await self._resolve(at)
        await self._reach(seq, within_s)
        async with self._turn:
            then = await self._make(seq)
        return then if isinstance(at, int) else msgspec.structs.replace(then, at=at)

    def forget(self) -> None:
        """Make all points again when they are asked for."""
        self._made.clear()

    async def _reach(self, seq: int, within_s: float) -> None:
        if seq < 1:
            raise NoPointError(
                Refusal.BEFORE_THE_LOG, f"{seq} is before the first commit, which is 1"
            )
        if seq > self._projector.seq and seq > (head := await self._source.head()):
            raise NoPointError(Refusal.NOT_YET, f"the log ends at {head}, before {seq}")
        if not await self._projector.reached(seq, within_s=within_s):
            raise LateError(seq)

    async def _resolve(self, at: datetime) -> int:
        """Return the last commit of which the broker's clock was not later than *at*."""
        if at in self._resolved:
            return self._resolved[at]
        now = self._clock.now()
        if at > now:
            raise NoPointError(
                Refusal.NOT_YET, f"{at.isoformat()} is still to come: here it is {now.isoformat()}"
            )
        async with self._projector.reading() as store:
            base = await store.base_of(at)
        head = await self._source.head()
        seq = base
        if base < head:
            read = await self._read(base, head, at)
            seq = read[-1].seq if read else base
        if not seq:
            begins = "it is empty" if not head else "its first commit is later"
            raise NoPointError(
                Refusal.BEFORE_THE_LOG,
                f"the log has nothing from before {at.isoformat()}: {begins}",
            )
        self._resolved[at] = seq
        while len(self._resolved) > _RESOLVED_MAX:
            self._resolved.popitem(last=False)
        return seq

    async def _make(self, seq: int) -> Then:
        key = (self._projector.generation, seq)
        for _ in range(_ATTEMPTS_MAX):
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
            async with self._projector.reading() as store:
                base = await store.base_of(seq)
                try:
                    made = await store.make(base, await self._read(base, seq))
                except ThinnedError:
                    continue
            self._made[key] = made
            while len(self._made) > _MADE_MAX:
                self._made.popitem(last=False)
        raise NoPointError(Refusal.PAST_IS_GONE, "the marks were thinned while it was made")

    async def _read(self, after: int, until: int, at: datetime | None = None) -> list[Stored]:
        """Return what the log has behind *after*, up to *until*, or up to the moment *at*."""
        found: list[Stored] = []
        try:
            async with (
                asyncio.timeout(_READ_WITHIN_S),
                self._source.follow(
                    after=after, subjects=(EVENT_SUBJECTS,), batch_max=_BATCH_MAX
                ) as batches,
            ):
                async for batch in batches:
                    for stored in batch:
                        if stored.seq > until or (at is not None and stored.at > at):
                            return found
                        if stored.seq != after + len(found) + 1:
                            gap = f"the log has lost {after + len(found) + 1} to {stored.seq - 1}"
                            raise NoPointError(Refusal.PAST_IS_GONE, gap)
                        found.append(stored)
                        if stored.seq == until:
                            return found
        except TimeoutError as error:
            slow = f"the log did not give {after + 1} to {until} within {_READ_WITHIN_S:.0f} s"
            raise NoPointError(Refusal.PAST_IS_GONE, slow) from error
        raise NoPointError(Refusal.PAST_IS_GONE, f"the log ended before {until}")


def _moment(text: str) -> datetime:
    try:
        return msgspec.convert(text, Moment)
    except msgspec.ValidationError as error:
        raise NoPointError(
            Refusal.NO_POINT, f"{text!r} is no sequence number and no RFC 3339 moment"
        ) from error
