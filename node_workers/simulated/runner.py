"""The Runner port on a simulated machine, with the faults of a bad day."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from node_workers.ports import Execution, ToolTimedOutError
from node_workers.runner import refuse_without_cause
from node_workers.simulated.drbd_tools import HandlerNeeded
from node_workers.simulated.faults import Fault, Faults, SimulatedCrash, Weather
from node_workers.simulated.machine import SimulatedMachine

_NO_FAULTS = Faults(seed=0)
_KILLED = -9
_REFUSED = 5
_POLL_S = 0.2


class SimulatedRunner:
    """Runs tools on *machine*. After a ``SimulatedCrash`` it is dead: make a fresh one."""

    def __init__(
        self,
        machine: SimulatedMachine,
        now: Callable[[], datetime],
        faults: Faults = _NO_FAULTS,
        *,
        latency_s: float = 0.0,
    ) -> None:
        self._machine = machine
        self._now = now
        self._weather = Weather(faults)
        self._latency_s = latency_s
        self._crash_after: int | None = None
        self._dead = False
        self.executions = 0

    def crash_after_execution(self, count: int) -> None:
        """Die right after the execution number *count* from now (1: the next) did its work."""
        self._crash_after = self.executions + count

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        """Run *argv* as ``Runner.run`` promises, or suffer a fault."""
        refuse_without_cause(argv, cause)
        if self._dead:
            raise SimulatedCrash("this worker is dead")
        fault = self._weather.next(argv[0])
        slow_s = self._weather.faults.slow_s if fault is Fault.SLOW else 0.0
        started_at = self._now()
        await asyncio.sleep(self._latency_s + slow_s)
        execution = await self._execute(argv, cause, started_at, fault, stdin)
        if execution.exit_status == 0 and not await self._acknowledged(timeout_s):
            raise ToolTimedOutError(execution, timeout_s)
        self.executions += 1
        if self.executions == self._crash_after or fault in {Fault.CRASH_AFTER, Fault.TORN}:
            self._die(f"after {argv[0]}")
        if fault is Fault.TIME_OUT:
            raise ToolTimedOutError(execution, timeout_s)
        return execution

    async def _execute(
        self,
        argv: Sequence[str],
        cause: str,
        started_at: datetime,
        fault: Fault | None,
        stdin: bytes,
    ) -> Execution:
        if fault is Fault.CRASH_BEFORE:
            self._die(f"before {argv[0]}")
        if fault is Fault.FAIL_BEFORE:
            status, stdout, stderr = _REFUSED, "", f"  {argv[0]}: Input/output error (simulated)\n"
        else:
            torn = fault is Fault.TORN
            status, stdout, stderr = await self._on_machine(argv, torn=torn, stdin=stdin)
        if fault is Fault.FAIL_AFTER:
            status, stderr = _REFUSED, f"  {argv[0]}: Failed to commit (simulated)\n"
        if fault is Fault.TIME_OUT:
            status, stdout = _KILLED, ""
        return Execution(
            argv=tuple(argv),
            exit_status=status,
            stdout=stdout,
            stderr=stderr,
            duration_ms=round((self._now() - started_at).total_seconds() * 1000, 3),
            cause=cause,
            started_at=started_at,
        )

    async def _on_machine(
        self, argv: Sequence[str], *, torn: bool, stdin: bytes
    ) -> tuple[int, str, str]:
        try:
            return self._machine.execute(argv, torn=torn, stdin=stdin)
        except HandlerNeeded as waits:
            granted = await self._machine.handler.answer(waits.question)
        return self._machine.execute(argv, torn=torn, stdin=stdin, refused=not granted)

    async def _acknowledged(self, timeout_s: float) -> bool:
        """Wait until what the last tool wrote is where it has to be; returns whether it is."""
        kernel = self._machine.kernel
        waiting, tries = kernel.waiting, round(timeout_s / _POLL_S)
        while waiting and not kernel.acknowledged(waiting):
            if tries == 0:
                return False
            tries -= 1
            await asyncio.sleep(_POLL_S)
        return True

    def _die(self, when: str) -> None:
        self._dead = True
        raise SimulatedCrash(f"crashed {when}")
