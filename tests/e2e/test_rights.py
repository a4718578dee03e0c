"""The rights that we ship are enough for our programs, each as the user it is meant to be."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hwbus.cli.exits import Exit
from hwbus.controller.__main__ import Settings, control_plane
from hwbus.server import Broker
from tests.support.command_line import typed
from tests.support.nats import until, until_async
from tests.support.users import SECRETS, a_broker_with_users, url_of


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)


@asynccontextmanager
async def hwbus_on(broker: Broker, home: Path) -> AsyncIterator[None]:
    """A control plane and a node, each with its own login."""
    stop = asyncio.Event()
    given = Settings(nats_url=url_of(broker, "controller"), state=home / "c", http="", replicas=1)
    async with control_plane(given) as plane:
        running = asyncio.create_task(plane.run(stop))
        await until(lambda: not plane.unready())
        try:
            async with a_node(url_of(broker, "node"), home):
                yield
        finally:
            stop.set()
            await running


@asynccontextmanager
async def a_node(url: str, home: Path) -> AsyncIterator[None]:
    argv = ("--node", "n1", "--nats-url", url, "--state", str(home / "n1"))
    with (home / "n1.log").open("wb") as log:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "node_workers", *argv),
            *("--simulated", str(home / "machine"), "--disks", "1"),
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            worker.terminate()
            await worker.wait()


async def said(url: str, home: Path, *argv: str) -> tuple[int, str]:
    code, out, err = await asyncio.to_thread(typed, *argv, home=home, server=url)
    return code, out + err


def test_each_program_and_person_does_its_work_with_the_login_it_is_given(tmp_path: Path) -> None:
    async def tale(broker: Broker) -> None:
        operator, viewer = url_of(broker, "operator"), url_of(broker, "viewer")

        async def disks() -> list[str]:
            _, out = await said(viewer, tmp_path, "disk", "ls", "--free", "-o", "name")
            return [line.rpartition("/")[2] for line in out.splitlines()]

        async def found() -> bool:
            return len(await disks()) == 1

        await until_async(found)
        (disk,) = await disks()
        pool = ("pool", "create", "fast", "--node", "n1", "--disk", disk)
        volume = ("volume", "create", "pg", "1GiB", "--pool", "fast", "--node", "n1")
        for argv in (pool, volume):
            code, out = await said(operator, tmp_path, *argv, "--wait")
            assert (code, "completed" in out) == (Exit.OK, True), out
        assert (await said(viewer, tmp_path, "volume", "ls", "-o", "name"))[1] == "volume/pg\n"
        code, out = await said(viewer, tmp_path, "volume", "rm", "pg", "--yes")
        assert (code, "not permitted" in out) == (Exit.FORBIDDEN, True), out
        assert "nothing is in limbo" in (await said(operator, tmp_path, "doctor", "--log"))[1]

    async def play() -> None:
        async with a_broker_with_users() as broker, hwbus_on(broker, tmp_path):
            await tale(broker)
            told = (tmp_path / "n1.log").read_text() + (await said_of_doctor(broker, tmp_path))
            assert "secret-of-" not in told

    asyncio.run(play())


async def said_of_doctor(broker: Broker, home: Path) -> str:
    return (await said(url_of(broker, "operator"), home, "doctor"))[1]
