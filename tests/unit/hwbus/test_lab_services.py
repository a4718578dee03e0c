"""A service's end is recorded; it starts again only when asked."""

import asyncio
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hwbus.lab.services import Running, Service, start_on_host
from hwbus.lab.spec import ServiceSpec
from hwbus.lab.uml.command import Output
from hwbus.lab.uml.errors import LabError, NodeDownError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Noon:
    def now(self) -> datetime:
        return NOON


class Puppet:
    """A running program that ends when the test says so."""

    pid = 7

    def __init__(self, on_output: Output) -> None:
        self.say = on_output
        self.end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.signals: list[int] = []

    def signal(self, number: int, /) -> None:
        self.signals.append(number)
        if not self.end.done():
            self.end.set_result(-number)

    async def ended(self) -> int:
        return await self.end


class Stage:
    """A service whose program is the latest of its puppets."""

    def __init__(self, directory: Path, ready_when: str = "", timeout_s: float = 60) -> None:
        self.puppets: list[Puppet] = []
        spec = ServiceSpec(
            name="worker", argv=("w",), ready_when=ready_when, ready_timeout_s=timeout_s
        )
        self.service = Service(spec, "n1", self.launch, directory / "log", Noon())
        self.at_start: Callable[[Puppet], None] = lambda _: None

    async def launch(self, on_output: Output) -> Running:
        self.puppets.append(Puppet(on_output))
        self.at_start(self.puppets[-1])
        return self.puppets[-1]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z " not in stat.read_text()


def test_a_service_that_ends_is_reported_with_its_status_and_time(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Stage(tmp_path)
        assert stage.service.status().state == "new"
        await stage.service.start()
        assert (stage.service.status().state, stage.service.status().pid) == ("running", 7)
        stage.puppets[0].end.set_result(3)
        await stage.service.stop()  # nothing to do but to wait
        status = stage.service.status()
        assert (status.state, status.status, status.starts) == ("exited", 3, 1)
        assert status.ended_at == NOON.isoformat()

    asyncio.run(scene())


def test_a_killed_service_can_be_started_again_but_not_twice(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Stage(tmp_path)
        await stage.service.start()
        await stage.service.kill()
        assert stage.service.status().status == -signal.SIGKILL
        await stage.service.start()
        status = stage.service.status()
        assert (status.state, status.starts, status.status) == ("running", 2, None)
        with pytest.raises(LabError, match="worker in n1 is running already"):
            await stage.service.start()
        await stage.service.stop()
        assert stage.puppets[1].signals == [signal.SIGTERM]

    asyncio.run(scene())


def test_a_service_is_lost_with_its_node(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Stage(tmp_path)
        await stage.service.start()
        stage.puppets[0].end.set_exception(NodeDownError("n1 went down"))
        await stage.service.stop()
        assert (stage.service.status().state, stage.service.status().status) == ("lost", None)

    asyncio.run(scene())


def test_a_service_is_started_when_it_says_so_even_in_two_breaths(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Stage(tmp_path, ready_when="I am ready")

        def speak(puppet: Puppet) -> None:
            puppet.say("stdout", b"I am re")
            puppet.say("stderr", b"ady")

        stage.at_start = speak
        await asyncio.wait_for(stage.service.start(), 5)
        await stage.service.kill()
        assert (tmp_path / "log").read_bytes() == b"I am ready"

    asyncio.run(scene())


def test_a_service_that_ends_before_it_is_ready_says_why(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Stage(tmp_path, ready_when="ready")

        def fail(puppet: Puppet) -> None:
            puppet.say("stderr", b"no bus\n")
            puppet.end.set_result(1)

        stage.at_start = fail
        with pytest.raises(LabError, match=r"worker in n1 ended before it was ready.*\nno bus"):
            await stage.service.start()

    asyncio.run(scene())


def test_a_service_has_to_become_ready_in_time(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = Stage(tmp_path, ready_when="ready", timeout_s=0.01)
        with pytest.raises(LabError, match="took over 0 s before it was ready"):
            await stage.service.start()
        await stage.service.kill()

    asyncio.run(scene())


def test_a_program_of_the_host_hands_over_its_output_and_its_status(tmp_path: Path) -> None:
    async def scene() -> None:
        heard: list[bytes] = []
        program = await start_on_host(
            ("sh", "-c", "echo $WORD; exit 4"), {"WORD": "so"}, lambda _, data: heard.append(data)
        )
        assert await asyncio.wait_for(program.ended(), 10) == 4
        assert b"".join(heard) == b"so\n"
        with pytest.raises(LabError, match="no program 'no-such-program'"):
            await start_on_host(("no-such-program",), {}, lambda *_: None)

    asyncio.run(scene())


def test_what_a_program_of_the_host_leaves_behind_ends_with_it() -> None:
    async def scene() -> None:
        heard: list[bytes] = []
        program = await start_on_host(
            ("sh", "-c", "sleep 1000 & echo $!"), {}, lambda _, data: heard.append(data)
        )
        assert await asyncio.wait_for(program.ended(), 10) == 0
        left = int(b"".join(heard))
        for _ in range(500):
            if not alive(left):
                return
            await asyncio.sleep(0.01)
        pytest.fail("it outlived its service")

    asyncio.run(scene())
