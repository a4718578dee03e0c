"""The key of this node, by which its peers know it: made once, kept where only root can read it."""

import base64
import os
from pathlib import Path

from node_workers.sealed import Keys, keys_of, new_keys

FILE = "node.key"
_BYTES = 32
_MODE = 0o600


def node_keys(path: Path) -> Keys:
    """Return the keys kept in *path*, made now if there are none.

    They are on disk before anybody is told of them: a power cut must not leave peers with a key
    that nobody has. Raises ``ValueError`` if something else is in the file.
    """
    if not path.exists():
        _keep(path, new_keys().secret)
    secret = path.read_bytes()
    if len(secret) != _BYTES:
        raise ValueError(
            f"{path} has {len(secret)} bytes, a key has {_BYTES}: remove it, or mend it"
        )
    path.chmod(_MODE)
    return keys_of(secret)


def readable(public: bytes) -> str:
    """Return a public key as it is told: base64."""
    return base64.b64encode(public).decode()


def _keep(path: Path, secret: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        os.write(file, secret)
        os.fsync(file)
    finally:
        os.close(file)
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
