"""An event loop in which waiting costs nothing: when everybody waits, the clock jumps."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
EPOCH = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
IDLE_MAX_S = 86_400.0


class StuckError(AssertionError):
    """Everybody waits for something that will never come."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting it tells the loop that the time has passed."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise StuckError("nobody is left to wake anybody up")
        if timeout > 0:
            self._jump(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time moves only when there is nothing else to do."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        super().__init__(_JumpingSelector(self._advance))

    def time(self) -> float:
        return self._virtual_s

    def _advance(self, seconds: float) -> None:
        self._virtual_s += seconds
        if self._virtual_s > IDLE_MAX_S:
            raise StuckError("a day has passed")


class VirtualClock:
    """Tells the virtual loop's time as a moment."""

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def run_virtually(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run *work* in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work())
