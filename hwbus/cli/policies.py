"""Policies: what is done by itself, to what, from when on, how much at a time, and how often."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.token import Token

from hwbus.cli.backtest import backtest
from hwbus.cli.changing import change, confirmed
from hwbus.cli.exits import Exit
from hwbus.cli.nouns import AtGroup, AtNode, AtPool, AtVolume, PolicyName, Why, Yes
from hwbus.cli.options import (
    CHANGE,
    CHANGE_NOW,
    OPTIONS,
    VIEWING,
    Change,
    ChangeNow,
    Options,
    Size,
    Viewing,
    noun,
    parse_duration,
)
from hwbus.cli.output import heading, print_table
from hwbus.cli.reading import listing, one, show_row
from hwbus.cli.rhythms import parse_rhythm
from hwbus.cli.session import conversation, print_call, run
from hwbus.cli.sizes import parse_size
from hwbus.cli.tables import ALARMS
from hwbus.client import query_call
from schemas.disk import DiskClass
from schemas.policy import (
    PausePolicy,
    PolicyKind,
    PolicySpec,
    RemovePolicy,
    ResumePolicy,
    Selector,
    SetPolicy,
)
from schemas.rhythm import Rhythm

app = noun("policy", "What is done by itself: growing, disks in and out, comparing replicas.")
app.command(backtest)
_BY_THE_CLOCK = ("group", "every_s", "offset_s", "at_once", "repair")
_PERCENT = re.compile(r"([0-9]{1,6})%")
_WHOLE = re.compile(r"([0-9]{1,6})%?")

Kind = Literal[
    "grow-volumes",
    "grow-thin-pools",
    "grow-snapshots",
    "add-disks",
    "drain-disks",
    "verify-replicas",
]


def _percent(_type: Any, tokens: Sequence[Token]) -> int:
    match = _WHOLE.fullmatch(tokens[0].value.strip())
    if match is None:
        raise ValueError(f"{tokens[0].value[:80]!r} is no level: write it like 80%")
    return int(match[1])


def _step(_type: Any, tokens: Sequence[Token]) -> str:
    text = tokens[0].value.strip()
    if _PERCENT.fullmatch(text) is None:
        parse_size(text)
    return text


def _seconds(_type: Any, tokens: Sequence[Token]) -> int:
    return round(parse_duration(tokens[0].value))


def _rhythm(_type: Any, tokens: Sequence[Token]) -> Rhythm:
    return parse_rhythm(tokens[0].value)


Every = Annotated[
    Rhythm | None,
    Parameter(
        converter=_rhythm,
        n_tokens=1,
        accepts_keys=False,
        help="How often replicas are compared, in UTC: daily@02:00, weekly@sun@03:30.",
    ),
]
At = Annotated[
    int,
    Parameter(
        name="--at",
        converter=_percent,
        n_tokens=1,
        show_default=False,
        help="How full is too full: 50% to 99%; levels are told in steps of five.",
    ),
]
Step = Annotated[
    str,
    Parameter(
        converter=_step,
        n_tokens=1,
        show_default=False,
        help="How much to grow at a time: 10GiB, or 20% of what there is.",
    ),
]
Ceiling = Annotated[
    Size | None,
    Parameter(help="Never make it, or with add-disks its pool, larger. [default: no ceiling]"),
]
CoolDown = Annotated[
    int,
    Parameter(
        converter=_seconds,
        n_tokens=1,
        show_default=False,
        help="Leave each object alone so long after it was acted on. [default: 10m]",
    ),
]


Media = Annotated[
    Literal["hdd", "ssd", "nvme"] | None,
    Parameter(name="--class", help="The class of the disks that are added."),
]
AtOnce = Annotated[
    int,
    Parameter(show_default=False, help="Compare so many volumes at one time at most. [default: 1]"),
]
Repair = Annotated[
    bool, Parameter(negative=(), help="Have what differs copied from where it is written to.")
]


@app.command(name="ls", alias="list")
def ls(*, options: Viewing = VIEWING) -> int:
    """List the policies."""
    return listing("policies", {}, options)


@app.command
def show(name: PolicyName, /, *, options: Viewing = VIEWING) -> int:
    """Show one policy: what it does, what it did last, and what it cannot do and why."""
    if options.show_call:
        return print_call(query_call("policies", {"name": name}), options)
    return run(_show(name, options))


async def _show(name: str, options: Options) -> int:
    async with conversation(options) as client:
        where = {"name": name}
        page, row = await one(client, "policies", where, f"policy {name[:80]!r}", options)
        hide = () if row["every_s"] else _BY_THE_CLOCK
        if show_row("policies", page, options, hide=hide) and row["alarms"]:
            heading("Alarms")
            print_table(ALARMS, row["alarms"])
    return Exit.OK


@app.command(name="set")
def set_(
    name: Annotated[str, Parameter(help="What to call it.")],
    /,
    *,
    kind: Annotated[Kind, Parameter(help="What it does.")],
    node: AtNode = None,
    pool: AtPool = None,
    volume: AtVolume = None,
    at: At = 0,
    step: Step = "",
    ceiling: Ceiling = None,
    cool_down: CoolDown = 600,
    media: Media = None,
    group: AtGroup = None,
    every: Every = None,
    at_once: AtOnce = 0,
    repair: Repair = False,
    options: Options = OPTIONS,
    how: ChangeNow = CHANGE_NOW,
) -> int:
    """Have something done by itself; of a policy that there is, say all of it anew."""
    if pool is not None and node is None and pool.count("/") == 1:
        node, pool = pool.split("/")
    relative = _PERCENT.fullmatch(step)
    spec = PolicySpec(
        kind=PolicyKind(kind),
        selector=Selector(node=node, pool=pool, volume=volume, group=group),
        threshold_percent=at,
        step_percent=int(relative[1]) if relative else 0,
        step_bytes=parse_size(step) if step and not relative else 0,
        ceiling_bytes=ceiling or 0,
        media=None if media is None else DiskClass(media),
        cool_down_s=cool_down,
        rhythm=every,
        at_once=at_once or int(kind == PolicyKind.VERIFY_REPLICAS.value),
        repair=repair,
    )
    return change(SetPolicy(policy=name, spec=spec), options, how)


@app.command
def pause(
    name: PolicyName,
    /,
    *,
    because: Why = "",
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Have a policy do nothing until it is resumed; no other acts in its place."""
    return change(PausePolicy(policy=name, because=because), options, how)


@app.command
def resume(name: PolicyName, /, *, options: Options = OPTIONS, how: Change = CHANGE) -> int:
    """Have a paused policy go on."""
    return change(ResumePolicy(policy=name), options, how)


@app.command(alias=["rm", "delete"])
def remove(
    name: PolicyName,
    /,
    *,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Do this no more; what a policy has begun is ended."""
    if not options.show_call:
        confirmed(name, f"This removes the policy {name[:80]!r}", yes=yes or how.plan)
    return change(RemovePolicy(policy=name), options, how)
