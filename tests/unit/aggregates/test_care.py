"""What policies would do, given a world and the hour."""

from datetime import timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregates.care import Told, due, pending
from aggregates.care_needs import next_bytes
from schemas.answers import Accepted, Refused
from schemas.disk import (
    Content,
    DiskClass,
    DiskFound,
    DiskGone,
    DiskHealthChanged,
    DiskReleased,
    DiskReserved,
    Health,
)
from schemas.filling import VolumeFilled
from schemas.grammar import Event
from schemas.growing import GrowSnapshot, GrowThinPool
from schemas.node import NodeFellSilent
from schemas.operation import OperationEnded, OperationKind, OperationStarted, Outcome
from schemas.policy import (
    PolicyActed,
    PolicyAlarmed,
    PolicyAnswered,
    PolicyChanged,
    PolicyKind,
    PolicyPaused,
    PolicySpec,
    PolicyWish,
    ReportPolicyAlarm,
    ReportPolicyAnswered,
    ReportPolicyCalm,
    ReportPolicyDue,
    Selector,
)
from schemas.pool import GrowPool, PoolGrowthBegan, RoomReserved, ThinPoolFilled
from schemas.refusals import Refusal
from schemas.shrinking import ShrinkPool
from schemas.snapshot import SnapshotFilled
from schemas.volume import GrowVolume, VolumeLocked
from tests.support.given import GIB, MIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import DEADLINE, pool_ready, sighting, volume_ready
from tests.unit.aggregates.test_snapshot import BEGAN, CREATED, LOCKED, UNLOCKED

PAST = (*pool_ready("n1"), *volume_ready("n1"))
SPEC = PolicySpec(kind=PolicyKind.GROW_VOLUMES, threshold_percent=80, step_bytes=GIB)
SNAPSHOTS = replace(SPEC, kind=PolicyKind.GROW_SNAPSHOTS, step_bytes=0, step_percent=50)
THIN = replace(SPEC, kind=PolicyKind.GROW_THIN_POOLS)
ADD = PolicySpec(kind=PolicyKind.ADD_DISKS, selector=Selector(pool="fast"), media=DiskClass.SSD)
DRAIN = PolicySpec(kind=PolicyKind.DRAIN_DISKS)
FAILING = DiskHealthChanged(disk="n1-d0", node="n1", health=Health.FAILING, reasons=("old",))
ABOUT: dict[str, Any] = {"policy": "p", "uid": UID}
GROW = GrowVolume(volume="pg", size_bytes=2 * GIB)


def policy(spec: PolicySpec = SPEC, name: str = "p", uid: str = UID) -> PolicyChanged:
    return PolicyChanged(policy=name, uid=uid, spec=spec)


def filled(percent: int = 85) -> VolumeFilled:
    return VolumeFilled(
        volume="pg", uid=UID, data_percent=percent, used_bytes=percent, filesystem_bytes=100
    )


def told(*past: Event, after_s: float = 0) -> tuple[Told, ...]:
    world = given(*past).world
    seqs = {"volume/pg": 17}
    reports = due(world, NOON + timedelta(seconds=after_s), seqs)
    assert reports == due(world, NOON + timedelta(seconds=after_s), seqs)
    return reports


def wishes(*past: Event, after_s: float = 0) -> list[PolicyWish]:
    reports = told(*past, after_s=after_s)
    return [one.wish for one in reports if isinstance(one, ReportPolicyDue)]


def alarms(*past: Event) -> list[Refusal]:
    reports = told(*past)
    assert not any(isinstance(one, ReportPolicyDue) for one in reports)
    return [one.code for one in reports if isinstance(one, ReportPolicyAlarm)]


def acted(object_: str, wish: PolicyWish, *, operation: str = OPERATION) -> tuple[Event, ...]:
    about: dict[str, Any] = {**ABOUT, "object": object_, "number": 1}
    return (
        PolicyActed(**about, wish=wish, at=NOON, seq=17),
        PolicyAnswered(**about, operation=operation),
    )


