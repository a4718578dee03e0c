"""The life of a worker, and the windows on it."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from node_workers import hints, monitor
from node_workers.figures import Figures
from node_workers.scans import Rhythm
from node_workers.settings import read
from schemas.disk import ReportDiskSeen
from tests.simulation.node.lives import Node
from tests.simulation.node.stories import (
    CREATED,
    delete,
    formed,
    have,
    provision,
    provisioned,
)
from tests.support.nats import until

ARGV = ["--node", "n1", "--nats-url", "nats://127.0.0.1:4222", "--state", "/tmp/x"]


def test_an_idle_worker_runs_one_process_of_lvm_in_each_rhythm(tmp_path: Path) -> None:
    async def run() -> None:
        node = Node(tmp_path)
        await have(node, formed(), provisioned())
        before = node.figures.counters["lvm_executions_total"]
        rhythm = Rhythm(every_s=0.1, settle_s=0.0, apart_s=0.0)
        scans = node.figures.counters["scans_total"]
        async with node.life(rhythm=rhythm):
            await until(lambda: node.figures.counters["scans_total"] >= scans + 6)
        looks = node.figures.counters["scans_total"] - scans
        ran = node.figures.counters["lvm_executions_total"] - before
        assert ran <= looks + 2  # the boot activation, and a look that was cut off
        # Two processes of LVM a minute at most; and drift is told of within the minute.
        assert 30.0 <= Rhythm().every_s <= 50.0

    asyncio.run(run())


def test_a_burst_of_hints_is_one_look(tmp_path: Path) -> None:
    async def run() -> None:
        node = Node(tmp_path)
        rhythm = Rhythm(every_s=3600.0, settle_s=0.1, apart_s=0.0)
        async with node.life(rhythm=rhythm) as worker:
            await until(lambda: node.figures.counters["scans_total"] >= 2)
            for _ in range(100):
                worker.scans.hint()
                await asyncio.sleep(0)
            await until(lambda: node.figures.counters["scans_total"] >= 3)
            await asyncio.sleep(0.3)
            assert node.figures.counters["scans_total"] == 3

    asyncio.run(run())


def test_a_worker_that_is_told_to_stop_ends_the_step_that_runs(tmp_path: Path) -> None:
    async def run() -> None:
        node = Node(tmp_path)
        await have(node, formed())
        node.latency_s = 0.05
        async with node.life() as worker:
            await until(lambda: worker.caught_up)
            await provision()(node)
            await until(lambda: "lvcreate" in node.begun)
            node.stop.set()
            await until(lambda: node.ended)
        assert node.machine.volume("fast/pg").active
        await have(node, (nothing, "replica", "pg", CREATED))
        assert len([argv for argv in node.executed if argv[0] == "lvcreate"]) == 1

    async def nothing(_: Node) -> None:
        return

    asyncio.run(run())


def test_a_rescan_can_be_asked_for_over_the_bus(tmp_path: Path) -> None:
    async def run() -> None:
        node = Node(tmp_path)
        async with node.life() as worker:
            await until(lambda: worker.caught_up and bool(node.desk.of(ReportDiskSeen)))
            looks = node.figures.counters["scans_total"]
            await node.desk.publish("hwbus.live.rescan.n1", b"")
            await until(lambda: node.figures.counters["scans_total"] > looks)

    asyncio.run(run())


def test_a_log_that_is_shorter_than_what_was_read_is_not_followed(tmp_path: Path) -> None:
    async def run() -> None:
        node = Node(tmp_path)
        await have(node, formed(), provisioned())
        other = Node(tmp_path / "other")
        node.desk = other.desk
        async with node.life() as worker:
            await until(lambda: node.figures.counters["log_too_short_total"] >= 1)
            assert not worker.caught_up
        assert node.machine.volume("fast/pg").active

    asyncio.run(run())


def test_a_failure_of_its_own_memory_ends_the_worker(tmp_path: Path) -> None:
    async def run() -> None:
        node = Node(tmp_path)
        await have(node, formed(), provisioned())
        async with node.life() as worker:
            await until(lambda: worker.caught_up)
            node.spoil("disk full")
            await delete()(node)
            await until(lambda: node.ended)

    with pytest.raises((sqlite3.Error, ExceptionGroup)) as caught:
        asyncio.run(run())
    assert "disk full" in repr(caught.value)


def test_a_folder_is_watched_for_what_comes_and_goes(tmp_path: Path) -> None:
    async def run() -> None:
        heard = asyncio.Event()
        watching = asyncio.create_task(hints.watch(tmp_path, heard.set, suffix=".img"))
        await asyncio.sleep(0)
        (tmp_path / "machine.json").touch()
        (tmp_path / "sdx.img").touch()
        await asyncio.wait_for(heard.wait(), 10)
        watching.cancel()
        await asyncio.wait({watching})

    asyncio.run(run())


def test_the_window_shows_life_and_figures_and_nothing_else() -> None:
    async def ask(port: int, path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return answer

    async def run() -> None:
        figures = Figures()
        figures.count("lvm_executions_total", 3)
        async with monitor.serving(figures, "n1", "127.0.0.1", 0) as port:
            assert "200 OK" in await ask(port, "/livez")
            metrics = await ask(port, "/metrics")
            assert 'hwbus_worker_lvm_executions_total{node="n1"} 3.0' in metrics
            assert "hwbus_worker_resident_bytes" in metrics
            assert "404" in await ask(port, "/etc/passwd")

    asyncio.run(run())


def test_the_command_line_is_checked_before_anything_starts() -> None:
    assert read(ARGV).http_port == 0
    assert read([*ARGV, "--http", "192.0.2.1:9100"]).http_host == "192.0.2.1"
    lend = read([*ARGV, "--lend", "[2001:db8::1]:7420"])
    assert (lend.lend_host, lend.lend_port) == ("2001:db8::1", 7420)
    assert (read(ARGV).lend_host, read(ARGV).lend_port) == ("", 0)
    assert (read(ARGV).keys, read(ARGV).vault) == (Path("/etc/hwbus/keys"), "")
    vault = ("--vault", "https://vault.example:8200", "--vault-token", "/run/token")
    assert read([*ARGV, *vault]).vault_token == Path("/run/token")
    open_wire = ["--vault", "http://vault.example", "--vault-token", "/run/token"]
    halves = (["--vault", "https://vault.example"], ["--vault-token", "/run/token"])
    words = (["--http", "nowhere"], ["--lend", "nowhere"], ["--node", "a.b"], ["--disks", "many"])
    for bad in (*words, *halves, open_wire):
        with pytest.raises(SystemExit):
            read([*ARGV, *bad])


def test_a_report_follows_its_event_without_a_look_at_everything(tmp_path: Path) -> None:
    async def run() -> None:
        node = Node(tmp_path)
        await have(node, formed(), provisioned())
        made = [one for one in node.desk.executed() if one.argv[0] == "lvcreate"]
        ran = [one.argv[0] for one in node.desk.executed() if one.cause == made[0].cause]
        assert ran in (["lvcreate"], ["lvm", "lvcreate"])

    asyncio.run(run())
