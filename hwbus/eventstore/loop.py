"""The bridge between a library that waits and a client that does not: one loop, one thread."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from eventsourcing.persistence import OperationalError, ProgrammingError

T = TypeVar("T")

_JOIN_TIMEOUT_S = 10.0


class LoopThread:
    """An asyncio event loop in a thread of its own, used by any number of other threads."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=_run, args=(self._loop,), name=name, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller is the loop's own thread, where waiting for it would never end."""
        return threading.current_thread() is self._thread

    def call(self, what: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        """Run *what* on the loop and return its result.

        Raises:
            OperationalError: no result within *timeout_s*; the coroutine has been cancelled.
            ProgrammingError: the loop is closed, or the caller runs on it.
        """
        if self.is_current:
            raise ProgrammingError("a recorder was called from its own event loop")
        with self._lock:
            if self._is_closed:
                raise ProgrammingError("the connection to NATS has been closed")
            future = asyncio.run_coroutine_threadsafe(what(), self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError as error:
            future.cancel()
            raise OperationalError(f"no answer from NATS within {timeout_s} s") from error

    def close(self) -> None:
        """Cancel what still runs, end the thread and close the loop. Safe to repeat."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_JOIN_TIMEOUT_S)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()
