"""Snapshots of one instant: of several volumes, or of one with a stable device above it.

Each is made with a tag of what it will have caught, and is marked with it only when all of them are
there and the devices stood still to the end. So one without the mark is of no instant, nobody was
told of it, and it is taken again; and with one mark the instant has been, and what is missing then
was removed by somebody.

Of replicated volumes other nodes take theirs meanwhile (``lvm_followers``). With the mark goes the
turn in which that was, and who has followed. Who did not have all that was written then, by what
DRBD says while nobody writes, has not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from node_workers.devices import StableDevices
from node_workers.filesystems import Filesystems
from node_workers.lvm_pools import our_group
from node_workers.lvm_report import (
    CATCHING_TAG,
    CAUSE_TAG,
    CONSISTENCY_TAG,
    FOLLOWED_TAG,
    TURN_TAG,
    VOLUME_TAG,
    LogicalVolume,
    VolumeGroup,
    tag_value,
)
from node_workers.lvm_volumes import ours, refuse_reserved
from node_workers.ports import (
    Consistency,
    Lead,
    NotThereError,
    Runner,
    SnapshotSpec,
    SnapshotState,
    StableDevice,
    UnsuitableError,
)
from node_workers.replication import Connection, DiskState, ReplicationState, Role, Sync
from node_workers.stillness import NOT_THE_STILL, held_still, work_while_still
from node_workers.tools import Tools


class Wish(msgspec.Struct, frozen=True):
    """One snapshot that shall be there, and the uid of the pool it shall be in."""

    pool_uid: str
    spec: SnapshotSpec


class _Origin(msgspec.Struct, frozen=True):
    """A volume as it is used now; ``device`` is what can hold it still, if it has one.

    ``loose``: somebody uses it, and nobody here can hold it still.
    """

    volume: LogicalVolume
    device: StableDevice | None
    caught: Consistency
    mounts: tuple[str, ...] = ()
    loose: bool = False


class Instants:
    """Takes the snapshots of one instant. ``still`` are the volumes that are held right now."""

    def __init__(
        self, runner: Runner, replicated: Callable[[str], Awaitable[Mapping[str, ReplicationState]]]
    ) -> None:
        self._runner = runner
        self._replicated = replicated
        self._tools = Tools(runner)
        self._devices = StableDevices(runner)
        self._filesystems = Filesystems(runner)
        self.still: set[str] = set()

    async def ensure(
        self, wishes: Sequence[Wish], *, may_take: bool, cause: str, lead: Lead | None = None
    ) -> tuple[SnapshotState, ...]:
        """Have all the snapshots, as ``Storage.ensure_snapshots`` promises."""
        for wish in wishes:
            refuse_reserved(wish.spec.name)
        groups = await groups_of(self._runner, wishes, cause=cause)
        found = {w.spec.uid: lv for w in wishes if (lv := found_in(groups, w)) is not None}
        marked = any(_mark(lv) is not None for lv in found.values())
        missing = [w.spec.name for w in wishes if w.spec.uid not in found]
        if missing and (marked or not may_take):
            gone = f"{', '.join(missing)} of that instant is missing"
            raise NotThereError("snapshot-missing", gone)
        if marked:
            # Whoever died while marking has left the rest without a word of who has followed.
            one = next(lv for lv in found.values() if _mark(lv) is not None)
            followed = _tagged(one, FOLLOWED_TAG)
            await self._mark(wishes, found, followed, cause=cause)
            return tuple(
                msgspec.structs.replace(
                    state_of(w.spec, found[w.spec.uid], changed=False), followed=followed
                )
                for w in wishes
            )
        if found:
            names = [f"{w.spec.pool}/{w.spec.name}" for w in wishes if w.spec.uid in found]
            await self._tools.must("lvremove", "--yes", *names, cause=cause)
        followed = await self._take(wishes, groups, lead, cause=cause)
        groups = await groups_of(self._runner, wishes, cause=cause)
        taken = {w.spec.uid: lv for w in wishes if (lv := found_in(groups, w)) is not None}
        await self._mark(wishes, taken, followed, cause=cause)
        return tuple(
            msgspec.structs.replace(
                state_of(w.spec, taken[w.spec.uid], changed=True), followed=followed
            )
            for w in wishes
        )

    async def can_be_held(self, origin: LogicalVolume, spec: SnapshotSpec, *, cause: str) -> bool:
        """Return whether somebody uses the volume by a device that can be held still."""
        if not origin.open:
            return False
        device = await self._devices.find(spec.volume, spec.volume_uid, cause=cause)
        return device is not None

    async def _take(
        self,
        wishes: Sequence[Wish],
        groups: Mapping[str, VolumeGroup],
        lead: Lead | None,
        *,
        cause: str,
    ) -> tuple[str, ...]:
        """Have all of them; return the nodes that took theirs in the same instant."""
        tied = await self._replicated(cause)
        origins = [await self._origin(wish, groups, tied, cause=cause) for wish in wishes]
        loose = [one.volume.name for one in origins if one.loose]
        if len(loose) > 1:
            raise UnsuitableError("used-beside", f"{', '.join(loose)} are used beside hwbus")
        held = [one for one in origins if one.device is not None]
        mounts = sorted({mount for one in held for mount in one.mounts})
        if mounts:
            # What waits to be written is written before, so that the moment is short.
            await self._tools.must("sync", "-f", *mounts, cause=cause)
        caught = {w.spec.volume_uid: o.caught for w, o in zip(wishes, origins, strict=True)}
        # What is used past its stable device goes on: then others would be of another moment.
        ready = () if lead is None or loose else await lead.ready()
        turn = lead.turn if lead is not None and ready else ""
        commands = [
            create_argv(w.spec, groups[w.spec.pool], caught[w.spec.volume_uid], cause, turn)
            for w in wishes
        ]
        names = [one.volume.name for one in held]
        self.still |= set(names)
        try:
            if lead is not None and ready:
                return await self._led(wishes, names, commands, lead, ready, caught, cause=cause)
            await work_while_still(self._runner, names, commands, cause=cause)
        finally:
            self.still -= set(names)
        return ()

    async def _led(
        self,
        wishes: Sequence[Wish],
        names: Sequence[str],
        commands: Sequence[Sequence[str]],
        lead: Lead,
        ready: tuple[str, ...],
        caught: Mapping[str, Consistency],
        *,
        cause: str,
    ) -> tuple[str, ...]:
        async with held_still(self._runner, names, cause=cause):
            # Before theirs are taken: one that catches up meanwhile was behind when it took its.
            whole = await self._in_step([wish.spec.volume for wish in wishes], cause=cause)
            in_step = tuple(node for node in ready if node in whole)
            # Each to its end, whatever becomes of the other: a tool is not broken off.
            made, took = await asyncio.gather(
                self._run(commands, cause=cause),
                lead.take(in_step, caught),
                return_exceptions=True,
            )
        if isinstance(made, BaseException):
            raise made
        if isinstance(took, BaseException):
            raise took
        return took

    async def _run(self, commands: Sequence[Sequence[str]], *, cause: str) -> None:
        for command in commands:
            await self._tools.must(*command, cause=cause)

    async def _in_step(self, volumes: Sequence[str], *, cause: str) -> frozenset[str]:
        """Return the nodes that have all that was written to each of the volumes."""
        found = await self._replicated(cause)
        nodes = [_whole_peers(found[name]) if name in found else set() for name in volumes]
        return frozenset(set.intersection(*nodes))

    async def _origin(
        self,
        wish: Wish,
        groups: Mapping[str, VolumeGroup],
        tied: Mapping[str, ReplicationState],
        *,
        cause: str,
    ) -> _Origin:
        spec = wish.spec
        origin = ours(groups[spec.pool], spec.volume_uid, spec.volume)
        if origin is None:
            raise NotThereError("volume-missing", f"there is no volume {spec.pool}/{spec.volume}")
        if not origin.active:
            name = f"{spec.pool}/{origin.name}"
            await self._tools.must("lvchange", "--activate", "y", "--poll", "n", name, cause=cause)
        leg = tied.get(spec.volume)
        if leg is not None and any(one.role is Role.PRIMARY for one in leg.peers):
            return _Origin(origin, None, Consistency.CRASH, loose=True)
        # DRBD has it open always; a secondary lets nobody write.
        if not origin.open or (leg is not None and leg.role is Role.SECONDARY):
            return _Origin(origin, None, Consistency.FILESYSTEM)
        device = await self._devices.find(spec.volume, spec.volume_uid, cause=cause)
        number = origin.device if device is None else device.number
        mounts = await self._filesystems.mounts(number, cause=cause)
        idle = device is not None and not device.open
        caught = Consistency.FILESYSTEM if mounts or idle else Consistency.CRASH
        return _Origin(origin, device, caught, mounts, loose=device is None)

    async def _mark(
        self,
        wishes: Sequence[Wish],
        found: Mapping[str, LogicalVolume],
        followed: tuple[str, ...],
        *,
        cause: str,
    ) -> None:
        unmarked = [w.spec for w in wishes if _mark(found[w.spec.uid]) is None]
        by_mark: dict[Consistency, list[str]] = {}
        for spec in unmarked:
            by_mark.setdefault(catching(found[spec.uid]), []).append(f"{spec.pool}/{spec.name}")
        for caught, names in sorted(by_mark.items()):
            await mark(self._tools, names, caught, followed, cause=cause)


async def groups_of(
    runner: Runner, wishes: Sequence[Wish], *, cause: str
) -> dict[str, VolumeGroup]:
    """Return the pools of the snapshots, by name. Raises ``NotThereError``."""
    pools = {wish.spec.pool: wish.pool_uid for wish in wishes}
    return {
        pool: await our_group(runner, uid, pool, cause=cause) for pool, uid in sorted(pools.items())
    }


async def mark(
    tools: Tools,
    names: Sequence[str],
    caught: Consistency,
    followed: tuple[str, ...] = (),
    *,
    cause: str,
) -> None:
    """Have it on the snapshots that they are of an instant that was seen to its end."""
    tags = (f"{CONSISTENCY_TAG}{caught}", *(f"{FOLLOWED_TAG}{node}" for node in followed))
    words = (word for tag in tags for word in ("--addtag", tag))
    await tools.must("lvchange", *words, *names, cause=cause)


def _whole_peers(leg: ReplicationState) -> set[str]:
    """Return the peers that have all that was written to the leg."""
    if leg.disk is not DiskState.UP_TO_DATE:
        return set()
    connected = [one for one in leg.peers if one.connection is Connection.CONNECTED]
    at_rest = [one for one in connected if one.sync in {Sync.NONE, Sync.VERIFYING}]
    return {one.node for one in at_rest if one.disk is DiskState.UP_TO_DATE}


def is_unmarked(found: LogicalVolume) -> bool:
    """Return whether the snapshot is of an instant that was not seen to its end."""
    return _mark(found) is None and any(tag.startswith(CATCHING_TAG) for tag in found.tags)


def found_in(groups: Mapping[str, VolumeGroup], wish: Wish) -> LogicalVolume | None:
    """Return the snapshot, if it is there."""
    return ours(groups[wish.spec.pool], wish.spec.uid, wish.spec.name)


def _mark(found: LogicalVolume) -> Consistency | None:
    return next((one for one in Consistency if f"{CONSISTENCY_TAG}{one}" in found.tags), None)


def catching(found: LogicalVolume) -> Consistency:
    """Return in what state it will have caught its volume, once it is marked."""
    whole = f"{CATCHING_TAG}{Consistency.FILESYSTEM}" in found.tags
    return Consistency.FILESYSTEM if whole else Consistency.CRASH


def state_of(spec: SnapshotSpec, found: LogicalVolume, *, changed: bool) -> SnapshotState:
    """Return how the snapshot is."""
    return SnapshotState(
        size_bytes=found.size_bytes,
        path=f"/dev/{spec.pool}/{spec.name}",
        consistency=_mark(found) or catching(found),
        changed=changed,
        turn=turn_of(found),
        followed=_tagged(found, FOLLOWED_TAG),
    )


def turn_of(found: LogicalVolume) -> str:
    """Return in what turn the snapshot was taken; empty if no other node had to do with it."""
    return next(iter(_tagged(found, TURN_TAG)), "")


def _tagged(found: LogicalVolume, tag: str) -> tuple[str, ...]:
    return tuple(sorted(one.removeprefix(tag) for one in found.tags if one.startswith(tag)))


def create_argv(
    spec: SnapshotSpec, group: VolumeGroup, caught: Consistency, cause: str, turn: str
) -> tuple[str, ...]:
    """Return the command that makes the snapshot, which is not marked yet."""
    extents = -(-spec.size_bytes // group.extent_bytes)
    # Left to itself, LVM would activate no thin snapshot, now or ever, without being told twice.
    room = ("--setactivationskip", "n") if spec.thin else ("--extents", str(extents))
    tags = (
        f"{VOLUME_TAG}{spec.uid}",
        f"{CAUSE_TAG}{tag_value(cause)}",
        f"{CATCHING_TAG}{caught}",
        *((f"{TURN_TAG}{turn}",) if turn else ()),
    )
    tagged = (word for tag in tags for word in ("--addtag", tag))
    return (
        *("lvcreate", "--yes", "--snapshot", *NOT_THE_STILL, *room, "--name", spec.name, *tagged),
        f"{spec.pool}/{spec.volume}",
    )
