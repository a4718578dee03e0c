"""What is on this machine: three tools and the kernel's own files, put together in one look."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from node_workers import lvm_report
from node_workers.devices import KIND, MAPPED
from node_workers.filesystems import Signature, parse_signatures
from node_workers.identity import disk_identity, known_serial
from node_workers.observation import (
    ContentKind,
    DiskClass,
    DiskContent,
    Observation,
    ObservedDevice,
    ObservedDisk,
    ObservedPool,
    ObservedVolume,
    PoolMember,
    Room,
)
from node_workers.ports import BlockFacts, Execution, Runner, Sysfs, ToolFailedError
from node_workers.tools import Tools

LSBLK = (
    *("lsblk", "-J", "-b", "-o"),
    "NAME,KNAME,PATH,TYPE,SIZE,ROTA,RM,RO,SERIAL,WWN,MODEL,MOUNTPOINTS,MAJ:MIN,FSUSED,FSAVAIL",
)
_TIMEOUT_S = 30.0

# Virtual devices that lsblk calls disks, and floppies.
_NO_DISKS = ("loop", "ram", "zram", "dm-", "nbd", "sr", "fd", "md", "drbd")
# Several paths to one disk, put together by multipath-tools: lsblk calls it so after the prefix
# that dm-multipath devices bear in their UUID, which LVM goes by, too.
_MULTIPATH = "mpath"
# A machine that lives on a disk does not give it away. `/.host` is where the root file system of
# a lab node keeps what it booted from.
_SYSTEM_MOUNTS = frozenset({"/", "/boot", "/boot/efi", "/usr", "/var", "[SWAP]", "/.host/mnt"})
_PARTITION_TABLES = frozenset({"gpt", "dos", "PMBR", "atari", "bsd", "mac", "sgi", "sun"})
_LVM_SIGNATURES = frozenset({"LVM2_member", "LVM1_member"})


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A whole disk as lsblk shows it, with what lies on top of it."""

    name: str
    path: str
    size_bytes: int
    rotational: bool
    removable: bool
    read_only: bool
    serial: str
    wwn: str
    model: str
    mounts: tuple[str, ...]
    mounts_below: tuple[str, ...]
    partitions: tuple[str, ...]
    holders: tuple[str, ...]


class _Use(msgspec.Struct, frozen=True):
    """Where a device is mounted, and how full that is."""

    mount_points: tuple[str, ...] = ()
    room: Room | None = None


_UNUSED = _Use()


async def observe(runner: Runner, sysfs: Sysfs, *, node: str, cause: str) -> Observation:
    """Return what is on the machine now: one run each of lsblk, LVM and (if needed) wipefs.

    Raises ``ToolFailedError`` if a tool gives no readable answer: half a picture is none.
    """
    blocks = await Tools(runner).must(*LSBLK, cause=cause, timeout_s=_TIMEOUT_S)
    rows = _rows(blocks)
    seen = [_disk_row(row) for row in _disks(rows)]
    report = await lvm_report.ask(runner, cause=cause)
    facts = await sysfs.facts([disk.name for disk in seen])
    present = [disk for disk in seen if disk.name in facts]
    members = _members(report)
    doubtful = [disk.path for disk in present if _needs_probe(disk, members)]
    signatures = await _probe(runner, doubtful, cause=cause) if doubtful else {}
    contents = {
        disk.name: _content(disk, facts[disk.name], members, signatures) for disk in present
    }
    uses = dict(_uses(rows))
    return Observation(
        disks=_identified(present, facts, contents, members, node),
        pools=tuple(_pool(group) for group in report.groups),
        volumes=tuple(
            _volume(group, lv, uses.get(lv.device, _UNUSED))
            for group in report.groups
            for lv in group.logical
        ),
        devices=_devices(rows),
    )


def _rows(execution: Execution) -> list[dict[str, Any]]:
    try:
        rows = msgspec.json.decode(execution.stdout or '{"blockdevices": []}')["blockdevices"]
    except (msgspec.DecodeError, KeyError) as error:
        raise ToolFailedError(execution) from error
    return list(rows)


