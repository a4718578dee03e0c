"""Legs: what DRBD lies on, with its metadata in the end of it, and the file that says so."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
from msgspec.structs import replace

from node_workers import drbd_config
from node_workers.drbd_changes import changes
from node_workers.drbd_config import FOLDER, RESOURCE, Note, Place, mine, resource
from node_workers.drbd_status import Resource
from node_workers.drbd_tools import PUT, Birth, DrbdTools, Seen
from node_workers.fencing import Promises
from node_workers.legs import Legs
from node_workers.lvm_report import LogicalVolume
from node_workers.ports import NotThereError, Runner
from node_workers.replication import Connection, DiskState, Judge, ReplicationSpec, Role
from node_workers.tools import REMOVE, Tools

MARK = f"{FOLDER}/{RESOURCE}{{}}.diskless"
# Prints which volumes, by their uid, have a leg that was without its disk. No file of DRBD's.
MARKS = (
    "sh",
    "-c",
    f'for mark in {MARK.format("*")}; do [ ! -e "$mark" ] || echo "${{mark##*/}}"; done',
)
_GONE = frozenset({DiskState.DISKLESS, DiskState.FAILED})
_GOOD = frozenset({DiskState.CONSISTENT, DiskState.UP_TO_DATE})


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


class DiskMarks:
    """Knows, also after a boot, which legs were without their disks since they were last in step.

    A primary whose disk fails goes on through its peer. If the disk is back after a boot and the
    peer is not, DRBD takes for good what is on it, which lacks all that was written meanwhile.
    """

    def __init__(self, runner: Runner, drbd: DrbdTools) -> None:
        self._tools = Tools(runner)
        self._drbd = drbd
        self._known: set[str] | None = None  # as the files say, once they were looked at
        self._alone = asyncio.Lock()

    async def see(self, volume: str, uid: str, *, cause: str) -> Seen:
        """Return what there is of one volume, as ``noted`` has it."""
        return await self.noted(await self._drbd.see(volume, uid, cause=cause), cause=cause)

    async def noted(self, seen: Seen, *, cause: str) -> Seen:
        """Return what is *seen*, as soon as it is written down what that says of the disk.

        A leg that was without its disk counts as outdated until it is in step, unless it is in use.
        """
        if seen.note is None or seen.resource is None:
            return seen
        uid, found = seen.note.spec.uid, seen.resource
        marked = uid in await self._marks(cause=cause)
        if (marked and is_in_step(found)) or (not marked and is_without_disk(found)):
            return await self._note(seen.note.spec.volume, uid, cause=cause)
        if marked and found.role is not Role.PRIMARY and found.disk in _GOOD and _is_apart(found):
            return replace(seen, resource=replace(found, disk=DiskState.OUTDATED))
        return seen

    async def forget(self, uid: str, *, cause: str) -> None:
        """Have no mark of a leg that is in no tie any more."""
        async with self._alone:
            await self._remove(uid, cause=cause)

    async def _note(self, volume: str, uid: str, *, cause: str) -> Seen:
        """Look again, with nobody else about to write down what was seen before, and write."""
        async with self._alone:
            seen = await self._drbd.see(volume, uid, cause=cause)
            if seen.note is None or seen.resource is None:
                return seen
            if is_in_step(seen.resource):
                await self._remove(uid, cause=cause)
            elif is_without_disk(seen.resource):
                said = f"{volume}\n".encode()
                await self._tools.must(*PUT, MARK.format(uid), cause=cause, stdin=said)
                (await self._marks(cause=cause)).add(uid)
            return seen

    async def _remove(self, uid: str, *, cause: str) -> None:
        known = await self._marks(cause=cause)
        if uid in known:
            await self._tools.must(*REMOVE, MARK.format(uid), cause=cause)
            known.discard(uid)

    async def _marks(self, *, cause: str) -> set[str]:
        if self._known is None:
            said = (await self._tools.must(*MARKS, cause=cause)).stdout
            begin, end = MARK.rpartition("/")[2].split("{}")
            names = said.splitlines()
            self._known = {name.removeprefix(begin).removesuffix(end) for name in names}
        return self._known


def is_without_disk(found: Resource) -> bool:
    """Return whether a leg that is tied has lost its disk; one that is coming up never had it."""
    looks = any(one.connection is not Connection.STANDALONE for one in found.peers)
    return found.disk in _GONE and (looks or found.role is Role.PRIMARY)


def is_in_step(found: Resource) -> bool:
    """Return whether the leg has all that was written, as a peer that is there has it."""
    whole = (
        one.connection is Connection.CONNECTED and one.disk is DiskState.UP_TO_DATE
        for one in found.peers
    )
    return found.disk is DiskState.UP_TO_DATE and any(whole)


def _is_apart(found: Resource) -> bool:
    return all(one.connection is not Connection.CONNECTED for one in found.peers)


class ReplicaLegs:
    """Has them there, and attached."""

    def __init__(
        self, runner: Runner, drbd: DrbdTools, replicating: Replicating, *, node: str
    ) -> None:
        self._with = replicating
        self._node = node
        self._drbd = drbd
        self.marks = DiskMarks(runner, drbd)
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
        await self.forget(spec.volume, spec.uid, cause=cause)

    async def forget(self, volume: str, uid: str, *, cause: str) -> None:
        """Have no file of a leg that is in no tie any more."""
        # The mark first: who dies in between finds the other file, and so a reason to go on.
        await self.marks.forget(uid, cause=cause)
        await self._drbd.forget(volume, uid, cause=cause)


def refuse_spent(seen: Seen) -> None:
    """Raise if the leg was rolled back, and its metadata with it: they tell of another day."""
    if seen.note is not None and seen.note.spent:
        because = f"the leg of {seen.note.spec.volume} was rolled back, its metadata with it"
        raise NotThereError("metadata-missing", because)
