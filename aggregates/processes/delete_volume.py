"""Removing a volume and its data: the leg goes, room or disk come back, the name is free."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.disk import DiskReleased, Wiping
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.pool import RoomReleased
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
from schemas.volume import (
    ConcludeVolume,
    VolumeDeleted,
    VolumeDeletionBegan,
    VolumeDeletionFailed,
)


class DeleteVolumeProcess(Process, frozen=True, kw_only=True):
    """Once the node has removed the leg there is no way back, and none is pretended.

    A volume that was ``held`` before is held again if it stays.
    """

    volume: str
    node: str
    held: bool = False
    wiping: Wiping = Wiping.DISCARD
    removal_wanted: bool = False
    withdrawn: bool = False
    kept: bool = False
    removed: bool = False
    released: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Have the leg removed, wait for the node and the ledger, conclude."""
        if self.succeeded:
            return self.completed()
        if not self.removal_wanted:
            wish = RemoveReplica(
                volume=self.volume,
                node=self.node,
                operation=self.operation,
                wiping=self.wiping,
            )
            return Due("remove", wish)
        if not (self.removed and self.released):
            return None
        return self._gone()

    def back(self, why: GivingUp) -> Due | None:
        """Ask the node to keep the leg; it says whether it came in time."""
        if self.removed:
            return self._gone()
        if self.removal_wanted and not self.withdrawn:
            keep = HoldReplica if self.held else KeepReplica
            return Due("keep", keep(volume=self.volume, node=self.node, operation=self.operation))
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
        left = (f"replica/{self.node}/{self.volume}",) if waits_for_node else ()
        return self.given_up(why, *left)

    def note(self, event: Event) -> "DeleteVolumeProcess":
        """Note what pool and node say."""
        match event:
            case ReplicaRemovalWanted():
                return replace(self, removal_wanted=True)
            case ReplicaRemovalWithdrawn() | ReplicaHoldWanted():
                return replace(self, withdrawn=True)
            case ReplicaKept() | ReplicaHeld():
                return replace(self, kept=True)
            case ReplicaRemoved():
                return replace(self, removed=True)
            case RoomReleased() | DiskReleased():
                return replace(self, released=True)
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case VolumeDeleted():
                return self.success()
            case VolumeDeletionFailed():
                return replace(self, concluded=True)
            case _:
                return self

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
        node=event.node,
        held=event.held,
        wiping=event.wiping,
    )
