"""How far a piece of work on chunks is, in a file that outlives its process: a record a chunk.

A record is one letter, which tells what became of the chunk, and its digest. Half a record, or the
journal of another work, counts for nothing.
"""

import fcntl
import os
from pathlib import Path
from typing import Self

from node_workers.backup_format import CHUNK_BYTES, DIGEST_BYTES

_RECORD_BYTES = 1 + DIGEST_BYTES


class TakenError(Exception):
    """Another process works on the same journal."""


class Journal:
    """What is done of the work that *about* describes; 33 bytes a chunk, on disk and in memory.

    ``beside`` is a file for a list of chunks that every turn needs.
    """

    def __init__(self, path: Path, about: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise TakenError(f"another process works on {path}") from error
        self._head = about.encode() + b"\n"
        head, _, records = os.pread(self._file, os.fstat(self._file).st_size, 0).partition(b"\n")
        whole = len(records) // _RECORD_BYTES * _RECORD_BYTES
        same = head + b"\n" == self._head
        self._records = bytearray(records[:whole] if same else b"")
        if not same or len(records) != whole:
            self._rewrite()
        self.beside = path.with_name(f"{path.name}-list")

    @property
    def done(self) -> int:
        """How many chunks are done."""
        return len(self._records) // _RECORD_BYTES

    def add(self, records: list[tuple[bytes, bytes]]) -> None:
        """Note what became of the next chunks: a letter and a digest each; durable on return."""
        more = b"".join(letter + name for letter, name in records)
        os.pwrite(self._file, more, len(self._head) + len(self._records))
        os.fsync(self._file)
        self._records += more

    def clear(self) -> None:
        """Begin anew."""
        self._records.clear()
        self._rewrite()

    def letters(self) -> bytes:
        """Return the letters of all chunks, in their order."""
        return bytes(self._records[::_RECORD_BYTES])

    def digests(self) -> bytes:
        """Return the digests of all chunks, in their order, one after another."""
        digests = bytearray(self.done * DIGEST_BYTES)
        for place in range(DIGEST_BYTES):
            digests[place::DIGEST_BYTES] = self._records[place + 1 :: _RECORD_BYTES]
        return bytes(digests)

    def __enter__(self) -> Self:
        """Have it for oneself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let others work on it."""
        os.close(self._file)

    def _rewrite(self) -> None:
        kept = self._head + self._records
        os.pwrite(self._file, kept, 0)
        os.ftruncate(self._file, len(kept))
        os.fsync(self._file)


def bytes_done(chunks: int, size_bytes: int) -> int:
    """Return how many of *size_bytes* so many chunks are."""
    return min(size_bytes, chunks * CHUNK_BYTES)
