"""The worker as a process of its own, on a real broker: what it promises to whoever runs it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from hwbus.jetstream import Wires
from hwbus.ports import Call, Endpoint
from hwbus.server import Broker
from hwbus.streams import AUDIT
from schemas.audit import ExecutedRecord
from schemas.disk import Content, ReportDiskSeen
from schemas.node import ReportNodeJoined
from schemas.pool import PoolBuildWanted, PoolFormingBegan
from schemas.replica import ReplicaWanted
from tests.simulation.node.desk import Desk
from tests.simulation.node.stories import CREATED, FORMED, OP, POOL, spec, uid
from tests.support.clock import NOON
from tests.support.nats import fresh_broker, until, until_async, wires_to

MIB = 1 << 20
_EXECUTED = msgspec.json.Decoder(ExecutedRecord)
EVERYTHING = Endpoint(name="all", subject="hwbus.cmd.>", metadata={})
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Bench:
    """A broker, a desk that answers on it, and a worker's command line."""

    def __init__(self, broker: Broker, wires: Wires, desk: Desk, folder: Path) -> None:
        self.broker = broker
        self.wires = wires
        self.desk = desk
        self.folder = folder

    @asynccontextmanager
    async def worker(
        self, *more: str, **environment: str
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        argv = ["-m", "node_workers", "--node", "n1", "--nats-url", self.broker.url]
        argv += ["--state", str(self.folder), "--simulated", str(self.folder / "disks")]
        with (self.folder / "worker.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *argv, *more, stderr=log, env={**os.environ, **environment}
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def answer(self, call: Call) -> bytes:
        return await self.desk.request(call.subject, call.data, headers=call.headers, timeout_s=1)

    async def form(self) -> None:
        await until(lambda: len(self.blank()) >= 2, within_s=30)
        disks = tuple(sorted(self.blank())[:2])
        about: dict[str, Any] = {"pool": POOL, "node": "n1", "uid": uid(POOL), "disks": disks}
        await self.desk.happen(PoolFormingBegan(**about, operation=OP, deadline=NOON))
        await self.desk.happen(PoolBuildWanted(**about), operation=OP)
        await self.shown("pool", POOL, FORMED)

    def blank(self) -> set[str]:
        seen = self.desk.of(ReportDiskSeen)
        return {one.disk for one in seen if one.sighting.content is Content.BLANK}

    async def provision(self, name: str) -> None:
        wanted = ReplicaWanted(volume=name, node="n1", operation=OP, spec=spec(name, 64))
        await self.desk.happen(wanted, operation=OP, traceparent=TRACEPARENT)

    async def shown(self, kind: str, name: str, event: str) -> None:
        async def true() -> bool:
            return (await self.desk.names(kind, "n1", name))[-1:] == [event]

        await until_async(true, within_s=30)

    async def executed(self) -> list[ExecutedRecord]:
        kept = await self.wires.log_of(AUDIT.name).history("hwbus.audit.executed.n1")
        return [_EXECUTED.decode(one.data) for one in kept]


def told(folder: Path, story: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(90), fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            bench = Bench(broker, wires, Desk(wires.log), folder)
            async with wires.bus.serve("desk", "1.0.0", [EVERYTHING], bench.answer):
                await story(bench)

    asyncio.run(run())


def test_a_worker_does_what_is_wished_tells_it_and_ends_when_told_to(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        async def hear() -> bytes:
            async with bench.wires.bus.listen("hwbus.live.heartbeat.*") as calls:
                return (await anext(calls)).data

        heard = asyncio.create_task(hear())
        async with bench.worker() as process:
            await bench.form()
            await bench.provision("pg")
            await bench.shown("replica", "pg", CREATED)
            assert msgspec.json.decode(await asyncio.wait_for(heard, 10))["node"] == "n1"
            assert resident_mib(process.pid) <= 60
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 10) == 0
        (made,) = [one for one in await bench.executed() if one.argv[0] == "lvcreate"]
        assert made.correlation == OP
        assert made.cause.startswith("event:")

    told(tmp_path, story)


def test_a_worker_that_is_killed_at_work_ends_it_in_its_next_life(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        async with bench.worker():
            await bench.form()
        for number, delay_s in enumerate((0.0, 0.02, 0.05, 0.1)):
            before = len(bench.desk.of(ReportNodeJoined))
            async with bench.worker("--latency-ms", "20") as process:
                await until(lambda: len(bench.desk.of(ReportNodeJoined)) > before)  # noqa: B023
                await bench.provision(f"v{number}")
                await asyncio.sleep(delay_s)  # at whatever it is doing then
                process.kill()
        async with bench.worker():
            for number in range(4):
                await bench.shown("replica", f"v{number}", CREATED)
        made = [one.argv for one in await bench.executed() if one.argv[0] == "lvcreate"]
        assert len(made) == len(set(made)) <= 4

    told(tmp_path, story)


def test_a_worker_that_comes_before_the_control_plane_waits_for_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), fresh_broker() as broker, wires_to(broker) as wires:
            bench = Bench(broker, wires, Desk(wires.log), tmp_path)
            async with bench.worker():
                log = tmp_path / "worker.log"
                await until(lambda: "no stream HWBUS_EVENTS" in log.read_text(), within_s=30)
                await wires.ensure_streams()
                async with wires.bus.serve("desk", "1.0.0", [EVERYTHING], bench.answer):
                    await bench.form()

    asyncio.run(run())


def test_a_broker_that_was_away_finds_the_worker_waiting(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        async with bench.worker():
            await bench.form()
            await bench.broker.stop()
            await bench.broker.start()
            await until(lambda: bench.wires.connected, within_s=20)
            await bench.provision("pg")
            await bench.shown("replica", "pg", CREATED)

    told(tmp_path, story)


def test_a_trace_goes_on_from_the_commit_to_each_tool(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        file = tmp_path / "spans.jsonl"
        async with bench.worker(HWBUS_TRACE_FILE=str(file)) as process:
            await bench.form()
            await bench.provision("pg")
            await bench.shown("replica", "pg", CREATED)
            process.send_signal(signal.SIGTERM)
            await process.wait()
        spans = [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]
        (ensure,) = [one for one in spans if one["name"] == "ensure replica/pg"]
        (made,) = [one for one in spans if one["name"].startswith("lvcreate")]
        assert ensure["context"]["trace_id"] == "0x0af7651916cd43dd8448eb211c80319c"
        assert ensure["parent_id"] == "0xb7ad6b7169203331"
        assert made["parent_id"] == ensure["context"]["span_id"]
        (kept,) = [one for one in await bench.executed() if one.argv[0] == "lvcreate"]
        assert kept.traceparent.split("-")[1] == "0af7651916cd43dd8448eb211c80319c"

    told(tmp_path, story)


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / MIB
