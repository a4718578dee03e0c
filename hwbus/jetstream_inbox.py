"""The durable queue of commands: taken, settled once, or put aside with a reason."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import structlog

from hwbus import subjects
from hwbus.fastnats import read_headers
from hwbus.jetstream_core import ApiError, Core
from hwbus.jetstream_follow import Beside, stamp
from hwbus.jetstream_log import JetStreamOutlet
from hwbus.jetstream_pull import Pull
from hwbus.ports import (
    Delivery,
    ForbiddenError,
    LogFullError,
    NobodyThereError,
    OutcomeUnknownError,
)

_LOG = structlog.get_logger("hwbus.jetstream")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS = 1_000_000_000
_BACKOFF_S = 0.5
_WINDOW_BYTES = 16_777_216


class InboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A durable consumer and how much of it is worked on at once.

    ``deliveries_max``: a message that was delivered so often without being done with is parked. It
    is generous: a command in hand is delivered once more after each restart of the control plane,
    which may be restarted often while the log is full, and that is no fault of the command.
    ``ack_wait_s``: how long a delivery may stay unsettled, and without a sign that it is in work,
    before it is delivered again.
    """

    stream: str
    durable: str
    filters: tuple[str, ...] = ()
    at_once_max: int = 64
    ack_wait_s: float = 30.0
    deliveries_max: int = 100


class _Created(msgspec.Struct):
    name: str


