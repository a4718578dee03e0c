"""The lab on its own: nodes, disks, services and the ways in, all of them real."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import nats
import pytest

from hwbus.lab.client import LabClient, LabNotRunningError, LabRunningError, up
from hwbus.lab.protocol import NodeStatus
from hwbus.lab.spec import LabSpec, NodeSpec, PortSpec, ServiceSpec, uniform
from hwbus.lab.uml import CommandFailedError, ConsoleError, DiskSpec, LabError, NodeDownError
from hwbus.lab.uml.processors import move

if TYPE_CHECKING:
    from tests.lab.conftest import LabFactory

pytestmark = pytest.mark.lab

TICKER = ServiceSpec(
    name="ticker",
    argv=("sh", "-c", "echo I am {node} at {storage_address}; exec sleep 1000"),
    in_nodes=True,
    ready_when="I am",
)
WEB = ServiceSpec(
    name="web",
    argv=(
        *("{python}", "-m", "http.server", "8080"),
        *("--bind", "{control_address}", "--directory", "{state}"),
    ),
    ready_when="Serving",
)
SPEC = LabSpec(
    nodes=(
        NodeSpec(name="n1", disks=(DiskSpec(size="20G", serial="SAME"), DiskSpec(size="64M"))),
        NodeSpec(name="n2", disks=(DiskSpec(size="20G", serial="SAME"),)),
    ),
    services=(TICKER, WEB),
    ports=(PortSpec(name="web", port=8080),),
)
HELLO = """
import asyncio, nats, sys
async def main():
    async with await nats.connect(sys.argv[1]) as bus:
        print((await bus.request("hello", sys.argv[2].encode(), timeout=20)).data.decode())
asyncio.run(main())
"""


@pytest.fixture
def pair(lab: LabFactory) -> LabClient:
    return lab.of(SPEC)


async def until(condition: Callable[[], Awaitable[bool]], tries: int = 600) -> None:
    for _ in range(tries):
        if await condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not come true")


def read(path: str) -> str:
    return Path(path).read_text()


def blocks(path: str) -> int:
    return Path(path).stat().st_blocks


async def node_of(lab: LabClient, name: str) -> NodeStatus:
    return next(node for node in (await lab.status()).nodes if node.name == name)


def processes_of(directory: Path) -> set[int]:
    """Return the living processes whose command line names the lab's directory."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(directory).encode() in line:
                found.add(int(entry.name))
    return found


def kernel_of(node: NodeStatus) -> set[int]:
    """Return the node's kernel and processes, without the shell that it was begun from."""
    ours = processes_of(Path(node.disks[0].image).parent)
    return {pid for pid in ours if name_of(pid) == "linux.uml\n"}


def name_of(pid: int) -> str:
    """Return how the kernel calls it; nothing if it has ended."""
    try:
        return read(f"/proc/{pid}/comm")
    except OSError:
        return ""


def leader_of(node: NodeStatus) -> int:
    """Return the kernel itself, of whose group all is that it runs."""
    for pid in kernel_of(node):
        with contextlib.suppress(ProcessLookupError):
            return os.getpgid(pid)
    pytest.fail(f"{node.name} does not run")


def homes_of(node: NodeStatus) -> set[int]:
    """Return on which processors the node may be."""
    found: set[int] = set()
    for pid in kernel_of(node):
        with contextlib.suppress(ProcessLookupError):
            found |= os.sched_getaffinity(pid)
    return found


def test_two_nodes_may_have_large_disks_with_equal_serial_numbers(pair: LabClient) -> None:
    async def scene() -> None:
        for node in ("n1", "n2"):
            serial = await pair.shell(node, "cat /sys/block/ubdb/serial")
            size = await pair.shell(node, "blockdev --getsize64 /dev/ubdb")
            assert (serial.strip(), int(size)) == ("SAME", 20 << 30)
        first, second = (await pair.status()).nodes
        assert first.disks[0].serial == second.disks[0].serial == "SAME"
        assert blocks(first.disks[0].image) < 1 << 20  # sparse

    asyncio.run(scene())


def test_a_node_has_an_identity_of_its_own(pair: LabClient) -> None:
    async def scene() -> None:
        names = [await pair.shell(node, "hostname") for node in ("n1", "n2")]
        machines = [await pair.shell(node, "cat /etc/machine-id") for node in ("n1", "n2")]
        assert names == ["n1\n", "n2\n"]
        assert len(set(machines)) == 2

    asyncio.run(scene())


