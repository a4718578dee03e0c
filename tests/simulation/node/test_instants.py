"""What a node does about snapshots of one instant, and about devices that stand still."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from node_workers.stillness import STILL
from schemas.instants import Together
from schemas.refusals import Refusal
from schemas.replica import Consistency, ReportReplicaPresent, ReportReplicaTrouble
from tests.simulation.node.lives import Node
from tests.simulation.node.stories import (
    CREATED,
    EXT4,
    GONE,
    OP,
    attached,
    delete,
    formed,
    have,
    provisioned,
    shown,
    take,
    take_together,
    written,
)
from tests.support.nats import until

PAIR = (("s1", "pg"), ("s2", "wal"))
TOGETHER = Together(instant=OP, snapshots=("s1", "s2"))
BEFORE = (
    *(formed(), provisioned(**EXT4), provisioned("wal", 40, **EXT4), attached()),
    *(written("then"), written("then", "wal")),
)
Story = Callable[[Node], Coroutine[Any, Any, None]]


def told(folder: Path, story: Story) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            node = Node(folder)
            await have(node, *BEFORE)
            node.executed.clear()
            await story(node)

    asyncio.run(run())


async def always() -> bool:
    return True


def held_still(node: Node) -> list[tuple[str, ...]]:
    return [argv for argv in node.executed if argv[: len(STILL)] == STILL]


def kept(node: Node) -> set[str]:
    return {lv.name for vg in node.machine.state.vgs for lv in vg.lvs if lv.origin}


def test_all_are_made_while_the_attached_one_stands_still_and_each_is_reported(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        async with node.life() as worker:
            await take_together(*PAIR)(node)
            await node.settle(worker, shown(node, "replica", "s2", CREATED))
            await node.settle(worker, shown(node, "replica", "s1", CREATED))
        (script,) = held_still(node)
        assert script[len(STILL) + 1] == "hwbus:pg"
        assert [word for word in script if word == "lvcreate"] == ["lvcreate"] * 2
        reports = [r for r in node.desk.of(ReportReplicaPresent) if r.volume in {"s1", "s2"}]
        assert {r.volume for r in reports} == {"s1", "s2"}
        assert {r.consistency for r in reports} == {Consistency.FILESYSTEM}
        assert not any(device.suspended for device in node.machine.state.mapped)

    told(tmp_path, story)


def test_none_is_made_before_all_are_wanted_nor_when_one_is_wanted_no_more(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        async with node.life() as worker:
            await take("s1", "pg", together=TOGETHER)(node)
            await node.settle(worker, always)
            assert kept(node) == set()
            await delete("s1")(node)
            await node.settle(worker, shown(node, "replica", "s1", GONE))
            await take("s2", "wal", together=TOGETHER)(node)
            await node.settle(worker, always)
            assert kept(node) == set()
        assert held_still(node) == []

    told(tmp_path, story)


def test_volumes_that_were_let_go_too_early_are_told_of_once_and_not_held_again(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        node.machine.state.let_go = True
        async with node.life() as worker:
            await take_together(*PAIR)(node)
            await until(lambda: bool(node.desk.of(ReportReplicaTrouble)))
            await node.settle(worker, always)
            troubles = node.desk.of(ReportReplicaTrouble)
            assert {(one.code, one.permanent) for one in troubles} == {(Refusal.NOT_STILL, True)}
            await delete("s1")(node)
            await delete("s2")(node)
            await node.settle(worker, shown(node, "replica", "s2", GONE))
            await node.settle(worker, shown(node, "replica", "s1", GONE))
        assert len(held_still(node)) == 1
        assert kept(node) == set()

    told(tmp_path, story)


def test_a_filesystem_that_somebody_froze_is_in_use(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        (device,) = node.machine.state.mapped
        device.frozen = True
        async with node.life() as worker:
            await take_together(*PAIR)(node)
            await until(lambda: bool(node.desk.of(ReportReplicaTrouble)))
            await node.settle(worker, always)
        assert node.desk.of(ReportReplicaTrouble)[0].code is Refusal.IN_USE
        assert kept(node) == set()

    told(tmp_path, story)


def test_a_device_that_stands_still_goes_on_before_anything_else_is_done(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        (device,) = node.machine.state.mapped
        device.suspended = True
        async with node.life() as worker:
            await node.settle(worker, always)
        assert not device.suspended
        assert [argv[:2] for argv in node.executed[:2]] == [
            ("dmsetup", "info"),
            ("dmsetup", "resume"),
        ]
        resumed = [one for one in node.desk.executed() if one.argv[:2] == ("dmsetup", "resume")]
        assert [one.cause for one in resumed] == ["start:resume"]

    told(tmp_path, story)


def test_a_device_that_stands_still_goes_on_at_the_next_look(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        (device,) = node.machine.state.mapped
        async with node.life() as worker:
            await node.settle(worker, always)
            device.suspended = True
            await worker.scans.once()
            assert not device.suspended

    told(tmp_path, story)