def ended(outcome: Outcome) -> tuple[Event, ...]:
    about: dict[str, Any] = {"operation": OTHER, "kind": OperationKind.VOLUME_GROW, "object": "x"}
    return (
        OperationStarted(**about, deadline=DEADLINE),
        OperationEnded(**about, outcome=outcome),
    )


def test_a_volume_that_is_filled_to_the_threshold_grows_by_a_step_because_of_that_event() -> None:
    (report,) = told(*PAST, policy(), filled())
    assert report == ReportPolicyDue(**ABOUT, object="volume/pg", wish=GROW, seq=17)
    assert wishes(*PAST, policy(), filled(79)) == []
    assert wishes(*PAST, policy(), filled(80)) == [GROW]
    assert wishes(*PAST, filled(100)) == []


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        (Selector(), True),
        (Selector(node="n1"), True),
        (Selector(node="n2"), False),
        (Selector(pool="fast"), True),
        (Selector(pool="slow"), False),
        (Selector(node="n1", pool="fast", volume="pg"), True),
        (Selector(node="n1", volume="other"), False),
    ],
)
def test_a_policy_acts_on_what_it_selects(selector: Selector, *, selected: bool) -> None:
    spec = replace(SPEC, selector=selector)
    assert bool(wishes(*PAST, policy(spec), filled())) is selected


def test_the_narrowest_policy_counts_alone_even_while_it_is_paused() -> None:
    wide = policy(replace(SPEC, step_bytes=4 * GIB), "wide", OTHER)
    pool = policy(replace(SPEC, step_bytes=3 * GIB, selector=Selector(pool="fast")), "pool", OTHER)
    narrow = policy(replace(SPEC, selector=Selector(volume="pg"), threshold_percent=90))
    assert wishes(*PAST, wide, pool, filled()) == [replace(GROW, size_bytes=4 * GIB)]
    assert wishes(*PAST, wide, pool, narrow, filled()) == []
    assert wishes(*PAST, wide, pool, narrow, filled(95)) == [GROW]
    assert told(*PAST, wide, pool, narrow, PolicyPaused(policy="p"), filled(95)) == ()


def test_the_last_step_ends_at_the_ceiling_and_then_there_is_an_alarm_once() -> None:
    past = (*PAST, policy(replace(SPEC, ceiling_bytes=GIB + 510 * MIB)), filled())
    assert wishes(*past) == [replace(GROW, size_bytes=GIB + 508 * MIB)]
    reached = (*PAST, policy(replace(SPEC, ceiling_bytes=GIB + MIB)), filled())
    assert alarms(*reached) == [Refusal.CEILING_REACHED]
    alarmed = PolicyAlarmed(
        **ABOUT, object="volume/pg", code=Refusal.CEILING_REACHED, because="so", at=NOON
    )
    assert told(*reached, alarmed) == ()
    calm = ReportPolicyCalm(**ABOUT, object="volume/pg")
    assert told(*reached, alarmed, filled(70)) == (calm,)
    higher = policy(replace(SPEC, ceiling_bytes=4 * GIB))
    assert told(*reached, alarmed, higher)[0] == calm
    assert wishes(*reached, alarmed, higher) == [GROW]


def test_a_pool_without_room_is_an_alarm_with_the_reason_that_a_person_would_get() -> None:
    full = RoomReserved(
        pool="fast", node="n1", claim=OTHER, size_bytes=19 * GIB - MIB, operation=OPERATION
    )
    past = (*PAST, policy(), filled(), full)
    assert alarms(*past) == [Refusal.CAPACITY]
    refused = given(*past).decide(GROW)
    assert isinstance(refused, Refused)
    (alarm,) = told(*past)
    assert isinstance(alarm, ReportPolicyAlarm)
    assert alarm.because == refused.because


def test_what_is_only_busy_or_away_is_waited_for_in_silence() -> None:
    locked = VolumeLocked(volume="pg", uid=UID, operation=OPERATION, snapshot="s")
    assert told(*PAST, policy(), filled(), locked) == ()
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    assert told(*PAST, policy(), filled(), silent) == ()


