"""Taking disks out of a pool in use: the node empties them, then they are free; or all stays."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.disk import DiskReleased
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.pool import AbandonPool, ConcludePool, PoolOperationEnded, PoolTroubled
from schemas.shrinking import (
    DrainDisks,
    PoolDisksKept,
    PoolShrinkAbandoned,
    PoolShrinkBegan,
    PoolShrinkWanted,
    PoolShrunk,
)


class ShrinkPoolProcess(Process, frozen=True, kw_only=True):
    """Once the disks are out there is no way back; before, the way back loses nothing.

    ``owed`` are the disks that are not free yet.
    """

    pool: str
    node: str
    owed: frozenset[str]
    asked: bool = False
    abandoned: bool = False
    kept: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Have the node empty the disks, wait until they are free, conclude."""
        if self.succeeded:
            if self.owed and not self.out_of_time:
                return None
            return self._conclude() or self.completed()
        if self.asked:
            return None
        drain = DrainDisks(pool=self.pool, node=self.node, operation=self.operation)
        return Due("ask", drain)

    def back(self, why: GivingUp) -> Due | None:
        """Let the disks stay, wait until the node has confirmed it, conclude."""
        if not self.abandoned:
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
        if not self.kept and not self.out_of_time:
            return None
        left = () if self.kept else (f"pool/{self.node}/{self.pool}",)
        return self._conclude() or self.given_up(why, *left)

    def note(self, event: Event) -> "ShrinkPoolProcess":
        """Note what node, disks and pool say."""
        match event:
            case PoolShrinkWanted():
                return replace(self, asked=True)
            case PoolShrunk():
                return self.success()
            case DiskReleased():
                return replace(self, owed=self.owed - {event.disk})
            case PoolTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case PoolShrinkAbandoned():
                return replace(self, abandoned=True)
            case PoolDisksKept():
                return replace(self, kept=True)
            case PoolOperationEnded():
                return replace(self, concluded=True)
            case _:
                return self

    def _conclude(self) -> Due | None:
        if self.concluded:
            return None
        ended = ConcludePool(pool=self.pool, node=self.node, operation=self.operation)
        return Due("ended", ended)


def begin(event: PoolShrinkBegan) -> ShrinkPoolProcess:
    """Return the operation that *event* began."""
    return ShrinkPoolProcess(
        operation=event.operation,
        kind=OperationKind.POOL_SHRINK,
        object=f"pool/{event.node}/{event.pool}",
        deadline=event.deadline,
        pool=event.pool,
        node=event.node,
        owed=frozenset(event.disks),
    )
