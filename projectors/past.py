"""What the views were: rows that changed are kept at marks, and between two marks the log is read.

A mark is a sequence of the events stream. What a row was at a mark is its newest version that is
kept at that mark or before. So a point in the past costs the events since the mark before it,
folded in memory over the rows as they were there, however long the log is.
"""

import heapq
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from operator import itemgetter

import msgspec

from hwbus.ports import Stored
from projectors import tables
from projectors.asking import Found, Plan, page
from projectors.audit import moment
from projectors.database import position, snapshot
from projectors.fold import Folded, fold_event
from projectors.rows import Rows
from projectors.tables import AUDIT, PARKED, WRITTEN_ONCE, Table
from schemas.operation_views import AuditKind
from schemas.views import Row

# Events between two marks in a log that is not long, and how many marks there are at most: a log
# that outgrows them has every second one taken away. Even, so that the last mark always stays.
EVERY = 1000
MARKS_MAX = 256
_STREAM = "events"
_OF_EVENTS = (AuditKind.ACCEPTED.value, AuditKind.UNKNOWN.value)
_ENCODE = msgspec.json.Encoder().encode


class ThinnedError(Exception):
    """The mark that a point in the past was made from has been taken away: make it again."""


class Then(msgspec.Struct, frozen=True):
    """One point of the past: the rows at the mark *base*, and what was changed since, encoded.

    ``seq`` is the last commit that counts, ``at`` the moment up to which records of the audit
    stream, which has no place in the order of events, are shown.
    """

    seq: int
    at: datetime
    base: int
    changed: dict[str, dict[str, bytes | None]]


def step(position: int) -> int:
    """Return how many events lie between two marks of a log that is *position* long."""
    every = EVERY
    while position > every * MARKS_MAX:
        every *= 2
    return every


