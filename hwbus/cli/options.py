"""What may be said to every command, and how what is written becomes a value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.token import Token

from hwbus.cli.sizes import parse_size

Format = Literal["table", "wide", "json", "yaml", "name"]
_EVERYWHERE = Group("Everywhere", sort_key=90)
_CHANGES = Group("Changing something", sort_key=80)
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
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


def _size(_type: Any, tokens: Sequence[Token]) -> int:
    return parse_size(tokens[0].value)


def _duration(_type: Any, tokens: Sequence[Token]) -> float:
    return parse_duration(tokens[0].value)


def _whole_seconds(_type: Any, tokens: Sequence[Token]) -> int:
    return round(parse_duration(tokens[0].value))


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


@Parameter(name="*", group=_CHANGES)
@dataclass(frozen=True, kw_only=True)
class Change:
    """What every command understands that changes something."""

    wait: Annotated[
        bool, Parameter(name=["--wait", "-w"], negative=(), help="Follow the operation to its end.")
    ] = False
    timeout: Annotated[
        float | None,
        Parameter(converter=_duration, n_tokens=1, help="Wait no longer than this: 30s, 5m."),
    ] = None
    id: Annotated[
        str | None,
        Parameter(help="Id of the command: saying it again with the same id is one decision."),
    ] = None
    expect_version: Annotated[
        int | None, Parameter(help="Refuse if the object is at another version.")
    ] = None


OPTIONS = Options()
CHANGE = Change()


def noun(name: str, help_: str, *, alias: str = "") -> App:
    """Return an empty group of commands, to be filled with verbs."""
    return App(name=name, help=help_, alias=alias or None, version_flags=[])
