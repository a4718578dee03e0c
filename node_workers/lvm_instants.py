"""Snapshots of one instant: of several volumes, or of one with a stable device above it.

Each is made with a tag of what it will have caught, and is marked with it only when all of them are
there and the devices stood still to the end. So one without the mark is of no instant, nobody was
told of it, and it is taken again; and with one mark the instant has been, and what is missing then
was removed by somebody.
"""

from collections.abc import Mapping, Sequence

import msgspec

from node_workers.devices import StableDevices
from node_workers.filesystems import Filesystems
from node_workers.lvm_pools import our_group
from node_workers.lvm_report import (
    CATCHING_TAG,
    CAUSE_TAG,
    CONSISTENCY_TAG,
    VOLUME_TAG,
    LogicalVolume,
    VolumeGroup,
    tag_value,
)
from node_workers.lvm_volumes import ours, refuse_reserved
from node_workers.ports import (
    Consistency,
    NotThereError,
    Runner,
    SnapshotSpec,
    SnapshotState,
    StableDevice,
    UnsuitableError,
)
from node_workers.stillness import NOT_THE_STILL, work_while_still
from node_workers.tools import Tools


class Wish(msgspec.Struct, frozen=True):
    """One snapshot that shall be there, and the uid of the pool it shall be in."""

    pool_uid: str
    spec: SnapshotSpec


class _Origin(msgspec.Struct, frozen=True):
    """A volume as it is used now; ``device`` is what can hold it still, if it has one."""

    volume: LogicalVolume
    device: StableDevice | None
    caught: Consistency
    mounts: tuple[str, ...] = ()

    @property
    def loose(self) -> bool:
        """Whether somebody uses it, and nobody can hold it still."""
        return self.volume.open and self.device is None


