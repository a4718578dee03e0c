"""The views on disk: rows and the position they stand for are one transaction, or nothing is.

A whole batch is one function on the connection's own thread; one await a row would be ten times
slower. The file can be thrown away at any time: the log is the truth, and makes it anew.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import aiosqlite
import msgspec
import structlog

from hwbus.ports import Stored
from projectors.asking import Plan
from projectors.fold import Folded, fold_event, fold_record
from projectors.rows import Rows
from projectors.tables import FOLD_VERSION, INDEXED, PARKED, TABLES, Table
from schemas.views import ParkedRow, Row

_LOG = structlog.get_logger("projectors.sqlite")
_ENCODE = msgspec.json.Encoder().encode
_BUSY_S = 30.0
_CACHE_KIB = 16_384
_SCAN_MAX = 100_000
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


class Found(msgspec.Struct, frozen=True):
    """Encoded rows in order, the position they stand for, and where to go on."""

    seq: int
    bodies: list[bytes]
    next_key: str | None


def identity_of(first: Stored) -> str:
    """Return what tells a stream from every other: a fingerprint of its first message."""
    text = f"{first.subject}\n{first.at.isoformat()}\n".encode() + first.data
    return hashlib.sha256(text).hexdigest()


def schema_hash() -> str:
    """Return a fingerprint of all that decides what the database looks like."""
    shape = [(t.name, t.columns, INDEXED.get(t.name), msgspec.json.schema(t.row)) for t in TABLES]
    return hashlib.sha256(_ENCODE([FOLD_VERSION, shape])).hexdigest()


class Store:
    """One database of views: one connection writes, another reads, each on its own thread."""

    def __init__(self, path: Path, writer: aiosqlite.Connection) -> None:
        self.path = path
        self.folded: dict[str, Folded] = {stream: Folded() for stream in STREAMS}
        self.positions: dict[str, Position] = {stream: Position() for stream in STREAMS}
        self._writer = writer
        self._reader: aiosqlite.Connection | None = None
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
        store = cls(path, await _connect(path))
        try:
            kept = await store._call(store._writer, store._prepare)
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
            store = cls(path, await _connect(path))
            await store._call(store._writer, store._prepare)
        store._reader = await _connect(path)
        return store

    async def close(self) -> None:
        """Close both connections, once; what was committed stays."""
        if self._closed:
            return
        self._closed = True
        for connection in (self._reader, self._writer):
            if connection is not None:
                await connection.close()

    async def apply(self, stream: str, batch: Sequence[Stored]) -> None:
        """Fold *batch* of *stream* into the rows and move its position, all or nothing.

        Messages at or below the position are skipped, so that a repetition changes nothing.

        Raises:
            SharedError: another process has moved the position meanwhile.
            sqlite3.Error: the database cannot be written; nothing was changed.
        """
        await self._call(self._writer, self._apply, stream, batch)

    async def find(self, plan: Plan, *, limit: int, bytes_max: int) -> Found:
        """Return the rows of *plan*: at most *limit* of them, and of *bytes_max* together."""
        return await self._read(self._find, plan, limit, bytes_max)

    async def digest(self) -> Digest:
        """Return the positions, and a fingerprint of the rows of every table, at one moment."""
        return await self._read(self._digest)

    async def index(self) -> None:
        """Make the indices. They are left out until the past has been read: that is faster."""
        await self._call(self._writer, self._index)

    async def untold(self, limit: int) -> list[ParkedRow]:
        """Return parked messages that have not been put on the audit stream yet."""
        return await self._read(self._untold, limit)

    async def told(self, parked: ParkedRow) -> None:
        """Note that a parked message is on the audit stream."""
        await self._call(self._writer, self._told, parked)

    async def parked(self) -> dict[str, int]:
        """Return how many messages of each stream were parked in all."""
        return await self._read(self._parked)

    async def _call(
        self,
        connection: aiosqlite.Connection,
        work: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        # aiosqlite offers no public way to run more than one statement in one go on its thread.
        # Shielded: a transaction that has begun is ended whatever becomes of who asked for it.
        running = connection._execute(  # type: ignore[no-untyped-call]  # noqa: SLF001
            work, *args, **kwargs
        )
        return await asyncio.shield(asyncio.ensure_future(running))

    async def _read(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._reader is None:
            raise RuntimeError("the store is not open")
        return await self._call(self._reader, work, *args, **kwargs)

    def _load(self, table: str, key: str) -> bytes | None:
        row = _raw(self._writer).execute(self._lookups[table], (key,)).fetchone()
        return None if row is None else row[0]

    def _prepare(self) -> bool:
        """Create what is missing; say False if the file is of another schema."""
        db = _raw(self._writer)
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
        db = _raw(self._writer)
        before = self.positions[stream]
        fresh = [stored for stored in batch if stored.seq > before.seq]
        if not fresh:
            return
        fold = fold_event if stream == EVENTS else fold_record
        db.execute("BEGIN IMMEDIATE")
        try:
            self._alone(db, stream)
            for stored in fresh:
                fold(self._rows, stored, stream, self.folded[stream])
            self._write(db)
            identity = identity_of(fresh[0]) if not before.seq else before.identity
            after = Position(fresh[-1].seq, identity, fresh[-1].at)
            db.execute(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                (stream, after.seq, identity, fresh[-1].at.isoformat()),
            )
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            self._rows.forget()
            raise
        self._rows.settle()
        self.positions[stream] = after

    def _alone(self, db: sqlite3.Connection, stream: str) -> None:
        if _position(db, stream) != self.positions[stream].seq:
            raise SharedError(f"another process keeps the views in {self.path}, too")

    def _write(self, db: sqlite3.Connection) -> None:
        for name, changed in self._rows.dirty.items():
            gone = [(key,) for key, (_table, row) in changed.items() if row is None]
            if gone:
                db.executemany(f"DELETE FROM {name} WHERE key = ?", gone)  # noqa: S608
            table = next(iter(changed.values()))[0]
            holders = ", ".join("?" * (2 + len(table.columns)))
            db.executemany(
                f"INSERT OR REPLACE INTO {name} VALUES ({holders})",  # noqa: S608
                _records(table, changed),
            )

    def _index(self) -> None:
        db = _raw(self._writer)
        for table, columns in INDEXED.items():
            for column in columns:
                name = f"{table}_by_{column}"
                db.execute(f'CREATE INDEX IF NOT EXISTS {name} ON {table} ("{column}", key)')

    def _find(self, plan: Plan, limit: int, bytes_max: int) -> Found:
        sql, values = plan.sql()
        bodies: list[bytes] = []
        size, scanned, last = 0, 0, ""
        with _snapshot(_raw(self._reader)) as db:
            seq = _position(db, EVENTS)
            for key, body in db.execute(sql, values):
                if scanned == _SCAN_MAX:
                    return Found(seq, bodies, last)
                scanned += 1
                if plan.text and plan.text not in body.lower():
                    last = key
                    continue
                size += len(body) + 1
                if len(bodies) == limit or (bodies and size > bytes_max):
                    return Found(seq, bodies, last)
                bodies.append(body)
                last = key
        return Found(seq, bodies, None)

    def _digest(self) -> Digest:
        with _snapshot(_raw(self._reader)) as db:
            positions = {stream: _position(db, stream) for stream in STREAMS}
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
        found = _raw(self._reader).execute(
            "SELECT body FROM parked WHERE key NOT IN (SELECT key FROM told) ORDER BY key LIMIT ?",
            (limit,),
        )
        return [PARKED.decode(body) for (body,) in found.fetchall()]

    def _told(self, parked: ParkedRow) -> None:
        db = _raw(self._writer)
        db.execute(
            "INSERT OR IGNORE INTO told SELECT key FROM parked WHERE stream = ? AND seq = ?",
            (parked.stream, parked.seq),
        )

    def _parked(self) -> dict[str, int]:
        found = _raw(self._reader).execute("SELECT stream, count(*) FROM parked GROUP BY stream")
        return dict(found.fetchall())


class _snapshot:  # noqa: N801 -- used like a function
    """One moment of the database, for several statements."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN")
        return self._db

    def __exit__(self, *_: object) -> None:
        self._db.execute("COMMIT")


