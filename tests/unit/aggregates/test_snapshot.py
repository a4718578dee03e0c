from typing import Any

import pytest
from msgspec.structs import replace

from schemas.attaching import VolumeAttached
from schemas.attachment import AttachmentSpec
from schemas.deleting import DeleteVolume, VolumeHeld
from schemas.grammar import Event, Message
from schemas.handing import PeerFenced, VolumeHomeMoved
from schemas.legs import ReplicaAdded, VolumeReplicaRemoved
from schemas.node import NodeFellSilent
from schemas.pool import RoomReserved
from schemas.refusals import Refusal
from schemas.replica import Consistency
from schemas.replication import LegDisk
from schemas.snapshot import (
    ConcludeSnapshot,
    CreateSnapshot,
    DeleteSnapshot,
    ReportSnapshotFill,
    ReportSnapshotLegRemoved,
    RollBackSnapshot,
    SnapshotCreated,
    SnapshotCreationBegan,
    SnapshotCreationFailed,
    SnapshotDeleted,
    SnapshotDeletionBegan,
    SnapshotDeletionFailed,
    SnapshotFailed,
    SnapshotFilled,
    SnapshotGone,
    SnapshotRollbackBegan,
    SnapshotRollbackFailed,
    SnapshotRolledBack,
)
from schemas.volume import (
    ConcludeVolume,
    GrowVolume,
    Layout,
    LockVolume,
    ProvisionVolume,
    ReportVolumeSnapshotGone,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeLocked,
    VolumeSnapshotGone,
    VolumeUnlocked,
)
from tests.support.given import GIB, MIB, NOON, OPERATION, OTHER, UID, given
from tests.support.legs_words import fenced, members, tells
from tests.support.words import DEADLINE, pool_ready, volume_ready

