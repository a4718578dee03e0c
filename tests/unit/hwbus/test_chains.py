"""An archive in segments is one chain, or the first sequence that is not as it was is named."""

from collections.abc import Callable
from hashlib import sha256

import hypothesis
import pytest
from hypothesis import strategies as st

from hwbus.chains import verify_segments
from hwbus.segments import Span
from hwbus.streams import EVENTS
from hwbus.verifying import Verdict
from tests.support.archives import Shelf, archived
from tests.support.signing import signed

AT = (4, 9, 15, 20)
WHOLE = archived(*AT)
OTHER = archived(*AT, seed=2)
FIRSTS = (1, 5, 10, 16)
TIME = b'"seq":7,"at":"2026-01-01'
_, HEADS = signed(20, *AT)
places = st.integers(1, AT[-1])


def verdict(shelf: Shelf, *keys: str) -> Verdict:
    return verify_segments(shelf, EVENTS.name, keys=keys).verdict


def lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def span_of(name: str) -> Span:
    span = Span.of(name.rpartition("/")[2])
    assert span is not None
    return span


def test_segments_that_nobody_touched_are_one_chain() -> None:
    found = verify_segments(Shelf(WHOLE), EVENTS.name, HEADS, [HEADS[0].key])
    assert (found.segments, found.others) == (4, 0)
    verdict = found.verdict
    assert (verdict.first_bad, verdict.findings) == (None, ())
    assert (verdict.messages, verdict.signed) == (20, 20)
    assert verdict.keys == (HEADS[0].key,)


@hypothesis.given(st.data())
def test_a_flipped_bit_is_found_wherever_it_is(data: st.DataObject) -> None:
    shelf = Shelf(WHOLE)
    name = data.draw(st.sampled_from(shelf.segments()))
    changed = bytearray(WHOLE[name])
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    shelf.kept[name] = bytes(changed)
    bad, span = verdict(shelf).first_bad, span_of(name)
    assert bad is not None
    assert span.first <= bad <= span.last


@hypothesis.given(places, st.integers(0, 10_000))
def test_a_flipped_byte_of_a_message_is_named_by_its_sequence(seq: int, at: int) -> None:
    shelf = Shelf(WHOLE)
    name = shelf.name_of(seq)
    all_ = lines(WHOLE[name])
    number = seq - span_of(name).first + 1
    head, told, message = all_[number].partition(b'"data":"')
    text = bytearray(message)
    # The base64 alone: behind it are its quote, a brace and the line break.
    place = at % (len(text) - 6)
    text[place] = ord("A") if text[place] != ord("A") else ord("B")
    all_[number] = head + told + bytes(text)
    shelf.kept[name] = b"".join(all_)
    assert verdict(shelf).first_bad == seq


@pytest.mark.parametrize("first", FIRSTS[:-1])
def test_a_dropped_segment_is_missed(first: int) -> None:
    shelf = Shelf(WHOLE)
    del shelf.kept[shelf.name_of(first)]
    assert verdict(shelf).first_bad == first


def test_that_the_last_segment_was_dropped_is_known_to_who_kept_its_head() -> None:
    shelf = Shelf(WHOLE)
    del shelf.kept[shelf.name_of(16)]
    assert verdict(shelf).first_bad is None
    found = verify_segments(shelf, EVENTS.name, HEADS[-1:]).verdict
    assert (found.first_bad, found.findings[0].until) == (16, 20)


@pytest.mark.parametrize(("one", "two"), [(1, 5), (5, 10), (5, 16)])
def test_segments_that_were_put_in_another_order_are_named(one: int, two: int) -> None:
    shelf = Shelf(WHOLE)
    here, there = shelf.name_of(one), shelf.name_of(two)
    shelf.kept[here], shelf.kept[there] = WHOLE[there], WHOLE[here]
    found = verdict(shelf)
    assert found.first_bad == one
    assert {"replaced", "missing"} <= {finding.what for finding in found.findings}


