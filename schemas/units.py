"""Names, sizes and moments, with their bounds: what does not fit is never decoded."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

# `$(?!\n)` rather than `$`: Python's `$` would let a trailing newline pass.
NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$(?!\n)"
Name = Annotated[
    str,
    Meta(
        pattern=NAME,
        min_length=1,
        max_length=63,
        description="An RFC 1123 label.",
    ),
]
Id = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-z]{26}$(?!\n)",
        description="A ULID in lower case.",
    ),
]
BYTES_MAX = 1 << 60
Bytes = Annotated[
    int, Meta(gt=0, le=BYTES_MAX, description="A size in bytes, never in GiB; at most 1 EiB.")
]
SomeBytes = Annotated[int, Meta(ge=0, le=BYTES_MAX, description="A size in bytes, maybe none.")]
RATE_MIN = 1 << 20
Rate = Annotated[
    int, Meta(ge=RATE_MIN, le=BYTES_MAX, description="Bytes a second, at least one MiB.")
]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Percent = Annotated[int, Meta(ge=1, le=10_000, description="Per hundred.")]
Text = Annotated[str, Meta(max_length=1024)]
Path = Annotated[str, Meta(pattern=r"^/[^\x00\n]*$(?!\n)", max_length=255)]
Moment = Annotated[datetime, Meta(tz=True, description="RFC 3339, UTC.")]
Seconds = Annotated[int, Meta(gt=0, le=30 * 86_400, description="At most thirty days.")]
HoldSeconds = Annotated[
    int, Meta(ge=0, le=366 * 86_400, description="At most a year; 0: not at all.")
]

_STEPS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEP = 1024


def readable(size_bytes: int) -> str:
    """Return a size for people, and to the byte: ``1.5 GiB (1610612736 bytes)``."""
    size, unit = float(size_bytes), ""
    for unit_ in _STEPS:
        if size < _STEP:
            break
        size, unit = size / _STEP, unit_
    if not unit:
        return f"{size_bytes} bytes"
    return f"{size:.1f}".removesuffix(".0") + f" {unit} ({size_bytes} bytes)"
