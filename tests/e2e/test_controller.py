"""The control plane as a whole on a real broker: what comes in, what is kept, what is watched."""

import asyncio
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from hwbus.asking import ACTOR, COMMAND_ID, Asked
from hwbus.client import Client
from hwbus.controller import watch
from hwbus.controller.__main__ import ControlPlane, Settings, control_plane
from hwbus.identity import Mint
from hwbus.jetstream import Wires
from hwbus.ports import OutcomeUnknownError
from hwbus.streams import AUDIT, SUBMIT
from node_workers.figures import Figures
from node_workers.monitor import WorkerFigures
from schemas.answers import Accepted, Refused
from schemas.audit import AuditRecord, DecidedRecord, RefusedRecord
from schemas.disk import ClaimDisk, Health, ReportDiskHealth, ReportDiskSeen
from schemas.node import CordonNode, ReportNodeJoined
from schemas.policy import PolicyKind, PolicySpec, SetPolicy
from schemas.refusals import Refusal
from tests.support.alarms import figures_in, figures_named
from tests.support.limbo import story
from tests.support.nats import fresh_broker, wires_to
from tests.support.words import sighting


class House:
    """A control plane that runs, and a client of it."""

    def __init__(self, plane: ControlPlane, wires: Wires, http: str) -> None:
        self.plane = plane
        self.wires = wires
        self.http = http
        self.client = Client(wires.bus, wires.log, actor="alice", mint=Mint())

    async def until(self, true: Callable[[], Awaitable[bool]], within_s: float = 30) -> None:
        async with asyncio.timeout(within_s):
            while not await true():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def audit(self) -> list[AuditRecord]:
        log = self.wires.log_of(AUDIT.name)
        stored = [await log.get(seq) for seq in range(1, await log.head() + 1)]
        decoder: msgspec.json.Decoder[AuditRecord] = msgspec.json.Decoder(AuditRecord)
        return [decoder.decode(one.data) for one in stored if one is not None]

    async def outcomes(self) -> dict[str, DecidedRecord | RefusedRecord]:
        """What became of each command that is on the audit, by its id."""
        records = [r for r in await self.audit() if isinstance(r, DecidedRecord | RefusedRecord)]
        return {record.command: record for record in records}

    async def has(self, *names: str) -> bool:
        """Say whether the figures of these names have a value by now."""
        _, page = await self.get("/metrics")
        return all(f"\n{name}{{" in page or f"\n{name} " in page for name in names)

    async def get(self, path: str) -> tuple[int, str]:
        def fetch() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://{self.http}{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        return await asyncio.to_thread(fetch)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@asynccontextmanager
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with fresh_broker() as broker, wires_to(broker) as wires:
        http = f"127.0.0.1:{free_port()}"
        settings = Settings(nats_url=broker.url, state=tmp_path, http=http, replicas=1)
        stop = asyncio.Event()
        async with control_plane(settings) as plane:
            running = asyncio.create_task(plane.run(stop))
            here = House(plane, wires, http)

            async def ready() -> bool:
                return not plane.unready()

            await here.until(ready)
            try:
                yield here
            finally:
                stop.set()
                await running


def test_a_submitted_command_is_decided_and_its_outcome_is_on_the_audit(tmp_path: Path) -> None:
    async def tale() -> None:
        async with house(tmp_path) as here:
            await here.client.command(ReportNodeJoined(node="n1"))
            queue = here.wires.log_of(SUBMIT.name)
            for number, node in enumerate(("n1", "nobody")):
                await here.wires.outlet.keep(
                    "hwbus.submit.node.cordon",
                    msgspec.json.encode({"node": node}),
                    message_id=f"s{number}",
                    headers={ACTOR: "batch", COMMAND_ID: f"s{number}"},
                )

            async def both_decided() -> bool:
                return {"s0", "s1"} <= set(await here.outcomes())

            await here.until(both_decided)
            outcomes = await here.outcomes()
            yes, no = outcomes["s0"], outcomes["s1"]
            assert isinstance(yes, DecidedRecord)
            assert (yes.actor, yes.seq) == ("batch", 2)
            assert isinstance(no, RefusedRecord)
            assert no.code is Refusal.UNKNOWN_NODE
            assert here.plane.domain.world.nodes["n1"].cordoned

            async def queue_is_empty() -> bool:
                return all([await queue.get(seq) is None for seq in (1, 2)])

            await here.until(queue_is_empty)

    asyncio.run(tale())


