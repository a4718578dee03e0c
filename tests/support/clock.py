"""A clock that stands still until it is moved."""

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class ManualClock:
    """Tells the time it was set to."""

    def __init__(self, at: datetime = NOON) -> None:
        self._now = at

    def now(self) -> datetime:
        return self._now

    def move(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
