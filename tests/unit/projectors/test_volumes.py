"""A volume's row tells what is being made of it, and what stands in the way."""

from datetime import timedelta

from projectors.tables import OWNERS, PLACEMENTS, REPLICAS, VOLUMES
from schemas.deleting import VolumeDeleted, VolumeDeletionBegan, VolumeDeletionFailed
from schemas.refusals import Refusal
from schemas.replica import ReplicaRemovalWanted, ReplicaRemoved, ReplicaTroubled
from schemas.views import ReplicaState, VolumeRow, VolumeState
from schemas.volume import (
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeGrowthFailed,
    VolumeProvisioningFailed,
)
from tests.support.clock import NOON
from tests.unit.projectors.stories import GIB, Story, uid

LATER = NOON + timedelta(hours=1)


def _row(story: Story) -> VolumeRow:
    row = story.row(VOLUMES, "pg")
    assert row is not None
    return row


def _ready() -> Story:
    return Story().node().pool().volume("pg", 1, 2 * GIB)


def _growing() -> Story:
    story = _ready()
    story.say(
        VolumeGrowthBegan(
            volume="pg",
            uid=uid(1),
            operation=uid(8),
            deadline=LATER,
            node="n1",
            pool="fast",
            from_bytes=2 * GIB,
            size_bytes=3 * GIB,
        )
    )
    return story


def _deletion() -> VolumeDeletionBegan:
    return VolumeDeletionBegan(
        volume="pg", uid=uid(1), operation=uid(8), deadline=LATER, node="n1", pool="fast"
    )


def test_a_volume_on_its_way_shows_what_is_wanted_and_its_operation() -> None:
    story = Story().node().pool()
    operation = story.begin("pg", 1, 2 * GIB)
    row = _row(story)
    assert (row.state, row.size_bytes, row.wanted_bytes) == (
        VolumeState.PROVISIONING,
        0,
        2 * GIB,
    )
    assert row.operation == operation


def test_a_ready_volume_shows_where_it_is_and_its_device() -> None:
    row = _row(_ready())
    assert (row.state, row.node, row.pool) == (VolumeState.READY, "n1", "fast")
    assert (row.size_bytes, row.device, row.operation) == (2 * GIB, "/dev/fast/pg", "")


def test_a_growing_volume_keeps_its_size_until_it_has_grown() -> None:
    story = _growing()
    row = _row(story)
    assert (row.state, row.size_bytes, row.wanted_bytes) == (
        VolumeState.GROWING,
        2 * GIB,
        3 * GIB,
    )
    story.say(VolumeGrown(volume="pg", operation=uid(8), size_bytes=3 * GIB))
    assert (_row(story).state, _row(story).size_bytes) == (VolumeState.READY, 3 * GIB)


def test_a_growth_that_failed_leaves_the_volume_ready_and_says_why() -> None:
    story = _growing()
    story.say(
        VolumeGrowthFailed(
            volume="pg",
            operation=uid(8),
            size_bytes=2 * GIB,
            code=Refusal.CAPACITY,
            because="full",
        )
    )
    row = _row(story)
    assert (row.state, row.wanted_bytes, row.code) == (
        VolumeState.READY,
        2 * GIB,
        Refusal.CAPACITY,
    )
    assert row.why == "full"


def test_trouble_on_the_node_is_seen_at_the_volume_too() -> None:
    story = _growing()
    story.say(
        ReplicaTroubled(volume="pg", node="n1", uid=uid(1), code=Refusal.IN_USE, because="mounted")
    )
    assert (_row(story).code, _row(story).why) == (Refusal.IN_USE, "mounted")
    replica = story.row(REPLICAS, "n1/pg")
    assert replica is not None
    assert (replica.code, replica.why) == (Refusal.IN_USE, "mounted")


def test_a_volume_that_could_not_be_made_or_is_deleted_leaves_nothing() -> None:
    failed = Story().node().pool()
    operation = failed.begin("pg", 1, GIB)
    failed.say(
        VolumeProvisioningFailed(
            volume="pg", uid=uid(1), operation=operation, code=Refusal.NO_PLACE, because="full"
        )
    )
    deleted = _ready()
    deleted.say(_deletion())
    assert _row(deleted).state is VolumeState.DELETING
    deleted.say(VolumeDeleted(volume="pg", uid=uid(1), operation=uid(8)))
    for story in (failed, deleted):
        assert [*story.all(VOLUMES), *story.all(OWNERS), *story.all(PLACEMENTS)] == []


def test_a_deletion_that_failed_leaves_the_volume_ready() -> None:
    story = _ready()
    story.say(_deletion())
    story.say(
        VolumeDeletionFailed(volume="pg", operation=uid(8), code=Refusal.IN_USE, because="mounted")
    )
    assert (_row(story).state, _row(story).why) == (VolumeState.READY, "mounted")


def test_a_leg_follows_its_wish_until_nothing_is_left() -> None:
    story = _ready()
    leg = story.row(REPLICAS, "n1/pg")
    assert leg is not None
    assert (leg.state, leg.size_bytes, leg.device) == (
        ReplicaState.PRESENT,
        2 * GIB,
        "/dev/fast/pg",
    )
    story.say(ReplicaRemovalWanted(volume="pg", node="n1", operation=uid(8), uid=uid(1)))
    leg = story.row(REPLICAS, "n1/pg")
    assert leg is not None
    assert (leg.state, leg.operation) == (ReplicaState.REMOVING, uid(8))
    story.say(ReplicaRemoved(volume="pg", node="n1", uid=uid(1), pool="fast"))
    assert story.row(REPLICAS, "n1/pg") is None
