"""What all operations share: a beginning, a way back, and an end in time."""

from abc import abstractmethod
from datetime import datetime
from typing import Self, TypeVar

import msgspec
from msgspec.structs import replace

from schemas.grammar import Event, Message
from schemas.operation import (
    CancelWanted,
    OperationEnded,
    OperationExpired,
    OperationKind,
    OperationStarted,
    Outcome,
    ReportConcluded,
    ReportStarted,
    StepRefused,
)
from schemas.refusals import Refusal

P = TypeVar("P", bound="Process")

OUT_OF_TIME = 2
"""The second expiry: nobody is waited for any longer."""


class Due(msgspec.Struct, frozen=True):
    """The one command that is due next.

    ``step`` and ``attempt`` make its id, so sending it twice is sending it once.
    """

    step: str
    command: Message
    attempt: int = 0


class GivingUp(msgspec.Struct, frozen=True):
    """Why the operation goes back, and how it will have ended."""

    outcome: Outcome
    code: Refusal
    because: str


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One operation as the commits that carry its id tell it.

    ``evolve`` takes every event of those commits in the order of the log; ``due`` says what is to
    be sent now, or None while it is somebody else's turn. Both are pure, so whoever drives the
    process may die between any two messages and start over from the log.
    """

    operation: str
    kind: OperationKind
    object: str
    deadline: datetime
    started: bool = False
    ended: bool = False
    giving_up: GivingUp | None = None
    expiries: int = 0
    succeeded: bool = False

    @property
    def out_of_time(self) -> bool:
        """Whether nobody is to be waited for any longer."""
        return self.expiries >= OUT_OF_TIME

    def due(self) -> Due | None:
        """Return the command to send now, if any."""
        if self.ended:
            return None
        if not self.started:
            return Due(
                "start",
                ReportStarted(
                    operation=self.operation,
                    kind=self.kind,
                    object=self.object,
                    deadline=self.deadline,
                ),
            )
        return self.forward() if self.giving_up is None else self.back(self.giving_up)

    @abstractmethod
    def forward(self) -> Due | None:
        """Return the next step towards the end that was asked for."""

    @abstractmethod
    def back(self, why: GivingUp) -> Due | None:
        """Return the next step towards how things were."""

    @abstractmethod
    def note(self: P, event: Event) -> P:
        """Return the process after an event of one of its aggregates."""

    def refused(self, refusal: StepRefused) -> Self:
        """Return the process after a step was refused: it gives up, unless it knows better."""
        return self.give_up(refusal.code, f"{refusal.step}: {refusal.because}")

    def evolve(self, event: Event) -> Self:
        """Apply what happened. Never refuses: the past cannot be wrong."""
        match event:
            case OperationStarted():
                return replace(self, started=True)
            case StepRefused():
                return self.refused(event)
            case CancelWanted():
                because = event.because or "somebody asked for it"
                return self.give_up(Refusal.CANCELLED, because, Outcome.CANCELLED)
            case OperationExpired():
                expired = replace(self, expiries=self.expiries + 1)
                return expired.give_up(Refusal.DEADLINE, f"not done by {self.deadline:%H:%M:%S}")
            case OperationEnded():
                return replace(self, ended=True)
            case _:
                return self.note(event)

    def success(self) -> Self:
        """Return the process past the point of no return: what was asked for is so."""
        return replace(self, succeeded=True, giving_up=None)

    def give_up(self, code: Refusal, because: str, outcome: Outcome = Outcome.FAILED) -> Self:
        """Return the process on its way back; the first reason counts.

        What has succeeded is not undone: then it is too late to cancel.
        """
        if self.giving_up is not None or self.ended or self.succeeded:
            return self
        return replace(self, giving_up=GivingUp(outcome, code, because))

    def last_resort(self) -> Due:
        """Return the end of an operation whose way back is blocked when its time is up."""
        why = self.giving_up or GivingUp(Outcome.FAILED, Refusal.DEADLINE, "its time is up")
        return self.given_up(why, self.object)

    def completed(self, *leftovers: str) -> Due:
        """Return the last step of an operation that did what was asked."""
        done = ReportConcluded(
            operation=self.operation, outcome=Outcome.COMPLETED, leftovers=leftovers
        )
        return Due("conclude", done)

    def given_up(self, why: GivingUp, *leftovers: str) -> Due:
        """Return the last step of an operation that went back."""
        return Due(
            "conclude",
            ReportConcluded(
                operation=self.operation,
                outcome=why.outcome,
                code=why.code,
                because=why.because[:1000],
                leftovers=leftovers,
            ),
        )
