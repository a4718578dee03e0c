"""Usage: how much room there is, who has it, who had it for how long, and when there is none."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Annotated, Literal

from cyclopts import Parameter

from hwbus.cli import accounting, figures
from hwbus.cli.accounting import Period
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.forecasting import Forecast, forecasts
from hwbus.cli.nouns import AtNode, AtPool
from hwbus.cli.options import COUNTING, Counting, Point, PointInTime, WholeSeconds, noun
from hwbus.cli.reading import listing, note_behind
from hwbus.cli.session import conversation, own_writes, print_call, run
from hwbus.cli.world import world
from hwbus.client import Client, Page, query_call

Account = Literal["cluster", "node", "pool", "volume", "namespace", "label", "target"]
Level = Literal[Account, "snapshot", "all"]
Full = Literal["cluster", "node", "pool"]
By = Literal["growth", "size", "snapshots"]
_ACCOUNTS_ONLY = frozenset({"namespace", "label", "target"})
_ROOM_ONLY = frozenset({"snapshot", "all"})
_WEEK_S = 7 * 86_400
_MONTH_S = 30 * 86_400

app = noun("usage", "Who has how much room, had for how long, and when it is full.")


@app.default
def usage(
    *,
    level: Annotated[Level, Parameter(help="Summed up over what.")] = "pool",
    node: AtNode = None,
    pool: AtPool = None,
    label: Annotated[
        str | None, Parameter(help="With --level label: of this key alone, value by value.")
    ] = None,
    from_: Annotated[
        PointInTime | None, Parameter(name="--from", help="Count from then on: 30d, a moment.")
    ] = None,
    to: Annotated[
        PointInTime | None, Parameter(name="--to", help="Until before then; else until now.")
    ] = None,
    options: Counting = COUNTING,
) -> int:
    """Show capacity, what is committed and allocated of it, and what is free.

    With --from show what was taken in a period, and for how long: in GiB-hours for people, in
    byte-microseconds to the last byte with -o csv and -o json. See docs/usage.md.
    """
    if label is not None and level != "label":
        raise _misused("--label narrows down accounts of labels", "say --level label, too")
    if from_ is None:
        return _standing(level, node, pool, to, options)
    if level in _ROOM_ONLY:
        raise _misused(f"there are no accounts of {level}", "--level volume tells of both")
    if node is not None or pool is not None:
        raise _misused("a period is told of a whole level", "--level node or --level pool")
    if options.at is not None:
        raise _misused("a period ends where --to says", "leave --at out")
    if options.show_call:
        for point in (from_, to):
            print_call(query_call("accounts", {"level": level}, at=point), options)
        return Exit.OK
    found = run(_counted(level, from_, to, options))
    figures.print_period(found if label is None else found.of_key(label), options)
    return Exit.OK


@app.command
def top(
    *,
    by: Annotated[By, Parameter(help="What the most is of.")] = "growth",
    level: Annotated[Account, Parameter(help="The most of what.")] = "volume",
    period: Annotated[
        WholeSeconds,
        Parameter(help="Grown since how long ago: 24h, 7d. [default: 7d]", show_default=False),
    ] = _WEEK_S,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="At most so many.")] = 10,
    options: Counting = COUNTING,
) -> int:
    """Show who has grown most, has most, or has most in snapshots."""
    if options.at is not None:
        raise _misused("the top is that of now", "leave --at out")
    if options.show_call:
        return print_call(query_call("accounts", {"level": level}), options)
    since = world().clock.now() - timedelta(seconds=period)
    found = run(_counted(level, _text(since), None, options))
    figures.print_top(found, by, limit, options)
    return Exit.OK


@app.command
def forecast(
    *,
    level: Annotated[Full, Parameter(help="Of what.")] = "pool",
    history: Annotated[
        WholeSeconds,
        Parameter(help="How far back the trend goes: 14d, 90d. [default: 30d]", show_default=False),
    ] = _MONTH_S,
    options: Counting = COUNTING,
) -> int:
    """Show when it will be full if it goes on like this, and where nobody can know."""
    if options.at is not None:
        raise _misused("a forecast is made from now", "leave --at out")
    if options.show_call:
        return print_call(query_call("account-days", {"level": level}), options)
    page, found = run(_foretold(level, timedelta(seconds=history), options))
    figures.print_forecasts(found, page.seq, options)
    return Exit.OK


def _misused(what: str, fix: str) -> FailureError:
    return FailureError(Exit.USAGE, what, fix=fix)


def _standing(
    level: Level, node: str | None, pool: str | None, to: Point | None, options: Counting
) -> int:
    """List what stands now, or stood at one point."""
    if to is not None:
        raise _misused("a period has a beginning", "say --from, for example --from 30d")
    if level in _ACCOUNTS_ONLY:
        raise _misused(
            f"what a {level} has is told over a period", f"hwbus usage --level {level} --from 1h"
        )
    where = {"level": None if level == "all" else level, "node": node, "pool": pool}
    if options.output == "csv":
        raise _misused("csv is printed of periods", "say --from, or -o json")
    return listing("usage", where, options)


async def _counted(level: str, from_: Point, to: Point | None, options: Counting) -> Period:
    now = world().clock.now()
    async with conversation(options) as client:
        since = await _moment(client, from_)
        until = None if to is None else await _moment(client, to)
        if (until or now) <= since:
            raise _misused("the period ends before it begins", "--from is the earlier point")
        # What we have just changed ourselves shall count.
        note_behind(await client.query("accounts", limit=1, min_seq=own_writes(options)))
        return await accounting.period(client, level, since, until, now)


async def _moment(client: Client, point: Point) -> datetime:
    """Return the moment of a point; that of a sequence is when its commit was stored."""
    if isinstance(point, str):
        return datetime.fromisoformat(point)
    page = await client.at_point(point).query("accounts", limit=1)
    if page.at is None:
        raise FailureError(Exit.FAILED, f"the view does not say when {point} was")
    return page.at


async def _foretold(
    level: str, history: timedelta, options: Counting
) -> tuple[Page, Sequence[Forecast]]:
    now = world().clock.now()
    async with conversation(options) as client:
        page = await client.query_all("accounts", {"level": level}, min_seq=own_writes(options))
        note_behind(page)
        past = await client.query_all("account-days", {"level": level})
    days = [accounting.parsed(item) for item in (*past.items, *page.items)]
    days.sort(key=lambda day: (day.name, day.at))
    found = (
        one
        for _name, of_one in groupby(days, key=lambda day: day.name)
        for one in forecasts(list(of_one), now, history)
    )
    return page, tuple(found)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