def test_a_command_published_without_waiting_is_decided_all_the_same(tmp_path: Path) -> None:
    async def tale() -> None:
        async with house(tmp_path) as here:
            body = msgspec.json.encode({"node": "n1"})
            await here.wires.bus.publish("hwbus.cmd.node.report-joined", body)

            async def noted() -> bool:
                return any(isinstance(r, DecidedRecord) for r in await here.audit())

            await here.until(noted)
            assert "n1" in here.plane.domain.world.nodes

    asyncio.run(tale())


def test_a_node_that_is_not_heard_falls_silent_and_is_heard_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SILENT_AFTER_S", 0.5)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.05)

    async def tale() -> None:
        async with house(tmp_path) as here:
            await here.client.command(ReportNodeJoined(node="n1"))
            nodes = here.plane.domain.world.nodes

            async def silent() -> bool:
                return nodes["n1"].silent

            async def heard() -> bool:
                await here.wires.bus.publish("hwbus.live.heartbeat.n1", b"{}")
                return not nodes["n1"].silent

            await here.until(silent)
            await here.until(heard)

    asyncio.run(tale())


def test_the_http_door_tells_whether_it_lives_is_ready_and_how_much_there_is(
    tmp_path: Path,
) -> None:
    async def tale() -> None:
        async with house(tmp_path) as here:
            await here.client.command(ReportNodeJoined(node="n1"))
            bad = ReportDiskHealth(disk="d1", node="n1", health=Health.FAILING, reasons=("bad",))
            await here.client.command(ReportDiskSeen(disk="d1", node="n1", sighting=sighting()))
            await here.client.command(bad)
            assert await here.get("/livez") == (200, '{"alive":true}')
            status, body = await here.get("/readyz")
            assert (status, json.loads(body)) == (200, {"ready": True, "reasons": []})
            _, figures = await here.get("/metrics")
            assert 'hwbus_commands_total{outcome="accepted"} 3.0' in figures
            assert 'hwbus_disk_health{disk="d1",health="failing",node="n1"} 1.0' in figures
            assert 'hwbus_node_silent{node="n1"} 0.0' in figures
            assert "hwbus_operations_overdue 0.0" in figures
            worker = CollectorRegistry()
            worker.register(WorkerFigures(Figures(), "n1"))
            emitted = figures_in(figures) | figures_in(generate_latest(worker).decode())
            assert figures_named() - emitted == set(), "alarms or dashboards name no figure"
            await here.until(lambda: here.has("hwbus_log_bytes", "hwbus_state_free_bytes"))

    asyncio.run(tale())


def test_a_policy_that_cannot_act_is_a_figure_to_alarm_on(tmp_path: Path) -> None:
    async def tale() -> None:
        async with house(tmp_path) as here:
            spec = PolicySpec(kind=PolicyKind.DRAIN_DISKS)
            for word in (
                ReportNodeJoined(node="n1"),
                ReportDiskSeen(disk="d1", node="n1", sighting=sighting()),
                ClaimDisk(disk="d1", node="n1", pool="fast", operation="0" * 26),
                ReportDiskHealth(disk="d1", node="n1", health=Health.FAILING),
                SetPolicy(policy="out", spec=spec),
            ):
                if isinstance(word, ClaimDisk):
                    wish = Asked("c1", "tester", "disk", "claim", b"", within=True)
                    answer = await here.plane.desk.settle(wish, word)
                else:
                    answer = await here.client.command(word)
                assert isinstance(answer, Accepted)

            async def alarmed() -> bool:
                page = await here.client.query("policies", {"name": "out"})
                return any(row["state"] == "alarm" for row in page.items)

            await here.until(alarmed)
            page = await here.client.query("policies", {"name": "out"})
            assert [one["code"] for one in page.items[0]["alarms"]] == [Refusal.UNKNOWN_POOL]
            _, figures = await here.get("/metrics")
            assert 'hwbus_policy_alarms{policy="out"} 1.0' in figures

    asyncio.run(tale())


