from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.copying import CloneVolume, RestoreVolume, VolumeCloneBegan, VolumeCloneFailed
from schemas.deleting import VolumeHeld
from schemas.grammar import Event, Message
from schemas.node import Capability, NodeCordoned, NodeJoined
from schemas.refusals import Refusal
from schemas.snapshot import (
    CreateSnapshot,
    DeleteSnapshot,
    ReadSnapshot,
    ReportSnapshotRead,
    RollBackSnapshot,
    SnapshotCreated,
    SnapshotCreationBegan,
    SnapshotFailed,
    SnapshotReadingBegan,
    SnapshotReadingEnded,
)
from schemas.volume import (
    ConcludeVolume,
    CopyOf,
    Filesystem,
    Layout,
    VolumeLocked,
    VolumeProvisioningBegan,
    VolumeUnlocked,
)
from tests.support.given import GIB, MIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import DEADLINE, pool_ready, volume_ready

SNAPSHOT_UID = "0" * 25 + "3"
NEW_UID = "0" * 25 + "4"
_ABOUT: dict[str, Any] = {"snapshot": "s", "uid": SNAPSHOT_UID, "operation": OPERATION}


def _with(past: tuple[Event, ...], **fields: Any) -> tuple[Event, ...]:
    """Return *past*, its volume having been made with those fields."""
    return tuple(
        replace(event, **fields) if isinstance(event, VolumeProvisioningBegan) else event
        for event in past
    )


def past(**fields: Any) -> tuple[Event, ...]:
    layout = fields.get("layout", Layout.LINEAR)
    pool = pool_ready("n1", thin_bytes=8 * GIB if layout is Layout.THIN else 0)
    return (
        *pool,
        *_with(volume_ready("n1"), **fields),
        SnapshotCreationBegan(
            **_ABOUT,
            deadline=DEADLINE,
            volume="pg",
            volume_uid=UID,
            node="n1",
            pool="fast",
            size_bytes=GIB,
            reserve_bytes=0 if layout is Layout.THIN else 208 * MIB,
            layout=layout,
        ),
        VolumeLocked(volume="pg", uid=UID, operation=OPERATION, snapshot="s"),
        SnapshotCreated(**_ABOUT),
        VolumeUnlocked(volume="pg", operation=OPERATION, snapshot="s"),
    )


PAST = past(filesystem=Filesystem.XFS)
RESTORE = RestoreVolume(volume="new", snapshot="s")
CLONE = CloneVolume(volume="new", source="pg")
READING = SnapshotReadingBegan(snapshot="s", uid=SNAPSHOT_UID, operation=OTHER)
READ = SnapshotReadingEnded(snapshot="s", uid=SNAPSHOT_UID, operation=OTHER)
CLONING = VolumeCloneBegan(
    volume="new",
    operation=OPERATION,
    deadline=NOON + timedelta(days=7),
    source="pg",
    source_uid=UID,
    snapshot="clone-00000004",
    size_bytes=GIB,
)


def begun(command: Message, *before: Event) -> VolumeProvisioningBegan:
    decision = given(*before).decide(command, uid=NEW_UID)
    assert isinstance(decision, tuple), decision
    (event,) = decision
    assert isinstance(event, VolumeProvisioningBegan)
    return event


def test_a_restored_volume_is_like_the_one_the_snapshot_was_taken_of() -> None:
    event = begun(replace(RESTORE, rate_bytes_per_s=50 * MIB), *PAST)
    assert (event.size_bytes, event.layout) == (GIB, Layout.LINEAR)
    assert event.filesystem is Filesystem.XFS
    assert [(c.node, c.pool, c.code) for c in event.candidates] == [("n1", "fast", None)]
    assert event.source == CopyOf(
        snapshot="s",
        uid=SNAPSHOT_UID,
        volume="pg",
        volume_uid=UID,
        pool="fast",
        size_bytes=GIB,
        rate_bytes_per_s=50 * MIB,
        node="n1",
    )
    assert (event.deadline - NOON).days == 7


