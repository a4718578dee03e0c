"""The notary's key: made once, kept where only the control plane reads, and never shown."""

import os
import stat
from pathlib import Path

import structlog
from nacl.signing import SigningKey

_LOG = structlog.get_logger("hwbus.notary")
_SECRET = "notary.key"  # noqa: S105 -- the name of a file
PUBLIC = "notary.pub"
_ONLY_MINE = 0o600
_SHORT = 16


class NotaryKeyError(Exception):
    """The key is there and cannot be used; the message says why. No other is made in its place."""


class NotaryKey:
    """An Ed25519 key (RFC 8032) that signs; ``public`` is its public half in hex."""

    def __init__(self, seed: bytes) -> None:
        """Take a seed of 32 bytes. Raises ``ValueError``: it is not so long."""
        self._key = SigningKey(seed)
        self.public: str = bytes(self._key.verify_key).hex()

    def __repr__(self) -> str:
        """Tell nobody the secret half, whoever prints it."""
        return f"NotaryKey({self.public})"

    @property
    def short(self) -> str:
        """The beginning of the public half: what may stand in a subject."""
        return self.public[:_SHORT]

    def sign(self, text: bytes) -> str:
        """Return the signature over *text* in hex."""
        return self._key.sign(text).signature.hex()

    @classmethod
    def at_home(cls, folder: Path) -> "NotaryKey":
        """Return the key that *folder* holds; the first time, make it, for its owner to read only.

        The public half is written beside it, for everybody.

        Raises:
            NotaryKeyError: what is there is no key.
            OSError: the folder cannot be written.
        """
        path = folder / _SECRET
        if not path.exists():
            _make(path)
        if stat.S_IMODE(path.stat().st_mode) != _ONLY_MINE:
            _LOG.warning("the notary's key could be read by others", path=str(path))
            path.chmod(_ONLY_MINE)
        try:
            key = cls(bytes.fromhex(path.read_text(encoding="ascii")))
        except ValueError as error:
            raise NotaryKeyError(f"{path} holds no key of 32 bytes in hex") from error
        (folder / PUBLIC).write_text(key.public + "\n", encoding="ascii")
        return key


def _make(path: Path) -> None:
    """Write a new key as a whole or not at all: half a one would be no key for ever."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _ONLY_MINE)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(SigningKey.generate().encode().hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