SNAPSHOT_UID = "0" * 25 + "3"
PAST = (*pool_ready("n1"), *volume_ready("n1"))
THIN = tuple(
    replace(event, layout=Layout.THIN) if hasattr(event, "candidates") else event
    for event in (*pool_ready("n1", thin_bytes=4 * GIB), *volume_ready("n1"))
)
BACK = RollBackSnapshot(snapshot="s", deadline_s=600)
WISH = CreateSnapshot(snapshot="s", volume="pg")
BEGAN = SnapshotCreationBegan(
    snapshot="s",
    uid=SNAPSHOT_UID,
    operation=OPERATION,
    deadline=DEADLINE,
    volume="pg",
    volume_uid=UID,
    node="n1",
    pool="fast",
    size_bytes=GIB,
    reserve_bytes=-(-GIB // 5),
)
LOCKED = VolumeLocked(volume="pg", uid=UID, operation=OPERATION, snapshot="s")
UNLOCKED = VolumeUnlocked(volume="pg", operation=OPERATION, snapshot="s")
CREATED = SnapshotCreated(
    snapshot="s",
    uid=SNAPSHOT_UID,
    operation=OPERATION,
    reserve_bytes=208 * MIB,
    consistency=Consistency.FILESYSTEM,
)
READY = (*PAST, BEGAN, LOCKED, CREATED, UNLOCKED)
_END: dict[str, Any] = {"snapshot": "s", "uid": SNAPSHOT_UID, "operation": OPERATION}
_OF: dict[str, Any] = {"volume": "pg", "volume_uid": UID, "node": "n1", "pool": "fast"}
DELETION = SnapshotDeletionBegan(**_END, **_OF, deadline=DEADLINE)
ROLLBACK = SnapshotRollbackBegan(**_END, **_OF, deadline=DEADLINE)
GONE = SnapshotGone(snapshot="s", uid=SNAPSHOT_UID, volume="pg", volume_uid=UID)
LOST = SnapshotFailed(snapshot="s", uid=SNAPSHOT_UID, code=Refusal.SNAPSHOT_LOST, because="full")


def test_whoever_means_an_earlier_snapshot_of_the_name_deletes_nothing() -> None:
    other = DeleteSnapshot(snapshot="s", uid=OTHER)
    given(*READY).when(other).refused(Refusal.UNKNOWN_SNAPSHOT, "no more")
    decision = given(*READY).decide(replace(other, uid=SNAPSHOT_UID))
    assert isinstance(decision, tuple)
    assert isinstance(decision[0], SnapshotDeletionBegan)


def reserved(wish: CreateSnapshot, *past: Event) -> int:
    decision = given(*past).decide(wish, uid=SNAPSHOT_UID)
    assert isinstance(decision, tuple)
    (event,) = decision
    assert isinstance(event, SnapshotCreationBegan)
    return event.reserve_bytes


def test_a_snapshot_is_begun_in_the_pool_of_its_volume_with_room_for_a_fifth() -> None:
    assert given(*PAST).decide(WISH, uid=SNAPSHOT_UID) == (BEGAN,)


def test_no_more_is_set_aside_than_a_volume_that_changes_everywhere_needs() -> None:
    assert reserved(replace(WISH, reserve_bytes=MIB), *PAST) == MIB
    most = reserved(replace(WISH, reserve_bytes=9 * GIB), *PAST)
    assert GIB < most < GIB + GIB // 100


def test_a_thin_snapshot_shares_and_reserves_nothing_of_its_own() -> None:
    assert reserved(WISH, *THIN) == 0
    given(*THIN).when(replace(WISH, reserve_bytes=MIB)).refused(Refusal.NO_RESERVE, "pg")


def test_what_is_not_there_has_no_snapshot() -> None:
    given(*pool_ready("n1")).when(WISH).refused(Refusal.UNKNOWN_VOLUME, "pg")
    given(*PAST).when(DeleteSnapshot(snapshot="s")).refused(Refusal.UNKNOWN_SNAPSHOT, "s")
    given(*PAST).when(BACK).refused(Refusal.UNKNOWN_SNAPSHOT)


def test_volumes_and_snapshots_share_their_names() -> None:
    given(*READY).when(WISH).refused(Refusal.SNAPSHOT_EXISTS, "s")
    given(*PAST).when(replace(WISH, snapshot="pg")).refused(Refusal.VOLUME_EXISTS, "pg")
    volume = ProvisionVolume(volume="s", size_bytes=GIB)
    given(*READY).when(volume).refused(Refusal.SNAPSHOT_EXISTS, "s")


def test_a_name_whose_earlier_leg_may_still_be_there_is_not_free() -> None:
    given(*PAST, LOCKED, UNLOCKED).when(WISH).refused(Refusal.REPLICA_BUSY, "n1", "s")


def test_a_snapshot_needs_room_and_a_node_that_is_heard() -> None:
    full = RoomReserved(
        pool="fast", node="n1", claim=OTHER, size_bytes=19 * GIB, operation=OPERATION
    )
    given(*PAST, full).when(WISH).refused(Refusal.CAPACITY, "n1/fast")
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    given(*PAST, silent).when(WISH).refused(Refusal.NODE_SILENT)
    given(*READY, silent).when(BACK).refused(Refusal.NODE_SILENT)


def test_a_snapshot_is_there_as_the_operation_says_it_is() -> None:
    report = ConcludeSnapshot(
        snapshot="s",
        operation=OPERATION,
        reserve_bytes=208 * MIB,
        consistency=Consistency.FILESYSTEM,
    )
    given(*PAST, BEGAN, LOCKED).when(report).then(CREATED)
    given(*READY).when(report).nothing()
    given(*PAST, BEGAN).when(replace(report, operation=OTHER)).nothing()


def test_a_snapshot_that_could_not_be_taken_leaves_its_name_free() -> None:
    no: dict[str, Any] = {"code": Refusal.DEADLINE, "because": "late"}
    report = ConcludeSnapshot(snapshot="s", operation=OPERATION, **no)
    failed = SnapshotCreationFailed(**_END, **no)
    given(*PAST, BEGAN).when(report).then(failed)
    assert given(*PAST, BEGAN, failed).decide(WISH, uid=SNAPSHOT_UID) == (BEGAN,)


WORK: list[Message] = [
    WISH,
    GrowVolume(volume="pg", size_bytes=2 * GIB),
    DeleteVolume(volume="pg"),
    LockVolume(volume="pg", uid=UID, operation=OTHER, snapshot="other"),
]


@pytest.mark.parametrize("command", WORK, ids=lambda word: type(word).__name__)
def test_while_a_volume_is_held_nothing_else_is_begun_with_it(command: Message) -> None:
    given(*PAST, LOCKED).when(command).refused(Refusal.VOLUME_BUSY, OPERATION)


def test_while_a_volume_grows_no_snapshot_of_it_is_taken_deleted_or_rolled_back() -> None:
    growth = VolumeGrowthBegan(
        volume="pg",
        uid=UID,
        operation=OTHER,
        deadline=DEADLINE,
        node="n1",
        pool="fast",
        from_bytes=GIB,
        size_bytes=2 * GIB,
    )
    given(*PAST, growth).when(WISH).refused(Refusal.VOLUME_BUSY, OTHER)
    for command in (DeleteSnapshot(snapshot="s"), BACK):
        given(*READY, growth).when(command).refused(Refusal.VOLUME_BUSY, OTHER)


def test_a_volume_is_held_once_and_freed_by_the_same_operation() -> None:
    lock = LockVolume(volume="pg", uid=UID, operation=OPERATION, snapshot="s")
    given(*PAST).when(lock).then(LOCKED)
    given(*PAST, LOCKED).when(lock).nothing()
    given(*PAST).when(replace(lock, uid=OTHER)).refused(Refusal.UNKNOWN_VOLUME)
    free = ConcludeVolume(volume="pg", operation=OPERATION)
    given(*PAST, LOCKED).when(free).then(UNLOCKED)
    given(*PAST, LOCKED).when(replace(free, gone=True)).then(replace(UNLOCKED, gone=True))
    given(*PAST, LOCKED, UNLOCKED).when(free).nothing()


def test_a_volume_with_snapshots_is_neither_deleted_nor_grown_if_thick() -> None:
    grow, delete = GrowVolume(volume="pg", size_bytes=2 * GIB), DeleteVolume(volume="pg")
    given(*READY).when(grow).refused(Refusal.HAS_SNAPSHOTS, "s")
    given(*READY).when(delete).refused(Refusal.HAS_SNAPSHOTS, "s")
    thin = given(*THIN, LOCKED, UNLOCKED)
    thin.when(delete).refused(Refusal.HAS_SNAPSHOTS)
    assert isinstance(thin.decide(grow), tuple)
    unlocked = replace(UNLOCKED, gone=True)
    assert isinstance(given(*PAST, LOCKED, unlocked).decide(delete), tuple)


def test_a_volume_forgets_a_snapshot_that_is_gone() -> None:
    report = ReportVolumeSnapshotGone(volume="pg", uid=UID, snapshot="s")
    gone = VolumeSnapshotGone(volume="pg", snapshot="s")
    given(*READY).when(report).then(gone)
    given(*READY, gone).when(report).nothing()
    given(*READY).when(replace(report, uid=OTHER)).nothing()
    assert isinstance(given(*READY, gone).decide(DeleteVolume(volume="pg")), tuple)


def test_a_snapshot_is_deleted_or_stays() -> None:
    given(*READY).when(DeleteSnapshot(snapshot="s")).then(DELETION)
    going = given(*READY, DELETION)
    going.when(DeleteSnapshot(snapshot="s")).refused(Refusal.SNAPSHOT_BUSY, OPERATION)
    report = ConcludeSnapshot(snapshot="s", operation=OPERATION, gone=True)
    going.when(report).then(SnapshotDeleted(**_END))
    kept = ConcludeSnapshot(
        snapshot="s", operation=OPERATION, code=Refusal.IN_USE, because="mounted"
    )
    stays = SnapshotDeletionFailed(
        snapshot="s", operation=OPERATION, code=Refusal.IN_USE, because="mounted"
    )
    going.when(kept).then(stays)
    given(*READY, DELETION, stays).when(DeleteSnapshot(snapshot="s")).then(DELETION)


def test_a_rollback_uses_the_snapshot_up() -> None:
    given(*READY).when(BACK).then(ROLLBACK)
    done = ConcludeSnapshot(snapshot="s", operation=OPERATION, gone=True)
    back = SnapshotRolledBack(**_END, volume="pg")
    given(*READY, ROLLBACK).when(done).then(back)
    given(*READY, ROLLBACK, back).when(DeleteSnapshot(snapshot="s")).refused(
        Refusal.UNKNOWN_SNAPSHOT
    )


def test_a_rollback_that_was_given_up_leaves_the_snapshot_unless_it_is_gone() -> None:
    report = ConcludeSnapshot(
        snapshot="s", operation=OPERATION, code=Refusal.IN_USE, because="mounted"
    )
    failed = SnapshotRollbackFailed(
        snapshot="s", operation=OPERATION, code=Refusal.IN_USE, because="mounted"
    )
    given(*READY, ROLLBACK).when(report).then(failed)
    given(*READY, ROLLBACK).when(replace(report, gone=True)).then(failed, GONE)
    given(*READY, ROLLBACK, failed).when(BACK).then(ROLLBACK)


def test_a_volume_that_has_grown_since_is_not_made_smaller() -> None:
    grown = VolumeGrown(volume="pg", operation=OPERATION, size_bytes=2 * GIB)
    past = (*THIN, BEGAN, LOCKED, CREATED, UNLOCKED, grown)
    given(*past).when(BACK).refused(Refusal.GROWN_SINCE, "pg")


def test_a_filling_snapshot_says_so_once_a_mark_and_an_overflow_is_never_silent() -> None:
    def fill(percent: int, *, overflowed: bool = False) -> ReportSnapshotFill:
        return ReportSnapshotFill(
            snapshot="s", uid=SNAPSHOT_UID, data_percent=percent, overflowed=overflowed
        )

    filled = SnapshotFilled(snapshot="s", data_percent=80)
    given(*READY).when(fill(80)).then(filled)
    given(*READY, filled).when(fill(80)).nothing()
    given(*READY).when(replace(fill(80), uid=OTHER)).nothing()
    decision = given(*READY, filled).decide(fill(100, overflowed=True))
    assert isinstance(decision, tuple)
    full, failed = decision
    assert full == SnapshotFilled(snapshot="s", data_percent=100)
    assert isinstance(failed, SnapshotFailed)
    assert failed.because
    given(*READY, full, failed).when(fill(100, overflowed=True)).nothing()


def test_a_lost_snapshot_can_only_be_deleted() -> None:
    given(*READY, LOST).when(BACK).refused(Refusal.SNAPSHOT_LOST, "full")
    given(*READY, LOST).when(DeleteSnapshot(snapshot="s")).then(DELETION)


def test_a_leg_that_went_after_all_takes_the_snapshot_with_it() -> None:
    report = ReportSnapshotLegRemoved(snapshot="s", uid=SNAPSHOT_UID)
    given(*READY).when(report).then(GONE)
    given(*READY).when(replace(report, uid=OTHER)).nothing()
    given(*READY, DELETION).when(report).nothing()
    given(*READY, GONE).when(report).nothing()


def test_what_a_consumer_has_is_not_rolled_back_and_what_was_deleted_not_snapshotted() -> None:
    spec = AttachmentSpec(uid=OTHER, volume_uid=UID, pool="fast", consumer="host/db")
    attached = VolumeAttached(volume="pg", operation=OPERATION, attachment=spec)
    given(*READY, attached).when(RollBackSnapshot(snapshot="s")).refused(
        Refusal.VOLUME_ATTACHED, "host/db", "be rolled back"
    )
    held = VolumeHeld(volume="pg", uid=UID, operation=OPERATION, until=DEADLINE)
    given(*PAST, held).when(WISH).refused(Refusal.VOLUME_HELD, "pg")
    lock = LockVolume(volume="pg", uid=UID, operation=OTHER, snapshot="s")
    given(*PAST, held).when(lock).refused(Refusal.VOLUME_HELD, "pg")


def _replicated(*nodes: str) -> tuple[Event, ...]:
    there = tuple(one for node in nodes if node != "n1" for one in pool_ready(node))
    added = ReplicaAdded(volume="pg", operation=OPERATION, members=members(*nodes))
    return (*READY, *there, added)


def test_a_volume_with_several_replicas_is_rolled_back_where_the_snapshot_is() -> None:
    among = replace(ROLLBACK, members=members("n1", "n2"), device_bytes=GIB)
    both = (*_replicated("n1", "n2"), tells("n2"))
    given(*both).when(BACK).then(among)
    moved = VolumeHomeMoved(volume="pg", operation=OPERATION, node="n2", epoch=1)
    given(*both, moved).when(BACK).then(among)


def test_no_replica_is_rolled_back_while_another_is_behind() -> None:
    """If it cannot be had after its merge, the volume goes on with what the other has."""
    both = _replicated("n1", "n2")
    given(*both).when(BACK).refused(Refusal.NOT_UP_TO_DATE, "n2")
    filled = tells("n2", LegDisk.INCONSISTENT)
    given(*both, filled).when(BACK).refused(Refusal.NOT_UP_TO_DATE, "n2")
    given(*both, tells("n2"), fenced("n2")).when(BACK).refused(Refusal.NOT_UP_TO_DATE, "n2")
    moved = VolumeHomeMoved(volume="pg", operation=OPERATION, node="n2", epoch=1)
    missed = PeerFenced(volume="pg", node="n2", peer="n1", epoch=2)
    assert isinstance(given(*both, tells("n2"), moved, missed).decide(BACK), tuple)


def test_a_volume_is_not_rolled_back_behind_the_back_of_a_node_or_where_it_is_no_more() -> None:
    silent = NodeFellSilent(node="n2", last_heard=NOON)
    given(*_replicated("n1", "n2"), silent).when(BACK).refused(Refusal.NODE_SILENT, "n2")
    given(*_replicated("n2", "n3")).when(BACK).refused(Refusal.NO_SUCH_REPLICA, "no replica on n1")
    both = _replicated("n1", "n2")
    moved = VolumeHomeMoved(volume="pg", operation=OPERATION, node="n2", epoch=1)
    left = VolumeReplicaRemoved(
        volume="pg", operation=OPERATION, node="n1", members=(), size_bytes=GIB, lost=True
    )
    given(*both, moved, left).when(BACK).refused(Refusal.NO_SUCH_REPLICA, "it is on n2")


def test_what_the_replication_had_of_a_leg_is_no_growth_when_the_volume_is_plain_again() -> None:
    """Whoever has lost the other node for good still gets back what was kept on this one."""
    room = 4 * MIB
    kept = (*PAST, replace(BEGAN, head_room_bytes=room), LOCKED, CREATED, UNLOCKED)
    left = VolumeReplicaRemoved(
        volume="pg",
        operation=OPERATION,
        node="n2",
        members=(),
        size_bytes=BEGAN.size_bytes + room,
        lost=True,
    )
    given(*kept, left).when(BACK).then(ROLLBACK)
    given(*READY, left).when(BACK).refused(Refusal.GROWN_SINCE)
    more = replace(left, size_bytes=left.size_bytes + MIB)
    given(*kept, more).when(BACK).refused(Refusal.GROWN_SINCE)
