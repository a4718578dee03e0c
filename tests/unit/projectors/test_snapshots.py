"""A snapshot's row tells of what it is, how full it is, and when it is of no use any more."""

from datetime import timedelta

import pytest

from projectors.tables import OPERATIONS, OWNERS, POOLS, SNAPSHOTS, USAGE, VOLUMES
from schemas.operation import OperationKind, OperationStarted
from schemas.pool import RoomReleased
from schemas.refusals import Refusal
from schemas.replica import Consistency, ReplicaTroubled
from schemas.snapshot import (
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
from schemas.snapshot_view import SnapshotRow, SnapshotState
from schemas.usage_view import UsageLevel
from schemas.views import VolumeState
from schemas.volume import Layout, VolumeLocked, VolumeUnlocked
from tests.support.clock import NOON
from tests.unit.projectors.stories import GIB, MIB, Story, uid

LATER = NOON + timedelta(hours=1)
SNAP, OPERATION = uid(7), uid(8)
ROLLBACK = SnapshotRollbackBegan(
    snapshot="s",
    uid=SNAP,
    operation=OPERATION,
    deadline=LATER,
    volume="pg",
    volume_uid=uid(1),
    node="n1",
    pool="fast",
)
LOST = SnapshotFailed(snapshot="s", uid=SNAP, code=Refusal.SNAPSHOT_LOST, because="it is full")


def _ready(layout: Layout = Layout.LINEAR) -> Story:
    thin = 4 * GIB if layout is Layout.THIN else 0
    story = Story().node().pool(thin=thin).volume("pg", 1, layout=layout)
    return story.snapshot("s", 7, "pg", 1, layout=layout)


def _row(story: Story) -> SnapshotRow:
    row = story.row(SNAPSHOTS, "s")
    assert row is not None
    return row


def test_a_snapshot_shows_what_it_is_of_where_it_is_and_what_it_caught() -> None:
    row = _row(_ready())
    assert (row.volume, row.node, row.pool, row.device) == ("pg", "n1", "fast", "/dev/fast/s")
    assert (row.state, row.consistency) == (SnapshotState.READY, Consistency.FILESYSTEM)
    assert (row.size_bytes, row.reserve_bytes, row.fill_percent) == (GIB, 200 * MIB, 0)
    assert (row.operation, row.deadline) == ("", None)


@pytest.mark.parametrize(
    ("layout", "capacity", "allocated", "promised"),
    [(Layout.LINEAR, 200 * MIB, 200 * MIB, 0), (Layout.THIN, GIB, 0, GIB)],
)
def test_what_a_snapshot_takes_is_in_its_own_usage_and_in_that_of_its_pool(
    layout: Layout, capacity: int, allocated: int, promised: int
) -> None:
    story = _ready(layout)
    usage = story.row(USAGE, "snapshot/s")
    assert usage is not None
    assert (usage.level, usage.capacity_bytes) == (UsageLevel.SNAPSHOT, capacity)
    assert (usage.allocated_bytes, usage.thin_committed_bytes) == (allocated, promised)
    pool = story.row(POOLS, "n1/fast")
    assert pool is not None
    assert pool.volumes == 2
    story.say(RoomReleased(pool="fast", node="n1", claim=SNAP))
    story.say(SnapshotDeleted(snapshot="s", uid=SNAP, operation=OPERATION))
    after = story.row(POOLS, "n1/fast")
    assert after is not None
    assert after.allocated_bytes == pool.allocated_bytes - allocated
    assert story.row(USAGE, "snapshot/s") is None


def test_a_filling_snapshot_shows_its_mark_and_a_lost_one_that_it_failed_and_why() -> None:
    story = _ready()
    story.say(SnapshotFilled(snapshot="s", data_percent=90))
    assert (_row(story).state, _row(story).fill_percent) == (SnapshotState.READY, 90)
    story.say(SnapshotFilled(snapshot="s", data_percent=100), LOST)
    row = _row(story)
    assert (row.state, row.lost, row.why) == (SnapshotState.FAILED, True, "it is full")
    assert row.code is Refusal.SNAPSHOT_LOST


def test_a_rollback_shows_and_the_snapshot_is_used_up_by_it() -> None:
    story = _ready()
    story.say(ROLLBACK)
    row = _row(story)
    assert (row.state, row.operation) == (SnapshotState.ROLLING_BACK, OPERATION)
    assert row.deadline == LATER
    story.say(SnapshotRolledBack(snapshot="s", uid=SNAP, operation=OPERATION, volume="pg"))
    assert story.row(SNAPSHOTS, "s") is None
    assert story.row(OWNERS, SNAP) is None


def test_what_was_given_up_leaves_the_snapshot_as_it_was_with_the_reason() -> None:
    for failed in (SnapshotRollbackFailed, SnapshotDeletionFailed):
        story = _ready()
        story.say(ROLLBACK)
        no = failed(snapshot="s", operation=OPERATION, code=Refusal.IN_USE, because="mounted")
        story.say(no)
        row = _row(story)
        assert (row.state, row.code, row.why) == (SnapshotState.READY, Refusal.IN_USE, "mounted")


def test_a_lost_snapshot_stays_failed_when_its_deletion_is_given_up() -> None:
    story = _ready()
    story.say(LOST)
    about = {f: getattr(ROLLBACK, f) for f in SnapshotDeletionBegan.__struct_fields__}
    story.say(SnapshotDeletionBegan(**about))
    assert _row(story).state is SnapshotState.DELETING
    story.say(
        SnapshotDeletionFailed(
            snapshot="s", operation=OPERATION, code=Refusal.IN_USE, because="mounted"
        )
    )
    assert _row(story).state is SnapshotState.FAILED


def test_a_snapshot_that_failed_to_be_or_is_gone_after_all_is_not_shown() -> None:
    story = _ready()
    story.say(SnapshotGone(snapshot="s", uid=SNAP, volume="pg", volume_uid=uid(1)))
    assert story.row(SNAPSHOTS, "s") is None
    story = _ready()
    no = {"code": Refusal.CAPACITY, "because": "full"}
    story.say(SnapshotCreationFailed(snapshot="s", uid=SNAP, operation=OPERATION, **no))  # type: ignore[arg-type]
    assert story.row(SNAPSHOTS, "s") is None


def test_the_trouble_of_a_leg_shows_on_its_snapshot() -> None:
    story = _ready()
    trouble = ReplicaTroubled(
        volume="s", node="n1", uid=SNAP, code=Refusal.IN_USE, because="mounted"
    )
    story.say(trouble)
    assert (_row(story).code, _row(story).why) == (Refusal.IN_USE, "mounted")


def test_a_volume_shows_that_it_is_held() -> None:
    story = _ready()
    story.say(VolumeLocked(volume="pg", uid=uid(1), operation=OPERATION, snapshot="s"))
    row = story.row(VOLUMES, "pg")
    assert row is not None
    assert (row.state, row.operation) == (VolumeState.LOCKED, OPERATION)
    story.say(VolumeUnlocked(volume="pg", operation=OPERATION, snapshot="s"))
    row = story.row(VOLUMES, "pg")
    assert row is not None
    assert (row.state, row.operation, row.size_bytes) == (VolumeState.READY, "", GIB)


def test_an_operation_on_a_snapshot_knows_who_wanted_it() -> None:
    story = _ready()
    story.say(ROLLBACK, actor="bob", correlation=OPERATION)
    story.say(
        OperationStarted(
            operation=OPERATION,
            kind=OperationKind.SNAPSHOT_ROLL_BACK,
            object="snapshot/s",
            deadline=LATER,
        ),
        actor="hwbus",
        correlation=OPERATION,
    )
    row = story.row(OPERATIONS, OPERATION)
    assert row is not None
    assert (row.actor, row.object) == ("bob", "snapshot/s")
