"""Snapshots by LVM: taken while the volume is in use, and merged back only while nobody uses it."""

from msgspec.structs import replace

from node_workers.filesystems import Filesystems
from node_workers.luks import Luks
from node_workers.lvm_instants import Instants, Wish, is_unmarked
from node_workers.lvm_pools import our_group
from node_workers.lvm_report import (
    CAUSE_TAG,
    CONSISTENCY_TAG,
    MERGED_TAG,
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
    ToolFailedError,
    UnsuitableError,
)
from node_workers.stacks import Stacks
from node_workers.tools import Tools

_MERGE_TIMEOUT_S = 3600.0


class Snapshots:
    """Takes, keeps and merges the snapshots that carry our tag."""

    def __init__(self, runner: Runner, luks: Luks, instants: Instants) -> None:
        self._runner = runner
        self._stacks = Stacks(runner, luks)
        self._instants = instants
        self._tools = Tools(runner)
        self._filesystems = Filesystems(runner)

    async def ensure(self, pool_uid: str, spec: SnapshotSpec, *, cause: str) -> SnapshotState:
        """Have the snapshot, as ``Storage.ensure_snapshot`` promises.

        Device mapper freezes a filesystem itself that is mounted on the volume; one on a stable
        device lies above what it freezes, so that device is held still. What it caught is a tag
        from the first moment on, so that no crash can make us forget it.
        """
        refuse_reserved(spec.name)
        group = await our_group(self._runner, pool_uid, spec.pool, cause=cause)
        found = ours(group, spec.uid, spec.name)
        if found is not None and not is_unmarked(found):
            return await self._kept(spec, found, cause=cause)
        origin = _origin(group, spec)
        if found is not None or await self._instants.can_be_held(origin, spec, cause=cause):
            wish = Wish(pool_uid, spec)
            (state,) = await self._instants.ensure((wish,), may_take=True, cause=cause)
            return state
        if not origin.active:
            await self._activate(spec.pool, origin.name, cause=cause)
        caught = await self._caught(origin, cause=cause)
        extents = -(-spec.size_bytes // group.extent_bytes)
        await self._tools.must(*_create_argv(spec, extents, caught, cause), cause=cause)
        return SnapshotState(
            size_bytes=extents * group.extent_bytes,
            path=_path(spec),
            consistency=caught,
            changed=True,
        )

    async def ensure_kept(
        self, pool_uid: str, spec: SnapshotSpec, *, cause: str
    ) -> SnapshotState | None:
        """Have the snapshot as it is, as ``Storage.ensure_snapshot_kept`` promises.

        The mark of a merge that was wanted and not begun goes: it must not be believed later. Room
        is added under running writes; what has overflowed already is not brought back by it.
        """
        group = await our_group(self._runner, pool_uid, spec.pool, cause=cause)
        found = ours(group, spec.uid, spec.name)
        origin = group.volume_with_uid(spec.volume_uid)
        marked = origin is not None and _mark(spec) in origin.tags
        if found is None and origin is not None and marked:
            await self._see_through(pool_uid, spec, cause=cause)
            return None
        if found is None:
            raise NotThereError("volume-missing", f"there is no snapshot {spec.pool}/{spec.name}")
        if origin is not None and marked:
            await self._change(origin, spec.pool, ("--deltag", _mark(spec)), cause=cause)
        grown = await self._extended(group, spec, found, cause=cause)
        return await self._kept(spec, grown, cause=cause)

    async def _extended(
        self, group: VolumeGroup, spec: SnapshotSpec, found: LogicalVolume, *, cause: str
    ) -> LogicalVolume:
        extents = -(-spec.size_bytes // group.extent_bytes)
        if spec.thin or extents * group.extent_bytes <= found.size_bytes:
            return found
        if found.invalid:
            raise UnsuitableError("snapshot-lost", f"{spec.pool}/{spec.name} has overflowed")
        await self._tools.must(
            "lvextend", "--extents", str(extents), f"{spec.pool}/{spec.name}", cause=cause
        )
        return replace(found, size_bytes=extents * group.extent_bytes)

    async def ensure_rolled_back(self, pool_uid: str, spec: SnapshotSpec, *, cause: str) -> None:
        """Have the volume as the snapshot has it, as ``Storage.ensure_rolled_back`` promises.

        LVM shows a snapshot no more once its merge is sure to come, so a mark on the volume tells
        one that was merged from one that somebody removed.
        """
        group = await our_group(self._runner, pool_uid, spec.pool, cause=cause)
        found, origin = ours(group, spec.uid, spec.name), _origin(group, spec)
        if found is not None:
            await self._begin(spec, origin, found, cause=cause)
        elif _mark(spec) not in origin.tags:
            missing = f"there is no snapshot {spec.pool}/{spec.name}"
            raise NotThereError("snapshot-missing", missing)
        await self._see_through(pool_uid, spec, cause=cause)

    async def _begin(
        self, spec: SnapshotSpec, origin: LogicalVolume, found: LogicalVolume, *, cause: str
    ) -> None:
        """Have LVM sure to merge.

        What is in use it would merge some day, at the next activation: so it is deactivated first,
        which LVM does only if nobody has it open.
        """
        if found.invalid:
            raise UnsuitableError("snapshot-lost", f"{spec.pool}/{spec.name} has overflowed")
        left_open = origin.encrypted and origin.open
        if left_open:
            closed = await self._stacks.ensure_closed(spec.volume, spec.volume_uid, cause=cause)
            origin = replace(origin, open=not closed)
        pair = (origin, found) if spec.thin else (origin,)
        for lv in (origin, found):
            if lv.open:
                path = f"/dev/{spec.pool}/{lv.name}"
                await self._filesystems.ensure_released(path, lv.device, cause=cause)
        active = [f"{spec.pool}/{lv.name}" for lv in pair if lv.active]
        if active:
            await self._tools.must("lvchange", "--activate", "n", *active, cause=cause)
        if _mark(spec) not in origin.tags:
            old = [tag for tag in origin.tags if tag.startswith(MERGED_TAG)]
            forget = (word for tag in old for word in ("--deltag", tag))
            await self._change(origin, spec.pool, (*forget, "--addtag", _mark(spec)), cause=cause)
        await self._tools.must(
            "lvconvert", "--yes", "--merge", f"{spec.pool}/{spec.name}", cause=cause
        )

    async def _see_through(self, pool_uid: str, spec: SnapshotSpec, *, cause: str) -> None:
        """Have the merge done; it goes on by itself in the kernel, and LVM is to notice its end."""
        group = await our_group(self._runner, pool_uid, spec.pool, cause=cause)
        origin = _origin(group, spec)
        name = f"{spec.pool}/{origin.name}"
        waiting = spec.thin and origin.merging  # for an activation
        if waiting and origin.active:
            await self._tools.must("lvchange", "--activate", "n", name, cause=cause)
        if waiting or not origin.active:
            await self._activate(spec.pool, origin.name, cause=cause)
        if not origin.merging:
            return
        operation = "merge_thin" if spec.thin else "merge"
        execution = await self._tools.must(
            *("lvm", "lvpoll", "--polloperation", operation, "--interval", "1", name),
            cause=cause,
            timeout_s=_MERGE_TIMEOUT_S,
        )
        group = await our_group(self._runner, pool_uid, spec.pool, cause=cause)
        if _origin(group, spec).merging:
            raise ToolFailedError(execution)

    async def _caught(self, origin: LogicalVolume, *, cause: str) -> Consistency:
        if not origin.open:
            return Consistency.FILESYSTEM
        mounts = await self._filesystems.mounts(origin.device, cause=cause)
        return Consistency.FILESYSTEM if mounts else Consistency.CRASH

    async def _kept(self, spec: SnapshotSpec, found: LogicalVolume, *, cause: str) -> SnapshotState:
        if not found.active:
            name = found.origin if found.is_thick_snapshot else found.name
            await self._activate(spec.pool, name, cause=cause)
        whole = f"{CONSISTENCY_TAG}{Consistency.FILESYSTEM}" in found.tags
        return SnapshotState(
            size_bytes=found.size_bytes,
            path=_path(spec),
            consistency=Consistency.FILESYSTEM if whole else Consistency.CRASH,
            changed=not found.active,
        )

    async def _activate(self, pool: str, name: str, *, cause: str) -> None:
        await self._tools.must(
            "lvchange", "--activate", "y", "--poll", "n", f"{pool}/{name}", cause=cause
        )

    async def _change(
        self, origin: LogicalVolume, pool: str, options: tuple[str, ...], *, cause: str
    ) -> None:
        await self._tools.must("lvchange", *options, f"{pool}/{origin.name}", cause=cause)


def _create_argv(
    spec: SnapshotSpec, extents: int, caught: Consistency, cause: str
) -> tuple[str, ...]:
    # Left to itself, LVM would activate no thin snapshot, now or ever, without being told twice.
    room = ("--setactivationskip", "n") if spec.thin else ("--extents", str(extents))
    tags = (
        f"{VOLUME_TAG}{spec.uid}",
        f"{CAUSE_TAG}{tag_value(cause)}",
        f"{CONSISTENCY_TAG}{caught}",
    )
    tagged = (word for tag in tags for word in ("--addtag", tag))
    return (
        *("lvcreate", "--yes", "--snapshot", *room, "--name", spec.name, *tagged),
        f"{spec.pool}/{spec.volume}",
    )


def _origin(group: VolumeGroup, spec: SnapshotSpec) -> LogicalVolume:
    origin = ours(group, spec.volume_uid, spec.volume)
    if origin is None:
        raise NotThereError("volume-missing", f"there is no volume {spec.pool}/{spec.volume}")
    return origin


def _mark(spec: SnapshotSpec) -> str:
    return f"{MERGED_TAG}{spec.uid}"


def _path(spec: SnapshotSpec) -> str:
    return f"/dev/{spec.pool}/{spec.name}"
