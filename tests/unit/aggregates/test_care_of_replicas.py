"""Replicas compared by the clock: whose turn it is, how many at a time, and why one is skipped."""

from datetime import datetime, timedelta
from typing import Any

import hypothesis
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregates.care import Told, due
from schemas.grammar import Event
from schemas.legs import ReplicaAdded
from schemas.policy import (
    PolicyActed,
    PolicyAlarmed,
    PolicyAnswered,
    PolicyChanged,
    PolicyKind,
    PolicyPaused,
    PolicySpec,
    ReportPolicyAlarm,
    ReportPolicyCalm,
    ReportPolicyDue,
    Selector,
)
from schemas.refusals import Refusal
from schemas.replica import ReplicaCreated, ReplicaSpec, ReplicaWanted
from schemas.replication import LegDisk, LegSeen, PeerSeen, Replication, ReplicationChanged, Tie
from schemas.rhythm import DAY_S, Rhythm
from schemas.verifying import VerificationBegan, VerificationFailed, VerifyVolume, VolumeVerified
from schemas.volume import VolumeLocked, VolumeProvisioned, VolumeProvisioningBegan
from schemas.volume_group import GroupCreated
from schemas.volume_group import Member as GroupMember
from tests.support.given import GIB, NOON, OPERATION, OTHER, UID, given
from tests.support.legs_words import fenced, good, members, nodes, replicated, silent, tells
from tests.support.words import DEADLINE

DAILY = Rhythm(every_s=DAY_S, offset_s=7_200)
SPEC = PolicySpec(kind=PolicyKind.VERIFY_REPLICAS, rhythm=DAILY, at_once=1)
ABOUT: dict[str, Any] = {"policy": "p", "uid": UID, "object": "volume/pg"}
TWO_AM = NOON.replace(hour=2) + timedelta(days=1)
WELL = (*nodes("n1", "n2"), *replicated("n1", "n2"), tells("n1", peers=(good("n2"),)))


def policy(spec: PolicySpec = SPEC, at: datetime | None = NOON) -> PolicyChanged:
    return PolicyChanged(policy="p", uid=UID, spec=spec, at=at)


def told(at: datetime, *past: Event) -> tuple[Told, ...]:
    return due(given(*WELL, *past).world, at, {})


def wishes(at: datetime, *past: Event) -> list[VerifyVolume]:
    reports = told(at, *past)
    return [
        one.wish
        for one in reports
        if isinstance(one, ReportPolicyDue) and isinstance(one.wish, VerifyVolume)
    ]


def began(volume: str = "pg", operation: str = OPERATION) -> VerificationBegan:
    return VerificationBegan(
        volume=volume,
        uid=UID,
        operation=operation,
        deadline=DEADLINE,
        node="n1",
        peers=("n2",),
        size_bytes=GIB,
    )


def verified(at: datetime, volume: str = "pg") -> VolumeVerified:
    return VolumeVerified(volume=volume, operation=OPERATION, at=at, differing_bytes=4096)


def another(name: str, uid: str) -> tuple[Event, ...]:
    """A second volume on the same nodes, with replicas that are all well."""
    about: dict[str, Any] = {"volume": name, "uid": uid, "operation": OPERATION}
    tied = Replication(members=members("n1", "n2"), size_bytes=GIB)
    spec = ReplicaSpec(uid=uid, pool="fast", size_bytes=GIB, replication=tied)
    legs: list[Event] = []
    for node, other in (("n1", "n2"), ("n2", "n1")):
        seen = LegSeen(primary=False, disk=LegDisk.UP_TO_DATE, peers=(good(other),))
        legs += (
            ReplicaWanted(volume=name, node=node, operation=OPERATION, spec=spec),
            ReplicaCreated(
                volume=name, node=node, uid=uid, pool="fast", size_bytes=GIB, device="/dev/x"
            ),
            ReplicationChanged(volume=name, node=node, uid=uid, epoch=0, seen=seen),
        )
    return (
        VolumeProvisioningBegan(
            **about, deadline=DEADLINE, size_bytes=GIB, candidates=(), replicas=2
        ),
        *legs,
        ReplicaAdded(volume=name, operation=OPERATION, members=members("n1", "n2")),
        VolumeProvisioned(**about, node="n1", pool="fast", size_bytes=GIB),
    )


