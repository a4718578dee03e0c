"""What the audit holds as lines for other programs: one page in memory, however much there is."""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import msgspec
from cyclopts import Parameter

from hwbus.cli.audit import SEARCH, Search
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options
from hwbus.cli.output import say
from hwbus.cli.reading import note_behind
from hwbus.cli.session import conversation, own_writes, print_call, run
from hwbus.cli.world import world
from hwbus.client import query_call
from schemas.operation_views import AuditRow

_FIELDS = AuditRow.__struct_fields__
Line = Callable[[dict[str, Any]], str]


def export(
    *,
    search: Search = SEARCH,
    form: Annotated[
        Literal["jsonl", "csv"], Parameter(name="--format", help="One JSON object a line, or CSV.")
    ] = "jsonl",
    to: Annotated[Path | None, Parameter(help="This file, which must not be there yet.")] = None,
    options: Options = OPTIONS,
) -> int:
    """Write all that was found, the newest first, line by line."""
    where = search.where()
    if options.show_call:
        return print_call(query_call("audit", where), options)
    line: Line = _as_json if form == "jsonl" else _as_csv
    with _open(to) as out:
        if form == "csv":
            out.write(_csv(_FIELDS))
        written = run(_export(where, line, out, options))
    if to is not None:
        say(f"{written} records written to {to}")
    return Exit.OK


@contextmanager
def _open(to: Path | None) -> Iterator[TextIO]:
    if to is None:
        yield world().out
        return
    try:
        with to.open("x", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise FailureError(Exit.USAGE, f"{to} cannot be written: {error}") from error


async def _export(where: dict[str, Any], line: Line, out: TextIO, options: Options) -> int:
    written = 0
    async with (
        conversation(options) as client,
        aclosing(client.pages("audit", where, min_seq=own_writes(options))) as pages,
    ):
        async for page in pages:
            note_behind(page)
            out.writelines(line(row) for row in page.items)
            written += len(page.items)
    return written


def _as_json(row: dict[str, Any]) -> str:
    return msgspec.json.encode(row).decode() + "\n"


def _as_csv(row: dict[str, Any]) -> str:
    return _csv([_cell(row.get(field)) for field in _FIELDS])


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return msgspec.json.encode(value).decode()


def _csv(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)  # as RFC 4180 has it
    return line.getvalue()
