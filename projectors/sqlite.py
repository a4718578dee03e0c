"""The views on disk: rows and the position they stand for are one transaction, or nothing is.

A whole batch is one function on the connection's own thread; one await a row would be ten times
slower. The file can be thrown away at any time: the log is the truth, and makes it anew.
"""

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import aiosqlite
import msgspec
import structlog

from hwbus.ports import Stored
from projectors import past
from projectors.asking import Found, Plan, page
from projectors.comparing import FRESH, carry_over, count, take_over
from projectors.database import Compared, call, connect, position, raw, remove, snapshot
from projectors.fold import Folded, fold_event, fold_record
from projectors.past import Then
from projectors.rows import Rows
from projectors.tables import FOLD_VERSION, INDEXED, PARKED, TABLES, WRITTEN_ONCE, Table
from schemas.views import ParkedRow, Row

_LOG = structlog.get_logger("projectors.sqlite")
_ENCODE = msgspec.json.Encoder().encode
P = ParamSpec("P")
T = TypeVar("T")

EVENTS = "events"
AUDIT = "audit"
STREAMS = (EVENTS, AUDIT)


class SharedError(Exception):
    """Somebody else writes the same database: each would count what the other has counted."""


class Position(msgspec.Struct, frozen=True):
    """How far one stream has been read: ``identity`` tells the stream from one made anew."""

    seq: int = 0
    identity: str = ""
    at: datetime | None = None


class Digest(msgspec.Struct, frozen=True):
    """What the views say, in short: equal digests at equal positions are equal rows."""

    positions: dict[str, int]
    tables: dict[str, str]


def identity_of(first: Stored) -> str:
    """Return what tells a stream from every other: a fingerprint of its first message."""
    text = f"{first.subject}\n{first.at.isoformat()}\n".encode() + first.data
    return hashlib.sha256(text).hexdigest()


def schema_hash() -> str:
    """Return a fingerprint of all that decides what the database looks like."""
    shape = [(t.name, t.columns, INDEXED.get(t.name), msgspec.json.schema(t.row)) for t in TABLES]
    marks = (past.EVERY, past.MARKS_MAX)
    return hashlib.sha256(_ENCODE([FOLD_VERSION, marks, shape])).hexdigest()


