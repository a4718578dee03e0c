"""Reads the snapshot of another node, piece by piece: the borrowing side of a loan.

The protocol, once the ticket is there (``loans``): the borrower connects, and sends ``HELLO``, the
ticket's id and the header of its stream; the lender sends the header of its own. From then on all
is sealed frames (``sealed``). The borrower asks by ``ASK``: where a piece starts, and how long it
is. The lender answers each question in turn: ``DATA`` and the bytes, ``ZEROS`` alone, or ``BROKEN``
and a sentence, after which it says no more. Bytes are written in network order.

Nothing waits for ever: a lender that says nothing for ``PATIENCE_S`` has gone.
"""

import socket
import struct
from collections import deque
from typing import Self

import msgspec

from node_workers.sealed import (
    HEADER_BYTES,
    LENGTH,
    NotGenuineError,
    Opener,
    Sealer,
    keep_memory,
    length_of,
)

HELLO = b"hwbus-loan-1\n"
ASK = struct.Struct(">QI")
DATA, ZEROS, BROKEN = b"D", b"Z", b"E"
CONNECT_S = 10.0
PATIENCE_S = 60.0
PIECE_BYTES = 256 << 10
_AHEAD = 8


class CutOffError(ConnectionError):
    """The lender cannot be reached, has gone, or is not whom the ticket is from."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """All that it takes to read a snapshot of another node. It is secret: for standard input only.

    ``seals`` is the key for what the borrower says, ``opens`` for what it hears. ``simulated`` is
    what a simulated node has instead of bytes.
    """

    ticket: bytes
    host: str
    port: int
    seals: bytes
    opens: bytes
    simulated: str = ""

    def __repr__(self) -> str:
        """Tell nobody the keys, whoever prints it."""
        return f"Access({self.host})"


class Borrowed:
    """The snapshot, of which pieces are read in order, or from elsewhere anew.

    Up to *ahead* pieces are asked for before they are wanted, none of them beyond *of_bytes*.
    Raises ``CutOffError``, here and whenever something is read.
    """

    def __init__(
        self,
        access: Access,
        of_bytes: int,
        *,
        piece_bytes: int = PIECE_BYTES,
        ahead: int = _AHEAD,
    ) -> None:
        self._of_bytes, self._piece_bytes, self._ahead = of_bytes, piece_bytes, ahead
        self._asked: deque[tuple[int, int]] = deque()
        self._next = 0
        self._sealer = Sealer(access.seals)
        keep_memory()
        at = (access.host, access.port)
        try:
            self._socket = socket.create_connection(at, timeout=CONNECT_S)
        except OSError as error:
            raise CutOffError(f"no connection to {access.host}: {error}") from error
        try:
            self._socket.settimeout(PATIENCE_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send(HELLO + access.ticket + self._sealer.header)
            self._opener = Opener(access.opens, self._receive(HEADER_BYTES))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        """Return the snapshot."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def read(self, piece: memoryview, position: int) -> int:
        """Read what is at *position* into *piece*; return how many bytes had to travel.

        Raises ``CutOffError``, and ``OSError`` if the lender cannot read its snapshot.
        """
        size = self._piece_bytes
        starts = range(0, len(piece), size)
        return sum(self._read(piece[at : at + size], position + at) for at in starts)

    def _read(self, piece: memoryview, position: int) -> int:
        wanted = (position, len(piece))
        if self._asked and self._asked[0] != wanted:
            self._drain()
        if not self._asked:
            self._next = position
            self._ask()
        while len(self._asked) < self._ahead and self._next < self._of_bytes:
            self._ask()
        self._asked.popleft()
        said = self._hear()
        kind, size = said[:1], len(said) - 1
        if kind == ZEROS:
            piece[:] = bytes(len(piece))
            return 0
        if kind == BROKEN:
            raise OSError(said[1:].decode(errors="replace"))
        if kind != DATA or size != len(piece):
            raise CutOffError(f"the lender said {kind!r} and {size} bytes for {len(piece)}")
        piece[:] = memoryview(said)[1:]
        return size

    def _ask(self) -> None:
        size = min(self._piece_bytes, self._of_bytes - self._next)
        self._send(b"".join(self._sealer.frame(ASK.pack(self._next, size))))
        self._asked.append((self._next, size))
        self._next += size

    def _drain(self) -> None:
        """Hear what was asked for and is not wanted any more."""
        while self._asked:
            self._asked.popleft()
            self._hear()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise CutOffError(f"the lender has gone: {error}") from error

    def _hear(self) -> bytes:
        try:
            length = length_of(self._receive(LENGTH.size))
            return self._opener.open(self._receive(length))
        except NotGenuineError as error:
            raise CutOffError(f"what came is not what was sent: {error}") from error

    def _receive(self, size: int) -> bytes:
        data = bytearray(size)
        with memoryview(data) as left:
            done = 0
            while done < size:
                try:
                    got = self._socket.recv_into(left[done:])
                except OSError as error:
                    raise CutOffError(f"the lender says nothing more: {error}") from error
                if not got:
                    raise CutOffError("the lender has hung up")
                done += got
        return bytes(data)
