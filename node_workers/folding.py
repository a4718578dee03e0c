"""From events to what this node shall have: one object, one commit after another."""

from collections.abc import Iterable
from typing import assert_never

from msgspec.structs import replace

from node_workers.wanted import (
    AttachmentNews,
    AttachmentWish,
    One,
    Origin,
    PoolNews,
    PoolWish,
    ReplicaNews,
    ReplicaWish,
    Settling,
    Wanted,
    WantedAttachment,
    WantedErrand,
    WantedPool,
    WantedReplica,
    is_anew,
)
from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentMade,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentRemoved,
    AttachmentTroubled,
    AttachmentWanted,
)
from schemas.draining import PoolForgotten
from schemas.errand import (
    ErrandDone,
    ErrandEvent,
    ErrandStopped,
    ErrandStopWanted,
    ErrandTroubled,
    ErrandWanted,
)
from schemas.grammar import Event
from schemas.growing import (
    ThinPoolGrown,
    ThinPoolGrowthAbandoned,
    ThinPoolGrowthWanted,
    ThinPoolKept,
)
from schemas.instants import InstantSettled
from schemas.keys import Encryption
from schemas.mending import (
    ReplicaMended,
    ReplicaMendLeft,
    ReplicaMendWanted,
    ReplicaMendWithdrawn,
)
from schemas.pool import (
    PoolBuildWanted,
    PoolDisksDropped,
    PoolExtensionWanted,
    PoolFacts,
    PoolFactsChanged,
    PoolFormed,
    PoolGrown,
    PoolGrowthAbandoned,
    PoolRemovalAbandoned,
    PoolRemovalWanted,
    PoolRemoved,
    PoolTroubled,
)
from schemas.replica import (
    ReplicaCreated,
    ReplicaHeld,
    ReplicaHoldWanted,
    ReplicaKept,
    ReplicaMergeWanted,
    ReplicaRekeyed,
    ReplicaRekeyWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaRemoved,
    ReplicaResized,
    ReplicaResizeWanted,
    ReplicaSpec,
    ReplicaTroubled,
    ReplicaWanted,
)
from schemas.replication import (
    EpochNoted,
    ReplicaForgotten,
    ReplicaTieWanted,
    SplitSettlingWanted,
)
from schemas.shrinking import PoolDisksKept, PoolShrinkAbandoned, PoolShrinkWanted, PoolShrunk
from schemas.volume import Filesystem

_OtherWish = ReplicaMendWanted | ReplicaMendWithdrawn | ReplicaTieWanted | SplitSettlingWanted


def fold(
    before: Wanted | None, events: Iterable[Event], origin: Origin, cause: str
) -> Wanted | None:
    """Return the object after one commit about it; None: nothing is wanted of it any longer.

    *cause* is the commit's own: a report of ours that came back as an event names the wish it
    answers. A commit that was folded before changes nothing.
    """
    if before is not None and origin.seq <= before.folded_seq:
        return before
    wanted = before
    for event in events:
        wanted = _fold(wanted, event, origin, cause)
    return None if wanted is None else replace(wanted, folded_seq=origin.seq)


def _fold(wanted: Wanted | None, event: Event, origin: Origin, cause: str) -> Wanted | None:
    if isinstance(event, PoolWish):
        return _wish_pool(wanted if isinstance(wanted, WantedPool) else None, event, origin)
    if isinstance(event, ReplicaWish):
        return _wish_replica(wanted if isinstance(wanted, WantedReplica) else None, event, origin)
    if isinstance(wanted, WantedPool) and isinstance(event, PoolNews):
        return _note_pool(wanted, event, cause)
    if isinstance(wanted, WantedReplica) and isinstance(event, ReplicaNews):
        return _note_replica(wanted, event, cause)
    if isinstance(event, ErrandEvent):
        return _fold_errand(
            wanted if isinstance(wanted, WantedErrand) else None, event, origin, cause
        )
    if isinstance(event, AttachmentWish):
        before = wanted if isinstance(wanted, WantedAttachment) else None
        return _wish_attachment(before, event, origin)
    if isinstance(wanted, WantedAttachment) and isinstance(event, AttachmentNews):
        return _note_attachment(wanted, event, cause)
    return wanted


def _wish_pool(before: WantedPool | None, event: PoolWish, origin: Origin) -> WantedPool:
    same = before is not None and before.uid == event.uid
    known = before if before is not None and same else _unmade(event, origin)
    pool = replace(known, origin=origin, present=True)
    match event:
        case PoolBuildWanted():
            return replace(
                pool,
                disks=event.disks,
                thin_bytes=event.thin_bytes,
                may_create=True,
                may_create_thin=True,
            )
        case PoolExtensionWanted():
            return replace(pool, disks=event.disks, dropped=_without(pool.dropped, event.disks))
        case PoolGrowthAbandoned():
            dropped = (*_without(pool.dropped, event.dropped), *event.dropped)
            return replace(pool, disks=event.disks, dropped=dropped)
        case PoolShrinkWanted():
            return replace(pool, disks=event.disks, leaving=event.leaving)
        case PoolShrinkAbandoned():
            return replace(pool, disks=event.disks, leaving=(), kept=event.kept)
        case PoolRemovalWanted():
            return replace(pool, present=False)
        case PoolRemovalAbandoned():
            return replace(pool, may_create_thin=True)
        case ThinPoolGrowthWanted() | ThinPoolGrowthAbandoned():
            wanted = event if isinstance(event, ThinPoolGrowthWanted) else None
            metadata_bytes = 0 if wanted is None else wanted.metadata_bytes
            grown = replace(pool, thin_bytes=event.thin_bytes, thin_growing=True)
            return replace(grown, metadata_bytes=metadata_bytes)
        case _:
            assert_never(event)


