"""How a snapshot ends: it is deleted, or the volume becomes what it was when it was taken."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event
from schemas.operation import OperationKind, StepRefused
from schemas.pool import RoomReleased
from schemas.refusals import Refusal
from schemas.replica import (
    KeepReplica,
    MergeReplica,
    RemoveReplica,
    ReplicaKept,
    ReplicaMergeWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaRemoved,
    ReplicaTroubled,
)
from schemas.snapshot import (
    ConcludeSnapshot,
    SnapshotDeleted,
    SnapshotDeletionBegan,
    SnapshotDeletionFailed,
    SnapshotRollbackBegan,
    SnapshotRollbackFailed,
    SnapshotRolledBack,
)
from schemas.volume import ConcludeVolume, LockVolume, VolumeLocked, VolumeUnlocked


class EndSnapshot(Process, frozen=True, kw_only=True):
    """Once the node has done it there is no way back, and none is pretended.

    A snapshot that outlived its volume has nobody to be locked for it.
    """

    wish: SnapshotDeletionBegan | SnapshotRollbackBegan
    locked: bool = False
    unlocked: bool = False
    wanted: bool = False
    withdrawn: bool = False
    kept: bool = False
    removed: bool = False
    merged: bool = False
    released: bool = False
    concluded: bool = False

    @property
    def merging(self) -> bool:
        """Whether the volume is to become what it was."""
        return isinstance(self.wish, SnapshotRollbackBegan)

    @property
    def done(self) -> bool:
        """Whether the node has done what was asked for."""
        return self.removed and (self.merged or not self.merging)

    def forward(self) -> Due | None:
        """Hold, have the leg removed or merged, wait for node and ledger, conclude, free."""
        if self.succeeded:
            return self.completed() if self.unlocked else self._unlock(gone=True)
        if not self.locked:
            return Due("lock", self._lock())
        if not self.wanted:
            return Due("merge" if self.merging else "remove", self._want())
        return self._done() if self.done and self.released else None

    def back(self, why: GivingUp) -> Due | None:
        """Ask the node to keep the leg; it says whether it came in time."""
        if self.done:
            return self._done()
        if self.wanted and not self.withdrawn and not self.removed:
            return Due("keep", self._keep())
        waits_for_node = self.withdrawn and not (self.kept or self.removed)
        if waits_for_node and not self.out_of_time:
            return None
        if not self.concluded:
            return Due("failed", self._conclude(why))
        if self.locked and not self.unlocked:
            return self._unlock(gone=self.removed)
        leg = f"replica/{self.wish.node}/{self.wish.snapshot}"
        return self.given_up(why, *((leg,) if waits_for_node else ()))

    def refused(self, refusal: StepRefused) -> Self:
        """Delete a snapshot all the same when its volume is no more."""
        orphan = refusal.step == "lock" and refusal.code is Refusal.UNKNOWN_VOLUME
        if orphan and not self.merging:
            return replace(self, locked=True, unlocked=True)
        return self.give_up(refusal.code, f"{refusal.step}: {refusal.because}")

    def note(self, event: Event) -> Self:
        """Note what volume, pool and node say."""
        match event:
            case VolumeLocked():
                return replace(self, locked=True)
            case VolumeUnlocked():
                return replace(self, unlocked=True)
            case ReplicaRemovalWanted() | ReplicaMergeWanted():
                return replace(self, wanted=True)
            case ReplicaRemovalWithdrawn():
                return replace(self, withdrawn=True)
            case ReplicaKept():
                return replace(self, kept=True)
            case ReplicaRemoved():
                return replace(self, removed=True, merged=event.merged)
            case RoomReleased():
                return replace(self, released=True)
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case SnapshotDeleted() | SnapshotRolledBack():
                return self.success()
            case SnapshotDeletionFailed() | SnapshotRollbackFailed():
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

    def _want(self) -> MergeReplica | RemoveReplica:
        word = MergeReplica if self.merging else RemoveReplica
        return word(volume=self.wish.snapshot, node=self.wish.node, operation=self.operation)

    def _keep(self) -> KeepReplica:
        return KeepReplica(volume=self.wish.snapshot, node=self.wish.node, operation=self.operation)

    def _done(self) -> Due:
        """Return the step that says that what was asked for is so."""
        done = ConcludeSnapshot(snapshot=self.wish.snapshot, operation=self.operation, gone=True)
        return Due("done", done)

    def _conclude(self, why: GivingUp) -> ConcludeSnapshot:
        return ConcludeSnapshot(
            snapshot=self.wish.snapshot,
            operation=self.operation,
            gone=self.removed,
            code=why.code,
            because=why.because[:1000],
        )

    def _unlock(self, *, gone: bool) -> Due:
        free = ConcludeVolume(volume=self.wish.volume, operation=self.operation, gone=gone)
        return Due("free", free)


def begin_deletion(event: SnapshotDeletionBegan) -> EndSnapshot:
    """Return the operation that deletes a snapshot."""
    return EndSnapshot(
        operation=event.operation,
        kind=OperationKind.SNAPSHOT_DELETE,
        object=f"snapshot/{event.snapshot}",
        deadline=event.deadline,
        wish=event,
    )
