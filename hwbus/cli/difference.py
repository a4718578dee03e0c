"""What is different between two points in time: what came, what went, and what changed how."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from hwbus.cli.cells import Column, Row, Table
from hwbus.cli.exits import Exit
from hwbus.cli.options import OPTIONS, Options, Point, PointInTime
from hwbus.cli.output import print_document, print_table, say
from hwbus.cli.paint import clean, local, plain
from hwbus.cli.reading import note_behind
from hwbus.cli.session import conversation, own_writes, print_call, run
from hwbus.cli.tables import TABLES
from hwbus.cli.world import world
from hwbus.client import Client, Page, query_call

Kind = Literal[
    "node",
    "disk",
    "pool",
    "volume",
    "replica",
    "snapshot",
    "policy",
    "group",
    "schedule",
    "qos",
    "protection",
    "approval",
    "target",
    "backup",
    "op",
    "drift",
    "usage",
]
VIEWS: dict[str, str] = {
    "node": "nodes",
    "disk": "disks",
    "pool": "pools",
    "volume": "volumes",
    "replica": "replicas",
    "snapshot": "snapshots",
    "policy": "policies",
    "group": "groups",
    "schedule": "schedules",
    "qos": "qos",
    "protection": "protections",
    "approval": "approvals",
    "target": "targets",
    "backup": "backups",
    "op": "operations",
    "drift": "drift",
    "usage": "usage",
}
# Sums of what the rows of pools and volumes say already.
_UNLESS_NAMED = frozenset({"usage"})
# These change with every commit, and say nothing about what did.
_UNTOLD = frozenset({"created_at", "changed_at", "seq", "version"})
_LONG = 60


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """One field, as it was at the one point and as it was at the other."""

    field: str
    before: Any
    after: Any


class Different(msgspec.Struct, frozen=True, kw_only=True):
    """One object that is not the same at both points."""

    kind: str
    object: str
    change: Literal["added", "removed", "changed"]
    fields: tuple[Changed, ...]


def diff(
    *,
    from_: Annotated[PointInTime, Parameter(name="--from")],
    to: Annotated[PointInTime | None, Parameter(name="--to")] = None,
    kind: Annotated[
        list[Kind] | None,
        Parameter(
            name="--kind",
            negative=(),
            consume_multiple=True,
            help="Only of this kind, may be repeated. [default: all but usage]",
        ),
    ] = None,
    options: Options = OPTIONS,
) -> int:
    """Show what is different between two points in time; without --to, between then and now.

    A point is written as for --at of every list: 4711, 15m or 2026-11-23T02:13:00Z.
    """
    kinds: Sequence[str] = kind or [name for name in VIEWS if name not in _UNLESS_NAMED]
    if options.show_call:
        for point in (from_, to):
            print_call(query_call(VIEWS[kinds[0]], at=point), options)
        return Exit.OK
    earlier, later, found = run(_compared(from_, to, kinds, options))
    if options.output in {"json", "yaml"}:
        ends = {"from": _told(earlier), "to": _told(later)}
        print_document("Differences", found, options.output, seq=later.seq, **ends)
    elif options.output == "name":
        world().out.writelines(f"{clean(each.object)}\n" for each in found)
    else:
        say(f"from seq {earlier.seq}, {_when(earlier)} to seq {later.seq}, {_when(later)}")
        if found:
            print_table(_DIFFERENCES, _lines(found, whole=options.output == "wide"))
        else:
            say("nothing is different")
    return Exit.OK


async def _compared(
    from_: Point, to: Point | None, kinds: Sequence[str], options: Options
) -> tuple[Page, Page, list[Different]]:
    async with conversation(options) as client:
        earlier = await client.at_point(from_).query("nodes", limit=1)
        if to is None:
            now = await client.query("nodes", limit=1, min_seq=own_writes(options))
            note_behind(now)
            to = now.seq
        later = await client.at_point(to).query("nodes", limit=1)
        found: list[Different] = []
        for kind in kinds:
            before = await _rows(client.at_point(earlier.seq), VIEWS[kind])
            after = await _rows(client.at_point(later.seq), VIEWS[kind])
            found += differences(kind, before, after)
    return earlier, later, found


async def _rows(client: Client, view: str) -> dict[str, Row]:
    page = await client.query_all(view)
    return {name_in(view, row): row for row in page.items}


def name_in(view: str, row: Row) -> str:
    """Return what a row of *view* is called there, and nothing else is."""
    name = TABLES[view].name(row)
    # Two nodes may say the same of one object, such as a disk that both see.
    return f"{name} on {row.get('node')}" if view == "drift" else name


def differences(kind: str, was: Mapping[str, Row], now: Mapping[str, Row]) -> Iterator[Different]:
    """Yield what is different between two sets of rows of one kind, by name."""
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        fields = tuple(_fields(before or {}, after or {}))
        if before is None or after is None:
            change: Literal["added", "removed"] = "added" if before is None else "removed"
            yield Different(kind=kind, object=name, change=change, fields=fields)
        elif fields:
            yield Different(kind=kind, object=name, change="changed", fields=fields)


def _fields(before: Row, after: Row) -> Iterator[Changed]:
    for field in dict.fromkeys((*before, *after)):
        if field not in _UNTOLD and before.get(field) != after.get(field):
            yield Changed(field=field, before=before.get(field), after=after.get(field))


def _told(page: Page) -> dict[str, Any]:
    return {"seq": page.seq, "at": page.at}


def _when(page: Page) -> str:
    return local(page.at)


def _lines(found: list[Different], *, whole: bool) -> Iterator[dict[str, Any]]:
    """Give one line a field; of what came or went only its state, unless the *whole* is wanted."""
    for each in found:
        shown = each.fields
        if each.change != "changed" and not whole:
            state = tuple(one for one in shown if one.field == "state")
            shown = state or (Changed(field="", before=None, after=None),)
        for one in shown:
            yield {
                "change": each.change,
                "object": clean(each.object),
                "field": one.field,
                "before": plain(one.field, one.before),
                "after": plain(one.field, one.after),
            }


def _column(field: str) -> Column:
    return Column(field.upper(), lambda row, _brush: str(row[field] or "-"), cut=_LONG)


_DIFFERENCES = Table(
    columns=tuple(map(_column, ("change", "object", "field", "before", "after"))),
    name=lambda row: str(row.get("object")),
    none="nothing is different",
)
