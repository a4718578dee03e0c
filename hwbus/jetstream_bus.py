"""Requests, services and fleeting messages on core NATS."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import Service

from hwbus.fastnats import Hear, read_headers
from hwbus.jetstream_core import Core
from hwbus.ports import Call, Endpoint, OutcomeUnknownError, Responder

_LOG = structlog.get_logger("hwbus.jetstream")
_WAITING_MAX = 4096
_FINISH_S = 5.0
_QUEUED_MAX = 65_536
_SERVICE_ERROR = "Nats-Service-Error"
_SERVICE_ERROR_CODE = "Nats-Service-Error-Code"


class JetStreamBus:
    """``Bus`` on one connection."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def request(
        self, subject: str, data: bytes, *, headers: dict[str, str], timeout_s: float
    ) -> bytes:
        """As ``Bus.request``; a service that broke gives ``OutcomeUnknownError``, too."""
        answer = await self._core.asker.ask(subject, data, headers=headers, timeout_s=timeout_s)
        if answer.block:
            trouble = read_headers(answer.block)[1].get(_SERVICE_ERROR)
            if trouble is not None:
                raise OutcomeUnknownError(f"{subject} broke: {trouble}")
        return answer.data

    async def publish(self, subject: str, data: bytes) -> None:
        """As ``Bus.publish``; while disconnected the message is dropped and counted."""
        try:
            await self._core.client.send(subject, data)
        except OutcomeUnknownError:
            self._core.counters["fleeting_dropped"] += 1

    @asynccontextmanager
    async def listen(self, subject: str) -> AsyncIterator[AsyncIterator[Call]]:
        """As ``Bus.listen``."""
        waiting: deque[tuple[bytes, bytes, bytes]] = deque()
        wake = asyncio.Event()

        def hear(subject: bytes, _reply: bytes, data: bytes, block: bytes) -> None:
            if len(waiting) >= _WAITING_MAX:
                waiting.popleft()
                self._core.counters["listen_dropped"] += 1
                if not wake.is_set() or self._core.counters["listen_dropped"] % _WAITING_MAX == 1:
                    _LOG.warning("listener too slow, oldest dropped", subject=subject.decode())
            waiting.append((subject, data, block))
            wake.set()

        async def calls() -> AsyncIterator[Call]:
            while True:
                while waiting:
                    where, data, block = waiting.popleft()
                    yield Call(where.decode(), data, read_headers(block)[1])
                wake.clear()
                await wake.wait()

        unhear = await self._core.client.hear(subject, hear)
        await self._core.settled()
        try:
            yield calls()
        finally:
            await unhear()

    @asynccontextmanager
    async def serve(
        self,
        name: str,
        version: str,
        endpoints: Sequence[Endpoint],
        responder: Responder,
        *,
        at_once_max: int = 1024,
    ) -> AsyncIterator[None]:
        """As ``Bus.serve``; requests in work get a few seconds to finish when it ends."""
        desk = _Counter(self._core, responder, at_once_max)
        service = await add_service(
            self._core.client,
            name=name,
            version=version,
            queue_group="hwbus",
            stats_handler=desk.figures,
        )
        try:
            for endpoint in endpoints:
                handler, hear = desk.ways(endpoint.name)
                await service.add_endpoint(
                    name=endpoint.name,
                    subject=endpoint.subject,
                    metadata=endpoint.metadata,
                    handler=handler,
                )
                self._core.client.hear_requests(service, hear)
            await self._core.settled()
            yield
        finally:
            await _stop(service)
            await desk.finish()


async def _stop(service: Service) -> None:
    try:
        await service.stop()
    except (NatsError, TimeoutError) as error:
        # Without a connection there is nobody to say goodbye to.
        _LOG.info("service ended without goodbye", error=repr(error))


class _Request(msgspec.Struct, frozen=True):
    """A request as it came; its headers are read when its turn has come."""

    subject: str
    data: bytes
    headers: Callable[[], dict[str, str]]
    reply: str
    figures: dict[str, int]


class _Counter:
    """Works on requests side by side, which nats.micro does not, and keeps count."""

    def __init__(self, core: Core, responder: Responder, at_once_max: int) -> None:
        self._core = core
        self._responder = responder
        self._at_once_max = at_once_max
        self._queue: deque[_Request] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._figures: dict[str, dict[str, int]] = {}

    def figures(self, endpoint: Any) -> dict[str, int]:
        """Return what ``$SRV.STATS`` shows as data: nats.micro's own times end at our spawn."""
        return {**self._of(endpoint.name), "in_work": len(self._tasks)}

    def _of(self, name: str) -> dict[str, int]:
        return self._figures.setdefault(name, {"answered": 0, "failed": 0, "busy_ns": 0})

    def ways(self, name: str) -> tuple[Callable[[Request], Awaitable[None]], Hear]:
        """Return the two ways in for requests to endpoint *name*: nats.micro's, and the short."""
        figures = self._of(name)

        async def handle(request: Request) -> None:
            reply = request._msg.reply  # noqa: SLF001  (the library has no other way to ask)
            headers = dict(request.headers or {})
            self._take(_Request(request.subject, request.data, lambda: headers, reply, figures))

        def hear(subject: bytes, reply: bytes, data: bytes, block: bytes) -> None:
            def headers() -> dict[str, str]:
                return read_headers(block)[1]

            self._take(_Request(subject.decode(), data, headers, reply.decode(), figures))

        return handle, hear

    def _take(self, request: _Request) -> None:
        if len(self._tasks) < self._at_once_max:
            self._begin(request)
        elif len(self._queue) < _QUEUED_MAX:
            self._queue.append(request)
        else:
            # Whoever asked learns nothing in time, and may ask again under the same id.
            self._core.counters["requests_dropped"] += 1

    def _begin(self, request: _Request) -> None:
        task = asyncio.create_task(self._answer(request))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._queue:
            self._begin(self._queue.popleft())
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("an answer could not be sent", error=repr(task.exception()))

    async def _answer(self, request: _Request) -> None:
        started_ns = time.perf_counter_ns()
        figures = request.figures
        call = Call(request.subject, request.data, request.headers(), bool(request.reply))
        try:
            answer = await self._responder(call)
        except Exception as error:  # noqa: BLE001  (the asker must hear of it, whatever it is)
            figures["failed"] += 1
            _LOG.error("a responder broke", subject=call.subject, exc_info=error)
            broke = {_SERVICE_ERROR: type(error).__name__, _SERVICE_ERROR_CODE: "500"}
            await self._reply(request.reply, b"", broke)
        else:
            figures["answered"] += 1
            await self._reply(request.reply, answer, {})
        finally:
            figures["busy_ns"] += time.perf_counter_ns() - started_ns

    async def _reply(self, reply: str, data: bytes, headers: dict[str, str]) -> None:
        if not reply:
            # It was decided all the same, nobody waits for the answer.
            return
        try:
            await self._core.client.send(reply, data, headers=headers)
        except (NatsError, OutcomeUnknownError) as error:
            _LOG.warning("an answer was lost", error=repr(error))

    async def finish(self) -> None:
        """Let requests in work, and those that wait, end for a while, then cancel them."""
        deadline = time.monotonic() + _FINISH_S
        while self._tasks and (left_s := deadline - time.monotonic()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left_s)
        cut_off = len(self._tasks) + len(self._queue)
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        if cut_off:
            _LOG.error("requests were cut off", requests=cut_off)
        if self._tasks:
            await asyncio.wait(set(self._tasks))
