"""What is said about legs that hold the same: how they shall be tied, and how they are.

The words are DRBD's: https://linbit.com/drbd-user-guide/drbd-guide-9_0-en/ ("DRBD fundamentals",
"connection states", "disk states").
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.units import Bytes, Id, Name, Rate, SomeBytes, Text
from schemas.volume import Filesystem

MEMBERS_MAX = 8
Epoch = Annotated[int, msgspec.Meta(ge=0, description="Counts who may be primary, one by one.")]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Minor = Annotated[int, msgspec.Meta(ge=0, le=(1 << 20) - 1)]


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a node replicates one volume: the minor of its device, and where peers reach it.

    ``key`` is the public key of the node: what two members prove to each other is derived from
    their keys, and never said. ``since`` is the operation that tied the leg: what is left on the
    node of an earlier tie is no more good than nothing.
    """

    minor: _Minor
    port: _Port
    address: Text
    key: Text
    since: Id | None = None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One leg as its peers know it; ``index`` stays with it as long as it is one."""

    node: Name
    pool: Name
    index: Annotated[int, msgspec.Meta(ge=0, le=MEMBERS_MAX - 1)]
    link: Link


class Start(StrEnum):
    """What a leg holds when it is tied: what counts (or nothing yet, like all), or nothing.

    ``rolled-back``: what counts, whatever an earlier tie has left on it says: that is of then.
    """

    DATA = "data"
    NOTHING = "nothing"
    ROLLED_BACK = "rolled-back"


class Replication(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """To whom a leg is tied, itself included. ``size_bytes`` is that of the replicated device.

    ``filesystem`` is to be made on it, since it is new and blank; with ``header`` it is encrypted
    before.
    """

    members: Annotated[tuple[Member, ...], msgspec.Meta(min_length=1, max_length=MEMBERS_MAX)]
    size_bytes: Bytes
    start: Start = Start.DATA
    filesystem: Filesystem = Filesystem.NONE
    resync_bytes_per_s: Rate | None = None
    header: bool = False


def tie_of(tied: Replication | None, node: str) -> Id | None:
    """Return the operation that tied the leg on *node*; None: it is tied to nobody."""
    here = () if tied is None else (one.link.since for one in tied.members if one.node == node)
    return next(iter(here), None)


class LegDisk(StrEnum):
    """How good the data of a leg is; ``unknown``: of a peer out of reach."""

    DISKLESS = "diskless"
    FAILED = "failed"
    INCONSISTENT = "inconsistent"
    OUTDATED = "outdated"
    CONSISTENT = "consistent"
    UP_TO_DATE = "up-to-date"
    UNKNOWN = "unknown"


class Tie(StrEnum):
    """How a leg stands to a peer; ``standalone`` does not even try."""

    STANDALONE = "standalone"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class Sync(StrEnum):
    """What passes between two legs besides what is written."""

    NONE = "none"
    SOURCE = "source"
    TARGET = "target"
    PAUSED = "paused"
    VERIFYING = "verifying"


class PeerSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A peer as a leg knows it."""

    node: Name
    tie: Tie = Tie.STANDALONE
    primary: bool = False
    disk: LegDisk = LegDisk.UNKNOWN
    sync: Sync = Sync.NONE
    out_of_sync_bytes: SomeBytes = 0


class LegSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A leg as its node has it.

    ``frozen``: what is written waits for the log. ``split``: it has met a peer whose data went
    another way; ``generations`` are then those of this side.
    """

    primary: bool
    disk: LegDisk
    peers: Annotated[tuple[PeerSeen, ...], msgspec.Meta(max_length=MEMBERS_MAX)] = ()
    frozen: bool = False
    split: bool = False
    generations: Text = ""

    def peer(self, node: str) -> PeerSeen | None:
        """Return what is known of the peer on *node*."""
        return next((one for one in self.peers if one.node == node), None)


class TieReplica(Request, frozen=True, kw_only=True, omit_defaults=True, tag="replica.tie.v1"):
    """Step of replicating: the leg shall be so large and tied so, or to nobody."""

    volume: Name
    node: Name
    operation: Id
    size_bytes: Bytes
    replication: Replication | None = None


class ForgetReplica(Request, frozen=True, kw_only=True, tag="replica.forget.v1"):
    """Step of giving up a leg on a node that is lost: nothing is wanted of it any more."""

    volume: Name
    node: Name
    operation: Id


class SettleSplit(Request, frozen=True, kw_only=True, tag="replica.settle-split.v1"):
    """Step of ending a split brain: the leg shall connect again; ``loses``: without its data."""

    volume: Name
    node: Name
    operation: Id
    loses: bool


class NoteEpoch(Report, frozen=True, kw_only=True, tag="replica.report-epoch.v1"):
    """Tell a leg the epoch of its volume, so that what its node says can be told from the past."""

    volume: Name
    node: Name
    uid: Id
    epoch: Epoch


class ReportReplication(
    Report, frozen=True, kw_only=True, omit_defaults=True, tag="replica.report-replication.v1"
):
    """How the leg is tied, seen when its node knew the volume to be in that epoch."""

    volume: Name
    node: Name
    uid: Id
    epoch: Epoch
    seen: LegSeen


class ReplicaTieWanted(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="replica.tie-wanted.v1"
):
    """The leg shall be so large, and tied so; without ``replication`` to nobody."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    size_bytes: Bytes
    replication: Replication | None = None


class ReplicaForgotten(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="replica.forgotten.v1"
):
    """Nothing is wanted of the leg any more: its node is lost."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    pool: Name
    snapshot: bool = False


class SplitSettlingWanted(Event, frozen=True, kw_only=True, tag="replica.split-settling-wanted.v1"):
    """The leg shall connect again; ``loses``: without its data."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    loses: bool


class EpochNoted(Event, frozen=True, kw_only=True, tag="replica.epoch-noted.v1"):
    """The volume of the leg is in that epoch."""

    volume: Name
    node: Name
    uid: Id
    epoch: Epoch


class ReplicationChanged(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="replica.replication-changed.v1"
):
    """How the leg is tied has changed."""

    volume: Name
    node: Name
    uid: Id
    epoch: Epoch
    seen: LegSeen


ReplicationCommand = TieReplica | ForgetReplica | SettleSplit | NoteEpoch | ReportReplication
ReplicationEvent = (
    ReplicaTieWanted | ReplicaForgotten | SplitSettlingWanted | EpochNoted | ReplicationChanged
)
