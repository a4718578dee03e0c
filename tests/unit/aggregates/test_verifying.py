"""Replicas compared while they are in use: what is refused, what follows, and how it ends."""

from datetime import timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregates.processes.comparisons import owed
from aggregates.processes.process import Due
from aggregates.processes.verify_volume import GONE, SILENT, VerifyVolumeProcess, begin
from aggregates.volume import Verifying, VolumePhase
from schemas.attaching import AttachVolume, VolumeAttachingBegan
from schemas.deleting import DeleteVolume
from schemas.errand import (
    Compare,
    Compared,
    ErrandDone,
    ErrandStopped,
    ErrandStopWanted,
    ErrandTroubled,
    ErrandWanted,
    EvenedOut,
    EvenOut,
    RunErrand,
    StopErrand,
)
from schemas.grammar import Event, Message
from schemas.handing import FailoverBegan, FailVolumeOver, HandOverBegan, HandOverVolume
from schemas.legs import AddReplica, MigrateVolume, RemoveReplicaOf
from schemas.operation import (
    CancelWanted,
    OperationEnded,
    OperationExpired,
    OperationKind,
    OperationStarted,
    Outcome,
    ReportConcluded,
    ReportStepRefused,
    StepRefused,
)
from schemas.refusals import Refusal
from schemas.replication import LegDisk, PeerSeen, Sync, Tie
from schemas.verifying import (
    ConcludeVerification,
    RepairBegan,
    RepairReplicas,
    VerificationBegan,
    VerificationFailed,
    VerifyVolume,
    VolumeRepaired,
    VolumeVerified,
)
from schemas.volume import ConcludeVolume, GrowVolume, LockVolume, VolumeLocked
from tests.support.given import GIB, NOON, OPERATION, OTHER, UID, given
from tests.support.legs_words import fenced, good, nodes, replicated, silent, tells
from tests.support.words import DEADLINE, pool_ready, volume_ready

WELL = (*nodes("n1", "n2"), *replicated("n1", "n2"), tells("n1", peers=(good("n2"),)))
VERIFY = VerifyVolume(volume="pg")
ABOUT: dict[str, Any] = {"volume": "pg", "operation": OPERATION}
BEGAN = VerificationBegan(
    **ABOUT,
    uid=UID,
    deadline=NOON + timedelta(days=2),
    node="n1",
    peers=("n2",),
    size_bytes=GIB,
)
REPAIRING = replace(BEGAN, repair=True)
FOUND = VolumeVerified(**ABOUT, at=NOON, differing_bytes=4096, goes_on=True)
COPYING = RepairBegan(**ABOUT, node="n1", differing_bytes=4096)
REPAIRED = VolumeRepaired(**ABOUT, node="n1", differing_bytes=4096)
FAILED = VerificationFailed(**ABOUT, code=Refusal.VERIFY_BROKEN, because="lost")
REPAIR = RepairReplicas(**ABOUT)
GROW = GrowVolume(volume="pg", size_bytes=2 * GIB)
ATTACH = AttachVolume(volume="pg", consumer="host/a")


def test_replicas_that_are_all_well_are_compared_and_the_volume_is_free_meanwhile() -> None:
    given(*WELL).when(VERIFY).then(BEGAN)
    given(*WELL).when(replace(VERIFY, repair=True)).then(REPAIRING)
    volume = given(*WELL, BEGAN).world.volumes["pg"]
    assert (volume.phase, volume.operation) == (VolumePhase.READY, "")
    assert volume.verifying == Verifying(operation=OPERATION, node="n1")


