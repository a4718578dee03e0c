"""Deleting with a way back: the leg is put out of use and kept, or taken into use again."""

from abc import abstractmethod
from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.deleting import (
    VolumeDeleted,
    VolumeDeletionFailed,
    VolumeHeld,
    VolumeHoldBegan,
    VolumeUndeleted,
    VolumeUndeletionBegan,
    VolumeUndeletionFailed,
)
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
from schemas.volume import ConcludeVolume


class _LegsProcess(Process, frozen=True, kw_only=True):
    """What holding and undeleting have in common: legs, two wishes, and nodes that answer.

    ``asked`` and ``answered`` are of the wish that the operation is for, ``withdrawn`` and
    ``as_before`` of the opposite one, by which it goes back: by the names of ``nodes``. What turns
    out to be gone stays gone; the volume is, when all of it is.
    """

    volume: str
    nodes: tuple[str, ...]
    asked: frozenset[str] = frozenset()
    answered: frozenset[str] = frozenset()
    withdrawn: frozenset[str] = frozenset()
    as_before: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    released: frozenset[str] = frozenset()
    concluded: bool = False

    @abstractmethod
    def ask(self, node: str, number: int) -> Due:
        """Return the wish that the operation is for."""

    @abstractmethod
    def withdraw(self, node: str, number: int) -> Due:
        """Return the wish that takes the first one back."""

    @property
    def gone(self) -> bool:
        """Whether nothing is left of the volume anywhere."""
        return self.removed == frozenset(self.nodes)

    def forward(self) -> Due | None:
        """Say the wish, wait for the nodes, conclude."""
        if self.succeeded:
            return self.completed()
        for number, node in enumerate(self.nodes):
            if node not in self.asked | self.removed:
                return self.ask(node, number)
        done = self.answered | self.removed >= frozenset(self.nodes)
        return self._conclude("done", None) if done else None

    def back(self, why: GivingUp) -> Due | None:
        """Say the opposite wish; the nodes say how things are then."""
        if self.gone and not self.concluded:
            waits_for_ledger = not (self.released == self.removed or self.out_of_time)
            return None if waits_for_ledger else self._conclude("gone", None)
        for number, node in enumerate(self.nodes):
            if node in self.asked - self.withdrawn - self.removed:
                return self.withdraw(node, number)
        unsure = self.withdrawn - self.as_before - self.removed
        if unsure and not self.out_of_time:
            return None
        if not self.concluded:
            return self._conclude("failed", why)
        return self.given_up(why, *(f"replica/{node}/{self.volume}" for node in sorted(unsure)))

    def note(self, event: Event) -> Self:
        """Note what volume, pools and nodes say."""
        match event:
            case ReplicaRemoved():
                return replace(self, removed=self.removed | {event.node})
            case RoomReleased() | DiskReleased():
                return replace(self, released=self.released | {event.node})
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
                gone=self.gone,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )

    def _hold(self, step: str, node: str, number: int) -> Due:
        leg = HoldReplica(volume=self.volume, node=node, operation=self.operation)
        return Due(step, leg, number)

    def _keep(self, step: str, node: str, number: int) -> Due:
        leg = KeepReplica(volume=self.volume, node=node, operation=self.operation)
        return Due(step, leg, number)


class HoldVolumeProcess(_LegsProcess, frozen=True, kw_only=True):
    """A volume in use is not held: then the leg stays in use, and the deletion has failed."""

    def ask(self, node: str, number: int) -> Due:
        """Have the leg put out of use."""
        return self._hold("hold", node, number)

    def withdraw(self, node: str, number: int) -> Due:
        """Have the leg taken into use again."""
        return self._keep("keep", node, number)

    def forward(self) -> Due | None:
        """Go on as ever; a leg that is gone already needs no holding."""
        if self.gone and not self.succeeded:
            told = self.released == self.removed
            return self._conclude("gone", None) if told else None
        return super().forward()

    def note(self, event: Event) -> Self:
        """Note what the node says of holding."""
        match event:
            case ReplicaHoldWanted():
                return replace(self, asked=self.asked | {event.node})
            case ReplicaHeld():
                return replace(self, answered=self.answered | {event.node})
            case ReplicaRemovalWithdrawn():
                return replace(self, withdrawn=self.withdrawn | {event.node})
            case ReplicaKept():
                return replace(self, as_before=self.as_before | {event.node})
            case VolumeHeld() | VolumeDeleted():
                return self.success()
            case _:
                return super().note(event)


class UndeleteVolumeProcess(_LegsProcess, frozen=True, kw_only=True):
    """What is not brought back stays held."""

    def ask(self, node: str, number: int) -> Due:
        """Have the leg taken into use again."""
        return self._keep("wake", node, number)

    def withdraw(self, node: str, number: int) -> Due:
        """Have the leg put out of use again."""
        return self._hold("hold", node, number)

    def note(self, event: Event) -> Self:
        """Note what the node says of waking."""
        match event:
            case ReplicaRemovalWithdrawn():
                return replace(self, asked=self.asked | {event.node})
            case ReplicaKept():
                return replace(self, answered=self.answered | {event.node})
            case ReplicaHoldWanted():
                return replace(self, withdrawn=self.withdrawn | {event.node})
            case ReplicaHeld():
                return replace(self, as_before=self.as_before | {event.node})
            case ReplicaRemoved():
                gone = replace(self, removed=self.removed | {event.node})
                return gone.give_up(Refusal.UNKNOWN_REPLICA, f"{event.node} has nothing left of it")
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
        nodes=(event.node, *event.others),
    )


def begin_undeleting(event: VolumeUndeletionBegan) -> UndeleteVolumeProcess:
    """Return the operation that brings a volume back."""
    return UndeleteVolumeProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_UNDELETE,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        nodes=(event.node, *event.others),
    )
