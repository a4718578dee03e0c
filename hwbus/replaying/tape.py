"""What is played: the messages of a file, verified, any of them at hand, and the state before."""

from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from aggregates.world import Held
from hwbus.archive import NoArchiveError, Reader, message_at
from hwbus.ports import Stored
from hwbus.streams import EVENTS
from hwbus.verifying import Verdict, Verifier
from projectors.tables import Table
from schemas.audit import AuditRecord
from schemas.views import Row

Place = tuple[str, str, str]
KeptRow = tuple[Table[Row], str, Row]
Record = tuple[int, AuditRecord]


class Beginning(msgspec.Struct, frozen=True):
    """All that there is before the first message: aggregates, and rows of views."""

    held: Sequence[tuple[Place, Held]] = ()
    rows: Sequence[KeptRow] = ()


class Tape:
    """The messages ``after`` + 1 to ``last`` of the events, read from a file as they are asked for.

    What is kept of them is where each begins: eight bytes.
    """

    def __init__(
        self,
        file: BinaryIO,
        places: Sequence[int],
        *,
        after: int = 0,
        beginning: Beginning | None = None,
        records: Sequence[Record] = (),
    ) -> None:
        self.after = after
        self.last = after + len(places)
        self.beginning = Beginning() if beginning is None else beginning
        self.records = records
        self._file = file
        self._places = places

    def message(self, seq: int) -> Stored:
        """Return the message at *seq*. Raises ``NoArchiveError``: the file was changed since."""
        stored = message_at(self._file, self._places[seq - self.after - 1])
        if stored.seq != seq:
            raise NoArchiveError(f"message {stored.seq} stands where {seq} was")
        return stored

    def seq_of(self, moment: datetime) -> int:
        """Return the last message that was stored by then."""
        low, high = self.after, self.last
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.message(middle).at <= moment else (low, middle - 1)
        return low


@contextmanager
def archived(path: Path, keys: Collection[str] = ()) -> Iterator[tuple[Tape, Verdict]]:
    """Open an archive, verified from its beginning to its end; the tape ends before what is bad.

    *keys* are those of heads that count, none: all do. Raises ``NoArchiveError`` and ``OSError``.
    """
    reader = Reader(path)
    if reader.stream != EVENTS.name:
        raise NoArchiveError(f"{path} holds {reader.stream}, and not {EVENTS.name}")
    verifier = Verifier(reader.heads, stream=reader.stream, keys=keys, until=reader.until)
    places = array("Q")
    for stored in reader.messages():
        verifier.take((stored,))
        if stored.seq == len(places) + 1:
            places.append(reader.place)
    if reader.unreadable:
        verifier.damaged(f"{reader.unreadable} lines of the archive are no messages")
    if not reader.whole:
        verifier.damaged("the end of the archive is missing")
    verdict = verifier.finish()
    good = len(places) if verdict.first_bad is None else verdict.first_bad - 1
    with path.open("rb") as file:
        yield Tape(file, places[: max(0, good)]), verdict
