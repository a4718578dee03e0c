"""Taking a snapshot: lock its volume, set room aside, have the leg made, say that it is there."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from aggregates.processes.snapshot_group import SnapshotAll
from aggregates.snapshot import room_for
from schemas.grammar import Event
from schemas.operation import OperationKind, StepRefused
from schemas.pool import ReportUnreserved, RoomReserved, RoomSettled, RoomUnreserved
from schemas.refusals import Refusal
from schemas.replica import (
    Consistency,
    CreateReplica,
    RemoveReplica,
    ReplicaCreated,
    ReplicaRemovalWanted,
    ReplicaRemoved,
    ReplicaSpec,
    ReplicaTroubled,
    ReplicaWanted,
    SnapshotOf,
)
from schemas.snapshot import (
    ConcludeSnapshot,
    Part,
    SnapshotCreated,
    SnapshotCreationBegan,
    SnapshotCreationFailed,
)
from schemas.volume import ConcludeVolume, Layout, LockVolume, VolumeLocked, VolumeUnlocked


class TakeSnapshot(Process, frozen=True, kw_only=True):
    """The volume is locked from before the first step until after the last, and then free again."""

    wish: SnapshotCreationBegan
    locked: bool = False
    unlocked: bool = False
    reserved: bool = False
    wanted: bool = False
    created_bytes: int = 0
    consistency: Consistency | None = None
    settled: bool = False
    removal_wanted: bool = False
    removed: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Hold, reserve, have the leg made, wait for the node and the ledger, conclude, free."""
        if self.succeeded:
            return self.completed() if self.unlocked else self._unlock(gone=False)
        if not self.locked:
            return Due("lock", self._lock())
        if not self.reserved and not self.wanted:
            return Due("reserve", room_for(self.wish))
        if not self.wanted:
            return Due("create", self._create())
        return self._ready() if self.created_bytes and self.settled else None

    def back(self, why: GivingUp) -> Due | None:
        """Have the leg removed, give the room back, say that there is no snapshot, free."""
        if self.wanted and not self.removed:
            if not self.removal_wanted:
                return Due("remove", self._remove())
            if not self.out_of_time:
                return None
        elif self.reserved and not self.wanted:
            wish = self.wish
            claim = ReportUnreserved(pool=wish.pool, node=wish.node, claim=wish.uid)
            return Due("unreserve", claim)
        if not self.concluded:
            return Due("failed", self._conclude(why))
        left = self.wanted and not self.removed
        if self.locked and not self.unlocked:
            return self._unlock(gone=not left)
        leg = f"replica/{self.wish.node}/{self.wish.snapshot}"
        return self.given_up(why, *((leg,) if left else ()))

    def refused(self, refusal: StepRefused) -> "TakeSnapshot":
        """Take a leg that is not there for removed: its node may have been forgotten."""
        if refusal.step == "remove" and refusal.code is Refusal.UNKNOWN_REPLICA:
            return replace(self, removal_wanted=True, removed=True)
        return super().refused(refusal)

    def note(self, event: Event) -> "TakeSnapshot":
        """Note what volume, pool and node say."""
        match event:
            case VolumeLocked():
                return replace(self, locked=True)
            case VolumeUnlocked():
                return replace(self, unlocked=True)
            case RoomReserved() | RoomUnreserved():
                return replace(self, reserved=isinstance(event, RoomReserved))
            case ReplicaWanted():
                return replace(self, wanted=True)
            case ReplicaCreated():
                size_bytes, caught = event.size_bytes, event.consistency
                return replace(self, created_bytes=size_bytes, consistency=caught)
            case RoomSettled():
                return replace(self, settled=True)
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case ReplicaRemovalWanted():
                return replace(self, removal_wanted=True)
            case ReplicaRemoved():
                return replace(self, removed=True)
            case SnapshotCreated():
                return self.success()
            case SnapshotCreationFailed():
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

    def _create(self) -> CreateReplica:
        wish = self.wish
        thin = wish.layout is Layout.THIN
        whole_bytes = wish.size_bytes + wish.header_bytes
        return CreateReplica(
            volume=wish.snapshot,
            node=wish.node,
            operation=self.operation,
            spec=ReplicaSpec(
                uid=wish.uid,
                pool=wish.pool,
                size_bytes=whole_bytes if thin else wish.reserve_bytes,
                layout=Layout.THIN if thin else Layout.LINEAR,
                snapshot_of=SnapshotOf(volume=wish.volume, uid=wish.volume_uid),
            ),
        )

    def _remove(self) -> RemoveReplica:
        return RemoveReplica(
            volume=self.wish.snapshot, node=self.wish.node, operation=self.operation
        )

    def _ready(self) -> Due:
        thin = self.wish.layout is Layout.THIN
        ready = ConcludeSnapshot(
            snapshot=self.wish.snapshot,
            operation=self.operation,
            reserve_bytes=0 if thin else self.created_bytes,
            consistency=self.consistency,
        )
        return Due("ready", ready)

    def _conclude(self, why: GivingUp) -> ConcludeSnapshot:
        return ConcludeSnapshot(
            snapshot=self.wish.snapshot,
            operation=self.operation,
            code=why.code,
            because=why.because[:1000],
        )

    def _unlock(self, *, gone: bool) -> Due:
        free = ConcludeVolume(volume=self.wish.volume, operation=self.operation, gone=gone)
        return Due("free", free)


def begin(event: SnapshotCreationBegan) -> TakeSnapshot | SnapshotAll:
    """Return the operation that *event* began: with twins it is more than one."""
    if event.twins:
        return _begin_with_twins(event)
    return TakeSnapshot(
        operation=event.operation,
        kind=OperationKind.SNAPSHOT_CREATE,
        object=f"snapshot/{event.snapshot}",
        deadline=event.deadline,
        wish=event,
    )


def _begin_with_twins(event: SnapshotCreationBegan) -> SnapshotAll:
    """Return the operation that keeps all replicas of a volume; there is no group to tell."""
    return SnapshotAll(
        operation=event.operation,
        kind=OperationKind.SNAPSHOT_CREATE,
        object=f"snapshot/{event.snapshot}",
        deadline=event.deadline,
        node=event.node,
        parts=(_part_of(event), *event.twins),
        together=event.snapshot,
        by=event.by,
        uids={event.snapshot: event.uid},
        concluded=True,
    )


def _part_of(event: SnapshotCreationBegan) -> Part:
    """Return what is to be made of the replica that is written to."""
    return Part(
        snapshot=event.snapshot,
        volume=event.volume,
        volume_uid=event.volume_uid,
        pool=event.pool,
        size_bytes=event.size_bytes,
        reserve_bytes=event.reserve_bytes,
        layout=event.layout,
        header_bytes=event.header_bytes,
        head_room_bytes=event.head_room_bytes,
    )