class JetStreamDelivery:
    """``Delivery`` of one message."""

    def __init__(
        self, inbox: "JetStreamInbox", subject: str, reply: str, data: bytes, block: bytes
    ) -> None:
        self._inbox = inbox
        self._subject = subject
        self._reply = reply
        self._data = data
        self._block = block
        self._settled = False
        self._counted = True

    @property
    def subject(self) -> str:
        """As ``Delivery.subject``."""
        return self._subject

    @property
    def seq(self) -> int:
        """As ``Delivery.seq``."""
        return stamp(self._reply.encode())[1]

    @property
    def at(self) -> datetime:
        """As ``Delivery.at``: the broker's clock."""
        ns = stamp(self._reply.encode())[3]
        return _EPOCH + timedelta(0, ns // _NS, ns % _NS // 1000)

    @property
    def data(self) -> bytes:
        """As ``Delivery.data``."""
        return self._data

    @property
    def headers(self) -> dict[str, str]:
        """As ``Delivery.headers``."""
        return read_headers(self._block)[1]

    async def working(self) -> None:
        """As ``Delivery.working``."""
        if not self._settled:
            await self._inbox.mark(self._reply)

    async def make_room(self) -> None:
        """As ``Delivery.make_room``; at most ``max_ack_pending`` of the consumer are unsettled."""
        if self._counted:
            self._counted = False
            await self._inbox.free()

    async def done(self) -> None:
        """As ``Delivery.done``; returns once the broker has noted it.

        Raises ``OutcomeUnknownError``: the message may come again.
        """
        await self._settle(b"+ACK")

    async def later(self, delay_s: float) -> None:
        """As ``Delivery.later``. Raises ``OutcomeUnknownError``: it comes again in any case."""
        await self._settle(b'-NAK {"delay":%d}' % int(delay_s * _NS))

    async def park(self, because: str) -> None:
        """As ``Delivery.park``: to ``hwbus.audit.parked.<consumer>``, then ended.

        Raises ``OutcomeUnknownError``, ``LogFullError``, ``ForbiddenError``: not parked, the
        message comes again.
        """
        try:
            await self._inbox.keep_aside(self, self.seq, because)
        except (OutcomeUnknownError, LogFullError, ForbiddenError):
            # It is in nobody's hand any more, and would take a place for ever.
            await self.make_room()
            raise
        await self._settle(b"+TERM")

    async def _settle(self, how: bytes) -> None:
        if self._settled:
            raise RuntimeError(f"a delivery of {self._subject} is settled twice")
        self._settled = True
        try:
            await self._inbox.settle(self._reply, how)
        finally:
            await self.make_room()


class JetStreamInbox:
    """``Inbox`` on one durable consumer; several processes may share it."""

    def __init__(self, core: Core, settings: InboxSettings) -> None:
        self._core = core
        self._settings = settings
        self._outlet = JetStreamOutlet(core)
        self._ready: deque[JetStreamDelivery] = deque()
        self._worn: deque[JetStreamDelivery] = deque()
        self._held = 0
        self._wake = asyncio.Event()
        self._pull: Pull | None = None
        self._failed: BaseException | None = None

    @asynccontextmanager
    async def take(self) -> AsyncIterator[AsyncIterator[Delivery]]:
        """As ``Inbox.take``; raises ``ConnectionError`` if the client is closed for good."""
        task = asyncio.create_task(self._run(), name=f"inbox {self._settings.durable}")
        task.add_done_callback(self._note_end)
        async with Beside(task):
            deliveries = self._deliveries()
            try:
                yield deliveries
            finally:
                await deliveries.aclose()
                await self._give_back()

    async def _deliveries(self) -> AsyncGenerator[Delivery, None]:
        while True:
            while self._worn:
                await self._park_worn(self._worn.popleft())
            if self._ready:
                yield self._ready.popleft()
                continue
            if self._failed is not None:
                raise self._failed
            self._wake.clear()
            await self._refill()
            if not self._ready and not self._worn:
                await self._wake.wait()

    async def _park_worn(self, delivery: JetStreamDelivery) -> None:
        try:
            await delivery.park(
                f"delivered {self._settings.deliveries_max} times, never dealt with"
            )
        except (OutcomeUnknownError, LogFullError, ForbiddenError) as error:
            _LOG.error("cannot park yet", subject=delivery.subject, error=str(error))

    async def settle(self, reply: str, how: bytes) -> None:
        """Tell the broker how a delivery ended. Raises ``OutcomeUnknownError``."""
        try:
            await self._core.asker.ask(reply, how, timeout_s=self._core.ask_timeout_s)
        except NobodyThereError as error:
            raise OutcomeUnknownError("the consumer is not there at the moment") from error

    async def mark(self, reply: str) -> None:
        """Tell the broker that a delivery is in work; nobody answers."""
        try:
            await self._core.client.send(reply, b"+WPI")
        except OutcomeUnknownError as error:
            # At worst it is delivered again, and counts.
            _LOG.info("not marked as in work", durable=self._settings.durable, error=str(error))

    async def free(self) -> None:
        """Note that one delivery less takes a place."""
        # One that was taken in an earlier context is no longer counted.
        self._held = max(0, self._held - 1)
        await self._refill()

    async def keep_aside(self, delivery: JetStreamDelivery, seq: int, because: str) -> None:
        """Store a delivery among the parked ones, once."""
        durable, stream = self._settings.durable, self._settings.stream
        reason = " ".join(because.split())[:1000]
        headers = {
            **{k: v for k, v in delivery.headers.items() if not k.startswith("Nats-")},
            "reason": reason,
            "seq": str(seq),
            "subject": delivery.subject,
        }
        self._core.counters["parked"] += 1
        _LOG.warning("parked", subject=delivery.subject, seq=seq, reason=reason)
        await self._outlet.keep(
            subjects.audit("parked", durable),
            delivery.data,
            message_id=f"parked.{stream}.{durable}.{seq}",
            headers=headers,
        )

    async def _give_back(self) -> None:
        """Return what was fetched and never taken, so that others get it at once."""
        rest = [*self._ready, *self._worn]
        self._ready.clear()
        self._worn.clear()
        ends = await asyncio.gather(*(d.later(0) for d in rest), return_exceptions=True)
        lost = [end for end in ends if isinstance(end, BaseException)]
        if lost:
            _LOG.info("not given back, comes again by itself", count=len(lost), error=str(lost[0]))
        self._held = 0

    async def _refill(self) -> None:
        pull = self._pull
        if pull is None or pull.trouble.is_set():
            return
        free = self._settings.at_once_max - pull.asked - self._held
        if free > 0 and (pull.asked == 0 or free > self._settings.at_once_max // 2):
            await pull.ask_for(free, _WINDOW_BYTES)

    def _take(self, subject: bytes, reply: bytes, data: bytes, block: bytes) -> None:
        if reply:
            delivery = JetStreamDelivery(self, subject.decode(), reply.decode(), data, block)
            self._held += 1
            worn = stamp(reply)[0] > self._settings.deliveries_max
            (self._worn if worn else self._ready).append(delivery)
        self._wake.set()

    async def _run(self) -> None:
        while not self._core.gone.is_set():
            try:
                await self._once()
            except (ApiError, OutcomeUnknownError, NobodyThereError) as error:
                self._core.counters["inbox_failures"] += 1
                _LOG.warning("cannot take yet", durable=self._settings.durable, error=str(error))
            await asyncio.sleep(_BACKOFF_S)
        raise ConnectionError("the connection to the broker was closed for good")

    async def _once(self) -> None:
        await self._core.connected()
        await self._create()
        pull = Pull(self._core, self._settings.stream, self._settings.durable, self._take)
        await pull.open()
        try:
            self._pull = pull
            await self._refill()
            await pull.watch()
            _LOG.info("taking anew", durable=self._settings.durable, because=pull.because)
        finally:
            self._pull = None
            await pull.close()

    async def _create(self) -> None:
        settings = self._settings
        config: dict[str, object] = {
            "durable_name": settings.durable,
            "name": settings.durable,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "ack_wait": int(settings.ack_wait_s * _NS),
            "max_ack_pending": 16 * settings.at_once_max,
            "max_deliver": -1,
        }
        if settings.filters:
            config["filter_subjects"] = list(settings.filters)
        await self._core.api(
            f"CONSUMER.CREATE.{settings.stream}.{settings.durable}",
            {"stream_name": settings.stream, "config": config},
            _Created,
        )

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._failed = task.exception()
            self._wake.set()
