"""Sizes as people write and read them; on the wire there are only bytes."""

import re
from fractions import Fraction

from schemas.units import BYTES_MAX

_BINARY = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_SIZE = re.compile(r"([+-]?)([0-9]{1,30}(?:\.[0-9]{1,30})?)\s?([kmgtpe]?)(i?)(b?)", re.IGNORECASE)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEP = 1024
_FORMS = "write it like 50GiB, 1.5TiB, 500G (10^9) or 1073741824"


class BadSizeError(ValueError):
    """A text that is no size, or a size nobody can mean."""


def parse_size(text: str) -> int:
    """Return the bytes that *text* means: ``1GiB`` and ``1Gi`` are 2^30, ``1G`` and ``1GB`` 10^9.

    Parts of a byte are left out.

    Raises:
        BadSizeError: it is no size, less than a byte, or above 1 EiB.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[4] and not match[3]):
        raise BadSizeError(f"{text[:80]!r} is no size: {_FORMS}")
    sign, number, unit, binary, _ = match.groups()
    base = 1024 if binary else 1000
    size = int(Fraction(number) * base ** _BINARY[unit.lower()])
    if sign == "-" or size == 0:
        raise BadSizeError(f"{text[:80]!r} is negative or nothing, and a size is more: {_FORMS}")
    if size > BYTES_MAX:
        raise BadSizeError(f"{text[:80]!r} is more than 1 EiB, the most a size may be")
    return size


def format_size(size_bytes: int) -> str:
    """Return *size_bytes* for people, in binary units with at most one decimal: ``1.5TiB``."""
    if abs(size_bytes) < _STEP:
        return f"{size_bytes}B"
    exponent = min(len(_UNITS) - 1, (abs(size_bytes).bit_length() - 1) // 10)
    scaled = size_bytes / _STEP**exponent
    if abs(scaled) >= _STEP - 0.05 and exponent + 1 < len(_UNITS):
        exponent, scaled = exponent + 1, scaled / _STEP
    return f"{scaled:.1f}".removesuffix(".0") + _UNITS[exponent]


def copied(done_bytes: int, of_bytes: int) -> str:
    """Return how far a copy is: ``300MiB of 1GiB, 29%``."""
    share = 100 * done_bytes // of_bytes if of_bytes else 0
    return f"{format_size(done_bytes)} of {format_size(of_bytes)}, {share}%"
