"""What may be said to every command, and how what is written becomes a value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.token import Token

from hwbus.cli.sizes import parse_size
from hwbus.cli.world import world

# A sequence of the events stream, or a moment in UTC as RFC 3339 writes it.
Point = int | str
Format = Literal["table", "wide", "json", "yaml", "name"]
_EVERYWHERE = Group("Everywhere", sort_key=90)
_CHANGES = Group("Changing something", sort_key=80)
_PAST = Group("The past", sort_key=70)
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SO_LONG_AGO = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,6})?[smhdw]")
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([smhdw]?)")


def parse_duration(text: str) -> float:
    """Return the seconds that *text* (``90``, ``90s``, ``5m``, ``2h``, ``3d``, ``1w``) means.

    Raises:
        ValueError: it is no duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:80]!r} is no duration: write it like 30s, 5m, 2h or 3d")
    return float(match[1]) * _UNITS_S[match[2]]


def parse_moment(text: str, now: datetime) -> datetime:
    """Return the moment that *text* means: so long ago (``2h``), or a date, local without a zone.

    Raises:
        ValueError: it is neither.
    """
    if _DURATION.fullmatch(text.strip()) is not None:
        return now - timedelta(seconds=parse_duration(text))
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except ValueError as error:
        raise ValueError(
            f"{text[:80]!r} is no moment: write it like 2h, 2026-11-23 or 2026-11-23T02:13Z"
        ) from error


def parse_point(text: str, now: datetime) -> Point:
    """Return the point in the past that *text* means.

    It is a sequence number (``4711``), how long ago (``15m``, ``-2h``: a number with one unit of
    s, m, h, d, w), or an RFC 3339 moment, which says its zone.

    Raises:
        ValueError: it is none of them.
    """
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    try:
        if _SO_LONG_AGO.fullmatch(text):
            then = now - timedelta(seconds=parse_duration(text.removeprefix("-")))
        else:
            then = datetime.fromisoformat(text if _RFC_3339.fullmatch(text) else "")
        return then.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text[:80]!r} is no point in time: write a sequence number (4711), how long ago "
            "(15m, 2h, 3d) or a moment with its zone (2026-11-23T02:13:00Z)"
        ) from error


def _point(_type: Any, tokens: Sequence[Token]) -> Point:
    return parse_point(tokens[0].value, world().clock.now())


def _size(_type: Any, tokens: Sequence[Token]) -> int:
    return parse_size(tokens[0].value)


def seconds(_type: Any, tokens: Sequence[Token]) -> float:
    """Convert an option that is a duration, as a command line library asks for it."""
    return parse_duration(tokens[0].value)


def _whole_seconds(_type: Any, tokens: Sequence[Token]) -> int:
    return round(parse_duration(tokens[0].value))


PointInTime = Annotated[
    Point,
    Parameter(
        converter=_point,
        allow_leading_hyphen=True,
        n_tokens=1,
        accepts_keys=False,
        help="4711 (a sequence), 15m (so long ago) or 2026-11-23T02:13:00Z.",
    ),
]
Size = Annotated[
    int,
    Parameter(
        converter=_size,
        allow_leading_hyphen=True,
        n_tokens=1,
        accepts_keys=False,
        help="How large: 50GiB, 1.5TiB, 500G (10^9) or bytes.",
    ),
]
WholeSeconds = Annotated[int, Parameter(converter=_whole_seconds, n_tokens=1)]
Deadline = Annotated[
    int,
    Parameter(
        converter=_whole_seconds,
        n_tokens=1,
        help="Give up and undo after so long: 90s, 10m. [default: 10m]",
        show_default=False,
    ),
]
CopyDeadline = Annotated[
    int,
    Parameter(
        name="--deadline",
        converter=_whole_seconds,
        n_tokens=1,
        help="Give it up after so long: 12h, 30d. [default: 7d]",
        show_default=False,
    ),
]
LongDeadline = Annotated[
    int,
    Parameter(
        converter=_whole_seconds,
        n_tokens=1,
        help="Give up what has not begun after so long: 10m, 2h. [default: 6h]",
        show_default=False,
    ),
]

