"""How a backup lies in a bucket: chunks, their list, and the manifest. See docs/backup-format.md.

A backup is there when its manifest is, which is put last. All that it names is content-addressed,
so whoever reads it can tell by itself whether it is whole.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

CHUNK_BYTES = 4 << 20
DIGEST_BYTES = 32
ZERO = bytes(DIGEST_BYTES)
"""Stands in a list for a chunk of zeros, which is stored nowhere."""

ROOT = "hwbus-backup-v1"
MANIFESTS = f"{ROOT}/manifests"
LISTS = f"{ROOT}/lists"
CHUNKS = f"{ROOT}/chunks"
WRITERS = f"{ROOT}/writers"
PROBES = f"{ROOT}/probes"
SWEEPER = f"{ROOT}/sweeper"

_NO_BYTES = bytes(CHUNK_BYTES)


class DamagedError(Exception):
    """What was read is not what was written, or no part of a backup at all."""


class ForeignError(Exception):
    """A backup of a format that this version cannot read."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is of, and where the list of its chunks is.

    ``at`` is when the snapshot was taken (RFC 3339), ``list`` the digest of the list, ``stored``
    how many of the ``chunks`` are not zeros, ``parent`` the backup that was compared with.
    ``read_bytes`` and ``uploaded_bytes`` tell what it cost.
    """

    format: Literal["hwbus-backup"] = "hwbus-backup"
    version: int = 1
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
    chunk_bytes: int = CHUNK_BYTES
    hash: Literal["blake2b-256"] = "blake2b-256"
    chunks: int
    stored: int
    list: str
    parent: str = ""
    read_bytes: int = 0
    uploaded_bytes: int = 0


class _Head(msgspec.Struct):
    format: str
    version: int


def digest(data: bytes) -> bytes:
    """Return the name of a chunk or list: BLAKE2b with 32 bytes, of the plain content."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def is_zeros(data: bytes) -> bool:
    """Return whether a chunk needs not to be stored."""
    return data == (_NO_BYTES if len(data) == CHUNK_BYTES else bytes(len(data)))


def chunk_path(name: bytes) -> str:
    """Return where a chunk lies: spread over 256 folders, which are swept one by one."""
    return f"{CHUNKS}/{name[:1].hex()}/{name.hex()}"


def list_path(name: str) -> str:
    """Return where a list lies, by the digest of it in hex."""
    return f"{LISTS}/{name}"


def manifest_path(backup: str) -> str:
    """Return where the manifest of a backup lies."""
    return f"{MANIFESTS}/{backup}"


def chunks_of(size_bytes: int) -> int:
    """Return in how many chunks a volume of that size lies; the last one may be shorter."""
    return -(-size_bytes // CHUNK_BYTES)


def write(manifest: Manifest) -> bytes:
    """Return a manifest as it is stored: a line of JSON, and a line with its digest in hex."""
    line = msgspec.json.encode(manifest)
    return line + b"\n" + digest(line).hex().encode() + b"\n"


def seal(stored: bytes) -> str:
    """Return the digest that a stored manifest ends with, unchecked."""
    return stored[-1 - 2 * DIGEST_BYTES : -1].decode("ascii", "replace")


def read(stored: bytes) -> Manifest:
    """Return the manifest that was stored. Raises ``DamagedError`` and ``ForeignError``."""
    line, _, rest = stored.partition(b"\n")
    if rest != digest(line).hex().encode() + b"\n":
        raise DamagedError("the manifest does not match its own checksum")
    try:
        head = msgspec.json.decode(line, type=_Head)
        if (head.format, head.version) != ("hwbus-backup", 1):
            raise ForeignError(f"it is a {head.format[:40]} of version {head.version}")
        manifest = msgspec.json.decode(line, type=Manifest)
    except msgspec.MsgspecError as error:
        raise DamagedError(f"the manifest makes no sense: {error}") from error
    if manifest.chunk_bytes != CHUNK_BYTES:
        raise ForeignError(f"its chunks have {manifest.chunk_bytes} bytes")
    if manifest.size_bytes <= 0 or manifest.chunks != chunks_of(manifest.size_bytes):
        raise DamagedError("the manifest contradicts itself about its size")
    return manifest


def load_list(manifest: Manifest, get: Callable[[str], bytes], kept: Path) -> bytes:
    """Return the list that *manifest* names, checked; from *kept* if it is there.

    Raises ``DamagedError`` and what *get* does.
    """
    try:
        stored = kept.read_bytes()
        check_list(manifest, stored)
    except (FileNotFoundError, DamagedError):
        stored = get(list_path(manifest.list))
        check_list(manifest, stored)
        kept.write_bytes(stored)
    return stored


def check_list(manifest: Manifest, stored: bytes) -> None:
    """Raise ``DamagedError`` unless *stored* is the list that *manifest* names."""
    if digest(stored).hex() != manifest.list:
        raise DamagedError(f"the list of chunks {manifest.list} does not match its name")
    if len(stored) != manifest.chunks * DIGEST_BYTES:
        raise DamagedError(f"the list of chunks {manifest.list} is of another length")
