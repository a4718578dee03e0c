"""When it will be full: the trend of the last days, and plainly nothing where there is none.

The trend is the median of the slopes between all pairs of days (Theil and Sen): a single night in
which somebody made or deleted much does not bend it. The quartiles of the slopes say how sure it
is.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import combinations
from statistics import quantiles

import msgspec

from schemas.account_view import AccountRow
from schemas.units import Moment

DAYS_LEAST = 3
YEARS_MOST = 10
_DAY = timedelta(days=1)
_FAR = timedelta(days=365 * YEARS_MOST)
Sample = tuple[float, int]


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """When ``what`` of an account will be full, if it goes on as in the last ``days``.

    Without ``full_at`` nobody knows, and ``because`` says why. One in two trends between two days
    lies between those that lead to ``earliest`` and ``latest``; without ``latest`` that is never.
    """

    level: str
    name: str
    what: str
    capacity_bytes: int
    used_bytes: int
    samples: tuple[int, ...] = ()
    days: float = 0.0
    bytes_per_day: int | None = None
    full_at: Moment | None = None
    earliest: Moment | None = None
    latest: Moment | None = None
    because: str = ""


def forecasts(days: Sequence[AccountRow], now: datetime, history: timedelta) -> Iterator[Forecast]:
    """Yield what can be said of one account from its *days* and it as it is now, in their order.

    What is allocated is known at any moment. How full a thin pool is has only been told when it
    passed a mark, so only the days on which it did count.
    """
    last = days[-1]
    if last.capacity_bytes or last.allocated_bytes:
        samples = _daily(days, now, now - history)
        yield _told(last, "allocated", last.capacity_bytes, samples, now)
    if last.thin_bytes:
        told = [day for day in days if day.thin_fill_percent and day.at >= now - history]
        marks = [(_age(day.at, now), _thin_data(day)) for day in told]
        yield _told(last, "thin-data", last.thin_bytes, _changes(marks), now)


def _daily(days: Sequence[AccountRow], now: datetime, since: datetime) -> list[Sample]:
    """Return what was allocated at the end of each day since then, and what is now."""
    begins = max(since, days[0].since)
    known = {day.at.date(): day.allocated_bytes for day in days}
    standing = 0
    for day, allocated in known.items():
        if day < begins.date():
            standing = allocated
    samples: list[Sample] = []
    day = begins.date()
    while day < now.date():
        standing = known.get(day, standing)
        samples.append((float((day - now.date()).days + 1) - _of_day(now), standing))
        day += _DAY
    return [*samples, (0.0, days[-1].allocated_bytes)]


def _of_day(now: datetime) -> float:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return (now - midnight) / _DAY


def _age(at: datetime, now: datetime) -> float:
    return (at - now) / _DAY


def _thin_data(day: AccountRow) -> int:
    return day.thin_bytes * day.thin_fill_percent // 100


def _changes(marks: list[Sample]) -> list[Sample]:
    """Return only the marks that were passed: a day without one says the same as the day before."""
    return [one for n, one in enumerate(marks) if n == 0 or one[1] != marks[n - 1][1]]


def _told(
    last: AccountRow, what: str, capacity: int, samples: list[Sample], now: datetime
) -> Forecast:
    used = samples[-1][1] if samples else 0
    span = samples[-1][0] - samples[0][0] if samples else 0.0
    known = Forecast(
        level=last.level.value,
        name=last.name,
        what=what,
        capacity_bytes=capacity,
        used_bytes=used,
        samples=tuple(value for _, value in samples),
        days=round(span, 2),
    )
    if span < DAYS_LEAST:
        few = f"{span:.1f} days of history; {DAYS_LEAST} are needed"
        return msgspec.structs.replace(known, because=few)
    slow, trend, fast = _slopes(samples)
    known = msgspec.structs.replace(known, bytes_per_day=round(trend))
    if used >= capacity:
        return msgspec.structs.replace(known, full_at=now, earliest=now, latest=now)
    if trend <= 0:
        because = "it becomes less" if trend < 0 else "it does not grow"
        return msgspec.structs.replace(known, because=because)
    latest, full_at, earliest = (_full(capacity - used, s, now) for s in (slow, trend, fast))
    if full_at is None:
        return msgspec.structs.replace(known, because=f"not within {YEARS_MOST} years")
    return msgspec.structs.replace(known, full_at=full_at, earliest=earliest, latest=latest)


def _slopes(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """Return the quartiles of the slopes between all pairs, in bytes a day."""
    slopes = [
        (later - earlier) / (there - here)
        for (here, earlier), (there, later) in combinations(samples, 2)
        if there > here
    ]
    if len(slopes) == 1:
        return slopes[0], slopes[0], slopes[0]
    slow, trend, fast = quantiles(slopes, n=4, method="inclusive")
    return slow, trend, fast


def _full(left: int, bytes_per_day: float, now: datetime) -> datetime | None:
    """Return when *left* will be gone; None: never, or so late that it means nothing."""
    if bytes_per_day <= 0 or left / bytes_per_day > _FAR / _DAY:
        return None
    return now + timedelta(days=left / bytes_per_day)
