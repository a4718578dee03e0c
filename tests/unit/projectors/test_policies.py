"""A policy's row tells what it does, what it did last, and what it cannot do and why."""

from datetime import timedelta
from typing import Any

from projectors.tables import OPERATIONS, POLICIES, POOLS, SNAPSHOTS, VOLUMES
from schemas.disk import DiskClass
from schemas.filling import VolumeFilled
from schemas.growing import (
    SnapshotGrown,
    SnapshotGrowthBegan,
    SnapshotGrowthFailed,
    ThinPoolGrown,
    ThinPoolGrowthAbandoned,
    ThinPoolGrowthBegan,
    ThinPoolKept,
)
from schemas.operation import OperationKind, OperationStarted
from schemas.policy import (
    PolicyActed,
    PolicyAlarmed,
    PolicyAnswered,
    PolicyCalmed,
    PolicyChanged,
    PolicyKind,
    PolicyPaused,
    PolicyRemoved,
    PolicyResumed,
    PolicySpec,
    Selector,
)
from schemas.policy_view import PolicyAlarm, PolicyRow, PolicyState
from schemas.pool import PoolFacts, ThinPoolFilled
from schemas.refusals import Refusal
from schemas.rhythm import Rhythm
from schemas.snapshot import SnapshotFilled
from schemas.snapshot_view import SnapshotState
from schemas.views import PoolState
from schemas.volume import GrowVolume, VolumeGrown
from tests.support.clock import NOON
from tests.unit.projectors.stories import GIB, MIB, Story, uid

SPEC = PolicySpec(
    kind=PolicyKind.GROW_VOLUMES,
    selector=Selector(node="n1", pool="fast"),
    threshold_percent=80,
    step_percent=20,
    ceiling_bytes=9 * GIB,
)
ABOUT: dict[str, Any] = {"policy": "p", "uid": uid(5), "object": "volume/pg"}
WISH = GrowVolume(volume="pg", size_bytes=2 * GIB)
FULL: dict[str, Any] = {"code": Refusal.CEILING_REACHED, "because": "it is full"}
LATER = NOON + timedelta(hours=1)
POOL: dict[str, Any] = {"pool": "fast", "node": "n1"}


def _story(*events: Any) -> Story:
    story = Story()
    story.say(PolicyChanged(policy="p", uid=uid(5), spec=SPEC))
    for event in events:
        story.say(event)
    return story


def _row(story: Story) -> PolicyRow:
    row = story.row(POLICIES, "p")
    assert row is not None
    return row


def test_a_policy_shows_what_it_does_to_what() -> None:
    row = _row(_story())
    assert (row.kind, row.state, row.why) == (PolicyKind.GROW_VOLUMES, PolicyState.ACTIVE, "")
    assert (row.node, row.pool, row.volume, row.media) == ("n1", "fast", "", None)
    told = (row.threshold_percent, row.step_percent, row.step_bytes, row.ceiling_bytes)
    assert told == (80, 20, 0, 9 * GIB)
    add = PolicySpec(kind=PolicyKind.ADD_DISKS, selector=Selector(pool="fast"), media=DiskClass.SSD)
    changed = _row(_story(PolicyChanged(policy="p", uid=uid(5), spec=add)))
    assert (changed.media, changed.step_percent, changed.version) == (DiskClass.SSD, 0, 2)
    assert _story(PolicyRemoved(policy="p", uid=uid(5))).row(POLICIES, "p") is None


def test_a_policy_shows_what_it_did_last_and_what_came_of_it() -> None:
    acted = PolicyActed(**ABOUT, number=3, wish=WISH, at=NOON)
    row = _row(_story(acted))
    assert (row.acts, row.last_object, row.last_act_at) == (3, "volume/pg", NOON)
    assert (row.last_operation, row.last_code) == ("", None)
    begun = PolicyAnswered(**ABOUT, number=3, operation=uid(8))
    assert _row(_story(acted, begun)).last_operation == uid(8)
    refused = PolicyAnswered(**ABOUT, number=3, code=Refusal.VOLUME_BUSY)
    assert _row(_story(acted, refused)).last_code is Refusal.VOLUME_BUSY
    late = PolicyAnswered(**ABOUT, number=2, operation=uid(9))
    assert _row(_story(acted, begun, late)).last_operation == uid(8)


def test_alarms_are_shown_with_the_newest_reason_until_they_are_over() -> None:
    alarm = PolicyAlarmed(**ABOUT, **FULL, at=NOON)
    other = PolicyAlarmed(
        **{**ABOUT, "object": "volume/b"}, code=Refusal.CAPACITY, because="no room", at=LATER
    )
    row = _row(_story(alarm, other))
    assert (row.state, row.why) == (PolicyState.ALARM, "HW-P003 no room")
    assert row.alarms == (
        PolicyAlarm(object="volume/pg", **FULL, since=NOON),
        PolicyAlarm(object="volume/b", code=Refusal.CAPACITY, because="no room", since=LATER),
    )
    again = _row(_story(alarm, PolicyAlarmed(**ABOUT, **FULL, at=LATER)))
    assert [one.since for one in again.alarms] == [LATER]
    calm = PolicyCalmed(**ABOUT)
    assert _row(_story(alarm, other, calm)).why == "HW-P003 no room"
    over = _row(_story(alarm, calm))
    assert (over.state, over.why, over.alarms) == (PolicyState.ACTIVE, "", ())


def test_a_paused_policy_says_so_and_why_whatever_its_alarms() -> None:
    alarm = PolicyAlarmed(**ABOUT, **FULL, at=NOON)
    paused = PolicyPaused(policy="p", because="moving house")
    row = _row(_story(paused, alarm))
    assert (row.state, row.why) == (PolicyState.PAUSED, "moving house")
    resumed = PolicyResumed(policy="p")
    assert _row(_story(paused, alarm, resumed)).state is PolicyState.ALARM
    assert _row(_story(paused, resumed)).why == ""


