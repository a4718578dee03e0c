"""The node's own memory: what is wanted, how far it has read, and what it still has to tell."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import msgspec

from node_workers.reports import Letter
from node_workers.wanted import Wanted

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS wanted (key TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS said (key TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, lane TEXT NOT NULL, newest_only INTEGER NOT NULL,
    subject TEXT NOT NULL, headers BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, scan INTEGER NOT NULL, subject TEXT NOT NULL,
    data BLOB NOT NULL);
"""
_INSERT_LETTER = (
    "INSERT INTO letters (lane, newest_only, subject, headers, data) VALUES (?, ?, ?, ?, ?)"
)
_DELETE_OLDER = "DELETE FROM letters WHERE lane = ? AND newest_only"
_DROP_RECORDS = (
    "DELETE FROM records WHERE id IN (SELECT id FROM records ORDER BY scan DESC, id LIMIT ?)"
)
_VERSION = 1
Statement = tuple[str, tuple[Any, ...]]
_WANTED: msgspec.json.Decoder[Wanted] = msgspec.json.Decoder(Wanted)
_HEADERS = msgspec.json.Decoder(dict[str, str])


class NotOursError(Exception):
    """The file belongs to another node, or to a later version of this program."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be kept on the audit stream; ``scan``: it may be dropped before others."""

    subject: str
    data: bytes
    scan: bool = False


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes true together or not at all. None in ``wanted`` and ``said`` is forgetting."""

    position: int | None = None
    wanted: Mapping[str, Wanted | None] = {}
    said: Mapping[str, bytes | None] = {}
    meta: Mapping[str, str] = {}
    letters: tuple[Letter, ...] = ()
    records: tuple[Record, ...] = ()


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All that the file held when it was opened."""

    position: int
    wanted: dict[str, Wanted]
    said: dict[str, bytes]
    meta: dict[str, str]
    letters: tuple[tuple[int, Letter], ...]


