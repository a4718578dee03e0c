"""A period of usage: what each account came to at its end, less what it had come to before.

Accounts are asked for as they were at two moments; those that were closed in between tell
themselves. All of it is whole numbers of bytes and microseconds; only what people read is rounded.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from hwbus.client import Client, Page, RefusedQueryError
from schemas.account_view import COUNTED, AccountRow, accrued
from schemas.refusals import Refusal
from schemas.units import Moment

_US = timedelta(microseconds=1)
_US_OF_A_GIB_HOUR = (1 << 30) * 3_600_000_000
Books = Mapping[tuple[str, str], AccountRow]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What one account counted in a period.

    ``byte_us`` are byte-microseconds, ``bytes`` what stood when it ended, ``grown`` by how many
    more these were than when it began. ``room`` is what is allocated and promised together, but
    allocated alone where thin pools are a part of it.
    """

    level: str
    name: str
    uid: str = ""
    closed: bool = False
    byte_us: dict[str, int]
    bytes: dict[str, int]
    grown: dict[str, int]
    uploaded_bytes: int
    freed_bytes: int
    written_bytes: int
    read_bytes: int
    operations: dict[str, int]
    capacity_bytes: int

    @property
    def anything(self) -> bool:
        """Whether anything is to be told of it."""
        counted = (*self.byte_us.values(), *self.bytes.values(), self.capacity_bytes)
        moved = (self.uploaded_bytes, self.freed_bytes, self.written_bytes, self.read_bytes)
        return any((*counted, *moved, *self.operations.values()))

    def room(self, of: Mapping[str, int]) -> int:
        """Return the room in these figures, of the account's own kind."""
        if self.level in {"volume", "namespace", "label"}:
            return of["allocated"] + of["promised"]
        return of["allocated"]


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of a period from ``since`` until before ``until``; ``seq`` is the last commit."""

    since: Moment
    until: Moment
    seq: int
    lines: tuple[Line, ...]

    def of_key(self, key: str) -> "Period":
        """Return the lines of the labels with that key."""
        kept = (line for line in self.lines if line.name.startswith(f"{key}="))
        return msgspec.structs.replace(self, lines=tuple(kept))


def gib_hours(byte_us: int) -> float:
    """Return byte-microseconds as GiB-hours, for people."""
    return byte_us / _US_OF_A_GIB_HOUR


def lines(
    before: Iterable[AccountRow], after: Iterable[AccountRow], since: datetime, until: datetime
) -> tuple[Line, ...]:
    """Return what accounts counted from what they were *before* to what they are *after*."""
    was, now = _by_name(before), _by_name(after)
    told = (_line(was.get(key), row, since, until) for key, row in sorted(now.items()))
    return tuple(line for line in told if line.anything)


def _by_name(rows: Iterable[AccountRow]) -> dict[tuple[str, str], AccountRow]:
    return {(row.name, row.uid): row for row in rows}


def _line(was: AccountRow | None, row: AccountRow, since: datetime, until: datetime) -> Line:
    now = accrued(row, until)
    then = accrued(was, since) if was is not None else None

    def less(field: str) -> int:
        return int(getattr(now, field)) - int(getattr(then, field, 0))

    ended = {
        what: count - (0 if then is None else then.operations.get(what, 0))
        for what, count in sorted(now.operations.items())
    }
    return Line(
        level=row.level.value,
        name=row.name,
        uid=row.uid,
        closed=row.closed,
        byte_us={what: less(f"{what}_byte_us") for what in COUNTED},
        bytes={what: getattr(now, f"{what}_bytes") for what in COUNTED},
        grown={what: less(f"{what}_bytes") for what in COUNTED},
        uploaded_bytes=less("uploaded_bytes"),
        freed_bytes=less("freed_bytes"),
        written_bytes=less("written_bytes"),
        read_bytes=less("read_bytes"),
        operations={what: count for what, count in ended.items() if count},
        capacity_bytes=now.capacity_bytes,
    )


async def period(
    client: Client, level: str, since: datetime, until: datetime | None, now: datetime
) -> Period:
    """Return the period of every account of *level*; without *until* up to *now*."""
    bounds = {"since": _text(since)}
    if until is None:
        page = await client.query("accounts", limit=1)
        if not page.seq:
            return Period(since=since, until=now, seq=0, lines=())
        later = client.at_point(page.seq)
    else:
        later = client.at_point(_just_before(until))
        bounds["until"] = _text(until)
    before = await _before(client, level, since)
    ended = await later.query_all("accounts", {"level": level})
    rows = _rows(ended)
    if level == "volume":
        rows += _rows(await later.query_all("closed-accounts", bounds))
    # A broker whose clock is ahead of ours may have stored something after what is now here.
    ends = until or max((now, *(row.at for row in rows)))
    return Period(since=since, until=ends, seq=ended.seq, lines=lines(before, rows, since, ends))


async def _before(client: Client, level: str, since: datetime) -> list[AccountRow]:
    """Return the accounts as a period that begins then finds them: none before the log begins."""
    try:
        earlier = client.at_point(_just_before(since))
        return _rows(await earlier.query_all("accounts", {"level": level}))
    except RefusedQueryError as error:
        if error.refused.code is Refusal.BEFORE_THE_LOG:
            return []
        raise


def _rows(page: Page) -> list[AccountRow]:
    return [msgspec.convert(item, AccountRow) for item in page.items]


def _just_before(moment: datetime) -> str:
    """Return the last moment before; what happens at the end of a period is of the next one."""
    return _text(moment - _US)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def parsed(item: Mapping[str, Any]) -> AccountRow:
    """Return the row that a view has told."""
    return msgspec.convert(item, AccountRow)
