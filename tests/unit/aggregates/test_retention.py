"""Which snapshots of a schedule are kept: the newest of each hour, day and week, and no more."""

from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta

import hypothesis
import pytest
from hypothesis import strategies as st

from aggregates.retention import Taken, to_delete
from schemas.rhythm import Keep

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
Bucket = Callable[[datetime], Hashable]
BUCKETS: dict[str, Bucket] = {
    "hourly": lambda at: f"{at:%Y%m%d%H}",
    "daily": lambda at: f"{at:%Y%m%d}",
    "weekly": lambda at: f"{at:%G%V}",
}
minutes = st.integers(0, 60 * 24 * 60)
histories = st.dictionaries(minutes, st.booleans(), max_size=60).map(
    lambda found: [Taken(MONDAY + timedelta(minutes=m), good) for m, good in found.items()]
)
counts = st.integers(0, 8)
keeps = st.builds(Keep, hourly=counts, daily=counts, weekly=counts)


def hours(*numbers: float) -> list[Taken]:
    return [Taken(MONDAY + timedelta(hours=number)) for number in numbers]


def left(taken: list[Taken], keep: Keep) -> list[Taken]:
    gone = to_delete(taken, keep)
    return sorted((one for one in taken if one not in gone), key=lambda one: one.due)


def test_the_newest_of_each_of_the_last_hours_is_kept() -> None:
    taken = hours(0, 0.5, 1, 1.25, 1.5, 5)
    assert left(taken, Keep(hourly=2)) == hours(1.5, 5)
    assert left(taken, Keep(hourly=3)) == hours(0.5, 1.5, 5)


def test_days_and_weeks_keep_what_hours_let_go() -> None:
    taken = hours(*range(0, 24 * 15, 12))
    kept = left(taken, Keep(hourly=1, daily=3, weekly=3))
    assert kept == hours(6 * 24 + 12, 12 * 24 + 12, 13 * 24 + 12, 14 * 24 + 12)


def test_one_that_is_lost_takes_nobodys_place_and_goes() -> None:
    good, lost = hours(1), Taken(MONDAY + timedelta(hours=1, minutes=30), good=False)
    assert left([*good, lost, *hours(4)], Keep(hourly=2)) == hours(1, 4)


def test_one_that_is_lost_stays_while_nothing_newer_was_taken() -> None:
    good, lost = hours(1), Taken(MONDAY + timedelta(hours=2), good=False)
    assert left([*good, lost], Keep(hourly=1)) == [*good, lost]


def test_those_that_go_are_told_oldest_first() -> None:
    gone = to_delete(hours(3, 1, 2), Keep(hourly=1))
    assert list(gone) == hours(1, 2)


@pytest.mark.parametrize("rule", BUCKETS)
@hypothesis.given(taken=histories, most=counts)
def test_the_newest_good_one_of_each_bucket_is_kept(
    rule: str, taken: list[Taken], most: int
) -> None:
    kept = left(taken, Keep(**{rule: most}))
    newest: dict[Hashable, Taken] = {}
    for one in sorted(taken, key=lambda one: one.due, reverse=True):
        if one.good and len(newest) < most:
            newest.setdefault(BUCKETS[rule](one.due), one)
    assert set(newest.values()) <= set(kept)


@hypothesis.given(histories, keeps)
def test_no_more_good_ones_are_kept_than_the_counts_allow(taken: list[Taken], keep: Keep) -> None:
    assert sum(one.good for one in left(taken, keep)) <= max(keep.most, 1)


@hypothesis.given(histories, keeps)
def test_the_newest_and_the_newest_good_one_are_never_deleted(
    taken: list[Taken], keep: Keep
) -> None:
    kept = left(taken, keep)
    for some in (taken, [one for one in taken if one.good]):
        if some:
            assert max(some, key=lambda one: one.due) in kept


@hypothesis.given(histories, keeps)
def test_deleting_once_leaves_nothing_more_to_delete(taken: list[Taken], keep: Keep) -> None:
    assert to_delete(left(taken, keep), keep) == ()


@hypothesis.given(histories, keeps, st.data())
def test_what_was_to_go_goes_whichever_of_them_went_first(
    taken: list[Taken], keep: Keep, data: st.DataObject
) -> None:
    gone = to_delete(taken, keep)
    some = data.draw(st.sets(st.sampled_from(gone))) if gone else set[Taken]()
    rest = [one for one in taken if one not in some]
    assert set(to_delete(rest, keep)) == set(gone) - some


@hypothesis.given(histories, keeps, minutes)
def test_what_once_goes_never_would_have_been_kept_later(
    taken: list[Taken], keep: Keep, later: int
) -> None:
    newest = max((one.due for one in taken), default=MONDAY)
    more = [*taken, Taken(newest + timedelta(minutes=later + 1))]
    assert set(to_delete(taken, keep)) <= set(to_delete(more, keep))
