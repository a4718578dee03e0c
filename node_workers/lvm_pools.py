"""Volume groups out of blank disks, and blank disks out of volume groups."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence

import msgspec

from node_workers import lvm_report
from node_workers.inventory import observe
from node_workers.lvm_report import DISK_TAG, POOL_TAG, PhysicalVolume, VolumeGroup
from node_workers.observation import ContentKind, Observation, ObservedDisk
from node_workers.ports import (
    THIN_POOL_NAME,
    InUseError,
    NotThereError,
    PoolDisk,
    PoolState,
    Refusal,
    RefusedToTouchError,
    Runner,
    Sysfs,
)
from node_workers.tools import Tools

# LVM's default of 1 MiB ends a group at about 1,400 tagged volumes. LVM uses half of an area for
# one version of its metadata (the other half for the next), so 16 MiB holds some 22,000.
METADATA_AREA = ("--metadatasize", "16m")

_REFUSALS = {
    ContentKind.SYSTEM: Refusal.DISK_IS_SYSTEM,
    ContentKind.MOUNTED: Refusal.DISK_MOUNTED,
    ContentKind.PARTITION_TABLE: Refusal.DISK_PARTITIONED,
    ContentKind.FILESYSTEM: Refusal.DISK_HAS_FILESYSTEM,
    ContentKind.RAID: Refusal.DISK_HAS_RAID,
    ContentKind.HELD: Refusal.DISK_IN_USE,
    ContentKind.UNREADABLE: Refusal.DISK_UNREADABLE,
}


class _Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """Paths by disk: those to become physical volumes, those to join, those to be stamped."""

    blank: Mapping[str, str]
    joining: Mapping[str, str]
    unstamped: Mapping[str, str]


class Pools:
    """Makes, extends and removes volume groups that carry our tag."""

    def __init__(self, runner: Runner, sysfs: Sysfs, node: str) -> None:
        self._runner = runner
        self._tools = Tools(runner)
        self._sysfs = sysfs
        self._node = node

    async def ensure(
        self,
        uid: str,
        name: str,
        disks: Sequence[PoolDisk],
        *,
        must_exist: bool,
        cause: str,
        area: Sequence[str] = METADATA_AREA,
    ) -> VolumeGroup:
        """Have the group, on at least *disks*; all are looked at before the first is touched.

        Raises ``NotThereError`` if *must_exist* and there is none.
        """
        seen = await observe(self._runner, self._sysfs, node=self._node, cause=cause)
        exists = refuse_foreign(seen, uid, name)
        if must_exist and not exists:
            raise NotThereError("pool-missing", f"there is no pool {name} on {self._node}")
        found = _candidates(seen, uid, name, disks)
        for disk, path in found.blank.items():
            # Never with --yes: LVM then still refuses what got a signature since we looked.
            await self._tools.must(
                *("pvcreate", "--norestorefile", "--uuid", physical_uuid(uid, disk)),
                *(*area, path),
                cause=cause,
            )
        if found.joining and exists:
            await self._tools.must("vgextend", name, *found.joining.values(), cause=cause)
        elif found.joining:
            await self._tools.must(
                *("vgcreate", "--addtag", f"{POOL_TAG}{uid}", name, *found.joining.values()),
                cause=cause,
            )
        for disk, path in found.unstamped.items():
            await self._tools.must("pvchange", "--addtag", f"{DISK_TAG}{disk}", path, cause=cause)
        return await our_group(self._runner, uid, name, cause=cause)

    async def ensure_disks_removed(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> VolumeGroup:
        """Have *disks* outside of the group, as ``Storage.ensure_pool_disks_removed`` promises."""
        report = await lvm_report.ask(self._runner, cause=cause)
        group = next((one for one in report.groups if one.uid == uid), None)
        if group is None:
            raise NotThereError("pool-missing", f"there is no pool {name} on {self._node}")
        _refuse_renamed(group.name, name)
        derived = {physical_uuid(uid, disk.disk) for disk in disks}
        stamps = {disk.disk for disk in disks}
        # A crash may have come before the stamp, or after it was taken off with the membership.
        leaving = [pv for pv in group.physical if pv.uuid in derived or pv.disk in stamps]
        for pv in leaving:
            _refuse_needed(pv, group)
        blank = [pv.path for pv in report.orphans if pv.uuid in derived]
        if leaving:
            paths = [pv.path for pv in leaving]
            await self._tools.must("vgreduce", name, *paths, cause=cause)
            blank += paths
        if blank:
            await self._tools.must("pvremove", *blank, cause=cause)
        return await our_group(self._runner, uid, name, cause=cause) if leaving else group

    async def ensure_removed(
        self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str
    ) -> None:
        """Have the group gone and its disks without LVM's label, as ``Storage`` promises."""
        report = await lvm_report.ask(self._runner, cause=cause)
        group = next((one for one in report.groups if one.uid == uid), None)
        left = {physical_uuid(uid, disk.disk) for disk in disks}
        paths = [pv.path for pv in report.orphans if pv.uuid in left]
        if group is not None:
            _refuse_renamed(group.name, name)
            _refuse_used(group)
            if group.logical:
                await self._tools.must(
                    *("lvremove", "--yes", f"{name}/{THIN_POOL_NAME}"), cause=cause
                )
            await self._tools.must("vgremove", name, cause=cause)
            paths += [pv.path for pv in group.physical if not pv.missing]
        if paths:
            await self._tools.must("pvremove", *paths, cause=cause)


