"""Sees to it that a connection which is not coming back is not waited for for ever.

nats-py reconnects by itself in one task. Whatever keeps that task from its end (a socket that does
not close, an exception that it does not expect), the client stays "reconnecting", and nobody is
told. So somebody looks from outside: if nothing came back from the broker for a while although it
greets whoever dials anew, the connection is closed for good, and its owner dials anew, too.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import urlsplit

import structlog

_LOG = structlog.get_logger("hwbus.jetstream")
_LOOKS_A_PATIENCE = 6
_GREETING_S = 5.0
_GREETING = b"INFO"
_PORT = 4222


class Echoing(Protocol):
    """What is asked of a client: go to the broker and come back."""

    async def echo(self, timeout_s: float) -> bool:
        """Return whether the broker has answered in time."""
        ...


class Vigil:
    """Watches over one connection to *servers*; *patience_s* without an answer is too long."""

    def __init__(
        self,
        client: Echoing,
        give_up: Callable[[], Awaitable[None]],
        *,
        servers: list[str],
        patience_s: float,
    ) -> None:
        self._client = client
        self._give_up = give_up
        self._servers = servers
        self._patience_s = patience_s

    async def keep(self) -> None:
        """Look, until the connection was given up or the task is cancelled."""
        since_s: float | None = None
        look_s = self._patience_s / _LOOKS_A_PATIENCE
        while True:
            await asyncio.sleep(look_s)
            # What counts is how long others could have been served while we were not.
            if await self._client.echo(look_s) or not await self._greets():
                since_s = None
            elif since_s is None:
                since_s = time.monotonic()
            elif (silent_s := time.monotonic() - since_s) > self._patience_s:
                _LOG.error(
                    "the connection does not come back, though the broker is there",
                    silent_s=round(silent_s, 1),
                )
                await self._give_up()
                return

    async def _greets(self) -> bool:
        """Return whether one of the servers greets somebody who dials anew."""
        for server in self._servers:
            where = urlsplit(server if "://" in server else f"nats://{server}")
            try:
                async with asyncio.timeout(_GREETING_S):
                    reader, writer = await asyncio.open_connection(
                        where.hostname, where.port or _PORT
                    )
                    try:
                        if (await reader.read(len(_GREETING))) == _GREETING:
                            return True
                    finally:
                        writer.transport.abort()
            except (OSError, TimeoutError):
                continue
        return False
