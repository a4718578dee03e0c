"""Everything that is not LVM: filesystems, signatures, mounts and the list of block devices."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from node_workers.drbd_roles import MAJOR
from node_workers.filesystems import FIND_MOUNTS, READ_XFS
from node_workers.inventory import LSBLK
from node_workers.simulated.arguments import ToolRefusal, UnknownToolUseError, read_arguments
from node_workers.simulated.devices import Device, Devices
from node_workers.simulated.drbd_model import SECTOR_BYTES, Leg
from node_workers.simulated.model import (
    EXTENT_BYTES,
    Content,
    Disk,
    Lv,
    Mapped,
    Mount,
    State,
    Vg,
    device_of,
)
from node_workers.smart import SMARTCTL

_BLOCK_BYTES = 4096
_XFS_BYTES_MIN = 300 << 20
_WRONG_USE, _MOUNT_FAILED, _NO_SMART = 1, 32, 1


class BlockTools:
    """Tools on devices over a ``State``; each returns what it would print."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._devices = Devices(state)
        self.commands: Mapping[str, Callable[[Sequence[str]], str]] = {
            "lsblk": self._lsblk,
            "findmnt": self._findmnt,
            "wipefs": self._wipefs,
            "blkdiscard": self._blkdiscard,
            "mkfs.ext4": self._mkfs_ext4,
            "mkfs.xfs": self._mkfs_xfs,
            "dumpe2fs": self._dumpe2fs,
            "xfs_db": self._xfs_db,
            "e2fsck": self._e2fsck,
            "resize2fs": self._resize2fs,
            "xfs_growfs": self._xfs_growfs,
            "mount": self._mount,
            "umount": self._umount,
            "smartctl": self._smartctl,
        }

    def _lsblk(self, argv: Sequence[str]) -> str:
        if tuple(argv) != LSBLK[1:]:
            raise UnknownToolUseError(f"lsblk {' '.join(argv)}")
        rows = [
            self._disk_row(number, disk)
            for number, disk in enumerate(sorted(self._state.disks.values(), key=_by_name))
        ]
        return msgspec.json.encode({"blockdevices": rows}).decode()

    def _disk_row(self, number: int, disk: Disk) -> dict[str, Any]:
        device = f"98:{16 * number}"
        row = _row(disk.name, disk.name, f"/dev/{disk.name}", "disk", disk.size_bytes, device)
        row |= {"rota": disk.rotational, "rm": disk.removable}
        row["mountpoints"] = self._mount_points(disk.key)
        names = [f"{disk.name}{partition + 1}" for partition in range(disk.partitions)]
        children = [_row(one, one, f"/dev/{one}", "part", 1 << 20, f"{device}1") for one in names]
        pv = self._state.pv_on(disk)
        vg = None if pv is None else self._state.vg_of(pv.uuid)
        if pv is not None and vg is not None:
            children += [self._lv_row(vg, lv) for lv in vg.lvs if _lies_on(vg, lv, pv.uuid)]
        return row | ({"children": children} if children else {})

    def _lv_row(self, vg: Vg, lv: Lv) -> dict[str, Any]:
        name = f"{vg.name.replace('-', '--')}-{lv.name.replace('-', '--')}"
        size_bytes = lv.extents * EXTENT_BYTES
        row = _row(name, f"dm-{lv.minor}", f"/dev/mapper/{name}", "lvm", size_bytes, _number(lv))
        return row | self._use(lv.uuid) | self._above(lv.uuid)

    def _above(self, below: str) -> dict[str, Any]:
        rows = [self._mapped_row(one) for one in self._state.all_on_top_of(below)]
        rows += [self._leg_row(leg) for leg in self._state.legs_on(below)]
        return {"children": rows} if rows else {}

    def _leg_row(self, leg: Leg) -> dict[str, Any]:
        name, number = f"drbd{leg.minor}", f"{MAJOR}:{leg.minor}"
        row = _row(name, name, f"/dev/{name}", "disk", leg.sectors * SECTOR_BYTES, number)
        return row | self._above(device_of(leg))

    def _mapped_row(self, mapped: Mapped) -> dict[str, Any]:
        path, number = f"/dev/mapper/{mapped.name}", f"254:{mapped.minor}"
        kind = mapped.uuid.partition("-")[0].lower()
        size_bytes = mapped.size_bytes
        row = _row(mapped.name, f"dm-{mapped.minor}", path, kind, size_bytes, number)
        return row | self._use(mapped.uuid) | self._above(mapped.uuid)

    def _use(self, use: str) -> dict[str, Any]:
        """Say where a filesystem is mounted, and how full it is if it is."""
        mounts, device = self._mount_points(use), self._device_in_use(use)
        if mounts == [None] or device is None:
            return {}
        content = self._devices.content(device)
        free = content.size_bytes - content.used_bytes
        return {"mountpoints": mounts, "fsused": content.used_bytes, "fsavail": free}

    def _mount_points(self, use: str) -> list[str | None]:
        return [*self._state.mounts_of(use)] or [None]

    def _smartctl(self, argv: Sequence[str]) -> str:
        *options, path = argv
        if tuple(options) != SMARTCTL[1:]:
            raise UnknownToolUseError(f"smartctl {' '.join(argv)}")
        disk = self._devices.disk(path)
        if disk.broken or not disk.smart:
            raise ToolRefusal(_NO_SMART, "")
        return disk.smart

    def _findmnt(self, argv: Sequence[str]) -> str:
        if tuple(argv) != FIND_MOUNTS[1:]:
            raise UnknownToolUseError(f"findmnt {' '.join(argv)}")
        numbers = {lv.uuid: _number(lv) for vg in self._state.vgs for lv in vg.lvs}
        numbers |= {one.uuid: f"254:{one.minor}" for one in self._state.mapped}
        rows = [{"target": "/", "maj:min": "0:16"}] + [
            {"target": mount.target, "maj:min": numbers[mount.device]}
            for mount in self._state.mounts
            if mount.device in numbers
        ]
        return msgspec.json.encode({"filesystems": rows}).decode()

    def _wipefs(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, flags=frozenset({"-J", "-n", "-a"}))
        devices = [self._open("wipefs: error", path) for path in given.words]
        if "-a" not in given.options:
            rows = [row for device in devices for row in self._signature_rows(device)]
            return msgspec.json.encode({"signatures": rows}).decode()
        for device in devices:
            if self._state.mounts_of(device.use) or device.held:
                sentence = f"wipefs: error: {device.name}: probing initialization failed: Device"
                raise ToolRefusal(_WRONG_USE, f"{sentence} or resource busy\n")
            content = self._devices.content(device)
            content.kind = content.uuid = ""
        return ""

    def _signature_rows(self, device: Device) -> list[dict[str, Any]]:
        content = self._devices.content(device)
        disk = self._state.disks.get(device.use)
        pv = None if disk is None else self._state.pv_on(disk)
        found = [(content.kind, content.uuid)] if content.kind else []
        found += [("LVM2_member", pv.uuid)] if pv else []
        return [
            {"device": device.name, "offset": "0x0", "type": kind, "uuid": uuid or None}
            for kind, uuid in found
        ]

    def _blkdiscard(self, argv: Sequence[str]) -> str:
        given = read_arguments(
            argv,
            valued=frozenset({"--offset", "--length"}),
            flags=frozenset({"--zeroout", "--force"}),
        )
        device = self._open("blkdiscard", given.word())
        used = self._state.mounts_of(device.use) or device.held
        if used and "--force" not in given.options:
            sentence = f"blkdiscard: {given.word()}: BLKZEROOUT ioctl failed: Device or resource"
            raise ToolRefusal(_WRONG_USE, f"{sentence} busy\n")
        offset = int(given.one("--offset", "0"))
        end = offset + int(given.one("--length", str(device.size_bytes)))
        metadata = self._devices.content(device).metadata
        left = {at: one for at, one in metadata.items() if not offset < at <= end}
        if offset == 0:
            self._devices.put(device, None)
            if left:
                self._state.contents[device.at] = Content(metadata=left)
        elif metadata:
            self._devices.content(device).metadata = left
        return ""

    def _mkfs_ext4(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, valued=frozenset({"-U"}), flags=frozenset({"-q"}))
        device = self._open("mke2fs", given.word())
        if self._state.mounts_of(device.use) or device.held:
            sentence = f"{given.word()} is mounted; will not make a filesystem here!\n"
            raise ToolRefusal(_WRONG_USE, sentence)
        # Without a terminal the real one does not ask either: what was there is gone.
        self._format(device, "ext4", given.one("-U"))
        return ""

    def _mkfs_xfs(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, valued=frozenset({"-m"}), flags=frozenset({"-q"}))
        device = self._open("mkfs.xfs", given.word())
        found = self._devices.content(device)
        if found.kind:
            sentence = f"mkfs.xfs: {given.word()} appears to contain an existing filesystem"
            raise ToolRefusal(_WRONG_USE, f"{sentence} ({found.kind}).\n")
        if device.size_bytes < _XFS_BYTES_MIN:
            raise ToolRefusal(_WRONG_USE, "Filesystem must be larger than 300MB.\n")
        self._format(device, "xfs", given.one("-m").removeprefix("uuid="))
        return ""

    def _format(self, device: Device, kind: str, uuid: str) -> None:
        content = Content(kind=kind, uuid=uuid, size_bytes=device.size_bytes)
        self._devices.put(device, content)

    def _dumpe2fs(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, flags=frozenset({"-h"}))
        content = self._superblock(given.word(), "ext4")
        blocks = content.size_bytes // _BLOCK_BYTES
        return f"Block count:              {blocks}\nBlock size:               {_BLOCK_BYTES}\n"

    def _xfs_db(self, argv: Sequence[str]) -> str:
        if tuple(argv[:-1]) != READ_XFS[1:]:
            raise UnknownToolUseError(f"xfs_db {' '.join(argv)}")
        content = self._superblock(argv[-1], "xfs")
        blocks = content.size_bytes // _BLOCK_BYTES
        unfinished = int(not content.finished)
        return f"dblocks = {blocks}\nblocksize = {_BLOCK_BYTES}\ninprogress = {unfinished}\n"

    def _e2fsck(self, argv: Sequence[str]) -> str:
        path = read_arguments(argv, flags=frozenset({"-f", "-p"})).word()
        if self._state.mounts_of(self._open("e2fsck", path).use):
            raise ToolRefusal(8, f"{path} is mounted.\ne2fsck: Cannot continue, aborting.\n")
        self._superblock(path, "ext4")
        return f"{path}: 11/49200 files (0.0% non-contiguous), 18009/204800 blocks\n"

    def _resize2fs(self, argv: Sequence[str]) -> str:
        path = read_arguments(argv, flags=frozenset()).word()
        device, content = self._open("resize2fs", path), self._superblock(path, "ext4")
        content.size_bytes = device.size_bytes
        return ""

    def _xfs_growfs(self, argv: Sequence[str]) -> str:
        target = read_arguments(argv, flags=frozenset()).word()
        mount = next((one for one in self._state.mounts if one.target == target), None)
        device = None if mount is None else self._device_in_use(mount.device)
        if device is None:
            sentence = f"xfs_growfs: {target} is not a mounted XFS filesystem\n"
            raise ToolRefusal(_WRONG_USE, sentence)
        self._devices.content(device).size_bytes = device.size_bytes
        return ""

    def _mount(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, valued=frozenset({"-t", "-o"}), flags=frozenset())
        path, target = given.words
        device = self._open("mount", path)
        content = self._devices.content(device)
        if not content.kind or not content.finished:
            raise ToolRefusal(_MOUNT_FAILED, f"mount: {target}: wrong fs type, bad superblock.\n")
        if device.held or target in self._state.mounts_of(device.use):
            sentence = f"mount: {target}: {path} already mounted or mount point busy.\n"
            raise ToolRefusal(_MOUNT_FAILED, sentence)
        self._state.mounts.append(Mount(device=device.use, target=target))
        return ""

    def _umount(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, flags=frozenset({"--lazy"}))
        target = given.word()
        busy = any(mount.target == target and mount.busy for mount in self._state.mounts)
        if busy and "--lazy" not in given.options:
            raise ToolRefusal(_MOUNT_FAILED, f"umount: {target}: target is busy.\n")
        left = [mount for mount in self._state.mounts if mount.target != target]
        if len(left) == len(self._state.mounts):
            raise ToolRefusal(_MOUNT_FAILED, f"umount: {target}: not mounted.\n")
        self._state.mounts = left
        return ""

    def _open(self, tool: str, path: str) -> Device:
        device = self._devices.find(path)
        if device is None:
            reason = "No such file or directory"
        elif device.broken:
            reason = "Input/output error"
        else:
            return device
        sentence = f"{tool}: {path}: probing initialization failed: {reason}\n"
        raise ToolRefusal(_WRONG_USE, sentence)

    def _superblock(self, path: str, kind: str) -> Content:
        content = self._devices.content(self._open("open", path))
        if content.kind != kind:
            raise ToolRefusal(_WRONG_USE, f"Bad magic number in super-block of {path}\n")
        return content

    def _device_in_use(self, use: str) -> Device | None:
        paths = [f"/dev/{disk.name}" for disk in self._state.disks.values()]
        paths += [f"/dev/{vg.name}/{lv.name}" for vg in self._state.vgs for lv in vg.lvs]
        paths += [f"/dev/mapper/{mapped.name}" for mapped in self._state.mapped]
        found = (self._devices.find(path) for path in paths)
        return next((device for device in found if device is not None and device.use == use), None)


def _row(
    name: str, kernel_name: str, path: str, kind: str, size_bytes: int, device: str
) -> dict[str, Any]:
    """Return a row of lsblk on a machine without udev: it then knows no serials and models."""
    row: dict[str, Any] = {"name": name, "kname": kernel_name, "path": path, "type": kind}
    row |= {"size": size_bytes, "rota": False, "rm": False, "ro": False}
    row |= {"serial": None, "wwn": None, "model": None}
    return row | {"mountpoints": [None], "maj:min": device, "fsused": None, "fsavail": None}


def _lies_on(vg: Vg, lv: Lv, pv: str) -> bool:
    if not lv.active:
        return False
    pool = vg.lv(lv.thin_pool) if lv.thin_pool else None
    return any(piece.pv == pv for piece in (pool or lv).pieces)


def _number(lv: Lv) -> str:
    return f"254:{lv.minor}"


def _by_name(disk: Disk) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", disk.name)]
