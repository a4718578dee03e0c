"""A bell in one process: whoever waits for something new hears it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Bell:
    """Wakes everybody who waits for something new."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def ring(self) -> None:
        """Wake them."""
        for event in self._waiting:
            event.set()

    @asynccontextmanager
    async def heard(self) -> AsyncIterator[asyncio.Event]:
        """Give an event that each ring sets."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            yield event
        finally:
            self._waiting.discard(event)
