"""Legs: what DRBD lies on, with its metadata in the end of it, and the file that says so."""

from collections.abc import AsyncIterator, Callable

import msgspec
from msgspec.structs import replace

from node_workers import drbd_config
from node_workers.drbd_changes import changes
from node_workers.drbd_config import Note, Place, mine, resource
from node_workers.drbd_tools import Birth, DrbdTools, Seen
from node_workers.fencing import Promises
from node_workers.legs import Legs
from node_workers.lvm_report import LogicalVolume
from node_workers.ports import NotThereError, Runner
from node_workers.replication import Judge, ReplicationSpec


class Replicating(msgspec.Struct, frozen=True, kw_only=True):
    """What a node needs to replicate; *secret* is its X25519 key, 32 bytes.

    ``handler`` is the program the kernel asks when a peer is missed, up to the volume's name;
    ``changes`` yields whenever something of it may have changed.
    """

    secret: bytes
    judge: Judge
    handler: tuple[str, ...]
    promises: Promises
    changes: Callable[[], AsyncIterator[None]] = changes

    def __repr__(self) -> str:
        """Tell nobody the secret, whoever prints it."""
        return f"Replicating(handler={self.handler})"


class ReplicaLegs:
    """Has them there, and attached."""

    def __init__(
        self, runner: Runner, drbd: DrbdTools, replicating: Replicating, *, node: str
    ) -> None:
        self._with = replicating
        self._node = node
        self._drbd = drbd
        self._legs = Legs(runner)

    async def ensure(
        self, below: LogicalVolume, spec: ReplicationSpec, seen: Seen, birth: Birth, *, cause: str
    ) -> None:
        """Have the leg with its metadata, and its file, attached or not.

        Metadata that is not there is made only if it may be, and never was before: raises
        ``NotThereError`` (``metadata-missing``).
        """
        place = Place(leg_bytes=below.size_bytes, size_bytes=spec.size_bytes)
        note = seen.note or Note(spec=spec, places=(place,))
        # Only who grows it says that it is larger, when the leg is.
        spec = replace(spec, size_bytes=note.spec.size_bytes)
        note = replace(note, spec=spec, going=False)
        found: Note | None = note
        if not seen.attached:
            found = await self.find(below, note, seen, cause=cause)
        if found is None:
            if seen.note is not None or not birth.may_create:
                raise NotThereError("metadata-missing", f"no metadata is left of {spec.volume}")
            await self._drbd.make(spec, mine(spec, self._node), seen.version, birth, cause=cause)
            found = note
        await self.put(found, seen, cause=cause)

    async def find(
        self, below: LogicalVolume, note: Note, seen: Seen, *, cause: str
    ) -> Note | None:
        """Have the leg device as large as its metadata, which is in the end of it, says.

        Returns the note with that size first, or None if metadata of ours is nowhere.
        """
        spec, here = note.spec, mine(note.spec, self._node)
        for place in note.places:
            await self._legs.ensure(
                spec.volume, spec.uid, below.device, place.leg_bytes, cause=cause
            )
            if await self._drbd.is_ours(spec, here, seen.version, cause=cause):
                spec = replace(spec, size_bytes=place.size_bytes)
                return replace(note, spec=spec, places=(place,))
        return None

    async def grow(
        self, below: LogicalVolume, spec: ReplicationSpec, seen: Seen, note: Note, *, cause: str
    ) -> Note:
        """Have the attached leg device as large as the logical volume, and the file say so.

        Where metadata will be, nothing may look like some, and where it was it is known to have
        been, until DRBD has moved it.
        """
        name, uid, device = spec.volume, spec.uid, below.device
        found_bytes = await self._legs.size_bytes(name, device, cause=cause)
        note = replace(note, spec=spec)
        if found_bytes < below.size_bytes:
            path = f"/dev/{spec.pool}/{name}"
            await self._legs.wipe_end(path, found_bytes, below.size_bytes, cause=cause)
            new = Place(leg_bytes=below.size_bytes, size_bytes=spec.size_bytes)
            note = replace(note, places=(new, *note.places))
            await self.put(note, seen, cause=cause)
            await self._legs.ensure(name, uid, device, below.size_bytes, cause=cause)
        else:
            await self.put(note, seen, cause=cause)
        return note

    async def put(self, note: Note, seen: Seen, *, cause: str) -> None:
        """Have the resource file so."""
        file = drbd_config.file(
            note,
            seen.version,
            node=self._node,
            host=seen.host,
            secret=self._with.secret,
            handler=self._with.handler,
        )
        if file.note != seen.note:
            await self._drbd.put(note.spec.volume, file.text, cause=cause)

    async def attach(self, spec: ReplicationSpec, seen: Seen, *, cause: str) -> None:
        """Have the leg attached, and no peer looked for."""
        name = resource(spec.volume)
        if seen.resource is None:
            await self._drbd.adm("new-resource", name, cause=cause)
        if seen.resource is None or seen.resource.minor is None:
            await self._drbd.adm("new-minor", name, cause=cause)
        if not seen.attached:
            await self._drbd.adm("attach", name, cause=cause)

    async def ensure_removed(self, volume: str, uid: str, *, cause: str) -> None:
        """Have no leg device; what is on the logical volume stays."""
        await self._legs.ensure_removed(volume, uid, cause=cause)

    async def ensure_wiped(
        self, below: LogicalVolume, note: Note, seen: Seen, *, cause: str
    ) -> None:
        """Have neither metadata nor leg device nor file of a leg that is not attached."""
        spec = note.spec
        if await self.find(below, note, seen, cause=cause) is not None:
            # Nothing is missed from here on: whoever comes back after a crash may finish it.
            await self.put(replace(note, going=True), seen, cause=cause)
            minor = mine(spec, self._node).minor
            await self._drbd.wipe(spec.volume, minor, seen.version, cause=cause)
        await self._legs.ensure_removed(spec.volume, spec.uid, cause=cause)
        await self._drbd.forget(spec.volume, spec.uid, cause=cause)
