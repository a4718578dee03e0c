"""Logical volumes: made once, grown with what is on them, removed only when they are ours."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from node_workers import lvm_report
from node_workers.devices import StableDevices
from node_workers.filesystems import Filesystems, Wiper, require_room
from node_workers.legs import Legs
from node_workers.luks import Luks
from node_workers.lvm_encrypted import EncryptedVolumes, plain_bytes
from node_workers.lvm_pools import our_group
from node_workers.lvm_report import (
    CAUSE_TAG,
    ENCRYPTED_TAG,
    FILLING_TAG,
    MERGED_TAG,
    PARTIAL,
    VOLUME_TAG,
    LogicalVolume,
    VolumeGroup,
    tag_value,
)
from node_workers.ports import (
    THIN_POOL_NAME,
    Filesystem,
    InUseError,
    Layout,
    NotThereError,
    Refusal,
    RefusedToTouchError,
    Runner,
    VolumeSpec,
    VolumeState,
)
from node_workers.tools import NameTakenError, Tools

_STRIPE = "64k"
_ACTIVATED_AT_ONCE_MAX = 100
# Left to itself, LVM would activate no thin snapshot, now or ever, without being told twice.
_SHARE_ARGV = ("lvcreate", "--yes", "--snapshot", "--setactivationskip", "n")
_RESERVED = ("snapshot", "pvmove", THIN_POOL_NAME)


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What this process knows of a pool for certain: it looked, and nobody else makes volumes.

    ``volumes`` are all uids seen or tried: only for one that is not among them may LVM be asked
    to create without looking first, since then it cannot exist under another name.
    """

    uid: str
    extent_bytes: int
    volumes: set[str]


