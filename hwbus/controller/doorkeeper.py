"""The doorkeeper: keeps on the audit whom the broker lets in, lets go and turns away.

It hears by a second connection, of the broker's system account. What came while it did not hear is
lost, since the broker keeps no notices: so it is on the audit, too, from when to when it heard.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime
from typing import Protocol

import msgspec
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hwbus.cancelling import apart, heed_cancellation
from hwbus.controller.system_login import SystemLoginError
from hwbus.logins import SUBJECTS, Bound, Sessions, message_id, read
from hwbus.ports import (
    Bus,
    Call,
    Clock,
    ForbiddenError,
    LogFullError,
    NobodyThereError,
    OutcomeUnknownError,
    Outlet,
)
from hwbus.subjects import audit
from schemas.audit import Hearing, HearingRecord, LoginRecord

WAITING_MAX = 4096
_PROBE = "$SYS.REQ.SERVER.PING.IDZ"
_PROBE_S = 5.0
_TICK_S = 0.5
_AGAIN_S = 5.0
_GOODBYE_S = 5.0
_NOT_TOLD = "nobody told the control plane how: see --system-login"
_DEAF = f"the broker does not let this login hear {', '.join(SUBJECTS)}, or ask {_PROBE}"
_LOG = structlog.get_logger("hwbus.doorkeeper")
_DIALLING = (ConnectionError, ForbiddenError, SystemLoginError, NobodyThereError)
_WRITING = (OutcomeUnknownError, NobodyThereError, LogFullError, ForbiddenError)


class Ear(Protocol):
    """A connection of the system account; the wires on NATS are one."""

    @property
    def bus(self) -> Bus:
        """Where it listens."""
        ...

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened to it so far: ``errors``, ``reconnects``, ``listen_dropped``."""
        ...

    async def until_gone(self) -> None:
        """Return when it is closed for good."""
        ...


Dial = Callable[[], AbstractAsyncContextManager[Ear]]


