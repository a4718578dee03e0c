"""What a node does once: work with a backup target, turn by turn, and putting volumes aside."""

import sys
from typing import TypeVar

import msgspec

from node_workers import backing_up, backup_download, backup_sweep, backup_upload, thin_blocks
from node_workers.backup_format import CHUNK_BYTES, Manifest
from node_workers.backup_tool import BackupTool, where
from node_workers.lvm_copies import readable_snapshot
from node_workers.lvm_mending import Mending
from node_workers.lvm_pools import our_group
from node_workers.lvm_report import VolumeGroup
from node_workers.lvm_volumes import Volumes, ours
from node_workers.ports import Runner
from node_workers.tools import REMOVE, Tools
from schemas.errand import (
    BadChunk,
    Compare,
    Errand,
    EvenOut,
    Found,
    ListAll,
    Listed,
    Probe,
    Probed,
    Put,
    PutAside,
    PutBack,
    Stored,
    Sweep,
    Swept,
    Upload,
    Uploaded,
    Verified,
    Verify,
)

_TIMEOUT_S = 300.0
_REPORT_BYTES_MAX = 48_000  # a command has at most 64 KiB
_DAMAGED_MAX = 20
_NAME_MAX, _SAID_MAX = 100, 200
T = TypeVar("T", bound=msgspec.Struct)


class Going(msgspec.Struct, frozen=True, kw_only=True):
    """It takes another turn; so much of it is done. ``of_bytes`` 0: nobody knows of how much."""

    done_bytes: int = 0
    of_bytes: int = 0


