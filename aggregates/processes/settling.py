"""What all ways of settling a finding share: in the end the node is told what became of it."""

from abc import abstractmethod
from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event
from schemas.settling import ConcludeSettling, DriftSettlingBegan, DriftSettlingEnded


class Settle(Process, frozen=True, kw_only=True):
    """One finding is settled. ``told``: the node knows how that has ended."""

    wish: DriftSettlingBegan
    told: bool = False

    def forward(self) -> Due | None:
        """Do what settles it, and say so."""
        if not self.succeeded:
            return self.do()
        return self.finish() or (self.completed() if self.told else self._tell(None))

    def back(self, why: GivingUp) -> Due | None:
        """Undo what was begun, and say that the finding stays."""
        if not self.told:
            due = self.undo(why)
            # Blocked on its way back it is told all the same, when its time is up.
            waits = due is not None or (self.waits and not self.out_of_time)
            return due if waits else self._tell(why)
        return self.given_up(why, *self.leftovers())

    @abstractmethod
    def do(self) -> Due | None:
        """Return the next step, or None while somebody else has to act."""

    def finish(self) -> Due | None:
        """Return what is left to be done once there is no way back."""
        return None

    @property
    @abstractmethod
    def waits(self) -> bool:
        """Whether something was begun that has not been seen to its end."""

    @abstractmethod
    def undo(self, why: GivingUp) -> Due | None:
        """Return the next step back, or None if there is none, or somebody else has to act."""

    @abstractmethod
    def leftovers(self) -> tuple[str, ...]:
        """Return what is not undone (yet)."""

    @abstractmethod
    def noted(self, event: Event) -> Self:
        """Return the process after an event of one of its aggregates."""

    def note(self, event: Event) -> Self:
        """Note what is said."""
        if isinstance(event, DriftSettlingEnded):
            return replace(self, told=True)
        return self.noted(event)

    def _tell(self, why: GivingUp | None) -> Due:
        told = ConcludeSettling(
            node=self.wish.node,
            operation=self.operation,
            code=None if why is None else why.code,
            because="" if why is None else why.because[:1000],
        )
        return Due("settled" if why is None else "unsettled", told)
