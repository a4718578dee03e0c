"""Forgetting a node that is lost: what is named after it goes from the log's present."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes import remove_replica
from aggregates.processes.process import Due, GivingUp, Process
from aggregates.processes.several import Several
from schemas.disk import DiskForgotten, ReportDiskForgotten
from schemas.draining import ForgetPool, ForgettingBegan, PoolForgotten
from schemas.grammar import Event, Message
from schemas.legs import RemoveReplicaOf, ReplicaRemovalBegan
from schemas.node import ConcludeNode, NodeRemovalEnded, NodeRemoved, PoolDetached
from schemas.operation import OperationKind, Outcome
from schemas.refusals import Refusal
from schemas.replication import ForgetReplica, ReplicaForgotten


class ForgetNodeProcess(Several, frozen=True, kw_only=True):
    """Volumes do without their replica there; nothing is asked of the node itself."""

    wish: ForgettingBegan
    forgotten: frozenset[str] = frozenset()
    concluded: bool = False

    def begin_with(self, volume: str) -> RemoveReplicaOf:
        """Return what has the volume do without its replica on the node."""
        return RemoveReplicaOf(
            volume=volume, node=self.wish.node, lost=True, operation=self.operation
        )

    def begun(self, event: Event) -> tuple[str, str, Process] | None:
        """Return the removal of a replica that *event* begins."""
        if not isinstance(event, ReplicaRemovalBegan):
            return None
        return event.volume, event.uid, remove_replica.begin(event)

    def rest(self) -> Due:
        """Forget its legs, its pools, its disks, and then the node."""
        if self.succeeded:
            return self.completed()
        if self.left:
            why = "; ".join(f"{name}: {because}" for name, because in sorted(self.left.items()))
            return self.undone(GivingUp(Outcome.FAILED, Refusal.NODE_NEEDED, why[:1000]))
        for number, (object_, command) in enumerate(self._all()):
            if object_ not in self.forgotten:
                return Due("forget", command, number)
        return self._conclude(removed=True)

    def undone(self, why: GivingUp) -> Due:
        """Let the node stay; what was forgotten is found again if it comes back."""
        return self.given_up(why) if self.concluded else self._conclude(removed=False)

    def note(self, event: Event) -> Self:
        """Note what is forgotten."""
        match event:
            case ReplicaForgotten() if event.volume not in self.volumes:
                return self._gone(f"replica/{event.volume}")
            case PoolForgotten() | PoolDetached():
                return self._gone(f"pool/{event.pool}")
            case DiskForgotten():
                return self._gone(f"disk/{event.disk}")
            case NodeRemoved():
                return self.success()
            case NodeRemovalEnded():
                return replace(self, concluded=True)
            case _:
                return super().note(event)

    def _gone(self, object_: str) -> Self:
        return replace(self, forgotten=self.forgotten | {object_})

    def _all(self) -> tuple[tuple[str, Message], ...]:
        node, operation = self.wish.node, self.operation
        legs = (
            (f"replica/{leg}", ForgetReplica(volume=leg, node=node, operation=operation))
            for leg in self.wish.legs
        )
        pools = (
            (f"pool/{pool}", ForgetPool(pool=pool, node=node, operation=operation))
            for pool in self.wish.pools
        )
        disks = (
            (f"disk/{disk}", ReportDiskForgotten(disk=disk, node=node)) for disk in self.wish.disks
        )
        return (*legs, *pools, *disks)

    def _conclude(self, *, removed: bool) -> Due:
        ended = ConcludeNode(node=self.wish.node, operation=self.operation, removed=removed)
        return Due("ended", ended)


def begin(event: ForgettingBegan) -> ForgetNodeProcess:
    """Return the operation that *event* began."""
    return ForgetNodeProcess(
        operation=event.operation,
        kind=OperationKind.NODE_FORGET,
        object=f"node/{event.node}",
        deadline=event.deadline,
        wish=event,
        volumes=event.volumes,
        at_once=1,
        parts={},
        uids={},
        left={},
    )
