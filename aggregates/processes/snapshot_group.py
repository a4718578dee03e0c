"""Taking snapshots of one instant: of all volumes of a group, of all replicas of a volume, or both.

Lock all, set room aside for all, have them made. On the node that writes it is all or nothing:
whatever fails, what was made is removed, and what was set aside is given back. The snapshots of
other replicas, the twins, are taken while that node holds everything still. One that is not had in
time goes, and those of the node that writes are there all the same.
"""

from collections.abc import Iterable
from typing import Self

import msgspec
from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event, Message
from schemas.instants import InstantSettled, SettleInstant, Together
from schemas.operation import OperationKind, Outcome, ReportConcluded, StepRefused
from schemas.pool import ReportUnreserved, Reserve, RoomReserved, RoomSettled, RoomUnreserved
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
from schemas.rhythm import BySchedule
from schemas.snapshot import (
    ConcludeSnapshot,
    Part,
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
)

Names = frozenset[str]
_NONE: Names = frozenset()


class SnapshotAll(Process, frozen=True, kw_only=True):
    """Once the first snapshot is told to be there, there is no way back.

    ``node`` is the one that writes, ``together`` what all of them are called. The sets hold volumes
    (``locked``, ``unlocked``), uids (``reserved``, ``settled``) or, all others, names of snapshots;
    ``without`` are the twins that are not to be had, and why. ``turn`` is when those of the node
    that writes were taken, and ``followed`` the nodes that took theirs then.
    """

    node: str
    parts: tuple[Part, ...]
    together: str
    group: str | None = None
    by: BySchedule | None = None
    locked: Names = _NONE
    unlocked: Names = _NONE
    uids: dict[str, str] = msgspec.field(default_factory=dict)
    reserved: Names = _NONE
    wanted: Names = _NONE
    made: dict[str, tuple[int, Consistency | None]] = msgspec.field(default_factory=dict)
    turn: str = ""
    followed: Names = _NONE
    asked: Names = _NONE
    settled: Names = _NONE
    without: dict[str, tuple[Refusal, str]] = msgspec.field(default_factory=dict)
    removal_wanted: Names = _NONE
    removed: Names = _NONE
    told: Names = _NONE
    concluded: bool = False

    def forward(self) -> Due | None:
        """Take the next step for the first part that needs it; each step is done for all.

        Twins are wanted before the others: their nodes have to know when their turn comes.
        """
        if self.succeeded:
            return self._finish()
        for number, part in self._home():
            if part.volume not in self.locked:
                return Due(f"lock-{number}", self._lock(part))
        hoped_for = [(n, one) for n, one in self._twins() if one.snapshot not in self.without]
        numbered = [*hoped_for, *self._home()]
        for number, part in numbered:
            if part.snapshot not in self.uids:
                return _step("prepare", number, part, self._prepare(part))
        for number, part in numbered:
            if self._uid(part) not in self.reserved and part.snapshot not in self.wanted:
                return _step("reserve", number, part, self._reserve(part))
        for number, part in numbered:
            if part.snapshot not in self.wanted:
                return _step("create", number, part, self._create(part))
        return self._finish() if all(self._is_made(part) for _, part in self._home()) else None

    def _finish(self) -> Due | None:
        """Say that each snapshot is there, then all of them, and let the volumes go."""
        for number, part in self._home():
            if part.snapshot not in self.told:
                return Due(f"ready-{number}", self._ready(part))
        waits = False
        for number, part in self._twins():
            due = self._twin(number, part)
            if due is not None:
                return due
            waits = waits or part.snapshot in self.uids.keys() - self.told
        if waits:
            return None
        if not self.concluded:
            group = self.group or ""
            return Due("taken", ConcludeGroup(group=group, operation=self.operation))
        return self._free() or self._completed()

    def _twin(self, number: int, part: Part) -> Due | None:
        """Return the next step with a twin, now that its instant has been."""
        name = part.snapshot
        if name in self.told:
            return None
        if name in self.without or self.expiries or part.node not in self.followed:
            return self._dropped(number, part)
        if name not in self.asked:
            settle = SettleInstant(
                volume=name, node=self._node(part), operation=self.operation, turn=self.turn
            )
            return _step("settle", number, part, settle)
        return _step("ready", number, part, self._ready(part)) if self._is_made(part) else None

    def _dropped(self, number: int, part: Part) -> Due | None:
        """Have a twin removed, whenever its node comes to that; say that there is none."""
        away = self._taken_back(number, part)
        if away is not None or part.snapshot not in self.uids:
            return away
        silent = Refusal.DEADLINE, f"{part.node} did not take it in time"
        code, because = self.without.get(part.snapshot, silent)
        return _step("failed", number, part, self._failed(part, code, because))

    def _taken_back(self, number: int, part: Part) -> Due | None:
        """Have what was made of a part removed, or the room for it given back."""
        name, uid = part.snapshot, self._uid(part)
        if name in self.wanted - self.removed - self.removal_wanted:
            remove = RemoveReplica(volume=name, node=self._node(part), operation=self.operation)
            return _step("remove", number, part, remove)
        if uid in self.reserved and name not in self.wanted:
            claim = ReportUnreserved(pool=part.pool, node=self._node(part), claim=uid)
            return _step("unreserve", number, part, claim)
        return None

    def back(self, why: GivingUp) -> Due | None:
        """Have all legs removed, give the room back, say that there is nothing, let go."""
        numbered = tuple(enumerate(self.parts))
        for number, part in numbered:
            if part.snapshot in self.wanted and (due := self._taken_back(number, part)) is not None:
                return due
        if self._left() and not self.out_of_time:
            return None
        for number, part in numbered:
            if (due := self._taken_back(number, part)) is not None:
                return due
        for number, part in numbered:
            if part.snapshot in self.uids.keys() - self.told:
                return _step("failed", number, part, self._failed(part, why.code, why.because))
        if not self.concluded:
            return Due("failed", self._conclude(why))
        return self._free(gone=True) or self.given_up(why, *self._legs())

    def refused(self, refusal: StepRefused) -> Self:
        """Do without a twin that cannot be had; without one of the others all is in vain."""
        step, _, number = refusal.step.partition("-")
        if step == "remove" and refusal.code is Refusal.UNKNOWN_REPLICA:
            gone = self.parts[int(number)].snapshot  # its node has been forgotten
            return replace(self, removed=self.removed | {gone})
        if not refusal.step.startswith(_TWIN):
            return super().refused(refusal)
        name = self.parts[refusal.attempt].snapshot
        if refusal.step == f"{_TWIN}remove":  # there never was any
            return replace(self, removed=self.removed | {name})
        return self._do_without(name, refusal.code, f"{refusal.step}: {refusal.because}")

    def note(self, event: Event) -> Self:
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

    def _note_leg(self, event: Event) -> Self:
        match event:
            case ReplicaWanted():
                return replace(self, wanted=self.wanted | {event.volume})
            case ReplicaCreated():
                caught = (event.size_bytes, event.consistency)
                made = replace(self, made={**self.made, event.volume: caught})
                if event.node != self.node:
                    return made
                return replace(made, turn=event.turn or "", followed=frozenset(event.followed))
            case InstantSettled():
                return replace(self, asked=self.asked | {event.volume})
            case ReplicaTroubled(permanent=True):
                if event.node != self.node:
                    return self._do_without(event.volume, event.code, event.because)
                return self.give_up(event.code, event.because)
            case ReplicaRemovalWanted():
                return replace(self, removal_wanted=self.removal_wanted | {event.volume})
            case ReplicaRemoved():
                return replace(self, removed=self.removed | {event.volume})
            case _:
                return self

    def _do_without(self, twin: str, code: Refusal, because: str) -> Self:
        return replace(self, without={**self.without, twin: (code, because)})

    def _home(self) -> list[tuple[int, Part]]:
        """Return, with their numbers, the parts on the node that writes."""
        return [(n, one) for n, one in enumerate(self.parts) if one.twin_of is None]

    def _twins(self) -> list[tuple[int, Part]]:
        return [(n, one) for n, one in enumerate(self.parts) if one.twin_of is not None]

    def _node(self, part: Part) -> str:
        return part.node or self.node

    def _uid(self, part: Part) -> str:
        return self.uids.get(part.snapshot, "")

    def _is_made(self, part: Part) -> bool:
        return part.snapshot in self.made and self._uid(part) in self.settled

    def _left(self) -> list[Part]:
        return [one for one in self.parts if one.snapshot in self.wanted - self.removed]

    def _legs(self) -> tuple[str, ...]:
        return tuple(f"replica/{self._node(one)}/{one.snapshot}" for one in self._left())

    def _lock(self, part: Part) -> LockVolume:
        return LockVolume(
            volume=part.volume,
            uid=part.volume_uid,
            operation=self.operation,
            snapshot=part.snapshot,
            twins=tuple(one.snapshot for one in self._twins_of(part)),
        )

    def _twins_of(self, part: Part) -> list[Part]:
        return [one for _, one in self._twins() if one.twin_of == part.snapshot]

    def _prepare(self, part: Part) -> PrepareSnapshot:
        return PrepareSnapshot(
            snapshot=part.snapshot,
            operation=self.operation,
            group=self.group,
            together=self.together,
            volume=part.volume,
            volume_uid=part.volume_uid,
            node=self._node(part),
            pool=part.pool,
            size_bytes=part.size_bytes,
            reserve_bytes=part.reserve_bytes,
            header_bytes=part.header_bytes,
            head_room_bytes=part.head_room_bytes,
            layout=part.layout,
            by=self.by,
        )

    def _reserve(self, part: Part) -> Reserve:
        return Reserve(
            pool=part.pool,
            node=self._node(part),
            claim=self._uid(part),
            size_bytes=part.room_bytes,
            operation=self.operation,
            thin=part.layout is Layout.THIN,
        )

    def _create(self, part: Part) -> CreateReplica:
        node = self._node(part)
        here = tuple(one.snapshot for one in self.parts if self._node(one) == node)
        leads = node == self.node
        others = sorted({self._node(one) for _, one in self._twins()}) if leads else ()
        return CreateReplica(
            volume=part.snapshot,
            node=node,
            operation=self.operation,
            spec=ReplicaSpec(
                uid=self._uid(part),
                pool=part.pool,
                size_bytes=part.room_bytes,
                layout=Layout.THIN if part.layout is Layout.THIN else Layout.LINEAR,
                snapshot_of=SnapshotOf(volume=part.volume, uid=part.volume_uid),
                together=Together(
                    instant=self.operation,
                    snapshots=here,
                    leader=self.node if others or not leads else None,
                    followers=tuple(others),
                ),
            ),
        )

    def _ready(self, part: Part) -> ConcludeSnapshot:
        size_bytes, caught = self.made[part.snapshot]
        thin = part.layout is Layout.THIN
        return ConcludeSnapshot(
            snapshot=part.snapshot,
            operation=self.operation,
            reserve_bytes=0 if thin else size_bytes,
            consistency=caught,
        )

    def _failed(self, part: Part, code: Refusal, because: str) -> ConcludeSnapshot:
        return ConcludeSnapshot(
            snapshot=part.snapshot, operation=self.operation, code=code, because=because[:1000]
        )

    def _conclude(self, why: GivingUp) -> ConcludeGroup:
        return ConcludeGroup(
            group=self.group or "",
            operation=self.operation,
            code=why.code,
            because=why.because[:1000],
        )

    def _free(self, *, gone: bool = False) -> Due | None:
        """Let the next volume go. What is left on a node is still a snapshot of its own."""
        left = self._left()
        for number, part in self._home():
            if part.volume in self.locked - self.unlocked:
                none = [one for one in self._twins_of(part) if self._is_gone(one, left, gone=gone)]
                free = ConcludeVolume(
                    volume=part.volume,
                    operation=self.operation,
                    gone=gone and part not in left,
                    gone_twins=tuple(one.snapshot for one in none),
                )
                return Due(f"free-{number}", free)
        return None

    def _is_gone(self, twin: Part, left: Iterable[Part], *, gone: bool) -> bool:
        """Return whether nothing is there of a twin, nor will be found on its node later."""
        failed = gone or not self._is_made(twin) or twin.snapshot in self.removal_wanted
        return failed and twin not in left

    def _completed(self) -> Due:
        missing = [one for one in self._left() if one.snapshot in self.removal_wanted]
        legs = tuple(f"replica/{self._node(one)}/{one.snapshot}" for one in missing)
        done = ReportConcluded(operation=self.operation, outcome=Outcome.COMPLETED, leftovers=legs)
        return Due("conclude", done)


_TWIN = "twin-"


def _step(name: str, number: int, part: Part, command: Message) -> Due:
    """Return a step; what is refused of a twin is known by its number."""
    if part.twin_of is None:
        return Due(f"{name}-{number}", command)
    return Due(f"{_TWIN}{name}", command, number)


def begin(event: GroupSnapshotBegan) -> SnapshotAll:
    """Return the operation that keeps all volumes of a group."""
    return SnapshotAll(
        operation=event.operation,
        kind=OperationKind.GROUP_SNAPSHOT,
        object=f"group/{event.group}",
        deadline=event.deadline,
        node=event.node,
        parts=event.parts,
        together=event.snapshot,
        group=event.group,
        by=event.by,
    )