class Store:
    """One database of views: one connection writes, another reads, each on its own thread."""

    def __init__(self, path: Path, writer: aiosqlite.Connection) -> None:
        self.path = path
        self.folded: dict[str, Folded] = {stream: Folded() for stream in STREAMS}
        self.positions: dict[str, Position] = {stream: Position() for stream in STREAMS}
        self._writer = writer
        self._reader: aiosqlite.Connection | None = None
        self._looker: aiosqlite.Connection | None = None
        self._closed = False
        self._rows = Rows(self._load)
        self._lookups = {t.name: f"SELECT body FROM {t.name} WHERE key = ?" for t in TABLES}  # noqa: S608

    @classmethod
    async def open(cls, path: Path) -> "Store":
        """Open the views at *path*; one of another schema, or damaged, is begun anew.

        Raises:
            OSError, sqlite3.OperationalError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        store = cls(path, await connect(path, anew=True))
        try:
            kept = await call(store._writer, store._prepare)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                await store.close()
                raise
            _LOG.warning("views are damaged and made anew", path=str(path), error=str(error))
            kept = False
        except BaseException:
            await store.close()
            raise
        if not kept:
            await store.close()
            remove(path)
            store = cls(path, await connect(path))
            await call(store._writer, store._prepare)
        try:
            store._reader, store._looker = await connect(path), await connect(path)
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Close both connections, once; what was committed stays."""
        if self._closed:
            return
        self._closed = True
        for connection in (self._looker, self._reader, self._writer):
            if connection is not None:
                await connection.close()

    async def apply(self, stream: str, batch: Sequence[Stored]) -> None:
        """Fold *batch* of *stream* into the rows and move its position, all or nothing.

        Messages at or below the position are skipped, so that a repetition changes nothing.

        Raises:
            SharedError: another process has moved the position meanwhile.
            sqlite3.Error: the database cannot be written; nothing was changed.
        """
        await call(self._writer, self._apply, stream, batch)

    async def find(self, plan: Plan, *, limit: int, bytes_max: int) -> Found:
        """Return the rows of *plan*: at most *limit* of them, and of *bytes_max* together."""
        return await self._read(self._find, plan, limit, bytes_max)

    async def base_of(self, at: int | datetime) -> int:
        """Return the mark from which the point *at* can be made, as ``past.base_of``."""
        return await self._look(past.base_of, at)

    async def make(self, base: int, messages: Sequence[Stored]) -> Then:
        """Return the point behind *messages*, as ``past.make``. Raises ``past.ThinnedError``."""
        return await self._look(past.make, base, messages)

    async def find_then(self, then: Then, plan: Plan, *, limit: int, bytes_max: int) -> Found:
        """Return the rows of *plan* as they were *then*. Raises ``past.ThinnedError``."""
        return await self._look(past.find, then, plan, limit, bytes_max)

    async def digest(self) -> Digest:
        """Return the positions, and a fingerprint of the rows of every table, at one moment."""
        return await self._read(self._digest)

    async def index(self) -> None:
        """Make the indices. They are left out until the past has been read: that is faster."""
        await call(self._writer, self._index)

    async def count(self, names: Sequence[str]) -> dict[str, int]:
        """Return how many rows these tables have."""
        return await self._read(lambda: {n: count(raw(self._reader), n) for n in names})

    @asynccontextmanager
    async def beside(self, path: Path) -> AsyncIterator[Compared]:
        """Give the rows of this moment, however they change, with the database at *path*."""
        connection = await connect(self.path)
        try:
            # What is attached is read as it stands when it is first looked at, not before.
            await connection.execute(f"ATTACH ? AS {FRESH}", (str(path),))
            await connection.execute("BEGIN")
            db = raw(connection)
            positions = {s: await call(connection, position, db, s) for s in STREAMS}
            yield Compared(connection, positions)
        finally:
            await connection.close()

    async def take_over(self, path: Path, tables: Sequence[Table[Row]]) -> None:
        """Put the rows that the database at *path* has in *tables* in place of the own ones.

        It has to stand where this one stands. Raises ``sqlite3.Error``: nothing was changed.
        """
        await call(self._writer, self._take_over, path, tables)

    async def carry_over(self, path: Path, *, before: int) -> None:
        """Take the rows of records of the audit *before* that sequence from the database at *path*.

        Those that are here already stay as they are. Raises ``sqlite3.Error``.
        """
        await call(self._writer, carry_over, raw(self._writer), path, before)

    async def untold(self, limit: int) -> list[ParkedRow]:
        """Return parked messages that have not been put on the audit stream yet."""
        return await self._read(self._untold, limit)

    async def told(self, parked: ParkedRow) -> None:
        """Note that a parked message is on the audit stream."""
        await call(self._writer, self._told, parked)

    async def parked(self) -> dict[str, int]:
        """Return how many messages of each stream were parked in all."""
        return await self._read(self._parked)

    async def _read(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._reader is None:
            raise RuntimeError("the store is not open")
        return await call(self._reader, work, *args, **kwargs)

    async def _look(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Have *work* look at the past, on a thread that keeps nobody waiting who asks for now."""
        if self._looker is None:
            raise RuntimeError("the store is not open")
        return await call(self._looker, work, raw(self._looker), *args, **kwargs)

    def _load(self, table: str, key: str) -> bytes | None:
        row = raw(self._writer).execute(self._lookups[table], (key,)).fetchone()
        return None if row is None else row[0]

    def _prepare(self) -> bool:
        """Create what is missing; say False if the file is of another schema."""
        db = raw(self._writer)
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        if "meta" in names:
            found = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
            if found != (schema_hash(),):
                return False
        elif names:
            return False
        db.execute("BEGIN IMMEDIATE")
        for statement in _definitions():
            db.execute(statement)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (schema_hash(),))
        db.execute("COMMIT")
        for stream, seq, identity, at in db.execute("SELECT * FROM positions"):
            self.positions[stream] = Position(seq, identity, datetime.fromisoformat(at))
        self._rows = Rows(self._load, complete=not any(p.seq for p in self.positions.values()))
        return True

    def _apply(self, stream: str, batch: Sequence[Stored]) -> None:
        db = raw(self._writer)
        before = self.positions[stream]
        fresh = [stored for stored in batch if stored.seq > before.seq]
        if not fresh:
            return
        fold = fold_event if stream == EVENTS else fold_record
        reached, latest = before.seq, before.at or fresh[0].at
        db.execute("BEGIN IMMEDIATE")
        try:
            self._alone(db, stream)
            for mark, piece in past.pieces(fresh):
                for stored in piece:
                    fold(self._rows, stored, stream, self.folded[stream])
                self._write(db, mark)
                latest = max(latest, *(stored.at for stored in piece))
                if stream == EVENTS:
                    past.reach(db, piece[-1], latest, reached)
                    reached = piece[-1].seq
                self._rows.settle()
            identity = identity_of(fresh[0]) if not before.seq else before.identity
            after = Position(fresh[-1].seq, identity, latest)
            db.execute(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                (stream, after.seq, identity, latest.isoformat()),
            )
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            self._rows.forget()
            raise
        self.positions[stream] = after

    def _take_over(self, path: Path, tables: Sequence[Table[Row]]) -> None:
        db = raw(self._writer)
        db.execute(f"ATTACH ? AS {FRESH}", (str(path),))
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                take_over(db, tables)
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise
            finally:
                self._rows.forget()
        finally:
            db.execute(f"DETACH {FRESH}")

    def _alone(self, db: sqlite3.Connection, stream: str) -> None:
        if position(db, stream) != self.positions[stream].seq:
            raise SharedError(f"another process keeps the views in {self.path}, too")

    def _write(self, db: sqlite3.Connection, mark: int) -> None:
        """Write the rows changed on the way to *mark*, and keep them as they are there."""
        for name, changed in self._rows.dirty.items():
            gone = [(key,) for key, (_table, row) in changed.items() if row is None]
            if gone:
                db.executemany(f"DELETE FROM {name} WHERE key = ?", gone)  # noqa: S608
            table = next(iter(changed.values()))[0]
            holders = ", ".join("?" * (2 + len(table.columns)))
            records = list(_records(table, changed))
            db.executemany(
                f"INSERT OR REPLACE INTO {name} VALUES ({holders})",  # noqa: S608
                records,
            )
            if name not in WRITTEN_ONCE:
                past.keep(db, name, ((record[0], mark, record[1]) for record in records))
                past.keep(db, name, ((key, mark, None) for (key,) in gone))

    def _index(self) -> None:
        db = raw(self._writer)
        for table, columns in INDEXED.items():
            for column in columns:
                name = f"{table}_by_{column}"
                db.execute(f'CREATE INDEX IF NOT EXISTS {name} ON {table} ("{column}", key)')

    def _find(self, plan: Plan, limit: int, bytes_max: int) -> Found:
        sql, values = plan.sql()
        with snapshot(raw(self._reader)) as db:
            return page(db.execute(sql, values), plan, position(db, EVENTS), limit, bytes_max)

    def _digest(self) -> Digest:
        with snapshot(raw(self._reader)) as db:
            positions = {stream: position(db, stream) for stream in STREAMS}
            tables = {}
            for table in TABLES:
                sha = hashlib.sha256()
                for key, body in db.execute(
                    f"SELECT key, CAST(body AS BLOB) FROM {table.name} ORDER BY key"  # noqa: S608
                ):
                    sha.update(f"{len(key)} {len(body)} {key}".encode() + body)
                tables[table.name] = sha.hexdigest()
        return Digest(positions, tables)

    def _untold(self, limit: int) -> list[ParkedRow]:
        found = raw(self._reader).execute(
            "SELECT body FROM parked WHERE key NOT IN (SELECT key FROM told) ORDER BY key LIMIT ?",
            (limit,),
        )
        return [PARKED.decode(body) for (body,) in found.fetchall()]

    def _told(self, parked: ParkedRow) -> None:
        db = raw(self._writer)
        db.execute(
            "INSERT OR IGNORE INTO told SELECT key FROM parked WHERE stream = ? AND seq = ?",
            (parked.stream, parked.seq),
        )

    def _parked(self) -> dict[str, int]:
        found = raw(self._reader).execute("SELECT stream, count(*) FROM parked GROUP BY stream")
        return dict(found.fetchall())


def _definitions() -> Iterable[str]:
    yield "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
    yield (
        "CREATE TABLE IF NOT EXISTS positions (stream TEXT PRIMARY KEY, seq INTEGER NOT NULL,"
        " identity TEXT NOT NULL, at TEXT NOT NULL)"
    )
    yield "CREATE TABLE IF NOT EXISTS told (key TEXT PRIMARY KEY)"
    yield from past.definitions()
    for table in TABLES:
        columns = "".join(f', "{column}"' for column in table.columns)
        yield (
            f"CREATE TABLE IF NOT EXISTS {table.name}"
            f" (key TEXT PRIMARY KEY, body BLOB NOT NULL{columns})"
        )


def _records(
    table: Table[Row], changed: dict[str, tuple[Table[Row], Row | None]]
) -> Iterable[tuple[Any, ...]]:
    for key, (_table, row) in changed.items():
        if row is not None:
            yield (key, _ENCODE(row), *[_plain(value) for value in table.values(row)])


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value
