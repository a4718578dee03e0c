"""What this node shall have, object by object, and why; ``folding`` makes it of events."""

from enum import StrEnum
from typing import TypeVar

import msgspec

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
from schemas.disk import Wiping
from schemas.draining import PoolForgotten
from schemas.errand import (
    Errand,
)
from schemas.growing import (
    ThinPoolGrown,
    ThinPoolGrowthAbandoned,
    ThinPoolGrowthWanted,
    ThinPoolKept,
)
from schemas.instants import InstantSettled
from schemas.mending import (
    Mend,
    ReplicaMended,
    ReplicaMendLeft,
    ReplicaMendWanted,
    ReplicaMendWithdrawn,
    SeenVolume,
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
    Replication,
    SplitSettlingWanted,
    tie_of,
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


class Settling(StrEnum):
    """How a leg shall come out of a split brain."""

    NONE = "none"
    WINS = "wins"
    LOSES = "loses"


class WantedReplica(_Wanted, frozen=True, kw_only=True, omit_defaults=True, tag="replica"):
    """A leg of a volume; ``size_bytes`` is what was last reported of it, 0 before.

    ``withdrawn``: it was to go and shall stay, if it is still there. ``held``: nobody shall use
    it. ``spoilt``: its removal had begun, so what was on it may have been wiped. ``merging``: it
    is of a snapshot that shall become its volume. ``rekeying``: other keys shall open it;
    ``elsewhere``: its header is written on another node.
    ``wiping`` is how a whole disk is to go.
    ``mend``: so it shall be put right, if it is as ``seen``; ``leaving``: it shall not after all,
    ``give_back``: it shall be nobody's again.
    ``tied``: it has been tied to peers, so that its metadata is never made anew; ``untie``: it
    shall be tied to nobody any more. ``epoch`` is that of the volume as far as we were told,
    ``settling`` how it shall come out of a split brain.
    """

    volume: str
    spec: ReplicaSpec
    size_bytes: int = 0
    withdrawn: bool = False
    held: bool = False
    spoilt: bool = False
    merging: bool = False
    rekeying: bool = False
    elsewhere: bool = False
    wiping: Wiping = Wiping.DISCARD
    mend: Mend | None = None
    seen: SeenVolume | None = None
    leaving: bool = False
    give_back: bool = False
    tied: bool = False
    untie: bool = False
    epoch: int = 0
    settling: Settling = Settling.NONE

    @property
    def key(self) -> str:
        """Its lane."""
        return f"replica/{self.volume}"


class WantedAttachment(_Wanted, frozen=True, kw_only=True, omit_defaults=True, tag="attachment"):
    """A volume in use. It is made again whenever it is missing: nothing is lost with a device.

    ``forced``: it shall go also if somebody uses it.
    """

    volume: str
    spec: AttachmentSpec
    forced: bool = False

    @property
    def key(self) -> str:
        """Its lane."""
        return f"attachment/{self.volume}"


class WantedErrand(_Wanted, frozen=True, kw_only=True, omit_defaults=True, tag="errand"):
    """Work that is done once, until it is done or given up; its uid is its operation."""

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
    | PoolForgotten
    | ThinPoolGrown
    | ThinPoolKept
)
ReplicaWish = (
    ReplicaWanted
    | InstantSettled
    | ReplicaResizeWanted
    | ReplicaHoldWanted
    | ReplicaRemovalWanted
    | ReplicaMergeWanted
    | ReplicaRemovalWithdrawn
    | ReplicaRekeyWanted
    | ReplicaMendWanted
    | ReplicaMendWithdrawn
    | ReplicaTieWanted
    | SplitSettlingWanted
)
ReplicaNews = (
    ReplicaCreated
    | ReplicaResized
    | ReplicaHeld
    | ReplicaKept
    | ReplicaRekeyed
    | ReplicaRemoved
    | ReplicaTroubled
    | ReplicaMended
    | ReplicaMendLeft
    | ReplicaForgotten
    | EpochNoted
)
AttachmentWish = (
    AttachmentWanted | AttachmentLimitsWanted | AttachmentRemovalWanted | AttachmentRemovalWithdrawn
)
AttachmentNews = AttachmentMade | AttachmentRemoved | AttachmentTroubled


def is_anew(before: Replication | None, after: Replication | None, node: str) -> bool:
    """Return whether it is another tie: to that, what an earlier one has left is nothing."""
    several = before is not None and after is not None
    return several and tie_of(before, node) != tie_of(after, node)
