"""Long work with a beginning, an end by its deadline, and a reason for it."""

from datetime import datetime
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from schemas.answers import refuse
from schemas.operation import (
    CancelOperation,
    CancelWanted,
    OperationCommand,
    OperationEnded,
    OperationEvent,
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

EXPIRIES_MAX = 2


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. ``expiries``: 1 when it is to go back, 2 when its time is up for good.

    ``progress`` is how many of how many bytes are copied.
    """

    kind: OperationKind | None = None
    object: str = ""
    deadline: datetime | None = None
    outcome: Outcome | None = None
    cancel_wanted: bool = False
    expiries: int = 0
    refused: frozenset[tuple[str, int]] = frozenset()
    progress: tuple[int, int] = (0, 0)


def decide(
    operation: Operation,
    command: OperationCommand,
    facts: Facts,  # noqa: ARG001
) -> Decision[OperationEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case ReportStarted():
            return _start(operation, command)
        case CancelOperation():
            return _cancel(operation, command)
        case ReportStepRefused() | ReportProgressed() | ReportExpired() | ReportConcluded():
            if operation.kind is None or operation.outcome is not None:
                return ()
            return _go_on(operation, operation.kind, command)
        case _:
            assert_never(command)


def _start(operation: Operation, report: ReportStarted) -> Decision[OperationEvent]:
    if operation.kind is not None:
        return ()
    return (
        OperationStarted(
            operation=report.operation,
            kind=report.kind,
            object=report.object,
            deadline=report.deadline,
        ),
    )


def _cancel(operation: Operation, command: CancelOperation) -> Decision[OperationEvent]:
    if operation.kind is None:
        return refuse(Refusal.UNKNOWN_OPERATION, f"there is no operation {command.operation}")
    if operation.outcome is not None:
        return refuse(Refusal.OPERATION_ENDED, f"it has {operation.outcome.value}")
    if operation.cancel_wanted:
        return ()
    return (CancelWanted(operation=command.operation, because=command.because),)


def _go_on(
    operation: Operation,
    kind: OperationKind,
    report: ReportStepRefused | ReportProgressed | ReportExpired | ReportConcluded,
) -> Decision[OperationEvent]:
    match report:
        case ReportStepRefused():
            if (report.step, report.attempt) in operation.refused:
                return ()
            return (
                StepRefused(
                    operation=report.operation,
                    step=report.step,
                    code=report.code,
                    because=report.because,
                    attempt=report.attempt,
                ),
            )
        case ReportProgressed():
            return _progress(operation, report)
        case ReportExpired():
            if operation.expiries >= EXPIRIES_MAX:
                return ()
            return (OperationExpired(operation=report.operation, at=report.at),)
        case ReportConcluded():
            return (
                OperationEnded(
                    operation=report.operation,
                    kind=kind,
                    object=operation.object,
                    outcome=report.outcome,
                    code=report.code,
                    because=report.because,
                    leftovers=report.leftovers,
                ),
            )
        case _:
            assert_never(report)


def _progress(operation: Operation, report: ReportProgressed) -> Decision[OperationEvent]:
    done_bytes, of_bytes = report.done_bytes, report.of_bytes
    if operation.progress == (done_bytes, of_bytes):
        return ()
    return (
        OperationProgressed(operation=report.operation, done_bytes=done_bytes, of_bytes=of_bytes),
    )


def evolve(operation: Operation, event: OperationEvent) -> Operation:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case OperationStarted():
            return replace(operation, kind=event.kind, object=event.object, deadline=event.deadline)
        case StepRefused():
            return replace(operation, refused=operation.refused | {(event.step, event.attempt)})
        case CancelWanted():
            return replace(operation, cancel_wanted=True)
        case OperationProgressed():
            return replace(operation, progress=(event.done_bytes, event.of_bytes))
        case OperationExpired():
            return replace(operation, expiries=operation.expiries + 1)
        case OperationEnded():
            return replace(operation, outcome=event.outcome, refused=frozenset())
        case _:
            assert_never(event)