def _disks(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of all whole disks; one with several paths once, and its paths not at all."""
    found: set[str] = set()
    for row in rows:
        several = [one for one in row.get("children", ()) if one["type"] == _MULTIPATH]
        for one in several or [row]:
            if one["maj:min"] not in found and _is_disk(one):
                found.add(one["maj:min"])
                yield one


def _is_disk(row: Mapping[str, Any]) -> bool:
    if int(row["size"]) <= 0:
        return False
    plain = row["type"] == "disk" and not row["kname"].startswith(_NO_DISKS)
    return plain or row["type"] == _MULTIPATH


def _disk_row(row: Mapping[str, Any]) -> _Seen:
    below = list(_below(row))
    return _Seen(
        name=row["kname"],
        path=row["path"],
        size_bytes=int(row["size"]),
        rotational=bool(row["rota"]),
        removable=bool(row["rm"]),
        read_only=bool(row["ro"]),
        serial=row["serial"] or "",
        wwn=row["wwn"] or "",
        model=(row["model"] or "").strip(),
        mounts=_mount_points(row),
        mounts_below=tuple(point for one in below for point in _mount_points(one)),
        partitions=tuple(one["kname"] for one in below if one["type"] == "part"),
        holders=tuple(one["kname"] for one in below if one["type"] != "part"),
    )


def _below(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for child in row.get("children", ()):
        yield child
        yield from _below(child)


def _mount_points(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(filter(None, row["mountpoints"]))


def _room(row: Mapping[str, Any]) -> Room | None:
    """Return what lsblk says of the filesystem, which it can only while that is mounted here."""
    used, free = row.get("fsused"), row.get("fsavail")
    if used is None or free is None:
        return None
    return Room(used_bytes=int(used), free_bytes=int(free))


def _uses(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, _Use]]:
    for row in rows:
        yield row["maj:min"], _Use(_mount_points(row), _room(row))
        yield from _uses(row.get("children", ()))


def _devices(rows: Sequence[Mapping[str, Any]]) -> tuple[ObservedDevice, ...]:
    """Return the stable devices; one over several disks is in the list below each of them."""
    below = (one for row in rows for one in _below(row) if one["type"] == KIND)
    found = {
        one["maj:min"]: ObservedDevice(
            volume=one["path"].removeprefix(MAPPED),
            size_bytes=int(one["size"]),
            number=one["maj:min"],
            mount_points=_mount_points(one),
            room=_room(one),
        )
        for one in below
    }
    return tuple(sorted(found.values(), key=lambda device: device.volume))


class _Member(msgspec.Struct, frozen=True, kw_only=True):
    stamp: str
    content: DiskContent


def _members(report: lvm_report.Report) -> Mapping[str, _Member]:
    """Return what LVM says of each device path."""
    members = {
        pv.path: _Member(
            stamp=pv.disk,
            content=DiskContent(
                kind=ContentKind.LVM,
                detail=f"volume group {group.name}",
                pool=group.name,
                pool_uid=group.uid,
                pv_uuid=pv.uuid,
            ),
        )
        for group in report.groups
        for pv in group.physical
        if not pv.missing
    }
    for pv in report.orphans:
        orphan = DiskContent(
            kind=ContentKind.LVM, detail="physical volume without a group", pv_uuid=pv.uuid
        )
        members[pv.path] = _Member(stamp=pv.disk, content=orphan)
    return members


def _needs_probe(disk: _Seen, members: Mapping[str, _Member]) -> bool:
    return not (disk.path in members or disk.mounts or disk.partitions)


async def _probe(
    runner: Runner, paths: Sequence[str], *, cause: str
) -> dict[str, tuple[Signature, ...] | None]:
    """Return the signatures by path, None where the disk cannot be read.

    One run for all; only when that fails, because one of them is gone or broken, one each.
    """
    execution = await runner.run(("wipefs", "-J", "-n", *paths), cause=cause, timeout_s=_TIMEOUT_S)
    if execution.exit_status != 0:
        if len(paths) == 1:
            return {paths[0]: None}
        found: dict[str, tuple[Signature, ...] | None] = {}
        for path in paths:
            found.update(await _probe(runner, [path], cause=cause))
        return found
    pairs = parse_signatures(execution.stdout)
    return {
        path: tuple(one for name, one in pairs if name == path.rpartition("/")[2]) for path in paths
    }


def _content(
    disk: _Seen,
    facts: BlockFacts,
    members: Mapping[str, _Member],
    signatures: Mapping[str, tuple[Signature, ...] | None],
) -> DiskContent:
    mounts = (*disk.mounts, *disk.mounts_below)
    if any(point in _SYSTEM_MOUNTS for point in mounts):
        return DiskContent(kind=ContentKind.SYSTEM, detail=", ".join(mounts))
    if disk.mounts:
        return DiskContent(kind=ContentKind.MOUNTED, detail=", ".join(disk.mounts))
    if disk.path in members:
        return members[disk.path].content
    if disk.partitions:
        detail = ", ".join(disk.partitions)
        return DiskContent(kind=ContentKind.PARTITION_TABLE, detail=detail)
    found = signatures.get(disk.path)
    if found is None:
        return DiskContent(kind=ContentKind.UNREADABLE, detail="the disk cannot be read")
    if found:
        return _signed_content([one.kind for one in found])
    if holders := {*disk.holders, *facts.holders}:
        return DiskContent(kind=ContentKind.HELD, detail=", ".join(sorted(holders)))
    return DiskContent(kind=ContentKind.BLANK)


def _signed_content(kinds: Sequence[str]) -> DiskContent:
    """Name what is on the disk; with several signatures the one that lies outermost."""
    detail = ", ".join(dict.fromkeys(kinds))
    if any(kind in _LVM_SIGNATURES for kind in kinds):
        return DiskContent(kind=ContentKind.LVM, detail=f"{detail}, not visible to LVM here")
    if any(kind.endswith("raid_member") for kind in kinds):
        return DiskContent(kind=ContentKind.RAID, detail=detail)
    if any(kind in _PARTITION_TABLES for kind in kinds):
        return DiskContent(kind=ContentKind.PARTITION_TABLE, detail=detail)
    return DiskContent(kind=ContentKind.FILESYSTEM, detail=detail)


def _identified(
    seen: Sequence[_Seen],
    facts: Mapping[str, BlockFacts],
    contents: Mapping[str, DiskContent],
    members: Mapping[str, _Member],
    node: str,
) -> tuple[ObservedDisk, ...]:
    # lsblk's words come from udev, where there is one; the kernel's own are there always, so
    # they win: an identity must not depend on whether udevd was running.
    names = {disk.name: facts[disk.name].wwn or disk.wwn for disk in seen}
    # Two disks of one machine under one world-wide name: it names neither of them.
    repeated = {name for name, times in Counter(names.values()).items() if times > 1}
    disks = []
    for disk in seen:
        fact, wwn = facts[disk.name], names[disk.name]
        serial = known_serial(fact.serial) or known_serial(disk.serial)
        model = fact.model or disk.model
        stamp = members[disk.path].stamp if disk.path in members else ""
        disks.append(
            ObservedDisk(
                identity=disk_identity(
                    stamp=stamp,
                    wwn="" if wwn in repeated else wwn,
                    serial=serial,
                    model=model,
                    node=node,
                    path=disk.path,
                ),
                path=disk.path,
                size_bytes=disk.size_bytes,
                disk_class=_class(disk, fact),
                content=contents[disk.name],
                serial=serial,
                wwn=wwn,
                model=model,
                removable=disk.removable,
                read_only=disk.read_only,
                stamped=bool(stamp),
            )
        )
    return tuple(disks)


def _class(disk: _Seen, facts: BlockFacts) -> DiskClass:
    if disk.name.startswith("nvme"):
        return DiskClass.NVME
    rotational = disk.rotational if facts.rotational is None else facts.rotational
    return DiskClass.HDD if rotational else DiskClass.SSD


def _pool(group: lvm_report.VolumeGroup) -> ObservedPool:
    return ObservedPool(
        name=group.name,
        uid=group.uid,
        vg_uuid=group.uuid,
        size_bytes=group.size_bytes,
        free_bytes=group.free_bytes,
        extent_bytes=group.extent_bytes,
        metadata_bytes=group.metadata_bytes,
        metadata_free_bytes=group.metadata_free_bytes,
        missing_disks=group.missing_disks,
        members=tuple(
            PoolMember(
                disk=pv.disk,
                path="" if pv.missing else pv.path,
                pv_uuid=pv.uuid,
                size_bytes=pv.size_bytes,
                free_bytes=pv.free_bytes,
                missing=pv.missing,
            )
            for pv in group.physical
        ),
    )


def _volume(
    group: lvm_report.VolumeGroup, lv: lvm_report.LogicalVolume, use: _Use
) -> ObservedVolume:
    return ObservedVolume(
        pool=group.name,
        name=lv.name,
        uid=lv.uid,
        cause=lv.cause,
        lv_uuid=lv.uuid,
        size_bytes=lv.size_bytes,
        layout=lv.layout[0] if lv.layout else "unknown",
        stripes=lv.stripes,
        thin_pool=lv.thin_pool,
        is_thin_pool=lv.is_thin_pool,
        data_percent=lv.data_percent,
        metadata_percent=lv.metadata_percent,
        active=lv.active,
        open=lv.open,
        health=lv.health,
        path=lv.path,
        mount_points=use.mount_points,
        room=use.room,
        origin=lv.origin,
        invalid=lv.invalid,
        layouts=lv.layout,
        mixed=lv.mixed,
        unfinished=lv.unfinished,
        claim=lv.claim,
    )
