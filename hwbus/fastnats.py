"""Two measured shortcuts around nats-py, each beside the public path that it replaces.

The clients use these private names of nats-py 2.16 (pinned in pyproject for this reason):

* ``Client._process_msg``: what the parser calls for every message. For the subscriptions made
  by ``hear`` a plain function is called instead: no header parsing, no ``Msg``, no queue and no
  task switch, which are four fifths of the cost of reading.
* ``Client._send_command``, ``_flush_queue``, ``_flush_pending``, ``_pending``,
  ``_pending_data_size``: a ready-made HPUB line is put where ``publish`` would put it, and what
  was never sent can be dropped when the connection is lost.
* ``Client._send_ping``: the only way to learn of the answer to one ping.
* ``Client._process_pong``, ``_pongs``: nats-py reads no more, for good and in silence, after the
  pong for somebody who was cancelled.
* ``Client._reading_task``, ``_flusher_task``: as ``flush`` looks at them.
* ``Subscription._id``: which subscription the parser means.
* ``Service._endpoints``, ``Endpoint._subscription``, ``Endpoint._num_requests`` of nats.micro:
  requests to a service take the same way, and are counted as nats.micro would.

``StockClient`` does the same with public calls only; ``HWBUS_NATS_STOCK=1`` selects it, and
``tests/contract`` runs on both. Decision 0005 has the figures.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, FlushTimeoutError
from nats.errors import Error as NatsError
from nats.micro.service import Service

from hwbus.ports import ForbiddenError, NobodyThereError, OutcomeUnknownError

Hear = Callable[[bytes, bytes, bytes, bytes], None]
"""Takes (subject, reply, data, header block or b"") of one message; must not raise or wait."""
Unhear = Callable[[], Awaitable[None]]

_FLUSH_S = 10
_PREAMBLE = b"NATS/1.0"
_NO_RESPONDERS = b"NATS/1.0 503"
_NOTHING: Mapping[str, str] = {}


class Line(Protocol):
    """What the wires need of a connection: send bytes, hear bytes."""

    async def send(
        self, subject: str, data: bytes, *, reply: str = "", headers: Mapping[str, str] = _NOTHING
    ) -> None:
        """Put a message on its way. Raises ``OutcomeUnknownError`` while disconnected."""
        ...

    async def hear(self, subject: str, hear: Hear) -> Unhear:
        """Call *hear* for every message under *subject* until the returned function is awaited.

        Raises ``OutcomeUnknownError`` when the connection is closed for good.
        """
        ...

    def forget_unsent(self) -> None:
        """Drop what was never written to the socket, so that no late surprise is stored."""
        ...


class EchoingClient(Client):
    """A client that can be asked whether it is really connected."""

    async def echo(self, timeout_s: float) -> bool:
        """Return whether the broker answers a ping in time; ``flush`` says yes with dead loops."""
        if not self.is_connected:
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._send_ping(answer)
                await answer
        except (NatsError, OSError, TimeoutError):
            answer.cancel()
            return False
        return True

    async def flush(self, timeout: int = _FLUSH_S) -> None:
        """As nats-py's, which in Python 3.11 swallows a cancellation that comes with the pong.

        Who was cancelled would go on, and whoever waits for its end would wait for ever.
        """
        if self.is_closed:
            raise ConnectionClosedError
        if _over(self._reading_task) or _over(self._flusher_task):
            await super().flush(timeout)
            return
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await self._send_ping(answer)
                await answer
        except TimeoutError as error:
            raise FlushTimeoutError from error

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            # For somebody who waits no longer. That the broker answers counts all the same.
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()


def _over(task: asyncio.Task[None] | None) -> bool:
    return task is None or task.done()


class FastClient(EchoingClient):
    """A client whose hot paths bypass nats-py's conveniences."""

    def __init__(self) -> None:
        super().__init__()
        self._fast: dict[int, Hear] = {}

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        hear = self._fast.get(sid)
        if hear is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        hear(subject, reply, data, headers or b"")

    async def hear(self, subject: str, hear: Hear) -> Unhear:
        """Call *hear* straight from the parser."""
        subscription = await _subscribe(self, subject, _ignored)
        sid = subscription._id  # noqa: SLF001  (see the module's docstring)
        self._fast[sid] = hear

        async def unhear() -> None:
            self._fast.pop(sid, None)
            await _unsubscribe(self, subscription)

        return unhear

    def hear_requests(self, service: Service, hear: Hear) -> None:
        """Call *hear*, and not its handler, for the requests to *service*'s newest endpoint."""
        endpoint = service._endpoints[-1]  # noqa: SLF001  (see the module's docstring)
        subscription = endpoint._subscription  # noqa: SLF001
        if subscription is None:
            raise RuntimeError("the endpoint has not been started")

        def count(subject: bytes, reply: bytes, data: bytes, block: bytes) -> None:
            endpoint._num_requests += 1  # noqa: SLF001
            hear(subject, reply, data, block)

        self._fast[subscription._id] = count  # noqa: SLF001

    async def send(
        self, subject: str, data: bytes, *, reply: str = "", headers: Mapping[str, str] = _NOTHING
    ) -> None:
        """Append a ready-made command to what is flushed next."""
        _check_connected(self)
        _check_subject(subject)
        head = f"{subject} {reply}" if reply else subject
        if headers:
            block = _block(headers)
            command = b"HPUB %b %d %d\r\n%b%b\r\n" % (
                head.encode(),
                len(block),
                len(block) + len(data),
                block,
                data,
            )
        else:
            command = b"PUB %b %d\r\n%b\r\n" % (head.encode(), len(data), data)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(data)
        await self._send_command(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def forget_unsent(self) -> None:
        """Drop unsent commands; nats-py repeats the subscriptions itself."""
        self._pending.clear()
        self._pending_data_size = 0


class StockClient(EchoingClient):
    """The same with what nats-py offers to everybody."""

    async def hear(self, subject: str, hear: Hear) -> Unhear:
        """Call *hear* from a subscription's callback."""

        async def take(message: Msg) -> None:
            headers = message.headers
            block = _status_block(headers) if headers else b""
            hear(message.subject.encode(), message.reply.encode(), message.data, block)

        subscription = await _subscribe(self, subject, take)

        async def unhear() -> None:
            await _unsubscribe(self, subscription)

        return unhear

    def hear_requests(self, service: Service, hear: Hear) -> None:
        """Do nothing: the endpoint's handler is called, as nats.micro does it."""

    async def send(
        self, subject: str, data: bytes, *, reply: str = "", headers: Mapping[str, str] = _NOTHING
    ) -> None:
        """Publish."""
        _check_connected(self)
        _check_subject(subject)
        await self.publish(subject, data, reply=reply, headers=dict(headers) or None)

    def forget_unsent(self) -> None:
        """Do nothing: there is no public way, the expectation of an append must catch it."""


WireClient = FastClient | StockClient


def new_client(*, stock: bool | None = None) -> WireClient:
    """Return an unconnected client; *stock* None asks ``HWBUS_NATS_STOCK``."""
    if stock is None:
        stock = os.environ.get("HWBUS_NATS_STOCK", "") not in {"", "0"}
    return StockClient() if stock else FastClient()


async def _ignored(_message: Msg) -> None:
    """Be a callback; the parser never gets here for a fast subscription."""


async def _subscribe(
    client: Client, subject: str, take: Callable[[Msg], Awaitable[None]]
) -> Subscription:
    try:
        return await client.subscribe(subject, cb=take)
    except ConnectionClosedError as error:
        # Between the closing and our hearing of it. nats-py's own error is nobody's to catch.
        raise OutcomeUnknownError("the connection was closed for good") from error


async def _unsubscribe(client: Client, subscription: Subscription) -> None:
    if not client.is_closed and not client.is_draining:
        await subscription.unsubscribe()


def _check_connected(client: Client) -> None:
    # nats-py would keep the message and send it after the reconnection, long after the caller
    # was told that nothing is known of it.
    if not client.is_connected:
        raise OutcomeUnknownError("the connection to the broker is down; nothing was sent")


def _check_subject(subject: str) -> None:
    if not subject or not subject.isprintable() or " " in subject:
        raise ValueError(f"{subject!r} is no subject")


def _block(headers: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        raise ValueError("a header may not contain a line break")
    return f"NATS/1.0\r\n{text}\r\n\r\n".encode()


def _status_block(headers: Mapping[str, str]) -> bytes:
    rest = {k: v for k, v in headers.items() if k not in {"Status", "Description"}}
    status = f" {headers['Status']} {headers.get('Description', '')}" if "Status" in headers else ""
    lines = "".join(f"{name}: {value}\r\n" for name, value in rest.items())
    return f"NATS/1.0{status}\r\n{lines}\r\n".encode()


def read_headers(block: bytes) -> tuple[int, dict[str, str]]:
    """Return the status (0: none) and the headers of a header block; values are stripped."""
    first, _, rest = block.partition(b"\r\n")
    word = first[len(_PREAMBLE) :].split(maxsplit=1)
    status = int(word[0]) if word and word[0].isdigit() else 0
    headers = {}
    for line in rest.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode("utf-8", "replace").strip()] = value.decode(
                "utf-8", "replace"
            ).strip()
    return status, headers


class Answer(msgspec.Struct, frozen=True):
    """What came back: the data, and the raw header block."""

    data: bytes
    block: bytes


class Asker:
    """Requests side by side over one inbox: a number for each, a future for each, a bound."""

    def __init__(self, line: Line, inbox: str, *, at_once_max: int = 8192) -> None:
        self._line = line
        self._inbox = inbox
        self._prefix_bytes = len(inbox) + 1
        self._room = asyncio.Semaphore(at_once_max)
        self._waiting: dict[bytes, tuple[str, asyncio.Future[Answer]]] = {}
        self._count = 0
        self._unhear: Unhear | None = None

    async def open(self) -> None:
        """Listen for answers."""
        self._unhear = await self._line.hear(f"{self._inbox}.*", self._on_answer)

    async def close(self) -> None:
        """Stop listening; whoever still waits gets ``OutcomeUnknownError``."""
        self.fail(OutcomeUnknownError("the connection was closed"))
        if self._unhear is not None:
            await self._unhear()

    @property
    def in_flight(self) -> int:
        """How many requests wait for an answer."""
        return len(self._waiting)

    async def ask(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] = _NOTHING,
        timeout_s: float,
    ) -> Answer:
        """Send and wait.

        Raises:
            OutcomeUnknownError: disconnected, or no answer within *timeout_s*.
            NobodyThereError: nobody listens on *subject*.
            ForbiddenError: the broker does not let us send there.
        """
        async with self._room:
            loop = asyncio.get_running_loop()
            self._count += 1
            token = b"%d" % self._count
            future: asyncio.Future[Answer] = loop.create_future()
            self._waiting[token] = (subject, future)
            timer = loop.call_later(timeout_s, _too_late, future, subject, timeout_s)
            try:
                reply = f"{self._inbox}.{self._count}"
                await self._line.send(subject, data, reply=reply, headers=headers)
                answer = await future
            except NatsError as error:
                raise OutcomeUnknownError(f"{subject}: {error!r}") from error
            finally:
                timer.cancel()
                self._waiting.pop(token, None)
        if answer.block.startswith(_NO_RESPONDERS):
            raise NobodyThereError(f"nobody answers on {subject}")
        return answer

    def _on_answer(self, subject: bytes, _reply: bytes, data: bytes, block: bytes) -> None:
        waiting = self._waiting.pop(subject[self._prefix_bytes :], None)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(Answer(data, block))

    def fail(self, error: Exception) -> None:
        """Give everybody who waits *error*: the connection is gone."""
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    def forbid(self, subject: str) -> None:
        """Give those who wait for an answer from *subject* a ``ForbiddenError``.

        The broker reports a refused subject beside the stream of answers, and nats-py in lower
        case; without this a refusal would look like a broker that does not answer.
        """
        for asked, future in self._waiting.values():
            if asked.lower() == subject.lower() and not future.done():
                future.set_exception(ForbiddenError(f"the broker forbids writing to {asked}"))


def _too_late(future: asyncio.Future[Answer], subject: str, timeout_s: float) -> None:
    if not future.done():
        future.set_exception(OutcomeUnknownError(f"no answer from {subject} in {timeout_s:g} s"))
