"""A SQLite file and its connections, each on a thread of its own."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import aiosqlite
import structlog

_LOG = structlog.get_logger("projectors.sqlite")
_BUSY_S = 30.0
_CACHE_KIB = 16_384
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Give one moment of the database, for several statements."""
    db.execute("BEGIN")
    try:
        yield db
    finally:
        db.execute("COMMIT")


async def connect(path: Path, *, anew: bool = False) -> aiosqlite.Connection:
    """Open the database at *path*; with *anew* one that is damaged is begun anew.

    Raises:
        sqlite3.Error: it cannot be opened, or is damaged.
    """
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
        await connection.close()
        if isinstance(error, sqlite3.OperationalError) or not anew:
            raise
        _LOG.warning("views are damaged and made anew", path=str(path), error=str(error))
        remove(path)
        return await connect(path, anew=True)
    return connection


async def call(
    connection: aiosqlite.Connection, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run *work* on the connection's thread, to its end."""
    # aiosqlite offers no public way to run more than one statement in one go on its thread.
    # Shielded: a transaction that has begun is ended whatever becomes of who asked for it.
    running = connection._execute(  # type: ignore[no-untyped-call]  # noqa: SLF001
        work, *args, **kwargs
    )
    return await asyncio.shield(asyncio.ensure_future(running))


def remove(path: Path, *, beside_only: bool = False) -> None:
    """Remove a database with all that SQLite keeps beside it, or only the latter."""
    for suffix in ("-wal", "-shm") if beside_only else ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def raw(connection: aiosqlite.Connection | None) -> sqlite3.Connection:
    """Return the connection beneath, for use on its own thread."""
    if connection is None:
        raise RuntimeError("the store is not open")
    return connection._conn  # noqa: SLF001


def position(db: sqlite3.Connection, stream: str) -> int:
    """Return the sequence of *stream* up to which the rows stand."""
    found = db.execute("SELECT seq FROM positions WHERE stream = ?", (stream,)).fetchone()
    return 0 if found is None else int(found[0])


class Compared:
    """The rows of a store as they stand at one moment, and another database attached to them."""

    def __init__(self, connection: aiosqlite.Connection, positions: dict[str, int]) -> None:
        self.positions = positions
        self._connection = connection

    async def look(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kw: P.kwargs
    ) -> T:
        """Have *work* look at both, ``main`` and ``fresh``."""
        return await call(self._connection, work, raw(self._connection), *args, **kw)
