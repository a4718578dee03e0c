"""When a schedule is due, what it keeps, and what says of a snapshot that a schedule took it.

All hours are UTC: there is no hour that comes twice or not at all.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.units import NAME, Id, Moment

DAY_S = 86_400
WEEK_S = 7 * DAY_S
EVERY_MIN_S = 10
KEEP_MAX = 1000
# A Monday, so that an offset into the week counts from Monday 00:00.
_BEGINNING = datetime(1970, 1, 5, tzinfo=UTC)

# The names of its snapshots are made of it and of the moment, and must be names too.
ScheduleName = Annotated[
    str, Meta(pattern=NAME, min_length=1, max_length=40, description="An RFC 1123 label.")
]
Every = Annotated[int, Meta(ge=EVERY_MIN_S, le=WEEK_S, description="Seconds; at most a week.")]
Offset = Annotated[int, Meta(ge=0, le=WEEK_S - 1, description="Seconds since Monday 00:00 UTC.")]
Kept = Annotated[int, Meta(ge=0, le=KEEP_MAX)]


class Rhythm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Due every ``every_s``, counted from ``offset_s`` after a Monday 00:00 UTC.

    Daily at 02:00 is every 86400 s with an offset of 7200 s.
    """

    every_s: Every
    offset_s: Offset = 0

    def number(self, at: datetime) -> int:
        """Return how many times it has been due from the beginning of time until *at*."""
        since = at - _BEGINNING - timedelta(seconds=self.offset_s)
        return since // timedelta(seconds=self.every_s)

    def due(self, number: int) -> datetime:
        """Return when it is due for the *number*-th time; the inverse of ``number``."""
        return _BEGINNING + timedelta(seconds=self.offset_s + number * self.every_s)


class Keep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of how many hours, days and weeks (Monday to Sunday) the newest snapshot is kept."""

    hourly: Kept = 0
    daily: Kept = 0
    weekly: Kept = 0

    @property
    def most(self) -> int:
        """How many snapshots are kept at most."""
        return self.hourly + self.daily + self.weekly


class BySchedule(msgspec.Struct, frozen=True, kw_only=True):
    """The schedule that took a snapshot, and the moment for which it took it."""

    schedule: ScheduleName
    uid: Id
    due: Moment
