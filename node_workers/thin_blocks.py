"""Finds out where two thin snapshots of one pool may differ, from the pool's metadata alone.

Run as a program: ``python -m node_workers.thin_blocks GROUP EARLIER LATER --unit BYTES --to FILE``
writes a bit for each unit, the lowest bit of a byte first; 1: it may differ, and beyond the end of
FILE none does. Exit status 0: FILE tells; 2: nobody can tell, and FILE is empty; 1 anything else.

A block that both map to the same place is what it was when they parted, since thin provisioning
never writes to a block that is shared. The metadata is read from a snapshot of it, of which a pool
has one at a time (Linux, Documentation/admin-guide/device-mapper/thin-provisioning.rst); thin_delta
(thin-provisioning-tools) prints stretches of blocks as ``same``, ``different``, ``left_only`` and
``right_only``, after a ``superblock`` with the size of a block in sectors.
"""

import argparse
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from node_workers.copier import die_with_parent
from node_workers.ports import THIN_POOL_NAME

DONE, FAILED, UNKNOWN = 0, 1, 2
PROGRAM = ("-m", "node_workers.thin_blocks")

_SECTOR_BYTES = 512
_TIMEOUT_S = 60
_BLOCK = re.compile(r'data_block_size="(\d+)"')
_STRETCH = re.compile(r'<(?:different|left_only|right_only) begin="(\d+)" length="(\d+)"')
_HELD_FIELD = 6  # "0 819200 thin-pool 1 13/1024 70/6400 - rw …": the seventh is the held root
_NOTHING_HELD = "-"


class UnknownError(Exception):
    """Nobody can tell; the text says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; return the exit status."""
    parser = argparse.ArgumentParser(prog="node_workers.thin_blocks", description=__doc__)
    parser.add_argument("group")
    parser.add_argument("earlier")
    parser.add_argument("later")
    parser.add_argument("--unit", type=int, required=True)
    parser.add_argument("--to", type=Path, required=True)
    given = parser.parse_args(argv)
    die_with_parent()
    if given.to.exists():
        return DONE if given.to.stat().st_size else UNKNOWN
    given.to.parent.mkdir(parents=True, exist_ok=True)
    bits, status = b"", DONE
    try:
        ids = [_thin_id(f"{given.group}/{name}") for name in (given.earlier, given.later)]
        with _metadata(given.group, given.to.parent) as metadata:
            bits = _delta(metadata, ids, given.unit)
    except (UnknownError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        status = UNKNOWN
    new = given.to.with_name(f"{given.to.name}.new")
    new.write_bytes(bits)
    new.replace(given.to)
    return status


def differing(lines: Iterable[str], unit_bytes: int) -> bytes:
    """Return the bits for what thin_delta printed. Raises ``UnknownError``."""
    block_bytes, bits = 0, bytearray()
    for line in lines:
        block = _BLOCK.search(line)
        if block is not None:
            block_bytes = int(block[1]) * _SECTOR_BYTES
        stretch = _STRETCH.search(line)
        if stretch is None:
            continue
        if not block_bytes:
            raise UnknownError("thin_delta did not tell the size of a block")
        begin, length = (int(number) * block_bytes for number in stretch.groups())
        for unit in range(begin // unit_bytes, (begin + length - 1) // unit_bytes + 1):
            if unit // 8 >= len(bits):
                bits.extend(bytes(unit // 8 + 1 - len(bits)))
            bits[unit // 8] |= 1 << unit % 8
    if not block_bytes:
        raise UnknownError("thin_delta printed nothing")
    return bytes(bits) or b"\0"  # an empty file would say that nobody knows


def _delta(metadata: str, ids: Sequence[str], unit_bytes: int) -> bytes:
    argv = ("thin_delta", "--metadata-snap", "--snap1", ids[0], "--snap2", ids[1], metadata)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 -- it was asked for
        bits = differing(process.stdout, unit_bytes)
    if process.returncode:
        raise UnknownError(f"thin_delta ended with {process.returncode}")
    return bits


@contextmanager
def _metadata(group: str, folder: Path) -> Iterator[str]:
    """Hold a snapshot of the metadata; one that an earlier run of ours left is let go first."""
    thin = _mapped(group, THIN_POOL_NAME)
    pool, metadata = f"{thin}-tpool", f"{thin}_tmeta"
    with (folder / f"thin-{group}").open("a+") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        note.seek(0)
        ours = bool(note.read())
        if _held(pool):
            if not ours:
                raise UnknownError("somebody else holds a snapshot of the pool's metadata")
            _message(pool, "release_metadata_snap")
        note.write("held")
        note.flush()
        os.fsync(note.fileno())
        _message(pool, "reserve_metadata_snap")
        try:
            yield f"/dev/mapper/{metadata}"
        finally:
            _message(pool, "release_metadata_snap")
            note.truncate(0)


def _mapped(group: str, volume: str) -> str:
    """Return the name that LVM gives to a device: hyphens of names are doubled."""
    return f"{group.replace('-', '--')}-{volume.replace('-', '--')}"


def _held(pool: str) -> bool:
    fields = _said("dmsetup", "status", pool).split()
    if len(fields) <= _HELD_FIELD or fields[2] != "thin-pool":
        raise UnknownError(f"{pool} is no thin pool: {' '.join(fields)}")
    return fields[_HELD_FIELD] != _NOTHING_HELD


def _message(pool: str, message: str) -> None:
    _said("dmsetup", "message", pool, "0", message)


def _thin_id(volume: str) -> str:
    found = _said("lvs", "--noheadings", "-o", "thin_id", volume).strip()
    if not found.isdecimal():
        raise UnknownError(f"{volume} is no thin volume")
    return found


def _said(*argv: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, close_fds=True
    )
    if done.returncode:
        raise UnknownError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
