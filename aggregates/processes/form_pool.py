"""Making and growing a pool: claim the disks one by one, then have the node do it."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.disk import ClaimDisk, DiskClaimed, DiskReleased
from schemas.grammar import Event
from schemas.node import AttachPool, PoolAttached, PoolDetached
from schemas.operation import OperationKind
from schemas.pool import (
    AbandonPool,
    BuildPool,
    ConcludePool,
    ExtendPool,
    PoolBuildWanted,
    PoolDisksDropped,
    PoolExtensionWanted,
    PoolFormed,
    PoolFormingBegan,
    PoolGrown,
    PoolGrowthAbandoned,
    PoolGrowthBegan,
    PoolOperationEnded,
    PoolRemovalWanted,
    PoolRemoved,
    PoolTroubled,
)


class ClaimingProcess(Process, frozen=True, kw_only=True):
    """What forming and growing share. ``claimed`` are the disks this operation holds."""

    pool: str
    node: str
    disks: tuple[str, ...]
    claimed: frozenset[str] = frozenset()
    attached: bool = True
    asked: bool = False
    abandoned: bool = False
    undone: bool = False
    concluded: bool = False

    @property
    def forming(self) -> bool:
        """Whether the pool is new, so that nothing of it is to be left when it fails."""
        return self.kind is OperationKind.POOL_FORM

    def forward(self) -> Due | None:
        """Attach the pool to its node, claim the disks, have the node do it, conclude."""
        if self.succeeded:
            return self._conclude() or self.completed()
        if not self.attached:
            return Due(
                "attach",
                AttachPool(node=self.node, pool=self.pool, operation=self.operation),
            )
        for number, disk in enumerate(self.disks):
            if disk not in self.claimed:
                return Due("claim", self._claim(disk), number)
        if not self.asked:
            step = BuildPool if self.forming else ExtendPool
            wish = step(pool=self.pool, node=self.node, operation=self.operation)
            return Due("ask", wish)
        return None

    def back(self, why: GivingUp) -> Due | None:
        """Give up what was wanted, wait until nothing of it is left, conclude."""
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
        returned = self.undone and not self.claimed and not (self.forming and self.attached)
        if not returned and not self.out_of_time:
            return None
        left = () if returned else (f"pool/{self.node}/{self.pool}",)
        return self._conclude() or self.given_up(why, *left)

    def note(self, event: Event) -> "ClaimingProcess":
        """Note what node, disks and pool say."""
        match event:
            case PoolAttached():
                return replace(self, attached=True)
            case PoolDetached():
                return replace(self, attached=False)
            case DiskClaimed():
                return replace(self, claimed=self.claimed | {event.disk})
            case DiskReleased():
                return replace(self, claimed=self.claimed - {event.disk})
            case PoolBuildWanted() | PoolExtensionWanted():
                return replace(self, asked=True)
            case PoolFormed() | PoolGrown():
                return self.success()
            case PoolTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case PoolGrowthAbandoned() | PoolRemovalWanted():
                return replace(self, abandoned=True)
            case PoolDisksDropped():
                return replace(self, undone=True)
            case PoolRemoved():
                return replace(self, abandoned=True, undone=True, concluded=True)
            case PoolOperationEnded():
                return replace(self, concluded=True)
            case _:
                return self

    def _claim(self, disk: str) -> ClaimDisk:
        return ClaimDisk(disk=disk, node=self.node, pool=self.pool, operation=self.operation)

    def _conclude(self) -> Due | None:
        if self.concluded:
            return None
        ended = ConcludePool(pool=self.pool, node=self.node, operation=self.operation)
        return Due("ended", ended)


def begin_forming(event: PoolFormingBegan) -> ClaimingProcess:
    """Return the operation that makes a pool."""
    return ClaimingProcess(
        operation=event.operation,
        kind=OperationKind.POOL_FORM,
        object=f"pool/{event.node}/{event.pool}",
        deadline=event.deadline,
        pool=event.pool,
        node=event.node,
        disks=event.disks,
        attached=False,
    )


def begin_growing(event: PoolGrowthBegan) -> ClaimingProcess:
    """Return the operation that grows a pool."""
    return ClaimingProcess(
        operation=event.operation,
        kind=OperationKind.POOL_GROW,
        object=f"pool/{event.node}/{event.pool}",
        deadline=event.deadline,
        pool=event.pool,
        node=event.node,
        disks=event.disks,
    )
