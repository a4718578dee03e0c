"""A connection to JetStream that knows its own answers: stored, refused, overtaken or unknown."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import nats.errors
from eventsourcing.persistence import DataError, OperationalError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.nuid import NUID

from hwbus.eventstore.settings import Settings

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
PAGE_MESSAGES_MAX = 1000
PAGE_BYTES_MAX = 8 * 1024 * 1024
BATCH_MESSAGES_MAX = 1000
_PAGES_AT_ONCE_MAX = 8  # with 8 MiB each well under the client's 128 MiB, where it drops messages
_BATCHES_AT_ONCE_MAX = 8  # the server allows 50 in a stream, for all its writers together
_WRITES_AT_ONCE_MAX = 256
_OVERTAKEN = (10071, 10164)
_NO_MESSAGE = 10037


class OvertakenError(Exception):
    """Somebody wrote to the subject first; nothing was stored."""


class OutcomeUnknownError(Exception):
    """No answer in time: what was sent may be stored now, later or never."""


class UnavailableError(Exception):
    """Nobody serves the stream at the moment; nothing was stored."""


class Stored(NamedTuple):
    """One message as the stream keeps it."""

    seq: int
    subject: str
    data: bytes


class Write(NamedTuple):
    """One message to store, if its subject still ends at sequence ``after`` (None: no matter)."""

    subject: str
    data: bytes
    after: int | None


class Page(NamedTuple):
    """Consecutive messages of a filter, and whether there are further ones."""

    messages: list[Stored]
    has_more: bool


class ApiError(msgspec.Struct, frozen=True):
    """Why JetStream refuses."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct, frozen=True):
    error: ApiError | None = None
    seq: int = 0


class _Found(msgspec.Struct, frozen=True):
    subject: str
    seq: int
    data: bytes = b""


class _FoundAnswer(msgspec.Struct, frozen=True):
    error: ApiError | None = None
    message: _Found | None = None


class _Reading:
    def __init__(self, done: asyncio.Future[bool]) -> None:
        self.messages: list[Stored] = []
        self.done = done

    def take(self, msg: Msg) -> None:
        headers = msg.headers or {}
        status = headers.get("Status")
        if self.done.done():
            return
        if status is None:
            self.messages.append(
                Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], msg.data)
            )
        elif status == "204":
            self.done.set_result(int(headers.get("Nats-Num-Pending", "0")) > 0)
        elif status == "404":
            self.done.set_result(False)
        elif status == "503":
            self.done.set_exception(UnavailableError("nobody serves the stream"))
        else:
            self.done.set_exception(OperationalError(f"the read was refused: {headers}"))