def test_each_node_stays_on_one_processor_and_moves_to_another_as_a_whole(pair: LabClient) -> None:
    async def scene() -> None:
        spin = "timeout 60 sh -c 'while :; do true & wait; done' || true"
        working = asyncio.create_task(pair.shell("n2", spin))
        node = await node_of(pair, "n2")
        try:
            for cpu in (*os.sched_getaffinity(0), *os.sched_getaffinity(0)):
                # Its lab may move it back, for it looks every few seconds.
                await until(partial(is_moved, node, cpu))
        finally:
            working.cancel()
            await asyncio.wait({working})

    asyncio.run(scene())


async def is_moved(node: NodeStatus, cpu: int) -> bool:
    """Move all of a node; return whether nothing of it is anywhere else, and something is there."""
    move(leader_of(node), cpu)
    return homes_of(node) == {cpu}


def test_a_disk_moves_to_another_node_with_its_content_and_serial_number(pair: LabClient) -> None:
    async def scene() -> None:
        blank = await pair.add_disk("n1", "32M", serial="TRAVELS")
        await pair.shell(
            "n1",
            f"vgcreate -q travels {blank.device}; pvchange -q --addtag ours {blank.device}",
        )
        moved = await pair.move_disk("n1", blank.letter, "n2")
        assert moved.serial == "TRAVELS"
        assert "ours" in await pair.shell("n2", f"pvs --noheadings -o pv_tags {moved.device}")
        serial = await pair.shell("n2", f"cat /sys/block/ubd{moved.letter}/serial")
        assert serial.strip() == "TRAVELS"
        assert blank.letter not in {disk.letter for disk in (await node_of(pair, "n1")).disks}
        assert "travels" not in await pair.shell("n1", "vgs --noheadings -o vg_name")
        await pair.remove_disk("n2", moved.letter)

    asyncio.run(scene())


def test_disks_that_are_plugged_in_at_once_get_a_place_each(pair: LabClient) -> None:
    async def scene() -> None:
        disks = await asyncio.gather(*(pair.add_disk("n2", "64M") for _ in range(3)))
        assert len({disk.device for disk in disks}) == 3
        there = await pair.shell("n2", "lsblk --nodeps --noheadings --output PATH")
        assert {disk.device for disk in disks} <= set(there.split())
        await asyncio.gather(*(pair.remove_disk("n2", disk.letter) for disk in disks))

    asyncio.run(scene())


def test_a_disk_in_use_stays_where_it_is(pair: LabClient) -> None:
    async def scene() -> None:
        disk = await pair.add_disk("n1", "32M")
        await pair.shell("n1", f"mkfs.ext4 -q {disk.device}; mkdir -p /busy")
        await pair.shell("n1", f"mount {disk.device} /busy")
        with pytest.raises(ConsoleError, match="open"):
            await pair.move_disk("n1", disk.letter, "n2")
        assert disk in (await node_of(pair, "n1")).disks
        await pair.shell("n1", "umount /busy")
        await pair.remove_disk("n1", disk.letter)

    asyncio.run(scene())


def test_a_wrapped_disk_can_be_broken_and_mended(pair: LabClient) -> None:
    async def scene() -> None:
        disk = await pair.add_disk("n2", "32M")
        device = await pair.wrap_disk("n2", disk.letter)
        read = f"dd if={device} of=/dev/null bs=4k count=1 iflag=direct"
        await pair.shell("n2", read)
        await pair.fail_disk("n2", disk.letter)
        with pytest.raises(CommandFailedError, match="Input/output error"):
            await pair.shell("n2", read)
        await pair.mend_disk("n2", disk.letter)
        await pair.shell("n2", read)
        await pair.remove_disk("n2", disk.letter)

    asyncio.run(scene())


def test_a_command_streams_its_output_and_returns_its_status(pair: LabClient) -> None:
    async def scene() -> None:
        seen: list[tuple[str, bytes]] = []
        result = await pair.exec(
            "n1",
            *("sh", "-c", "cat; echo no >&2; exit $WITH"),
            stdin=b"yes\xff" * 1000,
            env={"WITH": "3"},
            check=False,
            on_output=lambda stream, data: seen.append((stream, data)),
        )
        assert result.status == 3
        assert b"".join(data for stream, data in seen if stream == "stdout") == b"yes\xff" * 1000
        assert ("stderr", b"no\n") in seen
        with pytest.raises(LabError, match="no node 'n9'; there are n1, n2"):
            await pair.exec("n9", "true")

    asyncio.run(scene())


