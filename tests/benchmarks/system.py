"""The system under measure: a broker, and the real control plane as a process of its own."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hwbus.jetstream import Wires, connect
from hwbus.ports import NobodyThereError, OutcomeUnknownError
from hwbus.server import Broker, ServerSettings
from tests.support.nats import a_store, fresh_broker

ROOT = Path(__file__).parents[2]
_READY_WITHIN_S = 120.0
_LOOK_S = 0.02
_GLANCE_S = 0.2
_QUIET_CORES = 0.5


class Plane:
    """A running ``python -m hwbus.controller``."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, ready_s: float) -> None:
        self.process = process
        self.log = log
        self.ready_s = ready_s

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid


@asynccontextmanager
async def a_broker(*, sync_always: bool) -> AsyncIterator[Broker]:
    """A fresh broker, as the embedded mode runs it; *sync_always* false syncs lazily."""
    settings = ServerSettings(store=Path("/replaced"), sync_always=sync_always)
    async with fresh_broker(settings) as broker:
        yield broker


@asynccontextmanager
async def wires_of(broker: Broker, name: str = "bench") -> AsyncIterator[Wires]:
    """A connection of ours."""
    async with connect(broker.url, name=name) as wires:
        yield wires


@asynccontextmanager
async def control_plane(
    broker: Broker, wires: Wires, state: Path | None = None
) -> AsyncIterator[Plane]:
    """The control plane, ready; it is ended, or was killed, when the context is left."""
    with a_store() as own:
        plane = await start(broker, wires, state or own)
        try:
            yield plane
        finally:
            await end(plane.process)


async def start(broker: Broker, wires: Wires, state: Path) -> Plane:
    """Start a control plane and wait until it decides commands and its views can be asked."""
    log = state / "controller.log"
    argv = [sys.executable, "-P", "-m", "hwbus.controller"]
    argv += ["--nats-url", broker.url, "--state", str(state)]
    began = time.monotonic()
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    try:
        await _answering(wires, process, log)
    except BaseException:
        await end(process)
        raise
    return Plane(process, log, time.monotonic() - began)


async def _answering(wires: Wires, process: asyncio.subprocess.Process, log: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.returncode is not None:
            break
        try:
            # An unknown word is refused by whoever is ready to decide known ones.
            await wires.bus.request("hwbus.cmd.node.greet", b"{}", headers={}, timeout_s=2)
            if not await _seen_by_views(wires):
                continue
        except (NobodyThereError, OutcomeUnknownError):
            await asyncio.sleep(_LOOK_S)
            continue
        return
    raise RuntimeError(f"the control plane is not ready:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text()[-2000:]


async def _seen_by_views(wires: Wires) -> bool:
    """Say whether the views have seen all there is now; waits for it a little."""
    query = b'{"limit":1,"wait_ms":5000,"min_seq":%d}' % await wires.log.head()
    answer = await wires.bus.request("hwbus.q.nodes", query, headers={}, timeout_s=10)
    return b'"answer":"page"' in answer


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process that we started, in order if it can."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def quiet(within_s: float = 2.0) -> float:
    """Wait a while for others to leave the machine alone; returns how many cores they use."""
    deadline = time.monotonic() + within_s
    while True:
        before, began = _busy_s(), time.monotonic()
        await asyncio.sleep(_GLANCE_S)
        busy = (_busy_s() - before) / (time.monotonic() - began)
        if busy < _QUIET_CORES or time.monotonic() > deadline:
            return busy


def _busy_s() -> float:
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> tuple[float, float]:
    """Return (RSS, PSS) of a process: what it has in memory, and its own share of that."""
    rows = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    return tuple(int(rows[name].split()[0]) / 1024 for name in ("Rss", "Pss"))  # type: ignore[return-value]