def mark_of(seq: int) -> int:
    """Return the mark at which what the event *seq* changed is kept: the next one."""
    every = step(seq)
    return -(-seq // every) * every


def pieces(batch: Iterable[Stored]) -> Iterator[tuple[int, list[Stored]]]:
    """Cut *batch* at the marks: each mark with the messages that lead to it."""
    for mark, messages in itertools.groupby(batch, key=lambda stored: mark_of(stored.seq)):
        yield mark, list(messages)


def definitions() -> Iterator[str]:
    """Yield what makes the tables, if they are not there."""
    yield "CREATE TABLE IF NOT EXISTS moments (seq INTEGER PRIMARY KEY, at TEXT NOT NULL)"
    for table in changing():
        yield (
            f"CREATE TABLE IF NOT EXISTS past_{table.name}"
            " (key TEXT NOT NULL, mark INTEGER NOT NULL, body BLOB, PRIMARY KEY (key, mark))"
        )


def changing() -> list[Table[Row]]:
    """Return the tables of which rows change, so that what they were has to be kept."""
    return [table for table in tables.TABLES if table.name not in WRITTEN_ONCE]


def keep(db: sqlite3.Connection, table: str, versions: Iterable[tuple[str, int, object]]) -> None:
    """Keep what rows are at a mark: (key, mark, body), without a body for what is no more."""
    db.executemany(f"INSERT OR REPLACE INTO past_{table} VALUES (?, ?, ?)", versions)  # noqa: S608


def reach(db: sqlite3.Connection, last: Stored, latest: datetime, before: int) -> None:
    """Note the moment of a mark that is reached with *last*; thin what has become too much.

    It is the *latest* until then: where the broker's clock was set back, time stands still.
    """
    every = step(last.seq)
    if before and step(before) != every:
        _thin(db, every)
    if last.seq % every == 0:
        db.execute("INSERT OR REPLACE INTO moments VALUES (?, ?)", (last.seq, moment(latest)))


def _thin(db: sqlite3.Connection, every: int) -> None:
    """Leave only marks that are *every* so many events apart."""
    db.execute("DELETE FROM moments WHERE seq % ? != 0", (every,))
    for table in changing():
        name = f"past_{table.name}"
        # Of what was kept on the way to one mark the newest counts there, and nothing else does.
        db.execute(
            f"DELETE FROM {name} AS old WHERE mark % ?1 != 0 AND EXISTS (SELECT 1 FROM {name}"  # noqa: S608
            " AS new WHERE new.key = old.key AND new.mark > old.mark"
            " AND new.mark <= (old.mark / ?1 + 1) * ?1)",
            (every,),
        )


def base_of(db: sqlite3.Connection, at: int | datetime) -> int:
    """Return a mark before the sequence *at*, or the last one that is no later than a moment."""
    if isinstance(at, datetime):
        found = db.execute("SELECT max(seq) FROM moments WHERE at <= ?", (moment(at),)).fetchone()
        return int(found[0] or 0)
    every = step(position(db, _STREAM))
    return max(at - 1, 0) // every * every


def make(db: sqlite3.Connection, base: int, messages: Sequence[Stored]) -> Then:
    """Return the point that is reached from the mark *base* by *messages*, of which there are some.

    Raises:
        ThinnedError: *base* is no mark any more.
    """
    with snapshot(db):
        _still(db, base)
        rows = Rows(lambda table, key: _row(db, table, key, base))
        for stored in messages:
            fold_event(rows, stored, _STREAM, Folded())
    changed = {
        name: {key: None if row is None else _ENCODE(row) for key, (_, row) in of_table.items()}
        for name, of_table in rows.dirty.items()
        if name not in WRITTEN_ONCE
    }
    return Then(messages[-1].seq, messages[-1].at, base, changed)


def find(db: sqlite3.Connection, then: Then, plan: Plan, limit: int, bytes_max: int) -> Found:
    """Return the rows of *plan* as they were then: as ``Store.find``. Raises ``ThinnedError``."""
    with snapshot(db):
        _still(db, then.base)
        rows = _once(db, then, plan) if plan.table in WRITTEN_ONCE else _were(db, then, plan)
        return page(rows, plan, then.seq, limit, bytes_max)


def _still(db: sqlite3.Connection, base: int) -> None:
    if base % step(position(db, _STREAM)):
        raise ThinnedError(f"{base} is no mark any more")


def _row(db: sqlite3.Connection, table: str, key: str, base: int) -> bytes | None:
    if table in WRITTEN_ONCE:
        return None
    found = db.execute(
        f"SELECT body FROM past_{table} WHERE key = ? AND mark <= ? ORDER BY mark DESC LIMIT 1",  # noqa: S608
        (key, base),
    ).fetchone()
    return None if found is None else found[0]


def _were(db: sqlite3.Connection, then: Then, plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Give the rows of a table that changes: those at the mark, under those changed since."""
    table = next(each for each in tables.TABLES if each.name == plan.table)
    over = then.changed.get(plan.table, {})
    behind = plan.behind

    def is_behind(key: str) -> bool:
        if key < plan.since or (plan.until and key >= plan.until):
            return False
        return not behind or (key < behind if plan.newest_first else key > behind)

    new = sorted(
        ((key, body) for key, body in over.items() if is_behind(key)),
        key=itemgetter(0),
        reverse=plan.newest_first,
    )
    old = (row for row in _at_mark(db, then.base, plan) if row[0] not in over)
    for key, body in heapq.merge(new, old, key=itemgetter(0), reverse=plan.newest_first):
        if body is not None and _asked_for(table, plan, key, body):
            yield key, body


def _at_mark(db: sqlite3.Connection, base: int, plan: Plan) -> Iterable[tuple[str, bytes | None]]:
    name = f"past_{plan.table}"
    terms, values = "", list[object]([base])
    behind = f"key {'<' if plan.newest_first else '>'} ?"
    bounds = (("key >= ?", plan.since), ("key < ?", plan.until), (behind, plan.behind))
    for term, bound in bounds:
        if bound:
            terms += f" AND {term}"
            values.append(bound)
    for column, value in plan.equal:
        if column == "key":
            terms += " AND key = ?"
            values.append(value)
    order = "DESC" if plan.newest_first else "ASC"
    # SQLite promises that a column beside max() is of the row that has the maximum.
    return db.execute(
        f"SELECT key, body FROM (SELECT key, body, max(mark) FROM {name}"  # noqa: S608
        f" WHERE mark <= ?{terms} GROUP BY key ORDER BY key {order})",
        values,
    )


def _asked_for(table: Table[Row], plan: Plan, key: str, body: bytes) -> bool:
    wanted = dict(plan.equal)
    if wanted.pop("key", key) != key:
        return False
    if not wanted:
        return True
    row = table.decode(body)
    return all(getattr(row, column) == value for column, value in wanted.items())


def _once(db: sqlite3.Connection, then: Then, plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Give the rows of a table whose rows never change: those that were written by then."""
    more: tuple[str, list[object]] = ("", [])
    if plan.table == AUDIT.name:
        holders = ", ".join("?" * len(_OF_EVENTS))
        # Behind the moment that a key begins with stands a '/', which comes before any digit.
        more = (
            f"((kind IN ({holders}) AND seq <= ?) OR (kind NOT IN ({holders}) AND key < ?))",
            [*_OF_EVENTS, then.seq, *_OF_EVENTS, f"{moment(then.at)}0"],
        )
    sql, values = plan.sql(*more)
    for key, body in db.execute(sql, values):
        if plan.table == PARKED.name:
            row = PARKED.decode(body)
            if row.seq > then.seq if row.stream == _STREAM else row.at > then.at:
                continue
        yield key, body
