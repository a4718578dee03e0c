"""A group's row tells who is in it and what was kept last; a schedule's, how its runs went."""

from datetime import timedelta

from msgspec.structs import replace

from projectors.tables import GROUPS, OPERATIONS, SCHEDULES, SNAPSHOTS
from schemas.grammar import Event
from schemas.group_moves import GroupMoveBegan, GroupMoveEnded, Move, Mover
from schemas.group_views import GroupRow, GroupState, ScheduleRow, ScheduleState
from schemas.handing import VolumeHomeMoved
from schemas.legs import ReplicaAdded
from schemas.operation import OperationKind, OperationStarted
from schemas.refusals import Refusal
from schemas.rhythm import BySchedule
from schemas.schedule import (
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleRunBegan,
    ScheduleRunDone,
    ScheduleRunFailed,
)
from schemas.snapshot import SnapshotCreated, SnapshotPrepared
from schemas.snapshot_view import SnapshotState
from schemas.volume_group import (
    GroupRemoved,
    GroupSnapshotBegan,
    GroupSnapshotFailed,
    GroupSnapshotTaken,
    GroupVolumesAdded,
    GroupVolumesLeft,
    Member,
)
from tests.support.clock import NOON
from tests.support.legs_words import members
from tests.unit.projectors.stories import GIB, Story, uid

LATER, OPERATION = NOON + timedelta(hours=1), uid(8)
BEGAN = GroupSnapshotBegan(
    group="shop", snapshot="s", operation=OPERATION, deadline=LATER, node="n1", parts=()
)


def _story() -> Story:
    story = Story().node().pool().volume("pg", 1).volume("wal", 2)
    return story.group("shop", ("pg", 1)).schedule("hourly", 5, "pg")


def _group(story: Story) -> GroupRow:
    row = story.row(GROUPS, "shop")
    assert row is not None
    return row


def _schedule(story: Story) -> ScheduleRow:
    row = story.row(SCHEDULES, "hourly")
    assert row is not None
    return row


def test_volumes_come_and_go() -> None:
    story = _story()
    story.say(GroupVolumesAdded(group="shop", at=NOON, members=(Member(volume="a", uid=uid(3)),)))
    assert _group(story).volumes == ("a", "pg")
    story.say(GroupVolumesLeft(group="shop", volumes=("pg",)))
    assert _group(story).volumes == ("a",)
    story.say(GroupRemoved(group="shop"))
    assert story.row(GROUPS, "shop") is None


def test_a_group_shows_what_is_being_kept_and_what_was_kept_last() -> None:
    story = _story()
    story.say(BEGAN, actor="bob", correlation=OPERATION)
    about = {"kind": OperationKind.GROUP_SNAPSHOT, "object": "group/shop", "deadline": LATER}
    story.say(OperationStarted(operation=OPERATION, **about), correlation=OPERATION)  # type: ignore[arg-type]
    row = _group(story)
    assert (row.state, row.operation) == (GroupState.SNAPSHOTTING, OPERATION)
    operation = story.row(OPERATIONS, OPERATION)
    assert operation is not None
    assert (operation.actor, operation.object) == ("bob", "group/shop")
    no = {"code": Refusal.CAPACITY, "because": "full"}
    story.say(GroupSnapshotFailed(group="shop", snapshot="s", operation=OPERATION, **no))  # type: ignore[arg-type]
    row = _group(story)
    assert (row.state, row.code, row.why) == (GroupState.READY, Refusal.CAPACITY, "full")
    story.say(BEGAN)
    story.say(GroupSnapshotTaken(group="shop", snapshot="s", operation=OPERATION))
    row = _group(story)
    assert (row.last_snapshot, row.code, row.why, row.operation) == ("s", None, "", "")


def test_a_snapshot_of_a_group_knows_its_group_and_its_schedule() -> None:
    story = _story()
    prepared = SnapshotPrepared(
        snapshot="s-pg",
        uid=uid(7),
        operation=OPERATION,
        group="shop",
        together="s",
        volume="pg",
        volume_uid=uid(1),
        node="n1",
        pool="fast",
        size_bytes=GIB,
        by=BySchedule(schedule="hourly", uid=uid(5), due=NOON),
    )
    story.say(prepared)
    row = story.row(SNAPSHOTS, "s-pg")
    assert row is not None
    assert (row.group, row.together, row.schedule) == ("shop", "s", "hourly")
    story.say(SnapshotCreated(snapshot="s-pg", uid=uid(7), operation=OPERATION))
    row = story.row(SNAPSHOTS, "s-pg")
    assert row is not None
    assert (row.state, row.operation) == (SnapshotState.READY, "")


