"""Which snapshots of a schedule are kept, and which go: the newest of each hour, day and week."""

from collections.abc import Callable, Hashable, Iterable
from datetime import datetime

import msgspec

from schemas.rhythm import Keep


class Taken(msgspec.Struct, frozen=True):
    """What a schedule took at one moment; ``good`` if all of it is there and can be read."""

    due: datetime
    good: bool = True


def to_delete(taken: Iterable[Taken], keep: Keep) -> tuple[Taken, ...]:
    """Return those that go, oldest first.

    Of each of the last so many hours, days and weeks in which there is a good one, the newest good
    one is kept. One that is not good counts for nothing; but the newest of all is never deleted,
    whatever it is, nor the newest good one.
    """
    newest_first = sorted(taken, key=lambda one: one.due, reverse=True)
    good = [one for one in newest_first if one.good]
    kept = {one.due for one in (*newest_first[:1], *good[:1])}
    for bucket, most in ((_hour, keep.hourly), (_day, keep.daily), (_week, keep.weekly)):
        kept |= _newest_of_each(good, bucket, most)
    return tuple(one for one in reversed(newest_first) if one.due not in kept)


def _newest_of_each(
    newest_first: Iterable[Taken], bucket: Callable[[datetime], Hashable], most: int
) -> set[datetime]:
    newest: dict[Hashable, datetime] = {}
    for one in newest_first:
        if len(newest) == most:
            break
        newest.setdefault(bucket(one.due), one.due)
    return set(newest.values())


def _hour(at: datetime) -> Hashable:
    return at.date(), at.hour


def _day(at: datetime) -> Hashable:
    return at.date()


def _week(at: datetime) -> Hashable:
    return at.isocalendar()[:2]
