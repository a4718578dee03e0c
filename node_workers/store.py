"""The node's own memory: what is wanted, how far it has read, and what it still has to tell."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import msgspec

from node_workers.reports import Letter
from node_workers.wanted import Wanted, WantedPool, WantedReplica

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
_VERSION = 1
_WANTED: msgspec.json.Decoder[Wanted] = msgspec.json.Decoder(WantedPool | WantedReplica)
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
    """One SQLite file. Every method is one transaction; a crash loses none that returned.

    After a loss of power the last transactions may be missing, all together: the log is then read
    again from an earlier position, and what was reported is reported again under the same ids.
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
        async with self._transaction() as connection:
            if change.position is not None:
                await _put_meta(connection, "position", str(change.position))
            for key, value in change.meta.items():
                await _put_meta(connection, key, value)
            for key, wanted in change.wanted.items():
                await _put(
                    connection,
                    "wanted",
                    key,
                    None if wanted is None else msgspec.json.encode(wanted),
                )
            for key, data in change.said.items():
                await _put(connection, "said", key, data)
            if change.records:
                await _add_records(connection, change.records)
            return tuple([await _add_letter(connection, one) for one in change.letters])

    async def remove_letter(self, number: int, records: Sequence[Record] = ()) -> None:
        """Forget an answered letter; *records* say what became of it."""
        async with self._transaction() as connection:
            await connection.execute("DELETE FROM letters WHERE id = ?", (number,))
            await _add_records(connection, records)

    async def add_records(self, records: Sequence[Record]) -> None:
        """Keep *records* until they are on the audit stream."""
        async with self._transaction() as connection:
            await _add_records(connection, records)

    async def oldest_records(self, limit: int) -> list[tuple[int, str, bytes]]:
        """Return (number, subject, data) of the records that wait longest."""
        rows = await self._rows(
            "SELECT id, subject, data FROM records ORDER BY id LIMIT ?", (limit,)
        )
        return [(number, subject, data) for number, subject, data in rows]

    async def remove_records(self, numbers: Sequence[int]) -> None:
        """Forget records that are on the audit stream."""
        async with self._transaction() as connection:
            await connection.executemany(
                "DELETE FROM records WHERE id = ?", [(number,) for number in numbers]
            )

    async def count_records(self) -> int:
        """Return how many records wait."""
        return int((await self._rows("SELECT count(*) FROM records"))[0][0])

    async def drop_records(self, count: int) -> int:
        """Drop the *count* oldest records, those of scans first; return how many went."""
        async with self._transaction() as connection:
            cursor = await connection.execute(
                "DELETE FROM records WHERE id IN"
                " (SELECT id FROM records ORDER BY scan DESC, id LIMIT ?)",
                (count,),
            )
            return cursor.rowcount

    async def _rows(self, query: str, values: tuple[int, ...] = ()) -> list[tuple[Any, ...]]:
        async with self._one_at_a_time, self._connection.execute(query, values) as cursor:
            return [tuple(row) for row in await cursor.fetchall()]

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._one_at_a_time:
            await self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                await self._connection.execute("ROLLBACK")
                raise
            await self._connection.execute("COMMIT")


@asynccontextmanager
async def open_store(
    path: Path, *, node: str, identity: str, syncing: bool = True
) -> AsyncIterator[Store]:
    """Open the file at *path*, made anew under *identity* if there is none.

    Without *syncing* a loss of power may spoil it: for tests, whose machines have no power.

    Raises:
        NotOursError: it was written by another node, or in a later format.
    """
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        # NORMAL: what is lost with the power is repeated from the log, so no fsync is waited for.
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute(f"PRAGMA synchronous = {'NORMAL' if syncing else 'OFF'}")
        await connection.execute("PRAGMA cache_size = -1024")
        await connection.executescript(_SCHEMA)
        await connection.execute(
            "INSERT OR IGNORE INTO meta VALUES ('node', ?), ('identity', ?), ('version', ?)",
            (node, identity, str(_VERSION)),
        )
        await _refuse_others(connection, path, node)
        yield Store(connection)


async def _refuse_others(connection: aiosqlite.Connection, path: Path, node: str) -> None:
    async with connection.execute("SELECT key, value FROM meta") as cursor:
        meta = {str(row[0]): str(row[1]) for row in await cursor.fetchall()}
    if meta["node"] != node:
        raise NotOursError(f"{path} is the memory of node {meta['node']}, not of {node}")
    if int(meta["version"]) > _VERSION:
        raise NotOursError(f"{path} was written by a later version ({meta['version']})")


async def _put_meta(connection: aiosqlite.Connection, key: str, value: str) -> None:
    await connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


async def _put(connection: aiosqlite.Connection, table: str, key: str, data: bytes | None) -> None:
    if data is None:
        await connection.execute(f"DELETE FROM {table} WHERE key = ?", (key,))  # noqa: S608
    else:
        await connection.execute(
            f"INSERT OR REPLACE INTO {table} VALUES (?, ?)",  # noqa: S608
            (key, data),
        )


async def _add_letter(connection: aiosqlite.Connection, letter: Letter) -> int:
    if letter.newest_only:
        await connection.execute(
            "DELETE FROM letters WHERE lane = ? AND newest_only", (letter.lane,)
        )
    cursor = await connection.execute(
        "INSERT INTO letters (lane, newest_only, subject, headers, data) VALUES (?, ?, ?, ?, ?)",
        (
            letter.lane,
            letter.newest_only,
            letter.subject,
            msgspec.json.encode(letter.headers),
            letter.data,
        ),
    )
    return int(cursor.lastrowid or 0)


async def _add_records(connection: aiosqlite.Connection, records: Sequence[Record]) -> None:
    if records:
        await connection.executemany(
            "INSERT INTO records (scan, subject, data) VALUES (?, ?, ?)",
            [(record.scan, record.subject, record.data) for record in records],
        )
