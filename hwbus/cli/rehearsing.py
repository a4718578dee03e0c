"""An upgrade rehearsed: what this version makes of a log, beside what the log and its views say."""

import json
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
from cyclopts import Parameter

from hwbus.archive import NoArchiveError
from hwbus.cli.cells import Column, Row, Table
from hwbus.cli.difference import VIEWS, name_in
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options
from hwbus.cli.output import print_document, print_table, say
from hwbus.cli.paint import clean, plain
from hwbus.cli.replaying import opening
from hwbus.cli.session import conversation, run
from hwbus.cli.signing import Keys
from hwbus.cli.sources import Endpoint, Recorded
from hwbus.cli.world import world
from hwbus.client import Client
from hwbus.desk import taking_in_the_past
from hwbus.replaying import recorded as rows_of
from hwbus.replaying.opening import Opened
from hwbus.replaying.player import TABLES, Player
from hwbus.replaying.recorded import About, read, write
from hwbus.replaying.rehearsing import Difference, Findings, Rehearsing

# What a class of service counts is made when it is asked for.
_KINDS = {kind: view for kind, view in VIEWS.items() if kind != "qos"}
_LONG = 60


def export(
    *,
    to: Annotated[Path, Parameter(help="This file, which must not be there yet.")],
    options: Options = OPTIONS,
) -> int:
    """Write the rows of the views, all as they are at one commit, for hwbus rehearse --views."""
    if options.show_call:
        raise FailureError(Exit.USAGE, "an export is many requests: hwbus api asyncapi has them")
    try:
        file = to.open("xb")
    except OSError as error:
        raise FailureError(Exit.USAGE, f"{to} cannot be written: {error}") from error
    with file:
        seq, written = run(_export(file, options))
    say(f"{written} rows as of seq {seq} written to {to}")
    return Exit.OK


async def _export(file: BinaryIO, options: Options) -> tuple[int, int]:
    async with conversation(options) as client:
        now = await client.query("nodes", limit=1)
        about = About(version=version("hwbus"), seq=now.seq, views=tuple(_KINDS.values()))
        async with aclosing(_pages(client.at_point(now.seq))) as pages:
            return now.seq, await write(file, about, pages)


async def _pages(client: Client) -> AsyncGenerator[tuple[str, Any], None]:
    for view in _KINDS.values():
        async with aclosing(client.pages(view, {})) as pages:
            async for page in pages:
                yield view, page.items


def rehearse(
    file: Recorded,
    /,
    *,
    endpoint: Endpoint = "",
    views: Annotated[
        Path | None, Parameter(help="What hwbus projector export wrote, where the log is from.")
    ] = None,
    key: Keys = [],  # noqa: B006 -- cyclopts reads the default, nobody writes to it
    options: Options = OPTIONS,
) -> int:
    """Play a log with this version before it takes over, and tell what comes out otherwise.

    Every commit is read and folded, every command in it decided again, and the rows of --views
    compared with those that come out here. Nothing is changed anywhere. Ends with 1 if anything is
    not as it was.
    """
    if options.show_call:
        raise FailureError(Exit.USAGE, "a rehearsal is no request: it reads a file")
    try:
        recorded = None if views is None else read(views)
    except (OSError, NoArchiveError) as error:
        raise FailureError(Exit.USAGE, f"{views} cannot be compared with: {error}") from error
    with opening(file, endpoint, key) as what, taking_in_the_past():
        findings = _rehearsed(what, recorded)
    _print(findings, what.tape.last, options, compared=bool(recorded))
    return Exit.OK if what.good and not findings.differences else Exit.FAILED


