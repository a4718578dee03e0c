"""Replicated volumes by DRBD: legs tied to one another and set apart again, whoever uses them.

What lies where, from the consumer down; that of an encrypted volume is in ``stacks``::

    /dev/hwbus/<volume>             keeps its name, whatever is below it
    /dev/drbd<minor>                as large as the volume, and its header if it is encrypted
    /dev/mapper/hwbus:<volume>.leg  what DRBD has for itself, its metadata in the end of it
    /dev/<pool>/<volume>            as large as the volume, and head-room
"""

from collections.abc import AsyncIterator

from msgspec.structs import replace

from node_workers.drbd_config import Note, mine, others, refuse_crowd, resource
from node_workers.drbd_encrypted import EncryptedReplicas
from node_workers.drbd_legs import ReplicaLegs, Replicating, refuse_spent
from node_workers.drbd_roles import Promoted, Roles, number
from node_workers.drbd_tools import Birth, DrbdTools, PeerIsPrimaryError, Seen
from node_workers.drbd_verify import Comparing
from node_workers.filesystems import Filesystems
from node_workers.luks import Luks
from node_workers.lvm_volumes import Volumes
from node_workers.ports import (
    Filesystem,
    InUseError,
    NotThereError,
    Runner,
    UnsuitableError,
    VolumeSpec,
    VolumeState,
)
from node_workers.replication import (
    Comparison,
    Connection,
    DiskState,
    ReplicationSpec,
    ReplicationState,
    Role,
    Start,
)
from node_workers.stacks import Stack, Stacks, require_movable


