"""Labs for tests: real kernels, started once a session and shared by all who want the same.

The mark `lab` keeps a test from running where `hwbus.lab.requirements.why_not()` has a reason.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hwbus.lab.client import LabClient, up
from hwbus.lab.spec import LabSpec, PortSpec, ServiceSpec, uniform
from hwbus.lab.workspace import Workspace
from tests.support.house import EXCHANGED_LABS, NODES, SERVICES, House, Scene, playing
from tests.support.lab_bench import LabBench


class LabFactory:
    """Gives out labs; the same wish twice is the same lab, with all its nodes up."""

    def __init__(self) -> None:
        self._labs: dict[bytes, tuple[LabClient, Workspace]] = {}

    def __call__(
        self,
        nodes: int = 3,
        disks: int = 3,
        disk_size: str = "20G",
        services: Sequence[ServiceSpec] = (),
        ports: Sequence[PortSpec] = (),
    ) -> LabClient:
        return self.of(uniform(nodes, disks, disk_size, services=services, ports=ports))

    def of(self, spec: LabSpec) -> LabClient:
        key = repr(spec).encode()
        if key not in self._labs:
            workspace = Workspace()
            try:
                lab = asyncio.run(up(spec, workspace.path, owner_pid=os.getpid()))
            except BaseException:
                workspace.close()
                raise
            self._labs[key] = (lab, workspace)
        lab = self._labs[key][0]
        asyncio.run(_mend(lab))
        return lab

    def throw_away(self, lab: LabClient) -> None:
        """End a lab in which a test failed: the next test shall not pay for what this one left."""
        for key in [key for key, (mine, _) in self._labs.items() if mine is lab]:
            self._end(key)

    def close(self) -> None:
        for key in list(self._labs):
            self._end(key)

    def _end(self, key: bytes) -> None:
        lab, workspace = self._labs.pop(key)
        asyncio.run(lab.down())
        workspace.close()


async def _mend(lab: LabClient) -> None:
    """Switch on what an earlier test has left off."""
    for node in (await lab.status()).nodes:
        if node.frozen:
            await lab.thaw(node.name)
        elif not node.running:
            await lab.boot(node.name)


@pytest.fixture(scope="session")
def lab() -> Iterator[LabFactory]:
    """`lab(nodes=3, disks=3, disk_size="20G", services=...)` is a running lab."""
    factory = LabFactory()
    yield factory
    factory.close()


@pytest.fixture
def play(lab: LabFactory, request: pytest.FixtureRequest) -> Callable[[Scene], None]:
    """`play(scene)` runs a scene in the lab with hwbus in it; its nodes have one disk of 20 GiB.

    A lab in which not all is well before the scene is exchanged for a new one, and that is told at
    the end of the session: it is no fault of this test, and must not be forgotten.
    """

    def played(scene: Scene) -> None:
        try:
            _play(_see_that_all_is_well)
        except AssertionError as error:
            notes = "; ".join(getattr(error, "__notes__", ()))
            found = f"before {request.node.nodeid}: {error}; {notes}"
            request.config.stash.setdefault(EXCHANGED_LABS, []).append(found)
        _play(scene)

    def _play(scene: Scene) -> None:
        machines = lab(nodes=3, disks=1, disk_size="20G", services=SERVICES)
        try:
            playing(machines)(scene)
        except BaseException:
            lab.throw_away(machines)
            raise

    return played


async def _see_that_all_is_well(house: House) -> None:
    await house.ready(*NODES)


@pytest.fixture(scope="module")
def machine(lab: LabFactory) -> Iterator[LabBench]:
    """A node without hwbus, for the storage contract."""
    machine = LabBench(lab(nodes=2, disks=4, disk_size="1G"))
    yield machine
    asyncio.run(machine.clean())


@pytest.fixture
def bench(machine: LabBench) -> LabBench:
    """`machine` with blank disks, and nothing else on it that a test has left."""
    asyncio.run(machine.clean())
    return machine


@pytest.fixture
def lab_directory() -> Iterator[Path]:
    """A directory for a lab that the test brings up, and down, itself."""
    workspace = Workspace()
    yield workspace.path
    workspace.close()


_numbers = itertools.count(1)


@pytest.fixture
def unique() -> Callable[[str], str]:
    """`unique("pool")` is a name that no other test of the session uses in a shared lab."""
    return lambda kind: f"{kind}-{next(_numbers)}"
