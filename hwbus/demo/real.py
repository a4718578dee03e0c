"""The story on real kernels: the services of ``hwbus lab up``, and a disk somebody has used."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from hwbus.cli.lab import spec
from hwbus.demo.place import DISK_BYTES, DISKS, FOREIGN_DISK, FOREIGN_NODE, NODES, PlaceError, Ran
from hwbus.lab.client import LabClient, up
from hwbus.lab.evidence import evidence
from hwbus.lab.spec import LabSpec, ServiceSpec
from hwbus.lab.uml.disks import LETTERS
from hwbus.lab.uml.errors import LabError
from hwbus.lab.workspace import Workspace

_WORKER = "worker"
_RUN_S = 60.0
_FOREIGN = f"/dev/ubd{LETTERS[FOREIGN_DISK]}"
# A service before the worker, so that the filesystem is there when the worker looks first.
_SOMEBODY = ServiceSpec(
    name="somebody",
    argv=(
        *("sh", "-ec"),
        f"if [ {{node}} = {FOREIGN_NODE} ]; then mkfs.ext4 -q {_FOREIGN}; fi; echo was here",
    ),
    in_nodes=True,
    ready_when="was here",
)


class RealPlace:
    """Three User Mode Linux kernels; they end with this process, however it ends."""

    what = "three nodes with kernels of their own (User Mode Linux), disk images, real LVM"
    measures = True

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._workspace: Workspace | None = None
        self._lab: LabClient | None = None

    @property
    def nats_url(self) -> str:
        """Where the bus is."""
        return self._running.nats_url

    @property
    def home(self) -> Path:
        """A directory in the lab's."""
        if self._workspace is None:
            raise PlaceError("the lab is not up")
        return self._workspace.path / "home"

    async def run(self, node: str, argv: Sequence[str]) -> Ran:
        """Run a tool in a node. Raises ``PlaceError`` if the node or the lab is gone."""
        async with _obeying():
            result = await self._running.exec(node, *argv, timeout_s=_RUN_S, check=False)
        return Ran(status=result.status, stdout=result.stdout, stderr=result.stderr)

    async def by_hand(self, node: str, commands: Sequence[Sequence[str]]) -> list[Ran]:
        """Run tools in a node until one fails."""
        results = []
        for argv in commands:
            results.append(await self.run(node, argv))
            if results[-1].status:
                break
        return results

    async def kill_worker(self, node: str) -> None:
        """SIGKILL the worker of a node and all it started."""
        async with _obeying():
            await self._running.service_kill(_WORKER, node)

    async def start_worker(self, node: str) -> None:
        """Start the worker of a node."""
        async with _obeying():
            await self._running.service_start(_WORKER, node)

    async def cut_power(self, node: str) -> None:
        """Kill the node's kernel."""
        async with _obeying():
            await self._running.kill(node)

    async def boot(self, node: str) -> None:
        """Boot it again."""
        async with _obeying():
            await self._running.boot(node)

    async def evidence(self) -> str:
        """Return the ends of the logs, and what each node has to say."""
        async with _obeying():
            return await evidence(self._running)

    def left_behind(self) -> str:
        """Return the directory if it is still there."""
        if self._workspace is None or not self._workspace.path.exists():
            return ""
        return str(self._workspace.path)

    async def __aenter__(self) -> Self:
        """Boot the nodes and start everything. Raises ``PlaceError``; then nothing is left."""
        self._workspace = Workspace()
        try:
            async with _obeying():
                self._lab = await up(
                    _plan(), self._workspace.path, progress=self._progress, owner_pid=os.getpid()
                )
        except BaseException:
            self._workspace.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the lab and remove its directory."""
        if self._lab is None or self._workspace is None:
            return
        try:
            async with _obeying():
                await self._lab.down()
        finally:
            self._workspace.close()

    @property
    def _running(self) -> LabClient:
        if self._lab is None:
            raise PlaceError("the lab is not up")
        return self._lab


def _plan() -> LabSpec:
    plan = spec(len(NODES), DISKS, f"{DISK_BYTES >> 20}M")
    return msgspec.structs.replace(plan, services=(_SOMEBODY, *plan.services))


@asynccontextmanager
async def _obeying() -> AsyncIterator[None]:
    try:
        yield
    except (LabError, TimeoutError) as error:
        raise PlaceError(str(error) or "the lab did not answer in time") from error
