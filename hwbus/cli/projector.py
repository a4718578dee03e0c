"""The views: which there are, how far behind the log, and whether they say what it says."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from hwbus.cli.cells import Column, Row, Table
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options, noun, seconds
from hwbus.cli.output import print_data, print_table, say
from hwbus.cli.paint import clean, plain
from hwbus.cli.reading import listing
from hwbus.cli.session import conversation, print_call, run
from hwbus.cli.world import world
from hwbus.client import Call, Client
from hwbus.subjects import views as subject_of

app = noun("projector", "The views: how far they are, and whether they are right.")

# Imported when it is named: it knows how all of a log is played.
app.command("hwbus.cli.rehearsing:export", name="export")

_WAIT_MS = 5000
_LOOKS_MAX = 100_000
_SHOWN = 60
Names = Annotated[
    str, Parameter(help="Names of views, as hwbus projector ls shows them; else all.")
]
Patience = Annotated[
    float,
    Parameter(
        name="--timeout",
        converter=seconds,
        n_tokens=1,
        show_default=False,
        help="Wait no longer than this: 30s, 1h. [default: 1h]",
    ),
]


@app.command(name="ls", alias="list")
def ls(*, options: Options = OPTIONS) -> int:
    """List the views: their rows, the versions kept of them, and how far they are.

    An inner one cannot be asked: others are made with it.
    """
    return listing("views", {}, options)


@app.command
def lag(*, options: Options = OPTIONS) -> int:
    """Show how far the views are behind the streams that they are made of."""
    return listing("status", {}, options)


@app.command
def rebuild(*views: Names, timeout: Patience = 3600, options: Options = OPTIONS) -> int:
    """Make views anew from the log and wait for it; meanwhile the old rows answer."""
    if options.show_call:
        return print_call(_begin("rebuild", views), options)
    job = run(_done("rebuild", views, timeout, options))
    if options.output in {"json", "yaml"}:
        print_data("Rebuild", [job], options.output, seq=job["seq"])
    elif options.output == "name":
        world().out.writelines(f"view/{clean(view)}\n" for view in job["views"])
    else:
        say(f"made anew up to seq {job['seq']}: {_extent(job)}")
    return Exit.OK


@app.command
def fsck(*views: Names, timeout: Patience = 3600, options: Options = OPTIONS) -> int:
    """Compare views, and what they were, with what the log makes of them; fail where they differ.

    Nothing is changed: hwbus projector rebuild puts right what is found.
    """
    if options.show_call:
        return print_call(_begin("fsck", views), options)
    job = run(_done("fsck", views, timeout, options))
    differing = int(job["differing"])
    if options.output in {"json", "yaml"}:
        print_data("Fsck", [job], options.output, seq=job["seq"])
    elif options.output == "name":
        world().out.writelines(
            f"{clean(row['view'])}/{clean(row['key'])}\n" for row in job["found"]
        )
    elif differing:
        print_table(_DIFFERING, _lines(job["found"]), wide=options.output == "wide")
    what = f"{_extent(job)}, compared up to seq {job['seq']}"
    if not differing:
        say(f"{what}: all are as the log says")
        return Exit.OK
    shown = len(job["found"])
    more = f", of which {shown} are shown" if shown < differing else ""
    names = " ".join(dict.fromkeys(str(row["view"]) for row in job["found"]))
    say(f"{what}: {differing} differ{more}. Put them right: hwbus projector rebuild {names}")
    return Exit.FAILED


def _extent(job: Row) -> str:
    views, rows = len(job["views"]), int(job["rows"])
    return f"{views} view{'s' * (views != 1)}, {rows} row{'s' * (rows != 1)}"


def _begin(work: str, views: Sequence[str]) -> Call:
    return Call(
        subject=subject_of(work), headers={}, data=msgspec.json.encode({"views": list(views)})
    )


async def _done(work: str, views: Sequence[str], timeout_s: float, options: Options) -> Row:
    """Return the job when it is done. Raises ``FailureError``: it failed, or took too long."""
    clock = world().clock
    began = clock.now()
    async with conversation(options) as client:
        job = await _asked(client, _begin(work, views))
        for _ in range(_LOOKS_MAX):
            if job["state"] != "running" or (clock.now() - began).total_seconds() > timeout_s:
                break
            data = msgspec.json.encode({"job": job["job"], "wait_ms": _WAIT_MS})
            job = await _asked(client, Call(subject=str(job["ask"]), headers={}, data=data))
    if job["state"] == "running":
        raise FailureError(Exit.TIMED_OUT, f"{work} is still going on", fix="It goes on by itself.")
    if job["state"] != "done":
        raise FailureError(
            Exit.FAILED, f"{work} failed: {job['because']}", fix="Look at the control plane's log."
        )
    return job


async def _asked(client: Client, call: Call) -> Row:
    answer = await client.ask(call, timeout_s=_WAIT_MS / 1000 + 10)
    return answer.items[0]


def _lines(found: Sequence[Row]) -> Iterator[Row]:
    """Give one line for each field in which the two sides differ."""
    for row in found:
        name = f"{row['key']} at {row['past']}" if row.get("past") else str(row["key"])
        about = {"view": row["view"], "key": name}
        kept, made = _side(row.get("kept")), _side(row.get("made"))
        if kept is None or made is None:
            there = ["missing" if side is None else "there" for side in (kept, made)]
            yield {**about, "field": "-", "kept": there[0], "log": there[1]}
            continue
        fields = [f for f in dict.fromkeys((*kept, *made)) if kept.get(f) != made.get(f)]
        for field in fields:
            was, shall = plain(field, kept.get(field)), plain(field, made.get(field))
            yield {**about, "field": field, "kept": was, "log": shall}
        if not fields:
            yield {**about, "field": "(a column to find it by)", "kept": "differs", "log": "-"}


def _side(text: Any) -> Row | None:
    if text is None:
        return None
    try:
        told = msgspec.json.decode(text)
    except msgspec.DecodeError:
        told = None
    return told if isinstance(told, dict) else {"(what cannot be read)": text}


def _column(field: str) -> Column:
    return Column(field.upper(), lambda row, _brush: clean(str(row[field])), cut=_SHOWN)


_DIFFERING = Table(
    columns=tuple(map(_column, ("view", "key", "field", "kept", "log"))),
    name=lambda row: f"{row['view']}/{row['key']}",
    none="nothing differs",
)
