"""Puts a device into a bucket, chunk by chunk, and on from where it was cut off; the manifest last.

While it works there is an object of its own under ``writers/``, so that no sweeper takes what it
relies on. A journal that is older than that object may be trusted for counts for nothing.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import msgspec

from hwbus.bucket import AlreadyThereError, Bucket, MissingError
from node_workers import backup_format
from node_workers.backup_device import Device
from node_workers.backup_format import CHUNK_BYTES, DIGEST_BYTES, ZERO, Manifest
from node_workers.backup_journal import Journal, bytes_done

WRITER_LEASE = timedelta(hours=24)
TRUSTED_FOR = timedelta(hours=12)
SWEEPER_LEASE = timedelta(minutes=10)
AT_ONCE = 4

ZEROS, HAD, PUT, UNREAD = b"z", b"h", b"p", b"u"
_POLL_S = 0.5


class NameTakenError(Exception):
    """Another backup has the name already."""


class UploadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be put where: ``device`` holds ``size_bytes`` of a volume, as the rest tells.

    ``changed`` is a file with a bit for each chunk, the lowest first, that may differ from what
    ``parent`` has; no file, or an empty one: nobody knows, so all is read.
    """

    writer: str
    device: str
    name: str
    cluster: str
    volume: str
    volume_uid: str
    size_bytes: int
    layout: str
    filesystem: str
    snapshot: str
    snapshot_uid: str
    consistency: str
    at: str
    parent: str = ""
    changed: str = ""
    rate_bytes_per_s: int = 0


