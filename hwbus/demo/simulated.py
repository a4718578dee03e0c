"""The same story without root: an embedded broker, a control plane, workers on simulated disks."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hwbus.demo.hands import Hands
from hwbus.demo.place import DISK_BYTES, DISKS, FOREIGN_DISK, FOREIGN_NODE, NODES, PlaceError, Ran
from hwbus.embedded.child import python
from hwbus.lab.evidence import tail
from hwbus.lab.workspace import Workspace
from hwbus.server import Broker, BrokerError, ServerSettings
from node_workers.simulated.machine import SimulatedMachine
from node_workers.simulated.model import Content

_ROOT = Path(__file__).resolve().parents[2]
_STOP_S = 10.0
# Slow enough that a worker can be caught in the middle of something.
_LATENCY_MS = 60
# Its story is over before the usual minute is.
_SIGN_EVERY_S = 10


class SimulatedPlace:
    """Processes on this machine; they end with this process, however it ends."""

    what = "three nodes whose disks, LVM and limits are simulated; everything else is real"
    measures = False

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._workspace: Workspace | None = None
        self._broker: Broker | None = None
        self._control: Process | None = None
        self._workers: dict[str, Process] = {}

    @property
    def nats_url(self) -> str:
        """Where the bus is."""
        if self._broker is None:
            raise PlaceError("the broker is not up")
        return self._broker.url

    @property
    def home(self) -> Path:
        """A directory beside those of the nodes."""
        return self._path / "home"

    async def run(self, node: str, argv: Sequence[str]) -> Ran:
        """Look at a node's simulated machine as its worker has written it down."""
        return Hands(self._machine(node)).run(argv)

    async def by_hand(self, node: str, commands: Sequence[Sequence[str]]) -> list[Ran]:
        """Change the machine while its worker is away: it has the machine in its memory."""
        await self._end(self._workers.pop(node, None), signal.SIGTERM)
        hands = Hands(self._machine(node))
        results = []
        for argv in commands:
            results.append(hands.run(argv))
            if results[-1].status:
                break
        await self.start_worker(node)
        return results

    async def kill_worker(self, node: str) -> None:
        """SIGKILL the worker of a node."""
        await self._end(self._workers.pop(node, None), signal.SIGKILL)

    async def start_worker(self, node: str) -> None:
        """Start the worker of a node."""
        self._workers[node] = await self._start(
            f"worker-{node}",
            *("node_workers", "--node", node, "--nats-url", self.nats_url),
            *("--state", str(self._path / node), "--simulated", str(self._disks(node))),
            *("--latency-ms", str(_LATENCY_MS)),
        )

    async def cut_power(self, node: str) -> None:
        """Refuse it: a simulated node has nothing that could be lost with its power."""
        raise PlaceError(f"{node} is simulated: it has no power to be cut")

    async def boot(self, node: str) -> None:
        """Refuse it, as its power is never cut."""
        raise PlaceError(f"{node} is simulated, and always on")

    async def evidence(self) -> str:
        """Return the ends of the logs."""
        return "\n".join(f"--- {log.name}\n{tail(log)}" for log in self._path.glob("*.log"))

    def left_behind(self) -> str:
        """Return the directory if it is still there."""
        return str(self._path) if self._workspace and self._path.exists() else ""

    async def __aenter__(self) -> Self:
        """Start everything. Raises ``PlaceError``; then nothing is left."""
        self._workspace = Workspace()
        try:
            await self._open()
        except BaseException as error:
            await self._close()
            if isinstance(error, BrokerError | OSError):
                raise PlaceError(str(error)) from error
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything and remove the directory."""
        await self._close()

    async def _open(self) -> None:
        for node in NODES:
            self._furnish(node)
        self._broker = Broker(ServerSettings(store=self._path / "nats", name="hwbus-demo"))
        await self._broker.start()
        self._progress("nats started")
        self._control = await self._start(
            "controller",
            *("hwbus.controller", "--nats-url", self.nats_url),
            *("--state", str(self._path / "control"), "--sign-every", str(_SIGN_EVERY_S)),
        )
        for node in NODES:
            await self.start_worker(node)
        self._progress("controller and workers started")

    async def _close(self) -> None:
        """Hands first, then the head, then the wires."""
        workers, self._workers = list(self._workers.values()), {}
        await asyncio.gather(*(self._end(worker, signal.SIGTERM) for worker in workers))
        await self._end(self._control, signal.SIGTERM)
        if self._broker is not None:
            await self._broker.stop()
        if self._workspace is not None:
            self._workspace.close()

    def _furnish(self, node: str) -> None:
        machine = self._machine(node)
        if node == FOREIGN_NODE:
            disk = machine.state.disks[f"{node}-{'bcdefgh'[FOREIGN_DISK]}"]
            machine.state.contents[disk.key] = Content(kind="ext4", data="somebody's photographs")
            machine.save()

    def _machine(self, node: str) -> SimulatedMachine:
        return SimulatedMachine.in_folder(self._disks(node), node, [DISK_BYTES] * DISKS)

    def _disks(self, node: str) -> Path:
        return self._path / node / "disks"

    @property
    def _path(self) -> Path:
        if self._workspace is None:
            raise PlaceError("nothing was started")
        return self._workspace.path

    async def _start(self, name: str, *module: str) -> Process:
        argv = (*python("hwbus.embedded.leash", str(os.getpid())), *python(*module))
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        with (self._path / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )

    async def _end(self, process: Process | None, number: signal.Signals) -> None:
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            sys.stderr.write(f"process {process.pid} did not end when asked and is killed\n")
            process.kill()
            await process.wait()