class Store:
    """One SQLite file. Every method is one transaction; no crash loses one that returned.

    Nor does a loss of power, unless the disk lies about what it keeps: a node that boots without
    the bus has only this to know by which volumes it has. Were the last transactions missing all
    the same, then all together: the log is read again from an earlier position, and what was
    reported is reported again under the same ids.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._one_at_a_time = asyncio.Lock()

    async def load(self) -> Kept:
        """Return everything but the records, which may be many."""
        meta = {str(key): str(value) for key, value in await self._rows("SELECT * FROM meta")}
        letters = await self._rows("SELECT * FROM letters ORDER BY id")
        return Kept(
            position=int(meta.pop("position", "0")),
            wanted={
                key: _WANTED.decode(data) for key, data in await self._rows("SELECT * FROM wanted")
            },
            said=dict(await self._rows("SELECT * FROM said")),
            meta=meta,
            letters=tuple(
                (
                    number,
                    Letter(
                        lane=lane,
                        newest_only=bool(newest_only),
                        subject=subject,
                        headers=_HEADERS.decode(headers),
                        data=data,
                    ),
                )
                for number, lane, newest_only, subject, headers, data in letters
            ),
        )

    async def commit(self, change: Change) -> tuple[int, ...]:
        """Make *change* true and return the numbers that its letters got."""
        meta = dict(change.meta)
        if change.position is not None:
            meta["position"] = str(change.position)
        statements = [
            *(("INSERT OR REPLACE INTO meta VALUES (?, ?)", pair) for pair in meta.items()),
            *(_put_wanted(key, wanted) for key, wanted in change.wanted.items()),
            *(_put_said(key, data) for key, data in change.said.items()),
            *map(_add_record, change.records),
        ]
        for letter in change.letters:
            if letter.newest_only:
                statements.append((_DELETE_OLDER, (letter.lane,)))
            statements.append((_INSERT_LETTER, _letter_row(letter)))
        cursors = await self._write(statements)
        done = zip(statements, cursors, strict=True)
        return tuple(row for (sql, _), (row, _) in done if sql == _INSERT_LETTER)

    async def remove_letter(self, number: int, records: Sequence[Record] = ()) -> None:
        """Forget an answered letter; *records* say what became of it."""
        forget = ("DELETE FROM letters WHERE id = ?", (number,))
        await self._write([forget, *map(_add_record, records)])

    async def add_records(self, records: Sequence[Record]) -> None:
        """Keep *records* until they are on the audit stream."""
        await self._write([_add_record(record) for record in records])

    async def oldest_records(self, limit: int) -> list[tuple[int, str, bytes]]:
        """Return (number, subject, data) of the records that wait longest."""
        rows = await self._rows(
            "SELECT id, subject, data FROM records ORDER BY id LIMIT ?", (limit,)
        )
        return [(number, subject, data) for number, subject, data in rows]

    async def remove_records(self, numbers: Sequence[int]) -> None:
        """Forget records that are on the audit stream."""
        await self._write([("DELETE FROM records WHERE id = ?", (one,)) for one in numbers])

    async def count_records(self) -> int:
        """Return how many records wait."""
        return int((await self._rows("SELECT count(*) FROM records"))[0][0])

    async def drop_records(self, count: int) -> int:
        """Drop the *count* oldest records, those of scans first; return how many went."""
        ((_, dropped),) = await self._write([(_DROP_RECORDS, (count,))])
        return dropped

    async def close(self) -> None:
        """Return when nothing is being written any longer."""
        async with self._one_at_a_time:
            return

    async def _rows(self, query: str, values: tuple[int, ...] = ()) -> list[tuple[Any, ...]]:
        async with self._one_at_a_time, self._connection.execute(query, values) as cursor:
            return [tuple(row) for row in await cursor.fetchall()]

    async def _write(self, statements: Sequence[Statement]) -> list[tuple[int, int]]:
        """Run *statements* as one transaction; return what each says of (new row, rows changed).

        Whoever is cancelled meanwhile leaves no transaction open behind him.
        """
        return await asyncio.shield(self._transact(statements))

    async def _transact(self, statements: Sequence[Statement]) -> list[tuple[int, int]]:
        async with self._one_at_a_time:
            await self._connection.execute("BEGIN IMMEDIATE")
            try:
                cursors = [await self._connection.execute(*one) for one in statements]
            except sqlite3.Error:
                await self._connection.execute("ROLLBACK")
                raise
            await self._connection.execute("COMMIT")
        return [(cursor.lastrowid or 0, cursor.rowcount) for cursor in cursors]


@asynccontextmanager
async def open_store(
    path: Path,
    *,
    node: str,
    identity: str,
    syncing: bool = True,
    connect: Callable[..., aiosqlite.Connection] = aiosqlite.connect,
) -> AsyncIterator[Store]:
    """Open the file at *path*, made anew under *identity* if there is none.

    Without *syncing* a loss of power may spoil it: for tests, whose machines have no power.
    *connect* takes what ``aiosqlite.connect`` takes.

    Raises:
        NotOursError: it was written by another node, or in a later format.
    """
    async with connect(path, isolation_level=None) as connection:
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute(f"PRAGMA synchronous = {'FULL' if syncing else 'OFF'}")
        await connection.execute("PRAGMA cache_size = -1024")
        await connection.executescript(_SCHEMA)
        await connection.execute(
            "INSERT OR IGNORE INTO meta VALUES ('node', ?), ('identity', ?), ('version', ?)",
            (node, identity, str(_VERSION)),
        )
        await _refuse_others(connection, path, node)
        store = Store(connection)
        try:
            yield store
        finally:
            await store.close()


async def _refuse_others(connection: aiosqlite.Connection, path: Path, node: str) -> None:
    async with connection.execute("SELECT key, value FROM meta") as cursor:
        meta = {str(row[0]): str(row[1]) for row in await cursor.fetchall()}
    if meta["node"] != node:
        raise NotOursError(f"{path} is the memory of node {meta['node']}, not of {node}")
    if int(meta["version"]) > _VERSION:
        raise NotOursError(f"{path} was written by a later version ({meta['version']})")


def _put_wanted(key: str, wanted: Wanted | None) -> Statement:
    if wanted is None:
        return "DELETE FROM wanted WHERE key = ?", (key,)
    return "INSERT OR REPLACE INTO wanted VALUES (?, ?)", (key, msgspec.json.encode(wanted))


def _put_said(key: str, data: bytes | None) -> Statement:
    if data is None:
        return "DELETE FROM said WHERE key = ?", (key,)
    return "INSERT OR REPLACE INTO said VALUES (?, ?)", (key, data)


def _letter_row(letter: Letter) -> tuple[Any, ...]:
    headers = msgspec.json.encode(letter.headers)
    return letter.lane, letter.newest_only, letter.subject, headers, letter.data


def _add_record(record: Record) -> Statement:
    return (
        "INSERT INTO records (scan, subject, data) VALUES (?, ?, ?)",
        (record.scan, record.subject, record.data),
    )