def test_it_may_be_larger_and_lie_otherwise() -> None:
    wider = replace(RESTORE, size_bytes=2 * GIB, layout=Layout.STRIPED, stripes=2)
    event = begun(wider, *PAST)
    assert (event.size_bytes, event.layout, event.stripes) == (2 * GIB, Layout.STRIPED, 2)
    assert begun(replace(RESTORE, stripes=2), *PAST).layout is Layout.STRIPED
    thin = begun(RESTORE, *past(layout=Layout.THIN))
    assert thin.layout is Layout.THIN
    assert thin.source is not None
    assert thin.source.thin


@pytest.mark.parametrize(
    ("word", "code", "names"),
    [
        (replace(RESTORE, snapshot="t"), Refusal.UNKNOWN_SNAPSHOT, "t"),
        (replace(RESTORE, volume="pg"), Refusal.VOLUME_EXISTS, "pg"),
        (replace(RESTORE, volume="s"), Refusal.SNAPSHOT_EXISTS, "s"),
        (replace(RESTORE, size_bytes=GIB - 1), Refusal.SMALLER_THAN_SOURCE, "1 GiB"),
        (replace(RESTORE, node="n2"), Refusal.NO_PLACE, "n2"),
        (replace(RESTORE, layout=Layout.STRIPED), Refusal.BAD_LAYOUT, "1 stripes"),
        (replace(RESTORE, pool="none"), Refusal.NO_PLACE, "none"),
        (replace(RESTORE, size_bytes=100 * GIB), Refusal.CAPACITY, "n1/fast"),
        (replace(CLONE, source="none"), Refusal.UNKNOWN_VOLUME, "none"),
        (replace(CLONE, volume="pg"), Refusal.VOLUME_EXISTS, "pg"),
        (replace(CLONE, size_bytes=MIB), Refusal.SMALLER_THAN_SOURCE, "pg"),
        (replace(CLONE, node="n2"), Refusal.SOURCE_ELSEWHERE, "n1"),
    ],
)
def test_what_cannot_be_is_refused(word: Message, code: Refusal, names: str) -> None:

    given(*PAST).when(word).refused(code, names)


def able(*nodes: str) -> tuple[Event, ...]:
    can = (Capability.LVM, Capability.LENDING)
    return tuple(NodeJoined(node=node, capabilities=can) for node in nodes)


def places(word: Message, *before: Event) -> list[tuple[str, str, Refusal | None]]:
    return [(c.node, c.pool, c.code) for c in begun(word, *before).candidates]


TWO = (*PAST, *pool_ready("n2"), *able("n1", "n2"))


def test_a_copy_goes_to_the_node_that_is_asked_for() -> None:
    assert places(replace(RESTORE, node="n2"), *TWO) == [("n2", "fast", None)]
    cloning = given(*TWO).decide(replace(CLONE, node="n2"), uid=NEW_UID)
    assert cloning == (replace(CLONING, node="n2"),)


def test_a_copy_stays_near_its_source_while_there_is_room() -> None:
    emptier = pool_ready("n2", size_bytes=400 * GIB)
    past_ = (*PAST, *emptier, *able("n1", "n2"))
    assert places(RESTORE, *past_) == [("n1", "fast", None), ("n2", "fast", None)]
    larger = replace(RESTORE, size_bytes=100 * GIB)
    assert places(larger, *past_)[0] == ("n2", "fast", None)


def test_a_thin_copy_stays_where_it_shares_while_there_is_room() -> None:
    beside = pool_ready("n1", "a-pool", thin_bytes=400 * GIB)
    afar = pool_ready("n2", thin_bytes=400 * GIB)
    past_ = (*past(layout=Layout.THIN), *beside, *afar, *able("n1", "n2"))
    found = [("n1", "fast", None), ("n1", "a-pool", None), ("n2", "fast", None)]
    assert places(RESTORE, *past_) == found


@pytest.mark.parametrize(("new", "old"), [("n1", "n2"), ("n2", "n1")])
def test_a_worker_that_is_too_old_for_it_copies_to_no_other_node(new: str, old: str) -> None:
    past_ = (*PAST, *pool_ready("n2"), *able(new), NodeJoined(node=old))
    for word in (replace(RESTORE, node="n2"), replace(CLONE, node="n2")):
        given(*past_).when(word).refused(Refusal.SOURCE_ELSEWHERE, f"{old} cannot copy")
    assert places(RESTORE, *past_)[0] == ("n1", "fast", None)


def test_a_copy_leaves_a_node_that_takes_nothing_new() -> None:
    past_ = (*TWO, NodeCordoned(node="n1"))
    assert places(RESTORE, *past_)[0] == ("n2", "fast", None)