async def _connect(path: Path) -> aiosqlite.Connection:
    connection = aiosqlite.connect(path, isolation_level=None, timeout=_BUSY_S)
    try:
        await connection
    except sqlite3.Error:
        # It only asks its thread to end; a loop that is closed meanwhile would be missed there.
        await asyncio.to_thread(connection._thread.join)  # noqa: SLF001
        raise
    try:
        for pragma in (
            "journal_mode = WAL",
            # Losing the end of the WAL with the power is harmless: the log is read again.
            "synchronous = NORMAL",
            "temp_store = MEMORY",
            f"cache_size = -{_CACHE_KIB}",
        ):
            await connection.execute(f"PRAGMA {pragma}")
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            await connection.close()
            raise
        await connection.close()
        _LOG.warning("views are damaged and made anew", path=str(path), error=str(error))
        remove(path)
        return await _connect(path)
    return connection


def remove(path: Path, *, beside_only: bool = False) -> None:
    """Remove a database with all that SQLite keeps beside it, or only the latter."""
    for suffix in ("-wal", "-shm") if beside_only else ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _raw(connection: aiosqlite.Connection | None) -> sqlite3.Connection:
    """Return the connection beneath, for use on its own thread."""
    if connection is None:
        raise RuntimeError("the store is not open")
    return connection._conn  # noqa: SLF001


def _definitions() -> Iterable[str]:
    yield "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
    yield (
        "CREATE TABLE IF NOT EXISTS positions (stream TEXT PRIMARY KEY, seq INTEGER NOT NULL,"
        " identity TEXT NOT NULL, at TEXT NOT NULL)"
    )
    yield "CREATE TABLE IF NOT EXISTS told (key TEXT PRIMARY KEY)"
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


def _position(db: sqlite3.Connection, stream: str) -> int:
    found = db.execute("SELECT seq FROM positions WHERE stream = ?", (stream,)).fetchone()
    return 0 if found is None else int(found[0])
