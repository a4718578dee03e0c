"""Giving a volume to its consumer: the node has device and mount, or nothing of them."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.attaching import VolumeAttached, VolumeAttachingBegan, VolumeAttachingFailed
from schemas.attachment import (
    AttachmentMade,
    AttachmentRemovalWanted,
    AttachmentRemoved,
    AttachmentSpec,
    AttachmentTroubled,
    AttachmentWanted,
    RemoveAttachment,
    WantAttachment,
)
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.volume import ConcludeVolume


class AttachVolumeProcess(Process, frozen=True, kw_only=True):
    """Whoever is told that it failed finds the node without a trace of it."""

    volume: str
    node: str
    spec: AttachmentSpec
    wanted: bool = False
    made: bool = False
    removal_wanted: bool = False
    removed: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Have the attachment made, wait for the node, conclude."""
        if self.succeeded:
            return self.completed()
        if not self.wanted:
            return Due(
                "attach",
                WantAttachment(
                    volume=self.volume,
                    node=self.node,
                    operation=self.operation,
                    spec=self.spec,
                ),
            )
        return self._conclude("attached", None) if self.made else None

    def back(self, why: GivingUp) -> Due | None:
        """Have the node take away what it made, and say that nobody has the volume."""
        if self.wanted and not self.removal_wanted:
            return Due(
                "undo",
                RemoveAttachment(volume=self.volume, node=self.node, operation=self.operation),
            )
        waits_for_node = self.removal_wanted and not self.removed
        if waits_for_node and not self.out_of_time:
            return None
        if not self.concluded:
            return self._conclude("failed", why)
        left = (f"attachment/{self.node}/{self.volume}",) if waits_for_node else ()
        return self.given_up(why, *left)

    def note(self, event: Event) -> "AttachVolumeProcess":
        """Note what the node says."""
        match event:
            case AttachmentWanted():
                return replace(self, wanted=True)
            case AttachmentMade():
                return replace(self, made=True)
            case AttachmentRemovalWanted():
                return replace(self, removal_wanted=True)
            case AttachmentRemoved():
                return replace(self, removed=True)
            case AttachmentTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case VolumeAttached():
                return self.success()
            case VolumeAttachingFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _conclude(self, step: str, why: GivingUp | None) -> Due:
        return Due(
            step,
            ConcludeVolume(
                volume=self.volume,
                operation=self.operation,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )


def begin(event: VolumeAttachingBegan) -> AttachVolumeProcess:
    """Return the operation that *event* began."""
    return AttachVolumeProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_ATTACH,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        node=event.node,
        spec=event.attachment,
    )
