"""Volumes that were changed or made by hand: looked at once more, then put right, or left alone."""

import msgspec

from node_workers import lvm_report
from node_workers.filesystems import Filesystems
from node_workers.lvm_pools import our_group
from node_workers.lvm_report import (
    CAUSE_TAG,
    QUARANTINE_TAG,
    VOLUME_TAG,
    LogicalVolume,
    VolumeGroup,
    seen_volume,
    tag_value,
)
from node_workers.lvm_volumes import Volumes, ours, refuse_reserved
from node_workers.ports import (
    Filesystem,
    InUseError,
    Refusal,
    RefusedToTouchError,
    Runner,
    UnsuitableError,
    VolumeSpec,
    VolumeState,
)
from node_workers.tools import Tools
from schemas.errand import PutAside, PutBack
from schemas.mending import Mend, SeenVolume, no_volume

_AS_FOUND = {"claim": "", "kept": False}


class Mending:
    """Puts right what somebody changed. What is not as it was seen is not touched at all."""

    def __init__(self, runner: Runner, volumes: Volumes) -> None:
        self._runner = runner
        self._tools = Tools(runner)
        self._filesystems = Filesystems(runner)
        self._volumes = volumes

    async def ensure_mended(
        self, pool_uid: str, spec: VolumeSpec, mend: Mend, seen: SeenVolume | None, *, cause: str
    ) -> VolumeState | None:
        """Have the volume put right, as ``Storage.ensure_mended`` promises."""
        group = await our_group(self._runner, pool_uid, spec.pool, cause=cause)
        if mend is Mend.FORGET:
            await self._require_nowhere(spec, cause=cause)
            return None
        if mend is Mend.RECREATE:
            named = group.volume(spec.name)
            if named is None or named.uid != spec.uid:
                await self._require_nowhere(spec, cause=cause)
            self._volumes.forget(spec.pool)
            return await self._volumes.ensure(pool_uid, spec, cause=cause)
        found = group.volume_with_uid(spec.uid)
        if found is None or seen is None or found.uuid != seen.lv:
            raise _otherwise(f"{spec.pool}/{spec.name}", "that volume is not there")
        if mend is Mend.SIZE:
            if (found.name, found.size_bytes) != (seen.name, seen.size_bytes):
                raise _otherwise(f"{spec.pool}/{seen.name}", _described(group, found))
            spec = msgspec.structs.replace(spec, size_bytes=seen.size_bytes)
        elif found.name != spec.name:
            await self._rename(group, found, seen.name, spec.name, cause=cause)
        return await self._volumes.ensure_size(pool_uid, spec, cause=cause)

    async def ensure_adopted(
        self, pool_uid: str, spec: VolumeSpec, seen: SeenVolume, *, cause: str
    ) -> VolumeState:
        """Have it be the volume, with all that is on it, as ``Storage`` promises."""
        refuse_reserved(spec.name)
        group = await our_group(self._runner, pool_uid, spec.pool, cause=cause)
        found = next((lv for lv in group.logical if lv.uuid == seen.lv), None)
        if found is None:
            raise _otherwise(f"{seen.pool}/{seen.name}", "it is not there")
        if found.uid != spec.uid:
            await self._take(group, found, spec, seen, cause=cause)
        if found.name != spec.name:
            await self._rename(group, found, seen.name, spec.name, cause=cause)
        self._volumes.forget(spec.pool)
        return await self._volumes.ensure_awake(pool_uid, spec, cause=cause)

    async def ensure_left(
        self, pool_uid: str, spec: VolumeSpec, mend: Mend | None, *, cause: str
    ) -> VolumeState | None:
        """Have nothing half done, as ``Storage.ensure_left`` promises."""
        if mend is not Mend.RECREATE:
            return None
        group = await our_group(self._runner, pool_uid, spec.pool, cause=cause)
        if ours(group, spec.uid, spec.name) is None:
            return None
        self._volumes.forget(spec.pool)
        return await self._volumes.ensure(pool_uid, spec, cause=cause)

    async def ensure_given_back(
        self, pool_uid: str, spec: VolumeSpec, seen: SeenVolume, *, cause: str
    ) -> None:
        """Have it called as it was found, without a tag of ours, as ``Storage`` promises."""
        group = await our_group(self._runner, pool_uid, spec.pool, cause=cause)
        found = group.volume_with_uid(spec.uid)
        if found is None:
            return
        if found.uuid != seen.lv:
            raise _otherwise(f"{spec.pool}/{found.name}", "it is another volume")
        if found.name == spec.name and spec.name != seen.name:
            await self._rename(group, found, spec.name, seen.name, cause=cause)
        here = f"{group.name}/{seen.name if found.name == spec.name else found.name}"
        mine = [f"{VOLUME_TAG}{found.uid}", *(t for t in found.tags if t.startswith(CAUSE_TAG))]
        dropped = [word for tag in mine for word in ("--deltag", tag)]
        await self._tools.must("lvchange", *dropped, here, cause=cause)
        self._volumes.forget(spec.pool)

    async def put_aside(self, pool_uid: str, wish: PutAside, *, cause: str) -> None:
        """Have it tagged, inactive, and never activated by itself.

        Raises ``InUseError`` while somebody has it open, ``UnsuitableError`` if it is another than
        was seen.
        """
        group, found = await self._find(pool_uid, wish.seen, cause=cause)
        if found is None:
            raise _otherwise(f"{wish.seen.pool}/{wish.seen.name}", "it is not there")
        name, tag = f"{group.name}/{found.name}", f"{QUARANTINE_TAG}{wish.claim}"
        if tag not in found.tags:
            self._require_seen(group, found, wish.seen)
            if found.open:
                raise InUseError(f"{name} is open: nobody can keep its user from it")
            await self._tools.must("lvchange", "--addtag", tag, name, cause=cause)
        # A thick snapshot is active with its origin, which may be a volume that is in use.
        if found.is_thick_snapshot:
            return
        if not found.skipped:
            await self._tools.must("lvchange", "--setactivationskip", "y", name, cause=cause)
        if found.active:
            await self._tools.must("lvchange", "--activate", "n", name, cause=cause)

    async def put_back(self, pool_uid: str, wish: PutBack, *, cause: str) -> None:
        """Have no tag of that quarantine on it, if it is there; whoever wants it activates it."""
        group, found = await self._find(pool_uid, wish.seen, cause=cause)
        tag = f"{QUARANTINE_TAG}{wish.claim}"
        if found is None or tag not in found.tags:
            return
        name = f"{group.name}/{found.name}"
        if found.skipped:
            await self._tools.must("lvchange", "--setactivationskip", "n", name, cause=cause)
        await self._tools.must("lvchange", "--deltag", tag, name, cause=cause)

    async def _find(
        self, pool_uid: str, seen: SeenVolume, *, cause: str
    ) -> tuple[VolumeGroup, LogicalVolume | None]:
        group = await our_group(self._runner, pool_uid, seen.pool, cause=cause)
        return group, next((lv for lv in group.logical if lv.uuid == seen.lv), None)

    async def _take(
        self,
        group: VolumeGroup,
        found: LogicalVolume,
        spec: VolumeSpec,
        seen: SeenVolume,
        *,
        cause: str,
    ) -> None:
        """Tag it as ours, once it is certain that it is what was seen and nobody uses it."""
        name = f"{group.name}/{found.name}"
        self._require_seen(group, found, seen)
        odd = no_volume(seen_volume(group, found))
        if odd is not None:
            raise _otherwise(name, odd)
        if found.open:
            raise InUseError(f"{name} is open: whoever uses it would not know that it is a volume")
        if group.volume_with_uid(spec.uid) is not None or _taken(group, found, spec.name):
            raise RefusedToTouchError(Refusal.FOREIGN_VOLUME, f"{group.name}/{spec.name} is there")
        if found.skipped:
            await self._tools.must("lvchange", "--setactivationskip", "n", name, cause=cause)
        if spec.filesystem is not Filesystem.NONE:
            await self._volumes.activate(found, group.name, cause=cause)
            path = f"/dev/{group.name}/{found.name}"
            await self._filesystems.ensure_kind(path, spec.filesystem, cause=cause)
        stale = [tag for tag in found.tags if tag.startswith((VOLUME_TAG, CAUSE_TAG))]
        words = [
            *("--addtag", f"{VOLUME_TAG}{spec.uid}"),
            *("--addtag", f"{CAUSE_TAG}{tag_value(cause)}"),
            *(word for tag in stale for word in ("--deltag", tag)),
        ]
        await self._tools.must("lvchange", *words, name, cause=cause)

    def _require_seen(self, group: VolumeGroup, found: LogicalVolume, seen: SeenVolume) -> None:
        now = seen_volume(group, found)
        alike = msgspec.structs.replace(now, **_AS_FOUND)
        if alike != msgspec.structs.replace(seen, **_AS_FOUND) or now.claim:
            raise _otherwise(f"{group.name}/{found.name}", _described(group, found))

    async def _rename(
        self, group: VolumeGroup, found: LogicalVolume, old: str, new: str, *, cause: str
    ) -> None:
        """Rename it back; the name that it has must be the one that was seen."""
        if found.name != old:
            raise _otherwise(f"{group.name}/{old}", f"it is called {found.name} now")
        if _taken(group, found, new):
            foreign = f"{group.name}/{new} is another volume"
            raise RefusedToTouchError(Refusal.FOREIGN_VOLUME, foreign)
        await self._tools.must("lvrename", group.name, old, new, cause=cause)

    async def _require_nowhere(self, spec: VolumeSpec, *, cause: str) -> None:
        """Raise if the volume is anywhere on this machine, whatever it is called now."""
        report = await lvm_report.ask(self._runner, cause=cause)
        for group in report.groups:
            found = group.volume_with_uid(spec.uid)
            if found is not None:
                raise _otherwise(f"{spec.pool}/{spec.name}", f"it is {group.name}/{found.name}")


def _taken(group: VolumeGroup, found: LogicalVolume, name: str) -> bool:
    other = group.volume(name)
    return other is not None and other.uuid != found.uuid


def _described(group: VolumeGroup, found: LogicalVolume) -> str:
    now = seen_volume(group, found)
    return f"it is {group.name}/{now.name}, {now.layout}, {now.size_bytes} bytes, now"


def _otherwise(what: str, how: str) -> UnsuitableError:
    return UnsuitableError("not-as-seen", f"{what} is not as it was seen: {how}")