def test_a_schedule_counts_what_was_taken_missed_and_could_not_be_taken() -> None:
    story = _story()
    run = ScheduleRunBegan(
        schedule="hourly", due=LATER, snapshot="a", operation=OPERATION, missed=3
    )
    story.say(run)
    assert _schedule(story).state is ScheduleState.RUNNING
    story.say(ScheduleRunDone(schedule="hourly", due=LATER, snapshot="a"))
    row = _schedule(story)
    assert (row.state, row.last_snapshot, row.taken) == (ScheduleState.ACTIVE, "a", 1)
    assert (row.missed, row.failed, row.last_due) == (3, 0, LATER)
    no = ScheduleRunFailed(
        schedule="hourly", due=LATER, snapshot="b", code=Refusal.VOLUME_BUSY, because="it grows"
    )
    story.say(no)
    row = _schedule(story)
    assert (row.state, row.failed, row.code) == (ScheduleState.FAILING, 1, Refusal.VOLUME_BUSY)
    assert (row.why, row.last_snapshot) == ("it grows", "a")
    story.say(replace(run, missed=0))
    story.say(ScheduleRunDone(schedule="hourly", due=LATER, snapshot="c"))
    row = _schedule(story)
    assert (row.state, row.failed, row.code, row.why) == (ScheduleState.ACTIVE, 1, None, "")


def test_a_paused_schedule_stays_so_whatever_becomes_of_its_last_run() -> None:
    story = _story()
    story.say(ScheduleRunBegan(schedule="hourly", due=LATER, snapshot="a", operation=OPERATION))
    story.say(SchedulePaused(schedule="hourly"))
    story.say(ScheduleRunDone(schedule="hourly", due=LATER, snapshot="a"))
    assert _schedule(story).state is ScheduleState.PAUSED
    story.say(ScheduleResumed(schedule="hourly", at=LATER))
    assert _schedule(story).state is ScheduleState.ACTIVE
    story.say(ScheduleRemoved(schedule="hourly", uid=uid(5)))
    assert story.row(SCHEDULES, "hourly") is None


def _of(volume: str, *names: str) -> tuple[Event, ...]:
    """The volume of that name has replicas there."""
    more = ReplicaAdded(volume=volume, operation=OPERATION, members=members(*names))
    return (more,)


def test_a_group_shows_where_its_volumes_are_and_whether_they_are_apart() -> None:
    story = _story().group("shop", ("pg", 1), ("wal", 2))
    row = _group(story)
    assert (row.state, row.nodes, row.apart) == (GroupState.READY, ("n1",), "")
    story.say(*_of("pg", "n1", "n2"))
    assert _group(story).state is GroupState.READY
    story.say(*_of("wal", "n1", "n3"))
    row = _group(story)
    assert (row.state, row.nodes) == (GroupState.APART, ("n1",))
    assert row.apart == "pg is on n1+n2, wal is on n1+n3"
    story.say(*_of("wal", "n1", "n2"))
    assert _group(story).state is GroupState.READY
    story.say(VolumeHomeMoved(volume="wal", operation=OPERATION, node="n2", epoch=1))
    row = _group(story)
    assert (row.state, row.nodes) == (GroupState.APART, ("n1", "n2"))
    assert row.apart == "pg is on n1+n2, wal is on n2+n1"
    story.say(GroupVolumesLeft(group="shop", volumes=("wal",)))
    assert (_group(story).state, _group(story).nodes) == (GroupState.READY, ("n1",))
    story.say(VolumeHomeMoved(volume="wal", operation=OPERATION, node="n1", epoch=2))
    assert _group(story).nodes == ("n1",)


def test_a_volume_that_is_in_two_groups_for_an_instant_stays_in_the_first() -> None:
    story = _story().group("other", ("pg", 1))
    story.say(GroupVolumesLeft(group="other", volumes=("pg",)))
    story.say(*_of("pg", "n1", "n2"))
    story.say(VolumeHomeMoved(volume="pg", operation=OPERATION, node="n2", epoch=1))
    assert _group(story).nodes == ("n2",)


def test_a_group_shows_that_it_moves_and_why_not_all_of_it_came() -> None:
    story = _story()
    began = GroupMoveBegan(
        group="shop",
        operation=OPERATION,
        deadline=LATER,
        move=Move.MIGRATE,
        node="n2",
        volumes=(Mover(volume="pg", size_bytes=GIB),),
    )
    story.say(began, actor="bob", correlation=OPERATION)
    row = _group(story)
    assert (row.state, row.operation, row.deadline) == (GroupState.MOVING, OPERATION, LATER)
    why = {"code": Refusal.GROUP_NOT_MOVED, "because": "as before: pg"}
    story.say(GroupMoveEnded(group="shop", operation=OPERATION, **why))  # type: ignore[arg-type]
    row = _group(story)
    assert (row.state, row.code, row.why) == (
        GroupState.READY,
        Refusal.GROUP_NOT_MOVED,
        "as before: pg",
    )
