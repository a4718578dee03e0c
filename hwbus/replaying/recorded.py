"""Rows as a control plane had them at one commit, in a file: what a later version is held to."""

import os
from collections.abc import AsyncIterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from hwbus.archive import NoArchiveError

FORMAT = "hwbus-views.v1"
_LINE_BYTES_MAX = 4 << 20


class About(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="views"):
    """The first line: rows of these views, as they were after ``seq``."""

    format: str = FORMAT
    version: str
    seq: int
    views: tuple[str, ...]


class RowLine(msgspec.Struct, frozen=True, tag_field="line", tag="row"):
    """One row, as it was shown."""

    view: str
    row: dict[str, Any]


class Ending(msgspec.Struct, frozen=True, tag_field="line", tag="end"):
    """The last line: so many rows stand above."""

    rows: int


class Recorded(msgspec.Struct, frozen=True):
    """All rows of a file, by view."""

    about: About
    rows: dict[str, list[dict[str, Any]]]


_DECODER: msgspec.json.Decoder[About | RowLine | Ending] = msgspec.json.Decoder(
    About | RowLine | Ending
)
_ENCODE = msgspec.json.Encoder().encode


async def write(
    file: BinaryIO, about: About, pages: AsyncIterable[tuple[str, Sequence[dict[str, Any]]]]
) -> int:
    """Write rows, view by view, durably; return how many there were. Raises ``OSError``."""
    file.write(_ENCODE(about) + b"\n")
    written = 0
    async for view, rows in pages:
        file.writelines(_ENCODE(RowLine(view, row)) + b"\n" for row in rows)
        written += len(rows)
    file.write(_ENCODE(Ending(written)) + b"\n")
    file.flush()
    os.fsync(file.fileno())
    return written


def read(path: Path) -> Recorded:
    """Return what *path* holds. Raises ``NoArchiveError``: it is not whole; ``OSError``."""
    with path.open("rb") as file:
        first = _decoded(file.readline(_LINE_BYTES_MAX))
        if not isinstance(first, About) or first.format != FORMAT:
            raise NoArchiveError(f"{path} is no {FORMAT}")
        rows: dict[str, list[dict[str, Any]]] = {view: [] for view in first.views}
        while text := file.readline(_LINE_BYTES_MAX):
            line = _decoded(text)
            if isinstance(line, Ending) and line.rows == sum(map(len, rows.values())):
                return Recorded(first, rows)
            if not isinstance(line, RowLine) or line.view not in rows:
                break
            rows[line.view].append(line.row)
    raise NoArchiveError(f"{path} is damaged, or its end is missing")


def _decoded(text: bytes) -> About | RowLine | Ending | None:
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
