"""Sizes are written in many ways and mean one number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbus.cli.sizes import BadSizeError, format_size, parse_size
from schemas.units import BYTES_MAX


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1GiB", 1 << 30),
        ("1Gi", 1 << 30),
        ("1gib", 1 << 30),
        ("1 GiB", 1 << 30),
        ("1G", 10**9),
        ("1GB", 10**9),
        ("1.5TiB", 3 << 39),
        ("0.5k", 500),
        ("1073741824", 1 << 30),
        ("42B", 42),
        ("1EiB", 1 << 60),
    ],
)
def test_a_size_may_be_written_in_units_or_bytes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no size"),
        ("much", "is no size"),
        ("1GiBB", "is no size"),
        ("1i", "is no size"),
        ("1e9", "is no size"),
        ("٣GiB", "is no size"),
        ("-5GiB", "negative or nothing"),
        ("0", "negative or nothing"),
        ("0.0GiB", "negative or nothing"),
        ("2EiB", "more than 1 EiB"),
        ("9" * 30, "more than 1 EiB"),
        ("0.3B", "negative or nothing"),
    ],
)
def test_what_nobody_can_mean_is_no_size(text: str, why: str) -> None:
    with pytest.raises(BadSizeError, match=why):
        parse_size(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (3 << 39, "1.5TiB"), ((1 << 40) - 1, "1TiB")],
)
def test_sizes_are_shown_in_binary_units(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@given(st.integers(1, BYTES_MAX))
def test_what_is_shown_is_within_a_twentieth_of_the_size(size_bytes: int) -> None:
    assert abs(parse_size(format_size(size_bytes)) - size_bytes) <= size_bytes / 20


@given(st.integers(1, BYTES_MAX))
def test_plain_bytes_mean_themselves(size_bytes: int) -> None:
    assert parse_size(str(size_bytes)) == size_bytes