def test_an_object_cools_down_from_its_last_act_on_whoever_asks() -> None:
    done = (*PAST, policy(), *acted("volume/pg", GROW), filled())
    assert wishes(*done, after_s=599) == []
    assert wishes(*done, after_s=600) == [GROW]
    undone = (*PAST, policy(), acted("volume/pg", GROW)[0], filled())
    assert wishes(*undone, after_s=86_400) == []


def test_an_act_that_failed_is_an_alarm_until_it_is_done_or_needed_no_more() -> None:
    past = (*PAST, policy(), *acted("volume/pg", GROW, operation=OTHER), filled())
    assert alarms(*past, *ended(Outcome.FAILED)) == [Refusal.ACTION_FAILED]
    alarmed = PolicyAlarmed(
        **ABOUT, object="volume/pg", code=Refusal.ACTION_FAILED, because="so", at=NOON
    )
    assert told(*past, *ended(Outcome.FAILED), alarmed) == ()
    assert wishes(*past, *ended(Outcome.FAILED), alarmed, after_s=600) == [GROW]
    calm = (ReportPolicyCalm(**ABOUT, object="volume/pg"),)
    assert told(*past, *ended(Outcome.COMPLETED), alarmed) == calm
    assert told(*past, *ended(Outcome.FAILED), alarmed, filled(40)) == calm


def test_a_wish_is_said_under_an_id_that_is_the_same_for_ever_until_it_is_answered() -> None:
    act, answer = acted("volume/pg", GROW)
    (one,) = pending(given(*PAST, policy(), act).world)
    assert (one.id, one.actor, one.cause) == (f"policy.{UID}.1", "policy:p", "event:17")
    assert one.act.wish == GROW
    about: dict[str, Any] = {**ABOUT, "number": 1, "object": "volume/pg"}
    assert one.answered(Accepted(command="c", seq=3, version=1, operation=OPERATION)) == (
        ReportPolicyAnswered(**about, operation=OPERATION)
    )
    no = given().decide(GROW)
    assert isinstance(no, Refused)
    assert one.answered(no) == ReportPolicyAnswered(**about, code=no.code, because=no.because)
    assert pending(given(*PAST, policy(), act, answer).world) == ()


def test_a_filling_snapshot_gets_more_room_unless_it_has_all_it_can_use() -> None:
    past = (*PAST, BEGAN, LOCKED, CREATED, UNLOCKED, policy(SNAPSHOTS))
    full = SnapshotFilled(snapshot="s", data_percent=80)
    grow = GrowSnapshot(snapshot="s", reserve_bytes=312 * MIB)
    assert wishes(*past, full) == [grow]
    of_pg = policy(replace(SNAPSHOTS, selector=Selector(volume="pg")))
    assert wishes(*past, of_pg, full) == [grow]
    most = replace(CREATED, reserve_bytes=1032 * MIB)
    assert told(*PAST, BEGAN, LOCKED, most, UNLOCKED, policy(SNAPSHOTS), full) == ()


def test_a_thin_pool_grows_where_it_is_filling_up() -> None:
    past = (*pool_ready("n1", thin_bytes=4 * GIB), policy(THIN))
    about: dict[str, Any] = {"pool": "fast", "node": "n1"}
    data = ThinPoolFilled(**about, data_percent=80)
    assert wishes(*past, data) == [GrowThinPool(**about, thin_bytes=5 * GIB)]
    metadata = ThinPoolFilled(**about, data_percent=60, metadata_percent=80)
    assert wishes(*past, metadata) == [
        GrowThinPool(**about, thin_bytes=4 * GIB, metadata_bytes=6 * MIB)
    ]


def blank(disk: str, content: Content = Content.BLANK, media: DiskClass = DiskClass.SSD) -> Event:
    seen = replace(sighting(content), media=media)
    return DiskFound(disk=disk, node="n1", sighting=seen)


