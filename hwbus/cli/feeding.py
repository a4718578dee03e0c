"""Following what is recorded, a line each, until Ctrl-C; then it is said from where to go on."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from hwbus import subjects
from hwbus.cli.audit import FILTERS, Filters
from hwbus.cli.cells import COMMAND_LINE_SHOWN, Brush, object_cell, result_cell, what_cell
from hwbus.cli.events import ByActor, OfObject, OfOperation, Wanted, go_on
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options, parse_point
from hwbus.cli.output import say
from hwbus.cli.paint import DIM, Pen, clean, local
from hwbus.cli.proving import until_of
from hwbus.cli.session import conversation, linked, run
from hwbus.cli.tables import TABLES
from hwbus.cli.world import Link, world
from hwbus.client import subjects_of
from hwbus.ports import EventLog, Stored
from hwbus.streams import AUDIT, EVENTS, Stream
from projectors import audit as rows
from projectors.reading import UnreadableError, read_commit, read_record
from schemas.operation_views import AuditRow

_PLACES = re.compile(r"([0-9]{1,18})/([0-9]{1,18})")
_SEQS = "a sequence (4711), so long ago (15m) or a moment (2026-11-23T02:13:00Z)"
From = Annotated[
    str | None, Parameter(name="--from", help=f"From there on, not from now: {_SEQS}.")
]


def follow_events(
    *,
    start: From = None,
    object_: OfObject = None,
    by: ByActor = None,
    correlation: OfOperation = None,
    options: Options = OPTIONS,
) -> int:
    """Print commits as they are recorded, until Ctrl-C; a JSON object a line with -o json.

    None is left out or comes twice, also when the broker is away for a while.
    """
    wanted = Wanted(object=object_, actor=by, correlation=correlation)
    point = None if start is None else _point(start)
    try:
        filters = subjects_of(object_) if object_ else ()
    except subjects.BadNameError as error:
        raise FailureError(Exit.USAGE, str(error)) from error
    if options.show_call:
        return _show((EVENTS.name, ",".join(filters) or "hwbus.evt.>", point))
    return run(_follow_events(wanted, point, options))


async def _follow_events(wanted: Wanted, point: int | datetime | None, options: Options) -> int:
    async with conversation(options) as client:
        at = await _behind(client.log, point)

        def passed(seq: int) -> None:
            nonlocal at
            at = seq

        work = go_on(client, wanted, at, options, passed)
        return await _until_interrupted(work, lambda: f"hwbus events follow --from {at + 1}")


def follow(
    *,
    start: Annotated[
        str | None,
        Parameter(
            name="--from",
            help=f"From there on, not from now: {_SEQS}, or where it left off (4711/98).",
        ),
    ] = None,
    filters: Filters = FILTERS,
    options: Options = OPTIONS,
) -> int:
    """Print what is decided, refused and run as it is recorded, until Ctrl-C; JSON with -o json.

    Both streams are followed, events and audit. No record is left out or comes twice, also when
    the broker is away for a while. What a commit changed in the views is not told.
    """
    places = None if start is None else _PLACES.fullmatch(start)
    point = None if start is None or places is not None else _point(start)
    if options.show_call:
        pair = (point, point) if places is None else (int(places[1]), int(places[2]))
        calls = zip((EVENTS, AUDIT), pair, strict=True)
        return _show(*((stream.name, stream.subjects[0], at) for stream, at in calls))
    pair_given = None if places is None else (int(places[1]), int(places[2]))
    return run(_follow(filters.where(), pair_given or point, options))


async def _follow(
    where: dict[str, Any], point: int | datetime | tuple[int, int] | None, options: Options
) -> int:
    async with linked(options) as link:
        events, audit = await _sources(link, point)

        async def follow() -> None:
            async with aclosing(in_order((events, audit))) as each:
                async for source, stored in each:
                    row = _row(stored, record=source is audit)
                    if row is not None and takes(where, row):
                        _print(row, options)
                    source.at = stored.seq

        return await _until_interrupted(
            follow(), lambda: f"hwbus audit follow --from {events.at + 1}/{audit.at + 1}"
        )


def _point(text: str) -> int | datetime:
    try:
        point = parse_point(text, world().clock.now())
    except ValueError as error:
        raise FailureError(Exit.USAGE, str(error)) from error
    return point if isinstance(point, int) else datetime.fromisoformat(point)


def _show(*calls: tuple[str, str, int | datetime | None]) -> int:
    for stream, filters, point in calls:
        start = f" --start-sequence {point}" if isinstance(point, int) else ""
        start = f" --start-time {point.isoformat()}" if isinstance(point, datetime) else start
        world().out.write(f"nats sub --stream {stream}{start} '{filters}'\n")
    return Exit.OK


async def _behind(log: EventLog, point: int | datetime | None) -> int:
    """Return the sequence behind which *point* lies; of a moment, that of the last before it."""
    head = await log.head()
    if point is None:
        return head
    if isinstance(point, datetime):
        return await until_of(log, point)
    if point > head + 1:
        raise FailureError(
            Exit.NOT_FOUND,
            f"the log ends at {head}, so there is nothing from {point} on",
            fix="If there once was, the log was made anew or restored: see docs/feeds.md.",
        )
    return max(0, point - 1)


async def _until_interrupted(work: Coroutine[Any, Any, None], go_on: Callable[[], str]) -> int:
    """Do *work* until Ctrl-C, and then say how to go on."""
    try:
        await work
    except asyncio.CancelledError:
        say(f"go on: {go_on()}")
    return Exit.INTERRUPTED


class Source:
    """One of the streams that are followed: read up to ``at``, with a past up to ``head``."""

    def __init__(self, log: EventLog, subject: str, at: int, head: int) -> None:
        self.log = log
        self.subject = subject
        self.at = at
        self.head = head
        self.waiting: deque[Stored] = deque()
        self.read = at

    def take(self, batch: list[Stored]) -> None:
        """Take in what came."""
        self.waiting += batch
        self.read = batch[-1].seq


async def _sources(
    link: Link, point: int | datetime | tuple[int, int] | None
) -> tuple[Source, Source]:
    if isinstance(point, tuple):
        first, second = point
        ends = await _behind(link.log, first), await _behind(link.audit, second)
    elif isinstance(point, int):
        stored = await link.log.get(point)
        # Records have numbers of their own: those stored since that commit was.
        since = None if stored is None else stored.at
        ends = await _behind(link.log, point), await _behind(link.audit, since)
    else:
        ends = await _behind(link.log, point), await _behind(link.audit, point)
    behind_events, behind_audit = ends
    first = await link.audit.first()
    if behind_audit + 1 < first:
        raise FailureError(
            Exit.NOT_FOUND,
            f"the records of the audit up to {first - 1} are archived, and no more in the log",
            fix=f"--from {behind_events + 1}/{first} goes on with those that are left; "
            "the archive has the others.",
        )
    return (
        await _source(link.log, EVENTS, behind_events),
        await _source(link.audit, AUDIT, behind_audit),
    )


async def _source(log: EventLog, stream: Stream, at: int) -> Source:
    newest = await log.last(stream.subjects[0])
    return Source(log, stream.subjects[0], at, newest.seq if newest is not None else 0)


async def in_order(sources: Sequence[Source]) -> AsyncGenerator[tuple[Source, Stored], None]:
    """Yield what is in *sources*, each in its own order, and the past in that of the broker's time.

    What comes from now on is given as it comes.
    """
    async with AsyncExitStack() as stack:
        batches = {
            one: await stack.enter_async_context(
                one.log.follow(after=one.at, subjects=(one.subject,))
            )
            for one in sources
        }
        tasks: dict[Source, asyncio.Task[list[Stored]]] = {}
        try:
            while True:
                for one in sources:
                    if not one.waiting and one not in tasks:
                        tasks[one] = asyncio.create_task(_next(batches[one]))
                due = [tasks[one] for one in tasks if one.read < one.head]
                if due or not any(one.waiting for one in sources):
                    await asyncio.wait(due or tasks.values(), return_when=asyncio.FIRST_COMPLETED)
                for one in [one for one in tasks if tasks[one].done()]:
                    one.take(tasks.pop(one).result())
                if any(one in tasks and one.read < one.head for one in sources):
                    continue
                ready = [one for one in sources if one.waiting]
                if ready:
                    first = min(ready, key=lambda one: one.waiting[0].at)
                    yield first, first.waiting.popleft()
        finally:
            for task in tasks.values():
                task.cancel()
            if tasks:
                await asyncio.wait(tasks.values())


async def _next(batches: AsyncIterator[list[Stored]]) -> list[Stored]:
    return await anext(batches)


def _row(stored: Stored, *, record: bool) -> AuditRow | None:
    """Return what a message says; None: nobody's deed, or the audit tells of it when it is read."""
    try:
        if record:
            change = rows.of_record(stored, read_record(stored))
        else:
            change = rows.of_commit(read_commit(stored), None, None)
    except UnreadableError:
        return None
    row = None if change is None else change.row
    return row if isinstance(row, AuditRow) else None


def takes(where: dict[str, Any], row: AuditRow) -> bool:
    """Say whether *row* is wanted, as the view would."""
    text = str(where.get("text", "")).lower().encode()
    return all(
        getattr(row, column) == value for column, value in where.items() if column != "text"
    ) and (not text or text in msgspec.json.encode(row).lower())


def _print(row: AuditRow, options: Options) -> None:
    here = world()
    pen = Pen(here, here.out)
    told = msgspec.to_builtins(row)
    if options.output in {"json", "yaml"}:
        pen.line(msgspec.json.encode(row).decode())
    elif options.output == "name":
        pen.line(TABLES["audit"].name(told))
    else:
        brush = Brush(pen, here.clock.now())
        about = f"{row.kind:<8}  {clean(row.actor)}  {object_cell(told, brush)}"
        what = what_cell(told, brush)
        if options.output != "wide" and len(what) > COMMAND_LINE_SHOWN:
            what = f"{what[: COMMAND_LINE_SHOWN - 1]}…"
        words = f"{what}  {result_cell(told, brush)}"
        pen.line(f"{row.seq:>8}  {pen.colour(local(row.at), DIM)}  {about}  {words}")
    here.out.flush()