def _rehearsed(what: Opened, recorded: rows_of.Recorded | None) -> Findings:
    tape, player = what.tape, Player(what.tape)
    if recorded is not None and not tape.after <= recorded.about.seq <= tape.last:
        raise FailureError(
            Exit.USAGE,
            f"the rows are as of {recorded.about.seq}, and the log goes up to {tape.last}",
            fix="Write the archive after the rows: hwbus projector export, then audit archive.",
        )
    rehearsing = Rehearsing(player)
    if recorded is not None:
        rehearsing.play(recorded.about.seq)
        _compare(player, recorded, rehearsing.findings)
    rehearsing.play(tape.last)
    if what.fits(player) is False:
        unlike = Difference(
            what="hash",
            seq=player.seq,
            object="everything",
            then=what.hashes[player.seq],
            now=player.hash(),
        )
        rehearsing.findings.add(unlike)
    return rehearsing.findings


def _compare(player: Player, recorded: rows_of.Recorded, findings: Findings) -> None:
    """Compare rows that were recorded with those that are made here."""
    kinds = {view: kind for kind, view in _KINDS.items()}
    for view, rows in recorded.rows.items():
        if view not in kinds:
            findings.add(Difference(what="row", seq=player.seq, object=view, now="no such view"))
            continue
        findings.rows += len(rows)
        made = [_shown(row) for row in player.rows.tables[TABLES[view].name].values()]
        was, now = _by_name(view, rows), _by_name(view, made)
        for name in sorted({*was, *now}):
            for one in _unlike(was.get(name), now.get(name)):
                field, then, here = one
                findings.add(
                    Difference(
                        what="row", seq=player.seq, object=name, field=field, then=then, now=here
                    )
                )


def _by_name(view: str, rows: Iterable[Row]) -> dict[str, Row]:
    """Return rows by what they are called; of two with one name, each is there."""
    found: dict[str, Row] = {}
    for row in sorted(rows, key=msgspec.json.encode):
        name = name_in(view, row)
        if view == "usage":
            name = f"usage of {name}"  # which has a row of its own
        while name in found:
            name += "'"
        found[name] = row
    return found


def _unlike(was: Row | None, now: Row | None) -> Iterator[tuple[str, str, str]]:
    """Give what differs between two rows, field by field: field, then, now."""
    if was is None or now is None:
        yield "", _text(was), _text(now)
        return
    for field in dict.fromkeys((*was, *now)):
        then, here = was.get(field), now.get(field)
        if then != here:
            yield field, _text(then), _text(here)


def _shown(row: Any) -> Row:
    """Return a row as it is shown: as the JSON of it."""
    shown: Row = json.loads(msgspec.json.encode(row))
    return shown


def _text(value: Any) -> str:
    return "nothing" if value is None else msgspec.json.encode(value).decode()


def _print(findings: Findings, seq: int, options: Options, *, compared: bool) -> None:
    found = findings.differences
    if options.output in {"json", "yaml"}:
        told = {**msgspec.to_builtins(findings), "version": version("hwbus")}
        del told["differences"]
        print_document("Rehearsal", found, options.output, seq=seq, **told)
        return
    if options.output == "name":
        world().out.writelines(f"{name}\n" for name in dict.fromkeys(_names(found)))
        return
    say(
        f"{findings.commits} commits read and folded, {findings.decided} commands decided again, "
        f"{findings.rows} rows compared"
    )
    if findings.aside:
        say(f"{findings.aside} were decided beside others, on a state a few commits earlier")
    if findings.unasked:
        say(f"{findings.unasked} commits do not say what was asked, and were not decided again")
    if not compared:
        say("note: no rows were compared: hwbus projector export writes them, --views takes them")
    if not found:
        say(f"all is as it was, up to {seq}")
        return
    print_table(_DIFFERENCES, [msgspec.to_builtins(one) for one in found])
    if findings.untold:
        say(f"{findings.untold} more are not shown")


def _names(found: list[Difference]) -> Iterator[str]:
    return (clean(one.object) for one in found)


def _column(field: str) -> Column:
    return Column(field.upper(), lambda row, _brush: clean(plain(field, row[field])), cut=_LONG)


_DIFFERENCES = Table(
    columns=(
        _column("what"),
        Column("SEQ", lambda row, _brush: str(row["seq"]), right=True),
        *map(_column, ("object", "field", "then", "now")),
    ),
    name=lambda row: str(row["object"]),
    none="all is as it was",
)