class DrbdReplication:
    """The ``ReplicatedStorage`` port on DRBD, as described there."""

    def __init__(
        self,
        runner: Runner,
        volumes: Volumes,
        luks: Luks,
        replicating: Replicating,
        *,
        node: str,
    ) -> None:
        self._node = node
        self._volumes = volumes
        self._drbd = DrbdTools(runner)
        self._legs = ReplicaLegs(runner, self._drbd, replicating, node=node)
        self._see = self._legs.marks.see
        self._changes = replicating.changes
        judge, promises = replicating.judge, replicating.promises
        self._stacks = Stacks(runner, luks)
        see, stacks = self._see, self._stacks
        self._roles = Roles(runner, self._drbd, see, judge, promises, stacks, node=node)
        self._encrypted = EncryptedReplicas(runner, luks, self._roles)
        self._comparing = Comparing(runner, self._drbd, self._roles, node=node)
        self._filesystems = Filesystems(runner)

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
        """Have the leg tied to its peers, and the stable device on it."""
        seen = await self._see(spec.volume, spec.uid, cause=cause)
        refuse_crowd(spec, seen.version)
        mine(spec, self._node)
        left = seen.note
        if left is not None and mine(left.spec, self._node).since != mine(spec, self._node).since:
            if not may_create:
                raise NotThereError("metadata-missing", f"{spec.volume} is in another tie here")
            await self._leave_tie(pool_uid, leg, left, start, cause=cause)
            seen = await self._see(spec.volume, spec.uid, cause=cause)
        refuse_spent(seen)
        below = await self._volumes.ensure_room(pool_uid, leg, cause=cause)
        stack = await self._plain_stack(spec, seen, below.device, cause=cause)
        # A leg that was rolled back holds what counts.
        born = Start.NOTHING if start is Start.NOTHING else Start.DATA
        birth = Birth(start=born, may_create=may_create, alone=stack is not None)
        await self._legs.ensure(below, spec, seen, birth, cause=cause)
        if stack is not None:
            await self._convert(spec, stack, seen, cause=cause)
        if seen.split:
            await self._legs.attach(spec, seen, cause=cause)
        else:
            await self._drbd.adm("adjust", resource(spec.volume), cause=cause)
        if not seen.connected:
            self._roles.note_begun(spec.uid)
        seen = await self._see(spec.volume, spec.uid, cause=cause)
        if seen.marked and seen.connected:
            await self._drbd.unmark(spec.uid, cause=cause)
        return await self._state(spec, seen, cause=cause)

    async def ensure_plain(self, pool_uid: str, leg: VolumeSpec, *, uid: str, cause: str) -> None:
        """Have nothing of DRBD on the leg."""
        seen = await self._see(leg.name, uid, cause=cause)
        note = seen.note
        if note is None:
            await self._legs.ensure_removed(leg.name, uid, cause=cause)
            return
        refuse_spent(seen)
        below = await self._volumes.ensure_room(pool_uid, leg, cause=cause)
        if not seen.attached:
            if await self._legs.find(below, note, seen, cause=cause) is None:
                if not note.going:
                    raise NotThereError("metadata-missing", f"no metadata is left of {leg.name}")
                await self._legs.ensure_wiped(below, note, seen, cause=cause)
                return
            await self._legs.attach(note.spec, seen, cause=cause)
        await self._require_good(note.spec, cause=cause)
        seen = await self._see(leg.name, uid, cause=cause)
        stack = await self._stacks.find(leg.name, uid, cause=cause)
        if stack.stable is not None:
            require_movable(leg.name, stack)
            await self._disconnect(leg.name, seen, cause=cause)
            size_bytes = note.spec.size_bytes
            await self._stacks.ensure_moved(leg.name, stack, below.device, size_bytes, cause=cause)
        else:
            await self._stacks.ensure_taken_away(leg.name, uid, cause=cause)
        await self._roles.take_down(leg.name, cause=cause)
        await self._legs.ensure_wiped(below, note, seen, cause=cause)

    async def ensure_replica_down(self, volume: str, uid: str, *, force: bool, cause: str) -> None:
        """Have the leg not running in DRBD."""
        if not await self._roles.demote(volume, uid, force=force, cause=cause):
            seen = await self._see(volume, uid, cause=cause)
            if seen.resource is not None:
                await self._roles.take_down(volume, cause=cause)
        await self._legs.ensure_removed(volume, uid, cause=cause)

    async def ensure_forgotten(self, volume: str, uid: str, *, cause: str) -> None:
        """Have no file of a volume that is gone."""
        if (await self._drbd.look(cause=cause)).note(volume, uid) is not None:
            await self._legs.forget(volume, uid, cause=cause)

    async def ensure_filesystem(
        self, leg: VolumeSpec, spec: ReplicationSpec, *, cause: str
    ) -> None:
        """Have what a new volume has on the replicated device."""
        if leg.keys:
            made = await self._roles.promote(spec, granted=True, cause=cause)
            await self._encrypted.ensure_made(leg, spec, made, cause=cause)
        elif leg.filesystem is not Filesystem.NONE:
            made = await self._roles.promote(spec, granted=True, cause=cause)
            await self._filesystems.ensure_made(
                made.path, leg.filesystem, spec.uid, mounted=False, cause=cause
            )
        await self._roles.demote(spec.volume, spec.uid, force=False, cause=cause)

    async def ensure_replicated_keys(
        self,
        leg: VolumeSpec,
        spec: ReplicationSpec,
        dropped: tuple[str, ...],
        *,
        elsewhere: bool,
        cause: str,
    ) -> None:
        """Have the volume open by other keys, or have those for when it is written to here."""
        await self._encrypted.ensure_keys(leg, spec, dropped, elsewhere=elsewhere, cause=cause)

    async def ensure_promoted(self, spec: ReplicationSpec, *, cause: str) -> Promoted:
        """Have this node primary; return the replicated device."""
        return await self._roles.promote(spec, cause=cause)

    async def ensure_primary(self, spec: ReplicationSpec, *, cause: str) -> str:
        """Have this node primary; return the number of the replicated device."""
        return (await self._roles.promote(spec, cause=cause)).number

    async def ensure_secondary(self, volume: str, uid: str, *, force: bool, cause: str) -> None:
        """Have this node secondary."""
        if await self._roles.demote(volume, uid, force=force, cause=cause):
            await self._drbd.adm("adjust", resource(volume), cause=cause)
            self._roles.note_begun(uid)

    async def ensure_replicated_size(
        self, pool_uid: str, leg: VolumeSpec, spec: ReplicationSpec, *, cause: str
    ) -> VolumeState:
        """Have the leg so large, and what lies on it as soon as all legs are."""
        seen = await self._see(spec.volume, spec.uid, cause=cause)
        if seen.note is None or seen.resource is None or not seen.attached:
            raise NotThereError("volume-missing", f"{spec.volume} is not running in DRBD")
        if leg.keys and seen.resource.size_bytes < spec.size_bytes:
            await self._encrypted.require_key(leg, spec, seen, cause=cause)
        # While legs are compared DRBD does not resize; who needs the room goes first.
        waits = await self._comparing.break_off(spec, seen, cause=cause)
        below = await self._volumes.ensure_room(pool_uid, leg, cause=cause)
        note = await self._legs.grow(below, spec, seen, seen.note, cause=cause)
        before_bytes = found_bytes = seen.resource.size_bytes
        if seen.connected and not waits and (found_bytes < spec.size_bytes or len(note.places) > 1):
            found_bytes = await self._resize(spec, cause=cause)
        if found_bytes >= spec.size_bytes:
            await self._legs.put(replace(note, places=note.places[:1]), seen, cause=cause)
            await self._grow_what_lies_on_it(leg, spec, cause=cause)
        return VolumeState(
            uid=spec.uid,
            name=spec.volume,
            pool=spec.pool,
            size_bytes=found_bytes,
            path=f"/dev/drbd{seen.resource.minor}",
            changed=found_bytes > before_bytes,
        )

    async def settle_split(self, spec: ReplicationSpec, *, loses: bool, cause: str) -> None:
        """Have the leg connect again after a split brain."""
        name = resource(spec.volume)
        seen = await self._see(spec.volume, spec.uid, cause=cause)
        if seen.connected:
            await self._drbd.unmark(spec.uid, cause=cause)
            return
        refuse_spent(seen)
        if loses:
            await self._roles.demote(spec.volume, spec.uid, force=False, cause=cause)
            await self._disconnect(spec.volume, seen, cause=cause)
            await self._drbd.adm("connect", "--discard-my-data", name, cause=cause)
        else:
            await self._drbd.adm("adjust", name, cause=cause)
        await self._drbd.unmark(spec.uid, cause=cause)
        self._roles.note_begun(spec.uid)

    async def connect_anew(self, volume: str, uid: str, *, cause: str) -> None:
        """Have the leg give up looking for its peer and begin again."""
        await self._roles.connect_anew(volume, uid, cause=cause)

    async def ensure_metadata_spent(self, volume: str, uid: str, *, cause: str) -> None:
        """Have the leg not running, and never again in this tie."""
        if (await self._drbd.look(cause=cause)).note(volume, uid) is None:
            return
        # Refused if it is in use; and known before it is down: nobody must bring it up again.
        await self._roles.demote(volume, uid, force=False, cause=cause)
        await self._note_spent(volume, uid, spent=True, cause=cause)
        await self.ensure_replica_down(volume, uid, force=False, cause=cause)

    async def ensure_metadata_valid(self, volume: str, uid: str, *, cause: str) -> None:
        """Have the leg as it was: it was not rolled back."""
        if (await self._drbd.look(cause=cause)).note(volume, uid) is not None:
            await self._note_spent(volume, uid, spent=False, cause=cause)

    async def _note_spent(self, volume: str, uid: str, *, spent: bool, cause: str) -> None:
        seen = await self._see(volume, uid, cause=cause)
        if seen.note is not None:
            await self._legs.put(replace(seen.note, spent=spent), seen, cause=cause)

    async def compare(self, volume: str, uid: str, run: str, *, cause: str) -> Comparison:
        """Have the legs compared by checksum."""
        return await self._comparing.compare(volume, uid, run, cause=cause)

    async def even_out(self, volume: str, uid: str, *, cause: str) -> Comparison:
        """Have what is known to differ copied."""
        return await self._comparing.even_out(volume, uid, cause=cause)

    async def stop_comparing(self, volume: str, uid: str, run: str, *, cause: str) -> None:
        """Have nothing compared any more."""
        await self._comparing.stop(volume, uid, run, cause=cause)

    async def replication_states(self, *, cause: str) -> dict[str, ReplicationState]:
        """Return what the kernel has, by the name of the volume."""
        look = await self._drbd.look(cause=cause)
        if look.version is None:
            return {}
        states = {}
        for volume, note in look.notes.items():
            if note is not None:
                seen = look.seen(volume, note.spec.uid, look.version)
                seen = await self._legs.marks.noted(seen, cause=cause)
                if seen.resource is not None:
                    states[volume] = await self._state(note.spec, seen, cause=cause)
        return states

    def replication_changes(self) -> AsyncIterator[None]:
        """Yield whenever something of it may have changed."""
        return self._changes()

    async def _leave_tie(
        self, pool_uid: str, leg: VolumeSpec, left: Note, start: Start, *, cause: str
    ) -> None:
        """Have nothing left of an earlier tie, which the peers went on from without this node.

        If what is on the leg is to count, it has to be good; else, or if it was rolled back, nobody
        may have it in use.
        """
        if start is Start.DATA:
            await self.ensure_plain(pool_uid, leg, uid=left.spec.uid, cause=cause)
            return
        await self.ensure_replica_down(leg.name, left.spec.uid, force=False, cause=cause)
        seen = await self._see(leg.name, left.spec.uid, cause=cause)
        below = await self._volumes.ensure_room(pool_uid, leg, cause=cause)
        await self._legs.ensure_wiped(below, left, seen, cause=cause)

    async def _plain_stack(
        self, spec: ReplicationSpec, seen: Seen, below: str, *, cause: str
    ) -> Stack | None:
        """Return what is in use if it still lies on the leg itself, and may be moved.

        What is written past DRBD its peers would never hear of, so it has none until it is moved.
        """
        stack = await self._stacks.find(spec.volume, spec.uid, cause=cause)
        if stack.below != below:
            # Where it belongs, or nowhere: who began to move it away and died left a table behind.
            await self._stacks.devices.ensure_settled(spec.volume, stack.stable, cause=cause)
            await self._stacks.backings.ensure_settled(spec.volume, stack.backing, cause=cause)
            return None
        if stack.stable is None:  # who died at work on an encrypted volume has left it open
            await self._stacks.ensure_taken_away(spec.volume, spec.uid, cause=cause)
            return None
        require_movable(spec.volume, stack)
        peers = seen.resource.peers if seen.resource is not None else ()
        if any(one.connection is not Connection.STANDALONE for one in peers):
            raise InUseError(f"{stack.stable.path} is written to past its replication")
        return stack

    async def _convert(
        self, spec: ReplicationSpec, stack: Stack, seen: Seen, *, cause: str
    ) -> None:
        """Have what is in use on DRBD, which has met no peer yet."""
        await self._legs.attach(spec, seen, cause=cause)
        await self._drbd.adm("primary", resource(spec.volume), cause=cause)
        below = number(mine(spec, self._node).minor)
        size_bytes = spec.size_bytes
        await self._stacks.ensure_moved(spec.volume, stack, below, size_bytes, cause=cause)

    async def _require_good(self, spec: ReplicationSpec, *, cause: str) -> None:
        """Raise ``UnsuitableError`` unless the leg has all that was ever acknowledged."""
        # As DRBD has it: who asks for one leg alone asks for what is on it.
        found = (await self._drbd.see(spec.volume, spec.uid, cause=cause)).resource
        if found is not None and found.disk is DiskState.CONSISTENT:
            # Whether anybody has gone on without it is for the log to say.
            await self._roles.promote(spec, untying=True, cause=cause)
            found = (await self._drbd.see(spec.volume, spec.uid, cause=cause)).resource
        if found is None or found.disk is not DiskState.UP_TO_DATE:
            disk = "not running" if found is None else found.disk.value
            raise UnsuitableError("not-up-to-date", f"the leg of {spec.volume} is {disk}")
        if found.frozen:
            raise NotThereError("verdict-unknown", f"{spec.volume} waits for the log's verdict")

    async def _disconnect(self, volume: str, seen: Seen, *, cause: str) -> None:
        """Have no connection. A peer that is there learns that its data are old from now on."""
        peers = seen.resource.peers if seen.resource is not None else ()
        if any(one.connection is not Connection.STANDALONE for one in peers):
            await self._drbd.adm("disconnect", resource(volume), cause=cause)

    async def _resize(self, spec: ReplicationSpec, *, cause: str) -> int:
        """Have the device as large as the smallest leg, at most as asked; returns its size.

        DRBD resizes only where somebody is primary.
        """
        seen = await self._see(spec.volume, spec.uid, cause=cause)
        roles = {one.role for one in seen.resource.peers} if seen.resource is not None else set()
        idle = Role.PRIMARY not in roles and (
            seen.resource is not None and seen.resource.role is not Role.PRIMARY
        )
        if idle:
            await self._roles.promote(spec, cause=cause)
        try:
            await self._drbd.adm("resize", resource(spec.volume), cause=cause)
        finally:
            if idle:
                await self._roles.demote(spec.volume, spec.uid, force=False, cause=cause)
        seen = await self._see(spec.volume, spec.uid, cause=cause)
        return 0 if seen.resource is None else seen.resource.size_bytes

    async def _grow_what_lies_on_it(
        self, leg: VolumeSpec, spec: ReplicationSpec, *, cause: str
    ) -> None:
        """Have stable device and filesystem as large, where the volume is in use, or nowhere."""
        if leg.keys:
            await self._encrypted.ensure_grown(leg, spec, cause=cause)
            return
        devices = self._stacks.devices
        stable = await devices.find(spec.volume, spec.uid, cause=cause)
        mounts: tuple[str, ...] = ()
        below = number(mine(spec, self._node).minor)
        path = f"/dev/drbd{mine(spec, self._node).minor}"
        if stable is not None:
            size_bytes = spec.size_bytes
            await devices.ensure_size(spec.volume, stable, below, size_bytes, cause=cause)
            mounts = await self._filesystems.mounts(stable.number, cause=cause)
            path = stable.node
        if leg.filesystem is Filesystem.NONE:
            return
        if stable is None:
            try:
                await self._roles.promote(spec, cause=cause)
            except PeerIsPrimaryError:
                return  # it is grown there
        await self._filesystems.ensure_grown(
            path, leg.filesystem, spec.size_bytes, mounts, cause=cause
        )
        if stable is None:
            await self._roles.demote(spec.volume, spec.uid, force=False, cause=cause)

    async def _state(self, spec: ReplicationSpec, seen: Seen, *, cause: str) -> ReplicationState:
        if seen.resource is None:
            raise NotThereError("volume-missing", f"{spec.volume} is not running in DRBD")
        peers = tuple(one.node for one in others(spec, self._node))
        state = seen.resource.state(spec.volume, peers, split=seen.split)
        if not seen.split:
            return state
        return replace(
            state, generations=await self._drbd.generations(resource(spec.volume), cause=cause)
        )
