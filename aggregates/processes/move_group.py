"""Moving all volumes of a group: each by a move of its own, some at once, under one operation."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes import add_replica, hand_over, migrate
from aggregates.processes.process import Due, GivingUp, Process
from aggregates.processes.several import Several
from schemas.grammar import Event, Message
from schemas.group_moves import GroupMoveBegan, GroupMoveEnded, Move
from schemas.handing import HandOverBegan, HandOverVolume, VolumeHandedOver
from schemas.legs import AddReplica, MigrateVolume, MigrationBegan, ReplicaAdditionBegan
from schemas.operation import (
    OperationKind,
    OperationProgressed,
    Outcome,
    ReportConcluded,
    ReportProgressed,
)
from schemas.refusals import Refusal
from schemas.volume_group import ConcludeGroup

_KINDS = {
    Move.MIGRATE: OperationKind.GROUP_MIGRATE,
    Move.HAND_OVER: OperationKind.GROUP_HAND_OVER,
    Move.ADD_REPLICA: OperationKind.GROUP_ADD_REPLICA,
}


class MoveGroupProcess(Several, frozen=True, kw_only=True):
    """What has moved stays where it is, and what has not where it was: each volume is whole.

    ``told_bytes`` is how much of all was said to be there.
    """

    wish: GroupMoveBegan
    told_bytes: int = 0
    concluded: bool = False

    def forward(self) -> Due | None:
        """Say how far it is whenever a volume is there, then go on."""
        if self._there_bytes > self.told_bytes and self.wish.move is not Move.HAND_OVER:
            sizes = sum(one.size_bytes for one in self.wish.volumes)
            progress = ReportProgressed(
                operation=self.operation, done_bytes=self._there_bytes, of_bytes=sizes
            )
            return Due("progress", progress, len(self.over))
        return super().forward()

    @property
    def _there_bytes(self) -> int:
        there = self.over - self.left.keys()
        return sum(one.size_bytes for one in self.wish.volumes if one.volume in there)

    def begin_with(self, volume: str) -> Message:
        """Return what begins to move the volume."""
        node, operation = self.wish.node, self.operation
        match self.wish.move:
            case Move.MIGRATE:
                return MigrateVolume(
                    volume=volume,
                    source=self.wish.source,
                    node=node,
                    resync_bytes_per_s=self.wish.resync_bytes_per_s,
                    operation=operation,
                )
            case Move.HAND_OVER:
                return HandOverVolume(volume=volume, node=node, operation=operation)
            case Move.ADD_REPLICA:
                return AddReplica(
                    volume=volume,
                    node=node,
                    resync_bytes_per_s=self.wish.resync_bytes_per_s,
                    operation=operation,
                )

    def begun(self, event: Event) -> tuple[str, str, Process] | None:
        """Return the move of a volume that *event* begins."""
        match event:
            case MigrationBegan() if self.wish.move is Move.MIGRATE:
                return event.volume, event.uid, migrate.begin(event)
            case HandOverBegan() if self.wish.move is Move.HAND_OVER:
                return event.volume, event.uid, hand_over.begin(event)
            case ReplicaAdditionBegan() if self.wish.move is Move.ADD_REPLICA:
                return event.volume, event.uid, add_replica.begin(event)
            case _:
                return None

    def rest(self) -> Due:
        """Say how it has ended, and where each volume is."""
        if not self.left:
            done = self.completed(*sorted(self.remains))
            return done if self.concluded else self._said(None, "")
        why = "; ".join(f"{name}: {because}" for name, because in sorted(self.left.items()))
        because = f"{self._where}; {why}"[:1000]
        if not self.concluded:
            return self._said(Refusal.GROUP_NOT_MOVED, because)
        return Due(
            "conclude",
            ReportConcluded(
                operation=self.operation,
                outcome=Outcome.FAILED,
                code=Refusal.GROUP_NOT_MOVED,
                because=because,
                leftovers=(
                    *(f"volume/{name}" for name in sorted(self.left)),
                    *sorted(self.remains),
                ),
            ),
        )

    def undone(self, why: GivingUp) -> Due:
        """Say why it was given up, and where each volume is."""
        told = replace(why, because=f"{why.because}; {self._where}"[:1000])
        if not self.concluded:
            return self._said(told.code, told.because)
        parts = {f"volume/{name}" for name in self.parts}
        return self.given_up(told, *sorted(parts | self.remains))

    @property
    def _where(self) -> str:
        """Which volumes are there, and which are as they were."""
        there = sorted((self.over - self.left.keys()) | set(self.wish.stay))
        before = sorted(name for name in self.unserved if name not in self.parts)
        verbs = {Move.HAND_OVER: "written to on", Move.ADD_REPLICA: "with a replica on"}
        how = verbs.get(self.wish.move, "on")
        some = {f"{how} {self.wish.node}": there, "as before": before}
        some["not known where"] = sorted(self.parts)
        return "; ".join(f"{at}: {', '.join(names)}" for at, names in some.items() if names)

    def note(self, event: Event) -> Self:
        """Note that the group knows, and what the volumes say."""
        match event:
            case GroupMoveEnded():
                return replace(self, concluded=True)
            case OperationProgressed():
                return replace(self, told_bytes=event.done_bytes)
            case VolumeHandedOver() if event.volume not in self.parts:
                # It was there already when its turn came.
                return replace(self, over=self.over | {event.volume})
            case _:
                return super().note(event)

    def _said(self, code: Refusal | None, because: str) -> Due:
        ended = ConcludeGroup(
            group=self.wish.group, operation=self.operation, code=code, because=because
        )
        return Due("ended", ended)


def begin(event: GroupMoveBegan) -> MoveGroupProcess:
    """Return the operation that *event* began."""
    return MoveGroupProcess(
        operation=event.operation,
        kind=_KINDS[event.move],
        object=f"group/{event.group}",
        deadline=event.deadline,
        wish=event,
        volumes=tuple(one.volume for one in event.volumes),
        at_once=event.at_once,
        parts={},
        uids={},
        left={},
    )
