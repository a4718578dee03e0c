"""Nothing is in limbo, or it is named: what hangs, what has no cause, what does not add up."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from aggregates.ledger import Ledger, Posting
from aggregates.limbo import FINDINGS_MAX, LimboChecker
from aggregates.limbo_known import Known
from aggregates.limbo_ledgers import Books, Ledgers
from aggregates.limbo_operations import _ENDED_KEPT_MAX
from aggregates.node import Node
from aggregates.pool import Pool
from aggregates.schedule import Schedule
from aggregates.snapshot import Snapshot
from aggregates.volume import Volume
from aggregates.volume_group import VolumeGroup
from aggregates.world import World
from schemas.grammar import Event
from schemas.growing import ThinPoolGrowthBegan
from schemas.limbo import Limbo, LimboVerdict
from schemas.operation import OperationEnded, OperationKind, OperationStarted, Outcome
from schemas.pool import (
    PoolFactsChanged,
    PoolFormed,
    PoolFormingBegan,
    RoomReleased,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
)
from tests.support.clock import NOON
from tests.support.given import GIB
from tests.support.limbo import (
    DEADLINE,
    FACTS,
    FAULTS,
    FORMING,
    LATER,
    MAKING,
    ON,
    POOL_UID,
    Fault,
    Told,
    a_tool,
    story,
)

KEY = ("n1", "fast")


def checked(told: Sequence[Told], **kind: Any) -> LimboChecker:
    checker = LimboChecker(**kind)
    for seq, one in enumerate(told, start=1):
        checker.take(seq, one.address, one.commit(seq))
    return checker


def found(verdict: LimboVerdict) -> list[tuple[Limbo, int]]:
    return [(one.code, one.seq) for one in verdict.findings]


def test_where_all_is_well_nothing_is_found() -> None:
    checker = checked(story())
    checker.take_tool(1, "hwbus.audit.executed.n1", a_tool())
    verdict = checker.verdict(LATER)
    assert (verdict.findings, verdict.untold, verdict.unjudged) == ((), 0, 0)
    assert (verdict.commits, verdict.tools, verdict.open, verdict.pools) == (8, 1, 0, 1)
    assert set(verdict.counts.values()) == {0}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_named_with_its_sequence(fault: Fault) -> None:
    told = story()
    fault.put(told)
    verdict = checked(told).verdict(LATER)
    assert (fault.code, fault.seq) in found(verdict)
    named = next(one for one in verdict.findings if one.code is fault.code)
    assert named.subject
    assert named.because
    assert named.fix == fault.code.advice
    assert verdict.counts[fault.code.check] > 0


def test_an_operation_has_until_its_deadline_and_the_grace_after_it() -> None:
    checker = checked(story()[:-1])
    assert checker.verdict(DEADLINE + timedelta(seconds=120)).findings == ()
    assert found(checker.verdict(DEADLINE + timedelta(seconds=121))) == [(Limbo.OVERDUE, 5)]
    assert checked(story()[:-1], grace_s=0).verdict(DEADLINE + timedelta(seconds=1)).findings


def test_one_that_ended_late_is_counted_and_no_finding() -> None:
    told = story()
    late = msgspec.structs.replace(told[4].events[0], deadline=DEADLINE - timedelta(hours=1))
    told[4].events = (late,)
    verdict = checked(told).verdict(LATER)
    assert (verdict.findings, verdict.late) == ((), 1)


def test_what_a_larger_operation_begins_ends_with_that() -> None:
    told = story()[:-1]
    sooner = DEADLINE - timedelta(minutes=9)
    part = ThinPoolGrowthBegan(
        **ON,
        operation=MAKING,
        deadline=sooner,
        from_bytes=0,
        thin_bytes=GIB,
        metadata_bytes=0,
        reserved_bytes=GIB,
    )
    told.append(Told(told[5].address, (part,), "hwbus", "part", MAKING, "rule"))
    assert checked(told).verdict(DEADLINE).findings == ()


def test_what_is_busy_with_an_operation_that_has_ended_is_found() -> None:
    running, world = ended(1)[0], World()
    checker = checked([*story(), running])
    world.volumes["pg"] = Volume(operation=MAKING)
    world.volumes["other"] = Volume(operation=running.correlation)
    [one] = checker.verdict(DEADLINE, world).findings
    assert (one.code, one.seq, one.subject) == (Limbo.HELD_FOR_NOBODY, 8, "volume/pg")


def ended(number: int) -> list[Told]:
    """An operation that begins and ends, as many do."""
    id_ = f"{number:026d}"
    about: dict[str, Any] = {"operation": id_, "object": "volume/other"}
    grown = OperationKind.VOLUME_GROW
    began = OperationStarted(**about, kind=grown, deadline=DEADLINE)
    over = OperationEnded(**about, kind=grown, outcome=Outcome.COMPLETED)
    where = ("operation", "-", id_)
    return [
        Told(where, (one,), "hwbus", f"{id_}.{n}", id_, f"operation:{id_}")
        for n, one in enumerate((began, over))
    ]


def held(checker: LimboChecker, world: World, now: datetime = LATER) -> list[str]:
    findings = checker.verdict(now, world).findings
    return sorted(one.subject for one in findings if one.code is Limbo.HELD_FOR_NOBODY)


def test_it_is_found_however_many_operations_have_ended_since() -> None:
    told = [*story(), *(one for number in range(_ENDED_KEPT_MAX + 1) for one in ended(number))]
    checker, world = checked(told), World()
    world.volumes["pg"] = Volume(operation=MAKING)
    assert held(checker, world, NOON + timedelta(days=1)) == ["volume/pg"]


def test_whatever_can_be_busy_is_looked_at() -> None:
    world = World()
    world.volumes["v"] = Volume(operation=MAKING)
    world.snapshots["s"] = Snapshot(operation=MAKING)
    world.pools["n1", "fast"] = Pool(operation=MAKING)
    world.nodes["n1"] = Node(operation=MAKING)
    world.groups["g"] = VolumeGroup(operation=MAKING)
    world.schedules["r"] = Schedule(running=MAKING)
    where = ["group/g", "node/n1", "pool/n1/fast", "schedule/r", "snapshot/s", "volume/v"]
    assert held(checked(story()), world) == where
    assert held(checked(story()[:-1]), world) == []


def test_what_is_busy_with_an_operation_that_never_began_is_found_in_a_log_that_is_whole() -> None:
    world = World()
    world.schedules["s"] = Schedule(running="never")
    assert held(checked(story()), world) == ["schedule/s"]


def test_what_a_world_knows_already_may_still_be_told() -> None:
    checker, world = checked(story(), patience_s=60), World()
    world.volumes["pg"] = Volume(operation="just-begun")
    assert held(checker, world) == []
    assert held(checker, world, LATER + timedelta(seconds=59)) == []
    assert held(checker, world, LATER + timedelta(seconds=60)) == ["volume/pg"]


def test_in_a_log_without_its_beginning_an_operation_may_have_begun_before_it() -> None:
    told, world = story(), World()
    world.volumes["pg"] = Volume(operation="before")
    checker = LimboChecker()
    for seq, one in enumerate(told, start=5000):
        checker.take(seq, one.address, one.commit(seq))
    assert held(checker, world) == []
    world.volumes["pg"] = Volume(operation=MAKING)
    assert held(checker, world, LATER + timedelta(hours=9)) == ["volume/pg"]


def test_where_a_message_cannot_be_read_an_operation_may_have_begun() -> None:
    unread, partly, world = checked(story()), checked(story()), World()
    world.volumes["pg"] = Volume(operation="unread")
    unread.skip(9, "hwbus.evt.volume.-.pg", "no JSON")
    assert held(unread, world) == []
    partly.take(9, story()[0].address, story()[0].commit(9), ())
    assert held(partly, world) == []


def test_a_refused_command_is_a_cause_like_any_other() -> None:
    told = story()
    told[6].cause = "command:refused"
    checker = checked(told)
    checker.know_refused("refused")
    assert checker.verdict(LATER).findings == ()


def test_a_refusal_may_come_a_little_later_than_what_came_of_it() -> None:
    told = story()
    told[6].cause = "command:refused"
    checker = checked(told, patience_s=60)
    soon = told[6].commit(7).at + timedelta(seconds=59)
    assert checker.verdict(soon).findings == ()
    assert found(checker.verdict(soon + timedelta(seconds=1))) == [(Limbo.CAUSE_LOST, 7)]


def test_without_the_refusals_nobody_can_say_that_a_command_is_lost() -> None:
    told = story()
    told[6].cause = "command:refused"
    verdict = checked(told, whole=False).verdict(LATER)
    assert (verdict.findings, verdict.unjudged) == ((), 1)


def test_an_event_that_is_missing_in_the_log_is_no_cause() -> None:
    checker, told = LimboChecker(), story()
    told[2].cause = "event:2"
    for seq, one in enumerate(told, start=1):
        if seq != 2:
            checker.take(seq, one.address, one.commit(seq))
    assert (Limbo.CAUSE_LOST, 3) in found(checker.verdict(LATER))


@pytest.mark.parametrize(
    ("cause", "correlation"),
    [("", ""), ("somehow", ""), ("event:9", ""), ("operation:gone", ""), ("event:3", "gone")],
)
def test_a_tool_without_a_cause_in_the_log_is_named_on_its_own_stream(
    cause: str, correlation: str
) -> None:
    checker = checked(story())
    checker.take_tool(41, "hwbus.audit.executed.n1", a_tool(cause, correlation))
    [one] = checker.verdict(LATER).findings
    assert (one.code, one.stream, one.seq) == (Limbo.TOOL_WITHOUT_CAUSE, "HWBUS_AUDIT", 41)


@pytest.mark.parametrize("cause", ["scan:7", "health:1", "start:boot", f"loan:{FORMING}"])
def test_a_look_is_its_own_cause_and_so_is_a_loan_for_an_operation(cause: str) -> None:
    checker = checked(story())
    checker.take_tool(41, "hwbus.audit.executed.n1", a_tool(cause, ""))
    assert checker.verdict(LATER).findings == ()


def test_a_message_nobody_can_read_is_named() -> None:
    checker = LimboChecker()
    checker.skip(1, "hwbus.evt.volume.-.pg", "no JSON")
    assert found(checker.verdict(LATER)) == [(Limbo.UNREADABLE, 1)]


def test_books_that_somebody_else_keeps_otherwise_are_named() -> None:
    checker = checked(story())
    own = Books(0, GIB, 0, 1)
    for said, wrong in (
        ({KEY: own}, False),
        ({KEY: None}, False),
        ({KEY: Books()}, True),
        ({}, True),
    ):
        checker.compare(said, "the view")
        assert found(checker.verdict(LATER)) == ([(Limbo.BOOKS_DIFFER, 7)] if wrong else [])


def test_a_view_that_is_behind_is_named_with_what_it_has_not_taken_in() -> None:
    checker = checked(story())
    checker.note_views("events", 5, 8, 0)
    assert found(checker.verdict(LATER)) == [(Limbo.BEHIND, 6)]
    checker.note_views("events", 8, 8, 2)
    assert found(checker.verdict(LATER)) == [(Limbo.UNREADABLE, 0)]
    checker.note_views("events", 8, 8, 0)
    assert checker.verdict(LATER).findings == ()


def test_a_pool_that_has_room_again_is_not_named_any_more() -> None:
    told = story()
    facts = msgspec.structs.replace(FACTS, size_bytes=GIB // 2)
    for size in (facts, FACTS):
        changed = (PoolFactsChanged(**ON, uid=POOL_UID, facts=size),)
        told.append(Told(told[5].address, changed, "worker:n1", "seen", "seen", "scan:1"))
    assert found(checked(told[:-1]).verdict(LATER)) == [(Limbo.OVERCOMMITTED, 9)]
    assert checked(told).verdict(LATER).findings == ()


def test_a_thin_pool_may_promise_by_its_ratio_and_no_more() -> None:
    facts = msgspec.structs.replace(FACTS, thin_bytes=GIB)
    ledgers = Ledgers()
    began = PoolFormingBegan(
        **ON,
        uid=POOL_UID,
        operation=FORMING,
        deadline=DEADLINE,
        disks=("d1",),
        thin_ratio_percent=200,
    )
    formed = PoolFormed(**ON, uid=POOL_UID, facts=facts)
    assert [ledgers.take(n, KEY, event) for n, event in enumerate((began, formed))] == [None, None]
    wrong = [
        ledgers.take(
            number,
            KEY,
            RoomReserved(**ON, claim=f"c{number}", size_bytes=GIB, operation=MAKING, thin=True),
        )
        for number in (1, 2, 3)
    ]
    assert [one and one[0] for one in wrong] == [None, None, Limbo.OVERCOMMITTED]


def test_of_very_many_findings_the_first_are_told_and_the_rest_counted() -> None:
    told = story()[:1]
    told += [Told(("disk", "-", f"d{n}"), (), "", "wish-1", FORMING, "") for n in range(150)]
    verdict = checked(told).verdict(DEADLINE)
    assert len(verdict.findings) == FINDINGS_MAX
    assert verdict.untold == 50


def test_ids_take_no_more_room_than_they_may() -> None:
    known = Known(1000)
    for number in range(2000):
        known.add(f"id-{number}")
    assert all(f"id-{number}" in known for number in range(2000))
    assert not known.forgot
    known.add("one more")
    assert known.forgot
    assert "id-0" not in known
    assert "id-1999" in known


def test_of_what_is_forgotten_nobody_says_that_it_is_lost() -> None:
    told = story()
    told[6].cause = "command:wish-1"
    verdict = checked(told, ids_max=1).verdict(LATER)
    assert verdict.findings == ()
    assert verdict.unjudged > 0


POSTINGS = st.lists(
    st.tuples(
        st.sampled_from((RoomReserved, RoomUnreserved, RoomSettled, RoomReleased)),
        st.sampled_from(("a", "b", "c")),
        st.integers(1, GIB),
        st.booleans(),
    ),
    max_size=30,
)


@hypothesis.given(POSTINGS)
def test_whatever_is_posted_the_sums_are_those_of_the_ledger(
    postings: list[tuple[type[Event], str, int, bool]],
) -> None:
    ledger, ledgers = Ledger(), Ledgers()
    began = PoolFormingBegan(
        **ON, uid=POOL_UID, operation=FORMING, deadline=DEADLINE, disks=("d1",)
    )
    ledgers.take(1, KEY, began)
    for seq, (kind, claim, size_bytes, thin) in enumerate(postings, start=2):
        posting = Posting(size_bytes, thin)
        more: dict[str, Any] = {"size_bytes": size_bytes, "thin": thin}
        if kind is RoomReserved:
            event: Event = RoomReserved(**ON, claim=claim, operation=MAKING, **more)
            ledger = ledger.reserve(claim, posting)
        elif kind is RoomSettled:
            event = RoomSettled(**ON, claim=claim, **more)
            ledger = ledger.settle(claim, posting)
        elif kind is RoomUnreserved:
            event, ledger = RoomUnreserved(**ON, claim=claim), ledger.unreserve(claim)
        else:
            event, ledger = RoomReleased(**ON, claim=claim), ledger.release(claim)
        ledgers.take(seq, KEY, event)
    [(_, _, books)] = ledgers.books()
    assert books == Books(
        ledger.thick_reserved_bytes,
        ledger.thick_settled_bytes,
        ledger.thin_promised_bytes,
        ledger.claims,
    )
