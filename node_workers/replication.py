"""What the hands ask of replicated storage: that the legs of one volume hold the same, by DRBD.

A leg is a logical volume with head-room: DRBD keeps its metadata in the end of it, so that the
replicated device is as large as the volume, and what is on a volume never has to move when it
becomes replicated or plain again. DRBD does not open the logical volume but a dm-linear device over
it, ``hwbus:<volume>.leg``: two dm devices may lie on one logical volume, DRBD and another may not.
So the stable device can be swapped from one to the other while it is in use.
"""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Protocol

import msgspec

from node_workers.ports import Bytes, VolumeSpec, VolumeState
from node_workers.replication_spec import Member, ReplicationSpec

__all__ = [
    "Comparison",
    "Connection",
    "DiskState",
    "Generations",
    "Judge",
    "Member",
    "Peer",
    "ReplicatedStorage",
    "ReplicationSpec",
    "ReplicationState",
    "Role",
    "Start",
    "Sync",
    "Verdict",
]


class Role(StrEnum):
    """Who may write."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    UNKNOWN = "unknown"


class DiskState(StrEnum):
    """How good the data of a leg is, as DRBD knows it; ``unknown``: of a peer out of reach."""

    DISKLESS = "diskless"
    FAILED = "failed"
    INCONSISTENT = "inconsistent"
    OUTDATED = "outdated"
    CONSISTENT = "consistent"
    UP_TO_DATE = "up-to-date"
    UNKNOWN = "unknown"


class Connection(StrEnum):
    """How a leg stands to a peer; ``standalone`` is not even trying."""

    STANDALONE = "standalone"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class Sync(StrEnum):
    """What passes between two connected legs besides what is written."""

    NONE = "none"
    SOURCE = "source"
    TARGET = "target"
    PAUSED = "paused"
    VERIFYING = "verifying"


class Start(StrEnum):
    """What a leg without metadata holds when it is tied to its peers.

    ``data``: what counts, or nothing yet on all of them alike, so that nothing is to be copied.
    ``nothing``: all is to be copied to it. ``rolled-back``: what counts, and what is left of an
    earlier tie is of no account, since it was rolled back as well.
    """

    DATA = "data"
    NOTHING = "nothing"
    ROLLED_BACK = "rolled-back"


class Verdict(StrEnum):
    """What the log says to a leg that has lost its peer; ``unknown``: it cannot be asked."""

    GRANTED = "granted"
    LOST = "lost"
    UNKNOWN = "unknown"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A peer as this leg knows it; ``done_percent`` while a sync or verify runs."""

    node: str
    connection: Connection = Connection.STANDALONE
    role: Role = Role.UNKNOWN
    disk: DiskState = DiskState.UNKNOWN
    sync: Sync = Sync.NONE
    done_percent: float | None = None
    out_of_sync_bytes: Bytes = 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How far legs have been compared, or evened out; ``differing_bytes`` of them do so far.

    ``size_bytes`` is how much there is to be compared; 0: nobody knows of how much it is.
    """

    size_bytes: Bytes = 0
    done_bytes: Bytes = 0
    differing_bytes: Bytes = 0
    done: bool = False


class Generations(msgspec.Struct, frozen=True, kw_only=True):
    """The generation identifiers of a leg, as DRBD keeps them, in hexadecimal."""

    current: str
    bitmap: str = ""
    history: tuple[str, ...] = ()


class ReplicationState(msgspec.Struct, frozen=True, kw_only=True):
    """A leg as the kernel has it. ``frozen``: what is written waits for the log's verdict.

    ``split``: it has met a peer whose data went another way, and will not connect by itself.
    """

    volume: str
    role: Role
    disk: DiskState
    peers: tuple[Peer, ...]
    device: str
    size_bytes: Bytes = 0
    frozen: bool = False
    split: bool = False
    generations: Generations | None = None


class ReplicatedStorage(Protocol):
    """Replicated volumes on one machine, level-triggered like ``Storage``, with the same errors.

    ``UnsuitableError`` (reason ``cannot-replicate``): no DRBD is loaded and none can be, or the one
    that is cannot have so many members. Its contract: ``tests/support/replication_contract.py``.
    """

    async def ensure_replicated(
        self,
        pool_uid: str,
        leg: VolumeSpec,
        spec: ReplicationSpec,
        *,
        start: Start,
        may_create: bool,
        cause: str,
    ) -> ReplicationState:
        """Have the leg, which is there, tied to its peers, and its stable device on DRBD.

        ``leg.size_bytes`` has the head-room: the logical volume is extended to it first. Metadata
        is made only where *may_create* and where none is; metadata of ours that is there is kept,
        whatever *start* says. What an earlier tie (``Member.since``) left is none of it, and goes.
        Whether it is encrypted is no matter here: no key is needed, and none is had.
        If the volume is attached here, it goes on, now through DRBD, after a pause of milliseconds.
        Peers that left ``spec.members`` are disconnected, new ones connected. Returns the state,
        connected or not.

        Raises ``NotThereError`` (``metadata-missing``) if it was tied once and no metadata is left,
        or none that counts.
        """
        ...

    async def ensure_plain(self, pool_uid: str, leg: VolumeSpec, *, uid: str, cause: str) -> None:
        """Have nothing of DRBD on the leg; if attached here, it goes on, on the leg itself.

        The metadata is wiped, what is on the volume is not touched. Raises ``UnsuitableError``
        (``not-up-to-date``) if the leg is not: nothing was changed then.
        """
        ...

    async def ensure_replica_down(self, volume: str, uid: str, *, force: bool, cause: str) -> None:
        """Have the leg not running in DRBD, its metadata and data kept.

        Raises ``InUseError`` while it is attached here; with *force* what uses it gets I/O errors
        instead: mounts are taken away, and the stable device.
        """
        ...

    async def ensure_filesystem(
        self, leg: VolumeSpec, spec: ReplicationSpec, *, cause: str
    ) -> None:
        """Have the filesystem of a new volume on the replicated device, this node primary for it.

        Only on a blank device, connected or not. With ``leg.keys`` there is a header before it, by
        which the first of them opens it, and which is one for all legs. Nothing is primary, nor
        open, afterwards. Raises ``NoKeyError``, and ``RefusedToTouchError`` if anything else is
        there: a header is never made over what may be data.
        """
        ...

    async def ensure_replicated_keys(
        self,
        leg: VolumeSpec,
        spec: ReplicationSpec,
        dropped: tuple[str, ...],
        *,
        elsewhere: bool,
        cause: str,
    ) -> None:
        """Have the volume open by ``leg.keys``, and by none of *dropped*, in use or not.

        *elsewhere*: its header is another node's to write, and this one shall have all of them,
        which it may need some day. Raises as ``Storage.ensure_volume_keys`` does.
        """
        ...

    async def ensure_primary(self, spec: ReplicationSpec, *, cause: str) -> str:
        """Have this node primary; return the number ("147:3") of the replicated device.

        Raises ``UnsuitableError`` (``not-up-to-date``), ``InUseError`` (``peer-is-primary``), and
        ``NotThereError`` (``verdict-unknown``) if the peer is out of reach and the log as well.
        """
        ...

    async def ensure_secondary(self, volume: str, uid: str, *, force: bool, cause: str) -> None:
        """Have this node secondary. Raises ``InUseError`` while it is attached here.

        With *force* as in ``ensure_replica_down``, and the leg connected again afterwards, its data
        outdated if a peer has gone on without it.
        """
        ...

    async def ensure_replicated_size(
        self, pool_uid: str, leg: VolumeSpec, spec: ReplicationSpec, *, cause: str
    ) -> VolumeState:
        """Have the leg so large, and as soon as all legs are, device, stable device, filesystem.

        Of an encrypted volume a key is had before anything is extended where it is in use.
        The state tells the size of the replicated device: while another leg is smaller, so is it.
        """
        ...

    async def settle_split(self, spec: ReplicationSpec, *, loses: bool, cause: str) -> None:
        """Have the leg connect again after a split brain; one that *loses* gives its data up."""
        ...

    async def connect_anew(self, volume: str, uid: str, *, cause: str) -> None:
        """Have the leg give up looking for its peer and begin again.

        One that is written to, has met its peer, or has several, is left as it is.
        """
        ...

    async def ensure_metadata_spent(self, volume: str, uid: str, *, cause: str) -> None:
        """Have the leg not running, and never again in this tie: it is to be rolled back.

        Nothing if it is in none. Raises ``InUseError`` while it is attached here: nothing was
        changed then.
        """
        ...

    async def ensure_metadata_valid(self, volume: str, uid: str, *, cause: str) -> None:
        """Have the leg as it was before ``ensure_metadata_spent``: it was not rolled back."""
        ...

    async def compare(self, volume: str, uid: str, run: str, *, cause: str) -> Comparison:
        """Have the legs compared by checksum for *run*, some seconds a call; whoever uses them.

        Called again it goes on, in another life of the worker as well, and once it is done it says
        so again. Raises ``UnsuitableError`` (``verify-broken``) if a connection or a disk was lost.
        """
        ...

    async def even_out(self, volume: str, uid: str, *, cause: str) -> Comparison:
        """Have what is known to differ copied from the leg that is written to, or from this one.

        Some seconds a call. Raises ``UnsuitableError`` (``verify-broken``) if a peer was lost.
        """
        ...

    async def stop_comparing(self, volume: str, uid: str, run: str, *, cause: str) -> None:
        """Have nothing compared for *run* any more; what was found by then may be copied."""
        ...

    async def replication_states(self, *, cause: str) -> dict[str, ReplicationState]:
        """Return what the kernel has, of our volumes only, by the name of the volume."""
        ...

    def replication_changes(self) -> AsyncIterator[None]:
        """Yield whenever something of it may have changed; it ends only when cancelled."""
        ...


class Judge(Protocol):
    """Asks the log for a leg that has lost its peer."""

    async def __call__(self, volume: str, uid: str, peer: str) -> Verdict:
        """Return what the log says: may this node go on without *peer*?"""
        ...
