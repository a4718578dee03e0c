"""Deleting with a way back: the leg is put out of use and kept, or taken into use again."""

from abc import abstractmethod
from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.disk import DiskReleased
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.pool import RoomReleased
from schemas.refusals import Refusal
from schemas.replica import (
    HoldReplica,
    KeepReplica,
    ReplicaHeld,
    ReplicaHoldWanted,
    ReplicaKept,
    ReplicaRemovalWithdrawn,
    ReplicaRemoved,
    ReplicaTroubled,
)
from schemas.volume import (
    ConcludeVolume,
    VolumeDeleted,
    VolumeDeletionFailed,
    VolumeHeld,
    VolumeHoldBegan,
    VolumeUndeleted,
    VolumeUndeletionBegan,
    VolumeUndeletionFailed,
)


class _LegProcess(Process, frozen=True, kw_only=True):
    """What holding and undeleting have in common: one leg, two wishes, and a node that answers.

    ``asked`` and ``answered`` are of the wish that the operation is for, ``withdrawn`` and
    ``as_before`` of the opposite one, by which it goes back. What turns out to be gone stays gone.
    """

    volume: str
    node: str
    asked: bool = False
    answered: bool = False
    withdrawn: bool = False
    as_before: bool = False
    removed: bool = False
    released: bool = False
    concluded: bool = False

    @abstractmethod
    def ask(self) -> Due:
        """Return the wish that the operation is for."""

    @abstractmethod
    def withdraw(self) -> Due:
        """Return the wish that takes the first one back."""

    def forward(self) -> Due | None:
        """Say the wish, wait for the node, conclude."""
        if self.succeeded:
            return self.completed()
        if not self.asked:
            return self.ask()
        return self._conclude("done", None) if self.answered else None

    def back(self, why: GivingUp) -> Due | None:
        """Say the opposite wish; the node says how things are then."""
        if self.removed and not self.concluded:
            waits_for_ledger = not (self.released or self.out_of_time)
            return None if waits_for_ledger else self._conclude("gone", None)
        if self.asked and not (self.withdrawn or self.removed):
            return self.withdraw()
        waits_for_node = self.withdrawn and not (self.as_before or self.removed)
        if waits_for_node and not self.out_of_time:
            return None
        if not self.concluded:
            return self._conclude("failed", why)
        left = (f"replica/{self.node}/{self.volume}",) if waits_for_node else ()
        return self.given_up(why, *left)

    def note(self, event: Event) -> Self:
        """Note what volume, pool and node say."""
        match event:
            case ReplicaRemoved():
                return replace(self, removed=True)
            case RoomReleased() | DiskReleased():
                return replace(self, released=True)
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case VolumeDeletionFailed() | VolumeUndeletionFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _conclude(self, step: str, why: GivingUp | None) -> Due:
        return Due(
            step,
            ConcludeVolume(
                volume=self.volume,
                operation=self.operation,
                gone=self.removed,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )

    def _hold(self, step: str) -> Due:
        leg = HoldReplica(volume=self.volume, node=self.node, operation=self.operation)
        return Due(step, leg)

    def _keep(self, step: str) -> Due:
        leg = KeepReplica(volume=self.volume, node=self.node, operation=self.operation)
        return Due(step, leg)


class HoldVolumeProcess(_LegProcess, frozen=True, kw_only=True):
    """A volume in use is not held: then the leg stays in use, and the deletion has failed."""

    def ask(self) -> Due:
        """Have the leg put out of use."""
        return self._hold("hold")

    def withdraw(self) -> Due:
        """Have the leg taken into use again."""
        return self._keep("keep")

    def forward(self) -> Due | None:
        """Go on as ever; a leg that is gone already needs no holding."""
        if self.removed and not self.succeeded:
            return self._conclude("gone", None) if self.released else None
        return super().forward()

    def note(self, event: Event) -> Self:
        """Note what the node says of holding."""
        match event:
            case ReplicaHoldWanted():
                return replace(self, asked=True)
            case ReplicaHeld():
                return replace(self, answered=True)
            case ReplicaRemovalWithdrawn():
                return replace(self, withdrawn=True)
            case ReplicaKept():
                return replace(self, as_before=True)
            case VolumeHeld() | VolumeDeleted():
                return self.success()
            case _:
                return super().note(event)


class UndeleteVolumeProcess(_LegProcess, frozen=True, kw_only=True):
    """What is not brought back stays held."""

    def ask(self) -> Due:
        """Have the leg taken into use again."""
        return self._keep("wake")

    def withdraw(self) -> Due:
        """Have the leg put out of use again."""
        return self._hold("hold")

    def note(self, event: Event) -> Self:
        """Note what the node says of waking."""
        match event:
            case ReplicaRemovalWithdrawn():
                return replace(self, asked=True)
            case ReplicaKept():
                return replace(self, answered=True)
            case ReplicaHoldWanted():
                return replace(self, withdrawn=True)
            case ReplicaHeld():
                return replace(self, as_before=True)
            case ReplicaRemoved():
                gone = replace(self, removed=True)
                return gone.give_up(Refusal.UNKNOWN_REPLICA, f"{self.node} has nothing left of it")
            case VolumeUndeleted():
                return self.success()
            case VolumeDeleted():
                return replace(self, concluded=True)
            case _:
                return super().note(event)


def begin_holding(event: VolumeHoldBegan) -> HoldVolumeProcess:
    """Return the operation that puts a volume on hold."""
    return HoldVolumeProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_DELETE,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        node=event.node,
    )


def begin_undeleting(event: VolumeUndeletionBegan) -> UndeleteVolumeProcess:
    """Return the operation that brings a volume back."""
    return UndeleteVolumeProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_UNDELETE,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        node=event.node,
    )
