"""Services: programs that are started, watched and, on request only, started again."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from hwbus.lab.protocol import ServiceStatus
from hwbus.lab.spec import ServiceSpec
from hwbus.lab.uml import host
from hwbus.lab.uml.command import Output
from hwbus.lab.uml.errors import LabError, NodeDownError
from hwbus.ports import Clock

_LOG_BYTES_MAX = 32 << 20
_TAIL_BYTES = 2000
_STOP_TIMEOUT_S = 15
_LAST_WORDS_TIMEOUT_S = 2


class Running(Protocol):
    """A program that runs somewhere."""

    @property
    def pid(self) -> int | None:
        """Its process id where it runs, once known."""

    def signal(self, number: int, /) -> None:
        """Signal it and all it started."""

    async def ended(self) -> int:
        """Return its status when it has ended. Raises `NodeDownError` if its machine goes."""


Launch = Callable[[Output], Awaitable[Running]]


class HostProgram:
    """A program on the host, in the lab's network; it dies with us."""

    def __init__(self, process: Process, reader: asyncio.Task[None]) -> None:
        self.pid = process.pid
        self._process = process
        self._reader = reader

    def signal(self, number: int, /) -> None:
        """Signal it and all it started that is still in its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def ended(self) -> int:
        """Return its status when it has ended; what it leaves behind is killed."""
        status = await self._process.wait()
        self.signal(signal.SIGKILL)
        # What left the process group may hold the pipe for ever; its words are not the service's.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_TIMEOUT_S):
                await self._reader
        return status


async def start_on_host(argv: tuple[str, ...], env: dict[str, str], on_output: Output) -> Running:
    """Start a program on the host. Raises `LabError` if there is none of that name."""
    if host.find(argv[0]) is None:
        raise LabError(f"there is no program {argv[0]!r} on this machine")
    # A pipe of our own: asyncio's would put off the end of the program until the pipe's end.
    receiver, sender = os.pipe()
    try:
        process = await host.start(*argv, env=env, output=sender)
    except BaseException:
        os.close(receiver)
        raise
    finally:
        os.close(sender)
    return HostProgram(process, asyncio.create_task(_read(receiver, on_output)))


async def _read(receiver: int, on_output: Output) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(receiver, "rb")
    )
    try:
        while data := await reader.read(1 << 16):
            on_output("stdout", data)
    finally:
        transport.close()


class Service:
    """One service on one machine, and the record of how it last ended."""

    def __init__(
        self, spec: ServiceSpec, node: str, launch: Launch, log: Path, clock: Clock
    ) -> None:
        self.spec = spec
        self.node = node
        self._status = ServiceStatus(name=spec.name, node=node, state="new", starts=0, log=str(log))
        self._launch = launch
        self._log = log
        self._clock = clock
        self._running: Running | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._recent = b""

    @property
    def label(self) -> str:
        """The service as people call it: its name, and its node if it has one."""
        return f"{self.spec.name} in {self.node}" if self.node else self.spec.name

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises `LabError` with the end of its log if it runs already, ends, or takes too long.
        """
        if self._watcher and not self._watcher.done():
            raise LabError(f"{self.label} is running already")
        self._ready.clear()
        self._recent = b""
        self._log.touch()
        running = self._running = await self._launch(self._take)
        self._status = replace(
            self._status,
            state="running",
            starts=self._status.starts + 1,
            status=None,
            started_at=self._clock.now().isoformat(),
            ended_at=None,
        )
        self._watcher = asyncio.create_task(self._watch(running))
        if self.spec.ready_when:
            await self._become_ready(self._watcher)

    async def stop(self) -> None:
        """Ask it to end (SIGTERM), after some patience make it (SIGKILL); ended is fine too."""
        await self._signal(signal.SIGTERM)
        try:
            await self._over(_STOP_TIMEOUT_S)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it at once (SIGKILL) with all it started; ended is fine too."""
        await self._signal(signal.SIGKILL)
        await self._over(_STOP_TIMEOUT_S)

    def status(self) -> ServiceStatus:
        """Return its status now."""
        return replace(self._status, pid=self._running.pid if self._running else None)

    async def _signal(self, number: int) -> None:
        if self._running and self._watcher and not self._watcher.done():
            with contextlib.suppress(NodeDownError):  # then it has ended with its node
                self._running.signal(number)

    async def _over(self, timeout_s: float) -> None:
        if self._watcher:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._watcher)

    async def _become_ready(self, watcher: asyncio.Task[None]) -> None:
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait(
            (ready, watcher),
            timeout=self.spec.ready_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        ready.cancel()
        if not self._ready.is_set():
            how = "ended" if watcher.done() else f"took over {self.spec.ready_timeout_s:.0f} s"
            tail = self._log.read_text(errors="replace")[-_TAIL_BYTES:].strip()
            raise LabError(f"{self.label} {how} before it was ready; its log ends:\n{tail}")

    async def _watch(self, running: Running) -> None:
        status: int | None = None
        with contextlib.suppress(NodeDownError):
            status = await running.ended()
        self._status = replace(
            self._status,
            state="lost" if status is None else "exited",
            status=status,
            ended_at=self._clock.now().isoformat(),
        )

    def _take(self, _stream: str, data: bytes) -> None:
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES_MAX:
            self._log.replace(f"{self._log}.1")
        with self._log.open("ab") as log:
            log.write(data)
        if self.spec.ready_when and not self._ready.is_set():
            wanted = self.spec.ready_when.encode()
            self._recent = (self._recent + data)[-len(data) - len(wanted) :]
            if wanted in self._recent:
                self._ready.set()
