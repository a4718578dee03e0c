"""Giving a snapshot more room: lock its volume, set room aside, have the leg extended, free."""

from msgspec.structs import replace

from aggregates.processes.enlarging import Enlarging
from aggregates.processes.process import Due, GivingUp
from aggregates.snapshot_growth import room_for
from schemas.grammar import Event
from schemas.growing import SnapshotGrown, SnapshotGrowthBegan, SnapshotGrowthFailed
from schemas.operation import OperationKind
from schemas.pool import Reserve
from schemas.replica import ResizeReplica
from schemas.snapshot import ConcludeSnapshot
from schemas.volume import ConcludeVolume, LockVolume, VolumeLocked, VolumeUnlocked


class GrowSnapshotProcess(Enlarging, frozen=True, kw_only=True):
    """Its volume is held meanwhile, so that nothing else happens to both."""

    wish: SnapshotGrowthBegan
    locked: bool = False
    unlocked: bool = False
    concluded: bool = False

    @property
    def from_bytes(self) -> int:
        """How much room the snapshot has."""
        return self.wish.from_bytes

    @property
    def to_bytes(self) -> int:
        """How much it shall have."""
        return self.wish.reserve_bytes

    def forward(self) -> Due | None:
        """Hold, reserve, have the leg extended, wait for node and ledger, conclude, free."""
        if self.succeeded:
            return self.completed() if self.unlocked else self._unlock()
        if not self.locked:
            return Due("lock", self._lock())
        return Due("grown", self._conclude(None)) if self.enlarged else self.enlarge()

    def conclude_back(self, why: GivingUp) -> Due:
        """Say what there is, free the volume."""
        if not self.concluded:
            return Due("failed", self._conclude(why))
        if self.locked and not self.unlocked:
            return self._unlock()
        leg = f"replica/{self.wish.node}/{self.wish.snapshot}"
        return self.given_up(why, *((leg,) if self.waits_for_node else ()))

    def note(self, event: Event) -> "GrowSnapshotProcess":
        """Note what volume, snapshot, pool and node say."""
        match event:
            case VolumeLocked():
                return replace(self, locked=True)
            case VolumeUnlocked():
                return replace(self, unlocked=True)
            case SnapshotGrown():
                return self.success()
            case SnapshotGrowthFailed():
                return replace(self, concluded=True)
            case _:
                return self.note_leg(event)

    def reserve(self) -> Reserve:
        """Return what sets aside what is missing."""
        return room_for(self.wish)

    def resize(self, size_bytes: int) -> ResizeReplica:
        """Return what wants the leg that large."""
        return ResizeReplica(
            volume=self.wish.snapshot,
            node=self.wish.node,
            operation=self.operation,
            size_bytes=size_bytes,
        )

    def _lock(self) -> LockVolume:
        return LockVolume(
            volume=self.wish.volume,
            uid=self.wish.volume_uid,
            operation=self.operation,
            snapshot=self.wish.snapshot,
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
