"""Reads a copy of a stream's files, without a server that would mend them on its way.

nats-server 2.x keeps a stream in ``<store>/jetstream/<account>/streams/<name>/msgs/<n>.blk``, as
the comment above ``writeMsgRecord`` in its ``server/filestore.go`` tells. One record, all numbers
little-endian: its whole length (4 bytes; the highest bit: it has headers), sequence (8; the two
highest bits: erased, a tombstone), nanoseconds since 1970 (8), length of the subject (2), the
subject, with headers their length (4) and themselves, the message, and 8 bytes of a checksum.
The checksum is not looked at: what may be believed is told by heads and chains.
"""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hwbus.ports import Stored

_FIXED = struct.Struct("<IQQH")
_LENGTH = struct.Struct("<I")
_CHECKSUM_BYTES = 8
_HEADERS = 1 << 31
_NOT_A_MESSAGE = 3 << 62
_RECORD_BYTES_MAX = 8 << 20
_COMPRESSED = b"cmp"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NoStoreError(Exception):
    """There is no stream of that name below that folder, or it is kept in a way not read here."""


class DamagedError(Exception):
    """What stands behind the last message cannot be read, up to the end of its file."""


def folder_of(store: Path, stream: str) -> Path:
    """Return where *stream* has its messages, somewhere below *store*. Raises ``NoStoreError``."""
    found = sorted(store.glob(f"**/streams/{stream}/msgs"))
    found += [store] if store.name == "msgs" and store.parent.name == stream else []
    if len(found) != 1:
        how = "no stream" if not found else f"{len(found)} streams"
        raise NoStoreError(f"{how} {stream} below {store}")
    if any(found[0].glob("*.key")):
        raise NoStoreError(f"{found[0]} is encrypted")
    return found[0]


def blocks_of(store: Path, stream: str) -> list[Path]:
    """Return the files of *stream* in their order. Raises ``NoStoreError``."""
    files = (file for file in folder_of(store, stream).glob("*.blk") if file.stem.isdecimal())
    return sorted(files, key=lambda file: int(file.stem))


def read_block(path: Path) -> Iterator[Stored]:
    """Give the messages of one file in their order.

    Raises:
        DamagedError: a record cannot be one; all before it were given.
        NoStoreError: the file is compressed.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    if data.startswith(_COMPRESSED):
        raise NoStoreError(f"{path} is compressed")
    at = 0
    while at < len(data):
        if len(data) - at < _FIXED.size:
            raise DamagedError(f"{path.name}: {len(data) - at} bytes at the end are no record")
        length, seq, ns, subject_bytes = _FIXED.unpack_from(data, at)
        ends = at + (length & ~_HEADERS)
        begins = at + _FIXED.size + subject_bytes
        headers = 0
        if length & _HEADERS and begins + _LENGTH.size <= len(data):
            headers = _LENGTH.size + _LENGTH.unpack_from(data, begins)[0]
        body = begins + headers
        if body + _CHECKSUM_BYTES > ends or ends > len(data) or ends - at > _RECORD_BYTES_MAX:
            raise DamagedError(f"{path.name}: what stands at byte {at} is no record")
        if not seq & _NOT_A_MESSAGE:
            subject = data[at + _FIXED.size : begins].decode(errors="replace")
            stored_at = _EPOCH + timedelta(0, ns // 10**9 % 10**11, ns % 10**9 // 1000)
            yield Stored(seq, subject, data[body : ends - _CHECKSUM_BYTES], stored_at)
        at = ends