@pytest.mark.parametrize(
    ("past", "code"),
    [
        ((), Refusal.UNKNOWN_VOLUME),
        ((*pool_ready("n1"), *volume_ready("n1")), Refusal.NOT_REPLICATED),
        ((*WELL, silent("n2")), Refusal.NOT_UP_TO_DATE),
        ((*WELL, silent("n1")), Refusal.NOT_UP_TO_DATE),
        ((*WELL, fenced("n2")), Refusal.NOT_UP_TO_DATE),
        ((*WELL, tells("n2", LegDisk.OUTDATED), tells("n1")), Refusal.NOT_UP_TO_DATE),
        (
            (*WELL, tells("n1", peers=(PeerSeen(node="n2", tie=Tie.CONNECTING),))),
            Refusal.NOT_UP_TO_DATE,
        ),
        (
            (
                *WELL,
                tells(
                    "n1",
                    peers=(replace(good("n2"), disk=LegDisk.INCONSISTENT, sync=Sync.SOURCE),),
                ),
            ),
            Refusal.NOT_UP_TO_DATE,
        ),
        ((*WELL, BEGAN), Refusal.VOLUME_BUSY),
        ((*WELL, VolumeLocked(**ABOUT, uid=UID, snapshot="s")), Refusal.VOLUME_BUSY),
        ((*WELL, REPAIRING, FOUND, COPYING), Refusal.VOLUME_BUSY),
    ],
)
def test_what_is_not_compared(past: tuple[Event, ...], code: Refusal) -> None:
    given(*past).when(VERIFY).refused(code)


@pytest.mark.parametrize(
    ("wish", "may"),
    [
        (ATTACH, True),
        (GROW, True),
        (HandOverVolume(volume="pg", node="n2"), True),
        (LockVolume(volume="pg", uid=UID, operation=OTHER, snapshot="s"), True),
        (DeleteVolume(volume="pg"), False),
        (RemoveReplicaOf(volume="pg", node="n2"), False),
        (AddReplica(volume="pg"), False),
        (MigrateVolume(volume="pg"), False),
    ],
)
def test_what_may_be_done_while_replicas_are_compared(wish: Message, *, may: bool) -> None:
    decided = given(*WELL, BEGAN).when(wish)
    if may:
        assert isinstance(decided.decision, tuple)
    else:
        decided.refused(Refusal.VOLUME_BUSY, OPERATION)
    while_copied = given(*WELL, REPAIRING, FOUND, COPYING)
    while_copied.when(wish).refused(Refusal.VOLUME_BUSY)


def test_what_was_found_is_kept_and_then_copied_if_that_was_wanted() -> None:
    report = ConcludeVerification(**ABOUT, differing_bytes=4096)
    plain = replace(FOUND, goes_on=False)
    given(*WELL, BEGAN).when(report).then(plain)
    volume = given(*WELL, BEGAN, plain).world.volumes["pg"]
    assert (volume.verifying, volume.verified_at, volume.differing_bytes) == (None, NOON, 4096)
    given(*WELL, BEGAN, plain).when(report).nothing()
    given(*WELL, REPAIRING).when(replace(report, goes_on=True)).then(FOUND)
    given(*WELL, REPAIRING, FOUND).when(REPAIR).then(COPYING)
    given(*WELL, REPAIRING, FOUND, COPYING).when(REPAIR).nothing()
    done = ConcludeVerification(**ABOUT, repaired=True)
    given(*WELL, REPAIRING, FOUND, COPYING).when(done).then(REPAIRED)
    after = given(*WELL, REPAIRING, FOUND, COPYING, REPAIRED).world.volumes["pg"]
    assert (after.phase, after.operation, after.verifying) == (VolumePhase.READY, "", None)
    assert (after.differing_bytes, after.verified_at) == (0, NOON)


def test_nothing_is_copied_once_the_volume_is_written_to_elsewhere_or_is_not_well() -> None:
    past = (*WELL, REPAIRING, FOUND)
    handed = HandOverBegan(
        volume="pg", uid=UID, operation=OTHER, deadline=DEADLINE, from_node="n1", node="n2"
    )
    given(*past, handed).when(REPAIR).refused(Refusal.VOLUME_BUSY)
    moved = given(*past, FailoverBegan(
        volume="pg", uid=UID, operation=OTHER, deadline=DEADLINE, from_node="n1", node="n2", epoch=1
    ))  # fmt: skip
    moved.when(REPAIR).refused(Refusal.VOLUME_BUSY)
    given(*past, silent("n2")).when(REPAIR).refused(Refusal.NOT_UP_TO_DATE)
    given(*WELL).when(REPAIR).refused(Refusal.NOT_YOURS)
    given(*past).when(replace(REPAIR, operation=OTHER)).refused(Refusal.NOT_YOURS)


