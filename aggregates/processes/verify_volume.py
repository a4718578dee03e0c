"""Comparing the replicas of a volume, and copying what differs, if that is wanted."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.errand import (
    Compare,
    Compared,
    ErrandDone,
    ErrandStopped,
    ErrandStopWanted,
    ErrandTroubled,
    ErrandWanted,
    EvenOut,
    RunErrand,
    StopErrand,
)
from schemas.grammar import Event
from schemas.operation import OperationKind, Outcome, ReportConcluded, StepRefused
from schemas.refusals import Refusal
from schemas.units import readable
from schemas.verifying import (
    ConcludeVerification,
    RepairBegan,
    RepairReplicas,
    VerificationBegan,
    VerificationFailed,
    VolumeRepaired,
    VolumeVerified,
)

SILENT, GONE = "compare-silent", "compare-gone"
"""What is told as refused steps: the node that compares is not heard; there is no such work."""


class VerifyVolumeProcess(Process, frozen=True, kw_only=True):
    """One errand compares, another copies; what was found is told before anything is copied.

    ``lost``: the node is not heard, so that it is not waited for; it leaves off when it is back.
    """

    wish: VerificationBegan
    differing_bytes: int | None = None
    told: bool = False
    errands: int = 0
    running: bool = False
    stop_wanted: bool = False
    lost: bool = False
    repairing: bool = False
    copied: bool = False
    repaired: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Have them compared, tell what differs, have it copied if wanted, and tell that too."""
        if self.differing_bytes is None:
            return None if self.running else self._run("compare")
        if not self.told:
            return Due("verified", self._conclude(goes_on=self._goes_on))
        if not self.differing_bytes:
            return self._ended(Outcome.COMPLETED, "nothing differs")
        differs = readable(self.differing_bytes)
        if not self.wish.repair:
            return self._ended(Outcome.FAILED, f"{differs} of the replicas are not the same")
        if not self.repairing:
            step = RepairReplicas(volume=self.wish.volume, operation=self.operation)
            return Due("repair", step)
        if not self.copied:
            return None if self.running else self._run("copy")
        if not self.repaired:
            return Due("repaired", self._conclude(repaired=True))
        from_ = f"{differs} were not the same, and were copied from {self.wish.node}"
        return self._ended(Outcome.COMPLETED, from_)

    def back(self, why: GivingUp) -> Due | None:
        """Have the node leave off, and say that it was not done."""
        if self.running and not self.stop_wanted:
            stop = StopErrand(operation=self.operation, node=self.wish.node)
            return Due("stop", stop, self.errands)
        if self.running and not (self.lost or self.out_of_time):
            return None
        if not self.concluded:
            return Due("failed", self._conclude(why=why))
        left = f"errand/{self.wish.node}/{self.operation}"
        return self.given_up(why, *((left,) if self.running else ()))

    def refused(self, refusal: StepRefused) -> Self:
        """Give up; whatever was found until then is told."""
        if refusal.step == "stop":
            return replace(self, stop_wanted=True, running=False)
        because = refusal.because
        if refusal.step == "repair" and self.differing_bytes:
            differs = readable(self.differing_bytes)
            because = f"{differs} are not the same, and were not copied: {because}"
        given_up = self.give_up(refusal.code, because)
        gone = refusal.step == GONE
        lost = self.lost or gone or refusal.step == SILENT
        return replace(given_up, lost=lost, concluded=self.concluded or gone)

    def note(self, event: Event) -> Self:
        """Note what volume and node say."""
        match event:
            case ErrandWanted():
                return replace(self, running=True, errands=self.errands + 1)
            case ErrandDone():
                return self._done(event)
            case ErrandStopWanted():
                return replace(self, stop_wanted=True)
            case ErrandStopped():
                return replace(self, running=False)
            case ErrandTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case VolumeVerified():
                told = replace(self, told=True)
                return told if event.goes_on else replace(told, concluded=True).success()
            case RepairBegan():
                return replace(self, repairing=True)
            case VolumeRepaired():
                return replace(self, repaired=True, concluded=True).success()
            case VerificationFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _done(self, event: ErrandDone) -> Self:
        """Return the process after an errand; what was done was done, whoever gave it up.

        Nothing more is begun by it then.
        """
        at_rest = replace(self, running=False)
        if isinstance(event.found, Compared):
            found = event.found.differing_bytes
            at_rest = replace(at_rest, differing_bytes=found)
            more = self.wish.repair and bool(found)
        else:
            at_rest, more = replace(at_rest, copied=True), False
        return at_rest if more or self.concluded else replace(at_rest, giving_up=None)

    @property
    def _goes_on(self) -> bool:
        return self.wish.repair and bool(self.differing_bytes)

    def _run(self, step: str) -> Due:
        about = {"volume": self.wish.volume, "uid": self.wish.uid}
        errand = Compare(**about) if step == "compare" else EvenOut(**about)
        run = RunErrand(operation=self.operation, node=self.wish.node, errand=errand)
        return Due(step, run)

    def _conclude(
        self, why: GivingUp | None = None, *, goes_on: bool = False, repaired: bool = False
    ) -> ConcludeVerification:
        return ConcludeVerification(
            volume=self.wish.volume,
            operation=self.operation,
            differing_bytes=self.differing_bytes or 0,
            goes_on=goes_on,
            repaired=repaired,
            code=why.code if why else None,
            because=why.because[:1000] if why else "",
        )

    def _ended(self, outcome: Outcome, because: str) -> Due:
        code = Refusal.REPLICAS_DIFFER if outcome is Outcome.FAILED else None
        ended = ReportConcluded(
            operation=self.operation, outcome=outcome, code=code, because=because
        )
        return Due("conclude", ended)


def begin(event: VerificationBegan) -> VerifyVolumeProcess:
    """Return the operation that *event* began."""
    return VerifyVolumeProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_VERIFY,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        wish=event,
    )