def _unmade(event: PoolWish, origin: Origin) -> WantedPool:
    return WantedPool(
        name=event.pool,
        uid=event.uid,
        origin=origin,
        folded_seq=0,
        may_create=False,
        may_create_thin=False,
    )


def _note_pool(pool: WantedPool, event: PoolNews, cause: str) -> WantedPool | None:
    match event:
        case PoolFormed() | PoolGrown() | PoolFactsChanged():
            if event.uid != pool.uid:
                return pool
            return _answered_by(there(pool, event.facts), cause)
        case PoolShrunk() | ThinPoolGrown() | ThinPoolKept():
            if event.uid != pool.uid:
                return pool
            known = there(pool, event.facts)
            leaving = () if isinstance(event, PoolShrunk) else known.leaving
            growing = known.thin_growing and isinstance(event, PoolShrunk)
            return _answered_by(replace(known, leaving=leaving, thin_growing=growing), cause)
        case PoolDisksKept():
            # The answer to the wish, also when the figures are what they were.
            return _answered_by(replace(pool, kept=_without(pool.kept, event.disks)), cause)
        case PoolDisksDropped():
            return replace(pool, dropped=_without(pool.dropped, event.disks))
        case PoolForgotten():
            return None
        case PoolRemoved():
            return None if event.uid == pool.uid else pool
        case PoolTroubled():
            return _given_up_by(pool, cause) if event.permanent else pool
        case _:
            assert_never(event)


def there(pool: WantedPool, facts: PoolFacts) -> WantedPool:
    """Return *pool* known to be there, with these facts."""
    return replace(pool, facts=facts, may_create=False, may_create_thin=False)


def _wish_replica(
    replica: WantedReplica | None, event: ReplicaWish, origin: Origin
) -> WantedReplica | None:
    if isinstance(event, ReplicaWanted):
        return WantedReplica(
            volume=event.volume,
            uid=event.spec.uid,
            spec=event.spec,
            origin=origin,
            folded_seq=0,
        )
    if replica is None or replica.uid != event.uid:
        return replica
    replica = replace(
        replica,
        origin=origin,
        present=True,
        withdrawn=False,
        held=False,
        merging=False,
        rekeying=False,
        leaving=False,
        give_back=False,
        settling=Settling.NONE,
    )
    if isinstance(event, _OtherWish):
        return _wish_other(replace(replica, may_create=False), event)
    match event:
        case InstantSettled() | ReplicaResizeWanted():
            return replace(replica, spec=_asked(replica.spec, event))
        case ReplicaRemovalWanted():
            return replace(replica, present=False, spoilt=True, wiping=event.wiping)
        case ReplicaHoldWanted():
            return replace(replica, may_create=False, withdrawn=True, held=True)
        case ReplicaMergeWanted():
            return replace(replica, may_create=False, merging=True)
        case ReplicaRemovalWithdrawn():
            return replace(replica, may_create=False, withdrawn=True)
        case ReplicaRekeyWanted():
            spec = replace(replica.spec, encryption=event.encryption)
            keyed = replace(replica, may_create=False, rekeying=True, spec=spec)
            return replace(keyed, elsewhere=event.elsewhere)
        case _:
            assert_never(event)


def _asked(spec: ReplicaSpec, event: InstantSettled | ReplicaResizeWanted) -> ReplicaSpec:
    if isinstance(event, InstantSettled):
        led = spec.together
        return replace(spec, together=None if led is None else replace(led, turn=event.turn))
    tied = spec.replication
    if tied is not None and event.device_bytes:
        tied = replace(tied, size_bytes=event.device_bytes)
    grown = replace(spec, size_bytes=event.size_bytes, replication=tied)
    known = event.filesystem is not Filesystem.NONE
    return replace(grown, filesystem=event.filesystem) if known else grown


def _wish_other(replica: WantedReplica, event: _OtherWish) -> WantedReplica:
    if isinstance(event, ReplicaMendWanted | ReplicaMendWithdrawn):
        return _wish_mend(replica, event)
    return _wish_tie(replica, event)


def _wish_tie(
    replica: WantedReplica, event: ReplicaTieWanted | SplitSettlingWanted
) -> WantedReplica:
    if isinstance(event, SplitSettlingWanted):
        return replace(replica, settling=Settling.LOSES if event.loses else Settling.WINS)
    tied = event.replication
    spec = replace(replica.spec, size_bytes=event.size_bytes, replication=tied, bare=False)
    was = replica.tied or replica.untie or replica.spec.replication is not None
    untie = tied is None and was
    anew = is_anew(replica.spec.replication, tied, event.node)
    return replace(replica, spec=spec, untie=untie, tied=replica.tied and not anew)