def test_a_failover_waits_for_no_comparison() -> None:
    away = (tells("n2", peers=(PeerSeen(node="n1", tie=Tie.CONNECTING),)), silent("n1"))
    over = FailVolumeOver(volume="pg")
    decided = given(*WELL, BEGAN, *away).decide(over, operation=OTHER)
    assert isinstance(decided, tuple)
    past = (*WELL, BEGAN, *away, *decided)
    lost = ConcludeVerification(**ABOUT, code=FAILED.code, because="lost")
    given(*past).when(lost).then(FAILED)
    after = given(*past, FAILED).world.volumes["pg"]
    assert (after.verifying, after.operation, after.node) == (None, OTHER, "n2")
    assert after.phase is VolumePhase.FAILING_OVER
    given(*WELL, REPAIRING, FOUND, COPYING, *away).when(over).refused(Refusal.VOLUME_BUSY)


def test_a_volume_is_not_left_in_work_by_a_repair_whose_operation_has_ended() -> None:
    report = ConcludeVolume(**ABOUT, code=Refusal.DEADLINE, because="its operation ended")
    decided = given(*WELL, REPAIRING, FOUND, COPYING).decide(report)
    assert decided == (
        VerificationFailed(**ABOUT, code=Refusal.DEADLINE, because="its operation ended"),
    )
    given(*WELL, BEGAN).when(report).nothing()


STARTED = OperationStarted(
    operation=OPERATION,
    kind=OperationKind.VOLUME_VERIFY,
    object="volume/pg",
    deadline=BEGAN.deadline,
)
ENDED = OperationEnded(
    operation=OPERATION,
    kind=OperationKind.VOLUME_VERIFY,
    object="volume/pg",
    outcome=Outcome.FAILED,
)


def told(*past: Event) -> list[Message]:
    return list(owed(given(*WELL, *past).world))


def test_no_comparison_waits_for_a_silent_node_or_outlives_its_operation() -> None:
    assert told(BEGAN, STARTED) == []
    (lost,) = told(BEGAN, STARTED, silent("n1"))
    assert isinstance(lost, ReportStepRefused)
    assert (lost.operation, lost.step, lost.code) == (OPERATION, SILENT, Refusal.VERIFY_BROKEN)
    (ended,) = told(BEGAN, STARTED, ENDED)
    assert isinstance(ended, ConcludeVerification)
    assert (ended.operation, ended.code) == (OPERATION, Refusal.DEADLINE)
    (gone,) = told(STARTED)
    assert isinstance(gone, ReportStepRefused)
    assert gone.step == GONE
    assert told(BEGAN, FAILED, STARTED, ENDED) == []


# The operation itself.

RUN: dict[str, Any] = {"operation": OPERATION, "node": "n1"}
WANTED = ErrandWanted(**RUN, errand=Compare(volume="pg", uid=UID))
COPY_WANTED = ErrandWanted(**RUN, errand=EvenOut(volume="pg", uid=UID))
SAME = ErrandDone(**RUN, found=Compared(differing_bytes=0))
DIFFERS = ErrandDone(**RUN, found=Compared(differing_bytes=4096))
EVEN = ErrandDone(**RUN, found=EvenedOut())
CANCEL = CancelWanted(operation=OPERATION)
EXPIRED = OperationExpired(operation=OPERATION, at=NOON)


def after(began: VerificationBegan, *events: Event) -> VerifyVolumeProcess:
    process = begin(began).evolve(STARTED)
    for event in events:
        process = process.evolve(event)
    return process


def due(began: VerificationBegan, *events: Event) -> Message | None:
    step: Due | None = after(began, *events).due()
    return None if step is None else step.command


def ends(began: VerificationBegan, *events: Event) -> tuple[Outcome, Refusal | None, str]:
    report = due(began, *events)
    assert isinstance(report, ReportConcluded), report
    return report.outcome, report.code, report.because


def test_what_is_the_same_everywhere_ends_well() -> None:
    assert due(BEGAN) == RunErrand(**RUN, errand=WANTED.errand)
    assert due(BEGAN, WANTED) is None
    assert due(BEGAN, WANTED, SAME) == ConcludeVerification(**ABOUT)
    verified = VolumeVerified(**ABOUT, at=NOON)
    assert ends(BEGAN, WANTED, SAME, verified) == (Outcome.COMPLETED, None, "nothing differs")
    assert ends(REPAIRING, WANTED, SAME, verified)[0] is Outcome.COMPLETED


