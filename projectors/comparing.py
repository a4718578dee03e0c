"""Two databases of views, row by row: what is kept beside what the log makes of it."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from projectors.tables import AUDIT, PARKED, WRITTEN_ONCE, Table
from schemas.operation_views import AuditKind
from schemas.upkeep import RowDiffers
from schemas.views import Row

FRESH = "fresh"
# Their sequence is one of the events, of which nothing is ever taken out.
_OF_EVENTS = (AuditKind.ACCEPTED.value, AuditKind.UNKNOWN.value)
# What is told has to fit into one message.
_SIDES_MAX = 400_000


def name_of(table: Table[Row]) -> str:
    """Return what a table is called by people."""
    return table.name.replace("_", "-")


def differences(
    db: sqlite3.Connection, tables: Sequence[Table[Row]], *, at_most: int
) -> tuple[int, tuple[RowDiffers, ...]]:
    """Return how many rows of *tables* differ from those of the attached database, and the first.

    What rows were in the past is compared with the row that is.
    """
    many, size, found = 0, 0, list[RowDiffers]()
    for table in tables:
        for differs in _of_table(db, table):
            many += 1
            size += len(differs.kept or "") + len(differs.made or "")
            if len(found) < at_most and (not found or size < _SIDES_MAX):
                found.append(differs)
    return many, tuple(found)


def _of_table(db: sqlite3.Connection, table: Table[Row]) -> Iterator[RowDiffers]:
    columns = ("body", *(f'"{column}"' for column in table.columns))
    for key, kept, made in db.execute(_sql(table.name, ("key",), columns)):
        yield RowDiffers(view=name_of(table), key=key, kept=_text(kept), made=_text(made))
    if table.name in WRITTEN_ONCE:
        return
    past = _sql(f"past_{table.name}", ("key", "mark"), ("body",))
    for key, mark, kept, made in db.execute(past):
        about = {"view": name_of(table), "key": key, "past": mark}
        yield RowDiffers(**about, kept=_text(kept), made=_text(made))


def _sql(table: str, keys: Sequence[str], columns: Sequence[str]) -> str:
    """Return what finds rows of the main database that are missing or others in the fresh one."""
    of_kept = ", ".join(f"kept.{key}" for key in keys)
    of_made = ", ".join(f"made.{key}" for key in keys)
    same = " AND ".join(f"made.{key} = kept.{key}" for key in keys)
    differ = " OR ".join(f"kept.{column} IS NOT made.{column}" for column in columns)
    return (
        f"SELECT {of_kept}, kept.body, made.body FROM main.{table} AS kept"  # noqa: S608
        f" LEFT JOIN {FRESH}.{table} AS made ON {same} WHERE made.key IS NULL OR {differ}"
        f" UNION ALL SELECT {of_made}, NULL, made.body FROM {FRESH}.{table} AS made"
        f" WHERE NOT EXISTS (SELECT 1 FROM main.{table} AS kept WHERE {same})"
    )


def _text(body: object) -> str | None:
    if body is None:
        return None
    return body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)


def count(db: sqlite3.Connection, table: str) -> int:
    """Return how many rows a table has."""
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def take_over(db: sqlite3.Connection, tables: Sequence[Table[Row]]) -> None:
    """Put the rows of the attached database, past and present, in place of those of *tables*."""
    for table in tables:
        names = [table.name]
        if table.name not in WRITTEN_ONCE:
            names.append(f"past_{table.name}")
        for name in names:
            db.execute(f"DELETE FROM main.{name}")  # noqa: S608
            db.execute(f"INSERT INTO main.{name} SELECT * FROM {FRESH}.{name}")  # noqa: S608


def carry_over(db: sqlite3.Connection, path: Path, before: int) -> None:
    """Take what the database at *path* has of records of the audit stream *before* a sequence.

    What a row is of is told by its kind: keys are made otherwise for logins and parked messages.
    """
    last = f"{before:020}"
    db.execute("ATTACH ? AS kept", (str(path),))
    try:
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            f"INSERT OR IGNORE INTO main.{AUDIT.name} SELECT * FROM kept.{AUDIT.name}"  # noqa: S608
            " WHERE kind NOT IN (?, ?) AND seq < ?",
            (*_OF_EVENTS, before),
        )
        for table in (PARKED.name, "told"):
            db.execute(
                f"INSERT OR IGNORE INTO main.{table} SELECT * FROM kept.{table}"  # noqa: S608
                " WHERE key >= 'audit/' AND key < 'audit/' || ?",
                (last,),
            )
        db.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise
    finally:
        db.execute("DETACH kept")
