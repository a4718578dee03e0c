from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hwbus.identity import Mint, SystemClock, ulid
from hwbus.subjects import token
from tests.support.clock import ManualClock

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
CHANCE = st.integers(0, 2**80 - 1)
# Milliseconds exactly: below that a ULID does not look.
TIMES = st.integers(0, 4_000_000_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)


def test_the_layout_is_that_of_the_specification() -> None:
    at = datetime.fromtimestamp(1469918176.385, UTC)
    assert ulid(at, 0) == "01aryz6s41" + "0" * 16
    assert ulid(at, 2**80 - 1) == "01aryz6s41" + "z" * 16


@given(TIMES, CHANCE)
def test_an_identity_is_a_name_that_may_stand_in_a_subject(at: datetime, chance: int) -> None:
    made = ulid(at, chance)
    assert len(made) == 26
    assert set(made) <= set(ALPHABET)
    assert token(made) == made


@given(TIMES, TIMES, CHANCE, CHANCE)
def test_identities_sort_by_their_hour(a: datetime, b: datetime, x: int, y: int) -> None:
    if int(a.timestamp() * 1000) < int(b.timestamp() * 1000):
        assert ulid(a, x) < ulid(b, y)


@given(TIMES, CHANCE, CHANCE)
def test_only_chance_tells_identities_of_one_moment_apart(at: datetime, x: int, y: int) -> None:
    assert (ulid(at, x) == ulid(at, y)) == (x == y)


def test_a_mint_takes_the_hour_from_its_clock_and_never_repeats_itself() -> None:
    clock = ManualClock()
    mint = Mint(clock)
    made = {mint() for _ in range(1000)}
    assert len(made) == 1000
    assert len({identity[:10] for identity in made}) == 1
    clock.move(0.001)
    assert mint() > max(made)


def test_the_system_clock_tells_utc() -> None:
    now = SystemClock().now()
    assert now.utcoffset() == timedelta(0)
