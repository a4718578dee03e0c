"""A forecast says from what it was made, and when it does not know."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbus.cli.forecasting import Forecast, forecasts
from tests.support.clock import NOON
from tests.unit.hwbus.cli.test_usage import D, days
from tests.unit.projectors.stories import GIB


def _told(of: dict[int, int], history: timedelta = 30 * D, **more: object) -> Forecast:
    return next(iter(forecasts(days(of, **more), NOON, history)))


def test_what_grows_by_a_gib_a_day_is_full_when_that_is_used_up() -> None:
    # At noon half of today is still to come: yesterday ended half a day ago.
    told = _told({back: 10 - back for back in range(1, 10)} | {0: 9})
    assert told.bytes_per_day is not None
    assert abs(told.bytes_per_day - GIB) < GIB // 10
    assert told.full_at is not None
    assert 10 * D < told.full_at - NOON < 12 * D
    assert told.earliest is not None
    assert told.earliest <= told.full_at <= (told.latest or told.full_at)
    assert told.days == 8.5


def test_one_night_in_which_much_was_made_and_deleted_does_not_bend_the_trend() -> None:
    calm = {back: 10 - back for back in range(1, 10)} | {0: 9}
    assert _told(calm | {4: 19}).bytes_per_day == pytest.approx(_told(calm).bytes_per_day, rel=0.2)


@pytest.mark.parametrize(
    ("of", "because"),
    [
        ({1: 1, 0: 5}, "0.5 days of history; 3 are needed"),
        ({0: 5}, "0.0 days of history; 3 are needed"),
        (dict.fromkeys(range(9), 5), "it does not grow"),
        ({back: 5 + back for back in range(9)}, "it becomes less"),
    ],
)
def test_where_nobody_can_know_it_says_why(of: dict[int, int], because: str) -> None:
    told = _told(of)
    assert (told.full_at, told.earliest, told.latest, told.because) == (None, None, None, because)


def test_what_is_so_slow_that_it_means_nothing_is_not_foretold() -> None:
    told = _told({back: 10 - back for back in range(10)}, capacity_bytes=100_000 * GIB)
    assert told.because == "not within 10 years"


def test_what_is_full_is_full_now() -> None:
    told = _told({back: 20 - back for back in range(10)})
    assert told.full_at == NOON


def test_days_without_an_entry_are_as_the_day_before_left_them() -> None:
    told = _told({9: 1, 0: 10})
    assert told.samples == (GIB,) * 9 + (10 * GIB,)


def test_only_the_history_that_is_asked_for_counts_with_what_stood_when_it_began() -> None:
    told = _told({40: 3, 2: 4, 0: 5}, history=5 * D)
    assert told.samples == (3 * GIB, 3 * GIB, 3 * GIB, 4 * GIB, 4 * GIB, 5 * GIB)


def test_a_thin_pool_is_told_by_the_marks_that_it_has_passed() -> None:
    rows = [
        day
        for back, percent in ((9, 50), (8, 50), (6, 55), (3, 60), (0, 60))
        for day in days({back: 1}, thin_bytes=10 * GIB, thin_fill_percent=percent)
    ]
    thin = next(one for one in forecasts(rows, NOON, 30 * D) if one.what == "thin-data")
    assert thin.samples == tuple(10 * GIB * percent // 100 for percent in (50, 55, 60))
    assert thin.full_at is not None
    assert thin.capacity_bytes == 10 * GIB


@given(st.dictionaries(st.integers(0, 60), st.integers(0, 30), min_size=1))
def test_a_forecast_is_never_in_the_past_and_never_without_a_reason(of: dict[int, int]) -> None:
    told = _told(of)
    assert (told.full_at is None) == bool(told.because)
    if told.full_at is not None:
        assert NOON <= (told.earliest or NOON) <= told.full_at
        assert told.latest is None or told.full_at <= told.latest
