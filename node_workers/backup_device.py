"""A block device, chunk by chunk: read past the page cache, and written so that it reads back."""

import mmap
import os

from node_workers.backup_format import CHUNK_BYTES
from node_workers.copier import DiffersError, Pace, open_device

_ZEROS = bytes(1 << 20)
_TRIES = 3


class Device:
    """An open device and a buffer that direct I/O can use. What it gives out are copies."""

    def __init__(self, path: str, *, write: bool = False, pace: Pace | None = None) -> None:
        # To write, exclusively: the kernel refuses a device that is mounted or held by another.
        flags = os.O_RDWR | os.O_EXCL if write else os.O_RDONLY
        self._file = open_device(path, flags)
        self._path = path
        self._buffer = mmap.mmap(-1, CHUNK_BYTES)
        self._pace = pace or Pace(0)

    def read(self, start: int, size: int) -> bytes:
        """Return *size* bytes from *start* on. Raises ``OSError`` if there are fewer."""
        self._pace.wait(size)
        return self._read(start, size)

    def write(self, start: int, data: bytes, *, sparse: bool) -> None:
        """Have *data* there, on the disk; with *sparse* where it is not zeros.

        Raises ``DiffersError`` if it reads back otherwise three times over.
        """
        self._pace.wait(len(data))
        for _ in range(_TRIES):
            self._write(start, data, sparse=sparse)
            os.fsync(self._file)
            os.posix_fadvise(self._file, start, len(data), os.POSIX_FADV_DONTNEED)
            if self._read(start, len(data)) == data:
                return
        end = start + len(data)
        raise DiffersError(f"what was written at {start} to {end} reads back otherwise")

    def close(self) -> None:
        """Let it go."""
        os.close(self._file)
        self._buffer.close()

    def _read(self, start: int, size: int) -> bytes:
        with memoryview(self._buffer)[:size] as piece:
            if os.preadv(self._file, [piece], start) != size:
                raise OSError(f"{self._path} ends before {start + size}")
            return bytes(piece)

    def _write(self, start: int, data: bytes, *, sparse: bool) -> None:
        with memoryview(self._buffer)[: len(data)] as whole:
            whole[:] = data
            for first in range(0, len(data), len(_ZEROS)):
                piece = whole[first : first + len(_ZEROS)]
                if sparse and piece == _ZEROS[: len(piece)]:
                    continue  # a new thin volume reads as zeros where nothing was written
                written = os.pwrite(self._file, piece, start + first)
                if written != len(piece):
                    raise OSError(f"{written} of {len(piece)} bytes were written at {start}")