def _wish_mend(
    replica: WantedReplica, event: ReplicaMendWanted | ReplicaMendWithdrawn
) -> WantedReplica:
    if isinstance(event, ReplicaMendWithdrawn):
        return replace(replica, leaving=True, give_back=event.give_back)
    return replace(replica, mend=event.mend, seen=event.seen)


def _note_replica(replica: WantedReplica, event: ReplicaNews, cause: str) -> WantedReplica | None:
    if event.uid != replica.uid:
        return replica
    match event:
        case ReplicaCreated() | ReplicaResized() | ReplicaKept():
            known = there_as if cause == replica.origin.cause else still_there
            return _answered_by(known(replica, event.size_bytes), cause)
        case EpochNoted():
            return replace(replica, epoch=event.epoch)
        case ReplicaHeld():
            return _answered_by(replica, cause)
        case ReplicaRekeyed():
            return _answered_by(_rekeyed(replica, event), cause)
        case ReplicaMended() | ReplicaMendLeft():
            return _answered_by(_mended(replica, event), cause)
        case ReplicaRemoved() | ReplicaForgotten():
            return None
        case ReplicaTroubled():
            return _given_up_by(replica, cause) if event.permanent else replica
        case _:
            assert_never(event)


def still_there(replica: WantedReplica, size_bytes: int) -> WantedReplica:
    """Return *replica* known to be there so large; what is wanted by now is another matter."""
    return replace(replica, size_bytes=size_bytes, may_create=False, spoilt=False)


def there_as(replica: WantedReplica, size_bytes: int) -> WantedReplica:
    """Return *replica* known to be there so large, and tied as its spec says."""
    known = still_there(replica, size_bytes)
    # Done again, as what was answered may be, a split of another day would cost other data.
    known = replace(known, settling=Settling.NONE)
    return replace(known, tied=replica.spec.replication is not None, untie=False)


def _mended(replica: WantedReplica, event: ReplicaMended | ReplicaMendLeft) -> WantedReplica:
    at_rest = replace(replica, mend=None, seen=None, leaving=False)
    if isinstance(event, ReplicaMendLeft):
        return at_rest
    size_bytes = max(replica.spec.size_bytes, event.size_bytes)
    spec = replace(replica.spec, size_bytes=size_bytes)
    return replace(at_rest, size_bytes=event.size_bytes, spec=spec)


def _rekeyed(replica: WantedReplica, event: ReplicaRekeyed) -> WantedReplica:
    now = replica.spec.encryption
    if now is None or now.generation != event.generation:
        return replica
    done = Encryption(keys=event.keys, generation=event.generation)
    return replace(replica, spec=replace(replica.spec, encryption=done))


def _wish_attachment(
    attachment: WantedAttachment | None, event: AttachmentWish, origin: Origin
) -> WantedAttachment | None:
    if isinstance(event, AttachmentWanted):
        return WantedAttachment(
            volume=event.volume, uid=event.spec.uid, spec=event.spec, origin=origin, folded_seq=0
        )
    if attachment is None or attachment.uid != event.uid:
        return attachment
    attachment = replace(attachment, origin=origin, present=True)
    match event:
        case AttachmentLimitsWanted():
            return replace(attachment, spec=replace(attachment.spec, limits=event.limits))
        case AttachmentRemovalWanted():
            return replace(attachment, present=False, forced=event.forced)
        case AttachmentRemovalWithdrawn():
            return attachment
        case _:
            assert_never(event)


def _note_attachment(
    attachment: WantedAttachment, event: AttachmentNews, cause: str
) -> WantedAttachment | None:
    if event.uid != attachment.uid:
        return attachment
    match event:
        case AttachmentMade():
            return _answered_by(attachment, cause)
        case AttachmentRemoved():
            return None
        case AttachmentTroubled():
            return _given_up_by(attachment, cause) if event.permanent else attachment
        case _:
            assert_never(event)


def _fold_errand(
    errand: WantedErrand | None, event: ErrandEvent, origin: Origin, cause: str
) -> WantedErrand | None:
    match event:
        case ErrandWanted():
            uid, errand_ = event.operation, event.errand
            return WantedErrand(uid=uid, errand=errand_, origin=origin, folded_seq=0)
        case ErrandStopWanted():
            return None if errand is None else replace(errand, origin=origin, present=False)
        case ErrandDone() | ErrandStopped():
            return None
        case ErrandTroubled() if errand is not None and event.permanent:
            return _given_up_by(errand, cause)
        case _:
            return errand


def _answered_by(wanted: One, cause: str) -> One:
    answers = cause == wanted.origin.cause
    return replace(wanted, answered_seq=wanted.origin.seq) if answers else wanted


def _given_up_by(wanted: One, cause: str) -> One:
    answers = cause == wanted.origin.cause
    return replace(wanted, given_up_seq=wanted.origin.seq) if answers else wanted


def _without(names: tuple[str, ...], gone: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in gone)
