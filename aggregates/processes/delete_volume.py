"""Removing a volume and its data: the leg goes, room or disk come back, the name is free."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.deleting import VolumeDeleted, VolumeDeletionBegan, VolumeDeletionFailed
from schemas.disk import DiskReleased, Wiping
from schemas.grammar import Event
from schemas.operation import OperationKind, Outcome, ReportConcluded, StepRefused
from schemas.pool import RoomReleased
from schemas.refusals import Refusal
from schemas.replica import (
    HoldReplica,
    KeepReplica,
    RemoveReplica,
    ReplicaHeld,
    ReplicaHoldWanted,
    ReplicaKept,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaRemoved,
    ReplicaTroubled,
)
from schemas.volume import ConcludeVolume


class DeleteVolumeProcess(Process, frozen=True, kw_only=True):
    """Once a node has removed its leg there is no way back, and none is pretended.

    Then the volume is gone when time is up, also if another node has not come to removing its leg.
    A volume that was ``held`` before is held again if it stays. What is told of each of ``nodes``
    is kept by name.
    """

    volume: str
    nodes: tuple[str, ...]
    held: bool = False
    wiping: Wiping = Wiping.DISCARD
    asked: frozenset[str] = frozenset()
    withdrawn: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    released: frozenset[str] = frozenset()
    concluded: bool = False

    def forward(self) -> Due | None:
        """Have the legs removed, wait for nodes and ledgers, conclude."""
        if self.succeeded:
            return self._completed()
        for number, node in enumerate(self.nodes):
            if node not in self.asked | self.removed:
                wish = RemoveReplica(
                    volume=self.volume,
                    node=node,
                    operation=self.operation,
                    wiping=self.wiping,
                )
                # Asked again if it was to be kept after all, and another was gone by then.
                again = len(self.nodes) if node in self.withdrawn else 0
                return Due("remove", wish, number + again)
        if self._all <= self.removed & self.released or (self.removed and self.out_of_time):
            return self._gone()
        return None

    def back(self, why: GivingUp) -> Due | None:
        """Ask the nodes to keep the legs; they say whether that came in time."""
        if self.removed:
            return self.forward()
        for number, node in enumerate(self.nodes):
            if node in self.asked and node not in self.removed:
                keep = HoldReplica if self.held else KeepReplica
                stay = keep(volume=self.volume, node=node, operation=self.operation)
                return Due("keep", stay, number)
        unsure = self.withdrawn - self.kept - self.removed
        if unsure and not self.out_of_time:
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
        return self.given_up(why, *(f"replica/{node}/{self.volume}" for node in sorted(unsure)))

    def note(self, event: Event) -> Self:
        """Note what pools and nodes say."""
        match event:
            case ReplicaRemovalWanted():
                return replace(self, asked=self.asked | {event.node})
            case ReplicaRemovalWithdrawn() | ReplicaHoldWanted():
                left = self.asked - {event.node}
                return replace(self, withdrawn=self.withdrawn | {event.node}, asked=left)
            case ReplicaKept() | ReplicaHeld():
                return replace(self, kept=self.kept | {event.node})
            case ReplicaRemoved():
                return replace(self, removed=self.removed | {event.node})
            case RoomReleased() | DiskReleased():
                return replace(self, released=self.released | {event.node})
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case VolumeDeleted():
                return self.success()
            case VolumeDeletionFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def refused(self, refusal: StepRefused) -> Self:
        """Take one leg of several that is not there for removed."""
        several = len(self.nodes) > 1
        unknown = refusal.code is Refusal.UNKNOWN_REPLICA
        if several and unknown and refusal.step in {"remove", "keep"}:
            nothing = {self.nodes[refusal.attempt % len(self.nodes)]}
            return replace(self, removed=self.removed | nothing, released=self.released | nothing)
        if refusal.step == "keep":
            node = self.nodes[refusal.attempt % len(self.nodes)]
            return replace(self, asked=self.asked - {node}, withdrawn=self.withdrawn | {node})
        return self.give_up(refusal.code, f"{refusal.step}: {refusal.because}")

    def _completed(self) -> Due:
        """Return the end: a leg whose node has not come to removing it is named."""
        left = tuple(f"replica/{node}/{self.volume}" for node in sorted(self._all - self.removed))
        done = ReportConcluded(operation=self.operation, outcome=Outcome.COMPLETED, leftovers=left)
        return Due("conclude", done)

    @property
    def _all(self) -> frozenset[str]:
        return frozenset(self.nodes)

    def _gone(self) -> Due:
        gone = ConcludeVolume(volume=self.volume, operation=self.operation, gone=True)
        return Due("gone", gone)


def begin(event: VolumeDeletionBegan) -> DeleteVolumeProcess:
    """Return the operation that *event* began."""
    return DeleteVolumeProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_DELETE,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        nodes=(event.node, *event.others),
        held=event.held,
        wiping=event.wiping,
    )