def test_a_volume_shows_how_full_it_is_until_it_has_grown() -> None:
    story = Story().node().pool().volume("pg", 1)
    story.say(
        VolumeFilled(volume="pg", uid=uid(1), data_percent=85, used_bytes=85, filesystem_bytes=100)
    )
    row = story.row(VOLUMES, "pg")
    assert row is not None
    assert (row.fill_percent, row.used_bytes, row.filesystem_bytes) == (85, 85, 100)
    story.say(VolumeGrown(volume="pg", operation=uid(8), size_bytes=2 * GIB))
    row = story.row(VOLUMES, "pg")
    assert row is not None
    assert (row.fill_percent, row.size_bytes) == (0, 2 * GIB)


def test_a_snapshot_that_grows_shows_its_new_room_or_why_it_has_none() -> None:
    story = Story().node().pool().volume("pg", 1).snapshot("s", 7, "pg", 1)
    story.say(SnapshotFilled(snapshot="s", data_percent=85))
    about: dict[str, Any] = {"snapshot": "s", "operation": uid(8)}
    began = SnapshotGrowthBegan(
        **about,
        uid=uid(7),
        deadline=LATER,
        volume="pg",
        volume_uid=uid(1),
        node="n1",
        pool="fast",
        from_bytes=MIB,
        reserve_bytes=8 * MIB,
    )
    story.say(began, actor="policy:p")
    row = story.row(SNAPSHOTS, "s")
    assert row is not None
    assert (row.state, row.operation) == (SnapshotState.GROWING, uid(8))
    failed = SnapshotGrowthFailed(**about, reserve_bytes=MIB, code=Refusal.DEADLINE, because="late")
    story.say(failed)
    row = story.row(SNAPSHOTS, "s")
    assert row is not None
    assert (row.state, row.why, row.fill_percent) == (SnapshotState.READY, "late", 85)
    story.say(began)
    story.say(SnapshotGrown(**about, reserve_bytes=8 * MIB))
    row = story.row(SNAPSHOTS, "s")
    assert row is not None
    assert (row.state, row.reserve_bytes, row.fill_percent, row.why) == (
        *(SnapshotState.READY, 8 * MIB),
        *(0, ""),
    )


def test_room_for_a_growing_thin_pool_is_available_to_nobody_else() -> None:
    story = Story().node().pool(thin=4 * GIB)
    before = story.row(POOLS, "n1/fast")
    assert before is not None
    story.say(ThinPoolFilled(**POOL, data_percent=85, metadata_percent=55))
    began = ThinPoolGrowthBegan(
        **POOL,
        operation=uid(8),
        deadline=LATER,
        from_bytes=4 * GIB,
        thin_bytes=5 * GIB,
        metadata_bytes=0,
        reserved_bytes=GIB + 16 * MIB,
    )
    story.say(began, actor="policy:p", correlation=uid(8))
    growing = story.row(POOLS, "n1/fast")
    assert growing is not None
    assert (growing.state, growing.thin_metadata_percent) == (PoolState.GROWING, 55)
    assert growing.available_bytes == before.available_bytes - GIB - 16 * MIB
    facts = PoolFacts(
        size_bytes=before.size_bytes,
        extent_bytes=4 * MIB,
        metadata_bytes=8 * MIB,
        disks=before.disks or ("d1",),
        thin_bytes=5 * GIB,
        thin_overhead_bytes=before.thin_overhead_bytes,
    )
    about: dict[str, Any] = {**POOL, "uid": before.uid}
    given_up = ThinPoolGrowthAbandoned(
        **about, operation=uid(8), code=Refusal.CANCELLED, because="enough", thin_bytes=4 * GIB
    )
    for last in (ThinPoolGrown(**about, facts=facts), ThinPoolKept(**about, facts=facts)):
        story.say(began, *((given_up,) if isinstance(last, ThinPoolKept) else ()))
        story.say(last)
        row = story.row(POOLS, "n1/fast")
        assert row is not None
        assert (row.state, row.thin_bytes, row.thin_growing_bytes) == (PoolState.READY, 5 * GIB, 0)
        assert row.available_bytes == before.available_bytes - GIB


def test_an_operation_that_a_policy_began_is_its_own() -> None:
    story = Story().node().pool(thin=4 * GIB)
    began = ThinPoolGrowthBegan(
        **POOL,
        operation=uid(8),
        deadline=LATER,
        from_bytes=4 * GIB,
        thin_bytes=5 * GIB,
        metadata_bytes=0,
        reserved_bytes=GIB,
    )
    story.say(began, actor="policy:p", correlation=uid(8))
    started = OperationStarted(
        operation=uid(8),
        kind=OperationKind.THIN_POOL_GROW,
        object="pool/n1/fast",
        deadline=LATER,
    )
    story.say(started, actor="hwbus", correlation=uid(8))
    row = story.row(OPERATIONS, uid(8))
    assert row is not None
    assert row.actor == "policy:p"


def test_the_row_of_a_policy_by_the_clock_tells_when_and_how_many() -> None:
    story = Story()
    spec = PolicySpec(
        kind=PolicyKind.VERIFY_REPLICAS,
        selector=Selector(group="shop"),
        rhythm=Rhythm(every_s=86_400, offset_s=7_200),
        at_once=2,
        repair=True,
    )
    story.say(PolicyChanged(policy="p", uid=uid(5), spec=spec, at=NOON))
    row = story.row(POLICIES, "p")
    assert row is not None
    assert (row.group, row.every_s, row.offset_s) == ("shop", 86_400, 7_200)
    assert (row.at_once, row.repair) == (2, True)
