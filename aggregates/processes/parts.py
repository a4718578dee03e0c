"""Operations made of operations: each part is begun by a step of the larger one, under its id."""

from abc import abstractmethod
from typing import ClassVar, Self, TypeVar

from msgspec.structs import replace

from aggregates.processes import end_snapshot, snapshot
from aggregates.processes.end_snapshot import EndSnapshot
from aggregates.processes.process import Due, GivingUp, Process
from aggregates.processes.snapshot import TakeSnapshot
from schemas.grammar import Event
from schemas.operation import (
    CancelWanted,
    OperationExpired,
    Outcome,
    ReportConcluded,
    StepRefused,
)
from schemas.refusals import Refusal
from schemas.snapshot import (
    CreateSnapshot,
    DeleteSnapshot,
    SnapshotCreationBegan,
    SnapshotDeletionBegan,
)

P = TypeVar("P", bound=Process)


class BySnapshot(Process, frozen=True, kw_only=True):
    """Something made by way of a snapshot of its own.

    ``taking`` is over when the snapshot is there or was given up, ``making`` when what is wanted
    is, and ``ending`` when the snapshot is gone. Whatever fails: what was taken is ended.
    """

    MAKING: ClassVar[str]

    taking: TakeSnapshot | None = None
    making: Process | None = None
    ending: EndSnapshot | None = None
    kept: bool = False
    gone: bool = False

    @abstractmethod
    def take(self) -> CreateSnapshot:
        """Return what takes the snapshot."""

    @abstractmethod
    def make(self) -> Due:
        """Return what begins to make what is wanted out of the snapshot, which is there."""

    @abstractmethod
    def made(self) -> Due | None:
        """Return what is to be said once it is made, before the snapshot goes."""

    @abstractmethod
    def unmade(self, why: GivingUp) -> Due | None:
        """Return what is to be said once it is given up, before the snapshot goes."""

    @abstractmethod
    def begun(self, event: Event) -> Process | None:
        """Return what *event* begins to make, if that is the part that is waited for."""

    @property
    @abstractmethod
    def going(self) -> str | None:
        """The snapshot that is to go in the end, if any."""

    def forward(self) -> Due | None:
        """Take the snapshot, make what is wanted, end the snapshot."""
        if self.taking is None:
            return Due("snapshot", self.take())
        if not over(self.taking):
            return step("snapshot", self.taking)
        if self.making is None:
            return self.make()
        if not over(self.making):
            return step(self.MAKING, self.making)
        return self.made() or (self._completed() if self._cleared else self._end_snapshot())

    def back(self, why: GivingUp) -> Due | None:
        """Undo what was begun, last first, and say that nothing came of it."""
        for name, part in ((self.MAKING, self.making), ("snapshot", self.taking)):
            if part is not None and not over(part):
                return step(name, part)
        due = self.unmade(why)
        if due is not None:
            return due
        return self.given_up(why, *self._leftovers()) if self._cleared else self._end_snapshot()

    def refused(self, refusal: StepRefused) -> Self:
        """Tell the part whose step it was; a part that could not even begin is given up."""
        name, _, inner = refusal.step.partition(".")
        if not inner:
            if name == "end":
                gone = refusal.code is Refusal.UNKNOWN_SNAPSHOT
                return replace(self, gone=gone, kept=not gone)
            return self.give_up(refusal.code, refusal.because)
        told = replace(refusal, step=inner)
        if name == "snapshot" and self.taking is not None:
            return self._follow(replace(self, taking=evolved(self.taking, told)))
        if name == self.MAKING and self.making is not None:
            return self._follow(replace(self, making=evolved(self.making, told)))
        if name == "end" and self.ending is not None:
            return replace(self, ending=evolved(self.ending, told))
        return self

    def evolve(self, event: Event) -> Self:
        """Apply what happened, also to the part that is under way."""
        after = super().evolve(event)
        told = isinstance(event, OperationExpired) or (
            isinstance(event, CancelWanted) and not self.succeeded
        )
        return after._tell(event) if told else after  # noqa: SLF001  (it is one of us)

    def note(self, event: Event) -> Self:
        """Note what volume, pool, snapshot and node say."""
        making = self.begun(event) if self.making is None else None
        if making is not None:
            return replace(self, making=under_way(making))
        match event:
            case SnapshotCreationBegan():
                return replace(self, taking=under_way(snapshot.begin(event)))
            case SnapshotDeletionBegan():
                return replace(self, ending=under_way(end_snapshot.begin_deletion(event)))
            case _:
                return self._follow(self._tell(event))

    def _tell(self, event: Event) -> Self:
        """Return the operation after the part whose turn it is has taken note."""
        if self.ending is not None:
            return replace(self, ending=evolved(self.ending, event))
        if self.making is not None:
            return replace(self, making=evolved(self.making, event))
        if self.taking is not None:
            return replace(self, taking=evolved(self.taking, event))
        return self

    def _follow(self, after: Self) -> Self:
        """Give up when the part whose turn it is does."""
        part = after.making or after.taking
        why = None if part is None else part.giving_up
        return after if why is None else after.give_up(why.code, why.because, why.outcome)

    @property
    def _cleared(self) -> bool:
        """Whether the snapshot was never taken, is gone, or will not go."""
        taken = self.taking is not None and self.taking.succeeded
        ended = self.ending is not None and over(self.ending)
        return not taken or self.going is None or self.kept or self.gone or ended

    def _end_snapshot(self) -> Due | None:
        if self.ending is None and self.going is not None:
            drop = DeleteSnapshot(snapshot=self.going, operation=self.operation)
            return Due("end", drop)
        return None if self.ending is None else step("end", self.ending)

    def _completed(self) -> Due:
        done = ReportConcluded(
            operation=self.operation, outcome=Outcome.COMPLETED, leftovers=self._leftovers()
        )
        return Due("conclude", done)

    def _leftovers(self) -> tuple[str, ...]:
        conclusions = (conclusion(part) for part in (self.taking, self.making, self.ending))
        left = tuple(one for end in conclusions if end is not None for one in end.leftovers)
        return (*left, *((f"snapshot/{self.going}",) if self.kept else ()))


def under_way(part: P) -> P:
    """Return a part that needs no beginning of its own."""
    return replace(part, started=True)


def joined(part: P, whole: Process) -> P:
    """Return a part that began when *whole* had been told the time that often, or gave up."""
    begun = replace(part, started=True, expiries=whole.expiries)
    why = whole.giving_up
    return begun if why is None else begun.give_up(why.code, why.because, why.outcome)


def evolved(part: P, event: Event) -> P:
    """Return a part after *event*."""
    return part.evolve(event)


def step(name: str, part: Process) -> Due | None:
    """Return what is due in a part, under a name that tells whose step it is."""
    due = part.due()
    return None if due is None else Due(f"{name}.{due.step}", due.command, due.attempt)


def conclusion(part: Process | None) -> ReportConcluded | None:
    """Return how a part has ended, or None while it has not: that is what is due last."""
    due = None if part is None else part.due()
    command = None if due is None else due.command
    return command if isinstance(command, ReportConcluded) else None


def over(part: Process) -> bool:
    """Return whether a part has ended."""
    return conclusion(part) is not None
