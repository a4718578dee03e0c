"""Whatever stands in the stream, folding goes on."""

import pytest

from hwbus.subjects import Address
from projectors.fold import Folded, fold_event, own_key
from projectors.rows import Rows
from projectors.tables import NODES, PARKED
from schemas.node import NodeCordoned
from tests.unit.projectors.stories import Story

GOOD = b'{"v":1,"id":"x","at":"2026-01-01T00:00:00Z"'


@pytest.mark.parametrize(
    ("subject", "data"),
    [
        ("hwbus.evt.node.-.n1", b""),
        ("hwbus.evt.node.-.n1", b"\xff\xfe"),
        ("hwbus.evt.node.-.n1", b"[]"),
        ("hwbus.evt.node.-.n1", GOOD + b"}"),
        ("hwbus.evt.node.-.n1", GOOD + b',"events":[{"type":3}]}'),
        ("hwbus.evt.NODE", b"{}"),
        ("hwbus.evt.node.-", b"{}"),
    ],
)
def test_a_malformed_message_is_parked_and_the_next_one_counts(subject: str, data: bytes) -> None:
    story = Story().node()
    story.write(subject, data)
    story.say(NodeCordoned(node="n1"))
    rows, folded = Rows(lambda _t, _k: None), Folded()
    for stored in story.events:
        fold_event(rows, stored, "events", folded)
    (parked,) = story.all(PARKED)
    assert (parked.seq, parked.subject, parked.stream) == (2, subject, "events")
    assert parked.because
    assert folded.parked == 1
    node = rows.get(NODES, "n1")
    assert node is not None
    assert node.cordoned


def test_a_known_word_with_a_wrong_field_is_malformed_and_not_unknown() -> None:
    story = Story().node()
    story.say(NodeCordoned(node="n1"))
    old = story.events.pop()
    story.write(old.subject, old.data.replace(b'"node":"n1"', b'"node":7'))
    assert len(story.all(PARKED)) == 1


def test_an_object_has_its_row_under_its_place_only_where_it_lives_on_a_node() -> None:
    assert own_key(Address("pool", "n1", "fast")) == "n1/fast"
    assert own_key(Address("volume", "-", "pg")) == "pg"


def test_a_kind_of_object_that_is_not_known_yet_leaves_its_audit_row() -> None:
    story = Story().node()
    data = story.events.pop().data
    story.write("hwbus.evt.snapshot.-.s1", data.replace(b"node.joined", b"snapshot.taken"))
    assert story.all(PARKED) == []
