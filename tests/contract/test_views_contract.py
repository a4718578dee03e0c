"""What the views promise on any wires: in memory, and on a real nats-server."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from hwbus.client import Client
from hwbus.identity import SystemClock
from hwbus.jetstream import Wires
from hwbus.memory import MemoryBus, MemoryLog
from hwbus.ports import Bus, EventLog, NobodyThereError, Outlet
from hwbus.streams import AUDIT
from projectors.composition import Projectors
from projectors.projector import Projector, Sources
from schemas.node import NodeCordoned
from schemas.queries import QueryAnswer
from tests.support.nats import fresh_broker, fresh_wires, wires_to
from tests.unit.projectors.stories import AuditLog, Story, put, tool, uid

WITHIN_S = 20.0


class Side:
    """One set of wires, and the stories told over it."""

    def __init__(self, events: EventLog, audit: EventLog, outlet: Outlet, bus: Bus) -> None:
        self.events = events
        self.audit = audit
        self.outlet = outlet
        self.bus = bus

    def projectors(self, path: Path) -> Projectors:
        sources = Sources(self.events, self.audit)
        return Projectors(
            path, sources=sources, outlet=self.outlet, bus=self.bus, clock=SystemClock()
        )

    async def tell(self, story: Story) -> int:
        for stored in story.events:
            await put(self.events, stored.subject, stored.data)
        for stored in story.records:
            await put(self.audit, stored.subject, stored.data)
        return await self.events.head()

    async def work(self, subject: str, asked: dict[str, object]) -> dict[str, object]:
        data = msgspec.json.encode(asked)
        answer = await self.bus.request(subject, data, headers={}, timeout_s=WITHIN_S)
        (job,) = msgspec.json.decode(answer)["items"]
        told: dict[str, object] = job
        return told

    async def ask(self, view: str, **asked: object) -> dict[str, object]:
        data = msgspec.json.encode({"wait_ms": 10_000, **asked})
        answer = await self.bus.request(f"hwbus.q.{view}", data, headers={}, timeout_s=WITHIN_S)
        msgspec.json.decode(answer, type=QueryAnswer)
        told: dict[str, object] = msgspec.json.decode(answer)
        return told


def _of(wires: Wires) -> Side:
    return Side(wires.log, wires.log_of(AUDIT.name), wires.outlet, wires.bus)


@asynccontextmanager
async def _memory() -> AsyncIterator[Side]:
    outlet = AuditLog()
    yield Side(MemoryLog(SystemClock()), outlet.log, outlet, MemoryBus())


@asynccontextmanager
async def _nats() -> AsyncIterator[Side]:
    async with fresh_wires() as wires:
        yield _of(wires)


SideOpener = Callable[[], AbstractAsyncContextManager[Side]]


@pytest.fixture(params=[_memory, _nats], ids=["memory", "nats"])
def opener(request: pytest.FixtureRequest) -> SideOpener:
    chosen: SideOpener = request.param
    return chosen


def on(opener: SideOpener, story: Callable[[Side], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), opener() as side:
            await story(side)

    asyncio.run(run())


def _names(page: dict[str, object]) -> list[str]:
    items = page["items"]
    assert isinstance(items, list)
    return [item["name"] for item in items]


async def _agrees(projector: Projector) -> None:
    assert (await projector.check()).tables == ()


def test_one_reads_ones_own_writes(opener: SideOpener, tmp_path: Path) -> None:
    async def story(side: Side) -> None:
        async with side.projectors(tmp_path / "views").running() as projector:
            seq = await side.tell(Story().node().pool().volume("pg", 1))
            page = await side.ask("volumes", min_seq=seq)
            assert (_names(page), page["seq"]) == (["pg"], seq)
            await _agrees(projector)

    on(opener, story)


def test_a_sequence_that_never_comes_is_told_as_behind(opener: SideOpener, tmp_path: Path) -> None:
    async def story(side: Side) -> None:
        async with side.projectors(tmp_path / "views").running():
            answer = await side.ask("volumes", min_seq=7, wait_ms=20)
            assert (answer["answer"], answer["seq"]) == ("behind", 0)

    on(opener, story)


def test_a_malformed_message_is_parked_told_on_the_audit_and_stops_nothing(
    opener: SideOpener, tmp_path: Path
) -> None:
    async def story(side: Side) -> None:
        told = Story().node()
        told.write("hwbus.evt.node.-.n7", b"{this is no commit")
        told.say(NodeCordoned(node="n1"))
        async with side.projectors(tmp_path / "views").running():
            seq = await side.tell(told)
            page = await side.ask("nodes", min_seq=seq, where={"state": "cordoned"})
            assert _names(page) == ["n1"]
            parked: list[object] = []
            async with asyncio.timeout(WITHIN_S):
                while not parked:
                    found = (await side.ask("audit", where={"kind": "parked"}))["items"]
                    assert isinstance(found, list)
                    parked = [item["cause"] for item in found]
            assert parked == ["message:2"]

    on(opener, story)


def test_a_projector_that_comes_back_after_a_pause_has_missed_nothing(
    opener: SideOpener, tmp_path: Path
) -> None:
    async def story(side: Side) -> None:
        first = Story().node().pool()
        async with side.projectors(tmp_path / "views").running():
            await side.ask("nodes", min_seq=await side.tell(first))
        first.events.clear()
        seq = await side.tell(Story().volume("a", 1).volume("b", 2))
        async with side.projectors(tmp_path / "views").running() as projector:
            assert _names(await side.ask("volumes", min_seq=seq)) == ["a", "b"]
            await _agrees(projector)

    on(opener, story)


def test_made_anew_the_views_answer_as_before_and_go_on(opener: SideOpener, tmp_path: Path) -> None:
    async def story(side: Side) -> None:
        told = Story().node().pool().volume("a", 1)
        told.note("hwbus.audit.executed.n1", tool(told, "event:7", uid(500_001)))
        async with side.projectors(tmp_path / "views").running() as projector:
            seq = await side.tell(told)
            await side.ask("nodes", min_seq=seq)
            before = await side.ask("usage")
            asking = asyncio.create_task(side.ask("volumes"))
            await projector.rebuild()
            assert _names(await asking) == ["a"]
            assert await side.ask("usage") == before
            seq = await side.tell(Story().volume("b", 2))
            assert _names(await side.ask("volumes", min_seq=seq)) == ["a", "b"]
            await _agrees(projector)

    on(opener, story)


def test_the_client_of_the_command_line_understands_the_answers(
    opener: SideOpener, tmp_path: Path
) -> None:
    async def story(side: Side) -> None:
        client = Client(side.bus, side.events, actor="alice", mint=lambda: uid(1))
        async with side.projectors(tmp_path / "views").running():
            seq = await side.tell(Story().node().pool().volume("pg", 1))
            page = await client.query("volumes", {"name": "pg"}, min_seq=seq)
            assert [item["name"] for item in page.items] == ["pg"]

    on(opener, story)


def test_a_restart_of_the_broker_is_survived(tmp_path: Path) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            side = _of(wires)
            async with side.projectors(tmp_path / "views").running() as projector:
                seq = await side.tell(Story().node().pool())
                assert await projector.reached(seq, within_s=WITHIN_S)
                await broker.stop()
                await broker.start()
                async with asyncio.timeout(WITHIN_S):
                    while not wires.connected:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                seq = await side.tell(Story().volume("pg", 1))
                assert await projector.reached(seq, within_s=WITHIN_S)
                await _agrees(projector)

    asyncio.run(run())


def _start(url: str, views: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "projectors", "--server", url, "--views", str(views)]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _answers(side: Side, seq: int) -> list[str]:
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return _names(await side.ask("volumes", min_seq=seq))
            except NobodyThereError:
                await asyncio.sleep(0.02)


def test_a_projector_process_that_is_killed_again_and_again_ends_with_the_same_rows(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with asyncio.timeout(90), fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            side = _of(wires)
            await side.tell(Story().node().pool(size=1 << 45))
            names: list[str] = []
            seq = 0
            for turn in range(4):
                process = _start(broker.url, tmp_path / "views")
                try:
                    assert await _answers(side, seq) == names
                    # It is killed while it works on these.
                    for number in range(turn * 20, turn * 20 + 20):
                        names.append(f"v{number:02}")
                        seq = await side.tell(Story().volume(names[-1], number + 1))
                finally:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
            async with side.projectors(tmp_path / "views").running() as projector:
                assert _names(await side.ask("volumes", min_seq=seq)) == names
                await _agrees(projector)

    asyncio.run(run())


def test_the_front_door_makes_anew_checks_serves_and_ends_when_told(
    tmp_path: Path,
) -> None:
    async def run() -> tuple[list[int], str]:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            await _of(wires).tell(Story().node().pool())
            argv = [sys.executable, "-m", "projectors", "--server", broker.url]
            argv += ["--views", str(tmp_path / "views")]
            statuses, told = [], ""
            for flag in ("--rebuild", "--check"):
                process = await asyncio.create_subprocess_exec(
                    *argv, flag, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
                out, _ = await process.communicate()
                statuses.append(process.returncode or 0)
                told = out.decode()
            serving = _start(broker.url, tmp_path / "views")
            assert await _answers(_of(wires), 4) == []
            serving.send_signal(signal.SIGTERM)
            statuses.append(await asyncio.to_thread(serving.wait))
            return statuses, told

    statuses, told = asyncio.run(run())
    assert statuses == [0, 0, 0]
    assert "'events': 4" in told


def test_the_past_is_asked_and_the_views_are_compared_over_the_bus(
    opener: SideOpener, tmp_path: Path
) -> None:
    async def story(side: Side) -> None:
        told = Story().node().pool().volume("pg", 1)
        async with side.projectors(tmp_path / "views").running():
            seq = await side.tell(told)
            await side.ask("volumes", min_seq=seq)
            before, after = await side.ask("volumes", at=4), await side.ask("volumes", at=5)
            assert (_names(before), _names(after)) == ([], ["pg"])
            moment = (await side.ask("volumes", at=seq))["at"]
            page = await side.ask("volumes", at=moment)
            assert (_names(page), page["seq"]) == (["pg"], seq)
            beyond = await side.ask("volumes", at=seq + 1)
            assert (beyond["answer"], beyond["code"]) == ("refused", "HW-H001")
            job = await side.work("hwbus.views.fsck", {})
            ended = await side.work(str(job["ask"]), {"job": job["job"], "wait_ms": 10_000})
            assert (ended["state"], ended["seq"]) == ("done", seq)
            assert "differing" not in ended or ended["differing"] == 0

    on(opener, story)
