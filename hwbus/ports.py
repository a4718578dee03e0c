"""What the wires ask of the outside: a log, a clock, a place for what must be kept."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import msgspec

EVENTS = "hwbus.evt.>"


class StaleError(Exception):
    """Somebody appended first: read the subject again, decide again."""


class OutcomeUnknownError(Exception):
    """The log did not answer in time: what was sent may or may not be stored.

    Find out by reading the last message of the subject, or repeat with the same command id.
    """


class LogFullError(Exception):
    """The log refuses to take more (a limit of the stream): nothing was stored."""


class ForbiddenError(Exception):
    """The broker does not let this user write there: nothing was stored."""


class Clock(Protocol):
    """Tells the time, in UTC."""

    def now(self) -> datetime:
        """Return the present moment as an aware UTC datetime."""
        ...


class Stored(msgspec.Struct, frozen=True):
    """One message as the log keeps it.

    ``seq`` counts from 1 over the whole stream; ``at`` is the broker's clock and no order.
    """

    seq: int
    subject: str
    data: bytes
    at: datetime


class EventLog(Protocol):
    """An append-only log of messages under subjects, totally ordered by sequence.

    The contract is executable: ``tests/contract/test_event_log_contract.py``.
    """

    async def append(self, subject: str, data: bytes, *, after: int, message_id: str) -> int:
        """Append *data* if the last message of *subject* still has sequence *after* (0: none).

        Returns the new sequence once the message is durable. ``message_id`` lets the broker drop
        a repetition on the network; it is not what makes a command idempotent.

        Raises:
            StaleError: the subject has moved on; nothing was stored.
            OutcomeUnknownError: no answer in time, or the connection is down.
            LogFullError, ForbiddenError: nothing was stored and repeating will not help.
        """
        ...

    async def last(self, subject: str) -> Stored | None:
        """Return the newest message of *subject* as the stream's leader has it, or None.

        With wildcards: the newest of all subjects that it takes in.
        """
        ...

    async def history(self, subject: str) -> list[Stored]:
        """Return all messages of one concrete *subject*, oldest first."""
        ...

    async def get(self, seq: int) -> Stored | None:
        """Return the message at *seq*, or None if there is none."""
        ...

    async def head(self) -> int:
        """Return the sequence of the newest message in the stream; 0 when it is empty.

        Raises:
            NobodyThereError: nobody has made the stream, or nobody is there to be asked.
            OutcomeUnknownError: no answer in time, or the broker could not say.
        """
        ...

    async def first(self) -> int:
        """Return the sequence of the oldest message that is still there; of none, the next one.

        It is 1, unless what was archived has been taken out. Raises as ``head``.
        """
        ...

    def follow(
        self, *, after: int, subjects: Sequence[str] = (EVENTS,), batch_max: int = 500
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Stored]]]:
        """Read everything under *subjects* (wildcards allowed) with a sequence above *after*.

        The iterator yields non-empty lists of at most *batch_max* messages, in order, without gap
        or repetition, catching up first and then waiting for more, across reconnections. It ends
        only when its context is left.
        """
        ...


class Outlet(Protocol):
    """Where things go that are not events but must be kept: the audit stream."""

    async def keep(self, subject: str, data: bytes, *, message_id: str) -> None:
        """Store *data* durably under *subject*; a repetition of *message_id* is stored once.

        Raises:
            OutcomeUnknownError: no answer in time; repeat with the same id.
            LogFullError, ForbiddenError: nothing was stored and repeating will not help.
        """
        ...


class Delivery(Protocol):
    """One message of a durable queue, to be settled exactly once by whoever took it."""

    @property
    def subject(self) -> str:
        """Where the message was sent to."""
        ...

    @property
    def seq(self) -> int:
        """Where the message stands in its queue; the same at each delivery."""
        ...

    @property
    def at(self) -> datetime:
        """When the queue took it; with ``seq`` it is this message, even of a queue made anew."""
        ...

    @property
    def data(self) -> bytes:
        """The message itself."""
        ...

    @property
    def headers(self) -> dict[str, str]:
        """What the sender wrote beside it."""
        ...

    async def working(self) -> None:
        """Say that the message is still in work: for a while it is not delivered again.

        Repeat it for as long as it takes; it is no delivery. One that gets lost does no harm.
        """
        ...

    async def make_room(self) -> None:
        """Let another message be handed out beside this one, which may take long."""
        ...

    async def done(self) -> None:
        """Say that the message has been dealt with and may be forgotten.

        Raises ``OutcomeUnknownError``: the message may come again.
        """
        ...

    async def later(self, delay_s: float) -> None:
        """Ask for the message again after a while, because it could not be dealt with.

        That counts: what was delivered too often is parked. Raises ``OutcomeUnknownError``: it
        comes again in any case.
        """
        ...

    async def park(self, because: str) -> None:
        """Give the message up for good: keep it aside with a reason, never deliver it again.

        Raises ``OutcomeUnknownError``, ``LogFullError``, ``ForbiddenError``: it may come again.
        """
        ...


class Inbox(Protocol):
    """A durable queue of commands, delivered at least once."""

    def take(self) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Yield deliveries until the context is left.

        So many are unsettled at once as was agreed; those that made room do not count.
        """
        ...


class Call(msgspec.Struct, frozen=True):
    """A request that came over the bus; ``awaited`` says whether anybody waits for the answer."""

    subject: str
    data: bytes
    headers: dict[str, str]
    awaited: bool = True


class Responder(Protocol):
    """Answers one request: bytes in, bytes out. It must not raise for bad input."""

    async def __call__(self, call: Call) -> bytes:
        """Return the answer to *call*."""
        ...


class Endpoint(msgspec.Struct, frozen=True):
    """One address served in a queue group, with what `nats micro info` shows of it."""

    name: str
    subject: str
    metadata: dict[str, str]


class Bus(Protocol):
    """Requests and fleeting messages: nothing here is kept."""

    async def request(
        self, subject: str, data: bytes, *, headers: dict[str, str], timeout_s: float
    ) -> bytes:
        """Send and wait for the answer.

        Raises:
            OutcomeUnknownError: no answer within *timeout_s*.
            NobodyThereError: no responder is listening on *subject*.
        """
        ...

    async def publish(self, subject: str, data: bytes) -> None:
        """Send without waiting and without keeping."""
        ...

    def listen(self, subject: str) -> AbstractAsyncContextManager[AsyncIterator[Call]]:
        """Yield what is published under *subject* (wildcards allowed).

        When more than 4096 are waiting the oldest is dropped, and that is counted and logged.
        """
        ...

    def serve(
        self,
        name: str,
        version: str,
        endpoints: Sequence[Endpoint],
        responder: Responder,
        *,
        at_once_max: int = 1024,
    ) -> AbstractAsyncContextManager[None]:
        """Answer requests as a discoverable service until the context is left.

        Up to *at_once_max* requests are worked on side by side; further ones wait.
        """
        ...


class NobodyThereError(Exception):
    """No service answers on that subject: is the control plane running?"""
