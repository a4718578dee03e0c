"""Another replica is written to: after a hand-over, or without asking the node that fell silent."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.attachment import (
    AttachmentMade,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentRemoved,
    AttachmentSpec,
    AttachmentTroubled,
    AttachmentWanted,
    KeepAttachment,
    RemoveAttachment,
    WantAttachment,
)
from schemas.grammar import Event
from schemas.handing import (
    FailoverBegan,
    HandOverBegan,
    HandOverFailed,
    MoveHome,
    VolumeHandedOver,
    VolumeHomeMoved,
)
from schemas.legs import ConcludeReplicas
from schemas.operation import OperationKind, StepRefused
from schemas.refusals import Refusal


class HandOverProcess(Process, frozen=True, kw_only=True):
    """Detach here, let the next epoch begin, attach there; or all of it back again.

    ``going`` and ``gone`` are of the attachment here, ``coming`` and ``come`` of that there,
    ``undoing`` and ``undone`` of taking that away again. ``again`` and ``back_again`` are of the
    attachment here, made anew after all was undone; ``not_again``: the node refused. As long as
    the volume may be in use there, or here has missed something, it ``stays`` there.
    """

    volume: str
    here: str
    there: str
    attachment: AttachmentSpec | None = None
    again_as: AttachmentSpec | None = None
    going: bool = False
    withdrawn: bool = False
    kept: bool = False
    gone: bool = False
    moved: bool = False
    moved_back: bool = False
    coming: bool = False
    come: bool = False
    undoing: bool = False
    undone: bool = False
    again: bool = False
    back_again: bool = False
    not_again: bool = False
    stays: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Detach, move, attach, conclude."""
        if self.succeeded:
            return self.completed()
        if self.attachment is not None and not self.gone:
            return None if self.going else self._remove("detach", self.here)
        if not self.moved:
            return self._move("move", self.there)
        if self.attachment is None or self.come:
            return self._conclude("handed-over", None, self.attachment)
        return None if self.coming else self._want("attach", self.there, self.attachment)

    def back(self, why: GivingUp) -> Due | None:
        """Take back what was made there, and have it here as it was."""
        if self.coming and not self.undoing:
            return self._remove("undo", self.there)
        in_use = self.coming and not self.undone
        if in_use and not self.out_of_time:
            return None
        if self.moved and not (self.moved_back or self.stays or in_use):
            return self._move("move-back", self.here)
        due = self._restore()
        if due is not None:
            return due
        waits = (self.withdrawn and not self.kept) or (self.again and not self.back_again)
        if waits and not self.out_of_time:
            return None
        if not self.concluded:
            has = self.again_as if self.again and not self.not_again else None
            return self._conclude("failed", why, has)
        left = [self.here] if waits else []
        left += [self.there] if in_use else []
        return self.given_up(why, *(f"attachment/{node}/{self.volume}" for node in left))

    def _restore(self) -> Due | None:
        """Return what gives the consumer its volume here again, if that is to be said."""
        if self.attachment is None:
            return None
        if self.going and not self.gone:
            keep = KeepAttachment(volume=self.volume, node=self.here, operation=self.operation)
            return None if self.withdrawn else Due("keep", keep)
        is_here = not self.moved or self.moved_back
        if self.gone and is_here and not self.again and self.again_as is not None:
            return self._want("again", self.here, self.again_as)
        return None

    def refused(self, refusal: StepRefused) -> Self:
        """Go back; what is refused on the way back is left."""
        nothing = refusal.code is Refusal.VOLUME_NOT_READY
        match refusal.step:
            case "detach" | "keep" if nothing:
                # Its node said so to an earlier wish: there is nothing to be kept, or to go.
                return replace(self, going=True, gone=True)
            case "undo":
                return replace(self, undoing=True, undone=True)
            case "keep":
                return replace(self, withdrawn=True, kept=True)
            case "again":
                return replace(self, again=True, back_again=True, not_again=True)
            case "move-back":
                return replace(self, stays=True)
            case _:
                return self.give_up(refusal.code, refusal.because)

    def note(self, event: Event) -> Self:
        """Note what the two nodes and the volume say."""
        match event:
            case AttachmentRemovalWanted():
                mine = event.node == self.here
                return replace(self, **{"going" if mine else "undoing": True})
            case AttachmentRemovalWithdrawn():
                return replace(self, withdrawn=True)
            case AttachmentRemoved():
                mine = event.node == self.here
                return replace(self, **{"gone" if mine else "undone": True})
            case AttachmentWanted():
                mine = event.node == self.here
                return replace(self, **{"again" if mine else "coming": True})
            case AttachmentMade():
                return self._made(event)
            case AttachmentTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case VolumeHomeMoved():
                back = self.moved
                return replace(self, moved=True, moved_back=back)
            case VolumeHandedOver():
                return self.success()
            case HandOverFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _made(self, event: AttachmentMade) -> Self:
        if event.node == self.there:
            return replace(self, come=True)
        return replace(self, kept=self.withdrawn, back_again=self.again)

    def _remove(self, step: str, node: str) -> Due:
        gone = RemoveAttachment(volume=self.volume, node=node, operation=self.operation)
        return Due(step, gone)

    def _want(self, step: str, node: str, spec: AttachmentSpec) -> Due:
        want = WantAttachment(volume=self.volume, node=node, operation=self.operation, spec=spec)
        return Due(step, want)

    def _move(self, step: str, node: str) -> Due:
        return Due(step, MoveHome(volume=self.volume, operation=self.operation, node=node))

    def _conclude(self, step: str, why: GivingUp | None, has: AttachmentSpec | None) -> Due:
        return Due(
            step,
            ConcludeReplicas(
                volume=self.volume,
                operation=self.operation,
                attachment=has,
                kept=why is not None and self.attachment is not None and not self.gone,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )


class FailOverProcess(Process, frozen=True, kw_only=True):
    """The epoch has begun: the node that is silent is told, whenever it hears, and not waited for.

    If the volume cannot be had there either, nobody has it; which node may write stays as it is.
    """

    volume: str
    from_node: str
    there: str
    attached: bool = False
    attachment: AttachmentSpec | None = None
    told: bool = False
    coming: bool = False
    come: bool = False
    undoing: bool = False
    undone: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Take it from the silent node, give it to the consumer there, conclude."""
        if self.succeeded:
            return self.completed()
        if self.attached and not self.told:
            return self._take()
        if self.attachment is None or self.come:
            return self._conclude("failed-over", None)
        if self.coming:
            return None
        want = WantAttachment(
            volume=self.volume, node=self.there, operation=self.operation, spec=self.attachment
        )
        return Due("attach", want)

    def back(self, why: GivingUp) -> Due | None:
        """Take away what was made there; the node that is silent has it no more either way."""
        if self.attached and not self.told:
            return self._take()
        if self.coming and not self.undoing:
            gone = RemoveAttachment(volume=self.volume, node=self.there, operation=self.operation)
            return Due("undo", gone)
        waits = self.undoing and not self.undone
        if waits and not self.out_of_time:
            return None
        if not self.concluded:
            return self._conclude("failed", why)
        left = (f"attachment/{self.there}/{self.volume}",) if waits else ()
        return self.given_up(why, *left)

    def refused(self, refusal: StepRefused) -> Self:
        """Go on without what the silent node no longer had; else go back."""
        if refusal.step == "take":
            told = replace(self, told=True)
            nothing = refusal.code is Refusal.VOLUME_NOT_READY
            return told if nothing else told.give_up(refusal.code, refusal.because)
        if refusal.step == "undo":
            return replace(self, undoing=True, undone=True)
        return self.give_up(refusal.code, refusal.because)

    def note(self, event: Event) -> Self:
        """Note what nodes and volume say."""
        match event:
            case AttachmentRemovalWanted():
                mine = event.node == self.there
                return replace(self, **{"undoing" if mine else "told": True})
            case AttachmentRemoved() if event.node == self.there:
                return replace(self, undone=True)
            case AttachmentWanted():
                return replace(self, coming=True)
            case AttachmentMade() if event.node == self.there:
                return replace(self, come=True)
            case AttachmentTroubled(permanent=True) if event.node == self.there:
                return self.give_up(event.code, event.because)
            case VolumeHandedOver():
                return self.success()
            case HandOverFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _take(self) -> Due:
        taken = RemoveAttachment(
            volume=self.volume, node=self.from_node, operation=self.operation, forced=True
        )
        return Due("take", taken)

    def _conclude(self, step: str, why: GivingUp | None) -> Due:
        return Due(
            step,
            ConcludeReplicas(
                volume=self.volume,
                operation=self.operation,
                attachment=self.attachment if why is None else None,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )


def begin(event: HandOverBegan) -> HandOverProcess:
    """Return the operation that *event* began."""
    return HandOverProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_HAND_OVER,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        here=event.from_node,
        there=event.node,
        attachment=event.attachment,
        again_as=event.back,
    )


def begin_failover(event: FailoverBegan) -> FailOverProcess:
    """Return the operation that *event* began."""
    return FailOverProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_FAIL_OVER,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        from_node=event.from_node,
        there=event.node,
        attached=event.attached,
        attachment=event.attachment,
    )
