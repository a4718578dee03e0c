"""A leg is put right only as was decided, and nothing about it is ever removed for that."""

from typing import Any

import pytest
from hypothesis import given as law
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregates.processes import settlements
from aggregates.replica import ReplicaPhase
from schemas.grammar import Event, Message
from schemas.mending import (
    LeaveReplica,
    Mend,
    MendReplica,
    ReplicaMended,
    ReplicaMendLeft,
    ReplicaMendWanted,
    ReplicaMendWithdrawn,
    ReportReplicaLeft,
    SeenVolume,
    no_volume,
    taken_bytes,
)
from schemas.node import NodeFellSilent
from schemas.pool import ReportReleased, ReportSettled
from schemas.refusals import Refusal
from schemas.replica import (
    KeepReplica,
    ReplicaRemovalWanted,
    ReplicaRemoved,
    ReplicaWanted,
    ReportReplicaAbsent,
    ReportReplicaPresent,
    ResizeReplica,
)
from schemas.settling import ForeignReleased
from tests.support.given import GIB, MIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import pool_ready, volume_ready

LEG: dict[str, Any] = {"volume": "pg", "node": "n1"}
LV = SeenVolume(pool="fast", name="pg", lv="a-b-c", size_bytes=3 * GIB)
PAST = (*pool_ready("n1"), *volume_ready("n1"))
PRESENT = ReportReplicaPresent(**LEG, uid=UID, size_bytes=GIB, device="/dev/fast/pg")
ABSENT = ReportReplicaAbsent(**LEG, uid=UID)
LEFT = ReportReplicaLeft(**LEG, uid=UID)
LEAVE = LeaveReplica(**LEG, operation=OPERATION)
MENDED = ReplicaMended(**LEG, uid=UID, pool="fast", size_bytes=GIB, device="/dev/fast/pg")
REMOVED = ReplicaRemoved(**LEG, uid=UID, pool="fast")


def mend(how: Mend) -> MendReplica:
    return MendReplica(**LEG, operation=OPERATION, mend=how, seen=LV)


def wanted(how: Mend) -> ReplicaMendWanted:
    return ReplicaMendWanted(**LEG, operation=OPERATION, uid=UID, mend=how, seen=LV)


def withdrawn(*, give_back: bool = False) -> ReplicaMendWithdrawn:
    return ReplicaMendWithdrawn(**LEG, operation=OPERATION, uid=UID, give_back=give_back)


def adopted(*events: Event) -> tuple[Event, ...]:
    return tuple(
        replace(e, spec=replace(e.spec, adopts=LV)) if isinstance(e, ReplicaWanted) else e
        for e in events
    )


@pytest.mark.parametrize("how", Mend)
def test_a_leg_is_put_right_once(how: Mend) -> None:
    given(*PAST).when(mend(how)).then(wanted(how))
    given(*PAST, wanted(how)).when(mend(how)).nothing()
    other = Mend.UNDO if how is not Mend.UNDO else Mend.SIZE
    given(*PAST, wanted(how)).when(mend(other)).refused(Refusal.REPLICA_BUSY, "mending")
    resize = ResizeReplica(**LEG, operation=OPERATION, size_bytes=2 * GIB)
    given(*PAST, wanted(how)).when(resize).refused(Refusal.REPLICA_BUSY)


def test_only_a_leg_that_is_there_on_a_node_that_is_heard_is_put_right() -> None:
    given(*pool_ready("n1")).when(mend(Mend.UNDO)).refused(Refusal.UNKNOWN_REPLICA)
    going = ReplicaRemovalWanted(**LEG, operation=OPERATION, uid=UID)
    given(*PAST, going).when(mend(Mend.UNDO)).refused(Refusal.REPLICA_BUSY, "going")
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    given(*PAST, silent).when(mend(Mend.UNDO)).refused(Refusal.NODE_SILENT)


def test_what_is_nowhere_is_removed_from_the_record_only_if_that_was_wanted() -> None:
    given(*PAST, wanted(Mend.FORGET)).when(ABSENT).then(REMOVED)
    given(*PAST, wanted(Mend.FORGET)).when(PRESENT).nothing()
    for how in (Mend.SIZE, Mend.UNDO, Mend.RECREATE):
        given(*PAST, wanted(how)).when(ABSENT).nothing()


def test_only_a_size_that_was_accepted_counts() -> None:
    larger = replace(PRESENT, size_bytes=3 * GIB)
    given(*PAST, wanted(Mend.SIZE)).when(PRESENT).nothing()
    given(*PAST, wanted(Mend.SIZE)).when(larger).then(replace(MENDED, size_bytes=3 * GIB))
    given(*PAST, wanted(Mend.UNDO)).when(larger).then(MENDED)
    given(*PAST, wanted(Mend.UNDO)).when(replace(PRESENT, size_bytes=MIB)).nothing()
    given(*PAST, wanted(Mend.RECREATE)).when(PRESENT).then(MENDED)
    given(*PAST, wanted(Mend.RECREATE)).when(replace(PRESENT, uid=OTHER)).nothing()


