"""A deleted volume is shown with its room until its hold is over."""

from datetime import timedelta
from typing import Any

from projectors.tables import REPLICAS, USAGE, VOLUMES
from schemas.deleting import (
    VolumeDeletionBegan,
    VolumeDeletionFailed,
    VolumeHeld,
    VolumeHoldBegan,
    VolumeUndeleted,
    VolumeUndeletionBegan,
    VolumeUndeletionFailed,
)
from schemas.refusals import Refusal
from schemas.replica import ReplicaHeld, ReplicaHoldWanted
from schemas.views import ReplicaState, VolumeRow, VolumeState
from tests.support.clock import NOON
from tests.unit.projectors.stories import GIB, Story, uid

UNTIL = NOON + timedelta(days=1)
ABOUT = {"volume": "pg", "operation": uid(8)}
WORK: dict[str, Any] = {**ABOUT, "uid": uid(1), "node": "n1", "pool": "fast"}
LATER = NOON + timedelta(hours=1)


def _row(story: Story) -> VolumeRow:
    row = story.row(VOLUMES, "pg")
    assert row is not None
    return row


def _holding() -> Story:
    story = Story().node().pool().volume("pg", 1, 2 * GIB)
    story.say(VolumeHoldBegan(**WORK, deadline=LATER, until=UNTIL))
    return story


def _held() -> Story:
    story = _holding()
    story.say(VolumeHeld(**ABOUT, uid=uid(1), until=UNTIL))
    return story


def test_a_held_volume_shows_until_when_and_keeps_its_room() -> None:
    assert (_row(_holding()).state, _row(_holding()).held_until) == (VolumeState.HOLDING, None)
    story = _held()
    row = _row(story)
    assert (row.state, row.held_until, row.operation) == (VolumeState.HELD, UNTIL, "")
    usage = story.row(USAGE, "volume/pg")
    assert usage is not None
    assert (usage.capacity_bytes, usage.allocated_bytes) == (2 * GIB, 2 * GIB)


def test_a_volume_in_use_is_shown_as_ready_again_and_why() -> None:
    story = _holding()
    story.say(VolumeDeletionFailed(**ABOUT, code=Refusal.IN_USE, because="mounted"))
    row = _row(story)
    assert (row.state, row.held_until, row.code) == (VolumeState.READY, None, Refusal.IN_USE)


def test_an_undeleted_volume_is_as_it_was_but_for_when_it_changed() -> None:
    before = _row(Story().node().pool().volume("pg", 1, 2 * GIB))
    story = _held()
    story.say(VolumeUndeletionBegan(**WORK, deadline=LATER))
    assert (_row(story).state, _row(story).operation) == (VolumeState.UNDELETING, uid(8))
    story.say(VolumeUndeleted(**ABOUT, uid=uid(1)))
    after = _row(story)
    changed = {
        field
        for field in VolumeRow.__struct_fields__
        if getattr(before, field) != getattr(after, field)
    }
    assert changed == {"changed_at", "seq", "version"}


def test_what_is_given_up_leaves_a_held_volume_held_and_says_why() -> None:
    undeleting = _held()
    undeleting.say(VolumeUndeletionBegan(**WORK, deadline=LATER))
    undeleting.say(VolumeUndeletionFailed(**ABOUT, code=Refusal.DEADLINE, because="late"))
    purging = _held()
    purging.say(VolumeDeletionBegan(**WORK, deadline=LATER, held=True))
    assert _row(purging).state is VolumeState.DELETING
    purging.say(VolumeDeletionFailed(**ABOUT, code=Refusal.DEADLINE, because="late"))
    for story in (undeleting, purging):
        row = _row(story)
        assert (row.state, row.held_until, row.why) == (VolumeState.HELD, UNTIL, "late")


def test_a_leg_shows_that_it_is_held() -> None:
    story = _holding()
    story.say(ReplicaHoldWanted(volume="pg", node="n1", operation=uid(8), uid=uid(1)))
    leg = story.row(REPLICAS, "n1/pg")
    assert leg is not None
    assert (leg.state, leg.operation) == (ReplicaState.HOLDING, uid(8))
    story.say(ReplicaHeld(volume="pg", node="n1", uid=uid(1)))
    leg = story.row(REPLICAS, "n1/pg")
    assert leg is not None
    assert (leg.state, leg.operation) == (ReplicaState.HELD, "")
