"""The log on JetStream: one expectation, one message, one truth."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

import msgspec

from hwbus.fastnats import Answer, read_headers
from hwbus.jetstream_core import ApiError, Core
from hwbus.jetstream_follow import follow
from hwbus.ports import (
    EVENTS,
    LogFullError,
    NobodyThereError,
    OutcomeUnknownError,
    StaleError,
    Stored,
)

_STALE = frozenset({10071, 10164})
_FULL = frozenset({10077, 10047, 10023, 10028, 10054, 10110, 10122})
_NO_MESSAGE = 10037
_NO_STREAM = 10059
_BATCH = 500
_BATCH_BYTES = 8_388_608


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


class _Message(msgspec.Struct):
    subject: str
    seq: int
    time: str
    data: str = ""


class _Found(msgspec.Struct):
    message: _Message


class _State(msgspec.Struct):
    last_seq: int
    first_seq: int = 0


class _Info(msgspec.Struct):
    state: _State


_ACK = msgspec.json.Decoder(_Ack)


async def store(core: Core, subject: str, data: bytes, headers: Mapping[str, str]) -> int:
    """Publish into whichever stream takes *subject* and return the sequence it got.

    Raises:
        StaleError, LogFullError, OutcomeUnknownError, ForbiddenError: as ``EventLog.append``.
    """
    if len(data) > core.client.max_payload:
        # The broker would cut the connection of everybody who shares it.
        raise LogFullError(f"{len(data)} bytes are more than the broker takes in one message")
    try:
        answer = await core.asker.ask(subject, data, headers=headers, timeout_s=core.ask_timeout_s)
    except NobodyThereError as error:
        raise OutcomeUnknownError(f"no stream takes {subject} at the moment") from error
    ack = _ACK.decode(answer.data)
    if ack.error is None:
        return ack.seq
    said = f"{subject}: {ack.error.description} ({ack.error.err_code})"
    if ack.error.err_code in _STALE:
        raise StaleError(said)
    if ack.error.err_code in _FULL:
        raise LogFullError(said)
    raise OutcomeUnknownError(said)


class JetStreamLog:
    """``EventLog`` on one stream."""

    def __init__(self, core: Core, stream: str) -> None:
        self._core = core
        self._stream = stream

    async def append(self, subject: str, data: bytes, *, after: int, message_id: str) -> int:
        """As ``EventLog.append``."""
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(after),
            # The broker remembers ids for the whole stream: without the subject, one id used on
            # two subjects would swallow the second message and call it stored.
            "Nats-Msg-Id": f"{message_id}@{subject}",
        }
        counters = self._core.counters
        try:
            seq = await store(self._core, subject, data, headers)
        except StaleError:
            counters["stale"] += 1
            raise
        except OutcomeUnknownError:
            counters["unknown"] += 1
            raise
        counters["appended"] += 1
        return seq

    async def last(self, subject: str) -> Stored | None:
        """As ``EventLog.last``."""
        return await self._leader_get({"last_by_subj": subject})

    async def get(self, seq: int) -> Stored | None:
        """As ``EventLog.get``."""
        return await self._leader_get({"seq": seq}) if seq > 0 else None

    async def head(self) -> int:
        """As ``EventLog.head``."""
        return (await self._state()).last_seq

    async def first(self) -> int:
        """As ``EventLog.first``."""
        # A stream that never had a message says 0.
        return max(1, (await self._state()).first_seq)

    async def _state(self) -> _State:
        try:
            info = await self._core.api(f"STREAM.INFO.{self._stream}", {}, _Info)
        except ApiError as error:
            if error.err_code != _NO_STREAM:
                # Nobody leads just now, or the broker is in other trouble: that passes.
                raise OutcomeUnknownError(str(error)) from error
            # Whoever makes the streams, the control plane, has not been here yet.
            raise NobodyThereError(f"there is no stream {self._stream}") from error
        return info.state

    async def history(self, subject: str) -> list[Stored]:
        """As ``EventLog.history``.

        Any replica may answer the quick batches, and it may lag; the leader is asked for the
        newest message first, and for whatever a lagging replica did not have.
        """
        newest = await self.last(subject)
        found: list[Stored] = []
        while newest is not None and (not found or found[-1].seq < newest.seq):
            start = found[-1].seq + 1 if found else 1
            batch = await self._direct_batch(subject, start)
            if not batch:
                missing = await self._leader_get({"seq": start, "next_by_subj": subject})
                batch = [missing] if missing is not None else [newest]
            found += [stored for stored in batch if stored.seq <= newest.seq]
        return found

    def follow(
        self, *, after: int, subjects: Sequence[str] = (EVENTS,), batch_max: int = 500
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Stored]]]:
        """As ``EventLog.follow``."""
        return follow(
            self._core, self._stream, after=after, subjects=tuple(subjects), batch_max=batch_max
        )

    async def _leader_get(self, which: Mapping[str, str | int]) -> Stored | None:
        try:
            found = await self._core.api(f"STREAM.MSG.GET.{self._stream}", which, _Found)
        except ApiError as error:
            if error.err_code == _NO_MESSAGE:
                return None
            raise OutcomeUnknownError(str(error)) from error
        except NobodyThereError as error:
            raise OutcomeUnknownError(f"{self._stream} has no leader at the moment") from error
        message = found.message
        return Stored(message.seq, message.subject, b64decode(message.data), _time(message.time))

    async def _direct_batch(self, subject: str, start: int) -> list[Stored]:
        """Return up to a batch of messages from the nearest replica; fewer if it is troubled."""
        answers: list[Answer] = []
        complete = asyncio.Event()

        def hear(_subject: bytes, _reply: bytes, data: bytes, block: bytes) -> None:
            answers.append(Answer(data, block))
            # A message's own block starts with a line break after the version, a status does not.
            if block.startswith(b"NATS/1.0 "):
                complete.set()

        inbox = self._core.client.new_inbox()
        unhear = await self._core.client.hear(inbox, hear)
        request = {
            "seq": start,
            "next_by_subj": subject,
            "batch": _BATCH,
            "max_bytes": _BATCH_BYTES,
        }
        try:
            async with asyncio.timeout(self._core.ask_timeout_s):
                await self._core.client.send(
                    f"$JS.API.DIRECT.GET.{self._stream}", msgspec.json.encode(request), reply=inbox
                )
                await complete.wait()
        except TimeoutError:
            self._core.counters["direct_get_timeouts"] += 1
        finally:
            await unhear()
        return _contiguous(answers)


def _contiguous(answers: list[Answer]) -> list[Stored]:
    found = []
    for answer in answers:
        status, headers = read_headers(answer.block)
        if status:
            break
        found.append(
            Stored(
                int(headers["Nats-Sequence"]),
                headers["Nats-Subject"],
                answer.data,
                _time(headers["Nats-Time-Stamp"]),
            )
        )
    return found


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


class JetStreamOutlet:
    """``Outlet`` into whichever stream takes the subject."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def keep(
        self,
        subject: str,
        data: bytes,
        *,
        message_id: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """As ``Outlet.keep``; *headers* are stored beside the data.

        Raises also ``LogFullError`` and ``ForbiddenError``: repeating will not help.
        """
        await store(self._core, subject, data, {**(headers or {}), "Nats-Msg-Id": message_id})
        self._core.counters["kept"] += 1
