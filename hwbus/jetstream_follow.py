"""Following a stream: from a sequence on, in order, without gap or repetition, for ever.

The consumer at the broker is short-lived and may vanish at any time (a restart, a lost leader);
what is lasting is the sequence that was read last, and a new consumer starts behind it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType

import msgspec
import structlog

from hwbus.filters import disjoint, matches
from hwbus.jetstream_core import ApiError, Core
from hwbus.jetstream_pull import Pull
from hwbus.ports import NobodyThereError, OutcomeUnknownError, Stored

_LOG = structlog.get_logger("hwbus.jetstream")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS = 1_000_000_000
_FORGOTTEN_AFTER_S = 300
_WINDOW_BYTES = 33_554_432
_WINDOW_MIN = 3_000
_BACKOFF_FIRST_S = 0.02
_BACKOFF_MAX_S = 2.0
_GOODBYE_S = 0.5
_EVERYTHING = "hwbus.evt.>"
_PLAIN_TOKENS = 9
_DOMAIN_SHIFT = 2


class _Created(msgspec.Struct):
    name: str


class _State(msgspec.Struct):
    last_seq: int


class _Info(msgspec.Struct):
    state: _State


def stamp(reply: bytes) -> tuple[int, int, int, int]:
    """Return (delivered, stream sequence, consumer sequence, nanoseconds) of an ack subject.

    ``$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<ns>.<pending>``; with a domain
    two tokens more stand in front.
    """
    tokens = reply.split(b".")
    at = 4 if len(tokens) == _PLAIN_TOKENS else 4 + _DOMAIN_SHIFT
    return int(tokens[at]), int(tokens[at + 1]), int(tokens[at + 2]), int(tokens[at + 3])


class Follower:
    """An endless iterator over batches; ``run`` keeps a consumer alive beside it."""

    def __init__(
        self, core: Core, stream: str, *, after: int, subjects: tuple[str, ...], batch_max: int
    ) -> None:
        self._core = core
        self._stream = stream
        self._seq = after
        self._consumer_seq = 0
        self._subjects = subjects
        # The broker refuses patterns that overlap; then everything is read and sifted here.
        self._sift = not disjoint(subjects)
        self._batch_max = batch_max
        self._window = max(_WINDOW_MIN, 3 * batch_max)
        self._buffer: list[Stored] = []
        self._wake = asyncio.Event()
        self._pull: Pull | None = None
        self._failed: BaseException | None = None

    def __aiter__(self) -> AsyncIterator[list[Stored]]:
        """Return itself."""
        return self

    async def __anext__(self) -> list[Stored]:
        """Return what is there, waiting for the first."""
        while not self._buffer:
            if self._failed is not None:
                raise self._failed
            self._wake.clear()
            await self._refill()
            if not self._buffer:
                await self._wake.wait()
        if len(self._buffer) <= self._batch_max:
            batch, self._buffer = self._buffer, []
        else:
            batch = self._buffer[: self._batch_max]
            del self._buffer[: self._batch_max]
        await self._refill()
        return batch

    async def _refill(self) -> None:
        pull = self._pull
        if pull is None:
            return
        third = self._window // 3
        while not pull.trouble.is_set() and self._window - pull.asked - len(self._buffer) >= third:
            await pull.ask_for(third, _WINDOW_BYTES // 3)

    def _take(self, subject: bytes, reply: bytes, data: bytes, _block: bytes) -> None:
        if not reply:
            self._wake.set()
            return
        # As `stamp`, written out: this runs once for every event of a replay.
        tokens = reply.split(b".")
        seq_at = 5 if len(tokens) == _PLAIN_TOKENS else 5 + _DOMAIN_SHIFT
        seq, consumer_seq = int(tokens[seq_at]), int(tokens[seq_at + 1])
        if consumer_seq != self._consumer_seq + 1:
            if self._pull is not None and not self._pull.trouble.is_set():
                self._core.counters["gaps"] += 1
                self._pull.say(f"delivery {consumer_seq} came after {self._consumer_seq}")
            return
        self._consumer_seq = consumer_seq
        if seq <= self._seq:
            return
        self._seq = seq
        ns = int(tokens[seq_at + 2])
        at = _EPOCH + timedelta(0, ns // _NS, ns % _NS // 1000)
        name = subject.decode()
        if not self._sift or any(matches(pattern, name) for pattern in self._subjects):
            self._buffer.append(Stored(seq, name, data, at))
        self._wake.set()

    async def run(self) -> None:
        """Keep a consumer alive until cancelled; fails only if the client is gone for good."""
        backoff_s = _BACKOFF_FIRST_S
        while not self._core.gone.is_set():
            before = self._seq
            try:
                await self._once()
            except (ApiError, OutcomeUnknownError, NobodyThereError) as error:
                self._core.counters["follow_failures"] += 1
                _LOG.warning("cannot follow yet", stream=self._stream, error=str(error))
            backoff_s = (
                _BACKOFF_FIRST_S if self._seq > before else min(2 * backoff_s, _BACKOFF_MAX_S)
            )
            await asyncio.sleep(backoff_s)
        raise ConnectionError("the connection to the broker was closed for good")

    async def _once(self) -> None:
        await self._core.connected()
        name = self._core.unique("follow")
        pull = Pull(self._core, self._stream, name, self._take)
        self._consumer_seq = 0
        await pull.open()
        try:
            await self._create(name)
            await self._compare()
            self._pull = pull
            await self._refill()
            await pull.watch()
            self._core.counters["follow_renewals"] += 1
            _LOG.info("following anew", stream=self._stream, after=self._seq, because=pull.because)
        finally:
            self._pull = None
            await pull.close()
            await self._delete(name)

    async def _compare(self) -> None:
        """Say so if the log ends before what was read already: it was restored, or lost its tail.

        No error: a new leader may need a moment to know its own end.
        """
        if self._seq == 0:
            return
        head = (await self._core.api(f"STREAM.INFO.{self._stream}", {}, _Info)).state.last_seq
        if head < self._seq:
            self._core.counters["log_behind_reader"] += 1
            _LOG.error(
                "the log ends before what was read", stream=self._stream, head=head, read=self._seq
            )

    async def _create(self, name: str) -> None:
        filters = (_EVERYTHING,) if self._sift else self._subjects
        config: dict[str, object] = {
            "name": name,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._seq + 1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _FORGOTTEN_AFTER_S * _NS,
            "max_waiting": 16,
        }
        where = f"CONSUMER.CREATE.{self._stream}.{name}"
        if len(filters) == 1:
            # One filter goes into the subject too, so that permissions can speak of it.
            config["filter_subject"] = filters[0]
            where = f"{where}.{filters[0]}"
        else:
            config["filter_subjects"] = list(filters)
        await self._core.api(where, {"stream_name": self._stream, "config": config}, _Created)

    async def _delete(self, name: str) -> None:
        if not self._core.up.is_set() or self._core.gone.is_set():
            return
        where = f"$JS.API.CONSUMER.DELETE.{self._stream}.{name}"
        try:
            await self._core.asker.ask(where, b"", timeout_s=_GOODBYE_S)
        except (OutcomeUnknownError, NobodyThereError) as error:
            # The broker forgets it by itself after a while.
            _LOG.debug("consumer left behind", consumer=name, error=str(error))

    def fail(self, task: asyncio.Task[None]) -> None:
        """Let the iterator raise what ended *task*."""
        if not task.cancelled():
            self._failed = task.exception()
            self._wake.set()


class Beside:
    """Runs a keeper task beside a block and ends it with the block."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    async def __aenter__(self) -> asyncio.Task[None]:
        """Return the task."""
        return self._task

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it and wait for its end."""
        self._task.cancel()
        await asyncio.wait({self._task})


@asynccontextmanager
async def follow(
    core: Core, stream: str, *, after: int, subjects: tuple[str, ...], batch_max: int
) -> AsyncIterator[AsyncIterator[list[Stored]]]:
    """As ``EventLog.follow``; raises ``ConnectionError`` if the client is closed for good."""
    if not subjects or batch_max < 1:
        raise ValueError("follow needs a subject and a batch of at least one")
    follower = Follower(core, stream, after=after, subjects=subjects, batch_max=batch_max)
    task = asyncio.create_task(follower.run(), name=f"follow {stream}")
    task.add_done_callback(follower.fail)
    async with Beside(task):
        yield follower
