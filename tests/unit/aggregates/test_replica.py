from typing import Any

from msgspec.structs import replace

from schemas.node import NodeFellSilent, NodeJoined
from schemas.refusals import Refusal
from schemas.replica import (
    CreateReplica,
    KeepReplica,
    MergeReplica,
    RemoveReplica,
    ReplicaCreated,
    ReplicaKept,
    ReplicaMergeWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaRemoved,
    ReplicaResized,
    ReplicaResizeWanted,
    ReplicaSpec,
    ReplicaTroubled,
    ReplicaWanted,
    ReportReplicaAbsent,
    ReportReplicaPresent,
    ReportReplicaTrouble,
    ResizeReplica,
    SnapshotOf,
)
from tests.support.given import GIB, NOON, OPERATION, OTHER, UID, given

HERE: dict[str, Any] = {"volume": "pg", "node": "n1"}
SPEC = ReplicaSpec(uid=UID, pool="fast", size_bytes=GIB)
JOINED = NodeJoined(node="n1")
CREATE = CreateReplica(**HERE, operation=OPERATION, spec=SPEC)
WANTED = ReplicaWanted(**HERE, operation=OPERATION, spec=SPEC)
CREATED = ReplicaCreated(**HERE, uid=UID, pool="fast", size_bytes=GIB, device="/dev/fast/pg")
PRESENT = ReportReplicaPresent(**HERE, uid=UID, size_bytes=GIB, device="/dev/fast/pg")
STAYS = replace(PRESENT, withdrawn=True)
GOING = ReplicaRemovalWanted(**HERE, operation=OPERATION, uid=UID)
STAYING = ReplicaRemovalWithdrawn(**HERE, operation=OPERATION, uid=UID)
REMOVED = ReplicaRemoved(**HERE, uid=UID, pool="fast")
BIGGER = ReplicaResizeWanted(**HERE, operation=OPERATION, uid=UID, size_bytes=2 * GIB)


def test_a_leg_is_wanted_once() -> None:
    given(JOINED).when(CREATE).then(WANTED)
    given(JOINED, WANTED).when(CREATE).nothing()


def test_a_leg_is_not_wanted_of_a_node_that_is_not_heard() -> None:
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    given(JOINED, silent).when(CREATE).refused(Refusal.NODE_SILENT)
    given().when(CREATE).refused(Refusal.UNKNOWN_NODE)


def test_a_node_that_still_holds_an_earlier_leg_of_that_name_is_busy() -> None:
    later = replace(CREATE, spec=replace(SPEC, uid=OTHER))
    given(JOINED, WANTED, CREATED, GOING).when(later).refused(Refusal.REPLICA_BUSY)
    given(JOINED, WANTED, CREATED, GOING, REMOVED).when(later).then(
        replace(WANTED, spec=later.spec)
    )


def test_a_leg_is_created_when_the_node_has_all_that_was_asked_for() -> None:
    given(WANTED).when(PRESENT).then(CREATED)
    given(WANTED, CREATED).when(PRESENT).nothing()
    given(WANTED).when(replace(PRESENT, size_bytes=GIB - 1)).nothing()
    given(WANTED).when(replace(PRESENT, uid=OTHER)).nothing()


def test_a_leg_grows_when_the_node_says_it_has() -> None:
    resized = ReplicaResized(**HERE, uid=UID, pool="fast", size_bytes=2 * GIB)
    larger = replace(PRESENT, size_bytes=2 * GIB)
    resize = ResizeReplica(**HERE, operation=OPERATION, size_bytes=2 * GIB)
    given(WANTED, CREATED).when(resize).then(BIGGER)
    given(WANTED, CREATED, BIGGER).when(resize).nothing()
    given(WANTED, CREATED, BIGGER).when(PRESENT).nothing()
    given(WANTED, CREATED, BIGGER).when(larger).then(resized)


def test_a_wish_to_grow_that_is_withdrawn_ends_with_the_size_there_is() -> None:
    back = ReplicaResizeWanted(**HERE, operation=OPERATION, uid=UID, size_bytes=GIB)
    larger = replace(PRESENT, size_bytes=2 * GIB)
    resized = ReplicaResized(**HERE, uid=UID, pool="fast", size_bytes=2 * GIB)
    given(WANTED, CREATED, BIGGER, back).when(larger).then(resized)
    same = ReplicaResized(**HERE, uid=UID, pool="fast", size_bytes=GIB)
    given(WANTED, CREATED, BIGGER, back).when(PRESENT).then(same)


def test_a_leg_that_shall_go_is_gone_when_the_node_says_so() -> None:
    remove = RemoveReplica(**HERE, operation=OPERATION)
    absent = ReportReplicaAbsent(**HERE, uid=UID)
    given(WANTED, CREATED).when(remove).then(GOING)
    given(WANTED, CREATED, GOING).when(remove).nothing()
    given(WANTED, CREATED, GOING).when(PRESENT).nothing()
    given(WANTED, CREATED, GOING).when(absent).then(REMOVED)
    given(WANTED, CREATED).when(absent).nothing()


