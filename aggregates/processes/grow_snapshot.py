"""Giving a snapshot more room: lock its volume, set room aside, have the leg extended, free."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from aggregates.snapshot_growth import room_for
from schemas.grammar import Event
from schemas.growing import SnapshotGrown, SnapshotGrowthBegan, SnapshotGrowthFailed
from schemas.operation import OperationKind
from schemas.pool import ReportUnreserved, RoomReserved, RoomSettled, RoomUnreserved
from schemas.replica import ReplicaResized, ReplicaResizeWanted, ReplicaTroubled, ResizeReplica
from schemas.snapshot import ConcludeSnapshot
from schemas.volume import ConcludeVolume, LockVolume, VolumeLocked, VolumeUnlocked


class GrowSnapshotProcess(Process, frozen=True, kw_only=True):
    """Room that the snapshot has been given it keeps, whatever fails afterwards."""

    wish: SnapshotGrowthBegan
    locked: bool = False
    unlocked: bool = False
    reserved: bool = False
    wanted_bytes: int = 0
    actual_bytes: int = 0
    settled: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Hold, reserve, have the leg extended, wait for node and ledger, conclude, free."""
        if self.succeeded:
            return self.completed() if self.unlocked else self._unlock()
        if not self.locked:
            return Due("lock", self._lock())
        if not (self.reserved or self.wanted_bytes):
            return Due("reserve", room_for(self.wish))
        if not self.wanted_bytes:
            return Due("extend", self._extend(self.wish.reserve_bytes))
        if self.actual_bytes < self.wish.reserve_bytes or not self.settled:
            return None
        return Due("grown", self._conclude(None))

    def back(self, why: GivingUp) -> Due | None:
        """Withdraw the wish, give back what was set aside, say what there is, free."""
        if self.wanted_bytes == self.wish.reserve_bytes:
            return Due("withdraw", self._extend(self.wish.from_bytes))
        waits_for_node = self.wanted_bytes and not (self.actual_bytes and self.settled)
        if waits_for_node and not self.out_of_time:
            return None
        if self.reserved and not self.wanted_bytes:
            wish = self.wish
            claim = ReportUnreserved(pool=wish.pool, node=wish.node, claim=wish.uid)
            return Due("unreserve", claim)
        if not self.concluded:
            return Due("failed", self._conclude(why))
        if self.locked and not self.unlocked:
            return self._unlock()
        leg = f"replica/{self.wish.node}/{self.wish.snapshot}"
        return self.given_up(why, *((leg,) if waits_for_node else ()))

    def note(self, event: Event) -> "GrowSnapshotProcess":
        """Note what volume, pool and node say."""
        match event:
            case VolumeLocked():
                return replace(self, locked=True)
            case VolumeUnlocked():
                return replace(self, unlocked=True)
            case RoomReserved() | RoomUnreserved():
                return replace(self, reserved=isinstance(event, RoomReserved))
            case ReplicaResizeWanted():
                return replace(self, wanted_bytes=event.size_bytes, actual_bytes=0, settled=False)
            case ReplicaResized():
                return replace(self, actual_bytes=event.size_bytes)
            case RoomSettled():
                return replace(self, settled=True, reserved=False)
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case SnapshotGrown():
                return self.success()
            case SnapshotGrowthFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _lock(self) -> LockVolume:
        return LockVolume(
            volume=self.wish.volume,
            uid=self.wish.volume_uid,
            operation=self.operation,
            snapshot=self.wish.snapshot,
        )

    def _extend(self, size_bytes: int) -> ResizeReplica:
        return ResizeReplica(
            volume=self.wish.snapshot,
            node=self.wish.node,
            operation=self.operation,
            size_bytes=size_bytes,
        )

    def _conclude(self, why: GivingUp | None) -> ConcludeSnapshot:
        return ConcludeSnapshot(
            snapshot=self.wish.snapshot,
            operation=self.operation,
            reserve_bytes=self.actual_bytes or self.wish.from_bytes,
            code=why.code if why else None,
            because=why.because[:1000] if why else "",
        )

    def _unlock(self) -> Due:
        return Due("free", ConcludeVolume(volume=self.wish.volume, operation=self.operation))


def begin(event: SnapshotGrowthBegan) -> GrowSnapshotProcess:
    """Return the operation that *event* began."""
    return GrowSnapshotProcess(
        operation=event.operation,
        kind=OperationKind.SNAPSHOT_GROW,
        object=f"snapshot/{event.snapshot}",
        deadline=event.deadline,
        wish=event,
    )