@pytest.mark.parametrize("argv", [("no-such-program-\N{EURO SIGN}",), ("tr\0ue",), ()])
def test_what_is_no_command_ends_like_one_that_is_not_found(
    pair: LabClient, argv: tuple[str, ...]
) -> None:
    async def scene() -> None:
        result = await pair.exec("n1", *argv, check=False)
        assert result.status == 127
        assert result.stderr

    asyncio.run(scene())


def test_a_command_nobody_waits_for_any_more_is_killed(pair: LabClient) -> None:
    async def scene() -> None:
        with pytest.raises(TimeoutError):
            await pair.exec("n1", "sleep", "4242", timeout_s=0.5)

        async def gone() -> bool:
            return (await pair.exec("n1", "pgrep", "-f", "sleep 4242", check=False)).status == 1

        await until(gone)

    asyncio.run(scene())


def test_nats_is_reached_from_outside_and_from_inside_a_node(pair: LabClient) -> None:
    async def scene() -> None:
        inside = (await pair.status()).nats_url_inside
        async with await nats.connect(pair.nats_url) as bus:
            asked = await bus.subscribe("hello")
            calling = asyncio.create_task(
                pair.exec("n2", sys.executable, "-c", HELLO, inside, "from n2")
            )
            message = await asked.next_msg(timeout=20)
            await message.respond(b"heard: " + message.data)
            assert (await calling).stdout == "heard: from n2\n"

    asyncio.run(scene())


def test_what_nats_has_acknowledged_survives_its_death(pair: LabClient) -> None:
    async def scene() -> None:
        async with await nats.connect(pair.nats_url) as bus:
            await bus.jetstream().add_stream(name="KEPT", subjects=["kept"])
            await bus.jetstream().publish("kept", b"for ever")
        await pair.service_kill("nats")
        await pair.service_start("nats")
        async with await nats.connect(pair.nats_url) as bus:
            assert (await bus.jetstream().get_last_msg("KEPT", "kept")).data == b"for ever"

    asyncio.run(scene())


def test_a_port_of_a_service_is_reached_from_outside(pair: LabClient) -> None:
    (pair.state / "services" / "web" / "page").write_text("x" * 300_000)

    async def scene() -> None:
        host, port = pair.ports["web"].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /page HTTP/1.0\r\n\r\n")
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer.endswith(b"\r\n\r\n" + b"x" * 300_000)

    asyncio.run(scene())


def test_a_killed_service_is_reported_and_stays_down_until_asked_for(pair: LabClient) -> None:
    async def scene() -> None:
        before = await pair.service("ticker", "n2")
        await pair.service_kill("ticker", "n2")
        killed = await pair.service("ticker", "n2")
        assert (killed.state, killed.status) == ("exited", -signal.SIGKILL)
        assert killed.ended_at is not None
        assert (await pair.exec("n2", "test", "-d", f"/proc/{killed.pid}", check=False)).status
        assert (await pair.service("ticker", "n1")).state == "running"
        await pair.service_start("ticker", "n2")
        after = await pair.service("ticker", "n2")
        assert (after.state, after.starts) == ("running", before.starts + 1)
        assert "I am n2 at 198.51.100.12" in read(after.log)
        with pytest.raises(LabError, match="ticker in n2 is running already"):
            await pair.service_start("ticker", "n2")

    asyncio.run(scene())


def test_a_node_that_lost_power_comes_back_with_its_disks_and_services(pair: LabClient) -> None:
    async def scene() -> None:
        before = await pair.service("ticker", "n1")
        await pair.shell("n1", "pvcreate -q /dev/ubdc; echo kept > /etc/kept; sync")
        running = asyncio.create_task(pair.exec("n1", "sleep", "1000"))
        await until(lambda: _runs(pair, "n1", "sleep 1000"))
        await pair.kill("n1")
        with pytest.raises(NodeDownError):
            await running
        assert (await pair.service("ticker", "n1")).state == "lost"
        assert not (await node_of(pair, "n1")).running
        await pair.boot("n1")
        after = await pair.service("ticker", "n1")
        assert (after.state, after.starts) == ("running", before.starts + 1)
        assert await pair.shell("n1", "cat /etc/kept") == "kept\n"
        await pair.remove_disk("n1", (await pair.add_disk("n1", "32M")).letter)
        assert "ubdc" in await pair.shell("n1", "pvs --noheadings -o pv_name")

    asyncio.run(scene())