Hold = Annotated[
    int,
    Parameter(
        converter=_whole_seconds,
        n_tokens=1,
        help="Keep its data so long, and be able to undelete it: 24h, 7d; 0s: not at all."
        " [default: 24h]",
        show_default=False,
    ),
]


@Parameter(name="*", group=_EVERYWHERE)
@dataclass(frozen=True, kw_only=True)
class Options:
    """What every command understands."""

    output: Annotated[
        Format,
        Parameter(name=["--output", "-o"], help="How to print; json and yaml hold everything."),
    ] = "table"
    server: Annotated[
        str | None,
        Parameter(help="Where NATS is; else HWBUS_SERVER, the current context, or 127.0.0.1:4222."),
    ] = None
    actor: Annotated[
        str | None, Parameter(help="In whose name; else HWBUS_ACTOR, or the user.")
    ] = None
    show_call: Annotated[
        bool, Parameter(negative=(), help="Print the request for the nats tool; do nothing.")
    ] = False


@Parameter(name="*", group=_EVERYWHERE)
@dataclass(frozen=True, kw_only=True)
class Viewing(Options):
    """What every command understands that shows something which also was, once."""

    at: Annotated[
        PointInTime | None,
        Parameter(
            group=_PAST,
            help="As it was: 4711 (a sequence), 15m (so long ago) or 2026-11-23T02:13:00Z.",
        ),
    ] = None


@Parameter(name="*", group=_CHANGES)
@dataclass(frozen=True, kw_only=True)
class Following:
    """What every command understands that can follow what it is about."""

    wait: Annotated[
        bool, Parameter(name=["--wait", "-w"], negative=(), help="Follow the operation to its end.")
    ] = False
    timeout: Annotated[
        float | None,
        Parameter(converter=seconds, n_tokens=1, help="Wait no longer than this: 30s, 5m."),
    ] = None
    id: Annotated[
        str | None,
        Parameter(help="Id of the command: saying it again with the same id is one decision."),
    ] = None
    expect_version: Annotated[
        int | None, Parameter(help="Refuse if the object is at another version.")
    ] = None


@Parameter(name="*", group=_EVERYWHERE)
@dataclass(frozen=True, kw_only=True)
class Counting(Viewing):
    """What every command understands that prints figures: lines of comma-separated values, too."""

    output: Annotated[
        Format | Literal["csv"],
        Parameter(
            name=["--output", "-o"], help="How to print; csv, json and yaml hold everything."
        ),
    ] = "table"  # type: ignore[assignment]  # one form more, and who takes these knows it


@Parameter(name="*", group=_CHANGES)
@dataclass(frozen=True, kw_only=True)
class Change(Following):
    """What every command understands that changes something."""

    plan: Annotated[
        bool, Parameter(negative=(), help="Change nothing: tell what would follow, to its end.")
    ] = False
    at: Annotated[
        PointInTime | None,
        Parameter(help="With --plan, as from then: 4711 (a sequence), 15m or a moment."),
    ] = None


@Parameter(name="*", group=_CHANGES)
@dataclass(frozen=True, kw_only=True)
class ChangeNow(Change):
    """As ``Change``, for a command whose own ``--at`` means something else: it plans from now."""

    at: Annotated[PointInTime | None, Parameter(parse=False)] = None


OPTIONS = Options()
VIEWING = Viewing()
COUNTING = Counting()
FOLLOWING = Following()
CHANGE = Change()
CHANGE_NOW = ChangeNow()


def noun(name: str, help_: str, *, alias: str = "") -> App:
    """Return an empty group of commands, to be filled with verbs."""
    return App(name=name, help=help_, alias=alias or None, version_flags=[])
