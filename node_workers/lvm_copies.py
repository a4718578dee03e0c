"""New volumes that hold what a snapshot or a backup does: shared where they can, else filled."""

import sys

import msgspec

from node_workers import backing_up, backup_download, copier
from node_workers.backup_tool import BackupTool, where
from node_workers.filesystems import Filesystems
from node_workers.loans import Borrower
from node_workers.lvm_pools import our_group
from node_workers.lvm_report import FILLING_TAG, LogicalVolume, VolumeGroup
from node_workers.lvm_volumes import Volumes, ours, refuse_reserved
from node_workers.ports import (
    CopyOf,
    CopyState,
    Filesystem,
    Layout,
    LoanError,
    NotThereError,
    Runner,
    UnsuitableError,
    VolumeSpec,
)
from node_workers.tools import REMOVE, Tools
from schemas.backups import FromBackup

_TURN_S = 5.0
_TURN_TIMEOUT_S = 300.0
_TOLD = frozenset({copier.DONE, copier.TIME_OVER, copier.DIFFERS, copier.CUT_OFF})


class _Told(msgspec.Struct, frozen=True):
    done_bytes: int
    digest: str = ""


class Copies:
    """Fills volumes of ours. One that is not full yet has a tag from its first moment on.

    A volume is a copy when that tag is gone, and not before: it goes when all was copied and
    verified, when the filesystem has an identity of its own, and fills the volume.
    """

    def __init__(
        self,
        runner: Runner,
        volumes: Volumes,
        folder: str,
        tool: BackupTool,
        borrower: Borrower,
    ) -> None:
        self._runner = runner
        self._tool = tool
        self._tools = Tools(runner)
        self._filesystems = Filesystems(runner)
        self._volumes = volumes
        self._folder = folder
        self._borrower = borrower

    async def ensure(
        self, pool_uid: str, spec: VolumeSpec, source: CopyOf | FromBackup, *, cause: str
    ) -> CopyState:
        """Have more of the copy, as ``Storage.ensure_copied`` promises."""
        refuse_reserved(spec.name)
        group = await our_group(self._runner, pool_uid, spec.pool, cause=cause)
        self._volumes.note(group)
        found = ours(group, spec.uid, spec.name)
        if found is not None and FILLING_TAG not in found.tags:
            state = await self._volumes.ensure(pool_uid, spec, cause=cause)
            return CopyState(done_bytes=source.size_bytes, volume=state)
        shared = isinstance(source, CopyOf) and _shares(source, spec)
        if found is None:
            origin = source if isinstance(source, CopyOf) and shared else None
            await self._begin(group, spec, origin, cause=cause)
        else:
            await self._prepare(spec, found, cause=cause)
        if not shared:
            done_bytes = await self._fill(group, spec, source, cause=cause)
            if done_bytes is not None:
                return CopyState(done_bytes=done_bytes)
        await self._make_own(spec, cause=cause)
        state = await self._volumes.ensure(pool_uid, spec, cause=cause)
        name = f"{spec.pool}/{spec.name}"
        await self._tools.must("lvchange", "--deltag", FILLING_TAG, name, cause=cause)
        await self._forget(spec, cause=cause)
        return CopyState(done_bytes=source.size_bytes, volume=state)

    async def _begin(
        self, group: VolumeGroup, spec: VolumeSpec, shared: CopyOf | None, *, cause: str
    ) -> None:
        """Have the volume, with nothing in it that counts yet."""
        # The journal of a volume that somebody removed half full would lie about this one.
        await self._forget(spec, cause=cause)
        origin = _source(group, shared).name if shared is not None else ""
        await self._volumes.make_unfilled(group, spec, origin, cause=cause)

    async def _prepare(self, spec: VolumeSpec, found: LogicalVolume, *, cause: str) -> None:
        """Have a volume that is not full yet active, and nothing of ours mounted."""
        name = f"{spec.pool}/{spec.name}"
        if found.open:
            await self._filesystems.ensure_released(f"/dev/{name}", found.device, cause=cause)
        await self._volumes.activate(found, spec.pool, cause=cause)

    async def _fill(
        self, group: VolumeGroup, spec: VolumeSpec, source: CopyOf | FromBackup, *, cause: str
    ) -> int | None:
        """Have more in it; return how much is, or None when all is."""
        if isinstance(source, FromBackup):
            return await self._restore(spec, source, cause=cause)
        told = await self._copy(group, spec, source, cause=cause)
        return None if told.digest else told.done_bytes

    async def _restore(self, spec: VolumeSpec, source: FromBackup, *, cause: str) -> int | None:
        """Have one more turn of the backup written, each chunk checked before and after."""
        about = backing_up.RestoreSpec(
            where=where(source.place),
            journal=self._journal(spec),
            name=source.backup,
            manifest=source.manifest,
            device=f"/dev/{spec.pool}/{spec.name}",
            sparse=spec.layout is Layout.THIN,
            rate_bytes_per_s=source.rate_bytes_per_s or 0,
        )
        done, printed = await self._tool.run("restore", about, source.place, cause=cause)
        told = msgspec.json.decode(printed, type=backup_download.Downloaded)
        return None if done else told.done_bytes

    async def readable(self, pool_uid: str, pool: str, uid: str, name: str, *, cause: str) -> str:
        """Have the snapshot active, as ``Storage.ensure_snapshot_readable`` promises."""
        group = await our_group(self._runner, pool_uid, pool, cause=cause)
        await self._volumes.activate(readable_snapshot(group, uid, name), pool, cause=cause)
        return f"/dev/{pool}/{name}"

    async def _source(
        self, group: VolumeGroup, spec: VolumeSpec, source: CopyOf, *, cause: str
    ) -> tuple[str, bytes]:
        """Return what the copier is told of the source, by its argv and by its input."""
        path = f"/dev/{source.pool}/{source.snapshot}"
        if source.node:
            access = await self._borrower.borrow(
                source.node, source.operation, source.snapshot, source.uid, source.size_bytes
            )
            return f"{source.node}:{path}", msgspec.json.encode(access)
        if source.pool != spec.pool:
            group = await our_group(self._runner, source.pool_uid, source.pool, cause=cause)
        await self._volumes.activate(_source(group, source), source.pool, cause=cause)
        return path, b""

    async def _copy(
        self, group: VolumeGroup, spec: VolumeSpec, source: CopyOf, *, cause: str
    ) -> _Told:
        """Have one more turn of the copy done, of some seconds."""
        named, secret = await self._source(group, spec, source, cause=cause)
        rate = source.rate_bytes_per_s
        execution = await self._tools.must(
            *(sys.executable, *copier.PROGRAM),
            *(named, f"/dev/{spec.pool}/{spec.name}"),
            *("--bytes", str(source.size_bytes), "--journal", self._journal(spec)),
            *(("--rate", str(rate)) if rate else ()),
            *("--for", f"{_TURN_S:g}"),
            *(("--sparse",) if spec.layout is Layout.THIN else ()),
            *(("--far",) if source.node else ()),
            cause=cause,
            stdin=secret,
            timeout_s=_TURN_TIMEOUT_S,
            accepted=_TOLD,
        )
        if execution.exit_status == copier.DIFFERS:
            raise UnsuitableError("copy-differs", execution.stderr.strip())
        if execution.exit_status == copier.CUT_OFF:
            raise LoanError("source-unreachable", execution.stderr.strip())
        return msgspec.json.decode(execution.stdout, type=_Told)

    async def _make_own(self, spec: VolumeSpec, *, cause: str) -> None:
        """Give the filesystem, a copy to the byte, an identity of its own."""
        if spec.filesystem is not Filesystem.NONE:
            path = f"/dev/{spec.pool}/{spec.name}"
            await self._filesystems.ensure_own(path, spec.filesystem, spec.uid, cause=cause)

    async def _forget(self, spec: VolumeSpec, *, cause: str) -> None:
        journal = self._journal(spec)
        await self._tools.must(*REMOVE, journal, f"{journal}-list", cause=cause)

    def _journal(self, spec: VolumeSpec) -> str:
        return f"{self._folder}/copy-{spec.uid}"


def _shares(source: CopyOf, spec: VolumeSpec) -> bool:
    return (
        not source.node and source.thin and spec.layout is Layout.THIN and source.pool == spec.pool
    )


def _source(group: VolumeGroup, source: CopyOf) -> LogicalVolume:
    return readable_snapshot(group, source.uid, source.snapshot)


def readable_snapshot(group: VolumeGroup, uid: str, name: str) -> LogicalVolume:
    """Return the snapshot. Raises ``NotThereError`` and, when it is lost, ``UnsuitableError``."""
    found = ours(group, uid, name)
    if found is None:
        raise NotThereError("snapshot-missing", f"there is no snapshot {group.name}/{name}")
    if found.invalid:
        raise UnsuitableError("snapshot-lost", f"{group.name}/{name} has overflowed")
    return found
