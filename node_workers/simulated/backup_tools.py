"""The program that speaks with object stores, over a ``State``: its bucket is one of this machine.

An upload and a restoration take three turns. What two thin snapshots share nobody can tell.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import msgspec

from node_workers import backing_up, backup_format, thin_blocks
from node_workers.backup_download import Downloaded
from node_workers.backup_format import Manifest
from node_workers.backup_sweep import Swept
from node_workers.backup_upload import Uploaded
from node_workers.simulated.arguments import ToolRefusal, UnknownToolUseError, read_arguments
from node_workers.simulated.devices import Device, Devices
from node_workers.simulated.model import Content, KeptBackup, State

_TURNS = 3
_FAILED = 1


class BackupTools:
    """The verbs of the program, and the one that compares thin snapshots."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._devices = Devices(state)
        self._verbs: Mapping[str, Callable[[bytes], tuple[msgspec.Struct | None, bool]]] = {
            "probe": lambda _: (None, True),
            "withdraw": lambda _: (None, True),
            "list": self._list,
            "upload": self._upload,
            "restore": self._restore,
            "verify": self._verify,
            "sweep": self._sweep,
        }

    def run(self, argv: Sequence[str]) -> str:
        """Run ``python -m`` with *argv*, if it is one of these programs."""
        if tuple(argv[:2]) == thin_blocks.PROGRAM:
            raise ToolRefusal(thin_blocks.UNKNOWN, "no thin_delta here\n")
        if tuple(argv[:2]) != backing_up.PROGRAM:
            raise UnknownToolUseError(f"python {' '.join(argv)}")
        given = read_arguments(argv[2:], valued=frozenset({"--for"}), flags=frozenset())
        verb, about = given.words
        found, done = self._verbs[verb](about.encode())
        printed = "{}" if found is None else msgspec.json.encode(found).decode()
        if not done:
            raise ToolRefusal(backing_up.TIME_OVER, "", printed)
        return printed

    def _list(self, about: bytes) -> tuple[msgspec.Struct, bool]:
        spec = msgspec.json.decode(about, type=backing_up.ListSpec)
        kept = [
            one
            for one in self._state.backups.values()
            if spec.name in {"", one.manifest.name} and spec.volume in {"", one.manifest.volume}
        ]
        manifests = tuple((_seal(one.manifest), one.manifest) for one in kept)
        return backing_up.Listed(manifests=manifests), True

    def _upload(self, about: bytes) -> tuple[msgspec.Struct, bool]:
        spec = msgspec.json.decode(about, type=backing_up.PutSpec)
        upload, kept = spec.upload, self._state.backups.get(spec.upload.name)
        if kept is not None and kept.manifest.snapshot_uid != upload.snapshot_uid:
            raise _never("backup-exists", upload.name)
        source, size_bytes = self._open(upload.device), upload.size_bytes
        done_bytes = size_bytes if kept is not None else self._turn(spec.journal, size_bytes)
        if done_bytes < size_bytes:
            return Uploaded(done_bytes=done_bytes, of_bytes=size_bytes), False
        if kept is None:
            chunks = backup_format.chunks_of(size_bytes)
            told = msgspec.structs.asdict(upload)
            fields = {name: told[name] for name in told.keys() & set(Manifest.__struct_fields__)}
            manifest = Manifest(**{**fields, "chunks": chunks, "stored": chunks, "list": "0" * 64})
            content = copy.deepcopy(self._state.contents.get(source.at, Content()))
            kept = self._state.backups[upload.name] = KeptBackup(manifest=manifest, content=content)
        uploaded = Uploaded(
            done_bytes=size_bytes,
            of_bytes=size_bytes,
            manifest=_seal(kept.manifest),
            chunks=kept.manifest.chunks,
            stored=kept.manifest.stored,
            read_bytes=size_bytes,
            uploaded_bytes=size_bytes,
        )
        return uploaded, True

    def _restore(self, about: bytes) -> tuple[msgspec.Struct, bool]:
        spec = msgspec.json.decode(about, type=backing_up.RestoreSpec)
        kept, target = self._kept(spec.name), self._open(spec.device)
        if _seal(kept.manifest) != spec.manifest:
            raise _never("backup-changed", spec.name)
        of_bytes = kept.manifest.size_bytes
        if self._state.mounts_of(target.use) or target.held:
            raise ToolRefusal(_FAILED, f"{spec.device}: Device or resource busy\n")
        done_bytes = self._turn(spec.journal, of_bytes)
        if done_bytes == of_bytes:
            self._devices.put(target, copy.deepcopy(kept.content))
        whole = done_bytes == of_bytes
        return Downloaded(done_bytes=done_bytes, of_bytes=of_bytes, whole=whole), whole

    def _verify(self, about: bytes) -> tuple[msgspec.Struct, bool]:
        manifest = self._kept(msgspec.json.decode(about, type=backing_up.VerifySpec).name).manifest
        size, chunks = manifest.size_bytes, manifest.chunks
        return Downloaded(done_bytes=size, of_bytes=size, whole=True, chunks=chunks), True

    def _sweep(self, about: bytes) -> tuple[msgspec.Struct, bool]:
        spec = msgspec.json.decode(about, type=backing_up.SweepSpec)
        noted = f"{spec.journal}-removed"
        if spec.name and noted not in self._state.copied:
            self._kept(spec.name)
            self._state.copied[noted] = 1
        gone = self._state.backups.pop(spec.name, None)
        chunks = 0 if gone is None else gone.manifest.stored
        freed_bytes = chunks * backup_format.CHUNK_BYTES
        return Swept(done=True, chunks=chunks, freed_bytes=freed_bytes), True

    def _turn(self, journal: str, of_bytes: int) -> int:
        done_bytes = self._state.copied.get(journal, 0) + -(-of_bytes // _TURNS)
        done_bytes = self._state.copied[journal] = min(of_bytes, done_bytes)
        return done_bytes

    def _kept(self, name: str) -> KeptBackup:
        kept = self._state.backups.get(name)
        if kept is None:
            raise _never("backup-missing", name)
        return kept

    def _open(self, path: str) -> Device:
        device = self._devices.find(path)
        if device is None or device.broken:
            raise ToolRefusal(_FAILED, f"{path}: No such file or directory\n")
        return device


def _seal(manifest: Manifest) -> str:
    return backup_format.seal(backup_format.write(manifest))


def _never(code: str, name: str) -> ToolRefusal:
    said = backing_up.Said(code=code, because=f"{code}: {name}")
    return ToolRefusal(backing_up.NEVER, f"{said.because}\n", msgspec.json.encode(said).decode())
