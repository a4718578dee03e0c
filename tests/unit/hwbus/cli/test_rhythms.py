"""How often, as people write it."""

import hypothesis
import pytest
from hypothesis import strategies as st

from hwbus.cli.rhythms import format_rhythm, parse_rhythm
from schemas.rhythm import EVERY_MIN_S, WEEK_S, Rhythm


@pytest.mark.parametrize(
    ("text", "every_s", "offset_s"),
    [
        ("hourly", 3600, 0),
        ("1h", 3600, 0),
        ("90s", 90, 0),
        ("daily", 86_400, 0),
        ("daily@02:00", 86_400, 7200),
        ("weekly", 604_800, 0),
        ("weekly@02:30", 604_800, 9000),
        ("weekly@sun", 604_800, 518_400),
        (" Weekly@SUN@23:59 ", 604_800, 604_740),
    ],
)
def test_a_rhythm_is_read_as_it_is_written(text: str, every_s: int, offset_s: int) -> None:
    assert parse_rhythm(text) == Rhythm(every_s=every_s, offset_s=offset_s)


@pytest.mark.parametrize("text", ["", "often", "daily@24:00", "daily@2", "weekly@moon", "1h@02:00"])
def test_what_is_no_rhythm_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ValueError, match="daily@02:00"):
        parse_rhythm(text)


@hypothesis.given(st.sampled_from(["daily", "weekly"]), st.integers(0, 10_079))
def test_what_is_shown_can_be_written(kind: str, minutes: int) -> None:
    every_s = 86_400 if kind == "daily" else WEEK_S
    rhythm = Rhythm(every_s=every_s, offset_s=minutes * 60 % every_s)
    assert parse_rhythm(format_rhythm(rhythm.every_s, rhythm.offset_s)) == rhythm


@hypothesis.given(st.integers(EVERY_MIN_S, WEEK_S))
def test_an_interval_is_shown_as_it_may_be_written(every_s: int) -> None:
    assert parse_rhythm(format_rhythm(every_s, 0)) == Rhythm(every_s=every_s)
