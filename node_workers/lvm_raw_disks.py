"""Whole disks as volumes: a group of its own on each, by which it is known, and one volume in it.

LVM's label at the beginning of the disk is the mark. It carries the identity of the volume and of
the disk, moves with it, cannot be reached by whoever uses the volume behind it, and LVM itself
refuses to take one disk for another. So nothing here ever writes to a disk by its path alone.
"""

import msgspec

from node_workers import lvm_report
from node_workers.filesystems import WholeDevices
from node_workers.inventory import observe
from node_workers.lvm_pools import Pools, physical_uuid
from node_workers.lvm_report import WIPED_TAG, VolumeGroup
from node_workers.lvm_volumes import Volumes
from node_workers.observation import ContentKind
from node_workers.ports import (
    Filesystem,
    InUseError,
    PoolDisk,
    Refusal,
    RefusedToTouchError,
    Runner,
    Sysfs,
    VolumeSpec,
    VolumeState,
)
from node_workers.tools import Tools
from schemas.disk import Wiping


class RawDisks:
    """Makes volumes of blank disks, and blank disks of volumes."""

    def __init__(
        self, runner: Runner, sysfs: Sysfs, node: str, pools: Pools, volumes: Volumes
    ) -> None:
        self._runner = runner
        self._sysfs = sysfs
        self._node = node
        self._pools = pools
        self._volumes = volumes

    async def ensure(self, spec: VolumeSpec, disk: PoolDisk, *, cause: str) -> VolumeState:
        """Have the volume on all of *disk*, as ``Storage.ensure_whole_disk`` promises."""
        group = await self._pools.ensure(
            spec.uid, spec.pool, [disk], must_exist=False, cause=cause, area=()
        )
        _refuse_others(group, spec, disk)
        self._volumes.note(group)
        return await self._volumes.ensure(spec.uid, spec, cause=cause)

    async def ensure_freed(
        self, spec: VolumeSpec, disk: PoolDisk, *, wiping: Wiping, cause: str
    ) -> None:
        """Have the disk blank, as ``Storage.ensure_disk_freed`` promises.

        The order is: wipe, mark as wiped, remove the volume, the group, and the label. Up to the
        last one the disk is known by its label, so whoever dies in between finds it again.
        """
        report = await lvm_report.ask(self._runner, cause=cause)
        group = next((one for one in report.groups if one.uid == spec.uid), None)
        here = group is not None and not any(pv.missing for pv in group.physical)
        if not here and wiping is not Wiping.LOST:
            await self._require_here(disk, cause=cause)
        if group is not None and not here:
            return
        if group is not None:
            await self._remove_volume(group, spec, disk, wiping, cause=cause)
        self._volumes.forget(spec.pool)
        await self._pools.ensure_removed(spec.uid, spec.pool, [disk], cause=cause)

    async def is_going(self, spec: VolumeSpec, disk: PoolDisk, *, cause: str) -> bool:
        """Return whether freeing it had gone too far, as ``Storage.is_disk_going`` promises."""
        report = await lvm_report.ask(self._runner, cause=cause)
        group = next((one for one in report.groups if one.uid == spec.uid), None)
        if group is not None:
            return group.volume_with_uid(spec.uid) is None and _is_wiped(group)
        seen = await observe(self._runner, self._sysfs, node=self._node, cause=cause)
        here = next((one for one in seen.disks if one.identity == disk.disk), None)
        if here is None:
            return False
        labelled = here.content.pv_uuid == physical_uuid(spec.uid, disk.disk)
        return labelled or here.content.kind is ContentKind.BLANK

    async def _remove_volume(
        self, group: VolumeGroup, spec: VolumeSpec, disk: PoolDisk, wiping: Wiping, *, cause: str
    ) -> None:
        _refuse_others(group, spec, disk)
        found = group.volume_with_uid(spec.uid)
        if found is None and _is_wiped(group):
            return
        if found is None or found.size_bytes < spec.size_bytes:
            # A person removed or shrank it: what was on it is still there, and has to go as well.
            bare = msgspec.structs.replace(spec, filesystem=Filesystem.NONE)
            await self._volumes.ensure(spec.uid, bare, cause=cause)
        wiper = _Marked(self._runner, group, zero=wiping is Wiping.ZERO)
        await self._volumes.ensure_removed(
            spec.uid, spec.pool, spec.uid, spec.name, cause=cause, wiper=wiper
        )

    async def _require_here(self, disk: PoolDisk, *, cause: str) -> None:
        """Raise ``RefusedToTouchError`` if the disk is not here: it may come back with its data."""
        seen = await observe(self._runner, self._sysfs, node=self._node, cause=cause)
        if not any(one.identity == disk.disk for one in seen.disks):
            raise RefusedToTouchError(
                Refusal.DISK_MISSING, f"the disk {disk.disk} is not here to be wiped"
            )


class _Marked:
    """Wipes, and has LVM write down that it is done before the volume goes."""

    def __init__(self, runner: Runner, group: VolumeGroup, *, zero: bool) -> None:
        self._whole = WholeDevices(runner, zero=zero)
        self._tools = Tools(runner)
        self._group = group

    async def wipe(self, path: str, size_bytes: int, *, cause: str) -> None:
        """Wipe the volume, then mark its disk, which LVM finds by its label."""
        await self._whole.wipe(path, size_bytes, cause=cause)
        for pv in self._group.physical:
            if not pv.wiped:
                await self._tools.must("pvchange", "--addtag", WIPED_TAG, pv.path, cause=cause)


def _is_wiped(group: VolumeGroup) -> bool:
    return all(pv.wiped for pv in group.physical)


def _refuse_others(group: VolumeGroup, spec: VolumeSpec, disk: PoolDisk) -> None:
    """Raise if anything in the group is not of this volume: a person has put it there."""
    mine = physical_uuid(spec.uid, disk.disk)
    others = [pv.path for pv in group.physical if pv.uuid != mine]
    others += [f"{group.name}/{lv.name}" for lv in group.logical if lv.uid != spec.uid]
    if others:
        raise InUseError(f"{', '.join(others)} is in {group.name}, which is of {spec.name} alone")