def test_what_differs_fails_whoever_waits_and_says_how_much_it_is() -> None:
    report = ConcludeVerification(**ABOUT, differing_bytes=4096)
    assert due(BEGAN, WANTED, DIFFERS) == report
    plain = replace(FOUND, goes_on=False)
    outcome, code, because = ends(BEGAN, WANTED, DIFFERS, plain)
    assert (outcome, code) == (Outcome.FAILED, Refusal.REPLICAS_DIFFER)
    assert "4096 bytes" in because


def test_what_differs_is_told_before_it_is_copied_and_where_from_at_the_end() -> None:
    past: tuple[Event, ...] = (WANTED, DIFFERS)
    assert due(REPAIRING, *past) == ConcludeVerification(
        **ABOUT, differing_bytes=4096, goes_on=True
    )
    past += (FOUND,)
    assert due(REPAIRING, *past) == REPAIR
    past += (COPYING,)
    assert due(REPAIRING, *past) == RunErrand(**RUN, errand=COPY_WANTED.errand)
    past += (COPY_WANTED,)
    assert due(REPAIRING, *past) is None
    past += (EVEN,)
    assert due(REPAIRING, *past) == ConcludeVerification(
        **ABOUT, differing_bytes=4096, repaired=True
    )
    outcome, code, because = ends(REPAIRING, *past, REPAIRED)
    assert (outcome, code) == (Outcome.COMPLETED, None)
    assert "4096 bytes" in because
    assert "n1" in because


def test_a_busy_volume_is_told_to_differ_and_not_to_be_repaired() -> None:
    busy = StepRefused(
        operation=OPERATION, step="repair", code=Refusal.VOLUME_BUSY, because="it is attached"
    )
    past = (WANTED, DIFFERS, FOUND, busy)
    report = due(REPAIRING, *past)
    assert isinstance(report, ConcludeVerification)
    assert report.code is Refusal.VOLUME_BUSY
    failed = VerificationFailed(**ABOUT, code=Refusal.VOLUME_BUSY, because="")
    outcome, code, because = ends(REPAIRING, *past, failed)
    assert (outcome, code) == (Outcome.FAILED, Refusal.VOLUME_BUSY)
    assert "4096 bytes" in because
    assert "it is attached" in because


def test_who_cancels_has_the_node_leave_off_first() -> None:
    assert due(BEGAN, WANTED, CANCEL) == StopErrand(**RUN)
    stopping = ErrandStopWanted(**RUN)
    assert due(BEGAN, WANTED, CANCEL, stopping) is None
    stopped = (WANTED, CANCEL, stopping, ErrandStopped(**RUN))
    report = due(BEGAN, *stopped)
    assert isinstance(report, ConcludeVerification)
    assert report.code is Refusal.CANCELLED
    assert ends(BEGAN, *stopped, FAILED)[:2] == (Outcome.CANCELLED, Refusal.CANCELLED)
    # What was found meanwhile was found; but nothing more is begun.
    assert due(BEGAN, WANTED, CANCEL, DIFFERS) == ConcludeVerification(
        **ABOUT, differing_bytes=4096
    )
    more = due(REPAIRING, WANTED, CANCEL, DIFFERS)
    assert isinstance(more, ConcludeVerification)
    assert more.code is Refusal.CANCELLED


def test_a_lost_connection_fails_with_the_reason_of_the_node() -> None:
    broken = ErrandTroubled(
        **RUN, code=Refusal.VERIFY_BROKEN, because="the peer is away", permanent=True
    )
    stopped = (ErrandStopWanted(**RUN), ErrandStopped(**RUN))
    assert due(BEGAN, WANTED, broken) == StopErrand(**RUN)
    assert ends(BEGAN, WANTED, broken, *stopped, FAILED) == (
        Outcome.FAILED,
        Refusal.VERIFY_BROKEN,
        "the peer is away",
    )
    assert due(BEGAN, WANTED, replace(broken, permanent=False)) is None


