"""How a pool became what it is: its events applied, one after another."""

from typing import assert_never

from msgspec.structs import replace

from aggregates.ledger import Ledger, Posting
from aggregates.pool import Pool, PoolPhase
from aggregates.thin_growth import ThinGrowth
from schemas.growing import (
    ThinGrowthEvent,
    ThinPoolGrown,
    ThinPoolGrowthAbandoned,
    ThinPoolGrowthBegan,
    ThinPoolGrowthWanted,
    ThinPoolKept,
)
from schemas.pool import (
    PoolBuildWanted,
    PoolDisksDropped,
    PoolEvent,
    PoolExtensionWanted,
    PoolFacts,
    PoolFactsChanged,
    PoolFormed,
    PoolFormingBegan,
    PoolGrown,
    PoolGrowthAbandoned,
    PoolGrowthBegan,
    PoolOperationEnded,
    PoolRemovalAbandoned,
    PoolRemovalBegan,
    PoolRemovalWanted,
    PoolRemoved,
    PoolTroubled,
    RoomReleased,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
    ThinPoolFilled,
)
from schemas.shrinking import (
    PoolDisksKept,
    PoolShrinkAbandoned,
    PoolShrinkBegan,
    PoolShrinkWanted,
    PoolShrunk,
    ShrinkEvent,
)


def evolve(pool: Pool, event: PoolEvent | ShrinkEvent | ThinGrowthEvent) -> Pool:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    if isinstance(event, ThinGrowthEvent | ThinPoolFilled):
        return _thin(pool, event)
    match event:
        case RoomReserved() | RoomUnreserved() | RoomSettled() | RoomReleased():
            return replace(pool, ledger=_posted(pool.ledger, event))
        case PoolFormingBegan():
            return _forming(event)
        case PoolBuildWanted() | PoolExtensionWanted():
            return replace(pool, asked=True, trouble=None)
        case PoolFormed() | PoolGrown() | PoolFactsChanged():
            return _as_observed(pool, event)
        case PoolGrowthBegan():
            return replace(
                pool, operation=event.operation, adding=event.disks, asked=False, trouble=None
            )
        case PoolGrowthAbandoned():
            return replace(pool, adding=(), dropping=event.dropped, trouble=None)
        case PoolDisksDropped():
            left = tuple(disk for disk in pool.dropping if disk not in event.disks)
            return replace(pool, dropping=left)
        case PoolShrinkBegan() | PoolShrinkWanted() | PoolShrunk():
            return _shrinking(pool, event)
        case PoolShrinkAbandoned() | PoolDisksKept():
            return _shrinking(pool, event)
        case PoolRemovalBegan():
            return replace(
                pool,
                phase=PoolPhase.REMOVING,
                operation=event.operation,
                asked=False,
                trouble=None,
            )
        case PoolRemovalWanted():
            return replace(pool, phase=PoolPhase.GOING, asked=True, trouble=None)
        case PoolRemovalAbandoned():
            return replace(pool, phase=PoolPhase.READY, trouble=None)
        case PoolRemoved():
            return Pool()
        case PoolOperationEnded():
            return replace(pool, operation="", asked=False)
        case PoolTroubled():
            return replace(pool, trouble=(event.code, event.because))
        case _:
            assert_never(event)


def _shrinking(pool: Pool, event: ShrinkEvent) -> Pool:
    match event:
        case PoolShrinkBegan():
            return replace(
                pool,
                operation=event.operation,
                leaving=event.disks,
                leaving_bytes=event.leaving_bytes,
                asked=False,
                trouble=None,
            )
        case PoolShrinkWanted():
            return replace(pool, asked=True, trouble=None)
        case PoolShrunk():
            return replace(
                pool,
                facts=event.facts,
                disks=tuple(disk for disk in pool.disks if disk not in pool.leaving),
                dropping=pool.leaving,
                leaving=(),
                leaving_bytes=0,
                trouble=None,
            )
        case PoolShrinkAbandoned():
            return replace(pool, leaving=(), leaving_bytes=0, keeping=event.kept, trouble=None)
        case PoolDisksKept():
            left = tuple(disk for disk in pool.keeping if disk not in event.disks)
            return replace(pool, keeping=left)
        case _:
            assert_never(event)


def _thin(pool: Pool, event: ThinGrowthEvent | ThinPoolFilled) -> Pool:
    match event:
        case ThinPoolFilled():
            metadata_percent = event.metadata_percent
            filled = replace(pool, thin_percent=event.data_percent)
            return replace(filled, thin_metadata_percent=metadata_percent)
        case ThinPoolGrowthBegan():
            growth = ThinGrowth(
                from_bytes=event.from_bytes,
                thin_bytes=event.thin_bytes,
                metadata_bytes=event.metadata_bytes,
                reserved_bytes=event.reserved_bytes,
            )
            began = replace(pool, operation=event.operation, asked=False, trouble=None)
            return replace(began, thin_growth=growth)
        case ThinPoolGrowthWanted():
            return replace(pool, asked=True, trouble=None)
        case ThinPoolGrowthAbandoned():
            growth_ = pool.thin_growth
            given_up = None if growth_ is None else replace(growth_, given_up=True)
            return replace(pool, thin_growth=given_up, trouble=None)
        case ThinPoolGrown() | ThinPoolKept():
            had = 0 if pool.facts is None else pool.facts.thin_bytes
            has = replace(pool, facts=event.facts, thin_growth=None)
            has = replace(has, thin_bytes=event.facts.thin_bytes or pool.thin_bytes)
            if isinstance(event, ThinPoolKept) and event.facts.thin_bytes == had:
                return has
            # How full it was says nothing of what it has now: that is told anew.
            return replace(has, thin_percent=0, thin_metadata_percent=0, trouble=None)
        case _:
            assert_never(event)


def _forming(event: PoolFormingBegan) -> Pool:
    return Pool(
        phase=PoolPhase.FORMING,
        uid=event.uid,
        operation=event.operation,
        disks=event.disks,
        thin_bytes=event.thin_bytes,
        thin_ratio_percent=event.thin_ratio_percent,
        volumes_max=event.volumes_max,
    )


def _as_observed(pool: Pool, event: PoolFormed | PoolGrown | PoolFactsChanged) -> Pool:
    observed: PoolFacts = event.facts
    match event:
        case PoolFormed():
            return replace(pool, phase=PoolPhase.READY, facts=observed, trouble=None)
        case PoolGrown():
            return replace(
                pool,
                facts=observed,
                disks=(*pool.disks, *pool.adding),
                adding=(),
                trouble=None,
            )
        case PoolFactsChanged():
            return replace(pool, facts=observed)
        case _:
            assert_never(event)


def _posted(
    ledger: Ledger, event: RoomReserved | RoomUnreserved | RoomSettled | RoomReleased
) -> Ledger:
    match event:
        case RoomReserved():
            return ledger.reserve(
                event.claim, Posting(event.size_bytes, event.thin, event.operation)
            )
        case RoomUnreserved():
            return ledger.unreserve(event.claim)
        case RoomSettled():
            return ledger.settle(event.claim, Posting(event.size_bytes, event.thin))
        case RoomReleased():
            return ledger.release(event.claim)
        case _:
            assert_never(event)