class Link:
    """One NATS connection. All of it belongs to the event loop it was opened on."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = Client()
        self.jetstream = self.client.jetstream(timeout=settings.timeout_s)
        self.reconnections = 0
        self._nuid = NUID()
        self._complaint = ""
        self._is_up = asyncio.Event()
        self._writing = asyncio.Semaphore(_WRITES_AT_ONCE_MAX)
        self._batching = asyncio.Semaphore(_BATCHES_AT_ONCE_MAX)
        self._paging = asyncio.Semaphore(_PAGES_AT_ONCE_MAX)
        self._readings: dict[str, _Reading] = {}
        self._inbox = ""

    async def open(self) -> None:
        """Connect. Raises ``OperationalError`` if that does not succeed in time."""
        options: dict[str, Any] = {}
        if self.settings.credentials:
            options["user_credentials"] = self.settings.credentials
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                await self.client.connect(
                    [server.strip() for server in self.settings.url.split(",")],
                    name="hwbus.eventstore",
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    ping_interval=10,
                    inbox_prefix=self.settings.inbox_prefix,
                    error_cb=self._note_error,
                    disconnected_cb=self._note_down,
                    reconnected_cb=self._note_up,
                    **options,
                )
                self._inbox = self.client.new_inbox()
                await self.client.subscribe(f"{self._inbox}.*", cb=self._take_page)
        except (OSError, nats.errors.Error) as error:
            # With an address it cannot read the client has not begun, and cannot be closed.
            with contextlib.suppress(AssertionError):
                await self.client.close()
            raise OperationalError(
                f"no connection to {self.settings.url}: {self._complaint or error!r}"
            ) from error
        self._is_up.set()

    async def close(self) -> None:
        """Disconnect, for good."""
        await self.client.close()

    def new_id(self) -> str:
        """Return an id nobody else has."""
        return self._nuid.next().decode()

    async def store(self, stream: str, write: Write) -> int:
        """Store one message and return its sequence.

        Raises:
            OvertakenError, UnavailableError: nothing was stored.
            OutcomeUnknownError: it is stored now, later or never.
            DataError, OperationalError: nothing was stored and repeating will not help.
        """
        headers = {"Nats-Expected-Stream": stream}
        if write.after is not None:
            headers[EXPECTED] = str(write.after)
        async with self._writing:
            return await self._send(write, headers)

    async def store_batch(self, stream: str, writes: Sequence[Write]) -> int:
        """Store *writes*, all or none, side by side; return the sequence of the last.

        Raises:
            As ``store``.
        """
        if len(writes) > BATCH_MESSAGES_MAX:
            raise DataError(
                f"{len(writes)} messages in one save; JetStream takes {BATCH_MESSAGES_MAX}"
            )
        batch, last, seq = self.new_id(), len(writes), 0
        async with self._batching:
            for place, write in enumerate(writes, 1):
                headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
                if write.after is not None:
                    headers[EXPECTED] = str(write.after)
                if place == 1:
                    headers["Nats-Expected-Stream"] = stream
                if place == last:
                    headers["Nats-Batch-Commit"] = "1"
                if place in {1, last}:
                    seq = await self._send(write, headers)
                else:
                    await self._publish(write, headers)
        return seq

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the newest message of *subject* (wildcards allowed), as the leader has it."""
        return await self._get(stream, {"last_by_subj": subject})

    async def first_after(self, stream: str, subject: str, seq: int) -> Stored | None:
        """Return the first message of *subject* behind *seq*, as the leader has it."""
        return await self._get(stream, {"seq": seq + 1, "next_by_subj": subject})

    async def page(self, stream: str, subject: str, start: int, limit: int) -> Page:
        """Return up to *limit* messages of *subject* from sequence *start* on.

        A replica answers, so with more than one the newest messages may be missing.

        Raises:
            OperationalError: no answer in time.
        """
        request = msgspec.json.encode(
            {
                "seq": max(start, 1),
                "batch": min(limit, PAGE_MESSAGES_MAX),
                "max_bytes": PAGE_BYTES_MAX,
                "next_by_subj": subject,
            }
        )
        token = self.new_id()
        async with self._paging:
            await self._wait_until_up()
            reading = _Reading(asyncio.get_running_loop().create_future())
            self._readings[token] = reading
            try:
                await self.client.publish(
                    f"$JS.API.DIRECT.GET.{stream}", request, reply=f"{self._inbox}.{token}"
                )
                async with asyncio.timeout(self.settings.timeout_s):
                    has_more = await reading.done
            except (TimeoutError, nats.errors.Error, UnavailableError) as error:
                raise OperationalError(self._because(f"{stream} does not answer", error)) from error
            finally:
                del self._readings[token]
        return Page(reading.messages, has_more)

    async def _send(self, write: Write, headers: dict[str, str]) -> int:
        await self._wait_until_up()
        try:
            reply = await self.client.request(
                write.subject, write.data, timeout=self.settings.timeout_s, headers=headers
            )
        except nats.errors.MaxPayloadError as error:
            raise DataError(f"{len(write.data)} bytes are too many for NATS") from error
        except nats.errors.NoRespondersError as error:
            raise UnavailableError(f"no stream takes {write.subject}") from error
        except (TimeoutError, nats.errors.Error) as error:
            raise OutcomeUnknownError(self._because("no acknowledgement", error)) from error
        if not reply.data:  # the first message of a batch is only waved through
            return 0
        answer = msgspec.json.decode(reply.data, type=_Answer)
        if answer.error is None:
            return answer.seq
        if answer.error.err_code in _OVERTAKEN:
            raise OvertakenError(answer.error.description)
        if answer.error.code == 503:  # noqa: PLR2004 - HTTP's own word for "later"
            raise UnavailableError(answer.error.description)
        raise OperationalError(f"{answer.error.description} ({answer.error.err_code})")

    async def _publish(self, write: Write, headers: dict[str, str]) -> None:
        try:
            await self.client.publish(write.subject, write.data, headers=headers)
        except nats.errors.MaxPayloadError as error:
            raise DataError(f"{len(write.data)} bytes are too many for NATS") from error
        except nats.errors.Error as error:
            # Nothing of a batch is stored before its last message has been sent.
            raise UnavailableError(self._because("not sent", error)) from error

    async def _get(self, stream: str, request: dict[str, Any]) -> Stored | None:
        await self._wait_until_up()
        try:
            reply = await self.client.request(
                f"$JS.API.STREAM.MSG.GET.{stream}",
                msgspec.json.encode(request),
                timeout=self.settings.timeout_s,
            )
        except (TimeoutError, nats.errors.Error) as error:
            raise OperationalError(self._because(f"{stream} does not answer", error)) from error
        answer = msgspec.json.decode(reply.data, type=_FoundAnswer)
        if answer.message is not None:
            return Stored(answer.message.seq, answer.message.subject, answer.message.data)
        if answer.error is None or answer.error.err_code == _NO_MESSAGE:
            return None
        raise OperationalError(f"{answer.error.description} ({answer.error.err_code})")

    async def _wait_until_up(self) -> None:
        # A message published while the connection is down is kept by the client and stored
        # after it is up again, long after its sender was told of a timeout.
        if self.client.is_connected:
            return
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                await self._is_up.wait()
        except TimeoutError as error:
            raise OperationalError(self._because("not connected", error)) from error

    def _because(self, what: str, error: BaseException) -> str:
        # A denied publish is a timeout here; the broker's reason only reaches the error callback.
        return f"{what}: {error!r}{'; ' if self._complaint else ''}{self._complaint}"

    async def _take_page(self, msg: Msg) -> None:
        reading = self._readings.get(msg.subject.rpartition(".")[2])
        if reading is not None:
            reading.take(msg)

    async def _note_error(self, error: Exception) -> None:
        self._complaint = f"the broker last said {error!r}"

    async def _note_down(self) -> None:
        self._is_up.clear()

    async def _note_up(self) -> None:
        self.reconnections += 1
        self._complaint = ""
        self._is_up.set()