def test_a_silent_node_is_not_waited_for_and_is_named_as_left() -> None:
    lost = StepRefused(
        operation=OPERATION, step=SILENT, code=Refusal.VERIFY_BROKEN, because="not heard"
    )
    past = (WANTED, lost, ErrandStopWanted(**RUN), FAILED)
    report = due(BEGAN, *past)
    assert isinstance(report, ReportConcluded)
    assert (report.code, report.leftovers) == (
        Refusal.VERIFY_BROKEN,
        (f"errand/n1/{OPERATION}",),
    )


def refused(step: str, code: Refusal = Refusal.VERIFY_BROKEN) -> StepRefused:
    return StepRefused(operation=OPERATION, step=step, code=code, because="so")


class Played:
    """An operation, and what the others answer it, as far as they do."""

    def __init__(self, began: VerificationBegan) -> None:
        self.process = after(began)
        self.running = self.stopping = False
        self.errand: Compare | EvenOut = WANTED.errand  # type: ignore[assignment]
        self.end: ReportConcluded | None = None

    def take(self, event: Event) -> None:
        self.process = self.process.evolve(event)

    def step(self, how: str) -> None:
        """Let one thing happen; what cannot happen now does not."""
        command = getattr(self.process.due(), "command", None)
        match how:
            case "answer" if isinstance(command, ReportConcluded):
                self.end = command
            case "answer" if command is not None:
                self.answer(command)
            case "refuse" if isinstance(command, RepairReplicas):
                self.take(refused("repair", Refusal.VOLUME_BUSY))
            case "done" if self.running:
                self.running = False
                self.take(EVEN if isinstance(self.errand, EvenOut) else DIFFERS)
            case "stopped" if self.running and self.stopping:
                self.running = False
                self.take(ErrandStopped(**RUN))
            case "trouble" if self.running:
                because: dict[str, Any] = {
                    "code": Refusal.VERIFY_BROKEN,
                    "because": "lost",
                    "permanent": True,
                }
                self.take(ErrandTroubled(**RUN, **because))
            case "cancel":
                self.take(CANCEL)
            case "silent" | "gone":
                self.take(refused(SILENT if how == "silent" else GONE))
            case _:
                pass

    def answer(self, command: Message) -> None:
        match command:
            case RunErrand():
                self.running, self.stopping, self.errand = True, False, command.errand  # type: ignore[assignment]
                self.take(ErrandWanted(**RUN, errand=command.errand))
            case StopErrand() if not self.running:
                self.take(refused("stop", Refusal.NOT_YOURS))
            case StopErrand():
                self.stopping = True
                self.take(ErrandStopWanted(**RUN))
            case ConcludeVerification(code=None, repaired=True):
                self.take(REPAIRED)
            case ConcludeVerification(code=None):
                self.take(replace(FOUND, goes_on=command.goes_on))
            case ConcludeVerification():
                self.take(FAILED)
            case RepairReplicas():
                self.take(COPYING)
            case _:
                raise TypeError(command)


HOW = ("answer", "answer", "done", "refuse", "stopped", "trouble", "cancel", "silent", "gone")


@hypothesis.given(st.lists(st.sampled_from(HOW), max_size=25), st.booleans())
def test_whatever_happens_it_ends_with_a_reason_when_time_is_up(
    happens: list[str], repair: bool
) -> None:
    played = Played(REPAIRING if repair else BEGAN)
    for how in happens:
        played.step(how)
    for _ in range(2):
        played.take(EXPIRED)
    for _ in range(8):
        played.step("answer")
    assert played.end is not None, "it waits for somebody"
    assert played.end.outcome is Outcome.COMPLETED or played.end.code is not None
    assert bool(played.end.leftovers) <= played.running


def test_attaching_meanwhile_changes_nothing_about_the_comparison() -> None:
    (attaching,) = given(*WELL, BEGAN).decide(ATTACH, operation=OTHER)  # type: ignore[misc]
    assert isinstance(attaching, VolumeAttachingBegan)
    volume = given(*WELL, BEGAN, attaching).world.volumes["pg"]
    assert volume.verifying == Verifying(operation=OPERATION, node="n1")
