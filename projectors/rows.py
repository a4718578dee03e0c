"""The rows as one event finds them: what the batch has changed so far lies over what is kept."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from projectors.tables import Table
from schemas.views import Row

R = TypeVar("R", bound=Row)
Load = Callable[[str, str], bytes | None]
_KEPT_MAX = 20_000


class Change(NamedTuple):
    """One row from now on; ``row`` None: it is no more."""

    table: Table[Row]
    key: str
    row: Row | None


Changes = Iterator[Change]


class Altered(NamedTuple):
    """One row before and after an event."""

    table: Table[Row]
    key: str
    before: Row | None
    after: Row | None


def put(table: Table[R], key: str, row: R) -> Change:
    """Return the change that sets a row."""
    return Change(table, key, row)


def drop(table: Table[R], key: str) -> Change:
    """Return the change that takes a row away."""
    return Change(table, key, None)


class Rows:
    """Rows by table and key. *load* fetches the encoded row that the last transaction left.

    *complete* says that nothing has been written before: what is not at hand does not exist, and
    need not be looked for.
    """

    def __init__(self, load: Load, *, complete: bool = False) -> None:
        self._load = load
        self._complete = complete
        self._kept: dict[tuple[str, str], Row | None] = {}
        self.dirty: dict[str, dict[str, tuple[Table[Row], Row | None]]] = {}

    def get(self, table: Table[R], key: str) -> R | None:
        """Return the row as it is now, or None."""
        where = (table.name, key)
        if where in self._kept:
            return self._kept[where]  # type: ignore[return-value]
        changed = self.dirty.get(table.name, {}).get(key)
        if changed is not None:
            return changed[1]  # type: ignore[return-value]
        body = None if self._complete and table.kept else self._load(table.name, key)
        row = None if body is None else table.decode(body)
        if table.kept:
            self._kept[where] = row
        return row

    def apply(self, change: Change) -> Altered | None:
        """Make the change and return what it altered; None if nothing, or if nobody looks back."""
        table, key, row = change
        if not table.kept:
            self.dirty.setdefault(table.name, {})[key] = (table, row)
            return None
        before = self.get(table, key)
        if before == row:
            return None
        self._kept[table.name, key] = row
        self.dirty.setdefault(table.name, {})[key] = (table, row)
        return Altered(table, key, before, row)

    def settle(self) -> None:
        """Forget what was changed: it has been written."""
        self.dirty = {}
        if len(self._kept) > _KEPT_MAX:
            self.forget()

    def forget(self) -> None:
        """Forget everything that is not on disk, as after a transaction that was undone."""
        self._complete = False
        self.dirty = {}
        self._kept.clear()
