"""Data goes to stdout in the form that was asked for; everything else is said on stderr."""

import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hwbus.cli.cells import Brush, Column, Row, Table
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import Format
from hwbus.cli.paint import BOLD, DIM, Pen, plain, strip, width
from hwbus.cli.tables import TABLES
from hwbus.cli.world import World, world
from hwbus.client import Page

_GAP = "  "
_BOOKKEEPING = frozenset({"created_at", "changed_at", "seq", "version"})
_NOTHING = frozenset({"-", "no"})
_STATES = frozenset({"state", "health"})
_HIDDEN = frozenset({"candidates", "steps", "changes"})


def say(text: str) -> None:
    """Say something to the person, on stderr."""
    here = world()
    Pen(here, here.err).line(text)


def print_data(kind: str, items: Sequence[Any], form: Format, *, seq: int = 0) -> None:
    """Print *items* as one JSON or YAML document of the shape every command keeps."""
    then = world().then
    print_document(kind, items, form, seq=seq, **({"at": then} if then is not None else {}))


def print_document(kind: str, items: Sequence[Any], form: Format, *, seq: int, **more: Any) -> None:
    """Print *items* as ``print_data`` does, with *more* said about all of them."""
    here = world()
    document = {"kind": kind, "apiVersion": "v1", "seq": seq, **more, "items": list(items)}
    if form == "yaml":
        here.out.write(msgspec.yaml.encode(document).decode())
    else:
        text = msgspec.json.format(msgspec.json.encode(document), indent=2)
        here.out.write(text.decode() + "\n")


def print_page(view: str, page: Page, form: Format) -> None:
    """Print the rows of a page of *view*."""
    table = TABLES[view]
    if form in {"json", "yaml"}:
        print_data(page.kind, page.items, form, seq=page.seq)
    elif form == "name":
        world().out.writelines(f"{table.name(row)}\n" for row in page.items)
    elif page.items:
        print_table(table, page.items, wide=form == "wide")
    else:
        say(table.none)


def print_table(table: Table, rows: Iterable[Row], *, wide: bool = False) -> None:
    """Print rows in columns: cut to the terminal's width, in full where no terminal is."""
    here = world()
    brush = Brush(Pen(here, here.out), here.then or here.clock.now())
    columns = [column for column in table.columns if wide or not column.wide]
    cells = [[_cell(column, row, brush, whole=wide) for column in columns] for row in rows]
    print_cells(
        [c.title for c in columns], cells, right={i for i, c in enumerate(columns) if c.right}
    )


def _cell(column: Column, row: Row, brush: Brush, *, whole: bool) -> str:
    text = column.cell(row, brush)
    return text if whole or not column.cut or len(text) <= column.cut else _fit(text, column.cut)


def print_cells(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Iterable[int] = ()
) -> None:
    """Print lines of cells under their titles; the columns in *right* end flush."""
    here = world()
    pen = Pen(here, here.out)
    flush = set(right)
    widths = [max(width(title), *(width(row[i]) for row in rows)) for i, title in enumerate(titles)]
    room = _room(here, pen)
    for n, row in enumerate((tuple(titles), *rows)):
        parts = [
            _padded(cell, widths[i], flush=i in flush, last=i == len(titles) - 1)
            for i, cell in enumerate(row)
        ]
        line = _fit(_GAP.join(parts).rstrip(), room)
        pen.line(pen.colour(line, BOLD) if n == 0 else line)


def _room(here: World, pen: Pen) -> int:
    if not pen.terminal:
        return 0
    columns = here.env.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() else shutil.get_terminal_size().columns


def _padded(cell: str, to: int, *, flush: bool, last: bool) -> str:
    blank = " " * (to - width(cell))
    if flush:
        return blank + cell
    return cell if last else cell + blank


def _fit(line: str, room: int) -> str:
    if not room or width(line) <= room:
        return line
    # Colours may be lost by the cut: a line too long for its terminal is rare enough.
    return strip(line)[: max(0, room - 1)] + "…"


def print_fields(row: Row, *, hide: Iterable[str] = (), everything: bool = False) -> None:
    """Print one row as a list of its fields; empty ones only if *everything* is wanted."""
    here = world()
    pen = Pen(here, here.out)
    hidden = _HIDDEN | set(hide)
    ordered = sorted(row, key=_BOOKKEEPING.__contains__)
    shown = {
        key: row[key]
        for key in ordered
        if key not in hidden and (everything or plain(key, row[key]) not in _NOTHING)
    }
    widest = max((len(key) for key in shown), default=0)
    for key, value in shown.items():
        title = key.removesuffix("_bytes").removesuffix("_at").replace("_", " ")
        text = pen.state(str(value)) if key in _STATES else plain(key, value)
        pen.line(f"{pen.colour(title.ljust(widest), DIM)}{_GAP}{text}")


def heading(text: str) -> None:
    """Print the title of a further part of what is shown."""
    here = world()
    pen = Pen(here, here.out)
    pen.line()
    pen.line(pen.colour(text, BOLD))


def only_one(view: str, page: Page, what: str) -> Row:
    """Return the row of a page that should have one. Raises ``FailureError``: there is none."""
    if not page.items:
        raise FailureError(
            Exit.NOT_FOUND, f"there is no {what}", fix=f"List what there is: {_LISTING[view]}"
        )
    return page.items[0]


_LISTING = {
    "nodes": "hwbus node ls",
    "disks": "hwbus disk ls",
    "pools": "hwbus pool ls",
    "volume": "hwbus volume ls",
    "snapshots": "hwbus snapshot ls",
    "groups": "hwbus group ls",
    "schedules": "hwbus schedule ls",
    "qos": "hwbus qos class ls",
    "protections": "hwbus protection ls",
    "approvals": "hwbus approval ls --all",
    "targets": "hwbus backup target ls",
    "backups": "hwbus backup ls",
    "operation": "hwbus op ls --all",
}
