"""Real processes, each in a group of its own so that none of its children outlives it."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import structlog

from node_workers.ports import (
    Execution,
    Runner,
    ToolNotStartedError,
    ToolStuckError,
    ToolTimedOutError,
)

_LOG = structlog.get_logger("node_workers.runner")
NO_SUCH_TOOL = 127
_TOOL_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_TERMINATE_TIMEOUT_S = 5.0
_REAP_TIMEOUT_S = 10.0


class RealRunner:
    """Runs tools on this machine, in the C locale; *environment* is what they inherit."""

    def __init__(self, now: Callable[[], datetime], environment: Mapping[str, str]) -> None:
        self._now = now
        # A service's PATH often lacks the sbin folders in which every tool of ours lives.
        path = ":".join(filter(None, (environment.get("PATH"), _TOOL_FOLDERS)))
        self._environment = {
            **environment,
            "PATH": path,
            "LC_ALL": "C",
            "LVM_SUPPRESS_FD_WARNINGS": "1",
        }
        self._stuck: dict[tuple[str, ...], int] = {}

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        """Run *argv* as ``Runner.run`` promises."""
        refuse_without_cause(argv, cause)
        if (pid := self._stuck.get(tuple(argv))) is not None:
            # It would hang as well: each look at a disk that hangs would leave one more behind.
            raise ToolNotStartedError.after_stuck(argv[0], pid)
        started_at, clock_start_s = self._now(), time.monotonic()

        def execution(status: int, stdout: bytes, stderr: bytes) -> Execution:
            return Execution(
                argv=tuple(argv),
                exit_status=status,
                stdout=stdout.decode(errors="replace"),
                stderr=stderr.decode(errors="replace"),
                duration_ms=round((time.monotonic() - clock_start_s) * 1000, 3),
                cause=cause,
                started_at=started_at,
            )

        try:
            process = await self._start(argv)
        except (FileNotFoundError, PermissionError) as error:
            return execution(NO_SUCH_TOOL, b"", str(error).encode())
        except OSError as error:
            # No memory, no process or no file is left: the machine is not as it must be.
            raise ToolNotStartedError(argv[0], str(error)) from error
        talk = asyncio.ensure_future(process.communicate(stdin))
        try:
            done, _ = await asyncio.wait((talk,), timeout=timeout_s)
        except asyncio.CancelledError:
            await self._end(argv, process, talk)
            raise
        if not done:
            left = await self._end(argv, process, talk)
            if left is None:
                survived = execution(-signal.SIGKILL, b"", b"it survived SIGKILL")
                raise ToolStuckError(survived, timeout_s, process.pid)
            raise ToolTimedOutError(
                execution(process.returncode or -signal.SIGKILL, *left), timeout_s
            )
        return execution(process.returncode or 0, *talk.result())

    async def _start(self, argv: Sequence[str]) -> asyncio.subprocess.Process:
        # asyncio, cancelled half way through a start, kills the child alone and then waits for
        # the pipes that the child's children still hold: so a start is let through first.
        starting = asyncio.ensure_future(self._spawn(argv))
        try:
            await asyncio.wait((starting,))
        except asyncio.CancelledError:
            await asyncio.wait((starting,))
            if starting.exception() is None:
                process = starting.result()
                await self._end(argv, process, asyncio.ensure_future(process.communicate()))
            raise
        return starting.result()

    async def _end(
        self,
        argv: Sequence[str],
        process: asyncio.subprocess.Process,
        talk: asyncio.Future[tuple[bytes, bytes]],
    ) -> tuple[bytes, bytes] | None:
        """End the process as ``_end_group`` does, and know of it while it cannot be ended."""
        left = await _end_group(process, talk)
        if left is not None:
            return left
        _LOG.error("a tool cannot be killed: it hangs in the kernel", tool=argv[0], pid=process.pid)
        # One that ended itself left its output to a child that went its own way: it may run again.
        if process.returncode is None:
            key = tuple(argv)
            self._stuck[key] = process.pid
            talk.add_done_callback(lambda _: self._stuck.pop(key, None))
        return None

    async def _spawn(self, argv: Sequence[str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            process_group=0,
            close_fds=True,
        )


class RecordingRunner:
    """Tells *on_execution* of every execution of another runner, killed ones included."""

    def __init__(
        self,
        inner: Runner,
        on_execution: Callable[[Execution], None],
        now: Callable[[], datetime],
    ) -> None:
        self._inner = inner
        self._on_execution = on_execution
        self._now = now

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        """Run *argv* as ``Runner.run`` promises, and tell."""
        started_at, clock_start_s = self._now(), time.monotonic()
        try:
            execution = await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        except ToolTimedOutError as error:
            self._on_execution(error.execution)
            raise
        except asyncio.CancelledError:
            cut_short = Execution(
                argv=tuple(argv),
                exit_status=-signal.SIGKILL,
                stdout="",
                stderr="killed: the operation was cancelled",
                duration_ms=round((time.monotonic() - clock_start_s) * 1000, 3),
                cause=cause,
                started_at=started_at,
            )
            self._on_execution(cut_short)
            raise
        self._on_execution(execution)
        return execution


def refuse_without_cause(argv: Sequence[str], cause: str) -> None:
    """Raise ``ValueError`` for an execution that nobody would be able to explain later."""
    if not argv:
        raise ValueError("no tool was named")
    if not cause.strip():
        raise ValueError(f"no tool runs without a cause: {argv[0]}")


async def _end_group(
    process: asyncio.subprocess.Process, talk: asyncio.Future[tuple[bytes, bytes]]
) -> tuple[bytes, bytes] | None:
    """End the process and all it started; return what it had written once all is reaped.

    None: it hangs in the kernel, which no signal ends. Whoever waited for it must not wait on.

    Politely first: LVM holds SIGTERM back while devices are suspended, and dying there would
    leave them so.
    """
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, ending)
        timeout_s = _TERMINATE_TIMEOUT_S if ending == signal.SIGTERM else _REAP_TIMEOUT_S
        done, _ = await asyncio.wait((talk,), timeout=timeout_s)
        if done:
            return talk.result()
    return None
