"""A worker asks its disks how they are, and tells it when it changes: one node, in memory."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from node_workers.scans import Rhythm
from node_workers.worker import Worker
from schemas.disk import Health, ReportDiskHealth
from schemas.node import NodeAdmitted, NodeRemoved
from tests.simulation.node.lives import NODE, Node
from tests.simulation.node.stories import OP
from tests.support.nats import until, until_async
from tests.support.smart import ata, nvme

OFTEN = Rhythm(every_s=3600.0, settle_s=0.0, apart_s=0.0, health_every_s=0.02)
ONCE = Rhythm(every_s=3600.0, settle_s=0.0, apart_s=0.0, health_every_s=3600.0)
Story = Callable[[Node], Coroutine[Any, Any, None]]


def told(folder: Path, story: Story) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            await story(Node(folder))

    asyncio.run(run())


def give(node: Node, name: str, smart: str) -> str:
    """Let a disk say so; return the serial by which to find it."""
    disk = next(one for one in node.machine.state.disks.values() if one.name == name)
    disk.smart = smart
    return disk.key


def asked(node: Node) -> list[str]:
    return [argv[-1] for argv in node.executed if argv[0] == "smartctl"]


async def rounds(node: Node, more: int) -> None:
    """Wait until each disk was asked so many times more."""
    wanted = len(asked(node)) + more * len(node.machine.state.disks)
    await until(lambda: len(asked(node)) >= wanted)


async def at_rest(node: Node, worker: Worker) -> None:
    async def true() -> bool:
        return True

    await node.settle(worker, true)


def healths(node: Node) -> list[tuple[Health, tuple[str, ...]]]:
    return [(one.health, one.reasons) for one in node.desk.of(ReportDiskHealth)]


def test_disks_that_have_no_smart_are_asked_and_nothing_is_told_of_them(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        async with node.life(rhythm=OFTEN):
            await rounds(node, 3)
        assert set(asked(node)) == {"/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd"}
        assert healths(node) == []
        assert {disk.health for disk in node.desk.world.disks.values()} == {Health.UNKNOWN}

    told(tmp_path, story)


def test_health_is_told_on_change_only_and_not_again_after_a_restart(tmp_path: Path) -> None:
    bad = (Health.FAILING, ("1 or more media errors",))

    async def story(node: Node) -> None:
        give(node, "sdb", nvme())
        async with node.life(rhythm=OFTEN) as worker:
            await rounds(node, 3)
            await at_rest(node, worker)
            assert healths(node) == [(Health.HEALTHY, ())]
            give(node, "sdb", nvme(media_errors=3))
            await rounds(node, 2)
            await at_rest(node, worker)
            give(node, "sdb", nvme(media_errors=5))
            await rounds(node, 2)
            await at_rest(node, worker)
        async with node.life(rhythm=OFTEN) as worker:
            await rounds(node, 2)
            await at_rest(node, worker)
            assert healths(node) == [(Health.HEALTHY, ()), bad]
            assert node.figures.gauges["disks_failing"] == 1
        failing = [d for d in node.desk.world.disks.values() if d.health is Health.FAILING]
        assert [disk.reasons for disk in failing] == [bad[1]]

    told(tmp_path, story)


def test_every_question_has_a_cause_and_costs_no_process_of_lvm(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        async with node.life(rhythm=OFTEN) as worker:
            await rounds(node, 1)
            await at_rest(node, worker)
            before = node.figures.counters["lvm_executions_total"]
            await rounds(node, 5)
            assert node.figures.counters["lvm_executions_total"] == before

            async def recorded() -> bool:
                return sum(one.argv[0] == "smartctl" for one in node.desk.executed()) > 20

            await until_async(recorded)
        causes = {one.cause for one in node.desk.executed() if one.argv[0] == "smartctl"}
        assert {cause.partition(":")[0] for cause in causes} == {"health"}

    told(tmp_path, story)


def test_a_new_disk_is_asked_at_once_and_the_others_are_not(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        give(node, "sdd", ata(passed=False))
        pulled = node.machine.pull("sdd")
        async with node.life(rhythm=ONCE) as worker:
            await rounds(node, 1)
            await at_rest(node, worker)
            before = len(asked(node))
            node.machine.plug(pulled)
            worker.scans.hint()
            await until(lambda: len(healths(node)) == 1)
            assert asked(node)[before:] == ["/dev/sdd"]

    told(tmp_path, story)


def test_a_disk_that_comes_back_is_asked_and_told_of_again(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        give(node, "sdb", ata())
        async with node.life(rhythm=ONCE) as worker:
            await until(lambda: len(healths(node)) == 1)
            pulled = node.machine.pull("sdb")
            await worker.scans.once()
            node.machine.plug(pulled)
            await worker.scans.once()
            await until(lambda: len(healths(node)) == 2)

    told(tmp_path, story)


def test_a_node_that_is_let_in_again_tells_of_its_disks_again(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        give(node, "sdb", ata(id5="12"))
        async with node.life(rhythm=ONCE) as worker:
            await until(lambda: len(healths(node)) == 1)
            await at_rest(node, worker)
            await node.desk.happen(NodeRemoved(node=NODE, operation=OP))
            await node.desk.happen(NodeAdmitted(node=NODE))
            await until(lambda: len(healths(node)) == 2)

    told(tmp_path, story)