class Instants:
    """Takes the snapshots of one instant. ``still`` are the volumes that are held right now."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._tools = Tools(runner)
        self._devices = StableDevices(runner)
        self._filesystems = Filesystems(runner)
        self.still: set[str] = set()

    async def ensure(
        self, wishes: Sequence[Wish], *, may_take: bool, cause: str
    ) -> tuple[SnapshotState, ...]:
        """Have all the snapshots, as ``Storage.ensure_snapshots`` promises."""
        for wish in wishes:
            refuse_reserved(wish.spec.name)
        groups = await self._groups(wishes, cause=cause)
        found = {w.spec.uid: lv for w in wishes if (lv := _found(groups, w)) is not None}
        marked = any(_mark(lv) is not None for lv in found.values())
        missing = [w.spec.name for w in wishes if w.spec.uid not in found]
        if missing and (marked or not may_take):
            gone = f"{', '.join(missing)} of that instant is missing"
            raise NotThereError("snapshot-missing", gone)
        if marked:
            await self._mark(wishes, found, cause=cause)
            return tuple(_state(w.spec, found[w.spec.uid], changed=False) for w in wishes)
        if found:
            names = [f"{w.spec.pool}/{w.spec.name}" for w in wishes if w.spec.uid in found]
            await self._tools.must("lvremove", "--yes", *names, cause=cause)
        await self._take(wishes, groups, cause=cause)
        groups = await self._groups(wishes, cause=cause)
        taken = {w.spec.uid: lv for w in wishes if (lv := _found(groups, w)) is not None}
        await self._mark(wishes, taken, cause=cause)
        return tuple(_state(w.spec, taken[w.spec.uid], changed=True) for w in wishes)

    async def can_be_held(self, origin: LogicalVolume, spec: SnapshotSpec, *, cause: str) -> bool:
        """Return whether somebody uses the volume by a device that can be held still."""
        if not origin.open:
            return False
        device = await self._devices.find(spec.volume, spec.volume_uid, cause=cause)
        return device is not None

    async def _take(
        self, wishes: Sequence[Wish], groups: Mapping[str, VolumeGroup], *, cause: str
    ) -> None:
        origins = [await self._origin(wish, groups, cause=cause) for wish in wishes]
        loose = [one.volume.name for one in origins if one.loose]
        if len(loose) > 1:
            raise UnsuitableError("used-beside", f"{', '.join(loose)} are used beside hwbus")
        held = [one for one in origins if one.device is not None]
        mounts = sorted({mount for one in held for mount in one.mounts})
        if mounts:
            # What waits to be written is written before, so that the moment is short.
            await self._tools.must("sync", "-f", *mounts, cause=cause)
        commands = [
            _create_argv(wish.spec, groups[wish.spec.pool], one.caught, cause)
            for wish, one in zip(wishes, origins, strict=True)
        ]
        names = [one.volume.name for one in held]
        self.still |= set(names)
        try:
            await work_while_still(self._runner, names, commands, cause=cause)
        finally:
            self.still -= set(names)

    async def _groups(self, wishes: Sequence[Wish], *, cause: str) -> dict[str, VolumeGroup]:
        pools = {wish.spec.pool: wish.pool_uid for wish in wishes}
        return {
            pool: await our_group(self._runner, uid, pool, cause=cause)
            for pool, uid in sorted(pools.items())
        }

    async def _origin(
        self, wish: Wish, groups: Mapping[str, VolumeGroup], *, cause: str
    ) -> _Origin:
        spec = wish.spec
        origin = ours(groups[spec.pool], spec.volume_uid, spec.volume)
        if origin is None:
            raise NotThereError("volume-missing", f"there is no volume {spec.pool}/{spec.volume}")
        if not origin.active:
            name = f"{spec.pool}/{origin.name}"
            await self._tools.must("lvchange", "--activate", "y", "--poll", "n", name, cause=cause)
        if not origin.open:
            return _Origin(origin, None, Consistency.FILESYSTEM)
        device = await self._devices.find(spec.volume, spec.volume_uid, cause=cause)
        number = origin.device if device is None else device.number
        mounts = await self._filesystems.mounts(number, cause=cause)
        idle = device is not None and not device.open
        caught = Consistency.FILESYSTEM if mounts or idle else Consistency.CRASH
        return _Origin(origin, device, caught, mounts)

    async def _mark(
        self, wishes: Sequence[Wish], found: Mapping[str, LogicalVolume], *, cause: str
    ) -> None:
        unmarked = [w.spec for w in wishes if _mark(found[w.spec.uid]) is None]
        by_mark: dict[Consistency, list[str]] = {}
        for spec in unmarked:
            by_mark.setdefault(_catching(found[spec.uid]), []).append(f"{spec.pool}/{spec.name}")
        for caught, names in sorted(by_mark.items()):
            await self._tools.must(
                "lvchange", "--addtag", f"{CONSISTENCY_TAG}{caught}", *names, cause=cause
            )


def is_unmarked(found: LogicalVolume) -> bool:
    """Return whether the snapshot is of an instant that was not seen to its end."""
    return _mark(found) is None and any(tag.startswith(CATCHING_TAG) for tag in found.tags)


def _found(groups: Mapping[str, VolumeGroup], wish: Wish) -> LogicalVolume | None:
    return ours(groups[wish.spec.pool], wish.spec.uid, wish.spec.name)


def _mark(found: LogicalVolume) -> Consistency | None:
    return next((one for one in Consistency if f"{CONSISTENCY_TAG}{one}" in found.tags), None)


def _catching(found: LogicalVolume) -> Consistency:
    whole = f"{CATCHING_TAG}{Consistency.FILESYSTEM}" in found.tags
    return Consistency.FILESYSTEM if whole else Consistency.CRASH


def _state(spec: SnapshotSpec, found: LogicalVolume, *, changed: bool) -> SnapshotState:
    return SnapshotState(
        size_bytes=found.size_bytes,
        path=f"/dev/{spec.pool}/{spec.name}",
        consistency=_mark(found) or _catching(found),
        changed=changed,
    )


def _create_argv(
    spec: SnapshotSpec, group: VolumeGroup, caught: Consistency, cause: str
) -> tuple[str, ...]:
    extents = -(-spec.size_bytes // group.extent_bytes)
    # Left to itself, LVM would activate no thin snapshot, now or ever, without being told twice.
    room = ("--setactivationskip", "n") if spec.thin else ("--extents", str(extents))
    tags = (
        f"{VOLUME_TAG}{spec.uid}",
        f"{CAUSE_TAG}{tag_value(cause)}",
        f"{CATCHING_TAG}{caught}",
    )
    tagged = (word for tag in tags for word in ("--addtag", tag))
    return (
        *("lvcreate", "--yes", "--snapshot", *NOT_THE_STILL, *room, "--name", spec.name, *tagged),
        f"{spec.pool}/{spec.volume}",
    )
