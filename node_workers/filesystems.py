"""Filesystems made once, on blank devices only, and grown as often as somebody asks."""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from node_workers.ports import (
    Filesystem,
    InUseError,
    Refusal,
    RefusedToTouchError,
    Runner,
    ToolFailedError,
    UnsuitableError,
)
from node_workers.tools import Tools, meaning

PRIVATE_MOUNTS = "/run/hwbus/grow"

_MIB = 1 << 20
_XFS_BYTES_MIN = 300 * _MIB  # mkfs.xfs refuses less
_PROBE_TIMEOUT_S = 30.0
_MAKE_TIMEOUT_S = 600.0
_GROW_TIMEOUT_S = 3600.0
_WIPE_TIMEOUT_S = 3600.0
_ZEROED_AT_ONCE_BYTES = 16 << 30
_CANNOT_DISCARD = "Operation not supported"
FIND_MOUNTS = ("findmnt", "-J", "-l", "-o", "TARGET,MAJ:MIN")
READ_XFS = ("xfs_db", "-r", "-c", "sb 0", "-c", "p dblocks blocksize inprogress")

_E2FSCK_REPAIRED = 1
_FINDMNT_NOTHING = 1


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What libblkid recognises on a device: ext4, gpt, linux_raid_member, LVM2_member and so on."""

    kind: str
    uuid: str = ""


class Wiper(Protocol):
    """Whoever leaves nothing on a device that its next user should see."""

    async def wipe(self, path: str, size_bytes: int, *, cause: str) -> None:
        """Wipe it."""
        ...


class _OnDisk(msgspec.Struct, frozen=True, kw_only=True):
    size_bytes: int
    finished: bool


class Filesystems:
    """Makes, grows and wipes filesystems on the devices of volumes."""

    def __init__(self, runner: Runner) -> None:
        self._tools = Tools(runner)

    async def ensure_made(
        self, path: str, kind: Filesystem, volume: str, *, mounted: bool, cause: str
    ) -> bool:
        """Have a filesystem of *kind* on *path*; returns whether it was made just now.

        Its UUID is derived from the uid of the *volume*: so what an earlier life of the same
        extents left behind, or what a person made, is never taken for ours, and refused.
        """
        found = await self.signatures(path, cause=cause)
        if not found and mounted:
            raise InUseError(f"{path} is in use without a filesystem: none will be made on it")
        if not found:
            await self._make(path, kind, volume, cause=cause)
            return True
        if {(one.kind, one.uuid) for one in found} != {(kind.value, filesystem_uuid(volume))}:
            raise _foreign(path, kind, found)
        if not mounted and not (await self._on_disk(path, kind, cause=cause)).finished:
            # mkfs.xfs died half way; the kernel mounts no such thing, so nobody's data is on it.
            await self._tools.must("wipefs", "-a", path, cause=cause, timeout_s=_PROBE_TIMEOUT_S)
            await self._make(path, kind, volume, cause=cause)
            return True
        return False

    async def ensure_own(self, path: str, kind: Filesystem, volume: str, *, cause: str) -> None:
        """Have the filesystem, copied from another volume and mounted nowhere, named as *volume*'s.

        What its log still holds is brought in first: neither tool renames one that was not left
        in order. Raises ``RefusedToTouchError`` if it is of another kind.
        """
        found = await self.signatures(path, cause=cause)
        identity = filesystem_uuid(volume)
        if {one.kind for one in found} != {kind.value}:
            raise _foreign(path, kind, found)
        if {one.uuid for one in found} == {identity}:
            return
        if kind is Filesystem.EXT4:
            await self._check_ext4(path, cause=cause)
            await self._tools.must("tune2fs", "-U", identity, path, cause=cause)
            return
        # Its twin may be mounted, and the kernel takes a UUID only once unless it is told so.
        mount_point = await self._mount_privately(path, "nouuid", cause=cause)
        await self._tools.must("umount", mount_point, cause=cause)
        await self._tools.must("xfs_admin", "-U", identity, path, cause=cause)

    async def ensure_kind(self, path: str, kind: Filesystem, *, cause: str) -> None:
        """Raise ``RefusedToTouchError`` if *path* has no filesystem of *kind*, or another."""
        found = await self.signatures(path, cause=cause)
        if {one.kind for one in found} != {kind.value}:
            raise _foreign(path, kind, found)

    async def ensure_grown(
        self, path: str, kind: Filesystem, size_bytes: int, mounts: Sequence[str], *, cause: str
    ) -> None:
        """Have the filesystem fill its device of *size_bytes*, mounted at *mounts* or not."""
        if not mounts:
            on_disk = await self._on_disk(path, kind, cause=cause)
            if on_disk.size_bytes >= size_bytes:
                return
        if kind is Filesystem.EXT4:
            await self._grow_ext4(path, mounted=bool(mounts), cause=cause)
        elif mounts:
            await self._grow_mounted_xfs(mounts[0], cause=cause)
        else:
            mount_point = await self._mount_privately(path, cause=cause)
            await self._grow_mounted_xfs(mount_point, cause=cause)

    async def signatures(self, path: str, *, cause: str) -> tuple[Signature, ...]:
        """Return what is on the device. Raises ``ToolFailedError`` if it cannot be read."""
        execution = await self._tools.must(
            "wipefs", "-J", "-n", path, cause=cause, timeout_s=_PROBE_TIMEOUT_S
        )
        return tuple(signature for _, signature in parse_signatures(execution.stdout))

    async def mounts(self, device: str, *, cause: str) -> tuple[str, ...]:
        """Return where the device ("254:3") is mounted in this mount namespace."""
        return (await self.all_mounts(cause=cause)).get(device, ())

    async def all_mounts(self, *, cause: str) -> Mapping[str, tuple[str, ...]]:
        """Return all mount points of this mount namespace by device number."""
        execution = await self._tools.must(
            *FIND_MOUNTS,
            cause=cause,
            timeout_s=_PROBE_TIMEOUT_S,
            accepted=frozenset({0, _FINDMNT_NOTHING}),
        )
        return parse_mounts(execution.stdout)

    async def ensure_released(self, path: str, device: str, *, cause: str) -> None:
        """Take back our own private mounts. Raises ``InUseError`` if anybody else uses it."""
        mounts = await self.mounts(device, cause=cause)
        for mount_point in mounts:
            if not mount_point.startswith(f"{PRIVATE_MOUNTS}/"):
                raise InUseError(f"{path} is mounted at {mount_point}", mount_point)
        for mount_point in mounts:
            await self._tools.must("umount", mount_point, cause=cause)
        if not mounts:
            raise InUseError(f"{path} is held open by another program or mount namespace")

    async def wipe(self, path: str, size_bytes: int, *, cause: str) -> None:
        """Leave nothing by which the next user of the same extents could recognise a filesystem.

        Raises ``InUseError`` if it is mounted: both tools open the device exclusively.
        """
        await self._tools.must("wipefs", "-a", path, cause=cause, timeout_s=_PROBE_TIMEOUT_S)
        for offset in sorted({0, size_bytes - _MIB}):
            await self._tools.must(
                *("blkdiscard", "--zeroout", "--offset", str(offset), "--length", str(_MIB)),
                path,
                cause=cause,
            )

    async def _make(self, path: str, kind: Filesystem, volume: str, *, cause: str) -> None:
        identity = filesystem_uuid(volume)
        if kind is Filesystem.EXT4:
            argv = ("mkfs.ext4", "-q", "-U", identity, path)
        else:
            argv = ("mkfs.xfs", "-q", "-m", f"uuid={identity}", path)
        await self._tools.must(*argv, cause=cause, timeout_s=_MAKE_TIMEOUT_S)

    async def _mount_privately(self, path: str, *options: str, cause: str) -> str:
        """Mount an xfs where nobody looks; return where."""
        mount_point = f"{PRIVATE_MOUNTS}/{path.removeprefix('/dev/').replace('/', '_')}"
        given = ",".join(("X-mount.mkdir", "nosuid", "nodev", "noexec", *options))
        await self._tools.must(*("mount", "-t", "xfs", "-o", given, path, mount_point), cause=cause)
        return mount_point

    async def _check_ext4(self, path: str, *, cause: str) -> None:
        await self._tools.must(
            *("e2fsck", "-f", "-p", path),
            cause=cause,
            timeout_s=_GROW_TIMEOUT_S,
            accepted=frozenset({0, _E2FSCK_REPAIRED}),
        )

    async def _grow_ext4(self, path: str, *, mounted: bool, cause: str) -> None:
        if not mounted:
            await self._check_ext4(path, cause=cause)
        await self._tools.must("resize2fs", path, cause=cause, timeout_s=_GROW_TIMEOUT_S)

    async def _grow_mounted_xfs(self, mount_point: str, *, cause: str) -> None:
        await self._tools.must("xfs_growfs", mount_point, cause=cause, timeout_s=_GROW_TIMEOUT_S)
        if mount_point.startswith(f"{PRIVATE_MOUNTS}/"):
            await self._tools.must("umount", mount_point, cause=cause)

    async def _on_disk(self, path: str, kind: Filesystem, *, cause: str) -> _OnDisk:
        """Read the superblock of an unmounted filesystem."""
        if kind is Filesystem.EXT4:
            execution = await self._tools.must("dumpe2fs", "-h", path, cause=cause)
            values = _numbers(r"^(Block count|Block size):\s+(\d+)$", execution.stdout)
            blocks, block_bytes = values.get("Block count"), values.get("Block size")
            finished = True  # mke2fs writes the superblock last: where there is one, all is there
        else:
            execution = await self._tools.must(*READ_XFS, path, cause=cause)
            values = _numbers(r"^(\w+) = (\d+)$", execution.stdout)
            blocks, block_bytes = values.get("dblocks"), values.get("blocksize")
            finished = values.get("inprogress") == 0
        if blocks is None or block_bytes is None:
            raise ToolFailedError(execution)
        return _OnDisk(size_bytes=blocks * block_bytes, finished=finished)


class WholeDevices:
    """Wipes all of a device, as far as it lets itself be wiped; with *zero* in any case."""

    def __init__(self, runner: Runner, *, zero: bool) -> None:
        self._tools = Tools(runner)
        self._ends = Filesystems(runner)
        self._zero = zero

    async def wipe(self, path: str, size_bytes: int, *, cause: str) -> None:
        """Leave nothing of what is on the device: tell it that all may go, or write it over.

        One that cannot discard keeps what lies between its ends, unless it is written over. Raises
        ``InUseError`` if it is used.
        """
        await self._ends.wipe(path, size_bytes, cause=cause)
        if self._zero:
            for offset in range(0, size_bytes, _ZEROED_AT_ONCE_BYTES):
                length = min(_ZEROED_AT_ONCE_BYTES, size_bytes - offset)
                await self._tools.must(
                    *("blkdiscard", "--zeroout", "--offset", str(offset), "--length", str(length)),
                    path,
                    cause=cause,
                    timeout_s=_WIPE_TIMEOUT_S,
                )
            return
        discarded = await self._tools.runner.run(
            ("blkdiscard", path), cause=cause, timeout_s=_WIPE_TIMEOUT_S
        )
        if discarded.exit_status != 0 and _CANNOT_DISCARD not in discarded.stderr:
            raise meaning(discarded)


def filesystem_uuid(volume: str) -> str:
    """Return the UUID that the filesystem of the volume with that uid is made with."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"hwbus:volume:{volume}"))


