"""A codec writes only what it can read, and says where it could not read."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbus.codec import (
    COMMAND_BYTES_MAX,
    Codec,
    TooLargeError,
    UnreadableError,
    UnwritableError,
    Upcasts,
    command_codec,
    commit_codec,
    hash_of,
    renewed,
    word_codec,
)
from schemas.commit import Commit
from schemas.grammar import Event, Request
from schemas.units import Bytes, Name

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


class Paint(Request, frozen=True, kw_only=True, tag="fence.paint.v1"):
    """Make the fence that colour."""

    fence: Name
    size_bytes: Bytes = 1


class PaintedInInches(Event, frozen=True, kw_only=True, tag="fence.painted.v1"):
    """Retired: who could still read inches?"""

    fence: Name
    inches: int


class PaintedInFeet(Event, frozen=True, kw_only=True, tag="fence.painted.v2"):
    """Retired as well."""

    fence: Name
    feet: int


class Painted(Event, frozen=True, kw_only=True, tag="fence.painted.v3"):
    """The fence is painted."""

    fence: Name
    millimetres: int


class Burnt(Event, frozen=True, kw_only=True, tag="fence.burnt.v1"):
    """The fence is no more."""

    fence: Name


UPCASTS: Upcasts = {
    PaintedInInches: lambda old: PaintedInFeet(fence=old.fence, feet=old.inches // 12),
    PaintedInFeet: lambda old: Painted(fence=old.fence, millimetres=old.feet * 305),
}
EVENTS = Painted | Burnt


def commit(*events: Event, **changes: Any) -> Commit[Any]:
    fields = {
        "id": "c1",
        "at": AT,
        "actor": "ann",
        "command": "x",
        "word": "fence.paint.v1",
        "correlation": "x",
        "version": 1,
    }
    return Commit[Any](**{**fields, **changes}, events=events)


def why_unreadable(codec: Codec[Any], data: bytes) -> UnreadableError:
    with pytest.raises(UnreadableError) as caught:
        codec.decode(data)
    return caught.value


def test_what_was_written_reads_back_equal() -> None:
    codec = commit_codec(EVENTS)
    said = commit(Burnt(fence="a"), Painted(fence="b", millimetres=3), request=msgspec.Raw(b"{}"))
    assert codec.decode(codec.encode(said)) == said


@pytest.mark.parametrize(
    "bad",
    [
        Paint(fence="Not A Name"),
        Paint(fence="a", size_bytes=-1),
        Paint(fence="a", size_bytes=1 << 80),
        Paint(fence="a\ud800"),
        Paint(fence=7),  # type: ignore[arg-type]
        Paint(fence={1, 2}),  # type: ignore[arg-type]
        Burnt(fence="a"),
    ],
    ids=str,
)
def test_a_message_that_breaks_its_own_schema_is_not_written(bad: Any) -> None:
    with pytest.raises(UnwritableError, match=type(bad).__name__):
        word_codec(Paint).encode(bad)


@pytest.mark.parametrize(
    "changes",
    [
        {"at": AT.replace(tzinfo=None)},
        {"v": 0},
        {"request": msgspec.Raw(b"{")},
        {"prev": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_commit_with_a_bad_envelope_is_not_written(changes: dict[str, Any]) -> None:
    with pytest.raises(UnwritableError):
        commit_codec(EVENTS).encode(commit(Burnt(fence="a"), **changes))


def test_what_would_read_back_as_something_else_is_not_written() -> None:
    sneaky = commit()
    listed = msgspec.structs.replace(sneaky, events=[Burnt(fence="a")])
    with pytest.raises(UnwritableError, match="something else"):
        commit_codec(EVENTS).encode(listed)


def test_a_moment_in_another_zone_is_the_same_moment() -> None:
    codec = commit_codec(EVENTS)
    there = commit(at=AT.astimezone(timezone(timedelta(hours=5))))
    assert codec.decode(codec.encode(there)).at == AT


@pytest.mark.parametrize(
    ("data", "because", "where"),
    [
        (b"", "truncated", ""),
        (b'{"fence":"a"', "truncated", ""),
        (b"null", "Expected `object`, got `null`", ""),
        (b'{"fence":"a"} {}', "trailing characters", "byte 15"),
        (b'{"fence":"a"}\x00', "trailing characters", "byte 14"),
        (b"{}", "missing required field `fence`", ""),
        (b'{"fence":"a","colour":1}', "unknown field `colour`", ""),
        (b'{"fence":"a","size_bytes":0}', ">= 1", "$.size_bytes"),
        (b'{"fence":"a","size_bytes":"1"}', "Expected `int`, got `str`", "$.size_bytes"),
        (b'{"fence":"a","size_bytes":1e9}', "Expected `int`, got `float`", "$.size_bytes"),
        (b'{"fence":"a\\n"}', "regex", "$.fence"),
        (b'{"fence":"a.b"}', "regex", "$.fence"),
        (b'{"fence":"\xff"}', "not UTF-8", ""),
        (b'{"type":"fence.burn.v1","fence":"a"}', "fence.burn.v1", "$.type"),
        (b'{"fence":"a","fence":"b"}', "`fence` more than once", ""),
        (b'{"fence":"a","\\u0066ence":"b"}', "`fence` more than once", ""),
        (b"\xef\xbb\xbf{}", "invalid character", "byte 0"),
    ],
)
def test_a_bad_command_is_unreadable_and_it_is_said_why_and_where(
    data: bytes, because: str, where: str
) -> None:
    error = why_unreadable(command_codec(Paint), data)
    assert because in error.because
    assert error.where == where
    assert str(error).startswith(error.because)


def test_a_command_may_leave_its_type_to_the_subject_it_is_sent_to() -> None:
    codec = command_codec(Paint)
    assert codec.decode(b'{"fence":"a"}') == codec.decode(b'{"type":"fence.paint.v1","fence":"a"}')


def test_an_unknown_word_is_unreadable_and_named() -> None:
    error = why_unreadable(word_codec(EVENTS), b'{"type":"fence.stolen.v1","fence":"a"}')
    assert "fence.stolen.v1" in error.because
    assert error.where == "$.type"


def test_an_unknown_word_inside_a_commit_is_found_by_its_place() -> None:
    data = commit_codec(EVENTS).encode(commit(Burnt(fence="a"), Burnt(fence="b")))
    error = why_unreadable(commit_codec(EVENTS), data.replace(b"burnt.v1", b"burnt.v9", 1))
    assert error.where == "$.events[0].type"


def test_a_command_of_more_than_64_kib_is_not_even_looked_at() -> None:
    blank = b'{"fence":"a"}'.ljust(COMMAND_BYTES_MAX)
    assert command_codec(Paint).decode(blank) == Paint(fence="a")
    with pytest.raises(TooLargeError, match="65537 bytes"):
        command_codec(Paint).decode(blank + b" ")


def test_a_message_too_large_to_be_read_is_not_written() -> None:
    codec: Codec[Any] = Codec(Paint, bytes_max=20)
    with pytest.raises(UnwritableError, match="of at most 20"):
        codec.encode(Paint(fence="a"))


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_something_nested_without_end_is_unreadable_and_harms_nobody(opening: bytes) -> None:
    bottomless = b'{"request":' + opening * 100_000
    assert why_unreadable(commit_codec(EVENTS), bottomless).because == "nested too deeply"


@given(st.binary(max_size=200))
def test_any_bytes_are_either_read_or_unreadable(data: bytes) -> None:
    for codec in (command_codec(Paint), commit_codec(EVENTS, UPCASTS)):
        with contextlib.suppress(UnreadableError):
            codec.decode(data)


@given(data=st.data())
def test_a_message_with_bytes_changed_in_it_is_read_or_unreadable(data: st.DataObject) -> None:
    codec = commit_codec(EVENTS)
    good = bytearray(codec.encode(commit(Painted(fence="a", millimetres=1))))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UnreadableError):
        assert isinstance(codec.decode(bytes(good)), Commit)


def test_a_retired_word_is_read_as_what_it_is_called_today() -> None:
    codec = word_codec(EVENTS, UPCASTS)
    assert codec.decode(b'{"type":"fence.painted.v1","fence":"a","inches":24}') == Painted(
        fence="a", millimetres=610
    )


def test_retired_events_in_a_commit_are_renewed_and_the_others_left_alone() -> None:
    old = commit_codec(PaintedInInches | PaintedInFeet | Burnt)
    said = commit(
        Burnt(fence="a"), PaintedInInches(fence="b", inches=12), PaintedInFeet(fence="c", feet=2)
    )
    assert commit_codec(EVENTS, UPCASTS).decode(old.encode(said)).events == (
        Burnt(fence="a"),
        Painted(fence="b", millimetres=305),
        Painted(fence="c", millimetres=610),
    )


def test_a_commit_without_retired_events_is_left_as_it_is() -> None:
    codec = commit_codec(EVENTS, UPCASTS)
    said = commit(Burnt(fence="a"))
    assert codec.decode(codec.encode(said)) == said


def test_a_retired_word_is_never_written_again() -> None:
    with pytest.raises(UnwritableError, match=r"fence\.painted\.v1"):
        word_codec(EVENTS, UPCASTS).encode(PaintedInInches(fence="a", inches=1))
    with pytest.raises(UnwritableError, match=r"fence\.painted\.v2"):
        commit_codec(EVENTS, UPCASTS).encode(commit(PaintedInFeet(fence="a", feet=1)))


def test_upcasts_that_go_round_in_a_circle_are_found_out() -> None:
    circle: Upcasts = {Burnt: lambda old: old}
    with pytest.raises(ValueError, match="circle"):
        renewed(Burnt(fence="a"), upcasts=circle)


def test_the_hash_of_a_message_is_its_sha_256_in_hex() -> None:
    assert hash_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
