"""What the worker counts of itself."""

from collections import Counter


class Figures:
    """Counters by name, and what is so at the moment."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        self.counters[name] += by

    def show(self, name: str, value: float) -> None:
        """Set what is so now."""
        self.gauges[name] = value
