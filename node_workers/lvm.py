"""Storage by LVM: pools are volume groups, volumes are logical volumes, tags say whose they are."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from node_workers.attachments import Attachments, Parting
from node_workers.backup_tool import BackupTool
from node_workers.drbd import DrbdReplication
from node_workers.drbd_legs import Replicating
from node_workers.errands import Errands, Going
from node_workers.keys import KeySource, NoKeys
from node_workers.loans import Borrower
from node_workers.luks import Luks
from node_workers.lvm_copies import Copies
from node_workers.lvm_followers import Followers
from node_workers.lvm_instants import Instants, Wish
from node_workers.lvm_mending import Mending
from node_workers.lvm_moves import Moves
from node_workers.lvm_pools import Pools, pool_state
from node_workers.lvm_raw_disks import RawDisks
from node_workers.lvm_snapshots import Snapshots
from node_workers.lvm_thin import ThinPools
from node_workers.lvm_tied import TiedStorage
from node_workers.lvm_volumes import Volumes
from node_workers.ports import (
    Attachment,
    Consistency,
    CopyOf,
    CopyState,
    Lead,
    PoolDisk,
    PoolState,
    Runner,
    SnapshotSpec,
    SnapshotState,
    StableDevice,
    Sysfs,
    ThinPoolState,
    VolumeSpec,
    VolumeState,
)
from node_workers.replication import ReplicationState
from node_workers.stillness import ensure_moving
from schemas.backups import FromBackup
from schemas.disk import Wiping
from schemas.errand import Errand, Found
from schemas.mending import Mend, SeenVolume

COPIES_FOLDER = "/var/lib/hwbus/copies"


class LvmStorage(TiedStorage):
    """The ``Storage`` port on LVM, as described there. One instance a machine.

    How far copies are is kept in *folder*, which shall outlive a boot; *secrets* gives the
    credentials of backup targets, and *borrower* asks other nodes for what is to be copied. Without
    *replicating*, this machine can have no replicated volumes.
    """

    def __init__(
        self,
        runner: Runner,
        sysfs: Sysfs,
        *,
        node: str,
        keys: KeySource | None = None,
        folder: str = COPIES_FOLDER,
        credentials: KeySource | None = None,
        borrower: Borrower | None = None,
        replicating: Replicating | None = None,
    ) -> None:
        luks = Luks(runner, keys or NoKeys())
        self._pools = Pools(runner, sysfs, node)
        self._thin_pools = ThinPools(runner)
        self._moves = Moves(runner)
        self._volumes = Volumes(runner, luks)
        self._raw_disks = RawDisks(runner, sysfs, node, self._pools, self._volumes)
        self._attachments = Attachments(runner, luks, self._tied)
        super().__init__(
            None
            if replicating is None
            else DrbdReplication(runner, self._volumes, luks, replicating, node=node)
        )
        self._runner = runner
        self._instants = Instants(runner, self._replicated)
        self._followers = Followers(runner)
        self._snapshots = Snapshots(runner, luks, self._instants)
        tool = BackupTool(runner, credentials or keys or NoKeys(), folder)
        self._copies = Copies(runner, self._volumes, folder, tool, borrower or Borrower(node))
        self._mending = Mending(runner, self._volumes)
        self._errands = Errands(runner, self._volumes, tool, self._mending)

    async def ensure_pool(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> PoolState:
        """Have the pool on at least *disks*."""
        group = await self._pools.ensure(uid, name, disks, must_exist=False, cause=cause)
        self._volumes.note(group)
        return pool_state(group)

    async def ensure_pool_disks(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> PoolState:
        """Have *disks* in the pool, which exists."""
        group = await self._pools.ensure(uid, name, disks, must_exist=True, cause=cause)
        self._volumes.note(group)
        return pool_state(group)

    async def ensure_pool_disks_removed(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> PoolState:
        """Have *disks* outside of the pool, blank."""
        group = await self._pools.ensure_disks_removed(uid, name, disks, cause=cause)
        self._volumes.note(group)
        return pool_state(group)

    async def ensure_pool_disks_drained(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> bool:
        """Have less on *disks*; returns whether nothing is left."""
        return await self._moves.drain(uid, name, disks, cause=cause)

    async def ensure_pool_disks_kept(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> None:
        """Have *disks* used again."""
        await self._moves.keep(uid, name, disks, cause=cause)

    async def ensure_pool_removed(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> None:
        """Have no such pool, and its disks blank."""
        self._volumes.forget(name)
        await self._pools.ensure_removed(uid, name, disks, cause=cause)

    async def ensure_thin_pool(
        self, uid: str, pool: str, size_bytes: int, *, cause: str
    ) -> ThinPoolState:
        """Have a thin pool of at least *size_bytes*."""
        state, group = await self._thin_pools.ensure(uid, pool, size_bytes, cause=cause)
        self._volumes.note(group)
        return state

    async def ensure_thin_pool_size(
        self, uid: str, pool: str, size_bytes: int, metadata_bytes: int, *, cause: str
    ) -> ThinPoolState:
        """Have the thin pool that is there at least so large."""
        state, group = await self._thin_pools.ensure(
            uid, pool, size_bytes, metadata_bytes, must_exist=True, cause=cause
        )
        self._volumes.note(group)
        return state

    async def ensure_volume(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> VolumeState:
        """Have the volume with its filesystem."""
        async with self._alone(spec.uid):
            return await self._volumes.ensure(pool_uid, spec, cause=cause)

    async def ensure_copied(
        self, pool_uid: str, spec: VolumeSpec, source: CopyOf | FromBackup, *, cause: str
    ) -> CopyState:
        """Have more of the copy."""
        async with self._alone(spec.uid):
            return await self._copies.ensure(pool_uid, spec, source, cause=cause)

    async def ensure_snapshot_readable(
        self, pool_uid: str, pool: str, uid: str, name: str, *, cause: str
    ) -> str:
        """Have the snapshot active, and return its device."""
        async with self._alone(uid):
            return await self._copies.readable(pool_uid, pool, uid, name, cause=cause)

    async def do_errand(
        self, operation: str, errand: Errand, pool_uid: str, *, cause: str
    ) -> Found | Going:
        """Do more of it."""
        return await self._errands.run(operation, errand, pool_uid, cause=cause)

    async def ensure_no_errand(
        self, operation: str, errand: Errand, pool_uid: str, *, cause: str
    ) -> None:
        """Have nothing of it left."""
        await self._errands.stop(operation, errand, pool_uid, cause=cause)

    async def ensure_mended(
        self, pool_uid: str, spec: VolumeSpec, mend: Mend, seen: SeenVolume | None, *, cause: str
    ) -> VolumeState | None:
        """Have the volume put right, if it is as it was seen."""
        return await self._mending.ensure_mended(pool_uid, spec, mend, seen, cause=cause)

    async def ensure_left(
        self, pool_uid: str, spec: VolumeSpec, mend: Mend | None, *, cause: str
    ) -> VolumeState | None:
        """Have nothing half done of it."""
        return await self._mending.ensure_left(pool_uid, spec, mend, cause=cause)

    async def ensure_adopted(
        self, pool_uid: str, spec: VolumeSpec, seen: SeenVolume, *, cause: str
    ) -> VolumeState:
        """Have what was seen be the volume."""
        return await self._mending.ensure_adopted(pool_uid, spec, seen, cause=cause)

    async def ensure_given_back(
        self, pool_uid: str, spec: VolumeSpec, seen: SeenVolume, *, cause: str
    ) -> None:
        """Have it be nobody's again."""
        await self._mending.ensure_given_back(pool_uid, spec, seen, cause=cause)

    async def ensure_volume_size(
        self, pool_uid: str, spec: VolumeSpec, *, cause: str
    ) -> VolumeState:
        """Have the volume and its filesystem that large."""
        async with self._alone(spec.uid):
            return await self._volumes.ensure_size(pool_uid, spec, cause=cause)

    async def ensure_volume_keys(
        self, pool_uid: str, spec: VolumeSpec, dropped: tuple[str, ...], *, cause: str
    ) -> None:
        """Have the volume open by ``spec.keys``, and by none of *dropped*."""
        async with self._alone(spec.uid):
            await self._volumes.ensure_keys(pool_uid, spec, dropped, cause=cause)

    async def ensure_volume_removed(
        self, pool_uid: str, pool: str, uid: str, name: str, *, cause: str
    ) -> None:
        """Have no such volume."""
        async with self._alone(uid):
            self._followers.forget(uid)
            await self._volumes.ensure_removed(pool_uid, pool, uid, name, cause=cause)
            if self._replication is not None:
                await self._replication.ensure_forgotten(name, uid, cause=cause)

    async def ensure_whole_disk(
        self, spec: VolumeSpec, disk: PoolDisk, *, cause: str
    ) -> VolumeState:
        """Have the volume on all of the disk."""
        async with self._alone(spec.uid):
            return await self._raw_disks.ensure(spec, disk, cause=cause)

    async def ensure_disk_freed(
        self, spec: VolumeSpec, disk: PoolDisk, *, wiping: Wiping, cause: str
    ) -> None:
        """Have the disk blank."""
        async with self._alone(spec.uid):
            await self._raw_disks.ensure_freed(spec, disk, wiping=wiping, cause=cause)

    async def is_disk_going(self, spec: VolumeSpec, disk: PoolDisk, *, cause: str) -> bool:
        """Return whether the disk is no volume any more."""
        return await self._raw_disks.is_going(spec, disk, cause=cause)

    async def ensure_volume_unused(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> None:
        """Have the volume there, not active."""
        async with self._alone(spec.uid):
            await self._volumes.ensure_unused(pool_uid, spec, cause=cause)

    async def ensure_volume_awake(
        self, pool_uid: str, spec: VolumeSpec, *, cause: str
    ) -> VolumeState:
        """Have the volume active, whatever is on it."""
        async with self._alone(spec.uid):
            return await self._volumes.ensure_awake(pool_uid, spec, cause=cause)

    async def ensure_snapshot(
        self, pool_uid: str, spec: SnapshotSpec, *, cause: str
    ) -> SnapshotState:
        """Have the snapshot."""
        async with self._alone(spec.volume_uid):
            return await self._snapshots.ensure(pool_uid, spec, cause=cause)

    async def ensure_snapshots(
        self,
        wishes: Sequence[tuple[str, SnapshotSpec]],
        *,
        may_take: bool,
        cause: str,
        lead: Lead | None = None,
    ) -> tuple[SnapshotState, ...]:
        """Have the snapshots of one instant."""
        wanted = [Wish(pool_uid, spec) for pool_uid, spec in wishes]
        async with self._all_alone(wanted):
            return await self._instants.ensure(wanted, may_take=may_take, cause=cause, lead=lead)

    async def prepare_turn(
        self, wishes: Sequence[tuple[str, SnapshotSpec]], turn: str, *, cause: str
    ) -> None:
        """Have all ready to follow."""
        wanted = [Wish(pool_uid, spec) for pool_uid, spec in wishes]
        async with self._all_alone(wanted):
            await self._followers.prepare(wanted, turn, cause=cause)

    async def follow(self, turn: str, caught: Mapping[str, Consistency], *, cause: str) -> None:
        """Have the snapshots that were prepared."""
        # Who removes one meanwhile waits, and finds it; and once it is removed, none is taken.
        async with self._each_alone(self._followers.prepared_for(turn)):
            await self._followers.follow(turn, caught, cause=cause)

    async def ensure_followed(
        self, wish: tuple[str, SnapshotSpec], turn: str, *, cause: str
    ) -> SnapshotState:
        """Have the snapshot that was taken in that turn."""
        wanted = Wish(*wish)
        async with self._all_alone([wanted]):
            return await self._followers.ensure(wanted, turn, cause=cause)

    def _all_alone(self, wishes: Sequence[Wish]) -> AbstractAsyncContextManager[None]:
        return self._each_alone({wish.spec.volume_uid for wish in wishes})

    @asynccontextmanager
    async def _each_alone(self, uids: Iterable[str]) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for uid in sorted(set(uids)):
                await stack.enter_async_context(self._alone(uid))
            yield

    async def _replicated(self, cause: str) -> Mapping[str, ReplicationState]:
        return await self.replication_states(cause=cause)

    async def ensure_moving(self, *, cause: str) -> tuple[str, ...]:
        """Have no stable device stand still, except for those that are to."""
        still = self._instants.still
        return await ensure_moving(self._runner, cause=cause, except_for=still)

    async def ensure_snapshot_kept(
        self, pool_uid: str, spec: SnapshotSpec, *, cause: str
    ) -> SnapshotState | None:
        """Have the snapshot with its room, or its merge done."""
        async with self._alone(spec.volume_uid):
            return await self._snapshots.ensure_kept(pool_uid, spec, cause=cause)

    async def ensure_rolled_back(self, pool_uid: str, spec: SnapshotSpec, *, cause: str) -> None:
        """Have the volume as the snapshot has it."""
        async with self._alone(spec.volume_uid):
            await self._snapshots.ensure_rolled_back(pool_uid, spec, cause=cause)

    async def ensure_active(
        self, pools: Mapping[str, str], *, cause: str, at_rest: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Have all our volumes in *pools* active, except those *at_rest*."""
        return await self._volumes.ensure_active(pools, at_rest, cause=cause)

    async def ensure_attached(
        self, pool_uid: str, wanted: Attachment, *, cause: str
    ) -> StableDevice:
        """Have the volume in use: device, mount and limits."""
        async with self._alone(wanted.volume_uid):
            return await self._attachments.ensure(pool_uid, wanted, cause=cause)

    async def limits_hold(self, wanted: Attachment, number: str, *, cause: str) -> bool:
        """Return whether the limits stand."""
        return await self._attachments.limits_hold(wanted, number, cause=cause)

    async def ensure_detached(
        self, wanted: Attachment, *, cause: str, parting: Parting | None = None
    ) -> None:
        """Have nothing of the attachment left."""
        async with self._alone(wanted.volume_uid):
            await self._attachments.ensure_removed(wanted, cause=cause, parting=parting)
