"""How values look: a state has a glyph and a colour, a size its unit, a moment its age."""

import unicodedata
from datetime import datetime
from typing import Any, TextIO

import msgspec

from hwbus.cli.sizes import format_size
from hwbus.cli.world import World

GREEN, YELLOW, RED, BLUE, DIM, BOLD = "32", "33", "31", "36", "2", "1"
_GOOD = ("●", "*", GREEN)
_MOVING = ("◐", "~", BLUE)
_CAREFUL = ("▲", "!", YELLOW)
_BAD = ("✖", "x", RED)
_STATES = {
    **dict.fromkeys(("ready", "present", "free", "claimed", "completed", "accepted"), _GOOD),
    **dict.fromkeys(("decided", "tool", "ok", "running-process", "healthy"), _GOOD),
    **dict.fromkeys(("forming", "growing", "provisioning", "deleting", "removing"), _MOVING),
    **dict.fromkeys(("holding", "undeleting"), _MOVING),
    **dict.fromkeys(("attaching", "detaching", "limiting"), _MOVING),
    **dict.fromkeys(("adding-replica", "removing-replica", "handing-over", "tying"), _MOVING),
    **dict.fromkeys(("failing-over", "migrating", "settling-split", "syncing"), _MOVING),
    **dict.fromkeys(("draining", "repairing", "verifying"), _MOVING),
    **dict.fromkeys(("degraded", "apart", "differs"), _CAREFUL),
    **dict.fromkeys(("frozen", "split"), _BAD),
    **dict.fromkeys(("running", "wanted", "resizing", "cancelling", "admitted"), _MOVING),
    **dict.fromkeys(("cordoned", "reserved", "occupied", "cancelled", "expired"), _CAREFUL),
    **dict.fromkeys(("unknown", "advice", "removed", "held"), _CAREFUL),
    **dict.fromkeys(("silent", "gone", "seen-twice", "failed", "refused", "parked"), _BAD),
    **dict.fromkeys(("trouble", "stopped", "failing"), _BAD),
}
_AGES = ((86_400 * 365, "y"), (86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class Pen:
    """Writes to one stream in the manner it can take: glyphs on terminals, colours if liked."""

    def __init__(self, world: World, stream: TextIO) -> None:
        self.stream = stream
        self.terminal = stream.isatty()
        self.colours = world.colours(stream)
        self.utf8 = "utf" in (getattr(stream, "encoding", None) or "ascii").lower()

    def colour(self, text: str, code: str) -> str:
        """Return *text* in a colour, where colours are welcome."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and text else text

    def glyph(self, state: str) -> str:
        """Return the coloured glyph of *state*, in ASCII where nothing else can be shown."""
        fancy, plain, code = _STATES.get(state, ("·", "-", DIM))
        return self.colour(fancy if self.utf8 else plain, code)

    def mark(self, state: str) -> str:
        """Return the glyph and a space on a terminal, nothing elsewhere."""
        return f"{self.glyph(state)} " if self.terminal else ""

    def state(self, state: str) -> str:
        """Return *state* as a cell: glyph and colour on a terminal, the bare word elsewhere."""
        if not self.terminal:
            return state
        return f"{self.glyph(state)} {self.colour(state, _STATES.get(state, ('', '', DIM))[2])}"

    def line(self, text: str = "") -> None:
        """Write one line."""
        self.stream.write(f"{text}\n" if self.utf8 else _ascii(text) + "\n")


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


def width(text: str) -> int:
    """Return how many columns of a terminal *text* takes, colours not counted."""
    plain = strip(text)
    if plain.isascii():
        return len(plain)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in plain
    )


def strip(text: str) -> str:
    """Return *text* without colours."""
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


def moment(value: Any) -> datetime | None:
    """Return the moment that a JSON value holds, if it does."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not value:
        return None
    try:
        return msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return None


def age(since: Any, now: datetime) -> str:
    """Return how long ago *since* was, in its two largest units at most: ``3d``, ``2h5m``."""
    then = moment(since)
    if then is None:
        return ""
    left = max(0, int((now - then).total_seconds()))
    for size, unit in _AGES:
        if left >= size:
            return f"{left // size}{unit}"
    return "0s"


def local(value: Any, zone: Any = None) -> str:
    """Return a moment in the local zone, as people read it; *zone* takes the place of local."""
    then = moment(value)
    if then is None:
        return ""
    return then.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def clean(text: str) -> str:
    """Return *text* with control characters made visible: what others wrote must not move us."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def plain(field: str, value: Any) -> str:
    """Return the value of *field* for people: sizes with units, moments local, lists joined."""
    match value:
        case None | "" | () | []:
            return "-"
        case datetime():
            return local(value)
        case bool():
            return "yes" if value else "no"
        case int() if field.endswith("_bytes"):
            return format_size(value)
        case int() if field.endswith("_bytes_per_s"):
            return f"{format_size(value)}/s"
        case float() if field.endswith("_ratio"):
            return f"{value * 100:.1f}%"
        case list() | tuple():
            return ", ".join(plain("", each) for each in value)
        case dict():
            return ", ".join(f"{key}={plain(key, each)}" for key, each in value.items()) or "-"
        case str() if field.endswith(("_at", "deadline", "heard", "_until", "_since")) or field in {
            "at",
            "since",
        }:
            return local(value) or clean(value)
        case _:
            return clean(str(value))
