"""What a node tells of bytes written and read: when they are due, and when a volume is detached."""

import asyncio
from datetime import timedelta
from pathlib import Path

from node_workers.counting import APART, AT_LEAST_EVERY
from node_workers.worker import Worker
from schemas.attachment import ReportAttachmentAbsent
from schemas.counting import ReportVolumeIo
from tests.simulation.node.lives import Fate, Node
from tests.simulation.node.stories import (
    EXT4,
    FREE,
    GIB,
    MADE,
    MIB,
    attach,
    attached,
    detach,
    formed,
    have,
    provisioned,
    shown,
    uid,
)
from tests.simulation.node.test_crash_matrix import another, prepared, whole_life
from tests.simulation.node.test_node import always, told

IN_USE = (formed(), provisioned(**EXT4), attached())


def said(node: Node) -> list[tuple[int, int]]:
    return [(one.written_bytes, one.read_bytes) for one in node.desk.of(ReportVolumeIo)]


async def looks(node: Node, worker: Worker, passed: timedelta = timedelta()) -> None:
    node.desk.clock.move(passed.total_seconds())
    await node.settle(worker, always)
    await worker.scans.once()
    await node.settle(worker, always)


async def is_detached(node: Node, worker: Worker) -> None:
    await detach()(node)
    await node.settle(worker, shown(node, "attachment", "pg", FREE))


def test_little_is_told_every_hour_a_gib_after_ten_minutes_and_nothing_never(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        await have(node, *IN_USE)
        async with node.life() as worker:
            await looks(node, worker, AT_LEAST_EVERY)
            node.machine.transfer("pg", 5 * MIB, MIB)
            await looks(node, worker)
            assert said(node) == [(5 * MIB, MIB)]
            node.machine.transfer("pg", GIB)
            await looks(node, worker, APART - timedelta(seconds=1))
            assert len(said(node)) == 1
            await looks(node, worker, timedelta(seconds=1))
            await looks(node, worker, AT_LEAST_EVERY)
        assert said(node) == [(5 * MIB, MIB), (GIB + 5 * MIB, MIB)]
        report = node.desk.of(ReportVolumeIo)[0]
        assert (report.volume, report.uid, report.node) == ("pg", uid("pg"), node.name)

    told(tmp_path, story)


def test_all_is_told_when_a_volume_is_detached_before_that_is_told_itself(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *IN_USE)
        async with node.life() as worker:
            await node.settle(worker, always)
            node.machine.transfer("pg", 7 * MIB)
            await is_detached(node, worker)
            words = [type(one.word) for one in node.desk.said]
            assert words.index(ReportVolumeIo) < words.index(ReportAttachmentAbsent)
            await attach(mount_point="/mnt/pg")(node)
            await node.settle(worker, shown(node, "attachment", "pg", MADE))
            node.machine.transfer("pg", MIB)
            await is_detached(node, worker)
        assert said(node) == [(7 * MIB, 0), (8 * MIB, 0)]
        assert len({one.book for one in node.desk.of(ReportVolumeIo)}) == 1

    told(tmp_path, story)


def test_neither_another_worker_nor_a_reboot_makes_anything_count_twice(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *IN_USE)
        node.machine.transfer("pg", 3 * MIB)
        for _ in range(2):
            async with node.life() as worker:
                await looks(node, worker, AT_LEAST_EVERY)
        assert said(node) == [(3 * MIB, 0)]
        node.machine.transfer("pg", MIB)
        async with node.life() as worker:
            await looks(node, worker)
        # What was written since the last look is not known to anybody after that.
        node.machine.transfer("pg", GIB)
        node.machine.reboot()
        async with node.life() as worker:
            await looks(node, worker)
            node.machine.transfer("pg", 2 * MIB)
            await looks(node, worker, AT_LEAST_EVERY)
        assert said(node)[-1] == (6 * MIB, 0)

    told(tmp_path, story)


def test_a_worker_that_dies_anywhere_while_it_detaches_tells_every_byte_once(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        beginning = await prepared(tmp_path / "beginning", IN_USE)
        beginning.machine.transfer("pg", 7 * MIB, MIB)
        done = (detach(), "attachment", "pg", FREE)
        for number in range(1, 100):
            node = await another(beginning, tmp_path / str(number))
            fate = Fate(strike_at=number)
            await whole_life(node, done, fate)
            async with node.life() as worker:
                await node.settle(worker, shown(node, *done[1:]))
            assert set(said(node)) == {(7 * MIB, MIB)}, f"died at {number}: {fate.where[-1]}"
            if fate.points < number:
                break
        assert number > 8

    asyncio.run(run())
