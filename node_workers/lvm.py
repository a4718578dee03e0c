"""Storage by LVM: pools are volume groups, volumes are logical volumes, tags say whose they are."""

from collections.abc import Mapping, Sequence

from node_workers.lvm_pools import Pools, pool_state
from node_workers.lvm_snapshots import Snapshots
from node_workers.lvm_thin import ThinPools
from node_workers.lvm_volumes import Volumes
from node_workers.ports import (
    PoolDisk,
    PoolState,
    Runner,
    SnapshotSpec,
    SnapshotState,
    Sysfs,
    ThinPoolState,
    VolumeSpec,
    VolumeState,
)


class LvmStorage:
    """The ``Storage`` port on LVM, as described there. One instance a machine."""

    def __init__(self, runner: Runner, sysfs: Sysfs, *, node: str) -> None:
        self._pools = Pools(runner, sysfs, node)
        self._thin_pools = ThinPools(runner)
        self._volumes = Volumes(runner)
        self._snapshots = Snapshots(runner)

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

    async def ensure_volume(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> VolumeState:
        """Have the volume with its filesystem."""
        return await self._volumes.ensure(pool_uid, spec, cause=cause)

    async def ensure_volume_size(
        self, pool_uid: str, spec: VolumeSpec, *, cause: str
    ) -> VolumeState:
        """Have the volume and its filesystem that large."""
        return await self._volumes.ensure_size(pool_uid, spec, cause=cause)

    async def ensure_volume_removed(
        self, pool_uid: str, pool: str, uid: str, name: str, *, cause: str
    ) -> None:
        """Have no such volume."""
        await self._volumes.ensure_removed(pool_uid, pool, uid, name, cause=cause)

    async def ensure_snapshot(
        self, pool_uid: str, spec: SnapshotSpec, *, cause: str
    ) -> SnapshotState:
        """Have the snapshot."""
        return await self._snapshots.ensure(pool_uid, spec, cause=cause)

    async def ensure_snapshot_kept(
        self, pool_uid: str, spec: SnapshotSpec, *, cause: str
    ) -> SnapshotState | None:
        """Have the snapshot as it is, or its merge done."""
        return await self._snapshots.ensure_kept(pool_uid, spec, cause=cause)

    async def ensure_rolled_back(self, pool_uid: str, spec: SnapshotSpec, *, cause: str) -> None:
        """Have the volume as the snapshot has it."""
        await self._snapshots.ensure_rolled_back(pool_uid, spec, cause=cause)

    async def ensure_active(self, pools: Mapping[str, str], *, cause: str) -> tuple[str, ...]:
        """Have all our volumes in *pools* active."""
        return await self._volumes.ensure_active(pools, cause=cause)
