"""The part of the storage that is about replicated volumes: one work on a volume at a time."""

import asyncio
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

from node_workers.drbd import DrbdReplication
from node_workers.ports import UnsuitableError, VolumeSpec, VolumeState
from node_workers.replication import Comparison, ReplicationSpec, ReplicationState, Start


class TiedStorage:
    """The ``ReplicatedStorage`` port, as described there; without DRBD nothing is replicated."""

    def __init__(self, replication: DrbdReplication | None) -> None:
        self._replication = replication
        self._one_at_a_time: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

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
        """Have the leg tied to its peers."""
        async with self._alone(spec.uid):
            return await self._tied().ensure_replicated(
                pool_uid, leg, spec, start=start, may_create=may_create, cause=cause
            )

    async def ensure_plain(self, pool_uid: str, leg: VolumeSpec, *, uid: str, cause: str) -> None:
        """Have nothing of DRBD on the leg."""
        async with self._alone(uid):
            await self._tied().ensure_plain(pool_uid, leg, uid=uid, cause=cause)

    async def ensure_replica_down(self, volume: str, uid: str, *, force: bool, cause: str) -> None:
        """Have the leg not running in DRBD."""
        async with self._alone(uid):
            await self._tied().ensure_replica_down(volume, uid, force=force, cause=cause)

    async def ensure_filesystem(
        self, leg: VolumeSpec, spec: ReplicationSpec, *, cause: str
    ) -> None:
        """Have what a new volume has on the replicated device."""
        async with self._alone(spec.uid):
            await self._tied().ensure_filesystem(leg, spec, cause=cause)

    async def ensure_replicated_keys(
        self,
        leg: VolumeSpec,
        spec: ReplicationSpec,
        dropped: tuple[str, ...],
        *,
        elsewhere: bool,
        cause: str,
    ) -> None:
        """Have the replicated volume open by other keys."""
        tied = self._tied()
        async with self._alone(spec.uid):
            await tied.ensure_replicated_keys(leg, spec, dropped, elsewhere=elsewhere, cause=cause)

    async def ensure_primary(self, spec: ReplicationSpec, *, cause: str) -> str:
        """Have this node primary; return the number of the replicated device."""
        async with self._alone(spec.uid):
            return await self._tied().ensure_primary(spec, cause=cause)

    async def ensure_secondary(self, volume: str, uid: str, *, force: bool, cause: str) -> None:
        """Have this node secondary."""
        async with self._alone(uid):
            await self._tied().ensure_secondary(volume, uid, force=force, cause=cause)

    async def ensure_replicated_size(
        self, pool_uid: str, leg: VolumeSpec, spec: ReplicationSpec, *, cause: str
    ) -> VolumeState:
        """Have the leg so large, and what lies on it as soon as all legs are."""
        async with self._alone(spec.uid):
            return await self._tied().ensure_replicated_size(pool_uid, leg, spec, cause=cause)

    async def settle_split(self, spec: ReplicationSpec, *, loses: bool, cause: str) -> None:
        """Have the leg connect again after a split brain."""
        async with self._alone(spec.uid):
            await self._tied().settle_split(spec, loses=loses, cause=cause)

    async def connect_anew(self, volume: str, uid: str, *, cause: str) -> None:
        """Have the leg give up looking for its peer and begin again."""
        async with self._alone(uid):
            await self._tied().connect_anew(volume, uid, cause=cause)

    async def ensure_metadata_spent(self, volume: str, uid: str, *, cause: str) -> None:
        """Have the leg not running, and never again in this tie."""
        async with self._alone(uid):
            await self._tied().ensure_metadata_spent(volume, uid, cause=cause)

    async def ensure_metadata_valid(self, volume: str, uid: str, *, cause: str) -> None:
        """Have the leg as it was: it was not rolled back."""
        async with self._alone(uid):
            await self._tied().ensure_metadata_valid(volume, uid, cause=cause)

    async def compare(self, volume: str, uid: str, run: str, *, cause: str) -> Comparison:
        """Have the legs compared by checksum."""
        async with self._alone(uid):
            return await self._tied().compare(volume, uid, run, cause=cause)

    async def even_out(self, volume: str, uid: str, *, cause: str) -> Comparison:
        """Have what is known to differ copied."""
        async with self._alone(uid):
            return await self._tied().even_out(volume, uid, cause=cause)

    async def stop_comparing(self, volume: str, uid: str, run: str, *, cause: str) -> None:
        """Have nothing compared any more."""
        async with self._alone(uid):
            await self._tied().stop_comparing(volume, uid, run, cause=cause)

    async def replication_states(self, *, cause: str) -> dict[str, ReplicationState]:
        """Return what the kernel has of ours; nothing on a machine that replicates nothing."""
        if self._replication is None:
            return {}
        return await self._replication.replication_states(cause=cause)

    def replication_changes(self) -> AsyncIterator[None]:
        """Yield whenever something of it may have changed."""
        return self._tied().replication_changes()

    def _tied(self) -> DrbdReplication:
        if self._replication is None:
            raise UnsuitableError("cannot-replicate", "this worker has no key to replicate with")
        return self._replication

    def _alone(self, uid: str) -> asyncio.Lock:
        """Return what keeps two works on one volume apart; who waits first is let in first.

        A device that is made while the volume below it grows would stay too small.
        """
        return self._one_at_a_time.setdefault(uid, asyncio.Lock())
