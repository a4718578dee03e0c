"""One question to a lab at a time: a connection, a request, its answers."""

import asyncio
import contextlib
from asyncio import StreamReader
from collections.abc import AsyncIterator
from pathlib import Path
from types import NoneType
from typing import TypeVar

import msgspec

from hwbus.lab.protocol import LINE_BYTES_MAX, SOCKET, AnyAnswer, AnyRequest, Done, Refused
from hwbus.lab.uml.errors import ConsoleError, LabError, NodeDownError
from hwbus.lab.workspace import DAEMON_LOCK, held

T = TypeVar("T")

_ERRORS = {"NodeDownError": NodeDownError, "ConsoleError": ConsoleError, "LabError": LabError}


class LabNotRunningError(LabError):
    """There is no lab in that directory, or its daemon has died: bring it up."""


class Line:
    """The way to the daemon of the lab in a directory.

    Everything raises `LabNotRunningError` if there is none, and what the lab refuses with.
    """

    def __init__(self, state: Path) -> None:
        self._state = state

    async def tell(self, request: AnyRequest, *, timeout_s: float = 120) -> None:
        """Have something done."""
        await self.ask(request, NoneType, timeout_s=timeout_s)

    async def ask(self, request: AnyRequest, answer_type: type[T], *, timeout_s: float = 120) -> T:
        """Have something done that is answered with an `answer_type`."""
        async with asyncio.timeout(timeout_s), self.converse(request) as answers:
            async for answer in answers:
                if isinstance(answer, Done):
                    return msgspec.json.decode(answer.value, type=answer_type)
        raise self.not_running()

    @contextlib.asynccontextmanager
    async def converse(self, request: AnyRequest) -> AsyncIterator[AsyncIterator[AnyAnswer]]:
        """Make a request and hear all answers; leaving early hangs up."""
        try:
            reader, writer = await asyncio.open_unix_connection(
                self._state / SOCKET, limit=LINE_BYTES_MAX
            )
        except (FileNotFoundError, ConnectionRefusedError):
            raise self.not_running() from None
        try:
            writer.write(msgspec.json.encode(request) + b"\n")
            await writer.drain()
            yield _answers(reader)
        except ConnectionError:
            raise self.not_running() from None
        finally:
            writer.transport.abort()

    def not_running(self) -> LabNotRunningError:
        """Return the error that says what is the matter with the lab."""
        if held(self._state / DAEMON_LOCK):
            return LabNotRunningError(f"the lab in {self._state} is just coming up or going down")
        if (self._state / SOCKET).exists():
            return LabNotRunningError(
                f"the lab in {self._state} is not running: its daemon has died; bring it up again"
            )
        return LabNotRunningError(f"no lab is running in {self._state}")


async def _answers(reader: StreamReader) -> AsyncIterator[AnyAnswer]:
    async for line in reader:
        answer = msgspec.json.decode(line, type=AnyAnswer)
        if isinstance(answer, Refused):
            raise _ERRORS[answer.error](answer.message)
        yield answer
