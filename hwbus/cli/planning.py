"""What would follow: asked of the control plane, which changes nothing, and shown in tables."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from hwbus.cli.cells import Column, Row, Table, text
from hwbus.cli.exits import Exit, FailureError, for_failed_operation, for_refusal
from hwbus.cli.options import Change, Options, Point
from hwbus.cli.output import heading, print_data, print_table, say
from hwbus.cli.paint import GREEN, RED, Pen, clean, local
from hwbus.cli.session import conversation, own_writes, print_call, run
from hwbus.cli.sizes import format_size
from hwbus.cli.world import go_back, world
from hwbus.client import Call, Page
from hwbus.subjects import query
from schemas.refusals import Refusal

ANSWERED_WITHIN_S = 55.0
_BYTES_MAX = 900_000
Step = dict[str, Any]


def planned(steps: Sequence[Step], options: Options, how: Change) -> int:
    """Ask what would follow from *steps*, and print it; returns the exit code."""
    if not how.plan:
        raise FailureError(
            Exit.USAGE, "--at is for a plan: nothing is changed in the past", fix="Add --plan."
        )
    if how.wait or how.id or how.timeout is not None or how.expect_version is not None:
        raise FailureError(
            Exit.USAGE,
            "--plan goes with none of --wait, --timeout, --id and --expect-version",
            fix="Leave them out: nothing is said, so there is nothing to follow or to repeat.",
        )
    return foretold(steps, options, how.at)


def foretold(steps: Sequence[Step], options: Options, at: Point | None) -> int:
    """Ask what would follow from *steps* and print it; without *at* as from now."""
    call = _question(steps, at, 0 if at is not None else own_writes(options))
    if len(call.data) > _BYTES_MAX:
        raise FailureError(
            Exit.USAGE,
            f"the question is {len(call.data)} bytes long, more than the bus carries",
            fix="Plan fewer steps at once.",
        )
    if options.show_call:
        return print_call(call, options)
    page = run(_asked(call, options))
    if page.at is not None:
        go_back(page.at)
    told = page.items[0]
    if options.output in {"json", "yaml"}:
        print_data("Plan", [told], options.output, seq=page.seq)
    elif options.output == "name":
        names = dict.fromkeys(str(move["volume"]) for move in told.get("moves", ()))
        world().out.writelines(f"volume/{clean(name)}\n" for name in names)
    else:
        when = f", {local(page.at)}" if page.at is not None else ""
        say(f"a plan as of seq {page.seq}{when}: nothing was changed")
        _print(told, wide=options.output == "wide")
    return _exit(told)


def _question(steps: Sequence[Step], at: Point | None, min_seq: int) -> Call:
    asked: dict[str, Any] = {"steps": list(steps)}
    asked |= {"at": at} if at is not None else {}
    asked |= {"min_seq": min_seq} if min_seq else {}
    return Call(subject=query("plan"), headers={}, data=msgspec.json.encode(asked))


async def _asked(call: Call, options: Options) -> Page:
    async with conversation(options) as client:
        return await client.ask(call, timeout_s=ANSWERED_WITHIN_S)


def _exit(told: Row) -> int:
    for step in told["steps"]:
        if step.get("code"):
            return for_refusal(Refusal(step["code"]))
    for one in told.get("operations", ()):
        if one.get("outcome") != "completed":
            code = one.get("code")
            return for_failed_operation(Refusal(code) if code else None)
    return Exit.FAILED if told.get("cut_off") else Exit.OK


def _print(told: Row, *, wide: bool) -> None:
    here = world()
    pen = Pen(here, here.out)
    for step in told["steps"]:
        code = step.get("code")
        how = f"refused  {code} {clean(step['because'])}" if code else "accepted"
        pen.line(f"{clean(step['said'])}  {pen.colour(how, RED if code else GREEN)}")
        if code and step.get("fix"):
            pen.line(f"  {clean(step['fix'])}")
    for one in told.get("operations", ()):
        if one.get("outcome") != "completed":
            end = one.get("outcome") or "does not end"
            why = f"  {one.get('code') or ''} {clean(one.get('because') or '')}".rstrip()
            pen.line(f"{clean(one['object'])} {one['kind']} {pen.colour(end, RED)}{why}")
        for leftover in one.get("leftovers") or ():
            pen.line(f"{clean(one['object'])} {one['kind']} leaves {clean(leftover)}")
    for name, title, table in (
        ("moves", "Moves", _MOVES),
        ("pools", "Capacity", _POOLS),
        ("volumes", "Redundancy", _VOLUMES),
    ):
        rows = told.get(name) or []
        if rows:
            heading(title)
            print_table(table, rows, wide=wide)
            _more(told, name, len(rows))
    _events(told, wide=wide)


def _events(told: Row, *, wide: bool) -> None:
    events, counts = told.get("events") or [], told.get("counts") or {}
    if wide and events:
        heading("Events")
        print_table(_EVENTS, events, wide=True)
        _more(told, "events", len(events))
    elif events:
        heading("Events")
        kinds = Counter(str(one["type"]).partition(".")[0] for one in events)
        parts = ", ".join(f"{count} of {kind}" for kind, count in kinds.most_common())
        shown = f"{counts.get('events', 0)}, " if counts.get("events", 0) > len(events) else ""
        here = world()
        Pen(here, here.out).line(f"{shown}{parts}")
    moved = told.get("moved_bytes") or 0
    if moved:
        say(f"{format_size(moved)} would be copied from one place to another")
    if told.get("under_way"):
        say(
            f"note: {len(told['under_way'])} operations were under way; what they still do is "
            "not foreseen"
        )
    if told.get("cut_off"):
        say("note: more would follow than is decided for one plan; what is shown is a part")


def _more(told: Row, name: str, shown: int) -> None:
    count = (told.get("counts") or {}).get(name, shown)
    if count > shown:
        say(f"{count - shown} more of {count} are not shown")


def _place(field: str, title: str) -> Column:
    return Column(title, lambda row, _brush: clean(str(row.get(field) or "-")))


def _size(field: str, title: str) -> Column:
    def cell(row: Row, _brush: object) -> str:
        size_bytes = row.get(field)
        return "-" if size_bytes is None else format_size(size_bytes)

    return Column(title, cell, right=True)


def _figure(field: str, title: str) -> Column:
    def cell(row: Row, _brush: object) -> str:
        figure = row.get(field)
        return "-" if figure is None else str(figure)

    return Column(title, cell, right=True)


_MOVES = Table(
    columns=(
        text("volume"),
        _place("source", "FROM"),
        _place("target", "TO"),
        _size("size_bytes", "SIZE"),
    ),
    name=lambda row: f"volume/{row['volume']}",
    none="nothing moves",
)
_POOLS = Table(
    columns=(
        text("node"),
        text("pool"),
        _size("free_bytes", "FREE"),
        _size("free_after_bytes", "AFTER"),
        _size("thin_free_bytes", "THIN-FREE"),
        _size("thin_free_after_bytes", "AFTER"),
        Column("VOLUMES", lambda row, _brush: str(row.get("claims", 0)), right=True),
        Column("AFTER", lambda row, _brush: str(row.get("claims_after", 0)), right=True),
    ),
    name=lambda row: f"pool/{row['node']}/{row['pool']}",
    none="no pool is another",
)
_VOLUMES = Table(
    columns=(
        text("volume"),
        _place("node", "NODE"),
        _place("node_after", "AFTER"),
        _figure("copies", "COPIES"),
        _figure("copies_after", "AFTER"),
        _figure("survives", "SURVIVES"),
        _figure("survives_after", "AFTER"),
    ),
    name=lambda row: f"volume/{row['volume']}",
    none="nothing is more or less safe",
)
_EVENTS = Table(
    columns=(text("object"), text("type"), text("operation", wide=True)),
    name=lambda row: str(row["object"]),
    none="nothing happens",
)
