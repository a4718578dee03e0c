"""Making a thin pool larger while it is in use: the room is set aside, the node extends it."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event
from schemas.growing import (
    ExtendThinPool,
    ThinPoolGrown,
    ThinPoolGrowthAbandoned,
    ThinPoolGrowthBegan,
    ThinPoolGrowthWanted,
    ThinPoolKept,
)
from schemas.operation import OperationKind
from schemas.pool import AbandonPool, ConcludePool, PoolOperationEnded, PoolTroubled


class GrowThinPoolProcess(Process, frozen=True, kw_only=True):
    """What has been extended stays so; giving up asks the node how much that is."""

    pool: str
    node: str
    asked: bool = False
    abandoned: bool = False
    kept: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Have the node extend it, wait until it has, conclude."""
        if self.succeeded:
            return self._conclude() or self.completed()
        if self.asked:
            return None
        extend = ExtendThinPool(pool=self.pool, node=self.node, operation=self.operation)
        return Due("ask", extend)

    def back(self, why: GivingUp) -> Due | None:
        """Want no more than there is, wait until the node has said what that is, conclude."""
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

    def note(self, event: Event) -> "GrowThinPoolProcess":
        """Note what node and pool say."""
        match event:
            case ThinPoolGrowthWanted():
                return replace(self, asked=True)
            case ThinPoolGrown():
                return self.success()
            case PoolTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case ThinPoolGrowthAbandoned():
                return replace(self, abandoned=True)
            case ThinPoolKept():
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


def begin(event: ThinPoolGrowthBegan) -> GrowThinPoolProcess:
    """Return the operation that *event* began."""
    return GrowThinPoolProcess(
        operation=event.operation,
        kind=OperationKind.THIN_POOL_GROW,
        object=f"pool/{event.node}/{event.pool}",
        deadline=event.deadline,
        pool=event.pool,
        node=event.node,
    )
