"""A part of the log as a file: lines of JSON, with the signed heads that vouch for it.

The first line tells what it is; then come the heads, the last of which may vouch for more than
there is; then the messages from sequence 1 on, raw (base64); the last line tells how many. So it
is seen when the end of the file is missing.
"""

import os
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from hwbus.ports import Stored
from schemas.audit import HeadRecord

FORMAT = "hwbus-archive.v1"
_LINE_BYTES_MAX = 4 << 20
_NOTHING = (b"", 0)


class NoArchiveError(Exception):
    """The file is no archive of ours; the message says what it is instead."""


class Beginning(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="archive"):
    """The first line: messages 1 to ``until`` of ``stream``, and how many heads follow."""

    format: str
    stream: str
    until: int
    heads: int


class HeadLine(msgspec.Struct, frozen=True, tag_field="line", tag="head"):
    """A signed head."""

    head: HeadRecord


class MessageLine(msgspec.Struct, frozen=True, tag_field="line", tag="message"):
    """A message, as it is stored; ``data`` is base64."""

    seq: int
    at: datetime
    subject: str
    data: bytes


class Ending(msgspec.Struct, frozen=True, tag_field="line", tag="end"):
    """The last line: so many messages stand above."""

    messages: int


_LINE: msgspec.json.Decoder[Beginning | HeadLine | MessageLine | Ending] = msgspec.json.Decoder(
    Beginning | HeadLine | MessageLine | Ending
)
_ENCODE = msgspec.json.Encoder().encode


async def write(
    file: BinaryIO,
    stream: str,
    until: int,
    heads: list[HeadRecord],
    messages: AsyncIterator[Stored],
) -> int:
    """Write the archive of the *messages* up to *until*, durably; return how many there were.

    Raises ``OSError``.
    """
    first = Beginning(format=FORMAT, stream=stream, until=until, heads=len(heads))
    file.write(_ENCODE(first) + b"\n")
    file.writelines(_ENCODE(HeadLine(head)) + b"\n" for head in heads)
    written = 0
    async for one in messages:
        line = MessageLine(one.seq, one.at, one.subject, one.data)
        file.write(_ENCODE(line) + b"\n")
        written += 1
    file.write(_ENCODE(Ending(written)) + b"\n")
    file.flush()
    os.fsync(file.fileno())
    return written


class Reader:
    """Reads an archive: first its heads, then its messages, one after the other."""

    def __init__(self, path: Path) -> None:
        """Read the beginning. Raises ``NoArchiveError`` and ``OSError``."""
        self._lines = _lines(path)
        first = _decoded(next(self._lines, _NOTHING)[0])
        if not isinstance(first, Beginning) or first.format != FORMAT:
            raise NoArchiveError(f"{path} is no {FORMAT}")
        self.stream = first.stream
        self.until = first.until
        self.whole = False
        self.unreadable = 0
        self.place = 0
        self.heads: list[HeadRecord] = []
        for _ in range(first.heads):
            line = _decoded(next(self._lines, _NOTHING)[0])
            if not isinstance(line, HeadLine):
                raise NoArchiveError(f"{path}: {first.heads} heads were to follow")
            self.heads.append(line.head)

    def messages(self) -> Iterator[Stored]:
        """Give the messages that can be read, and count in ``unreadable`` the lines that cannot.

        ``place`` is where in the file the one given last begins, for ``message_at``. Afterwards
        ``whole`` tells whether the last line was there, and right. Raises ``OSError``.
        """
        for above, (text, place) in enumerate(self._lines):
            line, self.place = _decoded(text), place
            if isinstance(line, MessageLine):
                yield Stored(line.seq, line.subject, line.data, line.at)
            elif isinstance(line, Ending):
                self.whole = line.messages == above
                return
            else:
                self.unreadable += 1


def message_at(file: BinaryIO, place: int) -> Stored:
    """Return the message that begins at *place*, where one was read. Raises ``NoArchiveError``."""
    file.seek(place)
    line = _decoded(file.readline(_LINE_BYTES_MAX))
    if not isinstance(line, MessageLine):
        raise NoArchiveError("the file was changed while it was read")
    return Stored(line.seq, line.subject, line.data, line.at)


def messages_in(file: BinaryIO) -> Iterator[Stored]:
    """Give the messages of *file*, from its beginning, and no line that is something else."""
    file.seek(0)
    while text := file.readline(_LINE_BYTES_MAX):
        line = _decoded(text)
        if isinstance(line, MessageLine):
            yield Stored(line.seq, line.subject, line.data, line.at)


def _lines(path: Path) -> Iterator[tuple[bytes, int]]:
    place = 0
    with path.open("rb") as file:
        while line := file.readline(_LINE_BYTES_MAX):
            yield line, place
            place += len(line)


def _decoded(text: bytes) -> Beginning | HeadLine | MessageLine | Ending | None:
    try:
        return _LINE.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
