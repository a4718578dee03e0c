"""From a question to a plan: what a view may be asked is known before the database is."""

import base64
import binascii
from datetime import datetime

import msgspec

from projectors.audit import moment
from projectors.tables import (
    AUDIT,
    BACKUPS,
    DISKS,
    DRIFT,
    DRIFT_PAST,
    GROUPS,
    NODES,
    OPERATIONS,
    PARKED,
    POLICIES,
    POOLS,
    QOS,
    REPLICAS,
    SCHEDULES,
    SNAPSHOTS,
    TARGETS,
    USAGE,
    VOLUMES,
    Table,
)
from schemas.queries import COLUMNS, SEQ_MAX, Query, Value
from schemas.views import Row

_ASKED: dict[str, Table[Row]] = {
    "nodes": NODES,
    "disks": DISKS,
    "pools": POOLS,
    "volumes": VOLUMES,
    "volume": VOLUMES,
    "replicas": REPLICAS,
    "snapshots": SNAPSHOTS,
    "policies": POLICIES,
    "groups": GROUPS,
    "schedules": SCHEDULES,
    "qos": QOS,
    "targets": TARGETS,
    "backups": BACKUPS,
    "operations": OPERATIONS,
    "operation": OPERATIONS,
    "audit": AUDIT,
    "usage": USAGE,
    "drift": DRIFT,
    "drift-past": DRIFT_PAST,
    "parked": PARKED,
}
_ALONE = {"volume": "name", "operation": "id"}


class UnaskableError(Exception):
    """The question cannot be put to this view; the text says why, ``fix`` what can."""

    def __init__(self, because: str, fix: str) -> None:
        super().__init__(because)
        self.fix = fix


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of which table, in its order, behind which key."""

    table: str
    newest_first: bool
    equal: tuple[tuple[str, Value], ...] = ()
    since: str = ""
    until: str = ""
    behind: str = ""
    text: bytes = b""

    def sql(self) -> tuple[str, list[Value]]:
        """Return the statement and its values; names in it come from the tables alone."""
        terms = [f'"{column}" = ?' for column, _value in self.equal]
        values: list[Value] = [value for _column, value in self.equal]
        comparison = "<" if self.newest_first else ">"
        bounds = (("key >= ?", self.since), ("key < ?", self.until))
        for term, value in (*bounds, (f"key {comparison} ?", self.behind)):
            if value:
                terms.append(term)
                values.append(value)
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        order = "DESC" if self.newest_first else "ASC"
        return f"SELECT key, body FROM {self.table}{where} ORDER BY key {order}", values  # noqa: S608


def plan(view: str, query: Query) -> Plan:
    """Return how *view* answers *query*.

    Raises:
        UnaskableError: no such view or column, or a cursor or moment that is none.
    """
    table = _ASKED.get(view)
    if table is None:
        raise UnaskableError(f"there is no view {view!r}", f"views: {', '.join(COLUMNS)}")
    columns = COLUMNS[view]
    for column in query.where:
        if column not in columns:
            raise UnaskableError(
                f"{view} cannot be asked by {column[:80]!r}", f"columns: {', '.join(columns)}"
            )
    for column, value in query.where.items():
        if isinstance(value, int) and abs(value) > SEQ_MAX:
            raise UnaskableError(f"{column} is never so large", "give a number of at most 2^63 - 1")
    alone = _ALONE.get(view)
    if alone is not None and alone not in query.where:
        raise UnaskableError(
            f"{view} shows one: say which", f'for example {{"where": {{"{alone}": "..."}}}}'
        )
    return Plan(
        table=table.name,
        newest_first=table.newest_first,
        equal=tuple((c, v) for c, v in query.where.items() if c in table.columns),
        since=_moment(query.where.get("since")),
        until=_moment(query.where.get("until")),
        text=str(query.where.get("text", "")).lower().encode(),
        behind=read_cursor(query.cursor),
    )


def _moment(value: Value | None) -> str:
    if value is None:
        return ""
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise _no_moment(value) from error
    if at.tzinfo is None:
        raise _no_moment(value)
    return moment(at)


def _no_moment(value: Value) -> UnaskableError:
    return UnaskableError(f"{str(value)[:80]!r} is no moment", "for example 2026-11-23T02:13:00Z")


def cursor(key: str) -> str:
    """Return *key* as what is given out to go on behind it."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def read_cursor(text: str) -> str:
    """Return the key of a cursor. Raises ``UnaskableError`` if it is none of ours."""
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise UnaskableError(
            f"{text[:80]!r} is no cursor", "give the `next` of the page before, unchanged"
        ) from error