def test_blank_disks_of_the_class_join_and_no_others() -> None:
    past = (*pool_ready("n1"), policy(ADD))
    join = GrowPool(pool="fast", node="n1", disks=("new",))
    assert wishes(*past, blank("new")) == [join]
    assert told(*past) == ()
    for other in (
        (blank("new", Content.FILESYSTEM),),
        (blank("new", media=DiskClass.HDD),),
        (blank("new"), DiskReserved(disk="new")),
        (blank("new"), DiskGone(disk="new", node="n1")),
        (blank("new"), DiskFound(disk="new", node="n2", sighting=sighting())),
        (blank("new"), replace(FAILING, disk="new")),
    ):
        assert told(*past, *other) == ()
    grows = PoolGrowthBegan(
        pool="fast", node="n1", operation=OTHER, deadline=DEADLINE, disks=("other",)
    )
    assert told(*past, blank("new"), grows) == ()


def test_disks_join_a_pool_one_after_another() -> None:
    past = (*pool_ready("n1"), policy(ADD), blank("new"), blank("other"))
    (first,) = wishes(*past)
    assert first == GrowPool(pool="fast", node="n1", disks=("new",))
    decided = PolicyActed(**ABOUT, object="disk/new", number=1, wish=first, at=NOON)
    assert wishes(*past, decided) == []


def test_a_disk_that_was_taken_out_is_not_put_back_until_it_is_plugged_in_anew() -> None:
    past = (*pool_ready("n1"), policy(ADD))
    out = DiskReleased(disk="n1-d1", node="n1", pool="fast")
    assert told(*past, out) == ()
    anew = (DiskGone(disk="n1-d1", node="n1"), blank("n1-d1"))
    assert wishes(*past, out, *anew) == [GrowPool(pool="fast", node="n1", disks=("n1-d1",))]


def test_a_disk_that_could_not_join_is_tried_again() -> None:
    join = GrowPool(pool="fast", node="n1", disks=("new",))
    tried = (
        *(*pool_ready("n1"), policy(ADD), blank("new")),
        *acted("disk/new", join, operation=OTHER),
        *ended(Outcome.FAILED),
        DiskReleased(disk="new", node="n1", pool="fast"),
    )
    assert alarms(*tried) == [Refusal.ACTION_FAILED]
    assert wishes(*tried, after_s=600) == [join]


def test_a_pool_that_would_be_too_large_with_a_disk_is_an_alarm() -> None:
    past = (*pool_ready("n1"), policy(replace(ADD, ceiling_bytes=30 * GIB)), blank("new"))
    assert alarms(*past) == [Refusal.CEILING_REACHED]


def test_a_failing_disk_is_drained_if_the_others_have_the_room() -> None:
    drain = ShrinkPool(pool="fast", node="n1", disks=("n1-d0",))
    past = (*pool_ready("n1", size_bytes=40 * GIB), policy(DRAIN))
    assert wishes(*past, FAILING) == [drain]
    full = RoomReserved(
        pool="fast", node="n1", claim=OTHER, size_bytes=21 * GIB, operation=OPERATION
    )
    assert alarms(*past, full, FAILING) == [Refusal.CAPACITY]
    assert alarms(*pool_ready("n1", disks=1), policy(DRAIN), FAILING) == [Refusal.LAST_DISK]
    assert told(*past, DiskReleased(disk="n1-d0", node="n1", pool="fast"), FAILING) == ()


@hypothesis.given(
    st.integers(1, 1 << 40),
    st.one_of(
        st.tuples(st.integers(1, 1 << 40), st.just(0)), st.tuples(st.just(0), st.integers(1, 1000))
    ),
    st.integers(0, 1 << 41),
    st.integers(1, 64).map(lambda extents: extents * 4 * MIB),
)
def test_the_next_size_is_larger_in_whole_units_and_never_above_the_ceiling(
    has_bytes: int, step: tuple[int, int], ceiling_bytes: int, unit_bytes: int
) -> None:
    spec = replace(SPEC, step_bytes=step[0], step_percent=step[1], ceiling_bytes=ceiling_bytes)
    size = next_bytes("volume/pg", has_bytes, spec, unit_bytes)
    if isinstance(size, Refused):
        assert size.code is Refusal.CEILING_REACHED
        assert ceiling_bytes // unit_bytes * unit_bytes <= has_bytes
        return
    assert size > has_bytes
    assert size % unit_bytes == 0
    assert not ceiling_bytes or size <= ceiling_bytes
