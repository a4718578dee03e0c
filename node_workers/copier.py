"""Copies one block device to another: verified chunk by chunk, and on from where it was cut off.

Run as a program of its own, so that each stretch of a copy is on the audit like any other tool:
``python -m node_workers.copier SOURCE TARGET --bytes N --journal FILE [--rate N] [--for S]
[--sparse] [--far]``. It prints ``{"done_bytes": …, "of_bytes": …, "digest": …}``; the
digest, that of the digests of all chunks, is there when all is copied. With ``--far`` the source is
on another node, and only a name here: how to read it is secret, and comes by standard input
(``Access``).

Exit status: 0 all is copied, 3 its time was over before, 4 what was written reads back otherwise
three times over, 5 another copier works on the same journal, 6 the other node cannot be reached or
was cut off, 1 anything else.

A chunk counts once it was written, flushed, read back past the page cache and found equal; then
its digest is appended to the journal, which is flushed, too. The journal of another copy, or half
a line of one, counts for nothing: then the copy begins anew, or at the chunk before.
"""

import argparse
import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol, Self

CHUNK_BYTES = 16 << 20
DONE, FAILED, TIME_OVER, DIFFERS, TAKEN, CUT_OFF = 0, 1, 3, 4, 5, 6
PROGRAM = ("-m", "node_workers.copier")

_PIECE_BYTES = 1 << 20
_DIGEST_BYTES = 16
_TRIES = 3
_PR_SET_PDEATHSIG = 1
_ZEROS = bytes(_PIECE_BYTES)


class DiffersError(Exception):
    """A chunk reads back otherwise than it was written."""