def require_room(kind: Filesystem, size_bytes: int) -> None:
    """Raise ``UnsuitableError`` if a filesystem of *kind* cannot be that small."""
    if kind is Filesystem.XFS and size_bytes < _XFS_BYTES_MIN:
        raise UnsuitableError(
            "filesystem-too-small", f"xfs needs {_XFS_BYTES_MIN} bytes; {size_bytes} is less"
        )


def parse_signatures(output: str) -> tuple[tuple[str, Signature], ...]:
    """Return (device name, signature) pairs of ``wipefs -J -n``; it prints nothing for none."""
    if not output.strip():
        return ()
    rows = msgspec.json.decode(output)["signatures"]
    return tuple(
        (row["device"], Signature(kind=row["type"], uuid=row["uuid"] or "")) for row in rows
    )


def parse_mounts(output: str) -> Mapping[str, tuple[str, ...]]:
    """Return the mount points by device number of ``findmnt -J -l -o TARGET,MAJ:MIN``."""
    mounts: dict[str, tuple[str, ...]] = {}
    for row in msgspec.json.decode(output)["filesystems"] if output.strip() else ():
        mounts[row["maj:min"]] = (*mounts.get(row["maj:min"], ()), row["target"])
    return mounts


def _numbers(pattern: str, text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(pattern, text, re.MULTILINE)}


def _foreign(path: str, kind: Filesystem, found: Sequence[Signature]) -> RefusedToTouchError:
    kinds = ", ".join(f"{one.kind} {one.uuid}".strip() for one in found) or "nothing"
    return RefusedToTouchError(
        Refusal.FOREIGN_SIGNATURE, f"{path} carries {kinds} instead of our {kind}; it is left alone"
    )
