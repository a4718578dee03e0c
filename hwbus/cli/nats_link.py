"""The real way to the bus; imported late, because NATS is slow to import."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from hwbus.addresses import without_login
from hwbus.cli.quiet import silence
from hwbus.cli.world import Link
from hwbus.jetstream import ApiError, connect
from hwbus.ports import NobodyThereError, OutcomeUnknownError
from hwbus.streams import AUDIT

_CONNECT_S = 1.5
_PROBE_S = 1.0
_PORT = 4222
_NOT_FOUND = 404


@asynccontextmanager
async def connect_nats(server: str) -> AsyncIterator[Link]:
    """Connect to the NATS server at *server* (several: with commas) within two seconds.

    Raises:
        ConnectionError: nobody accepted us.
        ForbiddenError: the broker does not let us in.
        NobodyThereError: while it is used: the broker has no log of ours.
    """
    servers = server.split(",")
    await _probe(servers)
    silence()
    async with connect(servers, name="hwbus-cli", within_s=_CONNECT_S, answer_within_s=5) as wires:
        try:
            yield Link(bus=wires.bus, log=wires.log, audit=wires.log_of(AUDIT.name))
        except (ApiError, OutcomeUnknownError) as error:
            said = error if isinstance(error, ApiError) else error.__cause__
            if isinstance(said, ApiError) and said.code == _NOT_FOUND:
                # The streams are made by the control plane: where they are missing it never was.
                raise NobodyThereError(str(error)) from error
            raise OutcomeUnknownError(str(error)) from error


async def _probe(servers: list[str]) -> None:
    """Fail at once where nobody listens: the client would try again until its time is up."""
    troubles = []
    for server in servers:
        try:
            parts = urlsplit(server if "//" in server else f"nats://{server}")
            host, port = parts.hostname or "127.0.0.1", parts.port or _PORT
        except ValueError as error:
            said = without_login(server)[:80]
            raise ConnectionError(f"{said!r} is no address: {error}") from error
        try:
            async with asyncio.timeout(_PROBE_S):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError) as error:
            troubles.append(f"{host}:{port}: {str(error) or 'no answer'}")
        else:
            writer.close()
            return
    raise ConnectionError("; ".join(troubles))
