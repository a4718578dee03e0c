"""One step, one report: ensure it, and say what is."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from msgspec.structs import replace

from node_workers.asked import attachment_of, snapshot_spec, volume_spec
from node_workers.counting import Counting
from node_workers.errands import Going
from node_workers.ports import CopyOf as Source
from node_workers.ports import (
    NotThereError,
    PoolDisk,
    SnapshotState,
    ThinPoolState,
)
from node_workers.reports import pool_facts, present
from node_workers.steps import (
    HaveAttachment,
    HaveErrand,
    HaveKeys,
    HaveLeft,
    HaveMended,
    HaveMerged,
    HaveNoAttachment,
    HaveNoErrand,
    HaveNoPool,
    HaveNoReplica,
    HavePool,
    HaveReplica,
    HaveReplicaAwake,
    HaveReplicaHeld,
    HaveSplitSettled,
    Step,
)
from node_workers.storage import Storage
from node_workers.turns import Leader
from node_workers.tying import TyingHands
from node_workers.wanted import WantedAttachment
from schemas.attachment import ReportAttachmentAbsent, ReportAttachmentPresent
from schemas.backups import FromBackup
from schemas.disk import Wiping
from schemas.errand import Compare, EvenOut, Found, ReportErrandDone, ReportErrandStopped
from schemas.grammar import Report
from schemas.mending import ReportReplicaLeft
from schemas.operation import ReportProgressed
from schemas.pool import ReportPoolAbsent, ReportPoolBuilt
from schemas.replica import (
    Consistency,
    ReportReplicaAbsent,
    ReportReplicaHeld,
    ReportReplicaPresent,
    ReportReplicaRekeyed,
    SnapshotOf,
)
from schemas.volume import CopyOf


class Hands(msgspec.Struct, frozen=True):
    """Ensures steps on one machine. ``paths`` tells where each disk was seen last.

    ``call_in`` has no other node read a snapshot any more, ``leader`` others take theirs.
    """

    storage: Storage
    node: str
    paths: Callable[[], Mapping[str, str]]
    call_in: Callable[[str], Awaitable[None]]
    tying: TyingHands
    leader: Leader
    counting: Counting

    async def ensure(self, step: Step, cause: str) -> Report | None:
        """Have it so, and return the report of what is then there.

        None or ``ReportProgressed``: it takes another turn.

        Safe to call again after a crash anywhere inside. Raises ``StorageError``.
        """
        match step:
            case HavePool():
                return await self._pool(step, cause)
            case HaveNoPool():
                await self.storage.ensure_pool_removed(
                    step.uid, step.group, self._disks(step.disks), cause=cause
                )
                return ReportPoolAbsent(pool=step.group, node=self.node, uid=step.uid)
            case HaveReplica() | HaveSplitSettled():
                return await self._leg(step, cause)
            case HaveReplicaHeld() | HaveReplicaAwake():
                return await self._still_there(step, cause)
            case HaveKeys():
                return await self._keys(step, cause)
            case HaveMerged() | HaveNoReplica() | HaveMended() | HaveLeft():
                return await self._no_more(step, cause)
            case HaveErrand() | HaveNoErrand():
                return await self._errand(step, cause)
            case HaveAttachment():
                return await self.attach(step, cause)
            case HaveNoAttachment():
                return await self._detach(step, cause)
            case _:
                raise TypeError(f"no hand knows {type(step).__name__}")

    async def attach(self, step: HaveAttachment, cause: str) -> ReportAttachmentPresent:
        """Have the attachment, now or again. Raises ``StorageError``."""
        wanted = attachment_of(step.volume, step.spec, step.keys, step.replication)
        device = await self.storage.ensure_attached(step.pool_uid, wanted, cause=cause)
        await self.counting.note(step.volume, step.spec.volume_uid, device.number)
        return ReportAttachmentPresent(
            volume=step.volume,
            node=self.node,
            uid=step.uid,
            device=device.path,
            limits=step.spec.limits,
        )

    async def _detach(self, step: HaveNoAttachment, cause: str) -> ReportAttachmentAbsent:
        wanted = attachment_of(step.volume, step.spec, step.keys, step.replication)
        if step.forced and step.replication is not None:
            await self.tying.give_up(step.volume, step.spec.volume_uid, cause)
        uid = step.spec.volume_uid
        parting = self.counting.parting(step.volume, uid)
        await self.storage.ensure_detached(wanted, cause=cause, parting=parting)
        await self.counting.close(step.volume, uid, cause)
        return ReportAttachmentAbsent(volume=step.volume, node=self.node, uid=step.uid)

    async def limits_hold(self, attachment: WantedAttachment, number: str, cause: str) -> bool:
        """Return whether the limits stand for the device of that *number*."""
        wanted = attachment_of(attachment.volume, attachment.spec)
        return await self.storage.limits_hold(wanted, number, cause=cause)

    async def _no_more(
        self, step: HaveMerged | HaveNoReplica | HaveMended | HaveLeft, cause: str
    ) -> ReportReplicaPresent | ReportReplicaAbsent | ReportReplicaLeft:
        if isinstance(step, HaveMended | HaveLeft):
            return await self._mended(step, cause)
        of = step.spec.snapshot_of
        if of is not None:
            await self.call_in(step.uid)
        if isinstance(step, HaveMerged) and of is not None:
            spec = snapshot_spec(step.volume, step.spec, of)
            if step.of_tied:
                await self.tying.ensure_spent(of, cause)
            await self.storage.ensure_rolled_back(step.pool_uid, spec, cause=cause)
            return self._absent(step, merged=True)
        if isinstance(step, HaveMerged):
            raise TypeError(f"{step.volume} is of no volume that it could become")
        if step.spec.disk is not None:
            [disk] = self._disks((step.spec.disk,))
            whole = volume_spec(step.volume, step.spec)
            await self.storage.ensure_disk_freed(whole, disk, wiping=step.wiping, cause=cause)
            return self._absent(step)
        await self.tying.ensure_down(step, cause)
        await self.storage.ensure_volume_removed(
            step.pool_uid, step.group, step.uid, step.volume, cause=cause
        )
        return self._absent(step)

    async def _mended(
        self, step: HaveMended | HaveLeft, cause: str
    ) -> ReportReplicaPresent | ReportReplicaAbsent | ReportReplicaLeft:
        spec, storage = volume_spec(step.volume, step.spec), self.storage
        left = ReportReplicaLeft(volume=step.volume, node=self.node, uid=step.uid)
        if isinstance(step, HaveMended):
            seen = step.seen
            state = await storage.ensure_mended(step.pool_uid, spec, step.mend, seen, cause=cause)
            return self._absent(step) if state is None else present(step, state, self.node)
        if step.give_back and step.spec.adopts is not None:
            seen = step.spec.adopts
            await storage.ensure_given_back(step.pool_uid, spec, seen, cause=cause)
            return left
        state = await storage.ensure_left(step.pool_uid, spec, step.mend, cause=cause)
        return left if state is None else present(step, state, self.node)

    async def _keys(self, step: HaveKeys, cause: str) -> ReportReplicaRekeyed:
        spec = replace(volume_spec(step.volume, step.spec), keys=step.encryption.keys)
        await self.tying.ensure_keys(step, spec, cause)
        return ReportReplicaRekeyed(
            volume=step.volume,
            node=self.node,
            uid=step.uid,
            generation=step.encryption.generation,
        )

    async def _pool(self, step: HavePool, cause: str) -> ReportPoolBuilt | None:
        ensure = self.storage.ensure_pool if step.may_create else self.storage.ensure_pool_disks
        state = await ensure(step.uid, step.group, self._disks(step.disks), cause=cause)
        if step.kept:
            await self.storage.ensure_pool_disks_kept(
                step.uid, step.group, self._disks(step.kept), cause=cause
            )
        if step.leaving and not await self.storage.ensure_pool_disks_drained(
            step.uid, step.group, self._disks(step.leaving), cause=cause
        ):
            return None
        if gone := (*step.dropped, *step.leaving):
            state = await self.storage.ensure_pool_disks_removed(
                step.uid, step.group, self._disks(gone), cause=cause
            )
        thin = await self._thin_pool(step, cause)
        facts = pool_facts(state, thin)
        if thin is None and step.facts is not None:
            facts = replace(
                facts,
                thin_bytes=step.facts.thin_bytes,
                thin_overhead_bytes=step.facts.thin_overhead_bytes,
            )
        return ReportPoolBuilt(pool=step.group, node=self.node, uid=step.uid, facts=facts)

    async def _leg(self, step: HaveReplica | HaveSplitSettled, cause: str) -> Report:
        if isinstance(step, HaveSplitSettled):
            return await self.tying.settle_split(step, cause)
        if step.together:
            return await self._together(step, cause)
        if step.spec.snapshot_of is not None:
            return await self._snapshot(step, step.spec.snapshot_of, cause)
        if step.copied is not None:
            return await self._copy(step, step.copied, cause)
        if step.untie or step.spec.replication is not None:
            return await self.tying.ensure(step, cause)
        return await self._replica(step, cause)

    async def _thin_pool(self, step: HavePool, cause: str) -> ThinPoolState | None:
        """Have the thin pool; None: it is not looked at, and is what it was."""
        if step.thin_growing:
            return await self.storage.ensure_thin_pool_size(
                step.uid, step.group, step.thin_bytes, step.metadata_bytes, cause=cause
            )
        if step.thin_bytes and (step.may_create_thin or step.facts is None):
            return await self.storage.ensure_thin_pool(
                step.uid, step.group, step.thin_bytes, cause=cause
            )
        return None

    async def _replica(
        self, step: HaveReplica, cause: str
    ) -> ReportReplicaPresent | ReportReplicaAbsent:
        spec, seen = volume_spec(step.volume, step.spec), step.spec.adopts
        if step.withdrawn and await self._has_gone(step, cause):
            return self._absent(step)
        try:
            if step.may_create and step.spec.disk is not None:
                [disk] = self._disks((step.spec.disk,))
                state = await self.storage.ensure_whole_disk(spec, disk, cause=cause)
            elif step.may_create and seen is not None:
                uid = step.pool_uid
                state = await self.storage.ensure_adopted(uid, spec, seen, cause=cause)
            elif step.may_create:
                state = await self.storage.ensure_volume(step.pool_uid, spec, cause=cause)
            else:
                state = await self.storage.ensure_volume_size(step.pool_uid, spec, cause=cause)
        except NotThereError as error:
            if step.withdrawn and error.reason == "volume-missing":
                return self._absent(step)
            raise
        return present(step, state, self.node)

    async def _has_gone(
        self, step: HaveReplica | HaveReplicaHeld | HaveReplicaAwake, cause: str
    ) -> bool:
        """Return whether a whole disk that shall stay has gone too far; it is blank then."""
        if step.spec.disk is None:
            return False
        [disk] = self._disks((step.spec.disk,))
        spec = volume_spec(step.volume, step.spec)
        if not await self.storage.is_disk_going(spec, disk, cause=cause):
            return False
        await self.storage.ensure_disk_freed(spec, disk, wiping=Wiping.DISCARD, cause=cause)
        return True

    async def _errand(
        self, step: HaveErrand | HaveNoErrand, cause: str
    ) -> ReportErrandDone | ReportErrandStopped | ReportProgressed | None:
        ours = step.errand if isinstance(step.errand, Compare | EvenOut) else None
        if isinstance(step, HaveNoErrand):
            if ours is not None:
                await self.tying.stop_comparing(step, ours, cause)
                return ReportErrandStopped(operation=step.uid, node=self.node)
            await self.storage.ensure_no_errand(step.uid, step.errand, step.pool_uid, cause=cause)
            return ReportErrandStopped(operation=step.uid, node=self.node)
        if ours is not None:
            found: Found | Going = await self.tying.compare(step, ours, cause)
        else:
            do = self.storage.do_errand
            found = await do(step.uid, step.errand, step.pool_uid, cause=cause)
        if not isinstance(found, Going):
            return ReportErrandDone(operation=step.uid, node=self.node, found=found)
        if not found.of_bytes:
            return None
        return ReportProgressed(
            operation=step.uid, done_bytes=found.done_bytes, of_bytes=found.of_bytes
        )

    async def _copy(
        self, step: HaveReplica, source: CopyOf | FromBackup, cause: str
    ) -> ReportReplicaPresent | ReportProgressed:
        copy_of = source if isinstance(source, FromBackup) else self._source(step, source)
        spec = volume_spec(step.volume, step.spec)
        state = await self.storage.ensure_copied(step.pool_uid, spec, copy_of, cause=cause)
        if state.volume is not None:
            return present(step, state.volume, self.node)
        return ReportProgressed(
            operation=step.origin.correlation,
            done_bytes=state.done_bytes,
            of_bytes=source.size_bytes,
        )

    async def _still_there(
        self, step: HaveReplicaHeld | HaveReplicaAwake, cause: str
    ) -> ReportReplicaHeld | ReportReplicaPresent | ReportReplicaAbsent:
        spec = volume_spec(step.volume, step.spec)
        if await self._has_gone(step, cause):
            return ReportReplicaAbsent(volume=step.volume, node=self.node, uid=step.uid)
        try:
            if isinstance(step, HaveReplicaHeld):
                await self.tying.ensure_down(step, cause)
                await self.storage.ensure_volume_unused(step.pool_uid, spec, cause=cause)
                return ReportReplicaHeld(volume=step.volume, node=self.node, uid=step.uid)
            state = await self.storage.ensure_volume_awake(step.pool_uid, spec, cause=cause)
        except NotThereError as error:
            if error.reason == "volume-missing":
                return ReportReplicaAbsent(volume=step.volume, node=self.node, uid=step.uid)
            raise
        # A leg that does not run in DRBD is there all the same.
        await self.tying.ensure_up(step, cause)
        return present(step, state, self.node)

    async def _snapshot(
        self, step: HaveReplica, of: SnapshotOf, cause: str
    ) -> ReportReplicaPresent | ReportReplicaAbsent:
        spec = snapshot_spec(step.volume, step.spec, of)
        ensure = self.storage.ensure_snapshot_kept
        try:
            if step.may_create:
                state = await self.storage.ensure_snapshot(step.pool_uid, spec, cause=cause)
            elif (kept := await ensure(step.pool_uid, spec, cause=cause)) is not None:
                state = kept
            else:
                return self._absent(step, merged=True)
        except NotThereError as error:
            if step.withdrawn and error.reason == "volume-missing":
                await self._not_rolled_back(step, of, cause)
                return self._absent(step)
            raise
        await self._not_rolled_back(step, of, cause)
        return self._kept(step, state)

    async def _not_rolled_back(self, step: HaveReplica, of: SnapshotOf, cause: str) -> None:
        """Have the leg of the volume count again, if it was to be rolled back and is not."""
        if step.withdrawn and step.of_tied:
            await self.tying.ensure_valid(of, cause)

    async def _together(self, step: HaveReplica, cause: str) -> ReportReplicaPresent:
        """Have all the snapshots of one instant, whichever of them comes first; report one."""
        wishes = [
            (leg.pool_uid, snapshot_spec(leg.volume, leg.spec, leg.spec.snapshot_of))
            for leg in step.together
            if leg.spec.snapshot_of is not None
        ]
        together = step.spec.together
        if together is not None and together.turn is not None:
            state = await self.storage.ensure_followed(wishes[0], together.turn, cause=cause)
            return self._kept(step, state)
        followers = together.followers if together is not None else ()
        lead = self.leader.lead(step.instant, followers) if followers else None
        states = await self.storage.ensure_snapshots(
            wishes, may_take=step.may_take, cause=cause, lead=lead
        )
        mine = next(
            state for (_, spec), state in zip(wishes, states, strict=True) if spec.uid == step.uid
        )
        return self._kept(step, mine)

    def _kept(self, step: HaveReplica, state: SnapshotState) -> ReportReplicaPresent:
        return ReportReplicaPresent(
            volume=step.volume,
            node=self.node,
            uid=step.uid,
            size_bytes=state.size_bytes,
            device=state.path,
            consistency=Consistency(state.consistency.value),
            withdrawn=step.withdrawn,
            turn=state.turn or None,
            followed=state.followed,
        )

    async def resume(self, cause: str) -> tuple[str, ...]:
        """Have every attached device take I/O that nobody holds still; return which did not."""
        return await self.storage.ensure_moving(cause=cause)

    def _source(self, step: HaveReplica, source: CopyOf) -> Source:
        far = source.node is not None and source.node != self.node
        return Source(
            snapshot=source.snapshot,
            uid=source.uid,
            pool=source.pool,
            pool_uid="" if far else step.source_pool_uid,
            size_bytes=source.size_bytes,
            thin=source.thin,
            rate_bytes_per_s=source.rate_bytes_per_s or 0,
            node=(source.node or "") if far else "",
            operation=step.origin.correlation,
        )

    def _absent(
        self,
        step: HaveReplica | HaveMerged | HaveNoReplica | HaveMended,
        *,
        merged: bool = False,
    ) -> ReportReplicaAbsent:
        return ReportReplicaAbsent(volume=step.volume, node=self.node, uid=step.uid, merged=merged)

    def _disks(self, disks: tuple[str, ...]) -> list[PoolDisk]:
        paths = self.paths()
        return [PoolDisk(disk=disk, path=paths.get(disk, "")) for disk in disks]
