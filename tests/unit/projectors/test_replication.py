"""A volume with several replicas tells how they are, and which of them is written to."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from projectors.tables import LEGS, OPERATIONS, POOLS, REPLICAS, USAGE, VOLUMES
from schemas.attachment import AttachmentMade, AttachmentRemoved, AttachmentSpec, AttachmentTroubled
from schemas.deleting import VolumeDeleted
from schemas.grammar import Event
from schemas.handing import (
    FailoverBegan,
    HandOverBegan,
    HandOverFailed,
    PeerFenced,
    PeerReturned,
    VolumeHandedOver,
    VolumeHomeMoved,
    VolumeTiedAnew,
)
from schemas.legs import (
    MigrationBegan,
    ReplicaAdded,
    ReplicaAdditionFailed,
    ReplicaRemovalBegan,
    ReplicaRemovalFailed,
    VolumeMigrated,
    VolumeReplicaRemoved,
)
from schemas.node import NodeFellSilent, NodeHeard
from schemas.operation import OperationKind, OperationStarted
from schemas.pool import RoomReleased, RoomReserved, RoomSettled
from schemas.refusals import Refusal
from schemas.replica import ReplicaRemoved, ReplicaResized, ReplicaTroubled
from schemas.replica_view import LegRole, ReplicasCompared, VolumeHealth
from schemas.replication import (
    EpochNoted,
    LegDisk,
    PeerSeen,
    ReplicaForgotten,
    ReplicaTieWanted,
    Sync,
    Tie,
)
from schemas.verifying import (
    RepairBegan,
    VerificationBegan,
    VerificationFailed,
    VolumeRepaired,
    VolumeVerified,
)
from schemas.views import ReplicaState, VolumeState
from schemas.volume import VolumeLocked
from tests.support.clock import NOON
from tests.unit.projectors.replicated import (
    FILLED,
    FILLING,
    HEAD,
    LATER,
    PAIR,
    WORK,
    adding,
    away,
    leg,
    pair,
    peer,
    told,
    volume,
)
from tests.unit.projectors.stories import GIB, Story, uid

SPEC = AttachmentSpec(uid=uid(7), volume_uid=uid(1), pool="fast", consumer="pod/shop/pg-0")
FAILOVER = FailoverBegan(**WORK, from_node="n1", node="n2", epoch=2, attached=True)
H = VolumeHealth


def _how(story: Story) -> tuple[VolumeHealth | None, int]:
    row = volume(story)
    return row.health, row.survives


def test_a_volume_with_one_replica_has_no_health_that_could_be_told() -> None:
    row = volume(Story().node().pool().volume("pg", 1))
    assert (row.replicas, row.health, row.survives, row.replicas_wanted) == ((), None, 0, 1)


def test_two_good_replicas_survive_the_loss_of_one() -> None:
    story = pair()
    assert _how(story) == (H.HEALTHY, 1)
    row = volume(story)
    assert [(one.node, one.good, one.tie) for one in row.replicas] == [
        ("n1", True, None),
        ("n2", True, Tie.CONNECTED),
    ]
    assert (row.state, row.node, row.device) == (VolumeState.READY, "n1", "/dev/fast/pg")


def test_while_the_first_peer_is_filled_the_volume_is_what_it_was_and_tells_how_far() -> None:
    story = adding()
    told(story, "n1", FILLING)
    row = volume(story)
    assert (row.state, row.health, row.sync_percent) == (VolumeState.ADDING_REPLICA, None, 75)
    assert (row.node, row.size_bytes, row.replicas_wanted) == ("n1", GIB, 1)
    assert [(one.node, one.joining) for one in row.replicas] == [("n1", False), ("n2", True)]


def test_a_replica_that_could_not_be_added_leaves_the_row_as_it_was() -> None:
    story = adding()
    story.say(ReplicaRemoved(volume="pg", node="n2", uid=uid(1), pool="fast"))
    failed = ReplicaAdditionFailed(
        volume="pg", operation=uid(8), code=Refusal.DEADLINE, because="too late"
    )
    story.say(failed)
    row = volume(story)
    assert (row.state, row.why, row.code) == (VolumeState.READY, "too late", Refusal.DEADLINE)
    assert (row.replicas, row.replicas_wanted, row.size_bytes) == ((), 1, GIB)
    assert story.row(LEGS, "n2") is None


@pytest.mark.parametrize("gone_first", [False, True])
def test_what_came_to_nothing_leaves_the_volume_as_large_as_its_leg_whichever_is_told_first(
    *, gone_first: bool
) -> None:
    story = adding()
    gone = ReplicaRemoved(volume="pg", node="n2", uid=uid(1), pool="fast")
    grown = ReplicaResized(volume="pg", node="n1", uid=uid(1), pool="fast", size_bytes=GIB + HEAD)
    for event in (gone, grown) if gone_first else (grown, gone):
        story.say(event)
    failed = ReplicaAdditionFailed(
        volume="pg", operation=uid(8), code=Refusal.DEADLINE, because="", size_bytes=GIB + HEAD
    )
    story.say(failed)
    row = volume(story)
    assert (row.size_bytes, row.wanted_bytes) == (GIB + HEAD, GIB + HEAD)


def test_a_leg_is_larger_than_its_volume_and_the_volume_does_not_tell() -> None:
    story = pair()
    for node in ("n1", "n2"):
        story.say(
            ReplicaResized(volume="pg", node=node, uid=uid(1), pool="fast", size_bytes=GIB + HEAD)
        )
    assert volume(story).size_bytes == GIB
    assert leg(story, "n1").size_bytes == GIB + HEAD


@pytest.mark.parametrize(
    ("tells", "health", "survives"),
    [
        ([("n1", away("n2"), {})], H.DEGRADED, 0),
        ([("n1", away("n2"), {"frozen": True})], H.FROZEN, 0),
        ([("n1", PeerSeen(node="n2"), {"split": True})], H.SPLIT, 0),
        ([("n1", FILLING, {})], H.SYNCING, 0),
        ([("n1", peer("n2"), {"disk": LegDisk.DISKLESS})], H.DEGRADED, 0),
        ([("n1", away("n2"), {"disk": LegDisk.FAILED})], H.FAILED, 0),
        ([("n1", peer("n2", disk=LegDisk.FAILED), {})], H.DEGRADED, 0),
        # The other says it lost n1, n1 has not: the one that is written to knows best.
        ([("n2", away("n1"), {})], H.HEALTHY, 1),
    ],
)
def test_what_nodes_tell_of_two_replicas_is_how_the_volume_is(
    tells: list[tuple[str, PeerSeen, dict[str, Any]]], health: VolumeHealth, survives: int
) -> None:
    story = pair()
    for node, seen, more in tells:
        told(story, node, seen, **more)
    assert _how(story) == (health, survives)


def test_replicas_of_which_nobody_has_told_are_unknown() -> None:
    story = adding()
    story.say(ReplicaAdded(volume="pg", operation=uid(8), members=PAIR))
    assert _how(story) == (H.UNKNOWN, 0)


def test_a_silent_node_whose_peer_still_sees_it_has_a_working_volume() -> None:
    story = pair()
    story.say(NodeFellSilent(node="n1", last_heard=NOON))
    assert _how(story) == (H.HEALTHY, 1)
    assert [one.silent for one in volume(story).replicas] == [True, False]


def test_a_silent_node_that_its_peer_lost_has_failed_until_it_is_heard_again() -> None:
    story = pair()
    story.say(NodeFellSilent(node="n1", last_heard=NOON))
    told(story, "n2", away("n1"))
    assert _how(story) == (H.FAILED, 0)
    story.say(NodeHeard(node="n1"))
    told(story, "n1", peer("n2"))
    assert _how(story) == (H.HEALTHY, 1)


def test_a_silent_node_without_replicas_changes_no_volume() -> None:
    story = pair().node("n3")
    seq = volume(story).seq
    story.say(NodeFellSilent(node="n3", last_heard=NOON))
    assert volume(story).seq == seq


def test_a_peer_that_was_fenced_is_outdated_until_it_has_all_again() -> None:
    story = pair()
    told(story, "n1", away("n2"), frozen=True)
    story.say(PeerFenced(volume="pg", node="n1", peer="n2", epoch=1))
    told(story, "n1", away("n2"), epoch=1)
    row = volume(story)
    assert (row.health, row.epoch, row.survives) == (H.DEGRADED, 1, 0)
    assert (leg(story, "n2").outdated, leg(story, "n1").outdated) == (True, False)
    # It says of itself that it is good, and cannot know better: the log does.
    told(story, "n1", peer("n2"), epoch=1)
    assert _how(story) == (H.DEGRADED, 0)
    story.say(PeerReturned(volume="pg", peer="n2"))
    assert _how(story) == (H.HEALTHY, 1)
    assert not leg(story, "n2").outdated


def test_after_a_failover_another_node_has_it_and_the_silent_one_is_outdated() -> None:
    story = pair()
    story.say(NodeFellSilent(node="n1", last_heard=NOON))
    told(story, "n2", away("n1"))
    story.say(FAILOVER)
    row = volume(story)
    assert (row.state, row.node, row.epoch) == (VolumeState.FAILING_OVER, "n2", 2)
    assert (row.health, row.survives, row.consumer) == (H.DEGRADED, 0, "")
    assert leg(story, "n1").outdated
    story.say(VolumeHandedOver(volume="pg", operation=uid(8), node="n2", attachment=SPEC))
    row = volume(story)
    assert (row.state, row.consumer, row.operation) == (VolumeState.READY, "pod/shop/pg-0", "")


def test_what_is_left_of_the_consumer_on_the_old_node_tells_nothing_of_the_volume() -> None:
    story = pair()
    story.say(FAILOVER)
    story.say(AttachmentMade(volume="pg", node="n2", uid=uid(7), device="/dev/hwbus/pg"))
    story.say(VolumeHandedOver(volume="pg", operation=uid(8), node="n2", attachment=SPEC))
    since = volume(story).kernel_since
    assert since is not None
    late: dict[str, Any] = {"volume": "pg", "node": "n1", "uid": uid(6)}
    story.say(AttachmentTroubled(**late, code=Refusal.IN_USE, because="busy"))
    story.say(AttachmentRemoved(**late))
    row = volume(story)
    assert (row.kernel_since, row.why, row.code) == (since, "", None)


def test_a_hand_over_moves_the_home_and_one_that_failed_tells_why() -> None:
    story = pair()
    began = HandOverBegan(**WORK, from_node="n1", node="n2")
    story.say(began)
    assert volume(story).state is VolumeState.HANDING_OVER
    story.say(VolumeHomeMoved(volume="pg", operation=uid(8), node="n2", epoch=1))
    row = volume(story)
    assert (row.node, row.pool, row.epoch) == ("n2", "fast", 1)
    failed = HandOverFailed(volume="pg", operation=uid(8), code=Refusal.IN_USE, because="busy")
    story.say(failed)
    row = volume(story)
    assert (row.state, row.why) == (VolumeState.READY, "busy")


def test_of_what_was_rolled_back_one_replica_counts_until_the_others_are_filled() -> None:
    story = pair()
    about: dict[str, Any] = {"volume": "pg", "operation": uid(8)}
    story.say(VolumeLocked(**about, uid=uid(1), snapshot="s"))
    story.say(VolumeTiedAnew(**about, node="n2", epoch=1, members=PAIR))
    row = volume(story)
    assert (row.node, row.epoch, row.survives) == ("n2", 1, 0)
    assert [(one.node, one.outdated) for one in row.replicas] == [("n1", True), ("n2", False)]
    assert row.health is H.DEGRADED


def test_a_replica_that_is_leaving_does_not_make_the_volume_worse() -> None:
    story = pair()
    removal = ReplicaRemovalBegan(
        **WORK, node="n2", pool="fast", size_bytes=GIB, members=PAIR, home="n1"
    )
    story.say(removal)
    untied = ReplicaTieWanted(
        volume="pg", node="n1", operation=uid(8), uid=uid(1), size_bytes=GIB + HEAD
    )
    story.say(untied)
    row = volume(story)
    assert (row.state, row.replicas[1].leaving) == (VolumeState.REMOVING_REPLICA, True)
    assert (leg(story, "n1").state, leg(story, "n1").disk_state) == (ReplicaState.TYING, None)
    failed = ReplicaRemovalFailed(
        volume="pg", operation=uid(8), code=Refusal.DEADLINE, because="too late"
    )
    story.say(failed)
    assert not volume(story).replicas[1].leaving


@pytest.mark.parametrize(
    "gone",
    [
        ReplicaRemoved(volume="pg", node="n2", uid=uid(1), pool="fast"),
        ReplicaForgotten(volume="pg", node="n2", operation=uid(8), uid=uid(1), pool="fast"),
    ],
)
def test_with_the_last_peer_gone_the_volume_is_one_leg_as_ever(gone: Event) -> None:
    story = pair()
    story.say(gone)
    removed = VolumeReplicaRemoved(
        volume="pg", operation=uid(8), node="n2", members=(), size_bytes=GIB + HEAD
    )
    story.say(removed)
    row = volume(story)
    assert (row.replicas, row.health, row.replicas_wanted) == ((), None, 1)
    assert (row.state, row.size_bytes, row.node) == (VolumeState.READY, GIB + HEAD, "n1")
    assert story.row(REPLICAS, "n2/pg") is None
    assert (story.row(LEGS, "n1"), story.row(LEGS, "n2")) == (None, None)


def test_a_replica_that_was_lost_is_missed_until_there_is_another() -> None:
    story = pair()
    lost = VolumeReplicaRemoved(
        volume="pg", operation=uid(8), node="n2", members=(), size_bytes=GIB, lost=True
    )
    story.say(lost)
    row = volume(story)
    assert (row.replicas, row.replicas_wanted) == ((), 2)
    assert (row.health, row.survives) == (H.DEGRADED, 0)


def test_a_migration_shows_its_steps_and_keeps_its_deadline() -> None:
    story = pair()
    week = LATER + timedelta(days=7)
    began = MigrationBegan(**{**WORK, "deadline": week}, home="n1", source="n1", members=PAIR)
    story.say(began)
    story.say(HandOverBegan(**WORK, from_node="n1", node="n2"))
    row = volume(story)
    assert (row.state, row.deadline) == (VolumeState.HANDING_OVER, week)
    story.say(VolumeHandedOver(volume="pg", operation=uid(8), node="n2"))
    row = volume(story)
    assert (row.state, row.migrating_from) == (VolumeState.MIGRATING, "n1")
    story.say(VolumeMigrated(volume="pg", operation=uid(8), source="n1"))
    row = volume(story)
    assert (row.state, row.migrating_from, row.operation) == (VolumeState.READY, "", "")


def test_trouble_with_one_replica_is_not_over_because_another_has_none() -> None:
    story = pair()
    troubled = ReplicaTroubled(
        volume="pg", node="n2", uid=uid(1), code=Refusal.METADATA_LOST, because="no metadata"
    )
    story.say(troubled)
    here: dict[str, Any] = {"volume": "pg", "uid": uid(1), "pool": "fast", "size_bytes": GIB}
    story.say(ReplicaResized(node="n1", **here))
    assert volume(story).why == "n2: no metadata"
    story.say(ReplicaResized(node="n2", **here))
    assert volume(story).why == ""


def test_a_replica_tells_its_role_its_peers_and_how_fast_it_is_filled() -> None:
    story = adding()
    told(story, "n2", peer("n1", sync=Sync.TARGET, out_of_sync_bytes=GIB // 2, primary=True))
    told(story, "n2", FILLED, disk=LegDisk.INCONSISTENT, epoch=3)
    story.say(EpochNoted(volume="pg", node="n2", uid=uid(1), epoch=4))
    row = leg(story, "n2")
    assert (row.role, row.disk_state) == (LegRole.SECONDARY, LegDisk.INCONSISTENT)
    assert (row.peers, row.out_of_sync_bytes) == ((FILLED,), GIB // 4)
    assert (row.sync_bytes_per_s, row.seen_in, row.epoch) == (GIB // 4, 3, 4)
    told(story, "n1", FILLING)
    assert volume(story).sync_bytes_per_s == GIB // 4


def test_the_operation_that_has_a_replica_filled_tells_how_far_it_is() -> None:
    story = adding()
    started = OperationStarted(
        operation=uid(8),
        kind=OperationKind.VOLUME_ADD_REPLICA,
        object="volume/pg",
        deadline=LATER,
    )
    story.say(started)
    told(story, "n2", FILLED, disk=LegDisk.INCONSISTENT)
    row = story.row(OPERATIONS, uid(8))
    assert row is not None
    assert (row.copied_bytes, row.of_bytes) == (GIB - GIB // 4, GIB)
    assert row.step == "replica.replication-changed"


def test_a_volume_has_the_room_of_all_its_legs_and_each_pool_that_of_its_own() -> None:
    story = pair()
    room: dict[str, Any] = {"pool": "fast", "node": "n2", "claim": uid(1)}
    story.say(RoomReserved(**room, size_bytes=GIB + HEAD, operation=uid(8)))
    story.say(RoomSettled(**room, size_bytes=GIB + HEAD))
    used = story.row(USAGE, "volume/pg")
    there = story.row(POOLS, "n2/fast")
    assert used is not None
    assert there is not None
    assert (used.capacity_bytes, used.allocated_bytes) == (GIB, 2 * GIB + HEAD)
    assert (there.allocated_bytes, there.volumes) == (GIB + HEAD, 1)
    story.say(RoomReleased(**room))
    used, there = story.row(USAGE, "volume/pg"), story.row(POOLS, "n2/fast")
    assert used is not None
    assert there is not None
    assert (used.allocated_bytes, there.allocated_bytes, there.volumes) == (GIB, 0, 0)


def test_of_a_deleted_volume_no_node_keeps_a_trace() -> None:
    story = pair()
    story.say(VolumeDeleted(volume="pg", uid=uid(1), operation=uid(8)))
    assert story.row(VOLUMES, "pg") is None
    assert (story.row(LEGS, "n1"), story.row(LEGS, "n2")) == (None, None)
    story.say(NodeFellSilent(node="n1", last_heard=NOON))
    assert story.row(VOLUMES, "pg") is None


BEGAN = VerificationBegan(**WORK, node="n1", peers=("n2",), size_bytes=GIB)
FOUND = VolumeVerified(volume="pg", operation=uid(8), at=LATER, differing_bytes=4096, goes_on=True)


def test_a_volume_whose_replicas_are_known_to_differ_is_not_called_healthy() -> None:
    story = pair()
    story.say(BEGAN)
    assert volume(story).compared == ReplicasCompared(operation=uid(8))
    assert (volume(story).state, volume(story).operation) == (VolumeState.READY, "")
    told(story, "n1", peer("n2", sync=Sync.VERIFYING))
    assert _how(story) == (H.HEALTHY, 1)
    told(story, "n1", peer("n2", out_of_sync_bytes=4096))
    assert _how(story) == (H.DIFFERS, 1)
    assert leg(story, "n1").out_of_sync_bytes == 4096
    assert volume(story).replicas[1].out_of_sync_bytes == 4096
    story.say(FOUND)
    known = ReplicasCompared(operation=uid(8), at=LATER, differing_bytes=4096)
    assert volume(story).compared == known
    story.say(RepairBegan(volume="pg", operation=uid(8), node="n1", differing_bytes=4096))
    assert (volume(story).state, volume(story).operation) == (VolumeState.REPAIRING, uid(8))
    told(story, "n1", peer("n2"))
    story.say(VolumeRepaired(volume="pg", operation=uid(8), node="n1", differing_bytes=4096))
    assert _how(story) == (H.HEALTHY, 1)
    assert volume(story).compared == ReplicasCompared(at=LATER)
    assert volume(story).state is VolumeState.READY


def test_a_comparison_that_was_given_up_says_why_and_leaves_what_was_known() -> None:
    story = pair()
    for event in (BEGAN, replace(FOUND, goes_on=False), BEGAN):
        story.say(event)
    failed = VerificationFailed(
        volume="pg", operation=uid(8), code=Refusal.VERIFY_BROKEN, because="lost"
    )
    story.say(failed)
    row = volume(story)
    assert (row.why, row.code, row.state) == ("lost", Refusal.VERIFY_BROKEN, VolumeState.READY)
    assert row.compared == ReplicasCompared(at=LATER, differing_bytes=4096)
