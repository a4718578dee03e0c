"""Operations on many volumes: each by a part of its own, some at once, under one operation."""

from abc import abstractmethod
from typing import Self

from msgspec.structs import replace

from aggregates.processes.parts import conclusion, evolved, over, step, under_way
from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event, Message
from schemas.operation import CancelWanted, OperationExpired, Outcome, StepRefused


class Several(Process, frozen=True, kw_only=True):
    """What has been done to one volume stays done, whatever becomes of the others.

    ``parts`` are those under way by volume, ``uids`` names volumes by what ledgers and links call
    them, ``over`` are those that have ended and ``left`` those that failed, with why; ``remains``
    is what any of them could not take away.
    """

    volumes: tuple[str, ...]
    at_once: int
    parts: dict[str, Process]
    uids: dict[str, str]
    left: dict[str, str]
    over: frozenset[str] = frozenset()
    remains: frozenset[str] = frozenset()

    @abstractmethod
    def begin_with(self, volume: str) -> Message:
        """Return what begins the part of that volume."""

    @abstractmethod
    def begun(self, event: Event) -> tuple[str, str, Process] | None:
        """Return name, uid and part of the volume that *event* begins to work on, if any."""

    @abstractmethod
    def rest(self) -> Due | None:
        """Return what is due when all volumes have had their turn."""

    @abstractmethod
    def undone(self, why: GivingUp) -> Due | None:
        """Return what is due when nothing is under way any more, and it was given up."""

    @property
    def unserved(self) -> tuple[str, ...]:
        """The volumes that have not had their turn, or for which it came to nothing."""
        return tuple(name for name in self.volumes if name not in self.over or name in self.left)

    def forward(self) -> Due | None:
        """Let each part take its step, begin more as there is room, then the rest."""
        due = self._step()
        if due is not None:
            return due
        for number, name in enumerate(self.volumes):
            if name not in self.over and name not in self.parts:
                full = len(self.parts) >= self.at_once
                return None if full else Due(name, self.begin_with(name), number)
        return None if self.parts else self.rest()

    def back(self, why: GivingUp) -> Due | None:
        """Let each part undo what it has begun."""
        due = self._step()
        if due is not None:
            return due
        return None if self.parts and not self.out_of_time else self.undone(why)

    def _step(self) -> Due | None:
        dues = (step(name, part) for name, part in self.parts.items())
        return next((due for due in dues if due is not None), None)

    def refused(self, refusal: StepRefused) -> Self:
        """Tell the part whose step it was; a volume that could not begin is left."""
        name, _, inner = refusal.step.partition(".")
        part = self.parts.get(name)
        if part is not None and inner:
            return self._settle(name, evolved(part, replace(refusal, step=inner)))
        if name in self.volumes:
            left = self.left | {name: f"{refusal.code.value} {refusal.because}"}
            return replace(self, over=self.over | {name}, left=left)
        return self.give_up(refusal.code, refusal.because)

    def evolve(self, event: Event) -> Self:
        """Apply what happened, also to all parts that are under way."""
        after = super().evolve(event)
        if not isinstance(event, OperationExpired | CancelWanted):
            return after
        for name, part in self.parts.items():
            after = after._settle(name, evolved(part, event))  # noqa: SLF001  (it is one of us)
        return after

    def note(self, event: Event) -> Self:
        """Let the part take note whose volume it is."""
        begun = self.begun(event)
        if begun is not None and begun[0] not in self.parts:
            name, uid, part = begun
            parts = self.parts | {name: under_way(part)}
            return replace(self, parts=parts, uids=self.uids | {uid: name})
        uid = getattr(event, "claim", "") or getattr(event, "uid", "")
        name = getattr(event, "volume", "") or self.uids.get(uid, "")
        known = self.parts.get(name)
        return self if known is None else self._settle(name, evolved(known, event))

    def _settle(self, name: str, part: Process) -> Self:
        end = conclusion(part)
        if not over(part) or end is None:
            return replace(self, parts=self.parts | {name: part})
        parts = {one: p for one, p in self.parts.items() if one != name}
        remains = self.remains.union(end.leftovers)
        done = replace(self, parts=parts, over=self.over | {name}, remains=remains)
        if end.outcome is Outcome.COMPLETED:
            return done
        code = end.code.value if end.code is not None else ""
        return replace(done, left=done.left | {name: f"{code} {end.because}".strip()})
