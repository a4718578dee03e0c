"""What two workers say to one another unseen and unchanged: keys for one loan, sealed frames.

Keys are agreed on by libsodium's ``crypto_kx`` (X25519): each side makes a pair for one loan, the
public halves travel over the bus, and nobody who only listens there can make the session keys.
Frames are sealed by ``crypto_secretstream_xchacha20poly1305``: none can be changed, left out,
repeated or put in another order without being found. Both are described at
https://doc.libsodium.org. On the wire a frame is its length (four bytes, big-endian) and itself.
"""

import struct
from typing import NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError

PIECE_BYTES_MAX = 1 << 20
HEADER_BYTES = bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES
KEY_BYTES = bindings.crypto_kx_PUBLIC_KEY_BYTES
FRAME_BYTES_MAX = PIECE_BYTES_MAX + 1 + bindings.crypto_secretstream_xchacha20poly1305_ABYTES
LENGTH = struct.Struct(">I")
_KEPT_BYTES = 2 << 20


class NotGenuineError(Exception):
    """What came was not sealed by whom the loan is with, or was changed on its way."""


class Keys(NamedTuple):
    """One side's pair."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        """Tell nobody the secret half, whoever prints it."""
        return f"Keys({self.public.hex()})"


def new_keys() -> Keys:
    """Return a pair that nobody has had before."""
    return Keys(*bindings.crypto_kx_keypair())


def keys_of(secret: bytes) -> Keys:
    """Return the pair that *secret* is one half of, 32 bytes."""
    return Keys(bindings.crypto_scalarmult_base(secret), secret)


def keep_memory() -> None:
    """Have pieces made of memory that is there, instead of the kernel's finding some for each.

    glibc gives back at once what is larger than the largest block that was freed so far, and all
    above twice that (``M_MMAP_THRESHOLD`` in mallopt(3)); elsewhere this does nothing.
    """
    del bytearray(_KEPT_BYTES)[:]


class Sealer:
    """Seals what one side says; ``header`` goes out before the first frame."""

    def __init__(self, key: bytes) -> None:
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        self.header: bytes = bindings.crypto_secretstream_xchacha20poly1305_init_push(
            self._state, key
        )

    def frame(self, said: bytes) -> tuple[bytes, bytes]:
        """Return *said* as it goes over the wire: its length first."""
        sealed: bytes = bindings.crypto_secretstream_xchacha20poly1305_push(self._state, said)
        return LENGTH.pack(len(sealed)), sealed


class Opener:
    """Opens what the other side says, in the order in which it was said."""

    def __init__(self, key: bytes, header: bytes) -> None:
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        bindings.crypto_secretstream_xchacha20poly1305_init_pull(self._state, header, key)

    def open(self, sealed: bytes) -> bytes:
        """Return what was said. Raises ``NotGenuineError``."""
        try:
            said: bytes
            said, _tag = bindings.crypto_secretstream_xchacha20poly1305_pull(self._state, sealed)
        except (CryptoError, ValueError) as error:
            raise NotGenuineError("a frame was not sealed by the other side") from error
        return said


def length_of(prefix: bytes) -> int:
    """Return how long the frame after *prefix* is. Raises ``NotGenuineError``: longer than any."""
    (length,) = LENGTH.unpack(prefix)
    if length > FRAME_BYTES_MAX:
        raise NotGenuineError(f"a frame of {length} bytes is longer than any of ours")
    return int(length)


def agreed(secret: bytes, theirs: bytes) -> bytes:
    """Return what two who keep their keys come to, each by its own secret half (X25519, RFC 7748).

    It is the same each time: derive from it what is for one purpose. Raises ``NotGenuineError``.
    """
    if len(theirs) != bindings.crypto_scalarmult_BYTES:
        raise NotGenuineError("that is no public key")
    try:
        return bindings.crypto_scalarmult(secret, theirs)
    except (CryptoError, ValueError, TypeError) as error:
        raise NotGenuineError("that is no public key") from error


def borrower_keys(mine: Keys, theirs: bytes) -> tuple[bytes, bytes]:
    """Return the keys by which a borrower opens and seals. Raises ``NotGenuineError``."""
    try:
        return bindings.crypto_kx_client_session_keys(mine.public, mine.secret, theirs)
    except (CryptoError, ValueError, TypeError) as error:
        raise NotGenuineError("that is no public key") from error


def lender_keys(mine: Keys, theirs: bytes) -> tuple[bytes, bytes]:
    """Return the keys by which a lender opens and seals. Raises ``NotGenuineError``."""
    try:
        return bindings.crypto_kx_server_session_keys(mine.public, mine.secret, theirs)
    except (CryptoError, ValueError, TypeError) as error:
        raise NotGenuineError("that is no public key") from error
