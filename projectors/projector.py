"""Follows the log and keeps the views beside it, never further than one transaction apart."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from hwbus.ports import EVENTS as EVENT_SUBJECTS
from hwbus.ports import (
    Clock,
    ForbiddenError,
    LogFullError,
    NobodyThereError,
    OutcomeUnknownError,
    Outlet,
    Stored,
)
from hwbus.subjects import audit as audit_subject
from projectors.database import Compared, remove
from projectors.sqlite import AUDIT, EVENTS, STREAMS, Digest, Store, identity_of
from projectors.tables import Table
from schemas.audit import ParkedRecord
from schemas.views import ParkedRow, Row, StatusRow

_LOG = structlog.get_logger("projectors")
CONSUMER = "projectors"
_SUBJECTS = {EVENTS: (EVENT_SUBJECTS,), AUDIT: ("hwbus.audit.>",)}
_BATCH_MAX = 500
_REPLAY_BATCH_MAX = 2000
_LOOK_S = 1.0
_TOLD_AT_ONCE = 100


class StreamRemadeError(Exception):
    """The stream is not the one that the views were made of: start again, from nothing."""


class Source(Protocol):
    """What a projector needs of a log; every ``EventLog`` is one."""

    async def get(self, seq: int) -> Stored | None:
        """As ``EventLog.get``."""
        ...

    async def head(self) -> int:
        """As ``EventLog.head``."""
        ...

    async def first(self) -> int:
        """As ``EventLog.first``."""
        ...

    def follow(
        self, *, after: int, subjects: tuple[str, ...], batch_max: int = 500
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Stored]]]:
        """As ``EventLog.follow``."""
        ...


class Sources(msgspec.Struct, frozen=True):
    """The two streams that the views are made of."""

    events: Source
    audit: Source

    def of(self, stream: str) -> Source:
        """Return the source of a stream by its short name."""
        return self.events if stream == EVENTS else self.audit


class Difference(msgspec.Struct, frozen=True):
    """What a check found: the tables in which kept and newly made rows differ."""

    positions: dict[str, int]
    tables: tuple[str, ...]


class Projector:
    """Keeps one database of views up to date, and says how far it is.

    Whoever reads the rows does so within ``reading``. ``generation`` counts how often they were
    made anew.
    """

    def __init__(self, path: Path, sources: Sources, outlet: Outlet, clock: Clock) -> None:
        self._path = path
        self._sources = sources
        self._outlet = outlet
        self.clock = clock
        self.generation = 0
        self._store: Store | None = None
        self._heads = dict.fromkeys(STREAMS, 0)
        self._waiting: set[tuple[int, asyncio.Future[None]]] = set()
        self._parked_before = dict.fromkeys(STREAMS, 0)
        self._told = asyncio.Event()
        self._turn = asyncio.Lock()
        self._readable = asyncio.Event()
        self._readers = 0
        self._unread = asyncio.Event()
        self.caught_up = asyncio.Event()

    @property
    def store(self) -> Store:
        """The views as they are now. Raises ``RuntimeError`` when the projector is not running."""
        if self._store is None:
            raise RuntimeError("the projector is not running")
        return self._store

    @property
    def events(self) -> Source:
        """The log that the views are made of."""
        return self._sources.events

    @property
    def seq(self) -> int:
        """The sequence of the events stream that the views have reached."""
        return self.store.positions[EVENTS].seq

    def status(self) -> list[StatusRow]:
        """Return how far the views are on each stream, as of at most a second ago."""
        return [self._status(stream) for stream in STREAMS]

    def _status(self, stream: str) -> StatusRow:
        position = self.store.positions[stream]
        head = max(self._heads[stream], position.seq)
        behind = head > position.seq and position.at is not None
        waited = (self.clock.now() - position.at).total_seconds() if behind else 0.0  # type: ignore[operator]
        folded = self.store.folded[stream]
        return StatusRow(
            stream=stream,
            position=position.seq,
            head=head,
            lag_events=head - position.seq,
            lag_s=max(0.0, waited),
            parked=self._parked_before[stream] + folded.parked,
            unknown=folded.unknown,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Projector"]:
        """Follow the streams until the context is left.

        Raises:
            StreamRemadeError: a stream was replaced meanwhile; running again begins anew.
            OSError, sqlite3.Error: the database cannot be written.
        """
        await self._open()
        try:
            async with asyncio.TaskGroup() as tasks:
                working = [
                    tasks.create_task(self._follow(EVENTS), name="views follow events"),
                    tasks.create_task(self._follow(AUDIT), name="views follow audit"),
                    tasks.create_task(self._watch(), name="views watch the heads"),
                    tasks.create_task(self._tell(), name="views tell what was parked"),
                ]
                try:
                    yield self
                finally:
                    for task in working:
                        task.cancel()
        finally:
            for _seq, waiter in self._waiting:
                waiter.cancel()
            await self.store.close()
            self._store = None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Store]:
        """Give the views, which are not replaced while they are being read."""
        await self._readable.wait()
        self._readers += 1
        self._unread.clear()
        try:
            yield self.store
        finally:
            self._readers -= 1
            if not self._readers:
                self._unread.set()

    async def reached(self, seq: int, *, within_s: float) -> bool:
        """Wait until the views have seen *seq* of the events stream; say whether they have."""
        if self.seq >= seq:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add((seq, waiter))
        try:
            async with asyncio.timeout(within_s):
                await waiter
        except TimeoutError:
            return self.seq >= seq
        finally:
            self._waiting.discard((seq, waiter))
        return True

    async def check(self) -> Difference:
        """Make all rows anew beside the kept ones, up to the same position, and compare them."""
        async with self.reading() as store:
            kept = await store.digest()
        async with self._fresh(".check") as fresh:
            for stream, seq in kept.positions.items():
                await replay(fresh, stream, self._sources.of(stream), until=seq)
            await self._carry_over(fresh)
            made = await fresh.digest()
        return Difference(kept.positions, differing(kept, made))

    @asynccontextmanager
    async def compared(self) -> AsyncIterator[Compared]:
        """Give the rows at one moment, with those that the log makes up to the same moment."""
        async with self._fresh(".fsck") as fresh, self.reading() as store:
            await self._catch_up(fresh)
            async with store.beside(fresh.path) as compared:
                for stream, until in compared.positions.items():
                    await replay(fresh, stream, self._sources.of(stream), until=until)
                yield compared

    async def rebuild(self, only: Sequence[Table[Row]] | None = None) -> None:
        """Make the views anew from the log in a new file, and put it in place of the old one.

        With *only*, the rows of those tables are put in place of the old ones. Questions are
        answered from the old rows until the new ones have caught up.
        """
        async with self._fresh(".new") as fresh:
            await self._catch_up(fresh)
            if only is None:
                await fresh.index()
            async with self._turn:
                await self._catch_up(fresh)
                await fresh.close()
                if only is None:
                    await self._replace(fresh.path)
                else:
                    await self.store.take_over(fresh.path, only)
                    self.generation += 1

    @asynccontextmanager
    async def _fresh(self, suffix: str) -> AsyncIterator[Store]:
        """Give an empty store in a file of its own, gone in the end unless it was moved."""
        path = self._path.with_name(self._path.name + suffix)
        remove(path)
        fresh = await Store.open(path)
        try:
            yield fresh
        finally:
            await fresh.close()
            remove(path)

    async def _catch_up(self, fresh: Store) -> None:
        for stream in STREAMS:
            until = self.store.positions[stream].seq
            await replay(fresh, stream, self._sources.of(stream), until=until)
        await self._carry_over(fresh)

    async def _carry_over(self, fresh: Store) -> None:
        """Give *fresh* the rows of records that are no more in the stream: nobody can make them."""
        first = await self._sources.audit.first()
        if first > 1:
            await fresh.carry_over(self._path, before=first)

    async def _replace(self, path: Path) -> None:
        """Put the database at *path* in place of the own one, between two questions."""
        self._readable.clear()
        try:
            if self._readers:
                await self._unread.wait()
            await self.store.close()
            # What SQLite keeps beside the old file must not be taken for a part of the new one.
            remove(self._path, beside_only=True)
            path.replace(self._path)  # noqa: ASYNC240 -- one rename, and nobody may come between
            self._store = await Store.open(self._path)
            self.generation += 1
            await self._count_parked(self._store)
        finally:
            self._readable.set()

    async def _count_parked(self, store: Store) -> None:
        self._parked_before = {**dict.fromkeys(STREAMS, 0), **await store.parked()}

    async def _open(self) -> None:
        store = await Store.open(self._path)
        try:
            if await self._remade(store):
                await store.close()
                remove(self._path)
                store = await Store.open(self._path)
            for stream in STREAMS:
                self._heads[stream] = await self._sources.of(stream).head()
            await self._count_parked(store)
        except BaseException:
            await store.close()
            raise
        self._store = store
        first = await self._sources.audit.first()
        if not store.positions[AUDIT].seq and first > 1:
            _LOG.warning("views are made without what is archived of the audit", until=first - 1)
        self._readable.set()
        self._told.set()
        self.caught_up.clear()
        await self._note_caught_up()

    async def _remade(self, store: Store) -> bool:
        for stream, position in store.positions.items():
            if not position.seq:
                continue
            source = self._sources.of(stream)
            first = await source.get(1)
            if first is None and stream == AUDIT and await source.first() > 1:
                # What was archived has been taken out: it cannot be compared any more.
                continue
            if first is None or identity_of(first) != position.identity:
                _LOG.warning("the stream was made anew, and so are the views", stream=stream)
                return True
        return False

    async def _follow(self, stream: str) -> None:
        source = self._sources.of(stream)
        after = self.store.positions[stream].seq
        async with source.follow(
            after=after, subjects=_SUBJECTS[stream], batch_max=_BATCH_MAX
        ) as batches:
            async for batch in batches:
                async with self._turn:
                    await self._apply(stream, batch)

    async def _apply(self, stream: str, batch: list[Stored]) -> None:
        parked = self.store.folded[stream].parked
        await self.store.apply(stream, batch)
        if self.store.folded[stream].parked > parked:
            _LOG.error("messages could not be read and are parked", stream=stream, seq=self.seq)
            self._told.set()
        if not self.caught_up.is_set():
            await self._note_caught_up()
        for seq, waiter in self._waiting:
            if seq <= self.seq and not waiter.done():
                waiter.set_result(None)

    async def _note_caught_up(self) -> None:
        """Once the past that was there at the start has been read, make the indices."""
        if all(self.store.positions[s].seq >= self._heads[s] for s in STREAMS):
            await self.store.index()
            self.caught_up.set()

    async def _watch(self) -> None:
        unknown: set[str] = set()  # of these it was said already: it is asked for every second
        while True:
            await asyncio.sleep(_LOOK_S)
            for stream in STREAMS:
                try:
                    head = await self._sources.of(stream).head()
                except (OutcomeUnknownError, NobodyThereError) as error:
                    say = _LOG.debug if stream in unknown else _LOG.warning
                    say("the head is not known", stream=stream, error=str(error))
                    unknown.add(stream)
                    continue
                unknown.discard(stream)
                if head < self._heads[stream]:
                    raise StreamRemadeError(f"{stream} went back to sequence {head}")
                if self.caught_up.is_set():
                    self._heads[stream] = head

    async def _tell(self) -> None:
        """Put parked messages on the audit stream; what could not be told is told later."""
        silent = False
        while True:
            await self._told.wait()
            self._told.clear()
            async with self.reading() as store:
                untold = await store.untold(_TOLD_AT_ONCE)
            for parked in untold:
                try:
                    await self._keep(parked)
                except (OutcomeUnknownError, LogFullError, ForbiddenError) as error:
                    say = _LOG.debug if silent else _LOG.warning  # it is tried every second
                    say("not told yet what was parked", error=str(error))
                    silent = True
                    self._told.set()
                    await asyncio.sleep(_LOOK_S)
                    break
                silent = False
                async with self.reading() as store:
                    await store.told(parked)
                self._told.set()

    async def _keep(self, parked: ParkedRow) -> None:
        record = ParkedRecord(
            # The message's own time: told twice it is the same record.
            at=parked.at,
            consumer=CONSUMER,
            subject=parked.subject,
            seq=parked.seq,
            because=parked.because[:500],
            data=parked.data,
        )
        await self._outlet.keep(
            audit_subject("parked", CONSUMER),
            msgspec.json.encode(record),
            message_id=f"parked.{CONSUMER}.{parked.stream}.{parked.seq}",
        )


def differing(kept: Digest, made: Digest) -> tuple[str, ...]:
    """Return the names of the tables whose rows are not the same."""
    return tuple(name for name, sha in kept.tables.items() if made.tables.get(name) != sha)


async def replay(store: Store, stream: str, source: Source, *, until: int) -> None:
    """Read *source* into *store*, up to and with *until*, as fast as it can be read."""
    after = store.positions[stream].seq
    if after >= until:
        return
    async with source.follow(
        after=after, subjects=_SUBJECTS[stream], batch_max=_REPLAY_BATCH_MAX
    ) as batches:
        async for batch in batches:
            await store.apply(stream, [stored for stored in batch if stored.seq <= until])
            if batch[-1].seq >= until:
                return
