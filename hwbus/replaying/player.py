"""The log played again: every aggregate and every view, at any sequence, forward and back.

Aggregates are folded as a desk folds them, but that none is ever forgotten; rows by the very views
that the projectors keep. To go back there are marks: of what changed since each of them it is
known what it was there.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeVar

import msgspec

from aggregates.world import Held, World
from hwbus.ports import Stored
from hwbus.replaying.canon import digest, hash_of
from hwbus.replaying.tape import Tape
from projectors import tables
from projectors.fold import Folded, fold_event
from projectors.reading import Seen, UnreadableError, read_commit
from projectors.rows import Altered, Change, Rows
from projectors.tables import WRITTEN_ONCE, Table
from schemas.operation_views import AuditRow
from schemas.views import Row
from schemas.words import COMMANDS

EVERY = 500
MARKS_MAX = 256
_STREAM = "events"
TABLES = {table.name: table for table in tables.TABLES}
R = TypeVar("R", bound=Row)
Where = tuple[str, ...]
"""``("state", kind, place, id)`` or ``("row", table, key)``."""


class Changed(msgspec.Struct, frozen=True):
    """One state or row that is another one now than it was; None: there is, or was, none."""

    where: Where
    before: Any
    after: Any


class Unread(msgspec.Struct, frozen=True):
    """A message that nobody can read: it is set aside, as a desk and the views do."""

    stored: Stored
    because: str


class Kept(Rows):
    """All rows in memory, but those that are written once: of these only the latest is there."""

    def __init__(self) -> None:
        super().__init__(lambda _table, _key: None, complete=True)
        self.tables: dict[str, dict[str, Row]] = {table.name: {} for table in tables.TABLES}
        self.altered: list[Altered] = []
        self.told: AuditRow | None = None

    def get(self, table: Table[R], key: str) -> R | None:
        """As ``Rows.get``."""
        return self.tables[table.name].get(key)  # type: ignore[return-value]

    def apply(self, change: Change) -> Altered | None:
        """As ``Rows.apply``."""
        table, key, row = change
        if table.name in WRITTEN_ONCE:
            self.told = row if isinstance(row, AuditRow) else None
            return None
        before = self.get(table, key)
        if before == row:
            return None
        self.set(table.name, key, row)
        altered = Altered(table, key, before, row)
        self.altered.append(altered)
        return altered if table.kept else None

    def set(self, table: str, key: str, row: Row | None) -> None:
        """Let a row be what it was, or is."""
        if row is None:
            self.tables[table].pop(key, None)
        else:
            self.tables[table][key] = row


class _Mark(msgspec.Struct):
    """What all that was changed from ``seq`` on was there, up to the next mark."""

    seq: int
    was: dict[Where, Any]


class Player:
    """Plays a tape. ``seq`` is the last commit that counts; ``latest`` what it said."""

    def __init__(self, tape: Tape, *, every: int = EVERY, marks_max: int = MARKS_MAX) -> None:
        self.tape = tape
        self.seq = tape.after
        self.world = World()
        self.rows = Kept()
        self.latest: Seen | Unread | None = None
        self._every = every
        self._marks_max = marks_max
        self._marks: list[_Mark] = []
        self._touched: dict[Where, Any] = {}
        self._digests: dict[Where, str] = {}
        self._folded = Folded()
        for place, held in tape.beginning.held:
            self.world.hold(*place, held)
        for table, key, row in tape.beginning.rows:
            self.rows.set(table.name, key, row)

    @property
    def told(self) -> AuditRow | None:
        """What the audit says of the latest commit, with the fields that it changed."""
        return self.rows.told

    def go(self, seq: int) -> tuple[Changed, ...]:
        """Go to *seq*, forward or back, or as far as there is; return what differs from before."""
        seq = min(max(seq, self.tape.after), self.tape.last)
        self._touched = {}
        if seq < self.seq:
            # To before the commit itself, which is then done again: what it says belongs to it.
            while self.seq >= max(seq, self.tape.after + 1):
                self._back_to_mark()
            self.latest = self.rows.told = None
        while self.seq < seq:
            self._step()
        changed = [(where, was, self._now(where)) for where, was in self._touched.items()]
        return tuple(
            Changed(where, _bare(was), _bare(now)) for where, was, now in changed if was != now
        )

    def steps(self, until: int) -> Iterator[tuple[Changed, ...]]:
        """Go forward to *until* one by one; after each, give what it changed."""
        while self.seq < min(until, self.tape.last):
            yield self.go(self.seq + 1)

    def hash(self) -> str:
        """Return the hash of all states and rows as they are here: see ``canon``."""
        return hash_of(self.digests().items())

    def digests(self) -> dict[Where, str]:
        """Return the digest of each state and row."""
        for where, value in self.everything():
            if where not in self._digests:
                self._digests[where] = digest(value)
        return self._digests

    def everything(self) -> Iterator[tuple[Where, Any]]:
        """Give each state and row, and where it is."""
        for kind, place, id_, held in self.world.all_held():
            yield ("state", kind, place, id_), held.state
        for table, rows in self.rows.tables.items():
            for key, row in rows.items():
                yield ("row", table, key), row

    def look(self) -> Seen | Unread:
        """Return what the next message says, without taking it in."""
        stored = self.tape.message(self.seq + 1)
        try:
            return read_commit(stored)
        except UnreadableError as error:
            return Unread(stored, str(error))

    def try_step(self) -> list[str]:
        """Go one commit forward whatever happens; return what went wrong on the way."""
        wrong: list[str] = []
        self._touched = {}
        self._step(wrong)
        return wrong

    def _step(self, wrong: list[str] | None = None) -> None:
        if not self._marks or self.seq - self._marks[-1].seq >= self._every:
            self._mark()
        stored = self.tape.message(self.seq + 1)
        self.latest = seen = self.look()
        self.rows.told = None
        folds = (partial(self._evolve, seen), partial(self._fold, stored))
        for fold in folds:
            try:
                fold()
            except Exception as error:
                if wrong is None:
                    raise
                wrong.append(f"{type(error).__name__}: {error}")
        for table, key, before, _after in self.rows.altered:
            self._note(("row", table.name, key), before)
        self.rows.altered.clear()
        self.rows.dirty.clear()
        self.seq = stored.seq

    def _fold(self, stored: Stored) -> None:
        fold_event(self.rows, stored, _STREAM, self._folded)

    def _evolve(self, seen: Seen | Unread) -> None:
        if isinstance(seen, Unread):
            return
        # A desk reads a commit wholly or not at all; of one with an unknown event it takes nothing.
        kind, place, id_ = seen.address.kind, seen.address.place, seen.address.id
        if seen.events is not seen.commit.events or kind not in COMMANDS:
            return
        before = self.world.held(kind, place, id_)
        self.world.evolve(kind, place, id_, seen.events)
        self._note(("state", kind, place, id_), before)

    def _note(self, where: Where, before: Any) -> None:
        self._marks[-1].was.setdefault(where, before)
        self._touched.setdefault(where, before)
        self._digests.pop(where, None)

    def _mark(self) -> None:
        if len(self._marks) >= self._marks_max:
            self._every *= 2
            pairs = zip(self._marks[::2], self._marks[1::2], strict=False)
            odd = self._marks[len(self._marks) // 2 * 2 :]
            self._marks = [_Mark(one.seq, {**two.was, **one.was}) for one, two in pairs] + odd
        self._marks.append(_Mark(self.seq, {}))

    def _back_to_mark(self) -> None:
        mark = self._marks.pop()
        for where, was in mark.was.items():
            self._touched.setdefault(where, self._now(where))
            self._digests.pop(where, None)
            if where[0] == "row":
                self.rows.set(where[1], where[2], was)
            else:
                self.world.hold(*_place(where), was)
        self.seq = mark.seq

    def _now(self, where: Where) -> Any:
        if where[0] == "row":
            return self.rows.get(TABLES[where[1]], where[2])
        return self.world.held(*_place(where))


def _bare(value: Any) -> Any:
    return value.state if isinstance(value, Held) else value


def _place(where: Where) -> tuple[str, str, str]:
    _, kind, place, id_ = where
    return kind, place, id_
