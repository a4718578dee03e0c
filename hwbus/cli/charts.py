"""Charts in a terminal: a bar, and a line of bars; in ASCII where nothing else can be shown."""

from collections.abc import Sequence

from hwbus.cli.paint import BLUE, Pen

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_ASCII_HEIGHTS = "_.-=+*#@"


def bar(value: int, most: int, pen: Pen, *, columns: int = 16) -> str:
    """Return a bar as long as *value* is of *most*; what is more than nothing can be seen."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, min(value, most) * columns * 8 // most)
    whole, rest = divmod(eighths, 8)
    if not pen.utf8:
        return pen.colour("#" * max(1, whole), BLUE)
    return pen.colour("█" * whole + (_EIGHTHS[rest] if rest else ""), BLUE)


def sparkline(values: Sequence[int], pen: Pen, *, columns: int = 30) -> str:
    """Return *values* as a line of bars from the least to the most, the latest at its end."""
    if not values:
        return ""
    shown = _thinned(values, columns)
    least, most = min(shown), max(shown)
    heights = _HEIGHTS if pen.utf8 else _ASCII_HEIGHTS
    span = max(1, most - least)
    top = len(heights) - 1
    return pen.colour("".join(heights[(one - least) * top // span] for one in shown), BLUE)


def _thinned(values: Sequence[int], columns: int) -> list[int]:
    """Return at most so many values: each the last of its part."""
    if len(values) <= columns:
        return list(values)
    return [values[(n + 1) * len(values) // columns - 1] for n in range(columns)]
