"""A deleted volume is held for a while: it keeps its name, its room and its data."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from aggregates.processes.settlements import owed
from aggregates.volume import VolumePhase
from schemas.deleting import (
    DeleteVolume,
    PurgeVolume,
    UndeleteVolume,
    VolumeDeleted,
    VolumeDeletionBegan,
    VolumeDeletionFailed,
    VolumeHeld,
    VolumeHoldBegan,
    VolumeUndeleted,
    VolumeUndeletionBegan,
    VolumeUndeletionFailed,
)
from schemas.grammar import Event, Message
from schemas.node import NodeFellSilent
from schemas.pool import RemovePool, RoomReleased
from schemas.refusals import Refusal
from schemas.replica import (
    HoldReplica,
    KeepReplica,
    RemoveReplica,
    ReplicaHeld,
    ReplicaHoldWanted,
    ReplicaKept,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaRemoved,
    ReportReplicaAbsent,
    ReportReplicaHeld,
    ReportReplicaPresent,
    ResizeReplica,
)
from schemas.volume import (
    ConcludeVolume,
    GrowVolume,
    ProvisionVolume,
    ReportLegRemoved,
    VolumeGone,
)
from tests.support.given import GIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import DEADLINE, pool_ready, volume_ready

UNTIL = NOON + timedelta(days=1)
PAST = (*pool_ready("n1"), *volume_ready("n1"))
HOLD_BEGAN = VolumeHoldBegan(
    volume="pg",
    uid=UID,
    operation=OPERATION,
    deadline=DEADLINE,
    node="n1",
    pool="fast",
    until=UNTIL,
)
VOLUME_HELD = VolumeHeld(volume="pg", uid=UID, operation=OPERATION, until=UNTIL)
LEG: dict[str, Any] = {"volume": "pg", "node": "n1"}
HOLD_WANTED = ReplicaHoldWanted(**LEG, operation=OPERATION, uid=UID)
LEG_HELD = ReplicaHeld(**LEG, uid=UID)
HELD = (*PAST, HOLD_BEGAN, HOLD_WANTED, LEG_HELD, VOLUME_HELD)
BACK_BEGAN = VolumeUndeletionBegan(
    volume="pg", uid=UID, operation=OPERATION, deadline=DEADLINE, node="n1", pool="fast"
)
PURGE_BEGAN = VolumeDeletionBegan(
    volume="pg", uid=UID, operation=OPERATION, deadline=DEADLINE, node="n1", pool="fast", held=True
)
DONE = ConcludeVolume(volume="pg", operation=OPERATION)
LATE = ConcludeVolume(volume="pg", operation=OPERATION, code=Refusal.DEADLINE, because="late")
DELETED = VolumeDeleted(volume="pg", uid=UID, operation=OPERATION)
FAILED = VolumeDeletionFailed(
    volume="pg", operation=OPERATION, code=Refusal.DEADLINE, because="late"
)


def phase(*past: Event) -> VolumePhase:
    return given(*past).world.volumes["pg"].phase


def test_a_deletion_with_a_hold_keeps_until_when_in_its_event() -> None:
    given(*PAST).when(DeleteVolume(volume="pg", hold_s=86_400)).then(HOLD_BEGAN)


def test_a_deletion_without_a_hold_is_what_it_always_was() -> None:
    plain = replace(PURGE_BEGAN, held=False)
    given(*PAST).when(DeleteVolume(volume="pg")).then(plain)


def test_a_volume_is_held_once_the_node_has_put_it_out_of_use() -> None:
    given(*PAST, HOLD_BEGAN).when(DONE).then(VOLUME_HELD)
    given(*PAST, HOLD_BEGAN).when(replace(DONE, operation=OTHER)).nothing()
    given(*HELD).when(DONE).nothing()


def test_a_volume_that_is_in_use_stays_in_use() -> None:
    failed = replace(FAILED, code=Refusal.IN_USE, because="mounted on /srv")
    report = replace(LATE, code=Refusal.IN_USE, because="mounted on /srv")
    given(*PAST, HOLD_BEGAN).when(report).then(failed)
    assert phase(*PAST, HOLD_BEGAN, failed) is VolumePhase.READY
    given(*PAST, HOLD_BEGAN, failed).when(UndeleteVolume(volume="pg")).refused(
        Refusal.VOLUME_NOT_HELD, "ready"
    )


def test_what_turned_out_to_be_gone_is_deleted() -> None:
    given(*PAST, HOLD_BEGAN).when(replace(DONE, gone=True)).then(DELETED)
    given(*HELD, BACK_BEGAN).when(replace(LATE, gone=True)).then(DELETED)


def test_a_held_volume_keeps_its_name_and_its_room() -> None:
    world = given(*HELD)
    world.when(ProvisionVolume(volume="pg", size_bytes=GIB)).refused(Refusal.VOLUME_EXISTS, "held")
    world.when(RemovePool(pool="fast", node="n1")).refused(Refusal.POOL_IN_USE)
    assert world.world.pools["n1", "fast"].ledger.thick_settled_bytes == GIB
    assert owed(world.world) == ()


@pytest.mark.parametrize(
    "wish",
    [
        GrowVolume(volume="pg", size_bytes=2 * GIB),
        DeleteVolume(volume="pg"),
        DeleteVolume(volume="pg", hold_s=1),
    ],
)
def test_a_held_volume_is_neither_grown_nor_deleted_again(wish: Message) -> None:
    given(*HELD).when(wish).refused(Refusal.VOLUME_HELD, "2026-11-24 12:00:00 UTC")


def test_an_undeleted_volume_is_as_it_was() -> None:
    given(*HELD).when(UndeleteVolume(volume="pg")).then(BACK_BEGAN)
    back = VolumeUndeleted(volume="pg", uid=UID, operation=OPERATION)
    given(*HELD, BACK_BEGAN).when(DONE).then(back)
    before, after = given(*PAST).world, given(*HELD, BACK_BEGAN, back).world
    assert after.volumes == before.volumes


def test_an_undeletion_that_was_given_up_leaves_the_volume_held() -> None:
    failed = VolumeUndeletionFailed(
        volume="pg", operation=OPERATION, code=Refusal.DEADLINE, because="late"
    )
    given(*HELD, BACK_BEGAN).when(LATE).then(failed)
    given(*HELD, BACK_BEGAN, failed).when(UndeleteVolume(volume="pg")).then(BACK_BEGAN)
    assert given(*HELD, BACK_BEGAN, failed).world.volumes["pg"].until == UNTIL


def test_a_purge_deletes_and_one_that_was_given_up_leaves_the_volume_held() -> None:
    given(*HELD).when(PurgeVolume(volume="pg")).then(PURGE_BEGAN)
    given(*HELD, PURGE_BEGAN).when(replace(DONE, gone=True)).then(DELETED)
    assert given(*HELD, PURGE_BEGAN, DELETED).world.volumes == {}
    given(*HELD, PURGE_BEGAN).when(LATE).then(FAILED)
    assert phase(*HELD, PURGE_BEGAN, FAILED) is VolumePhase.HELD


def test_a_purge_may_name_the_hold_and_takes_no_other() -> None:
    given(*HELD).when(PurgeVolume(volume="pg", until=UNTIL)).then(PURGE_BEGAN)
    earlier = UNTIL - timedelta(hours=1)
    given(*HELD).when(PurgeVolume(volume="pg", until=earlier)).refused(
        Refusal.VOLUME_NOT_HELD, "11:00:00", "12:00:00"
    )


@pytest.mark.parametrize("wish", [UndeleteVolume(volume="pg"), PurgeVolume(volume="pg")])
def test_only_what_is_held_is_brought_back_or_purged(wish: Message) -> None:
    given().when(wish).refused(Refusal.UNKNOWN_VOLUME)
    given(*PAST).when(wish).refused(Refusal.VOLUME_NOT_HELD, "ready")
    given(*HELD, BACK_BEGAN).when(wish).refused(Refusal.VOLUME_BUSY, OPERATION)
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    given(*HELD, silent).when(wish).refused(Refusal.NODE_SILENT, "n1")


def test_a_leg_is_held_when_the_node_says_so() -> None:
    hold = HoldReplica(**LEG, operation=OPERATION)
    given(*PAST).when(hold).then(HOLD_WANTED)
    given(*PAST, HOLD_WANTED).when(hold).nothing()
    report = ReportReplicaHeld(**LEG, uid=UID)
    given(*PAST, HOLD_WANTED).when(report).then(LEG_HELD)
    given(*PAST).when(report).nothing()
    given(*HELD).when(report).nothing()


def test_nobody_makes_a_held_leg_larger_or_says_that_it_is_in_use() -> None:
    resize = ResizeReplica(**LEG, operation=OPERATION, size_bytes=2 * GIB)
    present = ReportReplicaPresent(**LEG, uid=UID, size_bytes=GIB, device="/dev/fast/pg")
    for past in ((*PAST, HOLD_WANTED), HELD):
        given(*past).when(resize).refused(Refusal.REPLICA_BUSY)
        given(*past).when(present).nothing()


def test_a_held_leg_is_kept_again_or_removed() -> None:
    withdrawn = ReplicaRemovalWithdrawn(**LEG, operation=OPERATION, uid=UID)
    given(*HELD).when(KeepReplica(**LEG, operation=OPERATION)).then(withdrawn)
    present = ReportReplicaPresent(**LEG, uid=UID, size_bytes=GIB, device="/dev/fast/pg")
    kept = ReplicaKept(**LEG, uid=UID, size_bytes=GIB)
    given(*HELD, withdrawn).when(replace(present, withdrawn=True)).then(kept)
    removal = ReplicaRemovalWanted(**LEG, operation=OPERATION, uid=UID)
    given(*HELD).when(RemoveReplica(**LEG, operation=OPERATION)).then(removal)
    given(*HELD, removal).when(HoldReplica(**LEG, operation=OPERATION)).then(HOLD_WANTED)


def test_a_leg_that_shall_be_held_may_turn_out_to_be_gone() -> None:
    absent, gone = ReportReplicaAbsent(**LEG, uid=UID), ReplicaRemoved(**LEG, uid=UID, pool="fast")
    given(*PAST, HOLD_WANTED).when(absent).then(gone)
    given(*HELD).when(absent).nothing()


def test_a_held_volume_whose_leg_was_removed_after_all_is_gone() -> None:
    gone = ReplicaRemoved(**LEG, uid=UID, pool="fast")
    report = ReportLegRemoved(volume="pg", uid=UID)
    released = RoomReleased(pool="fast", node="n1", claim=UID)
    given(*HELD, gone).when(report).then(VolumeGone(volume="pg", uid=UID))
    assert owed(given(*HELD, gone, released).world) == (report,)
