"""What a node does about snapshots when somebody is in the way, or changes his mind."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from schemas.node import Drift
from schemas.refusals import Refusal
from schemas.replica import (
    Consistency,
    ReportReplicaAbsent,
    ReportReplicaPresent,
    ReportReplicaTrouble,
)
from schemas.snapshot import ReportSnapshotFill
from tests.simulation.node.lives import Node
from tests.simulation.node.stories import (
    EXT4,
    GIB,
    GONE,
    KEPT,
    MIB,
    THIN,
    delete,
    formed,
    have,
    keep,
    provisioned,
    roll_back,
    shown,
    taken,
    uid,
    written,
)
from tests.support.nats import until

BEFORE = (formed(), provisioned(**EXT4), written("then"), taken(), written("now"))
Story = Callable[[Node], Coroutine[Any, Any, None]]


def told(folder: Path, story: Story) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            await story(Node(folder))

    asyncio.run(run())


async def always() -> bool:
    return True


def test_a_snapshot_is_reported_with_its_room_and_what_it_caught(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *BEFORE)
        report = node.desk.of(ReportReplicaPresent)[-1]
        assert (report.volume, report.size_bytes) == ("s1", 40 * MIB)
        assert report.consistency is Consistency.FILESYSTEM
        assert node.machine.read("fast/s1") == "then"

    told(tmp_path, story)


def test_a_filling_snapshot_is_told_once_for_each_mark_and_once_more_when_it_is_lost(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        await have(node, *BEFORE)
        async with node.life() as worker:
            await node.settle(worker, always)
            for percent in (10, 79, 80, 84, 96, 97, 100):
                snapshot = node.machine.volume("fast/s1")
                more = percent - int(snapshot.fill_percent)
                node.machine.change("fast/pg", more * snapshot.extents * 4 * MIB // 100 + 1024)
                await worker.scans.once()
                await worker.scans.once()
            await node.settle(worker, always)
        told_of = [(one.data_percent, one.overflowed) for one in node.desk.of(ReportSnapshotFill)]
        assert told_of == [(79, False), (80, False), (96, False), (100, True)]
        assert {one.uid for one in node.desk.of(ReportSnapshotFill)} == {uid("s1")}

    told(tmp_path, story)


def test_a_snapshot_of_the_same_name_later_has_marks_of_its_own(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *BEFORE)
        async with node.life() as worker:
            await node.settle(worker, always)
            node.machine.change("fast/pg", 34 * MIB)
            await worker.scans.once()
            await delete("s1")(node)
            await node.settle(worker, shown(node, "replica", "s1", GONE))
            await worker.scans.once()
        await have(node, taken())
        async with node.life() as worker:
            await node.settle(worker, always)
            node.machine.change("fast/pg", 34 * MIB)
            await worker.scans.once()
            await node.settle(worker, always)
        assert [one.data_percent for one in node.desk.of(ReportSnapshotFill)] == [85, 85]

    told(tmp_path, story)


def test_a_thin_snapshot_has_no_marks(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(thin_bytes=GIB), provisioned(**THIN), taken(mib=320, **THIN))
        async with node.life() as worker:
            await node.settle(worker, always)
            await worker.scans.once()
            await node.settle(worker, always)
        assert node.desk.of(ReportSnapshotFill) == []

    told(tmp_path, story)


def test_a_mounted_volume_is_not_rolled_back_and_stays_as_it_is(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *BEFORE)
        node.machine.mount("fast/pg", "/srv/pg")
        async with node.life() as worker:
            await roll_back()(node)
            await until(lambda: bool(node.desk.of(ReportReplicaTrouble)))
            await keep("s1")(node)
            await node.settle(worker, shown(node, "replica", "s1", KEPT))
        (trouble,) = node.desk.of(ReportReplicaTrouble)
        assert (trouble.code, trouble.permanent) == (Refusal.IN_USE, True)
        assert (node.machine.read("fast/pg"), node.machine.read("fast/s1")) == ("now", "then")

    told(tmp_path, story)


def test_a_rollback_that_is_withdrawn_in_time_leaves_all_as_it_was(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *BEFORE)
        await roll_back()(node)
        await keep("s1")(node)
        async with node.life() as worker:
            await node.settle(worker, shown(node, "replica", "s1", KEPT))
        assert node.machine.read("fast/pg") == "now"

    told(tmp_path, story)


def test_a_rollback_that_is_withdrawn_too_late_says_that_it_was_done(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *BEFORE)
        # As a worker leaves it that died right after LVM knew that there is something to merge.
        node.machine.volume("fast/pg").tags.append(f"hwbus.merged={uid('s1')}")
        for argv in (("lvchange", "--activate", "n", "fast/pg"), ("lvconvert", "--merge")):
            target = () if argv[0] == "lvchange" else ("fast/s1",)
            assert node.machine.execute((*argv, *target))[0] == 0
        await roll_back()(node)
        await keep("s1")(node)
        async with node.life() as worker:
            await node.settle(worker, shown(node, "replica", "s1", GONE))
        assert node.desk.of(ReportReplicaAbsent)[-1].merged
        assert node.machine.read("fast/pg") == "then"
        assert node.machine.volume("fast/pg").active

    told(tmp_path, story)


def test_a_snapshot_that_hands_removed_is_drift_and_no_rollback(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *BEFORE)
        node.machine.remove_volume("fast/s1")
        async with node.life() as worker:
            await node.settle(worker, always)
            await worker.scans.once()
            await node.settle(worker, always)
            (finding,) = node.desk.world.nodes[node.name].findings
            assert finding.drift is Drift.VOLUME_MISSING
            assert "hwbus snapshot delete s1" in finding.settle
            await roll_back()(node)
            await until(lambda: bool(node.desk.of(ReportReplicaTrouble)))
            await keep("s1")(node)
            await node.settle(worker, shown(node, "replica", "s1", GONE))
        (trouble,) = node.desk.of(ReportReplicaTrouble)
        assert (trouble.code, trouble.permanent) == (Refusal.SNAPSHOT_MISSING, True)
        assert not node.desk.of(ReportReplicaAbsent)[-1].merged
        assert node.machine.read("fast/pg") == "now"

    told(tmp_path, story)
