"""The hands of replicated legs: tied to their peers, or to nobody, whatever they are now."""

import asyncio
import time

import msgspec
from msgspec.structs import replace

from node_workers.asked import bare, replication_spec, volume_spec
from node_workers.errands import Going
from node_workers.ports import Filesystem as Kind
from node_workers.ports import NotThereError, VolumeSpec
from node_workers.replication import ReplicatedStorage, Start
from node_workers.reports import present
from node_workers.steps import (
    HaveErrand,
    HaveKeys,
    HaveMended,
    HaveMerged,
    HaveNoErrand,
    HaveNoReplica,
    HaveReplica,
    HaveReplicaAwake,
    HaveReplicaHeld,
    HaveSplitSettled,
)
from node_workers.storage import Storage
from schemas.errand import Compare, Compared, EvenedOut, EvenOut
from schemas.replica import ReportReplicaAbsent, ReportReplicaPresent, SnapshotOf
from schemas.replication import Replication
from schemas.volume import Filesystem

TURN_S = 4.0
LOOK_EVERY_S = 1.0


class TyingHands(msgspec.Struct, frozen=True):
    """Ensures what concerns several nodes, each on its own."""

    storage: Storage
    replicated: ReplicatedStorage
    node: str

    async def ensure(
        self, step: HaveReplica, cause: str
    ) -> ReportReplicaPresent | ReportReplicaAbsent:
        """Have the leg, and have it tied as its spec says. Raises ``StorageError``.

        A leg is told to be there when the replicated device has its size, which is not before all
        legs have theirs. One that was to go, and shall stay, may be gone.
        """
        leg = volume_spec(step.volume, step.spec)
        if step.withdrawn and not await self._is_there(step, leg, cause):
            return ReportReplicaAbsent(volume=step.volume, node=self.node, uid=step.uid)
        return await self._ensure(step, leg, cause)

    async def _is_there(self, step: HaveReplica, leg: VolumeSpec, cause: str) -> bool:
        """Return whether the logical volume is there; that DRBD does not run it says nothing."""
        try:
            await self.storage.ensure_volume_awake(step.pool_uid, bare(leg), cause=cause)
        except NotThereError as error:
            if error.reason == "volume-missing":
                return False
            raise
        return True

    async def _ensure(self, step: HaveReplica, leg: VolumeSpec, cause: str) -> ReportReplicaPresent:
        tied = step.spec.replication
        if tied is None:
            await self.replicated.ensure_plain(step.pool_uid, leg, uid=step.uid, cause=cause)
            state = await self.storage.ensure_volume_awake(step.pool_uid, leg, cause=cause)
            return present(step, state, self.node)
        if step.may_create:
            await self.storage.ensure_volume(step.pool_uid, bare(leg), cause=cause)
        await self._tie(step, leg, tied, may_create=not step.tied, cause=cause)
        spec = replication_spec(step.volume, step.uid, step.spec.pool, tied)
        if (tied.filesystem is not Filesystem.NONE or tied.header) and not step.tied:
            new = replace(leg, filesystem=Kind(tied.filesystem.value))
            await self.replicated.ensure_filesystem(new, spec, cause=cause)
        state = await self.storage.ensure_volume_awake(step.pool_uid, bare(leg), cause=cause)
        if step.tied:
            if step.spec.filesystem is Filesystem.NONE:
                # One that was born replicated has its filesystem on the device, not on its legs.
                leg = replace(leg, filesystem=Kind(tied.filesystem.value))
            device = await self.replicated.ensure_replicated_size(
                step.pool_uid, leg, spec, cause=cause
            )
            if device.size_bytes < tied.size_bytes:
                smaller = f"{step.volume} is still {device.size_bytes} bytes: so is another replica"
                raise NotThereError("peer-smaller", smaller)
        return present(step, state, self.node)

    async def ensure_up(self, step: HaveReplicaAwake, cause: str) -> None:
        """Have the leg tied again that was taken out of use; nothing for one of its own."""
        if step.spec.replication is not None:
            leg = volume_spec(step.volume, step.spec)
            await self._tie(step, leg, step.spec.replication, may_create=False, cause=cause)

    async def ensure_down(
        self, step: HaveReplicaHeld | HaveNoReplica | HaveMended | HaveMerged, cause: str
    ) -> None:
        """Have the leg not running in DRBD, so that it can be put aside or go."""
        told = isinstance(step, HaveNoReplica | HaveReplicaHeld) and step.tied
        if told or step.spec.replication is not None:
            await self.replicated.ensure_replica_down(
                step.volume, step.uid, force=False, cause=cause
            )

    async def ensure_spent(self, of: SnapshotOf, cause: str) -> None:
        """Have the leg that is to be rolled back not running, and not by what it says of itself."""
        await self.replicated.ensure_metadata_spent(of.volume, of.uid, cause=cause)

    async def ensure_valid(self, of: SnapshotOf, cause: str) -> None:
        """Have the leg that was not rolled back count again; to run it is another wish."""
        await self.replicated.ensure_metadata_valid(of.volume, of.uid, cause=cause)

    async def settle_split(self, step: HaveSplitSettled, cause: str) -> ReportReplicaPresent:
        """Have the leg connect again. Raises ``StorageError``."""
        tied = step.spec.replication
        if tied is None:
            raise NotThereError("volume-missing", f"{step.volume} has one replica")
        spec = replication_spec(step.volume, step.uid, step.spec.pool, tied)
        await self.replicated.settle_split(spec, loses=step.loses, cause=cause)
        leg = bare(volume_spec(step.volume, step.spec))
        # As large as it is, which may be more than it was wanted: LVM rounds up.
        state = await self.storage.ensure_volume_awake(step.pool_uid, leg, cause=cause)
        return present(step, state, self.node)

    async def compare(
        self, step: HaveErrand, errand: Compare | EvenOut, cause: str
    ) -> Compared | EvenedOut | Going:
        """Have the legs compared, or what differs copied, for some seconds more.

        Between two looks others may work on the volume.
        """
        compares, about = isinstance(errand, Compare), (errand.volume, errand.uid)
        until_s = time.monotonic() + TURN_S
        while True:
            now = (
                await self.replicated.compare(*about, step.uid, cause=cause)
                if compares
                else await self.replicated.even_out(*about, cause=cause)
            )
            if now.done and compares:
                return Compared(differing_bytes=now.differing_bytes)
            if now.done:
                return EvenedOut()
            if time.monotonic() >= until_s:
                return Going(done_bytes=now.done_bytes, of_bytes=now.size_bytes)
            await asyncio.sleep(LOOK_EVERY_S)

    async def stop_comparing(
        self, step: HaveNoErrand, errand: Compare | EvenOut, cause: str
    ) -> None:
        """Have nothing compared for the errand any more."""
        await self.replicated.stop_comparing(errand.volume, errand.uid, step.uid, cause=cause)

    async def ensure_keys(self, step: HaveKeys, leg: VolumeSpec, cause: str) -> None:
        """Have the volume open by the keys of *leg*, or have those here for later."""
        tied = step.spec.replication
        dropped = step.encryption.dropped
        if tied is None:
            await self.storage.ensure_volume_keys(step.pool_uid, leg, dropped, cause=cause)
            return
        spec = replication_spec(step.volume, step.uid, step.spec.pool, tied)
        await self.replicated.ensure_replicated_keys(
            leg, spec, dropped, elsewhere=step.elsewhere, cause=cause
        )

    async def give_up(self, volume: str, uid: str, cause: str) -> None:
        """Have whoever uses the volume here get I/O errors, and the leg follow its peers."""
        await self.replicated.ensure_secondary(volume, uid, force=True, cause=cause)

    async def _tie(
        self,
        step: HaveReplica | HaveReplicaAwake,
        leg: VolumeSpec,
        tied: Replication,
        *,
        may_create: bool,
        cause: str,
    ) -> None:
        await self.replicated.ensure_replicated(
            step.pool_uid,
            bare(leg),
            replication_spec(step.volume, step.uid, step.spec.pool, tied),
            start=Start(tied.start.value),
            may_create=may_create,
            cause=cause,
        )
