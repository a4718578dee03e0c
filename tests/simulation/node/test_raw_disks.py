"""What a node does with disks that are volumes: pulled, moved, swapped, used as disks are."""

import asyncio
from pathlib import Path

from aggregates.raw_disks import group_of
from node_workers.observation import ContentKind
from schemas.disk import Content, Wiping
from schemas.node import Drift, Finding
from schemas.refusals import Refusal
from schemas.replica import ReportReplicaAbsent, ReportReplicaTrouble
from tests.simulation.node.lives import Fate, Node, at_once
from tests.simulation.node.stories import (
    EXT4,
    GONE,
    HELD,
    KEPT,
    attached,
    delete,
    formed,
    have,
    hold,
    keep,
    provisioned,
    recorded,
    shown,
    uid,
    whole_disk,
)
from tests.simulation.node.test_crash_matrix import whole_life
from tests.simulation.node.test_node import always, told
from tests.support.nats import until, until_async

RAW = group_of(uid("pg"))
LV = f"{RAW}/pg"


def findings(node: Node) -> tuple[Finding, ...]:
    return node.desk.world.nodes[node.name].findings


async def content(node: Node, path: str) -> ContentKind:
    return next(one for one in (await node.look()).disks if one.path == path).content.kind


async def identity(node: Node, path: str) -> str:
    return next(one for one in (await node.look()).disks if one.path == path).identity


def test_a_pulled_disk_marks_its_volume_alone_and_is_known_again_in_another_slot(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned("kept", **EXT4), whole_disk())
        node.machine.write(LV, "precious")
        async with node.life() as worker:
            await node.settle(worker, always)
            before = await identity(node, "/dev/sdd")
            pulled = node.machine.pull("sdd")
            await worker.scans.once()
            await node.settle(worker, always)
            (finding,) = findings(node)
            assert (finding.drift, finding.object) == (Drift.VOLUME_MISSING, "replica/n1/pg")
            assert node.desk.world.replicas["n1", "pg"].spec is not None
            assert "plug the disk in" in finding.settle[0]
            node.machine.plug(pulled, "sdz")
            await worker.scans.once()
            await until(lambda: node.machine.volume(LV).active)
            await worker.scans.once()
            await node.settle(worker, always)
            assert findings(node) == ()
            assert node.machine.read(LV) == "precious"
            assert await identity(node, "/dev/sdz") == before
            await delete()(node)
            await node.settle(worker, shown(node, "replica", "pg", GONE))
        assert await content(node, "/dev/sdz") is ContentKind.BLANK

    told(tmp_path, story)


def test_what_became_of_the_disk_is_told_without_being_asked(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, whole_disk())
        name = await identity(node, "/dev/sdd")

        def content_told() -> Content | None:
            disk = node.desk.world.disks.get(name)
            return None if disk is None else disk.sightings["n1"].content

        async with node.life():
            await until(lambda: content_told() is Content.OURS)
            await delete()(node)
            await until(lambda: content_told() is Content.BLANK)

    told(tmp_path, story)


def test_nothing_is_wiped_in_the_place_of_a_disk_that_is_gone(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, whole_disk(0, "other"), whole_disk(2))
        node.machine.write(f"{group_of(uid('other'))}/other", "precious")
        node.machine.write(LV, "secret")
        async with node.life() as worker:
            await node.settle(worker, always)
            away = node.machine.pull("sdd")
            # The other volume's disk comes to be where it was.
            node.machine.plug(node.machine.pull("sdb"), "sdd")
            await delete()(node)
            await until(lambda: bool(node.desk.of(ReportReplicaTrouble)))
            trouble = node.desk.of(ReportReplicaTrouble)[0]
            assert (trouble.code, trouble.permanent) == (Refusal.DISK_GONE, False)
            assert node.machine.read(f"{group_of(uid('other'))}/other") == "precious"
            assert not node.desk.of(ReportReplicaAbsent)
            node.machine.plug(away, "sdb")
            await until_async(shown(node, "replica", "pg", GONE))
            assert await content(node, "/dev/sdb") is ContentKind.BLANK
            assert node.machine.read(f"{group_of(uid('other'))}/other") == "precious"

    told(tmp_path, story)


def test_a_disk_that_is_lost_is_given_up_and_never_taken_for_blank_if_it_returns(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        await have(node, whole_disk())
        async with node.life() as worker:
            await node.settle(worker, always)
            pulled = node.machine.pull("sdd")
            await delete(wiping=Wiping.LOST)(node)
            await node.settle(worker, shown(node, "replica", "pg", GONE))
            node.machine.plug(pulled)
            await worker.scans.once()
            await node.settle(worker, always)
        disk = next(one for one in (await node.look()).disks if one.path == "/dev/sdd")
        assert (disk.content.kind, disk.content.pool_uid) == (ContentKind.LVM, uid("pg"))
        assert LV in {f"{one.pool}/{one.name}" for one in (await node.look()).volumes}

    told(tmp_path, story)


def test_a_removal_that_is_withdrawn_is_either_done_or_never_was(tmp_path: Path) -> None:
    ends: list[bool] = []

    async def story(beginning: Node, folder: Path, number: int) -> int:
        node = await beginning.forked(folder)
        fate = Fate(strike_at=number)
        await whole_life(node, (delete(), "replica", "pg", GONE), fate)
        gone = (await recorded(node, "replica", "pg"))[-1] == GONE
        if not gone:
            async with node.life() as worker:
                await keep()(node)
                await node.settle(worker, always)
        ended = (await recorded(node, "replica", "pg"))[-1]
        blank = await content(node, "/dev/sdd") is ContentKind.BLANK
        assert ended == (GONE if blank else KEPT), number
        assert blank or node.machine.volume(LV).active
        ends.append(blank)
        return fate.points

    async def all_of_it() -> None:
        beginning = Node(tmp_path / "beginning")
        beginning.connect = at_once
        await have(beginning, whole_disk())
        for number in range(1, 100):
            if await story(beginning, tmp_path / str(number), number) < number:
                return

    asyncio.run(all_of_it())
    assert ends == sorted(ends)
    assert set(ends) == {False, True}


def test_after_a_reboot_it_is_in_use_again_or_at_rest_if_it_is_held(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        held = (hold("at-rest"), "replica", "at-rest", HELD)
        use = attached(pool=RAW)
        await have(node, whole_disk(1, "at-rest"), held, whole_disk(2, **EXT4), use)
        node.machine.write(LV, "precious")
        node.machine.reboot()
        node.desk.away = True
        async with node.life():
            await until(lambda: any(m.target == "/mnt/pg" for m in node.machine.state.mounts))
            assert node.machine.read(LV) == "precious"
            resting = f"{group_of(uid('at-rest'))}/at-rest"
            assert not node.machine.volume(resting).active

    told(tmp_path, story)


def test_whatever_its_user_makes_of_it_it_is_no_foreign_disk(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, whole_disk())
        before = await content(node, "/dev/sdd")
        node.machine.write(LV, "mine")
        node.machine.content(LV).kind = "gpt"
        assert node.machine.content(LV).kind == "gpt"
        async with node.life() as worker:
            await worker.scans.once()
            await node.settle(worker, always)
            assert findings(node) == ()
            assert before is await content(node, "/dev/sdd") is ContentKind.LVM
        assert await recorded(node, "replica", "pg") == ["replica.wanted.v1", "replica.created.v1"]

    told(tmp_path, story)
