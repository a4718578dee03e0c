from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from aggregates.decision import Facts
from schemas.answers import Refused
from schemas.disk import DiskClass
from schemas.grammar import Event, Message
from schemas.growing import GrowSnapshot, GrowThinPool
from schemas.policy import (
    PausePolicy,
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
    PolicyWish,
    RemovePolicy,
    ReportPolicyAlarm,
    ReportPolicyAnswered,
    ReportPolicyCalm,
    ReportPolicyDue,
    ResumePolicy,
    Selector,
    SetPolicy,
)
from schemas.pool import GrowPool
from schemas.refusals import Refusal
from schemas.rhythm import Rhythm
from schemas.shrinking import ShrinkPool
from schemas.verifying import VerifyVolume
from schemas.volume import GrowVolume
from tests.support.given import GIB, NOON, OPERATION, OTHER, UID, given

SPEC = PolicySpec(
    kind=PolicyKind.GROW_VOLUMES, threshold_percent=80, step_bytes=GIB, ceiling_bytes=8 * GIB
)
SET = PolicyChanged(policy="roomy", uid=UID, spec=SPEC)
WISH = GrowVolume(volume="pg", size_bytes=2 * GIB)
ABOUT: dict[str, Any] = {"policy": "roomy", "uid": UID, "object": "volume/pg"}
DUE = ReportPolicyDue(**ABOUT, wish=WISH, seq=41)
ACTED = PolicyActed(**ABOUT, number=1, wish=WISH, at=NOON, seq=41)
ANSWERED = PolicyAnswered(**ABOUT, number=1, operation=OPERATION)
FULL: dict[str, Any] = {"code": Refusal.CEILING_REACHED, "because": "it is full"}
ALARMED = PolicyAlarmed(**ABOUT, **FULL, at=NOON)
GROWN = GrowThinPool(pool="fast", node="n1", thin_bytes=GIB)
DISKS = PolicySpec(
    kind=PolicyKind.ADD_DISKS, selector=Selector(pool="fast"), media=DiskClass.SSD, cool_down_s=60
)


def later(s: float, command: Message, *past: Event) -> tuple[Event, ...] | Refused:
    """Return what is decided so many seconds after noon."""
    world = given(*past).world
    facts = Facts(at=NOON + timedelta(seconds=s), operation=OTHER, uid=OTHER, world=world)
    return world.decide(command, facts)


def test_a_policy_is_set_changed_paused_resumed_and_removed() -> None:
    given().when(SetPolicy(policy="roomy", spec=SPEC)).then(SET)
    other = replace(SPEC, step_bytes=2 * GIB)
    again = SetPolicy(policy="roomy", spec=other)
    assert later(0, again, SET) == (PolicyChanged(policy="roomy", uid=UID, spec=other),)
    given(SET).when(SetPolicy(policy="roomy", spec=SPEC)).nothing()
    pause = PausePolicy(policy="roomy", because="moving")
    paused = PolicyPaused(policy="roomy", because="moving")
    given(SET).when(pause).then(paused)
    given(SET, paused).when(pause).nothing()
    given(SET, paused).when(ResumePolicy(policy="roomy")).then(PolicyResumed(policy="roomy"))
    given(SET).when(ResumePolicy(policy="roomy")).nothing()
    removed = PolicyRemoved(policy="roomy", uid=UID)
    given(SET, paused).when(RemovePolicy(policy="roomy")).then(removed)
    assert given(SET, ACTED, ALARMED, removed).world.policies == {}


@pytest.mark.parametrize("word", [PausePolicy, ResumePolicy, RemovePolicy])
def test_there_is_nothing_to_do_with_a_policy_that_there_is_not(word: Any) -> None:
    given().when(word(policy="roomy")).refused(Refusal.UNKNOWN_POLICY, "roomy")


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (replace(SPEC, threshold_percent=0), Refusal.BAD_THRESHOLD),
        (replace(SPEC, threshold_percent=49), Refusal.BAD_THRESHOLD),
        (replace(SPEC, threshold_percent=100), Refusal.BAD_THRESHOLD),
        (replace(SPEC, step_bytes=0), Refusal.BAD_STEP),
        (replace(SPEC, step_percent=10), Refusal.BAD_STEP),
        (replace(SPEC, step_bytes=0, step_percent=1001), Refusal.BAD_STEP),
        (replace(SPEC, ceiling_bytes=GIB - 1), Refusal.BAD_CEILING),
        (replace(SPEC, media=DiskClass.SSD), Refusal.UNFIT_FIELD),
        (
            replace(SPEC, kind=PolicyKind.GROW_THIN_POOLS, selector=Selector(volume="pg")),
            Refusal.UNFIT_FIELD,
        ),
        (replace(DISKS, media=None), Refusal.UNFIT_FIELD),
        (replace(DISKS, selector=Selector()), Refusal.UNFIT_FIELD),
        (replace(DISKS, threshold_percent=80), Refusal.UNFIT_FIELD),
        (replace(DISKS, step_percent=80), Refusal.UNFIT_FIELD),
        (replace(DISKS, selector=Selector(pool="fast", volume="pg")), Refusal.UNFIT_FIELD),
        (replace(DISKS, kind=PolicyKind.DRAIN_DISKS), Refusal.UNFIT_FIELD),
        (PolicySpec(kind=PolicyKind.DRAIN_DISKS, ceiling_bytes=GIB), Refusal.UNFIT_FIELD),
    ],
)
def test_a_policy_that_could_do_nothing_is_refused(spec: PolicySpec, code: Refusal) -> None:
    given().when(SetPolicy(policy="p", spec=spec)).refused(code)


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, threshold_percent=50, step_bytes=0, step_percent=1000, ceiling_bytes=0),
        replace(SPEC, threshold_percent=99, ceiling_bytes=GIB),
        replace(SPEC, kind=PolicyKind.GROW_SNAPSHOTS, selector=Selector(volume="pg")),
        replace(DISKS, ceiling_bytes=GIB),
        PolicySpec(kind=PolicyKind.DRAIN_DISKS),
    ],
)
def test_a_policy_at_its_bounds_is_set(spec: PolicySpec) -> None:
    changed = PolicyChanged(policy="p", uid=UID, spec=spec)
    given().when(SetPolicy(policy="p", spec=spec)).then(changed)