def test_a_volume_is_compared_once_in_each_round_and_not_before_the_first() -> None:
    assert wishes(TWO_AM - timedelta(seconds=1), policy()) == []
    assert wishes(TWO_AM, policy()) == [VerifyVolume(volume="pg")]
    assert wishes(TWO_AM, policy(replace(SPEC, repair=True))) == [
        VerifyVolume(volume="pg", repair=True)
    ]
    assert wishes(TWO_AM, policy(), PolicyPaused(policy="p")) == []
    assert wishes(TWO_AM, policy(), began()) == []
    late = TWO_AM + timedelta(hours=5)
    done = (began(), verified(late))
    assert wishes(late, policy(), *done) == []
    assert wishes(TWO_AM + timedelta(days=1), policy(), *done) == [VerifyVolume(volume="pg")]
    # What could not be compared to its end is tried again in the same round.
    failed = VerificationFailed(
        volume="pg", operation=OPERATION, code=Refusal.VERIFY_BROKEN, because="lost"
    )
    assert wishes(late, policy(), began(), failed) == [VerifyVolume(volume="pg")]


def test_volumes_are_chosen_by_group_too_and_those_with_one_replica_never_are() -> None:
    by_group = replace(SPEC, selector=Selector(group="shop"))
    group = GroupCreated(group="shop", at=NOON, members=(GroupMember(volume="pg", uid=UID),))
    assert wishes(TWO_AM, policy(by_group)) == []
    assert wishes(TWO_AM, policy(by_group), group) == [VerifyVolume(volume="pg")]
    plain = replace(SPEC, selector=Selector(volume="other"))
    assert wishes(TWO_AM, policy(plain)) == []


def test_so_many_are_compared_at_a_time_and_first_who_was_longest_ago() -> None:
    more = another("aa", OTHER)
    last = TWO_AM - timedelta(days=1)
    seen = (began(), verified(last))
    assert wishes(TWO_AM, *more, policy(), *seen) == [VerifyVolume(volume="aa")]
    twice = policy(replace(SPEC, at_once=2))
    assert wishes(TWO_AM, *more, twice, *seen) == [
        VerifyVolume(volume="aa"),
        VerifyVolume(volume="pg"),
    ]
    running = began("aa")
    assert wishes(TWO_AM, *more, policy(), *seen, running) == []
    assert wishes(TWO_AM, *more, twice, *seen, running) == [VerifyVolume(volume="pg")]
    acted = PolicyActed(
        policy="p",
        uid=UID,
        object="volume/aa",
        number=1,
        wish=VerifyVolume(volume="aa"),
        at=TWO_AM,
    )
    assert wishes(TWO_AM, *more, policy(), *seen, acted) == []


def test_a_volume_that_is_not_well_is_skipped_and_the_log_says_why_once() -> None:
    away = tells("n1", peers=(PeerSeen(node="n2", tie=Tie.CONNECTING),))
    for trouble in (fenced("n2"), silent("n2"), away):
        (alarm,) = told(TWO_AM, policy(), trouble)
        assert isinstance(alarm, ReportPolicyAlarm)
        assert alarm.code is Refusal.NOT_UP_TO_DATE
    alarmed = PolicyAlarmed(**ABOUT, code=Refusal.NOT_UP_TO_DATE, because="so", at=TWO_AM)
    assert told(TWO_AM, policy(), fenced("n2"), alarmed) == ()
    calm = told(TWO_AM, policy(), alarmed)
    assert [type(one) for one in calm] == [ReportPolicyCalm, ReportPolicyDue]


def test_a_busy_volume_is_waited_for_and_after_a_while_the_log_says_so() -> None:
    locked = VolumeLocked(volume="pg", uid=UID, operation=OTHER, snapshot="s")
    assert told(TWO_AM, policy(), locked) == ()
    assert told(TWO_AM + timedelta(minutes=14), policy(), locked) == ()
    (alarm,) = told(TWO_AM + timedelta(minutes=15), policy(), locked)
    assert isinstance(alarm, ReportPolicyAlarm)
    assert alarm.code is Refusal.VOLUME_BUSY


def test_what_was_refused_is_left_alone_while_it_cools_down() -> None:
    acted = PolicyActed(**ABOUT, number=1, wish=VerifyVolume(volume="pg"), at=TWO_AM)
    answered = PolicyAnswered(**ABOUT, number=1, operation=OTHER)
    past = (policy(), acted, answered)
    assert wishes(TWO_AM + timedelta(seconds=599), *past) == []
    assert wishes(TWO_AM + timedelta(seconds=600), *past) == [VerifyVolume(volume="pg")]


@hypothesis.given(
    st.integers(0, 10 * DAY_S), st.integers(10, DAY_S), st.integers(0, 9), st.integers(0, 3 * DAY_S)
)
def test_what_was_compared_in_a_round_is_not_due_in_it_again(
    now_s: int, every_s: int, offset_s: int, ago_s: int
) -> None:
    rhythm = Rhythm(every_s=every_s, offset_s=offset_s)
    spec, now = replace(SPEC, rhythm=rhythm), NOON + timedelta(seconds=now_s)
    at = now - timedelta(seconds=ago_s)
    is_due = bool(wishes(now, policy(spec, None), began(), verified(at)))
    assert is_due is (rhythm.number(at) < rhythm.number(now))
