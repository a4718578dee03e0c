"""What a node tells of how full things are: marks, once each, and anew of what has grown."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st

from node_workers.fills import mark_of
from schemas.filling import ReportVolumeFill
from schemas.pool import ReportThinFill
from schemas.snapshot import ReportSnapshotFill
from tests.simulation.node.lives import Node
from tests.simulation.node.stories import (
    EXT4,
    GIB,
    MIB,
    POOL,
    RESIZED,
    THIN,
    THIN_KEPT,
    attached,
    delete,
    formed,
    grow,
    grow_thin,
    have,
    keep_thin,
    provisioned,
    shown,
    taken,
    uid,
)
from tests.support.nats import until

Story = Callable[[Node], Coroutine[Any, Any, None]]


def told(folder: Path, story: Story) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            await story(Node(folder))

    asyncio.run(run())


async def always() -> bool:
    return True


def levels(node: Node) -> list[int]:
    return [one.data_percent for one in node.desk.of(ReportVolumeFill)]


async def looks(node: Node, *used_mib: int) -> None:
    """Fill the filesystem on pg, and look at it twice each time."""
    async with node.life() as worker:
        await node.settle(worker, always)
        for mib in used_mib:
            node.machine.fill("fast/pg", mib * MIB)
            await worker.scans.once()
            await worker.scans.once()
            await node.settle(worker, always)


def test_a_mounted_filesystem_is_told_of_once_for_each_mark_and_not_while_it_wavers(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(mib=400, **EXT4))
        await looks(node, 390, 0)
        assert levels(node) == []
        node.machine.mount("fast/pg", "/mnt/pg")
        await looks(node, 100, 240, 241, 239, 237, 240, 300, 399, 200)
        assert levels(node) == [60, 75, 100, 50]
        report = node.desk.of(ReportVolumeFill)[0]
        assert (report.uid, report.used_bytes) == (uid("pg"), 240 * MIB)
        assert (report.filesystem_bytes, report.size_bytes) == (400 * MIB, 400 * MIB)
        await looks(node, 190, 180)
        # A worker that starts says once more what it said last.
        assert levels(node)[4:] == [50, 45]

    told(tmp_path, story)


def test_an_attached_volume_is_seen_through_its_stable_device(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(mib=400, **EXT4), attached())
        await looks(node, 320)
        assert levels(node) == [80]

    told(tmp_path, story)


def test_what_has_grown_is_told_of_anew_though_it_is_as_full(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(mib=400, **EXT4))
        node.machine.mount("fast/pg", "/mnt/pg")
        await looks(node, 340)
        await have(node, (grow(mib=404), "replica", "pg", RESIZED))
        await looks(node, 340)
        assert [(one.data_percent, one.size_bytes) for one in node.desk.of(ReportVolumeFill)] == [
            (85, 400 * MIB),
            (85, 404 * MIB),
        ]

    told(tmp_path, story)


def test_a_later_volume_of_the_same_name_is_told_of_for_itself(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(mib=400, **EXT4))
        node.machine.mount("fast/pg", "/mnt/pg")
        await looks(node, 340)
        node.machine.unmount("/mnt/pg")
        gone = "replica.removed.v1"
        await have(node, (delete(), "replica", "pg", gone), provisioned(mib=400, **EXT4))
        node.machine.mount("fast/pg", "/mnt/pg")
        await looks(node, 340)
        assert [level for level in levels(node) if level] == [85, 85]

    told(tmp_path, story)


def test_an_extended_snapshot_keeps_what_it_held_and_is_told_of_anew(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(**EXT4), taken())
        async with node.life() as worker:
            await node.settle(worker, always)
            node.machine.change("fast/pg", 34 * MIB)
            await worker.scans.once()
            await grow("s1", 60)(node)
            await node.settle(worker, shown(node, "replica", "s1", RESIZED))
            await worker.scans.once()
            await node.settle(worker, always)
        reports = node.desk.of(ReportSnapshotFill)
        assert [(one.data_percent, one.reserve_bytes) for one in reports] == [
            (85, 40 * MIB),
            (56, 60 * MIB),
        ]

    told(tmp_path, story)


def test_a_thin_pool_grows_with_its_metadata_and_both_are_told(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(thin_bytes=GIB), provisioned(**THIN))
        async with node.life() as worker:
            await node.settle(worker, always)
            node.machine.volume("fast/hwbus-thin").metadata_percent = 83.0
            await worker.scans.once()
            await grow_thin(1200, 16)(node)
            await until(lambda: node.desk.world.pools[node.name, POOL].thin_growth is None)
            await worker.scans.once()
            await node.settle(worker, always)
        facts = node.desk.world.pools[node.name, POOL].facts
        assert facts is not None
        assert (facts.thin_bytes, facts.thin_overhead_bytes) == (1200 * MIB, 32 * MIB)
        told_of = [(one.metadata_percent, one.thin_bytes) for one in node.desk.of(ReportThinFill)]
        assert [*dict.fromkeys(told_of)] == [(83, GIB), (41, 1200 * MIB)]

    told(tmp_path, story)


def test_a_thin_pool_that_is_to_grow_no_more_says_how_large_it_is(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(thin_bytes=GIB), provisioned(**THIN))
        # As a worker leaves it that died right after LVM had done it.
        await grow_thin(1200)(node)
        done = node.machine.execute(("lvextend", "--extents", "300", "fast/hwbus-thin"))
        assert done[0] == 0
        await keep_thin(node)
        async with node.life() as worker:
            await node.settle(worker, shown(node, "pool", POOL, THIN_KEPT))
        pool = node.desk.world.pools[node.name, POOL]
        assert pool.thin_growth is None
        assert pool.facts is not None
        assert (pool.facts.thin_bytes, pool.facts.thin_overhead_bytes) == (1200 * MIB, 16 * MIB)

    told(tmp_path, story)


@hypothesis.given(st.lists(st.integers(0, 100), min_size=1, max_size=40))
def test_a_mark_is_never_above_the_level_for_long_nor_told_twice_for_wavering(
    percents: list[int],
) -> None:
    mark = 0
    for percent in percents:
        before, mark = mark, mark_of(percent, mark)
        assert mark % 5 == 0
        assert percent - 5 < mark <= percent + 2 or (mark == 0 and percent < 50)
        if mark != before:
            assert abs(percent - before) > 2 or percent >= before
