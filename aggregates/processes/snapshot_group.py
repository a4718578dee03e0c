"""Taking the snapshots of a group: lock all, set room aside for all, have them made at one instant.

All or nothing: whatever fails, what was made is removed, and what was set aside is given back.
"""

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.pool import ReportUnreserved, Reserve, RoomReserved, RoomSettled, RoomUnreserved
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
    Together,
)
from schemas.snapshot import (
    ConcludeSnapshot,
    PrepareSnapshot,
    SnapshotCreated,
    SnapshotCreationFailed,
    SnapshotPrepared,
)
from schemas.volume import ConcludeVolume, Layout, LockVolume, VolumeLocked, VolumeUnlocked
from schemas.volume_group import (
    ConcludeGroup,
    GroupSnapshotBegan,
    GroupSnapshotFailed,
    GroupSnapshotTaken,
    Part,
)

Names = frozenset[str]
_NONE: Names = frozenset()


class SnapshotAll(Process, frozen=True, kw_only=True):
    """Once the first snapshot is told to be there, there is no way back.

    The sets hold volumes (``locked``, ``unlocked``), uids (``reserved``, ``settled``) or, all
    others, names of snapshots.
    """

    wish: GroupSnapshotBegan
    locked: Names = _NONE
    unlocked: Names = _NONE
    uids: dict[str, str] = msgspec.field(default_factory=dict)
    reserved: Names = _NONE
    wanted: Names = _NONE
    made: dict[str, tuple[int, Consistency | None]] = msgspec.field(default_factory=dict)
    settled: Names = _NONE
    removal_wanted: Names = _NONE
    removed: Names = _NONE
    told: Names = _NONE
    concluded: bool = False

    def forward(self) -> Due | None:
        """Take the next step for the first volume that needs it; each step is done for all."""
        if self.succeeded:
            return self._finish()
        for number, part in enumerate(self.wish.parts):
            if part.volume not in self.locked:
                return Due(f"lock-{number}", self._lock(part))
        for number, part in enumerate(self.wish.parts):
            if part.snapshot not in self.uids:
                return Due(f"prepare-{number}", self._prepare(part))
        for number, part in enumerate(self.wish.parts):
            if self._uid(part) not in self.reserved and part.snapshot not in self.wanted:
                return Due(f"reserve-{number}", self._reserve(part))
        for number, part in enumerate(self.wish.parts):
            if part.snapshot not in self.wanted:
                return Due(f"create-{number}", self._create(part))
        there = all(p.snapshot in self.made and self._uid(p) in self.settled for p in self._parts())
        return self._finish() if there else None

    def _finish(self) -> Due:
        """Say that each snapshot is there, then all of them, and let the volumes go."""
        for number, part in enumerate(self.wish.parts):
            if part.snapshot not in self.told:
                return Due(f"ready-{number}", self._ready(part))
        if not self.concluded:
            return Due("taken", ConcludeGroup(group=self.wish.group, operation=self.operation))
        return self._free() or self.completed()

    def back(self, why: GivingUp) -> Due | None:
        """Have all legs removed, give the room back, say that there is nothing, let go."""
        left = [p for p in self._parts() if p.snapshot in self.wanted - self.removed]
        for number, part in enumerate(self.wish.parts):
            if part in left and part.snapshot not in self.removal_wanted:
                return Due(f"remove-{number}", self._remove(part))
        if left and not self.out_of_time:
            return None
        for number, part in enumerate(self.wish.parts):
            uid = self._uid(part)
            if uid in self.reserved and part.snapshot not in self.wanted:
                claim = ReportUnreserved(pool=part.pool, node=self.wish.node, claim=uid)
                return Due(f"unreserve-{number}", claim)
        for number, part in enumerate(self.wish.parts):
            if part.snapshot in self.uids.keys() - self.told:
                return Due(f"failed-{number}", self._failed(part, why))
        if not self.concluded:
            return Due("failed", self._conclude(why))
        legs = tuple(f"replica/{self.wish.node}/{part.snapshot}" for part in left)
        return self._free(left) or self.given_up(why, *legs)

    def note(self, event: Event) -> "SnapshotAll":
        """Note what volumes, pools, snapshots, the group and the node say."""
        match event:
            case VolumeLocked():
                return replace(self, locked=self.locked | {event.volume})
            case VolumeUnlocked():
                return replace(self, unlocked=self.unlocked | {event.volume})
            case SnapshotPrepared():
                return replace(self, uids={**self.uids, event.snapshot: event.uid})
            case RoomReserved():
                return replace(self, reserved=self.reserved | {event.claim})
            case RoomUnreserved():
                return replace(self, reserved=self.reserved - {event.claim})
            case RoomSettled():
                return replace(self, settled=self.settled | {event.claim})
            case SnapshotCreated():
                return replace(self.success(), told=self.told | {event.snapshot})
            case SnapshotCreationFailed():
                return replace(self, told=self.told | {event.snapshot})
            case GroupSnapshotTaken() | GroupSnapshotFailed():
                return replace(self, concluded=True)
            case _:
                return self._note_leg(event)

    def _note_leg(self, event: Event) -> "SnapshotAll":
        match event:
            case ReplicaWanted():
                return replace(self, wanted=self.wanted | {event.volume})
            case ReplicaCreated():
                caught = (event.size_bytes, event.consistency)
                return replace(self, made={**self.made, event.volume: caught})
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case ReplicaRemovalWanted():
                return replace(self, removal_wanted=self.removal_wanted | {event.volume})
            case ReplicaRemoved():
                return replace(self, removed=self.removed | {event.volume})
            case _:
                return self

    def _parts(self) -> Iterator[Part]:
        yield from self.wish.parts

    def _uid(self, part: Part) -> str:
        return self.uids.get(part.snapshot, "")

    def _lock(self, part: Part) -> LockVolume:
        return LockVolume(
            volume=part.volume,
            uid=part.volume_uid,
            operation=self.operation,
            snapshot=part.snapshot,
        )

    def _prepare(self, part: Part) -> PrepareSnapshot:
        return PrepareSnapshot(
            snapshot=part.snapshot,
            operation=self.operation,
            group=self.wish.group,
            together=self.wish.snapshot,
            volume=part.volume,
            volume_uid=part.volume_uid,
            node=self.wish.node,
            pool=part.pool,
            size_bytes=part.size_bytes,
            reserve_bytes=part.reserve_bytes,
            header_bytes=part.header_bytes,
            layout=part.layout,
            by=self.wish.by,
        )

    def _reserve(self, part: Part) -> Reserve:
        return Reserve(
            pool=part.pool,
            node=self.wish.node,
            claim=self._uid(part),
            size_bytes=part.room_bytes,
            operation=self.operation,
            thin=part.layout is Layout.THIN,
        )

    def _create(self, part: Part) -> CreateReplica:
        names = tuple(one.snapshot for one in self.wish.parts)
        return CreateReplica(
            volume=part.snapshot,
            node=self.wish.node,
            operation=self.operation,
            spec=ReplicaSpec(
                uid=self._uid(part),
                pool=part.pool,
                size_bytes=part.room_bytes,
                layout=Layout.THIN if part.layout is Layout.THIN else Layout.LINEAR,
                snapshot_of=SnapshotOf(volume=part.volume, uid=part.volume_uid),
                together=Together(instant=self.operation, snapshots=names),
            ),
        )

    def _remove(self, part: Part) -> RemoveReplica:
        return RemoveReplica(volume=part.snapshot, node=self.wish.node, operation=self.operation)

    def _ready(self, part: Part) -> ConcludeSnapshot:
        size_bytes, caught = self.made[part.snapshot]
        return ConcludeSnapshot(
            snapshot=part.snapshot,
            operation=self.operation,
            reserve_bytes=0 if part.layout is Layout.THIN else size_bytes,
            consistency=caught,
        )

    def _failed(self, part: Part, why: GivingUp) -> ConcludeSnapshot:
        return ConcludeSnapshot(
            snapshot=part.snapshot,
            operation=self.operation,
            code=why.code,
            because=why.because[:1000],
        )

    def _conclude(self, why: GivingUp) -> ConcludeGroup:
        return ConcludeGroup(
            group=self.wish.group,
            operation=self.operation,
            code=why.code,
            because=why.because[:1000],
        )

    def _free(self, left: list[Part] | None = None) -> Due | None:
        """Let the next volume go. What is ``left`` on the node is still a snapshot of its own."""
        for number, part in enumerate(self.wish.parts):
            if part.volume in self.locked - self.unlocked:
                gone = left is not None and part not in left
                free = ConcludeVolume(volume=part.volume, operation=self.operation, gone=gone)
                return Due(f"free-{number}", free)
        return None


def begin(event: GroupSnapshotBegan) -> SnapshotAll:
    """Return the operation that *event* began."""
    return SnapshotAll(
        operation=event.operation,
        kind=OperationKind.GROUP_SNAPSHOT,
        object=f"group/{event.group}",
        deadline=event.deadline,
        wish=event,
    )
