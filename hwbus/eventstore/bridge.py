"""What the recorders of one factory share: one thread, one loop, one connection."""

import contextlib
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from eventsourcing.persistence import OperationalError

from hwbus.eventstore.link import Link
from hwbus.eventstore.loop import LoopThread
from hwbus.eventstore.settings import Settings

T = TypeVar("T")


class Bridge:
    """A connection to NATS for callers that wait.

    It is closed by ``close``, or when nobody refers to it any more: the library's own
    ``ProjectionRunner`` makes a factory for its view and forgets to close it.

    Raises:
        OperationalError: NATS cannot be reached.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loop = LoopThread("hwbus-eventstore")
        try:
            self.link = self._loop.call(lambda: _open(settings), settings.call_timeout_s)
        except BaseException:
            self._loop.close()
            raise
        self._finalizer = weakref.finalize(self, _shut, self._loop, self.link)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be called any more."""
        return not self._finalizer.alive

    def call(self, what: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run *what* on the loop and return its result. Raises what it raises."""
        return self._loop.call(what, self.settings.call_timeout_s)

    def close(self) -> None:
        """Disconnect and end the thread. Safe to repeat."""
        self._finalizer()


async def _open(settings: Settings) -> Link:
    link = Link(settings)
    await link.open()
    return link


def _shut(loop: LoopThread, link: Link) -> None:
    if loop.is_current:  # the garbage collector may strike anywhere, on the loop's thread, too
        threading.Thread(target=_shut, args=(loop, link), name="hwbus-eventstore-close").start()
        return
    # A broker that is gone does not answer a good-bye; the socket is closed with the loop.
    with contextlib.suppress(OperationalError):
        loop.call(link.close, link.settings.timeout_s)
    loop.close()