@hypothesis.given(places, st.integers(0, 10_000))
def test_a_segment_that_was_cut_off_is_named_where_it_ends(seq: int, at: int) -> None:
    shelf = Shelf(WHOLE)
    name = shelf.name_of(seq)
    span, data = span_of(name), WHOLE[name]
    ends = at % len(data)
    shelf.kept[name] = data[:ends]
    whole_lines = data[:ends].count(b"\n")
    there = max(0, whole_lines - 1)
    # Cut off behind its last message, all of it that is known is that its end is missing.
    expected = span.first + there if span.first + there <= span.last else span.first
    assert verdict(shelf).first_bad == expected


@pytest.mark.parametrize("first", FIRSTS)
def test_a_segment_of_another_key_is_named_to_who_says_whose_counts(first: int) -> None:
    shelf, other = Shelf(WHOLE), Shelf(OTHER)
    name = shelf.name_of(first)
    shelf.kept[name] = other.kept[other.name_of(first)]
    assert verdict(shelf, HEADS[0].key).first_bad == first
    # Without a key its neighbours tell; the last one has only one of them.
    assert verdict(shelf).first_bad == (first if first != FIRSTS[-1] else FIRSTS[-2])


def rewritten(shelf: Shelf, first: int, change: Callable[[bytes], bytes]) -> None:
    """Change a segment and make its digest right again."""
    name = shelf.name_of(first)
    above, _, _ = shelf.kept[name].removesuffix(b"\n").rpartition(b"\n")
    changed = change(above + b"\n")
    assert changed != above + b"\n"
    digest = sha256(changed).hexdigest().encode()
    shelf.kept[name] = changed + b'{"line":"end","digest":"' + digest + b'"}\n'


def test_what_is_not_signed_is_vouched_for_by_the_segment_that_follows() -> None:
    """The broker's time of a message is in no leaf."""
    shelf = Shelf(WHOLE)
    rewritten(shelf, 5, lambda text: text.replace(TIME, b'"seq":7,"at":"2025-01-01'))
    assert [(one.seq, one.until, one.what) for one in verdict(shelf).findings] == [
        (5, 9, "replaced")
    ]


def test_a_message_with_a_number_beyond_its_segment_is_missing_where_it_was() -> None:
    shelf = Shelf(WHOLE)
    rewritten(shelf, 10, lambda text: text.replace(b'"seq":12,', b'"seq":32,'))
    found = verdict(shelf)
    assert [(one.seq, one.until) for one in found.findings if one.what == "missing"] == [(12, 12)]
    assert found.first_bad == 10  # and it is not, to the byte, what the next one names


def test_a_segment_under_another_name_is_not_the_one_that_it_is_called() -> None:
    shelf = Shelf(WHOLE)
    name = shelf.name_of(5)
    other = f"{EVENTS.name}/{Span(5, 9, '00' * 32).name}"
    shelf.kept[other] = shelf.kept.pop(name)
    found = verdict(shelf)
    assert (found.first_bad, "replaced" in {one.what for one in found.findings}) == (5, True)


def test_a_segment_that_does_not_show_that_it_continues_the_one_before_is_named() -> None:
    shelf = Shelf(WHOLE)
    nodes = b'"consistency":["'
    rewritten(shelf, 16, lambda text: text.replace(nodes, nodes + b"00" * 32 + b'","', 1))
    assert [(one.seq, one.what) for one in verdict(shelf).findings] == [(16, "chain")]


def test_a_segment_that_begins_before_the_last_one_ends_is_named() -> None:
    shelf = Shelf({**WHOLE, **archived(4, 20)})
    found = verdict(shelf)
    assert [(one.seq, one.until, one.what) for one in found.findings] == [(5, 20, "order")]


def test_what_is_no_segment_is_left_alone_and_counted() -> None:
    shelf = Shelf({**WHOLE, f"{EVENTS.name}/README": b"x"})
    found = verify_segments(shelf, EVENTS.name)
    assert (found.verdict.first_bad, found.others) == (None, 1)
