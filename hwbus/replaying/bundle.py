"""A slice of a log as a file that needs nothing else: what was there before it, and its end.

Lines of JSON: what it is; the states and rows before the first message; their hash; the messages,
as in an archive; records of the audit; and the end, with the hash of what there is then and the
SHA-256 of all lines above it.
"""

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from aggregates.world import Held, World
from hwbus.archive import MessageLine, NoArchiveError
from hwbus.ports import Stored
from hwbus.replaying.player import TABLES, Where
from hwbus.replaying.tape import Beginning, KeptRow, Place, Record, Tape
from schemas.audit import AuditRecord
from schemas.views import Row

FORMAT = "hwbus-bundle.v1"
_LINE_BYTES_MAX = 64 << 20


class About(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="bundle"):
    """The first line: the messages ``after`` + 1 to ``until`` are here, about an operation.

    ``version`` is that of whoever wrote it. ``redacted`` says how many names of each kind stand for
    others; None: names are as they were. ``cut`` says what belongs to it and is not here.
    """

    format: str = FORMAT
    version: str
    operation: str
    after: int
    until: int
    redacted: dict[str, int] | None = None
    cut: tuple[str, ...] = ()


class StateLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="state"):
    """One aggregate before the first message."""

    kind: str
    place: str
    id: str
    state: msgspec.Raw
    provisioning: bool = False


class RowLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="row"):
    """One row of a view before the first message."""

    table: str
    key: str
    row: msgspec.Raw


class HashLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="hash"):
    """The hash of all that stands above."""

    seq: int
    hash: str


class RecordLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="record"):
    """One record of the audit stream, with its sequence there."""

    seq: int
    record: AuditRecord


class Ending(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="ending"):
    """The last line; ``above`` is the SHA-256 of all others."""

    hash: str
    above: str


_Line = About | StateLine | RowLine | HashLine | MessageLine | RecordLine | Ending
_DECODER: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)
_ENCODE = msgspec.json.Encoder(order="deterministic").encode


class Bundle(msgspec.Struct, frozen=True):
    """A bundle as it is read: ``begins`` and ``ends`` are the hashes that its writer had."""

    about: About
    tape: Tape
    begins: str
    ends: str


def write(
    file: BinaryIO,
    about: About,
    beginning: Beginning,
    begins: str,
    messages: Iterable[Stored],
    records: Iterable[Record],
    ends: str,
) -> None:
    """Write a bundle, durably. Raises ``OSError``."""
    above = hashlib.sha256()
    for line in _lines(about, beginning, begins, messages, records):
        text = _ENCODE(line) + b"\n"
        above.update(text)
        file.write(text)
    file.write(_ENCODE(Ending(hash=ends, above=above.hexdigest())) + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _lines(
    about: About,
    beginning: Beginning,
    begins: str,
    messages: Iterable[Stored],
    records: Iterable[Record],
) -> Iterator[_Line]:
    yield about
    for (kind, place, id_), held in beginning.held:
        yield StateLine(
            kind=kind,
            place=place,
            id=id_,
            state=msgspec.Raw(_ENCODE(held.state)),
            provisioning=held.provisioning,
        )
    for table, key, row in beginning.rows:
        yield RowLine(table=table.name, key=key, row=msgspec.Raw(_ENCODE(row)))
    yield HashLine(seq=about.after, hash=begins)
    for one in messages:
        yield MessageLine(one.seq, one.at, one.subject, one.data)
    for seq, record in records:
        yield RecordLine(seq=seq, record=record)


def is_bundle(path: Path) -> bool:
    """Return whether *path* begins as a bundle does. Raises ``OSError``."""
    with path.open("rb") as file:
        return isinstance(_decoded(file.readline(_LINE_BYTES_MAX)), About)


@contextmanager
def bundled(path: Path) -> Iterator[Bundle]:
    """Open a bundle. Raises ``NoArchiveError``: it is none, or not as it was; and ``OSError``."""
    with path.open("rb") as file:
        yield _Reading(path, file).bundle()


class _Reading:
    """Reads a bundle line by line; what does not fit raises ``NoArchiveError``."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._world = World()
        self._held: list[tuple[Place, Held]] = []
        self._rows: list[KeptRow] = []
        self._records: list[Record] = []
        self._places = array("Q")
        self._begins = ""

    def bundle(self) -> Bundle:
        """Return what there is."""
        above, place = hashlib.sha256(), 0
        about, ends = None, None
        while text := self._file.readline(_LINE_BYTES_MAX):
            line = _decoded(text)
            if isinstance(line, Ending):
                ends = line
                break
            if isinstance(line, About):
                about = line
            elif about is not None:
                self._take(line, about, place)
            above.update(text)
            place += len(text)
        if about is None or about.format != FORMAT:
            raise NoArchiveError(f"{self._path} is no {FORMAT}")
        if ends is None or about.after + len(self._places) != about.until:
            raise NoArchiveError(f"the end of {self._path} is missing")
        if ends.above != above.hexdigest():
            raise NoArchiveError(f"{self._path} is not as it was written: its own sum is another")
        tape = Tape(
            self._file,
            self._places,
            after=about.after,
            beginning=Beginning(self._held, self._rows),
            records=self._records,
        )
        return Bundle(about, tape, self._begins, ends.hash)

    def _take(self, line: _Line | None, about: About, place: int) -> None:
        try:
            match line:
                case StateLine():
                    state: Any = msgspec.json.decode(line.state, type=self._type(line.kind))
                    where = (line.kind, line.place, line.id)
                    self._held.append((where, Held(state, line.provisioning)))
                case RowLine():
                    table = TABLES[line.table]
                    self._rows.append((table, line.key, table.decode(bytes(line.row))))
                case HashLine():
                    self._begins = line.hash
                case MessageLine() if line.seq == about.after + len(self._places) + 1:
                    self._places.append(place)
                case RecordLine():
                    self._records.append((line.seq, line.record))
                case _:
                    raise NoArchiveError(f"{self._path} is damaged: no line of a bundle at {place}")
        except (msgspec.DecodeError, KeyError) as error:
            raise NoArchiveError(
                f"{self._path} was written by version {about.version}, which keeps something that "
                f"this one cannot read: {error}"
            ) from error

    def _type(self, kind: str) -> type[Any]:
        found = self._world.type_of(kind)
        if found is None:
            raise KeyError(kind)
        return found


def _decoded(text: bytes) -> _Line | None:
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def beginning_of(everything: Iterable[tuple[Where, object]], world: World) -> Beginning:
    """Return all states and rows, as they are, in their order."""
    held: list[tuple[Place, Held]] = []
    rows: list[KeptRow] = []
    for where, value in sorted(everything, key=lambda one: one[0]):
        if isinstance(value, Row):
            rows.append((TABLES[where[1]], where[2], value))
        else:
            _, kind, place, id_ = where
            held.append(((kind, place, id_), world.held(kind, place, id_)))
    return Beginning(held, rows)