class Uploaded(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is; ``manifest`` is the digest of the manifest once all is there."""

    done_bytes: int
    of_bytes: int
    manifest: str = ""
    chunks: int = 0
    stored: int = 0
    read_bytes: int = 0
    uploaded_bytes: int = 0
    parent: str = ""


class Upload:
    """One backup on its way into *bucket*."""

    def __init__(
        self, bucket: Bucket, spec: UploadSpec, journal: Journal, open_: Callable[[], Device]
    ) -> None:
        self._bucket = bucket
        self._spec = spec
        self._journal = journal
        self._open = open_
        self._chunks = backup_format.chunks_of(spec.size_bytes)
        self._parent = ""
        self._known = b""
        self._changed = Path(spec.changed).read_bytes() if spec.changed else b""
        self._device: Device | None = None

    def turn(self, seconds: float) -> Uploaded:
        """Do some more, for about so many seconds. Raises ``NameTakenError``."""
        ours = self._ours()
        if ours is not None:
            self._bucket.delete([self._flag])
            return ours
        stops_s = time.monotonic() + seconds
        self._announce()
        if self._wait_for_sweeper(stops_s):
            self._find_parent()
            self._go_on(stops_s)
            if self._journal.done == self._chunks:
                return self._finish()
        done_bytes = bytes_done(self._journal.done, self._spec.size_bytes)
        return Uploaded(done_bytes=done_bytes, of_bytes=self._spec.size_bytes)

    def _go_on(self, stops_s: float) -> None:
        self._device = self._open()
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                # At least a few: else a turn that is short beside its preparations did nothing.
                while self._journal.done < self._chunks:
                    first = self._journal.done
                    some = range(first, min(first + AT_ONCE, self._chunks))
                    self._journal.add(list(pool.map(self._settle, some, self._read(some))))
                    if time.monotonic() >= stops_s:
                        return
        finally:
            self._device.close()

    @property
    def _flag(self) -> str:
        return f"{backup_format.WRITERS}/{self._spec.writer}"

    def _announce(self) -> None:
        """Say that we write; what we knew counts only if that was never unsaid meanwhile."""
        before = self._bucket.look(self._flag)
        self._bucket.put(self._flag, self._spec.name.encode())
        now = self._bucket.look(self._flag)
        lapsed = before is None or now is None or now.at - before.at > TRUSTED_FOR
        if lapsed and self._journal.done:
            self._journal.clear()

    def _wait_for_sweeper(self, until_s: float) -> bool:
        """Wait until nobody sweeps. Whoever sweeps looks for writers after saying so, as we do."""
        while True:
            sweeper, ours = (
                self._bucket.look(path) for path in (backup_format.SWEEPER, self._flag)
            )
            if sweeper is None or (ours is not None and ours.at - sweeper.at > SWEEPER_LEASE):
                return True
            if time.monotonic() > until_s:
                return False
            time.sleep(_POLL_S)
            self._bucket.put(self._flag, self._spec.name.encode())

    def _find_parent(self) -> None:
        """Read what the parent has, if it is still there and whole; else there is no parent."""
        if not self._spec.parent:
            return
        try:
            parent = backup_format.read(self._bucket.get(self._path(self._spec.parent)))
            known = backup_format.load_list(parent, self._bucket.get, self._journal.beside)
        except (MissingError, backup_format.DamagedError, backup_format.ForeignError):
            return
        if parent.volume_uid == self._spec.volume_uid:
            # A last chunk that was shorter then says nothing about one that is whole now.
            whole = parent.size_bytes // CHUNK_BYTES * DIGEST_BYTES
            same = parent.size_bytes == self._spec.size_bytes
            self._parent, self._known = parent.name, known if same else known[:whole]

    def _path(self, name: str) -> str:
        return backup_format.manifest_path(name)

    def _read(self, chunks: Sequence[int]) -> list[bytes | None]:
        """Return what is on the device; None for a chunk that is what the parent has."""
        return [None if self._is_known(chunk) else self._load(chunk) for chunk in chunks]

    def _is_known(self, chunk: int) -> bool:
        at = chunk // 8
        if not self._changed or (self._changed[at : at + 1] or b"\0")[0] >> chunk % 8 & 1:
            return False
        if (chunk + 1) * DIGEST_BYTES > len(self._known):
            return False
        name = self._name_of(chunk)
        return name == ZERO or self._has(name, self._size(chunk))

    def _name_of(self, chunk: int) -> bytes:
        return self._known[chunk * DIGEST_BYTES : (chunk + 1) * DIGEST_BYTES]

    def _size(self, chunk: int) -> int:
        return min(CHUNK_BYTES, self._spec.size_bytes - chunk * CHUNK_BYTES)

    def _load(self, chunk: int) -> bytes:
        assert self._device is not None  # noqa: S101 -- ``turn`` has opened it
        return self._device.read(chunk * CHUNK_BYTES, self._size(chunk))

    def _settle(self, chunk: int, data: bytes | None) -> tuple[bytes, bytes]:
        """Have the chunk in the bucket; return what became of it, and its name."""
        if data is None:
            return UNREAD, self._name_of(chunk)
        if backup_format.is_zeros(data):
            return ZEROS, ZERO
        name = backup_format.digest(data)
        if self._has(name, len(data)):
            return HAD, name
        self._bucket.put(backup_format.chunk_path(name), data)
        return PUT, name

    def _has(self, name: bytes, size: int) -> bool:
        found = self._bucket.look(backup_format.chunk_path(name))
        return found is not None and found.size_bytes == size

    def _finish(self) -> Uploaded:
        """Put the list, then the manifest, and say that we write no more."""
        digests = self._journal.digests()
        name = backup_format.digest(digests).hex()
        path = backup_format.list_path(name)
        there = self._bucket.look(path)
        if there is None or there.size_bytes != len(digests):
            self._bucket.put(path, digests)
        stored = backup_format.write(self._manifest(name, digests))
        try:
            self._bucket.put(self._path(self._spec.name), stored, new=True)
        except AlreadyThereError:
            if self._ours() is None:
                raise
        ours = self._ours()
        if ours is None:
            raise NameTakenError(f"there is a backup {self._spec.name} already")
        self._bucket.delete([self._flag])
        return ours

    def _manifest(self, list_name: str, digests: bytes) -> Manifest:
        spec, letters = self._spec, self._journal.letters()
        sizes = {letter[0]: 0 for letter in (ZEROS, HAD, PUT, UNREAD)}
        for chunk, letter in enumerate(letters):
            sizes[letter] += self._size(chunk)
        zeros = sum(
            digests[at : at + DIGEST_BYTES] == ZERO for at in range(0, len(digests), DIGEST_BYTES)
        )
        return Manifest(
            name=spec.name,
            cluster=spec.cluster,
            volume=spec.volume,
            volume_uid=spec.volume_uid,
            size_bytes=spec.size_bytes,
            layout=spec.layout,
            filesystem=spec.filesystem,
            snapshot=spec.snapshot,
            snapshot_uid=spec.snapshot_uid,
            consistency=spec.consistency,
            at=spec.at,
            chunks=self._chunks,
            stored=self._chunks - zeros,
            list=list_name,
            parent=self._parent,
            read_bytes=spec.size_bytes - sizes[UNREAD[0]],
            uploaded_bytes=sizes[PUT[0]],
        )

    def _ours(self) -> Uploaded | None:
        """Return what was put under our name, if it was by us. Raises ``NameTakenError``."""
        try:
            stored = self._bucket.get(self._path(self._spec.name))
        except MissingError:
            return None
        try:
            manifest = backup_format.read(stored)
        except (backup_format.DamagedError, backup_format.ForeignError) as error:
            raise NameTakenError(f"there is a {self._spec.name}, but {error}") from error
        if manifest.snapshot_uid != self._spec.snapshot_uid:
            raise NameTakenError(f"there is a backup {self._spec.name} already")
        return Uploaded(
            done_bytes=manifest.size_bytes,
            of_bytes=manifest.size_bytes,
            manifest=backup_format.seal(stored),
            chunks=manifest.chunks,
            stored=manifest.stored,
            read_bytes=manifest.read_bytes,
            uploaded_bytes=manifest.uploaded_bytes,
            parent=manifest.parent,
        )