class Journal:
    """The digests of the chunks that are copied, in a file that one copier alone may hold."""

    def __init__(self, path: Path, about: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        head, *lines = os.pread(self._file, os.fstat(self._file).st_size, 0).split(b"\n")
        whole = [line for line in lines[:-1] if len(line) == 2 * _DIGEST_BYTES]
        self.digests = whole if head == about.encode() else []
        kept = b"\n".join((about.encode(), *self.digests, b""))
        os.pwrite(self._file, kept, 0)
        os.ftruncate(self._file, len(kept))
        os.fsync(self._file)
        self._end = len(kept)

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the next copier have it."""
        os.close(self._file)

    def add(self, digest: bytes) -> None:
        """Note that the next chunk is copied."""
        os.pwrite(self._file, digest + b"\n", self._end)
        os.fsync(self._file)
        self._end += len(digest) + 1
        self.digests.append(digest)


class Pace:
    """Lets no more through than so many bytes a second; 0: all."""

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._began_s = time.monotonic()
        self._done_bytes = 0

    def wait(self, more_bytes: int) -> None:
        """Count *more_bytes*, and wait until they may be over."""
        if not self._bytes_per_s:
            return
        self._done_bytes += more_bytes
        due_s = self._began_s + self._done_bytes / self._bytes_per_s
        if (left_s := due_s - time.monotonic()) > 0:
            time.sleep(left_s)


class Source(Protocol):
    """What is copied, wherever it is."""

    def read(self, piece: memoryview, position: int) -> int:
        """Fill *piece* with what is at *position*; return how many bytes count for the pace."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...


class _Write(Protocol):
    def __call__(self, piece: memoryview, position: int, *, counts: int) -> None: ...


class Device:
    """A block device of this machine."""

    def __init__(self, path: str, flags: int) -> None:
        self.file = open_device(path, flags)

    def close(self) -> None:
        """Let it go."""
        os.close(self.file)

    def read(self, piece: memoryview, position: int) -> int:
        """Read, as a ``Source`` does. Raises ``OSError``."""
        if os.preadv(self.file, [piece], position) != len(piece):
            raise OSError(f"the device ends before {position + len(piece)}")
        return len(piece)


class Copy:
    """One source, one target, and a buffer that direct I/O can use."""

    def __init__(self, source: Source, target: str, *, sparse: bool, pace: Pace) -> None:
        self._source = source
        # Exclusively: the kernel refuses a block device that is mounted or held by another.
        self._target = Device(target, os.O_RDWR | os.O_EXCL)
        self._buffer = mmap.mmap(-1, _PIECE_BYTES)
        self._sparse = sparse
        self._pace = pace

    def __enter__(self) -> Self:
        """Return the copy."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the target."""
        self._target.close()

    def chunk(self, start: int, end: int) -> bytes:
        """Copy one chunk and return its digest. Raises ``DiffersError``."""
        target = self._target.file
        for _ in range(_TRIES):
            written = self._digest(self._source, start, end, self._write)
            os.fsync(target)
            os.posix_fadvise(target, start, end - start, os.POSIX_FADV_DONTNEED)
            if self._digest(self._target, start, end, None) == written:
                return written
        raise DiffersError(f"what was written at {start} to {end} reads back otherwise")

    def _write(self, piece: memoryview, position: int, *, counts: int) -> None:
        if counts:
            self._pace.wait(counts)
        if self._sparse and piece == _ZEROS[: len(piece)]:
            return  # a new thin volume reads as zeros where nothing was written
        written = os.pwrite(self._target.file, piece, position)
        if written != len(piece):
            raise OSError(f"{written} of {len(piece)} bytes were written at {position}")

    def _digest(
        self,
        source: Source,
        start: int,
        end: int,
        use: "_Write | None",
    ) -> bytes:
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for position in range(start, end, _PIECE_BYTES):
            size = min(_PIECE_BYTES, end - position)
            with memoryview(self._buffer)[:size] as piece:
                counts = source.read(piece, position)
                digest.update(piece)
                if use is not None:
                    use(piece, position, counts=counts)
        return digest.hexdigest().encode()


def main(argv: Sequence[str] | None = None) -> int:
    """Copy as the arguments say; return the exit status."""
    given = _arguments(argv)
    about = json.dumps([given.source, given.target, given.bytes, CHUNK_BYTES])
    given.journal.parent.mkdir(parents=True, exist_ok=True)
    try:
        journal = Journal(given.journal, about)
    except BlockingIOError:
        sys.stderr.write(f"another copier works on {given.journal}\n")
        return TAKEN
    try:
        with journal:
            status = _copy(given, journal)
    except DiffersError as error:
        sys.stderr.write(f"{error}\n")
        return DIFFERS
    except ConnectionError as error:  # no device raises it, and a borrowed one nothing else
        sys.stderr.write(f"{given.source}: {error}\n")
        return CUT_OFF
    except OSError as error:
        sys.stderr.write(f"{given.source} to {given.target}: {error}\n")
        return FAILED
    done_bytes = min(given.bytes, len(journal.digests) * CHUNK_BYTES)
    all_of_it = hashlib.blake2b(b"".join(journal.digests), digest_size=_DIGEST_BYTES)
    digest = all_of_it.hexdigest() if status == DONE else ""
    told = {"done_bytes": done_bytes, "of_bytes": given.bytes, "digest": digest}
    sys.stdout.write(json.dumps(told) + "\n")
    return status


def _copy(given: argparse.Namespace, journal: Journal) -> int:
    stops_s = time.monotonic() + given.seconds
    starts = range(0, given.bytes, CHUNK_BYTES)[len(journal.digests) :]
    if not starts:
        return DONE
    pace = Pace(given.rate)
    with (
        closing(_source(given)) as source,
        Copy(source, given.target, sparse=given.sparse, pace=pace) as copy,
    ):
        for start in starts:
            journal.add(copy.chunk(start, min(given.bytes, start + CHUNK_BYTES)))
            if time.monotonic() >= stops_s and start != starts[-1]:
                return TIME_OVER
    return DONE


def _source(given: argparse.Namespace) -> Source:
    if not given.far:
        return Device(given.source, os.O_RDONLY)
    # Late: most copies have no need of ciphers, and each turn of one is a process.
    import msgspec  # noqa: PLC0415

    from node_workers.borrowing import Access, Borrowed  # noqa: PLC0415

    access = msgspec.json.decode(sys.stdin.buffer.read(), type=Access)
    # Nothing is asked for before its time where there is a limit: that would be over it.
    ahead = {"ahead": 1} if given.rate else {}
    return Borrowed(access, given.bytes, **ahead)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="node_workers.copier", description=__doc__)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--rate", type=int, default=0, help="bytes a second; 0: no limit")
    parser.add_argument("--for", type=float, default=float("inf"), dest="seconds")
    parser.add_argument("--sparse", action="store_true", help="write no zeros")
    parser.add_argument("--far", action="store_true", help="the source is on another node")
    return parser.parse_args(argv)


def open_device(path: str, flags: int) -> int:
    """Open a device past the page cache; a file on what knows no direct I/O is opened plainly."""
    try:
        return os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.open(path, flags | os.O_CLOEXEC)


def die_with_parent() -> None:
    """End when the worker does: nobody would know of what is copied then."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    sys.exit(main())