class Doorkeeper:
    """Hears of logins until cancelled, and never gives up; without *dial* it says that it cannot.

    ``listens`` is whether it is to hear, ``heard`` whether it does now, ``trouble`` why not, or
    why nothing can be written; ``missed`` is how many notices were lost since the start. *listener*
    is who we are.
    """

    def __init__(
        self, outlet: Outlet, clock: Clock, *, dial: Dial | None, listener: str, once: str
    ) -> None:
        """*once* is unlike that of any other doorkeeper, before and beside this one."""
        self.listens = dial is not None
        self.heard = False
        self.trouble = ""
        self.missed = 0
        self._outlet = outlet
        self._clock = clock
        self._dial = dial
        self._listener = listener
        self._once = once
        self._state: Hearing | None = None
        self._known: datetime | None = None
        self._said = 0
        self._sessions = Sessions()
        self._bound = Bound()
        self._waiting: deque[tuple[str, bytes, str]] = deque()
        self._wake = asyncio.Event()
        self._untold = 0

    async def run(self) -> None:
        """Hear and write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write())
            dial = self._dial
            if dial is None:
                _LOG.warning("logins are not heard", because=_NOT_TOLD)
                self._say(Hearing.OFF, because=_NOT_TOLD)
                return
            tasks.create_task(self._tick())
            while True:
                try:
                    await apart(self._hear_one(dial))
                except* _DIALLING as errors:
                    self._lost(str(errors.exceptions[0]))
                heed_cancellation()
                await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        """Tell what is still held back, and that nobody hears from now on. Bounded."""
        self._keep(self._sessions.due(None))
        self._tell(self._bound.due(None))
        if self.listens:
            self._say(Hearing.STOPPED)
        try:
            async with asyncio.timeout(_GOODBYE_S):
                while self._waiting:
                    await self._write_next()
        except TimeoutError:
            _LOG.error("the last logins are not on the audit", records=len(self._waiting))

    async def _hear_one(self, dial: Dial) -> None:
        async with dial() as ear:
            await self._hear(ear)

    async def _hear(self, ear: Ear) -> None:
        async with AsyncExitStack() as stack:
            heard = [await stack.enter_async_context(ear.bus.listen(one)) for one in SUBJECTS]
            async with asyncio.TaskGroup() as tasks:
                for calls in heard:
                    tasks.create_task(self._take_all(calls))
                tasks.create_task(self._probe(ear))
                await ear.until_gone()
                raise ConnectionError("the connection was closed for good")

    async def _take_all(self, calls: AsyncIterator[Call]) -> None:
        async for call in calls:
            self.take(call)

    def take(self, call: Call) -> None:
        """Take in one notice of the broker."""
        try:
            record = read(call.subject, call.data)
        except msgspec.DecodeError as error:
            self._miss(1, f"a notice could not be read: {error}")
            return
        if record is not None:
            self._keep(self._sessions.take(record, self._clock.now()))

    def _keep(self, records: Iterable[LoginRecord]) -> None:
        now = self._clock.now()
        whole = (self._bound.take(record, now) for record in records)
        self._tell(record for record in whole if record is not None)

    def _tell(self, records: Iterable[LoginRecord]) -> None:
        for record in records:
            subject = audit("login", record.outcome)
            self._queue(subject, msgspec.json.encode(record), message_id(record))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            now = self._clock.now()
            self._keep(self._sessions.due(now))
            self._tell(self._bound.due(now))

    async def _probe(self, ear: Ear) -> None:
        """Ask what only the system account may ask: an answer shows that we hear."""
        before = dict(ear.counters)
        while True:
            at = self._clock.now()
            try:
                await ear.bus.request(_PROBE, b"", headers={}, timeout_s=_PROBE_S)
            except NobodyThereError as error:
                raise NobodyThereError("the login is none of the system account") from error
            except ForbiddenError as error:
                raise ForbiddenError(_DEAF) from error
            except OutcomeUnknownError as error:
                self._lost(str(error))
                await asyncio.sleep(_TICK_S)
                continue
            now = dict(ear.counters)
            if now.get("errors", 0) and not now.get("reconnects", 0):
                # Who may not listen is told so by the broker, and hears nothing else of it.
                raise ForbiddenError(_DEAF)
            if now.get("reconnects", 0) != before.get("reconnects", 0):
                self._lost("the connection to the broker was lost")
            self._alive(at)
            dropped = now.get("listen_dropped", 0) - before.get("listen_dropped", 0)
            if dropped:
                self._miss(dropped, "too many came at once")
            before = now
            await asyncio.sleep(_PROBE_S)

    def _alive(self, at: datetime) -> None:
        if not self.heard:
            state = Hearing.BEGAN if self._known is None else Hearing.AGAIN
            self._say(state, since=self._known, because=self.trouble)
            _LOG.info("logins are heard")
        self.heard, self.trouble, self._known = True, "", at

    def _lost(self, because: str) -> None:
        self.heard, self.trouble = False, because
        if self._state is not Hearing.LOST:
            _LOG.warning("logins are not heard", because=because)
            self._say(Hearing.LOST, since=self._known, because=because)

    def _miss(self, count: int, because: str) -> None:
        _LOG.error("notices of logins were lost", count=count, because=because)
        self.missed += count
        self._say(Hearing.MISSED, since=self._known, missed=count, because=because)

    def _say(
        self,
        state: Hearing,
        *,
        since: datetime | None = None,
        missed: int = 0,
        because: str = "",
    ) -> None:
        if state is not Hearing.MISSED:
            self._state = state
        self._said += 1
        record = HearingRecord(
            at=self._clock.now(),
            listener=self._listener,
            state=state,
            since=since,
            missed=missed,
            because=because,
        )
        id_ = f"hearing.{self._once}.{self._said}"
        self._queue(audit("hearing", "logins"), msgspec.json.encode(record), id_)

    def _queue(self, subject: str, data: bytes, id_: str) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._untold += 1
            self.missed += 1
            return
        self._waiting.append((subject, data, id_))
        self._wake.set()

    async def _write(self) -> None:
        while True:
            while self._waiting:
                await self._write_next()
            if self._untold:
                lost, self._untold = self._untold, 0
                self.missed -= lost
                self._miss(lost, "the audit could not be written for too long")
                continue
            self._wake.clear()
            await self._wake.wait()

    async def _write_next(self) -> None:
        """Write the oldest record that waits, or say why not and wait a moment."""
        subject, data, id_ = self._waiting[0]
        try:
            await self._outlet.keep(subject, data, message_id=id_)
        except _WRITING as error:
            _LOG.warning("logins are not on the audit yet", because=str(error))
            await asyncio.sleep(_TICK_S)
        else:
            self._waiting.popleft()


class LoginFigures(Collector):
    """Whether logins are heard, and how many notices of them were lost."""

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        self._doorkeeper = doorkeeper

    def collect(self) -> Iterable[Metric]:
        """Return both; whether they are heard has a value only where they are to be."""
        heard = GaugeMetricFamily("hwbus_logins_heard", "1 while logins are heard.")
        if self._doorkeeper.listens:
            heard.add_metric((), self._doorkeeper.heard)
        missed = CounterMetricFamily(
            "hwbus_logins_missed", "Notices of logins that were lost on the way to the audit."
        )
        missed.add_metric((), self._doorkeeper.missed)
        yield from (heard, missed)
