"""One process that is kept running: started on a leash, started again when it dies, stopped."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from hwbus.embedded.layout import Process

_LOG = structlog.get_logger("hwbus.embedded")
_LOG_BYTES_MAX = 8 << 20
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 30.0
_STEADY_S = 60.0


def python(*module_and_arguments: str) -> tuple[str, ...]:
    """Return the command line of one of our own modules; nothing is imported from where we are."""
    return (sys.executable, "-P", "-m", *module_and_arguments)


class Child:
    """A process and its keeper."""

    def __init__(
        self, name: str, argv: Sequence[str], log: Path, changed: Callable[[], None]
    ) -> None:
        self.name = name
        self._argv = tuple(argv)
        self._log = log
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._starts = 0
        self._last_exit: int | None = None
        self._stopping = False

    @property
    def process(self) -> Process:
        """How it is."""
        alive = self._process is not None and self._process.returncode is None
        return Process(
            name=self.name,
            pid=self._process.pid if self._process is not None and alive else None,
            starts=self._starts,
            log=str(self._log),
            last_exit=self._last_exit,
        )

    async def start(self) -> None:
        """Start it, and keep it running from now on."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """Ask it to end, make it after *grace_s*, and return when it has ended."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await process.wait()
        except TimeoutError:
            _LOG.warning("does not end when asked and is killed", process=self.name)
            process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES_MAX:
            self._log.replace(f"{self._log}.1")
        argv = (*python("hwbus.embedded.leash", str(os.getpid())), *self._argv)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._starts += 1
        self._changed()

    async def _keep(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while not self._stopping and self._process is not None:
            began = time.monotonic()
            self._last_exit = await self._process.wait()
            self._changed()
            if time.monotonic() - began > _STEADY_S:
                backoff_s = _BACKOFF_FIRST_S
            _LOG.error(
                "ended by itself and is started again",
                process=self.name,
                status=self._last_exit,
                after_s=backoff_s,
            )
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)
            try:
                await self._spawn()
            except OSError as error:
                _LOG.error("cannot be started", process=self.name, error=str(error))
