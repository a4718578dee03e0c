"""Identities and hours are made at the edge, here, and nowhere deeper."""

import os
from datetime import UTC, datetime

from hwbus.ports import Clock

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_CHANCE_BITS = 80
_CHANCE_BYTES = _CHANCE_BITS // 8
_DRAWN_AT_ONCE = 64
# Two letters at a time: identities are made several times a command.
_PAIRS = tuple(high + low for high in _CROCKFORD for low in _CROCKFORD)
_SHIFTS = tuple(range(120, -1, -10))


class SystemClock:
    """The machine's own clock, in UTC."""

    def now(self) -> datetime:
        """Return the present moment."""
        return datetime.now(UTC)  # noqa: TID251


def ulid(at: datetime, chance: int) -> str:
    """Return a ULID (26 lower-case characters, sortable by time) for *at*.

    *chance* is a number below 2**80. The layout is that of github.com/ulid/spec: 48 bits of
    milliseconds, then 80 bits of chance, in Crockford's base 32.
    """
    number = (int(at.timestamp() * 1000) << _CHANCE_BITS) | (chance & ((1 << _CHANCE_BITS) - 1))
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])


class Mint:
    """Gives out ULIDs, from a clock and a source of chance."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        # Drawn in stock: each draw is a system call, and lets other threads in between.
        self._stock: list[bytes] = []

    def __call__(self) -> str:
        """Return a new identity."""
        if not self._stock:
            drawn = os.urandom(_CHANCE_BYTES * _DRAWN_AT_ONCE)
            self._stock = [
                drawn[i : i + _CHANCE_BYTES] for i in range(0, len(drawn), _CHANCE_BYTES)
            ]
        return ulid(self._clock.now(), int.from_bytes(self._stock.pop()))
