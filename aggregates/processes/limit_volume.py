"""Changing how fast an attached volume may be used, while it is used."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.attaching import VolumeLimited, VolumeLimitingBegan, VolumeLimitingFailed
from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentMade,
    AttachmentTroubled,
    LimitAttachment,
    Limits,
)
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.volume import ConcludeVolume


class LimitVolumeProcess(Process, frozen=True, kw_only=True):
    """What cannot be had is taken back: the limits of before hold then."""

    volume: str
    node: str
    limits: Limits
    before: Limits
    wanted: Limits | None = None
    holding: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Have the limits set, wait for the node, conclude."""
        if self.succeeded:
            return self.completed()
        if self.wanted is None:
            return Due("limit", self._limit(self.limits))
        return self._conclude("limited", None) if self.holding else None

    def back(self, why: GivingUp) -> Due | None:
        """Have the limits of before set again."""
        if self.wanted == self.limits:
            return Due("undo", self._limit(self.before))
        waits_for_node = self.wanted is not None and not self.holding
        if waits_for_node and not self.out_of_time:
            return None
        if not self.concluded:
            return self._conclude("failed", why)
        left = (f"attachment/{self.node}/{self.volume}",) if waits_for_node else ()
        return self.given_up(why, *left)

    def note(self, event: Event) -> "LimitVolumeProcess":
        """Note what the node says."""
        match event:
            case AttachmentLimitsWanted():
                return replace(self, wanted=event.limits, holding=False)
            case AttachmentMade():
                return replace(self, holding=True)
            case AttachmentTroubled(permanent=True):
                return self._troubled(event)
            case VolumeLimited():
                return self.success()
            case VolumeLimitingFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _troubled(self, event: AttachmentTroubled) -> "LimitVolumeProcess":
        if self.wanted == self.before:
            return replace(self, holding=True)  # neither these nor those: nobody is waited for
        return self.give_up(event.code, event.because)

    def _limit(self, limits: Limits) -> LimitAttachment:
        return LimitAttachment(
            volume=self.volume, node=self.node, operation=self.operation, limits=limits
        )

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


def begin(event: VolumeLimitingBegan) -> LimitVolumeProcess:
    """Return the operation that *event* began."""
    return LimitVolumeProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_LIMIT,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        node=event.node,
        limits=event.limits,
        before=event.before,
    )
