"""How often, as people write it: ``1h``, ``daily@02:00``, ``weekly@sun@03:30``; hours are UTC."""

import re

from hwbus.cli.options import parse_duration
from schemas.rhythm import DAY_S, WEEK_S, Rhythm

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = r"([01][0-9]|2[0-3]):([0-5][0-9])"
_DAILY = re.compile(rf"daily(?:@{_CLOCK})?")
_WEEKLY = re.compile(rf"weekly(?:@({'|'.join(_DAYS)}))?(?:@{_CLOCK})?")
_UNITS = ((WEEK_S, "w"), (DAY_S, "d"), (3600, "h"), (60, "m"), (1, "s"))
_MINUTE_S, _HOUR_S = 60, 3600


def parse_rhythm(text: str) -> Rhythm:
    """Return the rhythm that *text* means.

    Raises:
        ValueError: it means none.
    """
    plain = text.strip().lower()
    if plain == "hourly":
        return Rhythm(every_s=_HOUR_S)
    if (match := _DAILY.fullmatch(plain)) is not None:
        return Rhythm(every_s=DAY_S, offset_s=_clock_s(match[1], match[2]))
    if (match := _WEEKLY.fullmatch(plain)) is not None:
        day_s = _DAYS.index(match[1] or "mon") * DAY_S
        return Rhythm(every_s=WEEK_S, offset_s=day_s + _clock_s(match[2], match[3]))
    try:
        return Rhythm(every_s=round(parse_duration(plain)))
    except ValueError as error:
        fix = "write it like 30m, 1h, daily@02:00 or weekly@sun@03:30 (UTC)"
        raise ValueError(f"{text[:80]!r} is no rhythm: {fix}") from error


def format_rhythm(every_s: int, offset_s: int) -> str:
    """Return the text that ``parse_rhythm`` takes, as far as there is one."""
    day, clock = divmod(offset_s, DAY_S)
    hour = f"{clock // _HOUR_S:02}:{clock % _HOUR_S // _MINUTE_S:02}"
    if every_s == DAY_S and not day and not clock % _MINUTE_S:
        return f"daily@{hour}"
    if every_s == WEEK_S and not clock % _MINUTE_S:
        return f"weekly@{_DAYS[day]}@{hour}"
    return _duration(every_s) + (f"+{_duration(offset_s)}" if offset_s else "")


def _clock_s(hours: str | None, minutes: str | None) -> int:
    return int(hours or 0) * _HOUR_S + int(minutes or 0) * _MINUTE_S


def _duration(seconds: int) -> str:
    size, unit = next(one for one in _UNITS if not seconds % one[0])
    return f"{seconds // size}{unit}"