def test_a_kernel_that_crashes_is_seen_at_once_and_its_broken_disk_stays_broken(
    pair: LabClient,
) -> None:
    async def scene() -> None:
        disk = await pair.add_disk("n2", "32M")
        device = await pair.wrap_disk("n2", disk.letter)
        await pair.fail_disk("n2", disk.letter)
        with pytest.raises(NodeDownError, match="n2 went down"):
            await pair.shell("n2", "echo c > /proc/sysrq-trigger", timeout_s=5)
        assert not (await node_of(pair, "n2")).running
        with pytest.raises(NodeDownError, match="n2 is down"):
            await pair.exec("n2", "true")
        await pair.boot("n2")
        read = ("dd", f"if={device}", "of=/dev/null", "bs=4k", "count=1", "iflag=direct")
        assert (await pair.exec("n2", *read, check=False)).status == 1
        await pair.mend_disk("n2", disk.letter)
        await pair.exec("n2", *read)
        await pair.remove_disk("n2", disk.letter)

    asyncio.run(scene())


async def _runs(lab: LabClient, node: str, line: str) -> bool:
    return (await lab.exec(node, "pgrep", "-fx", line, check=False)).status == 0


def test_a_node_cut_from_the_control_network_does_not_reach_nats(pair: LabClient) -> None:
    async def scene() -> None:
        knock = ("bash", "-c", "timeout 1 bash -c '</dev/tcp/192.0.2.1/4222'")
        assert (await pair.exec("n2", *knock)).status == 0
        await pair.set_link("n2", "control", connected=False)
        assert (await pair.exec("n2", *knock, check=False)).status != 0
        await pair.set_link("n2", "control", connected=True)
        await until(lambda: _succeeds(pair, "n2", knock))

    asyncio.run(scene())


async def _succeeds(lab: LabClient, node: str, argv: tuple[str, ...]) -> bool:
    return (await lab.exec(node, *argv, check=False)).status == 0


def test_a_frozen_node_answers_when_it_is_thawed(pair: LabClient) -> None:
    async def scene() -> None:
        await pair.freeze("n2")
        with pytest.raises(TimeoutError):
            await pair.exec("n2", "true", timeout_s=0.5)
        await pair.thaw("n2")
        assert (await pair.exec("n2", "true")).status == 0

    asyncio.run(scene())


def test_a_daemon_that_is_killed_leaves_nothing_behind_and_can_be_replaced(
    lab_directory: Path,
) -> None:
    async def scene() -> None:
        spec = uniform(1, 1, "1G", services=[TICKER, WEB])
        first = await up(spec, lab_directory, owner_pid=os.getpid())
        with pytest.raises(LabRunningError, match="running already"):
            await up(spec, lab_directory)
        assert len(processes_of(lab_directory)) > 5
        os.kill((await first.status()).pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while processes_of(lab_directory):
            assert time.monotonic() < deadline, processes_of(lab_directory)
            await asyncio.sleep(0.05)
        with pytest.raises(LabNotRunningError, match="its daemon has died"):
            await first.status()
        await first.down()  # what is left of it
        said: list[str] = []
        async with await up(
            spec, lab_directory, progress=said.append, owner_pid=os.getpid()
        ) as second:
            assert (await second.exec("n1", "true")).status == 0
            assert "n1 booted" in said

    asyncio.run(scene())
    assert not processes_of(lab_directory)
    left = {path.name for path in lab_directory.iterdir()}
    assert left == {"owner.lock", "daemon.lock", "daemon.log", "logs", "spec.json"}


def test_a_lab_ends_with_its_owner_and_says_why_it_did_not_come_up(lab_directory: Path) -> None:
    async def scene() -> None:
        broken = ServiceSpec(name="broken", argv=("sh", "-c", "echo alas; exit 1"), ready_when="ok")
        with pytest.raises(LabError, match=r"(?s)broken ended before it was ready.*alas"):
            await up(uniform(1, 0, services=[broken]), lab_directory)
        assert not processes_of(lab_directory)
        owner = await asyncio.create_subprocess_exec("sleep", "1000")
        lab = await up(uniform(1, 0), lab_directory, owner_pid=owner.pid)
        owner.kill()
        await owner.wait()

        async def gone() -> bool:
            try:
                await lab.status()
            except LabNotRunningError:
                return not processes_of(lab_directory)
            return False

        await until(gone)

    asyncio.run(scene())
