"""Taking things apart: an empty pool from its node, an empty node from the cluster."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.disk import DiskForgotten, DiskReleased, ReportDiskForgotten
from schemas.grammar import Event
from schemas.node import (
    ConcludeNode,
    NodeRemovalBegan,
    NodeRemovalEnded,
    NodeRemoved,
    PoolDetached,
)
from schemas.operation import OperationKind
from schemas.pool import (
    AbandonPool,
    ConcludePool,
    PoolOperationEnded,
    PoolRemovalAbandoned,
    PoolRemovalBegan,
    PoolRemovalWanted,
    PoolRemoved,
    PoolTroubled,
    TearDownPool,
)


class RemovePoolProcess(Process, frozen=True, kw_only=True):
    """An empty pool goes: nothing is lost with it, so once asked for it is seen through."""

    pool: str
    node: str
    asked: bool = False
    owed: frozenset[str] | None = None
    detached: bool = False
    kept: bool = False
    concluded: bool = False

    @property
    def gone(self) -> bool:
        """Whether nothing is left: the disks are free, the node no longer carries it."""
        return self.owed is not None and not self.owed and self.detached

    def forward(self) -> Due | None:
        """Have the node take it apart, wait until all is given back."""
        if not self.asked:
            tear_down = TearDownPool(pool=self.pool, node=self.node, operation=self.operation)
            return Due("ask", tear_down)
        return self.completed() if self.gone else None

    def back(self, why: GivingUp) -> Due | None:
        """Keep the pool if the node was not asked yet; else wait for the node, in bounds."""
        if not self.asked and not self.kept:
            return Due(
                "abandon",
                AbandonPool(
                    pool=self.pool,
                    node=self.node,
                    operation=self.operation,
                    code=why.code,
                    because=why.because[:1000],
                ),
            )
        if self.gone:
            return self.completed()
        if self.asked and not self.out_of_time:
            return None
        if not self.concluded and self.owed is None:
            ended = ConcludePool(pool=self.pool, node=self.node, operation=self.operation)
            return Due("ended", ended)
        left = (f"pool/{self.node}/{self.pool}",) if self.asked else ()
        return self.given_up(why, *left)

    def note(self, event: Event) -> "RemovePoolProcess":
        """Note what pool, disks and node say."""
        match event:
            case PoolRemovalWanted():
                return replace(self, asked=True)
            case PoolRemovalAbandoned():
                return replace(self, kept=True)
            case PoolRemoved():
                return replace(self, owed=frozenset(event.disks))
            case DiskReleased() if self.owed is not None:
                return replace(self, owed=self.owed - {event.disk})
            case PoolDetached():
                return replace(self, detached=True)
            case PoolTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case PoolOperationEnded():
                return replace(self, concluded=True)
            case _:
                return self


class RemoveNodeProcess(Process, frozen=True, kw_only=True):
    """A node without pools goes: its sightings of disks no longer count."""

    node: str
    disks: tuple[str, ...]
    forgotten: frozenset[str] = frozenset()
    concluded: bool = False

    def forward(self) -> Due | None:
        """Forget its disks, then the node."""
        for number, disk in enumerate(self.disks):
            if disk not in self.forgotten:
                return Due("forget", ReportDiskForgotten(disk=disk, node=self.node), number)
        return self.completed() if self.succeeded else self._conclude(removed=True)

    def back(self, why: GivingUp) -> Due | None:
        """Let the node stay; its worker's next report brings its disks back."""
        return self.given_up(why) if self.concluded else self._conclude(removed=False)

    def note(self, event: Event) -> "RemoveNodeProcess":
        """Note what disks and node say."""
        match event:
            case DiskForgotten():
                return replace(self, forgotten=self.forgotten | {event.disk})
            case NodeRemoved():
                return self.success()
            case NodeRemovalEnded():
                return replace(self, concluded=True)
            case _:
                return self

    def _conclude(self, *, removed: bool) -> Due:
        ended = ConcludeNode(node=self.node, operation=self.operation, removed=removed)
        return Due("ended", ended)


def begin_pool(event: PoolRemovalBegan) -> RemovePoolProcess:
    """Return the operation that removes a pool."""
    return RemovePoolProcess(
        operation=event.operation,
        kind=OperationKind.POOL_REMOVE,
        object=f"pool/{event.node}/{event.pool}",
        deadline=event.deadline,
        pool=event.pool,
        node=event.node,
    )


def begin_node(event: NodeRemovalBegan) -> RemoveNodeProcess:
    """Return the operation that removes a node."""
    return RemoveNodeProcess(
        operation=event.operation,
        kind=OperationKind.NODE_REMOVE,
        object=f"node/{event.node}",
        deadline=event.deadline,
        node=event.node,
        disks=event.disks,
    )