def test_what_hangs_in_the_log_is_found_while_it_grows_and_is_a_figure(tmp_path: Path) -> None:
    async def tale() -> None:
        async with house(tmp_path) as here:
            await here.client.command(ReportNodeJoined(node="n1"))
            refused = await here.client.command(CordonNode(node="nobody"))
            assert isinstance(refused, Refused)
            page = await here.client.query("limbo")
            assert (page.items, page.seq) == ((), 1)
            [hangs] = [one for one in story() if one.command == "wish-2"]
            data = msgspec.json.encode(hangs.commit(2))
            await here.wires.log.append(hangs.subject, data, after=0, message_id="hangs")

            async def found() -> bool:
                return bool((await here.client.query("limbo")).items)

            await here.until(found)
            [one] = (await here.client.query("limbo")).items
            assert (one["code"], one["seq"], one["subject"]) == ("HW-L001", 2, hangs.name)
            _, figures = await here.get("/metrics")
            assert 'hwbus_limbo_findings{check="operations"} 1.0' in figures
            assert 'hwbus_limbo_findings{check="causes"} 0.0' in figures

    asyncio.run(tale())


def test_not_ready_says_why(tmp_path: Path) -> None:
    async def tale() -> None:
        async with fresh_broker() as broker:
            http = f"127.0.0.1:{free_port()}"
            settings = Settings(nats_url=broker.url, state=tmp_path, http=http, replicas=1)
            async with control_plane(settings) as plane, wires_to(broker) as wires:
                status, body = await House(plane, wires, http).get("/readyz")
                assert status == 503
                assert "past" in " ".join(json.loads(body)["reasons"])

    asyncio.run(tale())


@pytest.mark.parametrize("argv", [("--archive-to", "s3://b/p"), ("--archive-every", "0")])
def test_an_archive_that_cannot_be_entered_is_said_before_anything_is_begun(
    tmp_path: Path, argv: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hwbus.controller", "--state", tmp_path / "state", *argv],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert ("AWS_ACCESS_KEY_ID" in done.stderr) == (argv[0] == "--archive-to")
    assert not (tmp_path / "state").exists()


def test_the_service_is_discoverable(tmp_path: Path) -> None:
    async def tale() -> None:
        async with house(tmp_path) as here:
            answer = await here.wires.bus.request("$SRV.INFO.hwbus", b"", headers={}, timeout_s=5)
            info = json.loads(answer)
            (endpoint,) = info["endpoints"]
            assert endpoint["subject"] == "hwbus.cmd.>"
            assert "volume.provision.v1" in endpoint["metadata"]["words"]

    asyncio.run(tale())


def test_a_control_plane_that_starts_again_knows_all_and_repeats_nothing(tmp_path: Path) -> None:
    async def tale() -> None:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            for _ in range(2):
                settings = Settings(nats_url=broker.url, state=tmp_path, http="", replicas=1)
                stop = asyncio.Event()
                async with control_plane(settings) as plane:
                    running = asyncio.create_task(plane.run(stop))
                    client = Client(wires.bus, wires.log, actor="alice", mint=Mint())
                    answer = None
                    async with asyncio.timeout(20):
                        while not isinstance(answer, Accepted):
                            try:
                                joined = ReportNodeJoined(node="n1")
                                if plane.unready():
                                    await asyncio.sleep(0.02)
                                    continue
                                answer = await client.command(joined, command_id="c1")
                            except OutcomeUnknownError:
                                continue
                    assert answer.seq == 1
                    stop.set()
                    await running
            assert await wires.log.head() == 1

    asyncio.run(tale())


def test_a_garbled_message_in_the_log_stops_neither_desk_nor_views(tmp_path: Path) -> None:
    async def tale() -> None:
        async with house(tmp_path) as here:
            await here.wires.log.append(
                "hwbus.evt.node.-.n9", b"\x00garbage", after=0, message_id="g"
            )
            answer = await here.client.command(ReportNodeJoined(node="n1"))
            assert isinstance(answer, Accepted)
            page = await here.client.query("nodes", min_seq=answer.seq, wait_ms=5000)
            assert [row["name"] for row in page.items] == ["n1"]
            assert not page.behind
            refused = await here.client.command(CordonNode(node="n9"))
            assert not isinstance(refused, Accepted)

            async def parked_twice() -> bool:
                head = await here.wires.log_of(AUDIT.name).head()
                log = here.wires.log_of(AUDIT.name)
                subjects = [s.subject for n in range(1, head + 1) if (s := await log.get(n))]
                return sum(".parked." in subject for subject in subjects) == 2

            await here.until(parked_twice)

    asyncio.run(tale())