def test_a_leg_that_is_put_right_is_as_it_is_now() -> None:
    past = (*PAST, wanted(Mend.SIZE), replace(MENDED, size_bytes=3 * GIB))
    leg = given(*past).world.replicas["n1", "pg"]
    assert leg.spec is not None
    assert (leg.phase, leg.size_bytes, leg.mend) == (ReplicaPhase.PRESENT, 3 * GIB, None)
    assert leg.spec.size_bytes == 3 * GIB


def test_what_is_given_up_is_left_and_nothing_else_is_withdrawn() -> None:
    given(*PAST).when(LEAVE).refused(Refusal.REPLICA_BUSY, "present")
    given(*pool_ready("n1")).when(LEAVE).refused(Refusal.UNKNOWN_REPLICA)
    leaving = (*PAST, wanted(Mend.UNDO), withdrawn())
    given(*PAST, wanted(Mend.UNDO)).when(LEAVE).then(withdrawn())
    given(*leaving).when(LEAVE).nothing()
    given(*leaving).when(LEFT).then(ReplicaMendLeft(**LEG, uid=UID))
    given(*leaving).when(replace(LEFT, uid=OTHER)).nothing()
    given(*leaving).when(PRESENT).then(MENDED)  # it was done before the node heard of it
    given(*leaving).when(KeepReplica(**LEG, operation=OPERATION)).nothing()
    given(*PAST).when(LEFT).nothing()
    back = given(*leaving, ReplicaMendLeft(**LEG, uid=UID)).world.replicas["n1", "pg"]
    assert back == given(*PAST).world.replicas["n1", "pg"]


def test_what_was_taken_over_is_given_back_by_whoever_took_it_and_nobody_else() -> None:
    past = adopted(*PAST)
    other = replace(LEAVE, operation=OTHER)
    for known in (
        past,
        past[: past.index(next(e for e in past if isinstance(e, ReplicaWanted))) + 1],
    ):
        given(*known).when(other).refused(Refusal.REPLICA_BUSY)
        given(*known).when(LEAVE).then(withdrawn(give_back=True))
    leaving = (*past, withdrawn(give_back=True))
    given(*leaving).when(PRESENT).nothing()
    given(*leaving).when(LEFT).then(REMOVED)


def test_the_ledger_follows_what_is_put_right_and_what_leaves_quarantine() -> None:
    world = given(*PAST).world
    (booked,) = settlements.follows([replace(MENDED, size_bytes=3 * GIB)], world)
    assert isinstance(booked, ReportSettled)
    assert (booked.claim, booked.size_bytes) == (UID, 3 * GIB)
    gone = ForeignReleased(node="n1", object="lv/n1/fast/x", pool="fast", claim=OTHER)
    (freed,) = settlements.follows([gone], world)
    assert freed == ReportReleased(pool="fast", node="n1", claim=OTHER)


@pytest.mark.parametrize(
    ("layout", "more", "room", "fit"),
    [
        ("linear", {}, GIB, True),
        ("striped", {"stripes": 2}, GIB, True),
        ("striped", {"stripes": 1}, GIB, False),
        ("thin,sparse", {}, GIB, True),
        ("thin,sparse", {"origin": "pg"}, GIB, False),
        ("linear", {"kept": True}, GIB, False),
        ("linear", {"mixed": True}, GIB, False),
        ("linear", {"unfinished": True}, GIB, False),
        ("linear", {"claim": OTHER}, GIB, False),
        ("raid,raid1", {"stripes": 3}, 3 * GIB + 192 * MIB, False),
        ("raid,raid5,raid5_ls", {"stripes": 3}, 3 * GIB + 192 * MIB, False),
        ("cache", {}, None, False),
        ("unknown", {}, None, False),
    ],
)
def test_what_is_of_our_kind_and_what_room_it_takes(
    layout: str, more: dict[str, Any], room: int | None, fit: bool
) -> None:
    lv = SeenVolume(pool="fast", name="x", lv="d", size_bytes=GIB, layout=layout, **more)
    assert (taken_bytes(lv), no_volume(lv) is None) == (room, fit)


ANY_ORDER: tuple[Message, ...] = (
    *(mend(how) for how in Mend),
    *(LEAVE, LEFT, PRESENT, replace(PRESENT, size_bytes=3 * GIB), ABSENT),
)


@law(st.lists(st.sampled_from(ANY_ORDER), max_size=12), st.booleans())
def test_no_order_of_words_about_mending_removes_a_leg_that_is_there(
    said: list[Message], taken_over: bool
) -> None:
    here = given(*(adopted(*PAST) if taken_over else PAST))
    for command in said:
        decision = here.decide(command)
        for event in decision if isinstance(decision, tuple) else ():
            assert not isinstance(event, ReplicaRemovalWanted)
            if isinstance(event, ReplicaRemoved):
                # Only a node that says so: it is nowhere, or it was given back.
                assert isinstance(command, ReportReplicaAbsent | ReportReplicaLeft)
            here.world.evolve("replica", "n1", "pg", [event])