def test_what_is_encrypted_is_not_copied() -> None:
    locked = past(key_ref="file:pg")
    given(*locked).when(CLONE).refused(Refusal.ENCRYPTED_SOURCE, "pg")
    began = (
        replace(event, header_bytes=16 * MIB) if isinstance(event, SnapshotCreationBegan) else event
        for event in locked
    )
    given(*began).when(RESTORE).refused(Refusal.ENCRYPTED_SOURCE, "s")


def test_a_lost_snapshot_is_of_no_use() -> None:
    lost = SnapshotFailed(
        snapshot="s", uid=SNAPSHOT_UID, code=Refusal.SNAPSHOT_LOST, because="full"
    )
    given(*PAST, lost).when(RESTORE).refused(Refusal.SNAPSHOT_LOST, "full")
    step = ReadSnapshot(snapshot="s", uid=SNAPSHOT_UID, operation=OTHER)
    given(*PAST, lost).when(step).refused(Refusal.SNAPSHOT_LOST)


def test_a_snapshot_that_is_copied_stays_until_the_last_reader_is_done() -> None:
    step = ReadSnapshot(snapshot="s", uid=SNAPSHOT_UID, operation=OTHER)
    given(*PAST).when(step).then(READING)
    given(*PAST, READING).when(step).nothing()
    given(*PAST).when(replace(step, uid=OTHER)).refused(Refusal.UNKNOWN_SNAPSHOT)
    for word in (DeleteSnapshot(snapshot="s"), RollBackSnapshot(snapshot="s")):
        given(*PAST, READING).when(word).refused(Refusal.SNAPSHOT_BUSY, OTHER)
        assert given(*PAST, READING, READ).decide(word) != ()
    more = replace(step, operation=OPERATION)
    given(*PAST, READING).when(more).then(replace(READING, operation=OPERATION))
    done = ReportSnapshotRead(snapshot="s", uid=SNAPSHOT_UID, operation=OTHER)
    given(*PAST, READING).when(done).then(READ)
    given(*PAST).when(done).nothing()


def test_a_clone_takes_its_name_before_anything_is_done_for_it() -> None:
    assert given(*PAST).decide(CLONE, uid=NEW_UID) == (CLONING,)
    given(*PAST, CLONING).when(CLONE).refused(Refusal.VOLUME_EXISTS, "cloning")
    given(*PAST, CLONING).when(RESTORE).refused(Refusal.VOLUME_EXISTS)
    step = replace(RESTORE, operation=OPERATION)
    assert begun(step, *PAST, CLONING).operation == OPERATION


def test_a_clone_that_came_to_nothing_leaves_its_name_free() -> None:
    why: dict[str, Any] = {"code": Refusal.CAPACITY, "because": "full"}
    failed = VolumeCloneFailed(volume="new", operation=OPERATION, **why)
    report = ConcludeVolume(volume="new", operation=OPERATION, **why)
    given(*PAST, CLONING).when(report).then(failed)
    given(*PAST, CLONING, failed).when(report).nothing()
    assert given(*PAST, CLONING, failed).decide(CLONE, uid=NEW_UID) != ()


def test_what_is_in_work_or_deleted_is_not_cloned() -> None:
    busy = VolumeLocked(volume="pg", uid=UID, operation=OTHER, snapshot="s")
    given(*PAST, busy).when(CLONE).refused(Refusal.VOLUME_BUSY, OTHER)
    held = VolumeHeld(volume="pg", uid=UID, operation=OTHER, until=DEADLINE)
    given(*PAST, held).when(CLONE).refused(Refusal.VOLUME_HELD)
    thin = past(layout=Layout.THIN)
    given(*thin).when(replace(CLONE, reserve_bytes=MIB)).refused(Refusal.NO_RESERVE, "pg")


def test_what_a_larger_operation_does_goes_under_its_id() -> None:
    word = CreateSnapshot(snapshot="t", volume="pg", operation=OTHER)
    decision = given(*PAST).decide(word, uid=NEW_UID)
    assert isinstance(decision, tuple)
    (event,) = decision
    assert isinstance(event, SnapshotCreationBegan)
    assert (event.operation, event.of_operation) == (OTHER, OTHER)
