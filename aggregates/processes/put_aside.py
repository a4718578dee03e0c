"""Putting what is nobody's aside, where nobody uses it by mistake, with its room in the ledger."""

from msgspec.structs import replace

from aggregates.processes.errand import RunningErrand, begin_part
from aggregates.processes.parts import conclusion, evolved, over, step
from aggregates.processes.process import Due, GivingUp
from aggregates.processes.settling import Settle
from schemas.errand import ErrandWanted, PutAside, PutBack, RunErrand
from schemas.grammar import Event
from schemas.mending import SeenVolume, is_thin, taken_bytes
from schemas.operation import CancelWanted, OperationExpired, StepRefused
from schemas.pool import (
    ReportSettled,
    ReportUnreserved,
    Reserve,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
)
from schemas.settling import Verb


class Put(Settle, frozen=True, kw_only=True):
    """Quarantine, or release from it: then the room is free when the node knows of it."""

    seen: SeenVolume
    reserved: bool = False
    errand: RunningErrand | None = None
    booked: bool = False

    @property
    def aside(self) -> bool:
        """Whether it is to be put aside; else back."""
        return self.wish.verb is Verb.QUARANTINE

    def do(self) -> Due | None:
        """Set room aside, have it put where it shall be, book what it takes."""
        if self.aside and not self.reserved:
            return Due("reserve", self._reserve())
        if self.errand is None:
            return Due("put", self._run())
        return step("errand", self.errand)

    def finish(self) -> Due | None:
        """Book what it takes, now that it is there for good."""
        return Due("book", self._settle()) if self.aside and not self.booked else None

    @property
    def waits(self) -> bool:
        """Whether the node is at it."""
        return self.errand is not None and not over(self.errand)

    def undo(self, why: GivingUp) -> Due | None:  # noqa: ARG002
        """Have the node leave off, and give back what was set aside."""
        if self.errand is not None and self.waits:
            return step("errand", self.errand)
        if self.reserved:
            about = {"pool": self.seen.pool, "node": self.wish.node, "claim": self.wish.uid}
            return Due("unreserve", ReportUnreserved(**about))
        return None

    def leftovers(self) -> tuple[str, ...]:
        """Return the errand, if the node has not said that it left off."""
        ended = conclusion(self.errand)
        return () if ended is None else ended.leftovers

    def refused(self, refusal: StepRefused) -> "Put":
        """Tell the errand if it was its step."""
        name, _, inner = refusal.step.partition(".")
        if name == "errand" and self.errand is not None:
            return replace(self, errand=evolved(self.errand, replace(refusal, step=inner)))
        return self.give_up(refusal.code, refusal.because)

    def evolve(self, event: Event) -> "Put":
        """Apply what happened, also to the errand."""
        after = super().evolve(event)
        told = isinstance(event, OperationExpired | CancelWanted)
        if told and after.errand is not None:
            return replace(after, errand=evolved(after.errand, event))
        return after

    def noted(self, event: Event) -> "Put":
        """Note what pool and node say."""
        match event:
            case ErrandWanted():
                return replace(self, errand=begin_part(event, self))
            case RoomReserved() | RoomUnreserved():
                return replace(self, reserved=isinstance(event, RoomReserved))
            case RoomSettled():
                return replace(self, booked=True)
            case _ if self.errand is not None:
                return self._follow(evolved(self.errand, event))
            case _:
                return self

    def _follow(self, errand: RunningErrand) -> "Put":
        after, why = replace(self, errand=errand), errand.giving_up
        if errand.found is not None:
            # It is there, though somebody may have given it up meanwhile: so it is seen through.
            return after.success()
        return after if why is None else after.give_up(why.code, why.because, why.outcome)

    def _reserve(self) -> Reserve:
        return Reserve(
            pool=self.seen.pool,
            node=self.wish.node,
            claim=self.wish.uid,
            size_bytes=self._bytes,
            operation=self.operation,
            thin=is_thin(self.seen),
        )

    def _settle(self) -> ReportSettled:
        return ReportSettled(
            pool=self.seen.pool,
            node=self.wish.node,
            claim=self.wish.uid,
            size_bytes=self._bytes,
            thin=is_thin(self.seen),
        )

    @property
    def _bytes(self) -> int:
        return max(1, taken_bytes(self.seen) or 0)

    def _run(self) -> RunErrand:
        claim = self.wish.uid if self.aside else self.seen.claim
        put = (PutAside if self.aside else PutBack)(seen=self.seen, claim=claim)
        return RunErrand(operation=self.operation, node=self.wish.node, errand=put)
