"""A disk can be taken only if it is there once, blank, nobody's, and nobody minds."""

from typing import Any

import pytest

from projectors.tables import DISKS, NODES
from schemas.disk import (
    Content,
    DiskChanged,
    DiskClaimed,
    DiskClass,
    DiskClassOverridden,
    DiskForgotten,
    DiskFound,
    DiskGone,
    DiskReleased,
    DiskReserved,
    DiskSeenTwice,
    DiskUnreserved,
)
from schemas.views import DiskRow, DiskState
from tests.unit.projectors.stories import GIB, Story, sighting, uid


def _row(story: Story) -> DiskRow:
    row = story.row(DISKS, "d1")
    assert row is not None
    return row


def _found(**more: Any) -> Story:
    return Story().node("n1").node("n2").disk("d1", sighting=sighting(**more))


def test_a_blank_disk_is_free_and_shown_with_all_that_identifies_it() -> None:
    row = _row(_found(serial="S1", wwn="wwn-1", model="M", path="/dev/sdc"))
    assert row.state is DiskState.FREE
    assert (row.node, row.path, row.size_bytes) == ("n1", "/dev/sdc", 20 * GIB)
    assert (row.serial, row.wwn, row.model) == ("S1", "wwn-1", "M")


@pytest.mark.parametrize("content", [c for c in Content if c is not Content.BLANK])
def test_a_disk_that_carries_anything_is_not_free(content: Content) -> None:
    assert _row(_found(content=content)).state is DiskState.OCCUPIED


def test_a_claimed_disk_names_its_pool_until_it_is_released() -> None:
    story = _found()
    story.say(DiskClaimed(disk="d1", node="n1", pool="fast", operation=uid(1)))
    story.say(DiskChanged(disk="d1", node="n1", sighting=sighting(content=Content.OURS)))
    assert (_row(story).state, _row(story).pool) == (DiskState.CLAIMED, "n1/fast")
    story.say(DiskReleased(disk="d1", node="n1", pool="fast"))
    story.say(DiskChanged(disk="d1", node="n1", sighting=sighting()))
    assert (_row(story).state, _row(story).pool) == (DiskState.FREE, "")


def test_a_reserved_disk_says_why() -> None:
    story = _found()
    story.say(DiskReserved(disk="d1", because="for the backup"))
    assert (_row(story).state, _row(story).why) == (DiskState.RESERVED, "for the backup")
    story.say(DiskUnreserved(disk="d1"))
    assert (_row(story).state, _row(story).why) == (DiskState.FREE, "")


def test_the_operators_word_on_the_class_counts_until_it_is_taken_back() -> None:
    story = _found(media=DiskClass.HDD)
    story.say(DiskClassOverridden(disk="d1", media=DiskClass.NVME))
    story.say(DiskChanged(disk="d1", node="n1", sighting=sighting(media=DiskClass.SSD)))
    row = _row(story)
    assert (row.media, row.media_seen, row.overridden) == (DiskClass.NVME, DiskClass.SSD, True)
    story.say(DiskClassOverridden(disk="d1", media=None))
    assert (_row(story).media, _row(story).overridden) == (DiskClass.SSD, False)


def test_a_disk_seen_twice_is_trusted_again_when_one_of_them_goes() -> None:
    story = _found()
    story.say(DiskSeenTwice(disk="d1", node="n2", sighting=sighting(path="/dev/sdx")))
    row = _row(story)
    assert (row.state, row.node, row.also_on) == (DiskState.SEEN_TWICE, "n2", ("n1",))
    story.say(DiskGone(disk="d1", node="n2"))
    row = _row(story)
    assert (row.state, row.node, row.also_on, row.path) == (DiskState.FREE, "n1", (), "/dev/sdb")


def test_a_disk_that_moved_is_one_disk_at_its_new_node_and_both_nodes_count_it_right() -> None:
    story = _found()
    story.say(DiskGone(disk="d1", node="n1"))
    assert _row(story).state is DiskState.GONE
    story.say(DiskFound(disk="d1", node="n2", sighting=sighting(), moved_from="n1"))
    assert (_row(story).state, _row(story).node) == (DiskState.FREE, "n2")
    counts = {row.name: row.disks for row in story.all(NODES)}
    assert counts == {"n1": 0, "n2": 1}


def test_a_forgotten_disk_is_no_longer_shown() -> None:
    story = _found()
    story.say(DiskForgotten(disk="d1", node="n1"))
    assert story.row(DISKS, "d1") is None


def test_a_forgotten_disk_that_a_pool_still_misses_is_shown_at_the_pool() -> None:
    story = _found()
    story.say(DiskClaimed(disk="d1", node="n1", pool="fast", operation=uid(1)))
    story.say(DiskGone(disk="d1", node="n1"))
    story.say(DiskFound(disk="d1", node="n2", sighting=sighting(), moved_from="n1"))
    story.say(DiskForgotten(disk="d1", node="n2"))
    assert (_row(story).node, _row(story).state) == ("n1", DiskState.GONE)
    assert _row(story).pool == "n1/fast"
