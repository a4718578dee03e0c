"""Which ids there have been: eight bytes each, and of the eldest only that they are forgotten."""

from array import array

_SLOTS_MIN = 1 << 12


class Known:
    """A set of ids that takes little room, and never more than it may.

    It keeps 64 bits of each: that an id is taken for another is less likely than a broken disk.
    """

    def __init__(self, ids_max: int) -> None:
        """Remember the latest *ids_max* ids at least, and at most twice as many."""
        self._ids_max = ids_max
        self._young = _Slots()
        self._old = _Slots()
        self.forgot = False

    def add(self, id_: str) -> None:
        """Remember one more."""
        if self._young.used >= self._ids_max:
            self.forgot = self.forgot or self._old.used > 0
            self._old, self._young = self._young, _Slots()
        self._young.add(hash(id_) or 1)

    def __contains__(self, id_: str) -> bool:
        """Return whether it is remembered; if not, it may have been ``forgot``."""
        number = hash(id_) or 1
        return number in self._young or (self._old.used > 0 and number in self._old)


class _Slots:
    """Numbers other than 0, each where it belongs or as soon after as there is room."""

    def __init__(self, slots: int = _SLOTS_MIN) -> None:
        self.used = 0
        self._slots = array("q", bytes(8 * slots))

    def add(self, number: int) -> None:
        slots, last = self._slots, len(self._slots) - 1
        at = number & last
        while there := slots[at]:
            if there == number:
                return
            at = (at + 1) & last
        slots[at] = number
        self.used += 1
        if self.used * 3 > len(slots) * 2:
            self._grow()

    def __contains__(self, number: int) -> bool:
        slots, last = self._slots, len(self._slots) - 1
        at = number & last
        while there := slots[at]:
            if there == number:
                return True
            at = (at + 1) & last
        return False

    def _grow(self) -> None:
        larger = _Slots(4 * len(self._slots))
        for number in self._slots:
            if number:
                larger.add(number)
        self._slots = larger._slots
