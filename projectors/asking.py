"""From a question to a plan: what a view may be asked is known before the database is."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from projectors.audit import moment
from projectors.tables import (
    ACCOUNT_DAYS,
    ACCOUNTS,
    APPROVALS,
    AUDIT,
    BACKUPS,
    CLOSED_ACCOUNTS,
    DISKS,
    DRIFT,
    DRIFT_PAST,
    GROUPS,
    NODES,
    OPERATIONS,
    PARKED,
    POLICIES,
    POOLS,
    PROTECTIONS,
    QOS,
    REPLICAS,
    SCHEDULES,
    SNAPSHOTS,
    TARGETS,
    USAGE,
    VOLUMES,
    Table,
)
from schemas.labels import bad_key, bad_value
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
    "protections": PROTECTIONS,
    "approvals": APPROVALS,
    "targets": TARGETS,
    "backups": BACKUPS,
    "operations": OPERATIONS,
    "operation": OPERATIONS,
    "audit": AUDIT,
    "usage": USAGE,
    "accounts": ACCOUNTS,
    "account-days": ACCOUNT_DAYS,
    "closed-accounts": CLOSED_ACCOUNTS,
    "drift": DRIFT,
    "drift-past": DRIFT_PAST,
    "parked": PARKED,
}
_ALONE = {"volume": "name", "operation": "id"}
_SCAN_MAX = 100_000
# Their keys begin with the level, so that those of one need not be looked for among all.
_BY_LEVEL = frozenset({"accounts", "account-days"})
_BEHIND_SLASH = "0"


class _Labelled(msgspec.Struct):
    labels: dict[str, str] = msgspec.field(default_factory=dict)


_LABELLED = msgspec.json.Decoder(_Labelled)


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
    labels: tuple[tuple[str, str], ...] = ()

    def sql(self, further: str = "", given: Sequence[object] = ()) -> tuple[str, list[object]]:
        """Return the statement and its values; names in it come from the tables alone.

        A *further* term comes from the code, never from a question; *given* are its values.
        """
        terms = [f'"{column}" = ?' for column, _value in self.equal]
        values: list[object] = [value for _column, value in self.equal]
        if further:
            terms.append(further)
            values += given
        comparison = "<" if self.newest_first else ">"
        bounds = (("key >= ?", self.since), ("key < ?", self.until))
        for term, value in (*bounds, (f"key {comparison} ?", self.behind)):
            if value:
                terms.append(term)
                values.append(value)
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        order = "DESC" if self.newest_first else "ASC"
        return f"SELECT key, body FROM {self.table}{where} ORDER BY key {order}", values  # noqa: S608


class Found(msgspec.Struct, frozen=True):
    """Encoded rows in order, the position they stand for, and where to go on."""

    seq: int
    bodies: list[bytes]
    next_key: str | None


def page(
    rows: Iterable[tuple[str, bytes]], plan: Plan, seq: int, limit: int, bytes_max: int
) -> Found:
    """Return the first of *rows*: at most *limit* of them, and of *bytes_max* together."""
    bodies: list[bytes] = []
    size, scanned, last = 0, 0, ""
    for key, body in rows:
        if scanned == _SCAN_MAX:
            return Found(seq, bodies, last)
        scanned += 1
        if _left_out(plan, body):
            last = key
            continue
        size += len(body) + 1
        if len(bodies) == limit or (bodies and size > bytes_max):
            return Found(seq, bodies, last)
        bodies.append(body)
        last = key
    return Found(seq, bodies, None)


def _left_out(plan: Plan, body: bytes) -> bool:
    if plan.text and plan.text not in body.lower():
        return True
    return bool(plan.labels) and not (set(plan.labels) <= _LABELLED.decode(body).labels.items())


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
    since, until = (_moment(query.where.get(end)) for end in ("since", "until"))
    level = query.where.get("level")
    if view in _BY_LEVEL and level is not None:
        since, until = f"{level}/", f"{level}{_BEHIND_SLASH}"
    return Plan(
        table=table.name,
        newest_first=table.newest_first,
        equal=tuple((c, v) for c, v in query.where.items() if c in table.columns),
        since=since,
        until=until,
        text=str(query.where.get("text", "")).lower().encode(),
        labels=_labels(query.where.get("selector")),
        behind=read_cursor(query.cursor),
    )


def _labels(selector: Value | None) -> tuple[tuple[str, str], ...]:
    pairs = () if selector is None else tuple(str(selector).split(","))
    for pair in pairs:
        key, equals, value = pair.partition("=")
        wrong = bad_key(key) or bad_value(value) if equals else f"{pair[:80]!r} has no ="
        if wrong:
            raise UnaskableError(f"that is no selector: {wrong}", "for example team=shop,tier=gold")
    return tuple((key, value) for key, _, value in (pair.partition("=") for pair in pairs))


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
