"""Schedules: snapshots by the clock, of which the newest of each hour, day and week are kept."""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.token import Token

from hwbus.cli.changing import change, confirmed
from hwbus.cli.exits import Exit
from hwbus.cli.nouns import AtGroup, AtVolume, ScheduleName, Yes
from hwbus.cli.options import CHANGE, OPTIONS, VIEWING, Change, Options, Size, Viewing, noun
from hwbus.cli.output import heading, print_table
from hwbus.cli.reading import listing, one, rest, show_row
from hwbus.cli.rhythms import parse_rhythm
from hwbus.cli.session import conversation, print_call, run
from hwbus.cli.tables import TABLES
from hwbus.client import query_call
from schemas.rhythm import Keep, Rhythm
from schemas.schedule import CreateSchedule, PauseSchedule, RemoveSchedule, ResumeSchedule

app = noun("schedule", "Snapshots by the clock.", alias="sched")


def _rhythm(_type: Any, tokens: Sequence[Token]) -> Rhythm:
    return parse_rhythm(tokens[0].value)


Every = Annotated[
    Rhythm,
    Parameter(
        converter=_rhythm,
        n_tokens=1,
        accepts_keys=False,
        help="How often, in UTC: 30m, 1h, daily@02:00, weekly@sun@03:30.",
    ),
]


@app.command(name="ls", alias="list")
def ls(*, volume: AtVolume = None, group: AtGroup = None, options: Viewing = VIEWING) -> int:
    """List the schedules."""
    return listing("schedules", {"volume": volume, "group": group}, options)


@app.command
def show(name: ScheduleName, /, *, options: Viewing = VIEWING) -> int:
    """Show one schedule, what became of its last run, and the snapshots it has taken."""
    if options.show_call:
        return print_call(query_call("schedules", {"name": name}), options)
    return run(_show(name, options))


async def _show(name: str, options: Options) -> int:
    async with conversation(options) as client:
        where = {"name": name}
        page, _ = await one(client, "schedules", where, f"schedule {name[:80]!r}", options)
        if show_row("schedules", page, options):
            kept = await rest(client, "snapshots", {"schedule": name}, page)
            if kept.items:
                heading("Snapshots")
                print_table(TABLES["snapshots"], kept.items)
    return Exit.OK


@app.command
def create(
    name: Annotated[str, Parameter(help="What to call it; its snapshots begin with that.")],
    /,
    *,
    every: Every,
    volume: AtVolume = None,
    group: AtGroup = None,
    keep_hourly: Annotated[int, Parameter(help="Of how many hours the newest is kept.")] = 0,
    keep_daily: Annotated[int, Parameter(help="Of how many days.")] = 0,
    keep_weekly: Annotated[int, Parameter(help="Of how many weeks, Monday to Sunday.")] = 0,
    reserve: Annotated[
        Size | None,
        Parameter(help="Room for what changes in each thick volume. [default: a fifth of it]"),
    ] = None,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Take snapshots of a volume, or of a group, from now on, and delete what need not be kept."""
    word = CreateSchedule(
        schedule=name,
        volume=volume,
        group=group,
        rhythm=every,
        keep=Keep(hourly=keep_hourly, daily=keep_daily, weekly=keep_weekly),
        reserve_bytes=reserve,
    )
    return change(word, options, how)


@app.command
def pause(name: ScheduleName, /, *, options: Options = OPTIONS, how: Change = CHANGE) -> int:
    """Take nothing and delete nothing until it is resumed."""
    return change(PauseSchedule(schedule=name), options, how)


@app.command
def resume(name: ScheduleName, /, *, options: Options = OPTIONS, how: Change = CHANGE) -> int:
    """Go on from now; what was due meanwhile is not made up for."""
    return change(ResumeSchedule(schedule=name), options, how)


@app.command(alias="remove")
def rm(
    name: ScheduleName,
    /,
    *,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Forget a schedule. The snapshots it has taken stay, and nothing deletes them any more."""
    if not options.show_call:
        confirmed(
            name,
            f"This forgets the schedule {name[:80]!r}; its snapshots stay",
            yes=yes or how.plan,
        )
    return change(RemoveSchedule(schedule=name), options, how)
