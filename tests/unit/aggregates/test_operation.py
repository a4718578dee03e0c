from schemas.operation import (
    CancelOperation,
    CancelWanted,
    OperationEnded,
    OperationExpired,
    OperationKind,
    OperationProgressed,
    OperationStarted,
    Outcome,
    ReportConcluded,
    ReportExpired,
    ReportProgressed,
    ReportStarted,
    ReportStepRefused,
    StepRefused,
)
from schemas.refusals import Refusal
from tests.support.given import NOON, OPERATION, given
from tests.support.words import DEADLINE

STARTED = OperationStarted(
    operation=OPERATION,
    kind=OperationKind.VOLUME_GROW,
    object="volume/pg",
    deadline=DEADLINE,
)
ENDED = OperationEnded(
    operation=OPERATION,
    kind=OperationKind.VOLUME_GROW,
    object="volume/pg",
    outcome=Outcome.FAILED,
    code=Refusal.DEADLINE,
    because="late",
)
CONCLUDED = ReportConcluded(
    operation=OPERATION, outcome=Outcome.FAILED, code=Refusal.DEADLINE, because="late"
)
CANCEL = CancelOperation(operation=OPERATION, because="wrong volume")


def test_an_operation_starts_once() -> None:
    start = ReportStarted(
        operation=OPERATION,
        kind=OperationKind.VOLUME_GROW,
        object="volume/pg",
        deadline=DEADLINE,
    )
    given().when(start).then(STARTED)
    given(STARTED).when(start).nothing()


def test_an_operation_ends_once_and_nothing_follows() -> None:
    given(STARTED).when(CONCLUDED).then(ENDED)
    given(STARTED, ENDED).when(CONCLUDED).nothing()
    given(STARTED, ENDED).when(ReportExpired(operation=OPERATION, at=NOON)).nothing()


def test_progress_is_noted_when_it_is_news_and_while_there_is_anything_to_do() -> None:
    report = ReportProgressed(operation=OPERATION, done_bytes=0, of_bytes=8)
    event = OperationProgressed(operation=OPERATION, done_bytes=0, of_bytes=8)
    given(STARTED).when(report).then(event)
    given(STARTED, event).when(report).nothing()
    given(STARTED, ENDED).when(report).nothing()
    given().when(report).nothing()


def test_cancelling_is_a_wish_that_is_noted_once() -> None:
    wanted = CancelWanted(operation=OPERATION, because="wrong volume")
    given(STARTED).when(CANCEL).then(wanted)
    given(STARTED, wanted).when(CANCEL).nothing()


def test_what_has_ended_or_never_was_cannot_be_cancelled() -> None:
    given(STARTED, ENDED).when(CANCEL).refused(Refusal.OPERATION_ENDED, "failed")
    given().when(CANCEL).refused(Refusal.UNKNOWN_OPERATION)


def test_time_is_told_twice_and_no_more() -> None:
    expired = OperationExpired(operation=OPERATION, at=NOON)
    report = ReportExpired(operation=OPERATION, at=NOON)
    given(STARTED).when(report).then(expired)
    given(STARTED, expired).when(report).then(expired)
    given(STARTED, expired, expired).when(report).nothing()


def test_a_refused_step_is_noted_once_an_attempt() -> None:
    report = ReportStepRefused(
        operation=OPERATION, step="reserve", code=Refusal.CAPACITY, because="full"
    )
    refused = StepRefused(
        operation=OPERATION, step="reserve", code=Refusal.CAPACITY, because="full"
    )
    given(STARTED).when(report).then(refused)
    given(STARTED, refused).when(report).nothing()
