"""What a disk says of itself is seen in its row, whatever else is true of it."""

from projectors.tables import DISKS
from schemas.disk import (
    DiskClaimed,
    DiskForgotten,
    DiskFound,
    DiskGone,
    DiskHealthChanged,
    DiskReserved,
    Health,
)
from schemas.views import DiskRow, DiskState
from tests.unit.projectors.stories import Story, blank, uid

BAD = ("1 or more media errors",)
FAILING = DiskHealthChanged(disk="d1", node="n1", health=Health.FAILING, reasons=BAD)
WELL = DiskHealthChanged(disk="d1", node="n1", health=Health.HEALTHY)


def _row(story: Story) -> DiskRow:
    row = story.row(DISKS, "d1")
    assert row is not None
    return row


def _found() -> Story:
    return Story().node().disk("d1")


def test_a_disk_that_never_said_anything_is_unknown_and_free() -> None:
    assert (_row(_found()).health, _row(_found()).state) == (Health.UNKNOWN, DiskState.FREE)


def test_a_failing_disk_shows_that_and_why_and_where_it_belongs() -> None:
    story = _found()
    story.say(DiskClaimed(disk="d1", node="n1", pool="fast", operation=uid(8)))
    story.say(FAILING)
    row = _row(story)
    assert (row.state, row.health, row.health_reasons) == (DiskState.FAILING, Health.FAILING, BAD)
    assert row.pool == "n1/fast"
    story.say(WELL)
    row = _row(story)
    assert (row.state, row.health, row.health_reasons) == (DiskState.CLAIMED, Health.HEALTHY, ())


def test_a_reserved_disk_keeps_why_it_is_reserved() -> None:
    story = _found()
    story.say(DiskReserved(disk="d1", because="mine"))
    story.say(FAILING)
    assert (_row(story).state, _row(story).why) == (DiskState.FAILING, "mine")


def test_a_failing_disk_that_was_pulled_is_gone_and_is_failing_where_it_returns() -> None:
    story = _found()
    story.say(FAILING)
    story.say(DiskGone(disk="d1", node="n1"))
    assert _row(story).state is DiskState.GONE
    story.say(DiskFound(disk="d1", node="n2", sighting=blank(), moved_from="n1"))
    assert (_row(story).state, _row(story).node) == (DiskState.FAILING, "n2")


def test_health_that_was_told_before_the_disk_is_not_lost() -> None:
    story = Story().node()
    story.say(FAILING)
    assert story.row(DISKS, "d1") is None
    story.disk("d1")
    assert _row(story).state is DiskState.FAILING


def test_a_disk_that_was_forgotten_begins_anew() -> None:
    story = _found()
    story.say(FAILING)
    story.say(DiskForgotten(disk="d1", node="n1"))
    assert story.row(DISKS, "d1") is None
    story.disk("d1")
    assert (_row(story).health, _row(story).state) == (Health.UNKNOWN, DiskState.FREE)
