"""What this node shall have: the fold of its events, object by object, and why each is wanted."""

from collections.abc import Iterable
from typing import TypeVar, assert_never

import msgspec
from msgspec.structs import replace

from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentMade,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentRemoved,
    AttachmentSpec,
    AttachmentTroubled,
    AttachmentWanted,
)
from schemas.errand import (
    Errand,
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
from schemas.keys import Encryption
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
from schemas.shrinking import PoolDisksKept, PoolShrinkAbandoned, PoolShrinkWanted, PoolShrunk


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why something is wanted: the event's sequence, the operation it belongs to, its trace."""

    seq: int
    correlation: str = ""
    traceparent: str = ""

    @property
    def cause(self) -> str:
        """How tools and reports name it."""
        return f"event:{self.seq}"


class _Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What pools and replicas have in common.

    ``may_create`` holds until the thing was there once: what was there and is missing is drift,
    and is never made again, because it would be made empty. ``answered_seq`` is the origin whose
    outcome has been reported, ``given_up_seq`` the one that failed for good, ``folded_seq`` the
    last event of this object that counts in here.
    """

    uid: str
    origin: Origin
    folded_seq: int
    present: bool = True
    may_create: bool = True
    answered_seq: int = 0
    given_up_seq: int = 0

    @property
    def open(self) -> bool:
        """Whether something remains to be done for it."""
        return self.origin.seq not in {self.answered_seq, self.given_up_seq}


class WantedPool(_Wanted, frozen=True, kw_only=True, omit_defaults=True, tag="pool"):
    """A pool; ``dropped`` are disks that shall leave it, ``facts`` what the log has of it.

    ``leaving`` are disks to be emptied before they leave, ``kept`` those that stay after all.

    ``may_create_thin``: its thin pool was never there, or had to go with an empty pool. One that
    held volumes and is missing is never made again. ``thin_growing``: how large it is is to be
    looked at and told; it shall have ``metadata_bytes`` at least.
    """

    name: str
    may_create_thin: bool = True
    disks: tuple[str, ...] = ()
    thin_bytes: int = 0
    dropped: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    facts: PoolFacts | None = None
    thin_growing: bool = False
    metadata_bytes: int = 0

    @property
    def key(self) -> str:
        """Its lane."""
        return f"pool/{self.name}"


class WantedReplica(_Wanted, frozen=True, kw_only=True, omit_defaults=True, tag="replica"):
    """A leg of a volume; ``size_bytes`` is what was last reported of it, 0 before.

    ``withdrawn``: it was to go and shall stay, if it is still there. ``held``: nobody shall use
    it. ``spoilt``: its removal had begun, so what was on it may have been wiped. ``merging``: it
    is of a snapshot that shall become its volume. ``rekeying``: other keys shall open it.
    """

    volume: str
    spec: ReplicaSpec
    size_bytes: int = 0
    withdrawn: bool = False
    held: bool = False
    spoilt: bool = False
    merging: bool = False
    rekeying: bool = False

    @property
    def key(self) -> str:
        """Its lane."""
        return f"replica/{self.volume}"


class WantedAttachment(_Wanted, frozen=True, kw_only=True, omit_defaults=True, tag="attachment"):
    """A volume in use. It is made again whenever it is missing: nothing is lost with a device."""

    volume: str
    spec: AttachmentSpec

    @property
    def key(self) -> str:
        """Its lane."""
        return f"attachment/{self.volume}"


class WantedErrand(_Wanted, frozen=True, kw_only=True, omit_defaults=True, tag="errand"):
    """Work with a backup target, until it is done or given up; its uid is its operation."""

    errand: Errand

    @property
    def key(self) -> str:
        """Its lane."""
        return f"errand/{self.uid}"


Wanted = WantedPool | WantedReplica | WantedAttachment | WantedErrand
One = TypeVar("One", WantedPool, WantedReplica, WantedAttachment, WantedErrand)

PoolWish = (
    PoolBuildWanted
    | PoolExtensionWanted
    | PoolGrowthAbandoned
    | PoolRemovalWanted
    | PoolRemovalAbandoned
    | PoolShrinkWanted
    | PoolShrinkAbandoned
    | ThinPoolGrowthWanted
    | ThinPoolGrowthAbandoned
)
PoolNews = (
    PoolFormed
    | PoolGrown
    | PoolShrunk
    | PoolFactsChanged
    | PoolDisksDropped
    | PoolDisksKept
    | PoolRemoved
    | PoolTroubled
    | ThinPoolGrown
    | ThinPoolKept
)
ReplicaWish = (
    ReplicaWanted
    | ReplicaResizeWanted
    | ReplicaHoldWanted
    | ReplicaRemovalWanted
    | ReplicaMergeWanted
    | ReplicaRemovalWithdrawn
    | ReplicaRekeyWanted
)
ReplicaNews = (
    ReplicaCreated
    | ReplicaResized
    | ReplicaHeld
    | ReplicaKept
    | ReplicaRekeyed
    | ReplicaRemoved
    | ReplicaTroubled
)
AttachmentWish = (
    AttachmentWanted | AttachmentLimitsWanted | AttachmentRemovalWanted | AttachmentRemovalWithdrawn
)
AttachmentNews = AttachmentMade | AttachmentRemoved | AttachmentTroubled


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
    )
    match event:
        case ReplicaResizeWanted():
            return replace(replica, spec=replace(replica.spec, size_bytes=event.size_bytes))
        case ReplicaRemovalWanted():
            return replace(replica, present=False, spoilt=True)
        case ReplicaHoldWanted():
            return replace(replica, may_create=False, withdrawn=True, held=True)
        case ReplicaMergeWanted():
            return replace(replica, may_create=False, merging=True)
        case ReplicaRemovalWithdrawn():
            return replace(replica, may_create=False, withdrawn=True)
        case ReplicaRekeyWanted():
            spec = replace(replica.spec, encryption=event.encryption)
            return replace(replica, may_create=False, rekeying=True, spec=spec)
        case _:
            assert_never(event)


def _note_replica(replica: WantedReplica, event: ReplicaNews, cause: str) -> WantedReplica | None:
    if event.uid != replica.uid:
        return replica
    match event:
        case ReplicaCreated() | ReplicaResized() | ReplicaKept():
            known = replace(replica, size_bytes=event.size_bytes, may_create=False, spoilt=False)
            return _answered_by(known, cause)
        case ReplicaHeld():
            return _answered_by(replica, cause)
        case ReplicaRekeyed():
            return _answered_by(_rekeyed(replica, event), cause)
        case ReplicaRemoved():
            return None
        case ReplicaTroubled():
            return _given_up_by(replica, cause) if event.permanent else replica
        case _:
            assert_never(event)


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
            return replace(attachment, present=False)
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