def test_a_removal_withdrawn_ends_with_what_the_node_says() -> None:
    keep = KeepReplica(**HERE, operation=OPERATION)
    past = (WANTED, CREATED, GOING, STAYING)
    given(WANTED, CREATED, GOING).when(keep).then(STAYING)
    given(*past).when(keep).nothing()
    given(*past).when(STAYS).then(ReplicaKept(**HERE, uid=UID, size_bytes=GIB))
    # It was on its way when the node was told to remove the leg, and it may be about to.
    given(*past).when(PRESENT).nothing()
    given(*past).when(ReportReplicaAbsent(**HERE, uid=UID)).then(REMOVED)


def test_nothing_is_asked_of_a_leg_that_is_not_there() -> None:
    given(JOINED).when(RemoveReplica(**HERE, operation=OPERATION)).refused(Refusal.UNKNOWN_REPLICA)


def test_a_leg_that_is_going_does_not_grow() -> None:
    resize = ResizeReplica(**HERE, operation=OPERATION, size_bytes=2 * GIB)
    given(WANTED, CREATED, GOING).when(resize).refused(Refusal.REPLICA_BUSY)


def test_a_leg_does_not_grow_before_its_node_has_said_that_it_is_still_there() -> None:
    resize = ResizeReplica(**HERE, operation=OPERATION, size_bytes=2 * GIB)
    unsure = (WANTED, CREATED, GOING, STAYING)
    given(*unsure).when(resize).refused(Refusal.REPLICA_BUSY, "still there")
    absent = ReportReplicaAbsent(**HERE, uid=UID)
    given(*unsure).when(absent).then(REMOVED)
    kept = ReplicaKept(**HERE, uid=UID, size_bytes=GIB)
    given(*unsure, kept).when(resize).then(BIGGER)


def test_the_same_passing_trouble_is_news_once() -> None:
    trouble = ReportReplicaTrouble(**HERE, uid=UID, code=Refusal.TOOL_FAILED, because="lvcreate: 5")
    noted = ReplicaTroubled(**HERE, uid=UID, code=Refusal.TOOL_FAILED, because="lvcreate: 5")
    given(WANTED).when(trouble).then(noted)
    given(WANTED, noted).when(trouble).nothing()
    given(WANTED, noted).when(replace(trouble, permanent=True)).then(replace(noted, permanent=True))


SNAPSHOT = replace(WANTED, spec=replace(SPEC, snapshot_of=SnapshotOf(volume="db", uid=OTHER)))
MERGE = MergeReplica(**HERE, operation=OPERATION)
MERGING = ReplicaMergeWanted(**HERE, operation=OPERATION, uid=UID)


def test_only_the_leg_of_a_snapshot_that_is_there_is_merged() -> None:
    given(JOINED, SNAPSHOT, CREATED).when(MERGE).then(MERGING)
    given(JOINED, SNAPSHOT, CREATED, MERGING).when(MERGE).nothing()
    given(JOINED, WANTED, CREATED).when(MERGE).refused(Refusal.REPLICA_BUSY, "pg")
    given(JOINED, SNAPSHOT).when(MERGE).refused(Refusal.REPLICA_BUSY)
    given(JOINED, SNAPSHOT, CREATED, GOING).when(MERGE).refused(Refusal.REPLICA_BUSY)
    remove = RemoveReplica(**HERE, operation=OPERATION)
    given(JOINED, SNAPSHOT, CREATED, MERGING).when(remove).refused(Refusal.REPLICA_BUSY)


def test_a_leg_is_merged_only_when_the_node_says_that_it_is() -> None:
    absent = ReportReplicaAbsent(**HERE, uid=UID)
    merged = replace(absent, merged=True)
    removed = replace(REMOVED, snapshot=True, merged=True)
    given(JOINED, SNAPSHOT, CREATED, MERGING).when(absent).nothing()
    given(JOINED, SNAPSHOT, CREATED, MERGING).when(PRESENT).nothing()
    given(JOINED, SNAPSHOT, CREATED, MERGING).when(merged).then(removed)


def test_a_merge_that_is_withdrawn_leaves_what_the_node_says_is_there() -> None:
    keep = KeepReplica(**HERE, operation=OPERATION)
    withdrawn = (JOINED, SNAPSHOT, CREATED, MERGING, STAYING)
    given(*withdrawn[:-1]).when(keep).then(STAYING)
    given(*withdrawn).when(STAYS).then(ReplicaKept(**HERE, uid=UID, size_bytes=GIB))
    merged = ReportReplicaAbsent(**HERE, uid=UID, merged=True)
    given(*withdrawn).when(merged).then(replace(REMOVED, snapshot=True, merged=True))
