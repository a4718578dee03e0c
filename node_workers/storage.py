"""What the hands ask of the storage of a machine: that it be so, whatever it is now."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from node_workers.errands import Going
from node_workers.ports import (
    Attachment,
    Consistency,
    CopyOf,
    CopyState,
    Lead,
    PoolDisk,
    PoolState,
    SnapshotSpec,
    SnapshotState,
    StableDevice,
    ThinPoolState,
    VolumeSpec,
    VolumeState,
)
from schemas.backups import FromBackup
from schemas.disk import Wiping
from schemas.errand import Errand, Found
from schemas.mending import Mend, SeenVolume


class Storage(Protocol):
    """Storage on one machine, level-triggered: every method says *shall be*, never *do*.

    Every method looks before it acts, may be repeated after a crash anywhere inside it, never
    touches what does not carry our tags, and never destroys data except by ``removed``. All may
    raise ``ToolFailedError`` and ``ToolTimedOutError`` (repeat later) and ``RefusedToTouchError``
    (nothing was changed by the refusing step). The contract is executable:
    ``tests/contract/test_storage_contract.py``.
    """

    async def ensure_pool(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> PoolState:
        """Have a volume group *name*, tagged *uid*, on at least *disks*, each disk stamped."""
        ...

    async def ensure_pool_disks(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> PoolState:
        """Have *disks* in the existing pool. Raises ``NotThereError`` if there is no pool."""
        ...

    async def ensure_pool_disks_removed(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> PoolState:
        """Have *disks* outside of the pool and blank again, nothing of the pool being on them.

        Raises ``InUseError`` if something is, and ``NotThereError`` if there is no pool.
        """
        ...

    async def ensure_pool_disks_drained(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> bool:
        """Have nothing of the pool on *disks*, one volume a call; returns whether it is so.

        Volumes stay in use. Nothing new is put on *disks* from the first call on, until they are
        kept. May be cancelled: what was moved stays moved, and the next call goes on. Raises
        ``NoSpaceError`` if the other disks cannot take it, ``NotThereError`` if there is no pool.
        """
        ...

    async def ensure_pool_disks_kept(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> None:
        """Have *disks* of the pool take volumes again, and nothing on its way off them."""
        ...

    async def ensure_pool_removed(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> None:
        """Have no pool *uid*, and its *disks* blank. Raises ``InUseError`` if it has volumes."""
        ...

    async def ensure_thin_pool(
        self, uid: str, pool: str, size_bytes: int, *, cause: str
    ) -> ThinPoolState:
        """Have a thin pool of at least *size_bytes* in the pool *uid* named *pool*.

        Raises ``NoSpaceError`` and ``NotThereError``.
        """
        ...

    async def ensure_thin_pool_size(
        self, uid: str, pool: str, size_bytes: int, metadata_bytes: int, *, cause: str
    ) -> ThinPoolState:
        """Have the thin pool that is there at least so large, in use; it is never made.

        Of metadata it has what its data needs, and at least *metadata_bytes*. Raises
        ``NoSpaceError``, and ``NotThereError`` if there is no thin pool.
        """
        ...

    async def ensure_volume(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> VolumeState:
        """Have the volume, at least as large as asked, active, with its filesystem made.

        A device is formatted only while it is blank. An encrypted one is closed again. Raises
        ``NoSpaceError``, ``NotThereError``, ``UnsuitableError``, and ``NoKeyError`` before anything
        is made.
        """
        ...

    async def ensure_copied(
        self, pool_uid: str, spec: VolumeSpec, source: CopyOf | FromBackup, *, cause: str
    ) -> CopyState:
        """Have the volume with what the snapshot or backup holds, some seconds of it a call.

        Each call goes on where the last one ended; it may be cancelled, and nothing of the source
        is changed. A filesystem gets an identity of its own and fills the volume. Raises
        ``NoSpaceError``, ``NotThereError``, and ``UnsuitableError`` if the snapshot overflowed, the
        backup is not whole, or the volume does not give back what was written to it. ``LoanError``:
        another node has the snapshot, and it cannot be had from there now.
        """
        ...

    async def ensure_snapshot_readable(
        self, pool_uid: str, pool: str, uid: str, name: str, *, cause: str
    ) -> str:
        """Have the snapshot active; return the path of its device.

        Raises ``NotThereError``, and ``UnsuitableError`` if it overflowed.
        """
        ...

    async def do_errand(
        self, operation: str, errand: Errand, pool_uid: str, *, cause: str
    ) -> Found | Going:
        """Do more of *errand*, some seconds a call, on from where the last call ended.

        Done again once it was done, it finds the same. Raises ``NoCredentialsError``,
        ``NotThereError``, and ``UnsuitableError`` for what can never be done so.
        """
        ...

    async def ensure_no_errand(
        self, operation: str, errand: Errand, pool_uid: str, *, cause: str
    ) -> None:
        """Have nothing left of *errand* on this machine."""
        ...

    async def ensure_volume_size(
        self, pool_uid: str, spec: VolumeSpec, *, cause: str
    ) -> VolumeState:
        """Have the volume and its filesystem at least ``spec.size_bytes`` large, in use or not.

        Raises ``NoSpaceError`` and ``NotThereError``; ``NoKeyError``, and ``UnsuitableError`` if no
        key opens it: then nothing was changed.
        """
        ...

    async def ensure_volume_keys(
        self, pool_uid: str, spec: VolumeSpec, dropped: tuple[str, ...], *, cause: str
    ) -> None:
        """Have the encrypted volume open by each of ``spec.keys``, and by none of *dropped*.

        At every moment one of both opens it. Raises ``NoKeyError``, ``NotThereError`` if its header
        is lost, and ``UnsuitableError`` if no key opens it or two are the same.
        """
        ...

    async def ensure_volume_removed(
        self, pool_uid: str, pool: str, uid: str, name: str, *, cause: str
    ) -> None:
        """Have no volume or snapshot *uid*, a volume's signatures and keys wiped.

        Raises ``InUseError`` while it is used, or has thick snapshots, which would go with it.
        """
        ...

    async def ensure_whole_disk(
        self, spec: VolumeSpec, disk: PoolDisk, *, cause: str
    ) -> VolumeState:
        """Have the volume as the only one in a group ``spec.pool`` on *disk* alone, tagged its uid.

        Otherwise as ``ensure_volume``. The disk must be blank: what carries anything is refused.
        """
        ...

    async def ensure_disk_freed(
        self, spec: VolumeSpec, disk: PoolDisk, *, wiping: Wiping, cause: str
    ) -> None:
        """Have neither the volume nor its group, and *disk*, wherever it is now, wiped and blank.

        Everything is discarded where the device can, or written over if so asked; in any case
        nothing is left by which anybody would recognise what was there. Only what carries our label
        is touched. Raises ``InUseError``, and ``RefusedToTouchError`` (disk-missing) while the disk
        is not here and not given up as lost.
        """
        ...

    async def is_disk_going(self, spec: VolumeSpec, disk: PoolDisk, *, cause: str) -> bool:
        """Return whether *disk* is here, and freeing it had come so far that the volume is gone."""
        ...

    async def ensure_mended(
        self, pool_uid: str, spec: VolumeSpec, mend: Mend, seen: SeenVolume | None, *, cause: str
    ) -> VolumeState | None:
        """Have the volume put right in the way of *mend*; None if it is nowhere, and shall be so.

        Its size by hand is kept and filled (``size``); its name and at least its size are as in
        *spec* (``undo``); it is made anew, empty, if it is nowhere (``recreate``). Raises
        ``UnsuitableError`` (not-as-seen) if it is not as *seen*, or is somewhere after all, or
        nowhere: then nothing was changed.
        """
        ...

    async def ensure_left(
        self, pool_uid: str, spec: VolumeSpec, mend: Mend | None, *, cause: str
    ) -> VolumeState | None:
        """Have nothing half done of *mend*: what was just made anew is finished, and returned."""
        ...

    async def ensure_adopted(
        self, pool_uid: str, spec: VolumeSpec, seen: SeenVolume, *, cause: str
    ) -> VolumeState:
        """Have what was *seen* be the volume, under its name, with what is on it untouched.

        Raises ``UnsuitableError`` (not-as-seen) if it is another by now or no volume of ours can
        be so, ``InUseError`` if somebody has it open, ``RefusedToTouchError`` if its filesystem is
        of another kind or its name is taken: then nothing was changed.
        """
        ...

    async def ensure_given_back(
        self, pool_uid: str, spec: VolumeSpec, seen: SeenVolume, *, cause: str
    ) -> None:
        """Have what was to be adopted be nobody's, called as it was *seen*, with what is on it."""
        ...

    async def ensure_snapshot(
        self, pool_uid: str, spec: SnapshotSpec, *, cause: str
    ) -> SnapshotState:
        """Have the snapshot, active; one that is there is what it was when it was taken.

        Raises ``NoSpaceError`` and ``NotThereError``.
        """
        ...

    async def ensure_snapshots(
        self,
        wishes: Sequence[tuple[str, SnapshotSpec]],
        *,
        may_take: bool,
        cause: str,
        lead: Lead | None = None,
    ) -> tuple[SnapshotState, ...]:
        """Have these snapshots, each in the pool of that uid, of one instant; or none, and why.

        Those of an instant that was not seen to its end are removed and taken anew, if they
        *may* be taken; with a *lead*, other replicas are kept at the same instant. Raises
        ``NoSpaceError``, ``UnsuitableError`` if the volumes cannot be held still, and
        ``NotThereError`` if some are missing of an instant that has been.
        """
        ...

    async def prepare_turn(
        self, wishes: Sequence[tuple[str, SnapshotSpec]], turn: str, *, cause: str
    ) -> None:
        """Have nothing left of earlier turns, and all known that is needed to follow in this one.

        Raises ``NotThereError``, and ``UnsuitableError`` for an instant that is settled.
        """
        ...

    async def follow(self, turn: str, caught: Mapping[str, Consistency], *, cause: str) -> None:
        """Have the snapshots that were prepared, now: another node holds the volumes still.

        Raises ``UnsuitableError`` for a turn that was not prepared, and ``NoSpaceError``.
        """
        ...

    async def ensure_followed(
        self, wish: tuple[str, SnapshotSpec], turn: str, *, cause: str
    ) -> SnapshotState:
        """Have the snapshot that was taken in that turn. Raises ``NotThereError`` if none was."""
        ...

    async def ensure_moving(self, *, cause: str) -> tuple[str, ...]:
        """Have every stable device take I/O that nobody holds still just now.

        Returns the volumes of those that did not.
        """
        ...

    async def ensure_snapshot_kept(
        self, pool_uid: str, spec: SnapshotSpec, *, cause: str
    ) -> SnapshotState | None:
        """Have the snapshot, with at least its room; None if its merge had begun, and is done now.

        Raises ``NotThereError`` if there is no such snapshot and it was not merged, and
        ``NoSpaceError`` and ``UnsuitableError`` (it is lost) if it cannot have more room.
        """
        ...

    async def ensure_rolled_back(self, pool_uid: str, spec: SnapshotSpec, *, cause: str) -> None:
        """Have the volume as the snapshot has it, and the snapshot used up.

        Raises ``InUseError`` if somebody has either open, ``UnsuitableError`` if the snapshot is
        lost and ``NotThereError`` if it is missing and was not merged: then nothing was changed.
        """
        ...

    async def ensure_volume_unused(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> None:
        """Have the volume there with its data, but not active, which proves that nobody uses it.

        Raises ``InUseError`` while it is used, and ``NotThereError``.
        """
        ...

    async def ensure_volume_awake(
        self, pool_uid: str, spec: VolumeSpec, *, cause: str
    ) -> VolumeState:
        """Have the volume active, whatever is on it. Raises ``NotThereError``."""
        ...

    async def ensure_active(
        self, pools: Mapping[str, str], *, cause: str, at_rest: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Have all our volumes in *pools* (uid by name) active, except those *at_rest* (uids).

        Returns the uids it activated.
        """
        ...

    async def ensure_attached(
        self, pool_uid: str, wanted: Attachment, *, cause: str
    ) -> StableDevice:
        """Have the stable device over the volume, the mount and the limits that are asked for.

        What is there is left running. Raises ``NotThereError``, ``LimitsError``, and
        ``InUseError`` if somebody uses the volume beside the stable device.
        """
        ...

    async def limits_hold(self, wanted: Attachment, number: str, *, cause: str) -> bool:
        """Return whether the limits stand for the device of that *number*; nothing is changed."""
        ...

    async def ensure_detached(
        self,
        wanted: Attachment,
        *,
        cause: str,
        parting: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Have neither mount, limits nor device. Raises ``InUseError`` while it is used.

        *parting* is told the number of the device when nobody uses it any more, and it still is.
        """
        ...
