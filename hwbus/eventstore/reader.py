"""Reading a filter of a stream: in pages, in order, and never older than what is known."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import nats.errors
from eventsourcing.persistence import OperationalError
from nats.aio.msg import Msg
from nats.js import api

from hwbus.eventstore.link import PAGE_MESSAGES_MAX, Link, Stored

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

_STALE_READS_MAX = 40
_STALE_PAUSE_S = 0.05
_CHECKS_EVERY = 10


class Watch:
    """Tells threads that something was stored under a filter.

    A consumer that carries headers only says so at once; should the broker lose it, the listeners
    are woken every ``poll_s`` seconds all the same, and the consumer is made again.
    """

    def __init__(self, link: Link, stream: str, subject: str) -> None:
        self.head = 0
        self._link = link
        self._stream = stream
        self._subject = subject
        self._listeners: set[threading.Event] = set()
        self._consumer: Subscription | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def listen(self, event: threading.Event) -> None:
        """Set *event* whenever there may be something new."""
        self._listeners.add(event)
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())
            await self._subscribe()

    async def unlisten(self, event: threading.Event) -> None:
        """Leave *event* alone from now on; with the last listener the consumer goes, too."""
        self._listeners.discard(event)
        if not self._listeners and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
            await self._unsubscribe()

    async def _tick(self) -> None:
        seen, ticks = self._link.reconnections, 0
        while True:
            await asyncio.sleep(self._link.settings.poll_s)
            ticks += 1
            is_new = self._link.reconnections != seen
            if is_new or (ticks % _CHECKS_EVERY == 0 and not await self._is_alive()):
                seen = self._link.reconnections
                await self._unsubscribe()
                await self._subscribe()
            self._wake()

    async def _subscribe(self) -> None:
        config = api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.NEW,
            ack_policy=api.AckPolicy.NONE,
            headers_only=True,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=60,
        )
        # Without a consumer the listeners are still woken by the clock, only later.
        with contextlib.suppress(TimeoutError, nats.errors.Error):
            self._consumer = await self._link.jetstream.subscribe(
                self._subject, stream=self._stream, config=config, cb=self._take, manual_ack=True
            )

    async def _unsubscribe(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(nats.errors.Error):
                await consumer.unsubscribe()

    async def _is_alive(self) -> bool:
        if self._consumer is None:
            return False
        try:
            await self._consumer.consumer_info()  # type: ignore[attr-defined]
        except (TimeoutError, nats.errors.Error):
            return False
        return True

    async def _take(self, msg: Msg) -> None:
        self.head = max(self.head, msg.metadata.sequence.stream)
        self._wake()

    def _wake(self) -> None:
        for event in self._listeners:
            event.set()


class Reader:
    """What is stored under one filter of one stream."""

    def __init__(self, link: Link, stream: str, subject: str) -> None:
        self.link = link
        self.stream = stream
        self.subject = subject
        self.watch = Watch(link, stream, subject)

    def know(self, seq: int) -> None:
        """Remember that there is a message at *seq*: reading shall not miss it any more."""
        self.watch.head = max(self.watch.head, seq)

    async def max_seq(self) -> int | None:
        """Return the sequence of the newest message, as the leader has it."""
        newest = await self.link.last(self.stream, self.subject)
        return None if newest is None else newest.seq

    async def pages(
        self, start: int, page_max: int, *, stop: int | None = None
    ) -> AsyncGenerator[list[Stored], None]:
        """Yield what is stored from *start* on, oldest first, up to *stop* or the newest known."""
        head = self.watch.head if stop is None else min(self.watch.head, stop)
        async for messages in self.subject_pages(self.subject, start, page_max, known=head):
            yield messages
            if stop is not None and messages[-1].seq >= stop:
                return

    async def subject_pages(
        self, subject: str, start: int, page_max: int, *, known: int = 0
    ) -> AsyncGenerator[list[Stored], None]:
        """Yield the messages of *subject* from *start* on, at least up to sequence *known*.

        Raises:
            OperationalError: a replica stays behind what is known to be stored.
        """
        stale_reads = 0
        while True:
            page = await self.link.page(
                self.stream, subject, start, min(page_max, PAGE_MESSAGES_MAX)
            )
            if page.messages:
                start = page.messages[-1].seq + 1
                yield page.messages
            if page.has_more:
                if not page.messages:
                    raise OperationalError(f"{self.stream} answers with empty pages")
                continue
            if start > known:
                return
            stale_reads += 1
            if stale_reads > _STALE_READS_MAX:
                raise OperationalError(f"a replica of {self.stream} has not got sequence {known}")
            await asyncio.sleep(_STALE_PAUSE_S)