def test_a_policy_keeps_its_kind_and_no_two_look_after_exactly_the_same() -> None:
    given(SET).when(SetPolicy(policy="roomy", spec=DISKS)).refused(
        Refusal.OTHER_KIND, "grow-volumes"
    )
    same = SetPolicy(policy="other", spec=replace(SPEC, threshold_percent=90))
    given(SET).when(same).refused(Refusal.SAME_SELECTION, "roomy")
    narrower = replace(SPEC, selector=Selector(pool="fast"))
    changed = PolicyChanged(policy="other", uid=UID, spec=narrower)
    given(SET).when(SetPolicy(policy="other", spec=narrower)).then(changed)


def test_an_act_is_recorded_with_what_it_wishes_and_why_before_it_is_done() -> None:
    given(SET).when(DUE).then(ACTED)
    answered = ReportPolicyAnswered(**ABOUT, number=1, operation=OPERATION)
    given(SET, ACTED).when(answered).then(ANSWERED)
    given(SET, ACTED, ANSWERED).when(answered).nothing()
    given(SET).when(answered).nothing()
    given(SET, ACTED).when(replace(answered, number=2)).nothing()


def test_there_is_one_act_for_each_object_and_cool_down() -> None:
    assert later(86_400, DUE, SET, ACTED) == ()  # nobody knows yet what came of it
    assert later(599, DUE, SET, ACTED, ANSWERED) == ()
    again = replace(ACTED, number=2, at=NOON + timedelta(seconds=600))
    assert later(600, DUE, SET, ACTED, ANSWERED) == (again,)
    of_other = {"object": "volume/other", "wish": replace(WISH, volume="other")}
    at_once = later(1, replace(DUE, **of_other), SET, ACTED, ANSWERED)
    other = replace(ACTED, number=2, at=NOON + timedelta(seconds=1), **of_other)
    assert at_once == (other,)
    changed = replace(SET, spec=replace(SPEC, threshold_percent=90))
    assert later(599, DUE, SET, ACTED, ANSWERED, changed) == ()


def test_a_policy_does_nothing_but_what_is_its_own() -> None:
    drain = ShrinkPool(pool="fast", node="n1", disks=("d1",))
    given(SET).when(replace(DUE, wish=drain)).nothing()


def test_a_policy_never_grows_anything_above_its_ceiling_whoever_says_that_it_is_due() -> None:
    most = replace(WISH, size_bytes=8 * GIB)
    given(SET).when(replace(DUE, wish=most)).then(replace(ACTED, wish=most))
    given(SET).when(replace(DUE, wish=replace(WISH, size_bytes=8 * GIB + 1))).nothing()
    reserves = replace(SET, spec=replace(SPEC, kind=PolicyKind.GROW_SNAPSHOTS))
    for size_bytes, acts in ((8 * GIB, True), (8 * GIB + 1, False)):
        wish = GrowSnapshot(snapshot="before", reserve_bytes=size_bytes)
        due = replace(DUE, object="snapshot/before", wish=wish)
        assert bool(later(0, due, reserves)) is acts


def test_a_policy_that_only_compares_repairs_nothing_whoever_says_that_it_is_due() -> None:
    for asked, allowed, acts in ((False, False, True), (True, False, False), (True, True, True)):
        past = PolicyChanged(policy="roomy", uid=UID, spec=replace(COMPARE, repair=allowed))
        due = replace(DUE, wish=VerifyVolume(volume="pg", repair=asked))
        assert bool(later(0, due, past)) is acts


