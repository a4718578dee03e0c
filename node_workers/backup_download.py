"""Reads a backup out of a bucket, each chunk checked against its name: to a device, or to verify.

Nothing that does not match its name is ever written.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec

from hwbus.bucket import Bucket, MissingError
from node_workers import backup_format
from node_workers.backup_device import Device
from node_workers.backup_format import CHUNK_BYTES, DIGEST_BYTES, ZERO, DamagedError, Manifest
from node_workers.backup_journal import Journal, bytes_done
from node_workers.copier import Pace

AT_ONCE = 4
NAMED_MAX = 100
WHOLE, DAMAGED, MISSING = b"w", b"d", b"m"
_WHYS = {DAMAGED[0]: "damaged", MISSING[0]: "missing"}


class ChangedError(Exception):
    """The backup of that name is not the one that was asked for."""


class BadChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that cannot be had: its number in the volume, its name, and why."""

    index: int
    chunk: str
    why: str


class BadChunkError(DamagedError):
    """A chunk cannot be had, so the backup cannot be restored."""


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is; ``whole``: all is there. ``bad`` names the first of ``bad_chunks``."""

    done_bytes: int
    of_bytes: int
    whole: bool = False
    chunks: int = 0
    bad_chunks: int = 0
    bad: tuple[BadChunk, ...] = ()


class Backup:
    """A backup in *bucket*, its manifest read and checked; ``open`` has its list."""

    def __init__(self, bucket: Bucket, name: str, seal: str = "") -> None:
        """Raises ``MissingError``, ``DamagedError``, ``ForeignError`` and ``ChangedError``.

        With *seal*: only the backup whose manifest has that digest.
        """
        self._list = b""
        self._bucket = bucket
        try:
            stored = bucket.get(backup_format.manifest_path(name))
        except MissingError as error:
            raise MissingError(f"there is no backup {name}") from error
        self.manifest: Manifest = backup_format.read(stored)
        if seal not in {"", backup_format.seal(stored)}:
            raise ChangedError(f"{name} is another backup than the one that was asked for")

    def open(self, kept: Path) -> None:
        """Have the list of chunks, from *kept* if it is there. Raises ``DamagedError``."""
        try:
            self._list = backup_format.load_list(self.manifest, self._bucket.get, kept)
        except MissingError as error:
            lost = f"the list of chunks {self.manifest.list} is missing"
            raise DamagedError(lost) from error

    def name_of(self, chunk: int) -> bytes:
        """Return the digest of a chunk."""
        return self._list[chunk * DIGEST_BYTES : (chunk + 1) * DIGEST_BYTES]

    def size_of(self, chunk: int) -> int:
        """Return how large a chunk is."""
        return min(CHUNK_BYTES, self.manifest.size_bytes - chunk * CHUNK_BYTES)

    def load(self, chunk: int) -> tuple[bytes, bytes]:
        """Return how a chunk is, and what is in it if it is whole."""
        name = self.name_of(chunk)
        if name == ZERO:
            return WHOLE, bytes(self.size_of(chunk))
        try:
            data = self._bucket.get(backup_format.chunk_path(name))
        except MissingError:
            return MISSING, b""
        whole = len(data) == self.size_of(chunk) and backup_format.digest(data) == name
        return (WHOLE, data) if whole else (DAMAGED, b"")


def restore(
    backup: Backup, journal: Journal, open_: Callable[[], Device], *, sparse: bool, seconds: float
) -> Downloaded:
    """Write more of *backup* to a device, for about so many seconds.

    Raises ``BadChunkError``, and ``DiffersError`` for a device that does not keep what is written.
    """
    backup.open(journal.beside)
    with closing(open_()) as device:
        for chunks, loaded in _turn(backup, journal, seconds):
            for chunk, (how, data) in zip(chunks, loaded, strict=True):
                if how != WHOLE:
                    bad = f"chunk {chunk} of {backup.manifest.name} is {_WHYS[how[0]]}"
                    raise BadChunkError(f"{bad}: {backup.name_of(chunk).hex()}")
                if not (sparse and backup.name_of(chunk) == ZERO):
                    device.write(chunk * CHUNK_BYTES, data, sparse=sparse)
            journal.add([(WHOLE, backup.name_of(chunk)) for chunk in chunks])
    return _told(backup, journal)


def verify(backup: Backup, journal: Journal, pace: Pace, *, seconds: float) -> Downloaded:
    """Read more of *backup*, for about so many seconds, and note which chunks are not whole."""
    backup.open(journal.beside)
    for chunks, loaded in _turn(backup, journal, seconds):
        pace.wait(sum(len(data) for _, data in loaded))
        hows = [how for how, _ in loaded]
        journal.add([(how, backup.name_of(chunk)) for chunk, how in zip(chunks, hows, strict=True)])
    return _told(backup, journal)


def _turn(
    backup: Backup, journal: Journal, seconds: float
) -> Iterator[tuple[Sequence[int], list[tuple[bytes, bytes]]]]:
    stops_s = time.monotonic() + seconds
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while journal.done < backup.manifest.chunks:
            first = journal.done
            chunks = range(first, min(first + AT_ONCE, backup.manifest.chunks))
            yield chunks, list(pool.map(backup.load, chunks))
            if time.monotonic() >= stops_s:
                return


def _told(backup: Backup, journal: Journal) -> Downloaded:
    letters = journal.letters()
    bad = [chunk for chunk, letter in enumerate(letters) if letter in _WHYS]
    named = (
        BadChunk(index=chunk, chunk=backup.name_of(chunk).hex(), why=_WHYS[letters[chunk]])
        for chunk in bad[:NAMED_MAX]
    )
    return Downloaded(
        done_bytes=bytes_done(journal.done, backup.manifest.size_bytes),
        of_bytes=backup.manifest.size_bytes,
        whole=journal.done == backup.manifest.chunks,
        chunks=backup.manifest.chunks,
        bad_chunks=len(bad),
        bad=tuple(named),
    )
