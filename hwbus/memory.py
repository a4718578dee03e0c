"""The same ports in memory: no disk, no network, no chance, for tests and simulation."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
import structlog

from hwbus import subjects as words
from hwbus.bell import Bell
from hwbus.filters import matches
from hwbus.ports import (
    EVENTS,
    Call,
    Clock,
    Delivery,
    Endpoint,
    LogFullError,
    NobodyThereError,
    OutcomeUnknownError,
    Responder,
    StaleError,
    Stored,
)

_LOG = structlog.get_logger("hwbus.memory")
_WAITING_MAX = 4096
_FINISH_S = 5.0


class MemoryLog:
    """``EventLog`` in a list; a full one (*max_bytes* of data) refuses."""

    def __init__(self, clock: Clock, *, max_bytes: int | None = None) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0
        self._messages: list[Stored] = []
        self._by_subject: dict[str, list[int]] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._bell = Bell()

    async def append(self, subject: str, data: bytes, *, after: int, message_id: str) -> int:
        """As ``EventLog.append``."""
        seqs = self._by_subject.get(subject, [])
        last = seqs[-1] if seqs else 0
        if last != after:
            raise StaleError(f"{subject}: wrong last sequence: {last}")
        known = self._ids.get((subject, message_id))
        if known is not None:
            return known
        if self._max_bytes is not None and self._bytes + len(data) > self._max_bytes:
            raise LogFullError(f"{subject}: the log holds {self._bytes} bytes already")
        stored = Stored(len(self._messages) + 1, subject, data, self._clock.now())
        self._bytes += len(data)
        self._messages.append(stored)
        self._by_subject.setdefault(subject, []).append(stored.seq)
        self._ids[subject, message_id] = stored.seq
        self._bell.ring()
        return stored.seq

    async def last(self, subject: str) -> Stored | None:
        """As ``EventLog.last``."""
        if subject in self._by_subject:
            return self._messages[self._by_subject[subject][-1] - 1]
        taken_in = (seqs[-1] for name, seqs in self._by_subject.items() if matches(subject, name))
        return await self.get(max(taken_in, default=0))

    async def history(self, subject: str) -> list[Stored]:
        """As ``EventLog.history``."""
        return [self._messages[seq - 1] for seq in self._by_subject.get(subject, [])]

    async def get(self, seq: int) -> Stored | None:
        """As ``EventLog.get``."""
        return self._messages[seq - 1] if 1 <= seq <= len(self._messages) else None

    async def head(self) -> int:
        """As ``EventLog.head``."""
        return len(self._messages)

    async def first(self) -> int:
        """As ``EventLog.first``: nothing is ever taken out here."""
        return 1

    @asynccontextmanager
    async def follow(
        self, *, after: int, subjects: Sequence[str] = (EVENTS,), batch_max: int = 500
    ) -> AsyncIterator[AsyncIterator[list[Stored]]]:
        """As ``EventLog.follow``."""
        if not subjects or batch_max < 1:
            raise ValueError("follow needs a subject and a batch of at least one")
        async with self._bell.heard() as news:
            yield self._batches(after, tuple(subjects), batch_max, news)

    async def _batches(
        self, after: int, subjects: tuple[str, ...], batch_max: int, news: asyncio.Event
    ) -> AsyncGenerator[list[Stored], None]:
        position = max(after, 0)
        while True:
            news.clear()
            batch: list[Stored] = []
            while position < len(self._messages) and len(batch) < batch_max:
                stored = self._messages[position]
                position += 1
                if any(matches(pattern, stored.subject) for pattern in subjects):
                    batch.append(stored)
            if batch:
                yield batch
            elif position >= len(self._messages):
                await news.wait()


class Kept(msgspec.Struct, frozen=True):
    """One message of the audit or the submit stream."""

    subject: str
    data: bytes
    headers: dict[str, str]


class MemoryOutlet:
    """``Outlet`` in a list, open to look into."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self._ids: set[str] = set()
        self._bell = Bell()

    async def keep(
        self,
        subject: str,
        data: bytes,
        *,
        message_id: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """As ``Outlet.keep``; *headers* are stored beside the data."""
        if message_id in self._ids:
            return
        self._ids.add(message_id)
        self.kept.append(Kept(subject, data, {**(headers or {}), "Nats-Msg-Id": message_id}))
        self._bell.ring()

    def under(self, pattern: str) -> list[Kept]:
        """Return what was kept under *pattern*, oldest first."""
        return [kept for kept in self.kept if matches(pattern, kept.subject)]

    def news(self) -> Bell:
        """Return the bell that rings when something is kept."""
        return self._bell


class MemoryDelivery:
    """``Delivery`` of one message; ``at`` is always the same, for nobody makes this queue anew."""

    at = datetime(1970, 1, 1, tzinfo=UTC)

    def __init__(self, inbox: "MemoryInbox", number: int, kept: Kept) -> None:
        self.seq = number
        self._inbox = inbox
        self._kept = kept
        self._settled = False

    @property
    def subject(self) -> str:
        """As ``Delivery.subject``."""
        return self._kept.subject

    @property
    def data(self) -> bytes:
        """As ``Delivery.data``."""
        return self._kept.data

    @property
    def headers(self) -> dict[str, str]:
        """As ``Delivery.headers``."""
        return dict(self._kept.headers)

    async def working(self) -> None:
        """As ``Delivery.working``: here nothing is delivered again while somebody has it."""

    async def make_room(self) -> None:
        """As ``Delivery.make_room``."""
        if not self._settled:
            self._inbox.make_room(self.seq)

    async def done(self) -> None:
        """As ``Delivery.done``."""
        self._settle()

    async def later(self, delay_s: float) -> None:
        """As ``Delivery.later``."""
        self._settle()
        self._inbox.again(self.seq, delay_s)

    async def park(self, because: str) -> None:
        """As ``Delivery.park``."""
        await self._inbox.keep_aside(self.seq, " ".join(because.split())[:1000])
        self._settle()

    def _settle(self) -> None:
        if self._settled:
            raise RuntimeError(f"a delivery of {self.subject} is settled twice")
        self._settled = True
        self._inbox.settled(self.seq)


class MemoryInbox:
    """``Inbox`` over what a ``MemoryOutlet`` keeps under the submit subjects."""

    def __init__(
        self,
        outlet: MemoryOutlet,
        *,
        durable: str = "desk",
        pattern: str = "hwbus.submit.>",
        at_once_max: int = 64,
        deliveries_max: int = 100,
    ) -> None:
        self._outlet = outlet
        self._durable = durable
        self._pattern = pattern
        self._at_once_max = at_once_max
        self._deliveries_max = deliveries_max
        self._seen = 0
        self._queue: list[Kept] = []
        self._due: deque[int] = deque()
        self._held: dict[int, bool] = {}  # and whether it takes a place
        self._times: dict[int, int] = {}

    @asynccontextmanager
    async def take(self) -> AsyncIterator[AsyncIterator[Delivery]]:
        """As ``Inbox.take``; what was taken and not settled comes again in the next context."""
        async with self._outlet.news().heard() as news:
            deliveries = self._deliveries(news)
            try:
                yield deliveries
            finally:
                await deliveries.aclose()
                self._due.extendleft(sorted(self._held, reverse=True))
                self._held.clear()

    async def _deliveries(self, news: asyncio.Event) -> AsyncGenerator[Delivery, None]:
        while True:
            news.clear()
            self._look()
            if not self._due or sum(self._held.values()) >= self._at_once_max:
                await news.wait()
                continue
            number = self._due.popleft()
            self._times[number] = self._times.get(number, 0) + 1
            self._held[number] = True
            delivery = MemoryDelivery(self, number, self._queue[number - 1])
            if self._times[number] > self._deliveries_max:
                await delivery.park(f"delivered {self._deliveries_max} times, never dealt with")
            else:
                yield delivery

    def _look(self) -> None:
        for kept in self._outlet.kept[self._seen :]:
            if matches(self._pattern, kept.subject):
                self._queue.append(kept)
                self._due.append(len(self._queue))
        self._seen = len(self._outlet.kept)

    def settled(self, number: int) -> None:
        """Note that a delivery is no longer in work."""
        self._held.pop(number, None)
        self._outlet.news().ring()

    def make_room(self, number: int) -> None:
        """Let another one be handed out beside *number*."""
        self._held[number] = False
        self._outlet.news().ring()

    def again(self, number: int, delay_s: float) -> None:
        """Deliver *number* once more, after a while of the event loop's time."""

        def due() -> None:
            self._due.append(number)
            self._outlet.news().ring()

        asyncio.get_running_loop().call_later(delay_s, due)

    async def keep_aside(self, number: int, because: str) -> None:
        """Store a delivery among the parked ones, once."""
        kept = self._queue[number - 1]
        theirs = {k: v for k, v in kept.headers.items() if not k.startswith("Nats-")}
        await self._outlet.keep(
            words.audit("parked", self._durable),
            kept.data,
            message_id=f"parked.memory.{self._durable}.{number}",
            headers={**theirs, "reason": because, "seq": str(number), "subject": kept.subject},
        )


class _Service(msgspec.Struct, eq=False):
    """A service as the bus knows it."""

    endpoints: tuple[Endpoint, ...]
    responder: Responder
    room: asyncio.Semaphore
    tasks: set["asyncio.Task[bytes]"]

    def start(self, call: Call) -> "asyncio.Task[bytes]":
        task = asyncio.create_task(self._answer(call))
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[bytes]") -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("a responder broke", error=repr(task.exception()))

    async def _answer(self, call: Call) -> bytes:
        async with self.room:
            return await self.responder(call)


class MemoryBus:
    """``Bus`` inside one process; several services on a subject take turns."""

    def __init__(self) -> None:
        self._services: list[_Service] = []
        self._listeners: list[tuple[str, deque[Call], asyncio.Event]] = []
        self._turn = 0
        self.dropped = 0

    async def request(
        self, subject: str, data: bytes, *, headers: dict[str, str], timeout_s: float
    ) -> bytes:
        """As ``Bus.request``."""
        task = self._start(Call(subject, data, dict(headers)))
        if task is None:
            raise NobodyThereError(f"nobody answers on {subject}")
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done or task.cancelled():
            raise OutcomeUnknownError(f"no answer from {subject} in {timeout_s:g} s")
        try:
            return task.result()
        except Exception as error:
            raise OutcomeUnknownError(f"{subject} broke: {type(error).__name__}") from error

    def _start(self, call: Call) -> "asyncio.Task[bytes] | None":
        able = [
            service
            for service in self._services
            if any(matches(endpoint.subject, call.subject) for endpoint in service.endpoints)
        ]
        if not able:
            return None
        self._turn += 1
        return able[self._turn % len(able)].start(call)

    async def publish(self, subject: str, data: bytes) -> None:
        """As ``Bus.publish``; a service on the subject works on it, too, and answers nobody."""
        call = Call(subject, data, {})
        for pattern, waiting, wake in self._listeners:
            if matches(pattern, subject):
                if len(waiting) >= _WAITING_MAX:
                    waiting.popleft()
                    self.dropped += 1
                    _LOG.warning("listener too slow, oldest dropped", subject=subject)
                waiting.append(call)
                wake.set()
        self._start(call)

    @asynccontextmanager
    async def listen(self, subject: str) -> AsyncIterator[AsyncIterator[Call]]:
        """As ``Bus.listen``."""
        waiting: deque[Call] = deque()
        wake = asyncio.Event()

        async def calls() -> AsyncIterator[Call]:
            while True:
                while waiting:
                    yield waiting.popleft()
                wake.clear()
                await wake.wait()

        entry = (subject, waiting, wake)
        self._listeners.append(entry)
        try:
            yield calls()
        finally:
            self._listeners.remove(entry)

    @asynccontextmanager
    async def serve(
        self,
        name: str,  # noqa: ARG002  (the port's; nobody can look services up in memory)
        version: str,  # noqa: ARG002
        endpoints: Sequence[Endpoint],
        responder: Responder,
        *,
        at_once_max: int = 1024,
    ) -> AsyncIterator[None]:
        """As ``Bus.serve``; requests in work get a few seconds to finish when it ends."""
        service = _Service(tuple(endpoints), responder, asyncio.Semaphore(at_once_max), set())
        self._services.append(service)
        try:
            yield
        finally:
            self._services.remove(service)
            if service.tasks:
                _, late = await asyncio.wait(set(service.tasks), timeout=_FINISH_S)
                for task in late:
                    task.cancel()
                if late:
                    await asyncio.wait(late)