class Errands:
    """Does errands on one machine. Each call is a turn of some seconds, and may be cancelled."""

    def __init__(
        self, runner: Runner, volumes: Volumes, tool: BackupTool, mending: Mending
    ) -> None:
        self._mending = mending
        self._runner = runner
        self._tools = Tools(runner)
        self._volumes = volumes
        self._tool = tool
        self._compared: set[str] = set()

    async def run(
        self, operation: str, errand: Errand, pool_uid: str, *, cause: str
    ) -> Found | Going:
        """Do more of *errand*, on from where the last turn ended; return what came of it.

        Raises ``StorageError``.
        """
        match errand:
            case Probe():
                about = backing_up.ProbeSpec(where=where(errand.place), probe=operation)
                await self._tool.run("probe", about, errand.place, cause=cause)
                return Probed()
            case ListAll():
                return await self._list(errand, cause=cause)
            case Upload():
                return await self._upload(operation, errand, pool_uid, cause=cause)
            case Verify():
                return await self._verify(operation, errand, cause=cause)
            case Sweep():
                return await self._sweep(operation, errand, cause=cause)
            case PutAside():
                await self._mending.put_aside(pool_uid, errand, cause=cause)
                return Put()
            case PutBack():
                await self._mending.put_back(pool_uid, errand, cause=cause)
                return Put()
            case Compare() | EvenOut():
                raise TypeError("replicas are compared where they are tied")

    async def stop(self, operation: str, errand: Errand, pool_uid: str, *, cause: str) -> None:
        """Keep nothing of *errand* here; if it can be said to the store, that nobody writes."""
        if isinstance(errand, PutAside):
            back = PutBack(seen=errand.seen, claim=errand.claim)
            await self._mending.put_back(pool_uid, back, cause=cause)
        if isinstance(errand, PutAside | PutBack):
            return
        if isinstance(errand, Upload):
            spec = backing_up.WithdrawSpec(where=where(errand.place), writer=operation)
            # Not said, it lapses by itself: giving up must not wait for a store that is silent.
            await self._tool.try_run("withdraw", spec, errand.place, cause=cause)
        await self._forget(operation, cause=cause)

    async def _list(self, errand: ListAll, *, cause: str) -> Listed:
        name, volume = errand.backup or "", errand.volume or ""
        spec = backing_up.ListSpec(where=where(errand.place), name=name, volume=volume)
        _, printed = await self._tool.run("list", spec, errand.place, cause=cause)
        listed = msgspec.json.decode(printed, type=backing_up.Listed)
        return _listed(listed, part=bool(name or volume))

    async def _upload(
        self, operation: str, errand: Upload, pool_uid: str, *, cause: str
    ) -> Uploaded | Going:
        group = await our_group(self._runner, pool_uid, errand.pool, cause=cause)
        snapshot = readable_snapshot(group, errand.snapshot_uid, errand.snapshot)
        await self._volumes.activate(snapshot, errand.pool, cause=cause)
        changed = await self._changed(operation, errand, group, cause=cause)
        upload = backup_upload.UploadSpec(
            writer=operation,
            device=f"/dev/{errand.pool}/{errand.snapshot}",
            name=errand.backup,
            cluster=errand.cluster,
            volume=errand.volume,
            volume_uid=errand.volume_uid,
            size_bytes=errand.size_bytes,
            layout=errand.layout.value,
            filesystem=errand.filesystem.value,
            snapshot=errand.snapshot,
            snapshot_uid=errand.snapshot_uid,
            consistency=errand.consistency,
            at=errand.at.isoformat(),
            parent=errand.parent or "",
            changed=changed,
            rate_bytes_per_s=errand.rate_bytes_per_s or 0,
        )
        journal = self._journal(operation)
        about = backing_up.PutSpec(where=where(errand.place), journal=journal, upload=upload)
        done, printed = await self._tool.run("upload", about, errand.place, cause=cause)
        told = msgspec.json.decode(printed, type=backup_upload.Uploaded)
        if not done:
            return Going(done_bytes=told.done_bytes, of_bytes=told.of_bytes)
        await self._forget(operation, cause=cause)
        return Uploaded(
            manifest=told.manifest,
            chunks=told.chunks,
            stored_chunks=told.stored,
            read_bytes=told.read_bytes,
            uploaded_bytes=told.uploaded_bytes,
            parent=told.parent,
        )

    async def _changed(
        self, operation: str, errand: Upload, group: VolumeGroup, *, cause: str
    ) -> str:
        """Return the file that tells which chunks may have changed since the parent, if one can."""
        kept, uid = errand.parent_snapshot, errand.parent_snapshot_uid
        if errand.parent is None or kept is None or uid is None or ours(group, uid, kept) is None:
            return ""
        changed = f"{self._journal(operation)}-changed"
        if operation not in self._compared:
            # It tells nothing where it fails: then all is read, which takes longer and is right.
            await self._tools.must(
                *(sys.executable, *thin_blocks.PROGRAM, errand.pool, kept, errand.snapshot),
                *("--unit", str(CHUNK_BYTES), "--to", changed),
                cause=cause,
                timeout_s=_TIMEOUT_S,
                accepted=frozenset({thin_blocks.DONE, thin_blocks.UNKNOWN}),
            )
            self._compared.add(operation)
        return changed

    async def _verify(self, operation: str, errand: Verify, *, cause: str) -> Verified | Going:
        about = backing_up.VerifySpec(
            where=where(errand.place),
            journal=self._journal(operation),
            name=errand.backup,
            rate_bytes_per_s=errand.rate_bytes_per_s or 0,
        )
        done, printed = await self._tool.run("verify", about, errand.place, cause=cause)
        told = msgspec.json.decode(printed, type=backup_download.Downloaded)
        if not done:
            return Going(done_bytes=told.done_bytes, of_bytes=told.of_bytes)
        await self._forget(operation, cause=cause)
        bad = tuple(BadChunk(index=one.index, chunk=one.chunk, why=one.why) for one in told.bad)
        return Verified(chunks=told.chunks, bad_chunks=told.bad_chunks, bad=bad)

    async def _sweep(self, operation: str, errand: Sweep, *, cause: str) -> Swept | Going:
        about = backing_up.SweepSpec(
            where=where(errand.place),
            journal=self._journal(operation),
            sweeper=operation,
            name=errand.backup or "",
            grace_s=errand.grace_s,
        )
        done, printed = await self._tool.run("sweep", about, errand.place, cause=cause)
        told = msgspec.json.decode(printed, type=backup_sweep.Swept)
        if not done:
            return Going()
        # What it noted stays for a while: asked again it must not miss what it has removed.
        return Swept(chunks=told.chunks, freed_bytes=told.freed_bytes, writers=told.writers)

    async def _forget(self, operation: str, *, cause: str) -> None:
        self._compared.discard(operation)
        journal = self._journal(operation)
        files = (journal, *(f"{journal}-{what}" for what in ("list", "changed", "removed")))
        await self._tools.must(*REMOVE, *files, cause=cause)

    def _journal(self, operation: str) -> str:
        return f"{self._tool.folder}/{backing_up.OWN_FILES}{operation}"


def _listed(listed: backing_up.Listed, *, part: bool) -> Listed:
    """Return what was listed as it is reported: as much as a report may hold."""
    backups: list[Stored] = []
    damaged, more, size_bytes = list(listed.damaged), listed.more, 0
    for seal, manifest in listed.manifests:
        try:
            stored = _stored(seal, manifest)
        except msgspec.ValidationError as error:
            damaged.append(f"{manifest.name[:_NAME_MAX]}: {error}"[:_SAID_MAX])
            continue
        size_bytes += len(msgspec.json.encode(stored))
        if size_bytes > _REPORT_BYTES_MAX:
            more += 1
        else:
            backups.append(stored)
    more += max(0, len(damaged) - _DAMAGED_MAX)
    told = tuple(damaged[:_DAMAGED_MAX])
    return Listed(backups=tuple(backups), damaged=told, more=more, part=part)


def _stored(seal: str, manifest: Manifest) -> Stored:
    about = {
        "backup": manifest.name,
        "manifest": seal,
        "cluster": manifest.cluster,
        "volume": manifest.volume,
        "volume_uid": manifest.volume_uid,
        "size_bytes": manifest.size_bytes,
        "layout": manifest.layout,
        "filesystem": manifest.filesystem,
        "consistency": manifest.consistency,
        "at": manifest.at,
        "chunks": manifest.chunks,
        "stored_chunks": manifest.stored,
        "parent": manifest.parent,
    }
    return msgspec.convert(about, Stored)