class Volumes:
    """Makes, grows, activates and removes the logical volumes that carry our tag."""

    def __init__(self, runner: Runner, luks: Luks) -> None:
        self._runner = runner
        self._encrypted = EncryptedVolumes(runner, luks)
        self._tools = Tools(runner)
        self._filesystems = Filesystems(runner)
        self._devices = StableDevices(runner)
        self._legs = Legs(runner)
        self._known: dict[str, _Known] = {}

    def note(self, group: VolumeGroup) -> None:
        """Remember what a look at one of our groups showed."""
        before = self._known.get(group.name)
        tried = before.volumes if before is not None and before.uid == group.uid else set()
        self._known[group.name] = _Known(
            uid=group.uid,
            extent_bytes=group.extent_bytes,
            volumes=tried | {lv.uid for lv in group.logical if lv.uid},
        )

    def forget(self, pool: str) -> None:
        """Look again before the next volume in *pool* is made."""
        self._known.pop(pool, None)

    async def ensure(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> VolumeState:
        """Have the volume with its filesystem, as ``Storage.ensure_volume`` promises.

        The first time, in a pool this process has looked at, ``lvcreate`` itself is the look: it
        refuses a name that exists, under LVM's own lock. In every other case we look first.
        """
        refuse_reserved(spec.name)
        require_room(spec.filesystem, plain_bytes(spec))
        if spec.keys:
            await self._encrypted.require_key(spec)
        known = self._known.get(spec.pool)
        if known is not None and known.uid == pool_uid and spec.uid not in known.volumes:
            try:
                return await self._make(spec, known, cause=cause)
            except NameTakenError:
                self.forget(spec.pool)
        group = await self._look(pool_uid, spec.pool, cause=cause)
        found = ours(group, spec.uid, spec.name)
        if found is None:
            return await self._make(spec, self._known[spec.pool], cause=cause)
        return await self._complete(group, found, spec, cause=cause)

    async def ensure_size(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> VolumeState:
        """Have the volume and its filesystem that large, as ``Storage`` promises."""
        group = await self._look(pool_uid, spec.pool, cause=cause)
        found = _there(group, spec)
        return await self._complete(group, found, spec, cause=cause, growing=True)

    async def ensure_keys(
        self, pool_uid: str, spec: VolumeSpec, dropped: tuple[str, ...], *, cause: str
    ) -> None:
        """Have the volume open by other keys, as ``Storage.ensure_volume_keys`` promises."""
        found = await self._find(pool_uid, spec, cause=cause)
        await self._activate((found,), spec.pool, cause=cause)
        await self._encrypted.ensure_keys(spec, dropped, cause=cause)

    async def ensure_removed(
        self,
        pool_uid: str,
        pool: str,
        uid: str,
        name: str,
        *,
        cause: str,
        wiper: Wiper | None = None,
    ) -> None:
        """Have the volume gone, as ``Storage.ensure_volume_removed`` promises.

        *wiper* deals with what was on it, instead of the usual.
        """
        report = await lvm_report.ask(self._runner, cause=cause)
        group = next((one for one in report.groups if one.volume_with_uid(uid)), None)
        found = None if group is None else group.volume_with_uid(uid)
        if group is None or found is None:
            refuse_merging(report, uid, name)
            return
        if group.uid != pool_uid or group.name != pool or found.name != name:
            raise _renamed(f"{group.name}/{found.name}", f"{pool}/{name}")
        path = _path(pool, name)
        refuse_origin(group, found)
        if await self._is_used(found, uid, name, cause=cause):
            await self._filesystems.ensure_released(path, found.device, cause=cause)
        if found.encrypted and not found.origin and found.health != PARTIAL:
            await self._activate((found,), pool, cause=cause)
            await self._encrypted.erase(path, uid, cause=cause)
            found = msgspec.structs.replace(found, active=True)
        if not found.origin and Layout.THIN not in found.layout and found.health != PARTIAL:
            # What a thin volume held is unmapped with it, and a full thin pool cannot be written.
            # Nor can what lies on a missing disk: but nobody shall have to keep it for that.
            await self._activate((found,), pool, cause=cause)
            await (wiper or self._filesystems).wipe(path, found.size_bytes, cause=cause)
        await self._tools.must("lvremove", "--yes", f"{pool}/{name}", cause=cause)

    async def ensure_unused(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> None:
        """Have the volume inactive; LVM refuses that while anybody has it open."""
        found = await self._find(pool_uid, spec, cause=cause)
        if await self._is_used(found, spec.uid, spec.name, cause=cause):
            path = _path(spec.pool, spec.name)
            await self._filesystems.ensure_released(path, found.device, cause=cause)
        if found.active:
            name = f"{spec.pool}/{spec.name}"
            await self._tools.must("lvchange", "--activate", "n", name, cause=cause)

    async def ensure_awake(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> VolumeState:
        """Have the volume active, and leave alone what is on it."""
        found = await self._find(pool_uid, spec, cause=cause)
        await self._activate((found,), spec.pool, cause=cause)
        return _state(spec, found.size_bytes, changed=not found.active)

    async def ensure_room(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> LogicalVolume:
        """Have the volume active and at least that large, and leave alone what lies on it."""
        group = await self._look(pool_uid, spec.pool, cause=cause)
        found = _there(group, spec)
        await self._activate((found,), spec.pool, cause=cause)
        extents = _extents(spec, group.extent_bytes)
        if extents * group.extent_bytes > found.size_bytes:
            await self._extend(spec, extents, cause=cause)
        elif found.active:
            return found
        return _there(await self._look(pool_uid, spec.pool, cause=cause), spec)

    async def ensure_active(
        self, pools: Mapping[str, str], at_rest: Collection[str], *, cause: str
    ) -> tuple[str, ...]:
        """Have all our volumes active but those *at_rest*; returns the uids that were not.

        One on a missing disk would keep LVM from activating the others, and is left out.
        """
        report = await lvm_report.ask(self._runner, cause=cause)
        activated: list[str] = []
        for group in report.groups:
            if not group.uid or pools.get(group.name) != group.uid:
                continue
            self.note(group)
            partial = {lv.name for lv in group.logical if lv.health == PARTIAL}
            whole = (lv for lv in group.logical if not {lv.name, lv.origin} & partial)
            mine = (lv for lv in whole if lv.uid and not lv.claim)
            sleeping = [lv for lv in mine if not lv.active and lv.uid not in at_rest]
            await self._activate(sleeping, group.name, cause=cause)
            activated.extend(lv.uid for lv in sleeping)
        return tuple(activated)

    async def activate(self, volume: LogicalVolume, pool: str, *, cause: str) -> None:
        """Have a volume or snapshot active."""
        await self._activate((volume,), pool, cause=cause)

    async def make_unfilled(
        self, group: VolumeGroup, spec: VolumeSpec, origin: str, *, cause: str
    ) -> None:
        """Make a volume that is tagged as not filled yet; with *origin* it shares what that has."""
        self._known[group.name].volumes.add(spec.uid)
        extents = _extents(spec, group.extent_bytes)
        argv = _SHARE_ARGV if origin else _lay_out_argv(spec, extents)
        tags = (*_tags(spec, cause), "--addtag", FILLING_TAG)
        target = f"{spec.pool}/{origin}" if origin else spec.pool
        await self._tools.must(*argv, *tags, target, cause=cause)

    async def _find(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> LogicalVolume:
        return _there(await self._look(pool_uid, spec.pool, cause=cause), spec)

    async def _is_used(self, found: LogicalVolume, uid: str, name: str, *, cause: str) -> bool:
        """Return whether anybody has the volume open, once we have closed it.

        Raises ``InUseError`` if somebody has the plain side of an encrypted one open.
        """
        if not found.open or not found.encrypted:
            return found.open
        return not await self._encrypted.ensure_closed(name, uid, cause=cause)

    async def _look(self, pool_uid: str, pool: str, *, cause: str) -> VolumeGroup:
        group = await our_group(self._runner, pool_uid, pool, cause=cause)
        self.note(group)
        return group

    async def _make(self, spec: VolumeSpec, known: _Known, *, cause: str) -> VolumeState:
        known.volumes.add(spec.uid)
        try:
            await self._tools.must(
                *_create_argv(spec, _extents(spec, known.extent_bytes), cause), cause=cause
            )
        except NotThereError:
            self.forget(spec.pool)
            raise
        path = _path(spec.pool, spec.name)
        size_bytes = _extents(spec, known.extent_bytes) * known.extent_bytes
        if spec.keys and not spec.leg:
            extend = partial(self._extend, spec, 0, cause=cause)
            await self._encrypted.complete(spec, size_bytes, extend, growing=False, cause=cause)
        elif spec.filesystem is not Filesystem.NONE:
            await self._filesystems.ensure_made(
                path, spec.filesystem, spec.uid, mounted=False, cause=cause
            )
        return _state(spec, size_bytes, changed=True)

    async def _complete(
        self,
        group: VolumeGroup,
        found: LogicalVolume,
        spec: VolumeSpec,
        *,
        cause: str,
        growing: bool = False,
    ) -> VolumeState:
        """Bring a volume that exists to what it shall be; it may be half made or half grown.

        *growing*: it was ready once, so a person may have made the filesystem anew, and only its
        kind is held against it.
        """
        path, kind = _path(spec.pool, spec.name), spec.filesystem
        await self._activate((found,), group.name, cause=cause)
        if found.open and await self._legs.is_there(spec.name, spec.uid, cause=cause):
            # It is DRBD's: what lies on it is behind that, and its end is no room for it.
            found_bytes = (await self.ensure_room(group.uid, spec, cause=cause)).size_bytes
            return _state(spec, found_bytes, changed=found_bytes > found.size_bytes)
        extents = _extents(spec, group.extent_bytes)
        size_bytes = max(found.size_bytes, extents * group.extent_bytes)
        grown = size_bytes > found.size_bytes
        extend = partial(self._extend, spec, extents if grown else 0, cause=cause)
        if (found.encrypted or spec.keys) and not spec.leg:
            made = await self._encrypted.complete(
                spec, size_bytes, extend, growing=growing, cause=cause
            )
            return _state(spec, size_bytes, changed=made or grown or not found.active)
        stable, mounts = None, tuple[str, ...]()
        if found.open:
            stable = await self._devices.find(spec.name, spec.uid, cause=cause)
        if kind is not Filesystem.NONE and found.open:
            number = found.device if stable is None else stable.number
            mounts = await self._filesystems.mounts(number, cause=cause)
        made = False
        if kind is not Filesystem.NONE and growing:
            await self._filesystems.ensure_kind(path, kind, cause=cause)
        elif kind is not Filesystem.NONE:
            made = await self._filesystems.ensure_made(
                path, kind, spec.uid, mounted=found.open, cause=cause
            )
        await extend()
        if stable is not None:
            below = found.device
            await self._devices.ensure_size(spec.name, stable, below, size_bytes, cause=cause)
            path = stable.node
        if kind is not Filesystem.NONE and (grown or not made):
            await self._filesystems.ensure_grown(path, kind, size_bytes, mounts, cause=cause)
        return _state(spec, size_bytes, changed=made or grown or not found.active)

    async def _extend(self, spec: VolumeSpec, extents: int, *, cause: str) -> None:
        """Extend the volume to so many extents; 0: it is as large as it shall be."""
        if extents:
            name = f"{spec.pool}/{spec.name}"
            await self._tools.must("lvextend", "--extents", str(extents), name, cause=cause)

    async def _activate(self, volumes: Sequence[LogicalVolume], pool: str, *, cause: str) -> None:
        # LVM asks before it activates a thick snapshot, since its origin always comes with it.
        sleeping = (lv for lv in volumes if not lv.active)
        whole = {lv.origin if lv.is_thick_snapshot else lv.name for lv in sleeping}
        names = [f"{pool}/{name}" for name in sorted(whole)]
        for batch in _batches(names):
            await self._tools.must("lvchange", "--activate", "y", *batch, cause=cause)


def refuse_reserved(name: str) -> None:
    """Raise ``RefusedToTouchError`` if LVM, or our thin pool, bears such names itself."""
    if name.startswith(_RESERVED):
        raise RefusedToTouchError(Refusal.RESERVED_NAME, f"LVM keeps {name} to itself")


def refuse_merging(report: lvm_report.Report, uid: str, name: str) -> None:
    """Raise ``InUseError`` if the snapshot *uid*, which LVM shows no more, is being merged."""
    volumes = (lv for group in report.groups for lv in group.logical)
    if any(lv.merging and f"{MERGED_TAG}{uid}" in lv.tags for lv in volumes):
        raise InUseError(f"the snapshot {name} is just becoming its volume")


def refuse_origin(group: VolumeGroup, volume: LogicalVolume) -> None:
    """Raise ``InUseError`` if thick snapshots, ours or not, would go with *volume*."""
    kept = [lv.name for lv in group.logical if lv.is_thick_snapshot and lv.origin == volume.name]
    if kept or volume.merging:
        what = f"has the snapshots {', '.join(kept)}" if kept else "is being rolled back"
        raise InUseError(f"{group.name}/{volume.name} {what}")


def _create_argv(spec: VolumeSpec, extents: int, cause: str) -> tuple[str, ...]:
    return (*_lay_out_argv(spec, extents), *_tags(spec, cause), spec.pool)


def _tags(spec: VolumeSpec, cause: str) -> tuple[str, ...]:
    tags = [f"{VOLUME_TAG}{spec.uid}", f"{CAUSE_TAG}{tag_value(cause)}"]
    tags += [ENCRYPTED_TAG] if spec.keys else []
    return ("--name", spec.name, *(word for tag in tags for word in ("--addtag", tag)))


def _lay_out_argv(spec: VolumeSpec, extents: int) -> tuple[str, ...]:
    if spec.layout is Layout.THIN:
        size = ("--virtualsize", f"{spec.size_bytes}b")
        return ("lvcreate", "--type", "thin", *size, "--thinpool", THIN_POOL_NAME)
    # Free extents are nobody's: signatures that an earlier volume left there may go.
    wiping = ("--yes", "--wipesignatures", "y", "--zero", "y")
    stripes = ("--stripes", str(spec.stripes), "--stripesize", _STRIPE)
    laid_out = stripes if spec.layout is Layout.STRIPED else ()
    return ("lvcreate", *wiping, "--extents", str(extents), *laid_out)


def _extents(spec: VolumeSpec, extent_bytes: int) -> int:
    """Return the extents for the size asked, in whole stripes."""
    extents = -(-spec.size_bytes // extent_bytes)
    stripes = spec.stripes if spec.layout is Layout.STRIPED else 1
    return -(-extents // stripes) * stripes


def ours(group: VolumeGroup, uid: str, name: str) -> LogicalVolume | None:
    """Return our volume. Raises ``RefusedToTouchError`` for its name with another's volume."""
    found = group.volume_with_uid(uid)
    if found is not None and found.name != name:
        raise _renamed(f"{group.name}/{found.name}", f"{group.name}/{name}")
    named = group.volume(name)
    if named is not None and named.uid != uid:
        whose = f"is the volume {named.uid}" if named.uid else "is not ours"
        raise RefusedToTouchError(Refusal.FOREIGN_VOLUME, f"{group.name}/{name} {whose}")
    return found


def _there(group: VolumeGroup, spec: VolumeSpec) -> LogicalVolume:
    """Return our volume. Raises ``NotThereError`` if there is none."""
    found = ours(group, spec.uid, spec.name)
    if found is None:
        raise NotThereError("volume-missing", f"there is no volume {spec.pool}/{spec.name}")
    return found


def _renamed(found: str, wanted: str) -> RefusedToTouchError:
    return RefusedToTouchError(
        Refusal.RENAMED_VOLUME, f"{wanted} was renamed or moved to {found} by hand"
    )


def _state(spec: VolumeSpec, size_bytes: int, *, changed: bool) -> VolumeState:
    return VolumeState(
        uid=spec.uid,
        name=spec.name,
        pool=spec.pool,
        size_bytes=size_bytes,
        path=_path(spec.pool, spec.name),
        changed=changed,
    )


def _path(pool: str, name: str) -> str:
    return f"/dev/{pool}/{name}"


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _ACTIVATED_AT_ONCE_MAX):
        yield names[start : start + _ACTIVATED_AT_ONCE_MAX]
