"""What a node does once with a backup target: alone, or as the part of a larger operation."""

from msgspec.structs import replace

from aggregates.processes.parts import evolved, over, step, under_way
from aggregates.processes.process import Due, GivingUp, Process
from schemas.errand import (
    Errand,
    ErrandDone,
    ErrandStopped,
    ErrandStopWanted,
    ErrandTroubled,
    ErrandWanted,
    Found,
    ListAll,
    Probe,
    RunErrand,
    StopErrand,
    Sweep,
    Verified,
    Verify,
)
from schemas.grammar import Event
from schemas.operation import CancelWanted, OperationExpired, OperationKind, StepRefused
from schemas.refusals import Refusal
from schemas.target import (
    BackupFoundDamaged,
    BackupsListed,
    BackupVerified,
    ConcludeTarget,
    TargetProbed,
    TargetSwept,
    TargetWorkBegan,
    TargetWorkFailed,
    Work,
)

_NAMED = 3


class RunningErrand(Process, frozen=True, kw_only=True):
    """An errand that a node was given; what it is said to have done counts, however late."""

    node: str
    found: Found | None = None
    stop_wanted: bool = False
    stopped: bool = False

    def forward(self) -> Due | None:
        """Wait for the node."""
        return self.completed() if self.found is not None else None

    def back(self, why: GivingUp) -> Due | None:
        """Have the node leave off."""
        if not self.stop_wanted:
            return Due("stop", StopErrand(operation=self.operation, node=self.node))
        if not self.stopped and not self.out_of_time:
            return None
        left = f"errand/{self.node}/{self.operation}"
        return self.given_up(why, *(() if self.stopped else (left,)))

    def refused(self, refusal: StepRefused) -> "RunningErrand":
        """Know that there is nothing to stop."""
        if refusal.step == "stop":
            return replace(self, stop_wanted=True, stopped=True)
        return super().refused(refusal)

    def note(self, event: Event) -> "RunningErrand":
        """Note what the node says."""
        match event:
            case ErrandDone():
                return replace(self, found=event.found).success()
            case ErrandStopWanted():
                return replace(self, stop_wanted=True)
            case ErrandStopped():
                return replace(self, stopped=True)
            case ErrandTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case _:
                return self


def begin_part(event: ErrandWanted, of: Process) -> RunningErrand:
    """Return the errand that *event* gave to a node, as a part of *of*."""
    return under_way(
        RunningErrand(
            operation=event.operation,
            kind=of.kind,
            object=of.object,
            deadline=of.deadline,
            node=event.node,
        )
    )


class TargetWork(Process, frozen=True, kw_only=True):
    """A target is probed, listed, read or swept, and says what was found."""

    wish: TargetWorkBegan
    errand: RunningErrand | None = None
    concluded: bool = False

    def forward(self) -> Due | None:
        """Give it to the node, wait, and say what was found."""
        if self.errand is None:
            run = RunErrand(
                operation=self.operation, node=self.wish.node, errand=_errand(self.wish)
            )
            return Due("run", run)
        if self.errand.found is None:
            return step("errand", self.errand)
        if not self.concluded:
            return Due("done", self._conclude(self.errand.found))
        bad = _bad(self.errand.found)
        if bad is None:
            return self.completed()
        code = Refusal.BACKUP_DAMAGED
        return self.give_up(code, bad).due() if self.giving_up is None else None

    def back(self, why: GivingUp) -> Due | None:
        """Have the node leave off, and say that it was not done."""
        if self.errand is not None and not over(self.errand):
            return step("errand", self.errand)
        if not self.concluded:
            return Due("failed", self._conclude(None, why))
        ended = None if self.errand is None else self.errand.due()
        left = getattr(ended.command, "leftovers", ()) if ended is not None else ()
        return self.given_up(why, *left)

    def refused(self, refusal: StepRefused) -> "TargetWork":
        """Tell the errand if it was its step."""
        name, _, inner = refusal.step.partition(".")
        if name == "errand" and self.errand is not None:
            return replace(self, errand=evolved(self.errand, replace(refusal, step=inner)))
        return self.give_up(refusal.code, refusal.because)

    def evolve(self, event: Event) -> "TargetWork":
        """Apply what happened, also to the errand."""
        after = super().evolve(event)
        if isinstance(event, OperationExpired | CancelWanted) and after.errand is not None:
            return replace(after, errand=evolved(after.errand, event))
        return after

    def note(self, event: Event) -> "TargetWork":
        """Note what target and node say."""
        match event:
            case ErrandWanted():
                return replace(self, errand=begin_part(event, self))
            case ErrandDone() if self.errand is not None and not self.concluded:
                # What was found was found, though somebody gave it up meanwhile.
                return replace(self, errand=evolved(self.errand, event), giving_up=None)
            case (
                TargetProbed()
                | BackupsListed()
                | BackupVerified()
                | BackupFoundDamaged()
                | TargetSwept()
                | TargetWorkFailed()
            ):
                return replace(self, concluded=True)
            case _ if self.errand is not None:
                errand = evolved(self.errand, event)
                after, why = replace(self, errand=errand), errand.giving_up
                return after if why is None else after.give_up(why.code, why.because, why.outcome)
            case _:
                return self

    def _conclude(self, found: Found | None, why: GivingUp | None = None) -> ConcludeTarget:
        bad = None if found is None else _bad(found)
        code = Refusal.BACKUP_DAMAGED if bad is not None else None
        return ConcludeTarget(
            target=self.wish.target,
            operation=self.operation,
            found=found,
            code=code if why is None else why.code,
            because=(bad or "") if why is None else why.because[:1000],
        )


def _errand(wish: TargetWorkBegan) -> Errand:
    match wish.work:
        case Work.PROBE:
            return Probe(place=wish.place)
        case Work.VERIFY if wish.backup is not None:
            rate = wish.rate_bytes_per_s
            return Verify(place=wish.place, backup=wish.backup, rate_bytes_per_s=rate)
        case Work.SWEEP:
            return Sweep(place=wish.place, backup=wish.backup, grace_s=wish.grace_s)
        case _:
            return ListAll(place=wish.place, backup=wish.backup, volume=wish.volume)


def _bad(found: Found) -> str | None:
    """Return what is wrong with a backup that was read, if anything: the first chunks by name."""
    if not isinstance(found, Verified) or not found.bad_chunks:
        return None
    named = ", ".join(f"chunk {one.index} {one.chunk} {one.why}" for one in found.bad[:_NAMED])
    more = found.bad_chunks - min(_NAMED, len(found.bad))
    return f"{named}{f' and {more} more' if more else ''}"


_KINDS = {
    Work.PROBE: OperationKind.TARGET_PROBE,
    Work.LIST: OperationKind.BACKUP_LIST,
    Work.VERIFY: OperationKind.BACKUP_VERIFY,
    Work.SWEEP: OperationKind.TARGET_SWEEP,
}


def begin(event: TargetWorkBegan) -> TargetWork:
    """Return the operation that *event* began."""
    return TargetWork(
        operation=event.operation,
        kind=_KINDS[event.work],
        object=f"target/{event.target}",
        deadline=event.deadline,
        wish=event,
    )