@pytest.mark.parametrize(
    ("kind", "wish", "object_"),
    [
        (PolicyKind.GROW_VOLUMES, WISH, "volume/pg"),
        (PolicyKind.VERIFY_REPLICAS, VerifyVolume(volume="pg"), "volume/pg"),
        (PolicyKind.GROW_SNAPSHOTS, GrowSnapshot(snapshot="s", reserve_bytes=1), "snapshot/s"),
        (PolicyKind.GROW_THIN_POOLS, GROWN, "pool/n1/fast"),
        (PolicyKind.ADD_DISKS, GrowPool(pool="fast", node="n1", disks=("d1",)), "disk/d1"),
        (PolicyKind.DRAIN_DISKS, ShrinkPool(pool="fast", node="n1", disks=("d1",)), "disk/d1"),
    ],
)
def test_what_cools_down_is_what_the_wish_is_for(
    kind: PolicyKind, wish: PolicyWish, object_: str
) -> None:
    past = replace(SET, spec=PolicySpec(kind=kind))
    assert later(0, replace(DUE, wish=wish, object=object_), past)
    assert later(0, replace(DUE, wish=wish, object="volume/other"), past) == ()


def test_an_act_that_was_refused_did_nothing_and_is_tried_again_soon() -> None:
    refused = replace(ANSWERED, operation="", code=Refusal.VOLUME_BUSY)
    assert later(29, DUE, SET, ACTED, refused) == ()
    assert len(later(30, DUE, SET, ACTED, refused)) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "past",
    [(), (SET, PolicyPaused(policy="roomy")), (SET, PolicyRemoved(policy="roomy", uid=UID))],
)
def test_nothing_is_done_without_a_policy_that_is_at_work(past: tuple[Event, ...]) -> None:
    given(*past).when(DUE).nothing()


def test_what_is_said_of_an_earlier_policy_of_the_same_name_does_not_count() -> None:
    later_one = replace(SET, uid=OTHER)
    given(later_one).when(DUE).nothing()
    given(later_one).when(ReportPolicyAlarm(**ABOUT, **FULL)).nothing()


def test_an_alarm_is_told_once_for_each_reason_and_once_that_it_is_over() -> None:
    alarm = ReportPolicyAlarm(**ABOUT, **FULL)
    given(SET).when(alarm).then(ALARMED)
    given(SET, ALARMED).when(replace(alarm, because="it is full indeed")).nothing()
    worse = replace(alarm, code=Refusal.CAPACITY)
    given(SET, ALARMED).when(worse).then(replace(ALARMED, code=Refusal.CAPACITY))
    calm = PolicyCalmed(**ABOUT)
    given(SET, ALARMED).when(ReportPolicyCalm(**ABOUT)).then(calm)
    given(SET, ALARMED, calm).when(ReportPolicyCalm(**ABOUT)).nothing()


def test_acts_of_which_nothing_need_be_known_are_forgotten() -> None:
    policy = given(SET, ACTED, ANSWERED).world.policies["roomy"]
    assert set(policy.acts) == {"volume/pg"}
    other = replace(ACTED, number=2, object="volume/other", at=NOON + timedelta(seconds=601))
    policy = given(SET, ACTED, ANSWERED, other).world.policies["roomy"]
    assert (set(policy.acts), policy.acts_made) == ({"volume/other"}, 2)


COMPARE = PolicySpec(
    kind=PolicyKind.VERIFY_REPLICAS,
    selector=Selector(group="shop"),
    rhythm=Rhythm(every_s=86_400, offset_s=7_200),
    at_once=1,
)


@pytest.mark.parametrize(
    "spec",
    [
        replace(COMPARE, rhythm=None),
        replace(COMPARE, at_once=0),
        replace(COMPARE, rhythm=Rhythm(every_s=60, offset_s=60)),
        replace(COMPARE, threshold_percent=80),
        replace(COMPARE, step_bytes=GIB),
        replace(COMPARE, ceiling_bytes=GIB),
        replace(COMPARE, media=DiskClass.SSD),
        replace(SPEC, rhythm=COMPARE.rhythm),
        replace(SPEC, at_once=1),
        replace(SPEC, repair=True),
        replace(SPEC, selector=Selector(group="shop")),
    ],
)
def test_only_what_is_done_by_the_clock_has_a_rhythm(spec: PolicySpec) -> None:
    given().when(SetPolicy(policy="p", spec=spec)).refused(Refusal.UNFIT_FIELD)


def test_what_the_clock_says_counts_from_when_the_rhythm_was_set() -> None:
    word = SetPolicy(policy="p", spec=COMPARE)
    first = PolicyChanged(policy="p", uid=UID, spec=COMPARE, at=NOON)
    given().when(word).then(first)
    twice = replace(COMPARE, at_once=2)
    changed = PolicyChanged(policy="p", uid=UID, spec=twice, at=NOON)
    assert later(9, SetPolicy(policy="p", spec=twice), first) == (changed,)
    faster = replace(COMPARE, rhythm=Rhythm(every_s=3600))
    anew = later(9, SetPolicy(policy="p", spec=faster), first)
    assert anew == (
        PolicyChanged(policy="p", uid=UID, spec=faster, at=NOON + timedelta(seconds=9)),
    )
