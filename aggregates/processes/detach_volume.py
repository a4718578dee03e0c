"""Taking a volume back: mount and device go, or, while somebody is busy with it, both stay."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.attaching import VolumeDetached, VolumeDetachingBegan, VolumeDetachingFailed
from schemas.attachment import (
    AttachmentMade,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentRemoved,
    AttachmentTroubled,
    KeepAttachment,
    RemoveAttachment,
)
from schemas.grammar import Event
from schemas.operation import OperationKind, StepRefused
from schemas.refusals import Refusal
from schemas.volume import ConcludeVolume


class DetachVolumeProcess(Process, frozen=True, kw_only=True):
    """Once the node has nothing left of the attachment there is no way back."""

    volume: str
    node: str
    removal_wanted: bool = False
    withdrawn: bool = False
    kept: bool = False
    removed: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Have mount and device removed, wait for the node, conclude."""
        if self.succeeded:
            return self.completed()
        if not self.removal_wanted:
            return Due(
                "detach",
                RemoveAttachment(volume=self.volume, node=self.node, operation=self.operation),
            )
        return self._gone() if self.removed else None

    def back(self, why: GivingUp) -> Due | None:
        """Have the node make again what it may have taken away."""
        if self.removed:
            return self._gone()
        if self.removal_wanted and not self.withdrawn:
            return Due(
                "keep",
                KeepAttachment(volume=self.volume, node=self.node, operation=self.operation),
            )
        waits_for_node = self.withdrawn and not self.kept
        if waits_for_node and not self.out_of_time:
            return None
        if not self.concluded:
            return Due(
                "failed",
                ConcludeVolume(
                    volume=self.volume,
                    operation=self.operation,
                    code=why.code,
                    because=why.because[:1000],
                ),
            )
        left = (f"attachment/{self.node}/{self.volume}",) if waits_for_node else ()
        return self.given_up(why, *left)

    def refused(self, refusal: StepRefused) -> Self:
        """Take what the node has no more for removed: it may have said so to an earlier wish."""
        if refusal.code is Refusal.VOLUME_NOT_READY:
            return replace(self, removal_wanted=True, removed=True)
        return self.give_up(refusal.code, f"{refusal.step}: {refusal.because}")

    def note(self, event: Event) -> Self:
        """Note what the node says."""
        match event:
            case AttachmentRemovalWanted():
                return replace(self, removal_wanted=True)
            case AttachmentRemovalWithdrawn():
                return replace(self, withdrawn=True)
            case AttachmentMade():
                return replace(self, kept=self.withdrawn)
            case AttachmentRemoved():
                return replace(self, removed=True)
            case AttachmentTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case VolumeDetached():
                return self.success()
            case VolumeDetachingFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _gone(self) -> Due:
        return Due("detached", ConcludeVolume(volume=self.volume, operation=self.operation))


def begin(event: VolumeDetachingBegan) -> DetachVolumeProcess:
    """Return the operation that *event* began."""
    return DetachVolumeProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_DETACH,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        node=event.node,
    )
