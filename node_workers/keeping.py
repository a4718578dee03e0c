"""Every tool that runs leaves a record, on disk before anybody acts on what it said."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar

import msgspec

from hwbus import subjects
from hwbus.ports import Clock
from hwbus.telemetry import current_traceparent, tracer
from node_workers.figures import Figures
from node_workers.ports import Execution, Runner, ToolNotStartedError, ToolTimedOutError
from node_workers.store import Record
from schemas.audit import ExecutedRecord

CORRELATION: ContextVar[str] = ContextVar("correlation", default="")
_STDERR_CHARACTERS_MAX = 4096
_KILLED = -9
_NOT_STARTED = 126  # as a shell has it (XCU 2.8.2)
_LVM = ("lvm", "lv", "vg", "pv")
_NO_LVM = frozenset({"lvmdump"})
_LOOKS = ("scan:", "health:")


class KeepingRunner:
    """A runner whose every execution is handed to *keep* before its result is.

    A crash loses the record only of the tool that was running at that very instant.
    """

    def __init__(
        self,
        inner: Runner,
        keep: Callable[[Sequence[Record]], Awaitable[None]],
        *,
        node: str,
        clock: Clock,
        figures: Figures,
    ) -> None:
        self._inner = inner
        self._keep = keep
        self._node = node
        self._clock = clock
        self._figures = figures

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        """Run *argv* as ``Runner.run`` promises, and keep a record of it."""
        started_at, clock_start_s = self._clock.now(), time.monotonic()
        returned = False
        with tracer().start_as_current_span(" ".join(argv[:2])) as span:
            span.set_attribute("process.command_args", list(argv))
            span.set_attribute("hwbus.cause", cause)
            execution = Execution(
                argv=tuple(argv),
                exit_status=_KILLED,
                stdout="",
                stderr="cut off: the worker was told to end",
                duration_ms=0.0,
                cause=cause,
                started_at=started_at,
            )
            try:
                execution = await self._inner.run(
                    argv, cause=cause, timeout_s=timeout_s, stdin=stdin
                )
                returned = True
            except ToolTimedOutError as error:
                execution, returned = error.execution, True
                raise
            except ToolNotStartedError as error:
                execution = msgspec.structs.replace(
                    execution, exit_status=_NOT_STARTED, stderr=str(error)
                )
                raise
            finally:
                if not returned:
                    lasted_ms = round((time.monotonic() - clock_start_s) * 1000, 3)
                    execution = msgspec.structs.replace(execution, duration_ms=lasted_ms)
                span.set_attribute("process.exit.code", execution.exit_status)
                self._count(execution)
                await self._keep((self._record(execution),))
        return execution

    async def record(self, execution: Execution) -> None:
        """Keep the record of a tool that ran before there was anywhere to keep it."""
        self._count(execution)
        await self._keep((self._record(execution),))

    def _count(self, execution: Execution) -> None:
        tool = execution.argv[0].rpartition("/")[2]
        self._figures.count("executions_total")
        if execution.exit_status != 0:
            self._figures.count("executions_failed_total")
        if tool.startswith(_LVM) and tool not in _NO_LVM:
            self._figures.count("lvm_executions_total")

    def _record(self, execution: Execution) -> Record:
        executed = ExecutedRecord(
            at=execution.started_at,
            node=self._node,
            argv=execution.argv,
            exit_status=execution.exit_status,
            duration_ms=execution.duration_ms,
            cause=execution.cause,
            correlation=CORRELATION.get(),
            traceparent=current_traceparent(),
            stderr=execution.stderr[:_STDERR_CHARACTERS_MAX],
        )
        return Record(
            subject=subjects.audit("executed", self._node),
            data=msgspec.json.encode(executed),
            scan=execution.cause.startswith(_LOOKS),
        )
