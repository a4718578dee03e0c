"""Answers what would follow: forks the state as it is, or was, and throws the fork away."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from aggregates.world import World
from hwbus.codec import UnreadableError, commit_codec
from hwbus.controller.forecasting import Step, forecast, read
from hwbus.ports import Call, Clock, Endpoint, EventLog, Stored
from hwbus.subjects import BadNameError, parse_event, query
from schemas.answers import Refused, refuse
from schemas.plan import PLAN, QUESTION_BYTES_MAX, Forecast, WhatIf
from schemas.queries import PAGE_MAX_BYTES, Behind, Page
from schemas.refusals import Refusal
from schemas.units import Moment
from schemas.upcasts import UPCASTS
from schemas.words import AnyEvent

AT_ONCE_MAX = 2
FOLDED_WITHIN_S = 40.0
"""How long the past may be read for one question: whoever asks is answered within a minute."""

_LOOK_EVERY_S = 0.02
_ENCODE = msgspec.json.Encoder().encode
_QUESTION = msgspec.json.Decoder(WhatIf)


class _NoPointError(Exception):
    def __init__(self, code: Refusal, because: str) -> None:
        super().__init__(because)
        self.refused = refuse(code, because)


class _Point(msgspec.Struct, frozen=True):
    """A world as it was after ``seq``, at the moment ``at``."""

    seq: int
    at: datetime
    world: World


class Plans:
    """The responder for ``hwbus.q.plan``: bytes in, bytes out, whatever was asked.

    *position* is up to where *world*, which lives on, has been carried. The one point of the past
    that was asked for last is kept, since somebody who plans asks again. *beside* does work beside
    the loop, which has commands to decide meanwhile; the fork it works on is nobody else's.
    """

    def __init__(
        self,
        world: World,
        position: Callable[[], int],
        log: EventLog,
        clock: Clock,
        beside: Callable[[Callable[[], bytes]], Awaitable[bytes]] = asyncio.to_thread,
    ) -> None:
        self._world = world
        self._position = position
        self._log = log
        self._clock = clock
        self._beside = beside
        self._codec = commit_codec(AnyEvent, UPCASTS)
        self._turn = asyncio.Lock()
        self._last: _Point | None = None

    def endpoint(self) -> Endpoint:
        """Return where it is asked."""
        metadata = {"request": "WhatIf", "answer": "Page[Forecast]", "idempotent": "true"}
        return Endpoint(name=PLAN, subject=query(PLAN), metadata=metadata)

    async def __call__(self, call: Call) -> bytes:
        """Return the page, the refusal, or how far behind the state is."""
        if len(call.data) > QUESTION_BYTES_MAX:
            return _ENCODE(refuse(Refusal.TOO_LARGE, f"the question has {len(call.data)} bytes"))
        try:
            asked = _QUESTION.decode(call.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _ENCODE(refuse(Refusal.MALFORMED, str(error)[:500]))
        steps = read(asked.steps)
        if isinstance(steps, Refused):
            return _ENCODE(steps)
        async with self._turn:
            try:
                point = await self._now(asked) if asked.at is None else await self._then(asked.at)
            except _NoPointError as error:
                return _ENCODE(error.refused)
            if isinstance(point, Behind):
                return _ENCODE(point)
            return await self._beside(lambda: _answer(point, steps, past=asked.at is not None))

    async def _now(self, asked: WhatIf) -> _Point | Behind:
        for _ in range(int(asked.wait_ms / 1000 / _LOOK_EVERY_S)):
            if self._position() >= asked.min_seq:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        seq = self._position()
        if seq < asked.min_seq:
            because = f"the desk stands at {seq} and has not seen {asked.min_seq} yet"
            return Behind(seq=seq, min_seq=asked.min_seq, because=because)
        return _Point(seq, self._clock.now(), self._world.forked())

    async def _then(self, asked: int | str) -> _Point:
        """Return the point that is meant. Raises ``_NoPointError``."""
        at = asked if isinstance(asked, int) else _moment(asked)
        if isinstance(at, datetime) and at > (now := self._clock.now()):
            later = f"{at.isoformat()} is still to come: here it is {now.isoformat()}"
            raise _NoPointError(Refusal.NOT_YET, later)
        head = await self._log.head()
        if isinstance(at, int) and not 1 <= at <= head:
            code = Refusal.NOT_YET if at > head else Refusal.BEFORE_THE_LOG
            raise _NoPointError(code, f"the log has the commits 1 to {head}")
        if self._last is None or at not in {self._last.seq, self._last.at}:
            try:
                async with asyncio.timeout(FOLDED_WITHIN_S):
                    self._last = await self._folded(at, head)
            except TimeoutError as error:
                slow = f"the log could not be read up to there within {FOLDED_WITHIN_S:.0f} s"
                raise _NoPointError(Refusal.PAST_IS_GONE, slow) from error
        return self._last

    async def _folded(self, at: int | datetime, head: int) -> _Point:
        world, seq, when = World(), 0, None
        until = at if isinstance(at, int) else head
        async with self._log.follow(after=0) as batches:
            async for batch in batches:
                for stored in batch:
                    late = isinstance(at, datetime) and stored.at > at
                    if stored.seq > until or late:
                        return _point(world, seq, at, when)
                    self._fold(world, stored)
                    seq, when = stored.seq, stored.at
                if seq >= until:
                    return _point(world, seq, at, when)
        raise _NoPointError(Refusal.PAST_IS_GONE, f"the log ended before {until}")

    def _fold(self, world: World, stored: Stored) -> None:
        try:
            address = parse_event(stored.subject)
            commit = self._codec.decode(stored.data)
        except (BadNameError, UnreadableError):
            return  # the desk has put it aside, and decides without it, too
        world.evolve(address.kind, address.place, address.id, commit.events)


def _point(world: World, seq: int, at: int | datetime, when: datetime | None) -> _Point:
    if when is None:
        raise _NoPointError(Refusal.BEFORE_THE_LOG, "the first commit of the log is later")
    return _Point(seq, at if isinstance(at, datetime) else when, world)


def _moment(text: str) -> datetime:
    try:
        return msgspec.convert(text, Moment)
    except msgspec.ValidationError as error:
        raise _NoPointError(
            Refusal.NO_POINT, f"{text!r} is no sequence number and no RFC 3339 moment"
        ) from error


def _answer(point: _Point, steps: tuple[Step, ...], *, past: bool) -> bytes:
    """Return the page; what does not fit into one message is counted in it, and not listed."""
    told = forecast(point.world, steps, seq=point.seq, at=point.at)
    while True:
        page: Page[Forecast] = Page(
            kind=PLAN, seq=point.seq, items=(told,), at=point.at if past else None
        )
        data = _ENCODE(page)
        if len(data) <= PAGE_MAX_BYTES:
            return data
        told = _shorter(told)


def _shorter(told: Forecast) -> Forecast:
    """Return the forecast with half of each list."""
    lists = ("events", "moves", "volumes", "pools", "operations", "under_way", "steps")
    halves = {name: getattr(told, name)[: len(getattr(told, name)) // 2] for name in lists}
    return msgspec.structs.replace(told, **halves)