async def our_group(runner: Runner, uid: str, name: str, *, cause: str) -> VolumeGroup:
    """Return the group *name* as it is now, certain that it is the pool *uid*.

    Raises ``NotThereError`` if there is none and ``RefusedToTouchError`` if it is not ours.
    """
    report = await lvm_report.ask(runner, cause=cause, group=name)
    groups = report.named(name)
    if not groups:
        raise NotThereError("pool-missing", f"there is no volume group {name}")
    for group in groups:
        if group.uid != uid:
            raise _foreign_pool(name, group.uid)
    return groups[0]


def pool_state(group: VolumeGroup) -> PoolState:
    """Return *group* in the words of the port."""
    return PoolState(
        uid=group.uid,
        name=group.name,
        size_bytes=group.size_bytes,
        free_bytes=group.free_bytes,
        extent_bytes=group.extent_bytes,
        metadata_bytes=group.metadata_bytes,
        metadata_free_bytes=group.metadata_free_bytes,
        disks=tuple(pv.disk for pv in group.physical),
    )


def physical_uuid(pool: str, disk: str) -> str:
    """Return the UUID of the physical volume that *disk* becomes in the pool with uid *pool*.

    A physical volume cannot be tagged before it is in a group; its derived UUID is how we know
    ours again after a crash between the two.
    """
    digest = hashlib.sha256(f"{pool}\x00{disk}".encode()).hexdigest()
    cuts = (0, 6, 10, 14, 18, 22, 26, 32)
    return "-".join(digest[start:end] for start, end in itertools.pairwise(cuts))


def refuse_foreign(seen: Observation, uid: str, name: str) -> bool:
    """Return whether our pool exists. Raises ``RefusedToTouchError`` if its name is taken."""
    named = [pool for pool in seen.pools if pool.name == name]
    for pool in named:
        if pool.uid != uid:
            raise _foreign_pool(name, pool.uid)
    for pool in seen.pools:
        if pool.uid == uid:
            _refuse_renamed(pool.name, name)
    return bool(named)


def _candidates(seen: Observation, uid: str, name: str, disks: Sequence[PoolDisk]) -> _Candidates:
    blank, joining, unstamped = {}, {}, {}
    # By identity, wherever it is now: device names change places when a machine starts.
    present = {disk.identity: disk for disk in seen.disks}
    for wanted in disks:
        disk = present.get(wanted.disk)
        if disk is None:
            raise _disk_missing(seen, wanted)
        if disk.content.kind is ContentKind.BLANK:
            blank[wanted.disk] = disk.path
            joining[wanted.disk] = disk.path
        elif disk.content.pv_uuid and not disk.content.pool:
            if disk.content.pv_uuid != physical_uuid(uid, wanted.disk):
                raise _not_blank(disk)
            joining[wanted.disk] = disk.path
        elif disk.content.pool != name or disk.content.pool_uid != uid:
            raise _not_blank(disk)
        if not disk.stamped:
            unstamped[wanted.disk] = disk.path
    return _Candidates(blank=blank, joining=joining, unstamped=unstamped)


def _refuse_renamed(found: str, wanted: str) -> None:
    if found != wanted:
        raise RefusedToTouchError(
            Refusal.RENAMED_POOL, f"the pool {wanted} was renamed to {found} by hand"
        )


def _refuse_needed(pv: PhysicalVolume, group: VolumeGroup) -> None:
    if pv.missing:
        raise RefusedToTouchError(
            Refusal.DISK_MISSING, f"the disk {pv.disk} of {group.name} is not here to be blanked"
        )
    if pv.free_bytes < pv.size_bytes:
        raise InUseError(f"{pv.path} carries volumes of {group.name}")


def _refuse_used(group: VolumeGroup) -> None:
    volumes = [lv.name for lv in group.logical if not lv.is_thin_pool]
    strange = [lv.name for lv in group.logical if lv.is_thin_pool and lv.name != THIN_POOL_NAME]
    if volumes or strange:
        raise InUseError(f"the pool {group.name} still has {', '.join(volumes + strange)}")


def _foreign_pool(name: str, uid: str) -> RefusedToTouchError:
    whose = f"belongs to the pool {uid}" if uid else "is not ours"
    return RefusedToTouchError(Refusal.FOREIGN_POOL, f"a volume group {name} {whose}")


def _disk_missing(seen: Observation, wanted: PoolDisk) -> RefusedToTouchError:
    there = next((disk.identity for disk in seen.disks if disk.path == wanted.path), "nothing")
    return RefusedToTouchError(
        Refusal.DISK_MISSING, f"the disk {wanted.disk} is not here; at {wanted.path} is {there}"
    )


def _not_blank(disk: ObservedDisk) -> RefusedToTouchError:
    content = disk.content
    if content.kind is ContentKind.LVM:
        reason = Refusal.DISK_IN_OTHER_POOL if content.pool_uid else Refusal.DISK_HAS_FOREIGN_LVM
    else:
        reason = _REFUSALS[content.kind]
    return RefusedToTouchError(reason, f"{disk.path} carries {content.kind}: {content.detail}")
