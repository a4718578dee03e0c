"""What is played: the messages of a file, verified, any of them at hand, and the state before."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import BinaryIO

import msgspec

from aggregates.world import Held
from hwbus.archive import NoArchiveError, message_at
from hwbus.archives import Source, opened
from hwbus.ports import Stored
from hwbus.verifying import Verdict
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
def archived(source: Source, keys: Collection[str] = ()) -> Iterator[tuple[Tape, Verdict]]:
    """Open an archive, verified from its beginning to its end; the tape ends before what is bad.

    *keys* are those of heads that count, none: all do. Raises as ``hwbus.archives.opened``.
    """
    with opened(source, keys) as archive:
        first_bad = archive.verdict.first_bad
        good = len(archive.places) if first_bad is None else first_bad - 1
        yield Tape(archive.file, archive.places[: max(0, good)]), archive.verdict
