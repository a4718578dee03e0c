"""What a node does on good days and bad ones, on a simulated machine with a desk in memory."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from node_workers.simulated.model import Content, Disk
from schemas.disk import Content as Found
from schemas.disk import ReportDiskGone, ReportDiskSeen
from schemas.node import Drift, ReportDrift
from tests.simulation.node.lives import NODE, Node
from tests.simulation.node.stories import (
    CREATED,
    EXT4,
    GIB,
    GONE,
    GROWN,
    HELD,
    KEPT,
    POOL,
    RESIZED,
    THIN,
    delete,
    extend,
    formed,
    grow,
    have,
    hold,
    keep,
    provision,
    provisioned,
    recorded,
    shown,
)
from tests.support.nats import until

ONLY_LOOKS = {"lsblk", "lvm", "wipefs", "dmsetup info"}
Story = Callable[[Node], Coroutine[Any, Any, None]]


def ran_on(node: Node) -> set[str]:
    """Return the tools that ran; device mapper's by what they do."""
    return {" ".join(a[:2]) if a[0] == "dmsetup" else a[0] for a in node.executed}


def told(folder: Path, story: Story, **more: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            await story(Node(folder, **more))

    asyncio.run(run())


def tools(node: Node, *names: str) -> list[tuple[str, ...]]:
    return [argv for argv in node.executed if argv[0] in names]


async def findings(node: Node) -> list[tuple[Drift, str]]:
    """What a fresh look at the machine makes the log know of drift."""
    async with node.life() as worker:
        await node.settle(worker, always)
        await worker.scans.once()
        await node.settle(worker, always)
    return [(one.drift, one.object) for one in node.desk.world.nodes[node.name].findings]


async def always() -> bool:
    return True


def test_a_held_volume_that_somebody_woke_is_put_to_rest_as_soon_as_nobody_uses_it(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(), (hold(), "replica", "pg", HELD))
        node.machine.write("fast/pg", "precious")
        volume = node.machine.volume("fast/pg")
        async with node.life() as worker:
            await node.settle(worker, always)
            volume.active = volume.held_open = True
            await worker.scans.once()
            await node.settle(worker, always)
            assert volume.active
            volume.held_open = False
            await worker.scans.once()
            await node.settle(worker, always)
            assert not volume.active
            looks = len(tools(node, "lvchange"))
            await worker.scans.once()
            await node.settle(worker, always)
            assert len(tools(node, "lvchange")) == looks
            await keep()(node)
            await node.settle(worker, shown(node, "replica", "pg", KEPT))
        assert volume.active
        assert node.machine.read("fast/pg") == "precious"

    told(tmp_path, story)


def test_a_blank_disk_is_reported_once_and_a_used_one_with_what_is_on_it(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        disk = Disk(key="used", name="sdx", size_bytes=GIB, serial="used")
        node.machine.add_disk(disk, Content(kind="xfs"))
        async with node.life() as worker:
            await node.settle(worker, always)
            await worker.scans.once()
            await worker.scans.once()
            await node.settle(worker, always)
        seen = {one.sighting.path: one for one in node.desk.of(ReportDiskSeen)}
        assert len(seen) == len(node.desk.of(ReportDiskSeen)) == 5
        assert seen["/dev/sdb"].sighting.content is Found.BLANK
        assert seen["/dev/sdx"].sighting.content is Found.FILESYSTEM
        assert seen["/dev/sdx"].sighting.detail == "xfs"
        assert seen["/dev/sda"].sighting.content is Found.SYSTEM

    told(tmp_path, story)


def test_a_disk_that_is_pulled_is_gone_and_is_itself_again_when_it_returns(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        async with node.life() as worker:
            await node.settle(worker, always)
            pulled = node.machine.pull("sdb")
            worker.scans.hint()
            await until(lambda: bool(node.desk.of(ReportDiskGone)))
            node.machine.plug(pulled)
            worker.scans.hint()
            await until(lambda: len(node.desk.of(ReportDiskSeen)) == 5)
            await node.settle(worker, always)
        gone = node.desk.of(ReportDiskGone)[0].disk
        names = await node.desk.names("disk", "-", gone)
        assert names == ["disk.found.v1", "disk.gone.v1", "disk.found.v1"]

    told(tmp_path, story)


def test_equal_serials_on_two_nodes_are_two_disks(tmp_path: Path) -> None:
    async def run() -> None:
        one, other = Node(tmp_path, name="n1", disks=0), Node(tmp_path, name="n2", disks=0)
        for node in (one, other):
            disk = Disk(key=node.name, name="sdb", size_bytes=GIB, serial="SAME")
            node.machine.add_disk(disk)
            async with node.life() as worker:
                await node.settle(worker, always)
        ids = [{r.disk for r in node.desk.of(ReportDiskSeen)} for node in (one, other)]
        assert not ids[0] & ids[1]

    asyncio.run(run())


def test_a_pool_disk_that_moves_to_another_node_and_back_is_itself_throughout(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        home, away = Node(tmp_path, name="n1"), Node(tmp_path, name="n2", disks=1)
        away.desk = home.desk
        await have(home, formed(0), provisioned(**EXT4))
        home.machine.write("fast/pg", "precious")
        disk = home.desk.world.pools["n1", POOL].disks[0]
        pulled = home.machine.pull("sdb")
        assert await findings(home) == [(Drift.POOL_MISSING, "pool/n1/fast")]
        away.machine.plug(pulled, "sdz")
        assert await findings(away) == []
        assert home.desk.world.disks[disk].last_node == "n2"
        assert home.desk.world.disks[disk].sightings["n2"].content is Found.OURS
        assert ran_on(away) <= ONLY_LOOKS
        back = away.machine.pull("sdz")
        assert await findings(away) == []
        home.machine.plug(back)
        assert await findings(home) == []
        assert home.desk.world.disks[disk].last_node == "n1"
        assert home.machine.read("fast/pg") == "precious"
        assert home.machine.volume("fast/pg").active

    asyncio.run(run())


def test_without_the_bus_volumes_are_active_after_a_reboot_and_wishes_wait(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned())
        node.machine.reboot()
        node.desk.away = True
        async with node.life() as worker:
            await until(lambda: node.machine.volume("fast/pg").active)
            await provision("later")(node)
            assert not worker.caught_up
            node.desk.away = False
            await node.settle(worker, shown(node, "replica", "later", CREATED))

    told(tmp_path, story)


def test_what_happened_while_the_worker_was_away_is_done_when_it_returns(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned("a"), provisioned("b"))
        await delete("a")(node)
        await grow("b")(node)
        await provision("c")(node)
        async with node.life() as worker:
            await node.settle(worker, shown(node, "replica", "c", CREATED))
        assert (await recorded(node, "replica", "a"))[-1] == GONE
        assert (await recorded(node, "replica", "b"))[-1] == RESIZED

    told(tmp_path, story)


def test_a_worker_that_lost_its_memory_makes_nothing_that_was_there_once(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned("a"), provisioned("b"))
        await have(node, (delete("a"), "replica", "a", GONE))
        node.machine.remove_volume("fast/b")
        node.file.unlink()
        node.executed.clear()
        assert await findings(node) == [(Drift.VOLUME_MISSING, "replica/n1/b")]
        assert tools(node, "lvcreate", "vgcreate", "lvremove", "mkfs.ext4") == []

    told(tmp_path, story)


def test_a_message_that_nobody_can_read_is_parked_and_stops_nobody(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        first = await node.desk.garble("hwbus.evt.replica.n1.bad", b"{ not json")
        await node.desk.garble("hwbus.evt.replica.n1.bad", b'{"v":1,"events":[{"type":"x.y.v9"}]}')
        await have(node, provisioned())
        parked = node.desk.parked()
        assert [one.consumer for one in parked] == ["worker-n1", "worker-n1"]
        assert parked[0].seq == first
        assert parked[0].data == "{ not json"
        await have(node, provisioned("more"))
        assert len(node.desk.parked()) == 2

    told(tmp_path, story)


def test_a_commit_under_the_subject_of_another_object_is_parked(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        formed_at = await node.desk.log.last("hwbus.evt.pool.n1.fast")
        assert formed_at is not None
        await node.desk.garble("hwbus.evt.replica.n1.fast", formed_at.data)
        await have(node, provisioned())
        assert len(node.desk.parked()) == 1

    told(tmp_path, story)


def missing(node: Node) -> None:
    node.machine.remove_volume("fast/pg")


def larger(node: Node) -> None:
    node.machine.volume("fast/pg").extents += 5


def renamed(node: Node) -> None:
    node.machine.volume("fast/pg").name = "mine"


def foreign(node: Node) -> None:
    node.machine.execute(("lvcreate", "--extents", "3", "--name", "stray", "fast"))


def pool_missing(node: Node) -> None:
    node.machine.pull("sdb")
    node.machine.pull("sdc")


def disk_missing(node: Node) -> None:
    node.machine.pull("sdc")


@pytest.mark.parametrize(
    ("by_hand", "drift", "where"),
    [
        (missing, Drift.VOLUME_MISSING, "replica/n1/pg"),
        (larger, Drift.VOLUME_RESIZED, "replica/n1/pg"),
        (renamed, Drift.VOLUME_RENAMED, "replica/n1/pg"),
        (foreign, Drift.VOLUME_FOREIGN, "lv/n1/fast/stray"),
        (pool_missing, Drift.POOL_MISSING, "pool/n1/fast"),
        (disk_missing, Drift.POOL_DISK_MISSING, "pool/n1/fast"),
    ],
)
def test_what_hands_changed_is_reported_with_both_sides_and_left_alone(
    tmp_path: Path, by_hand: Callable[[Node], None], drift: Drift, where: str
) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(0, 1), provisioned())
        assert await findings(node) == []
        node.executed.clear()
        by_hand(node)
        assert await findings(node) == [(drift, where)]
        finding = node.desk.world.nodes[NODE].findings[0]
        assert finding.wanted
        assert finding.observed
        assert finding.settle
        assert await findings(node) == [(drift, where)]
        assert ran_on(node) <= ONLY_LOOKS
        assert not [argv for argv in node.executed if "-a" in argv]

    told(tmp_path, story)


def test_drift_that_was_settled_by_hand_is_settled_in_the_log(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned())
        renamed(node)
        assert len(await findings(node)) == 1
        node.machine.volume("fast/mine").name = "pg"
        assert await findings(node) == []
        names = await node.desk.names("node", "-", NODE)
        assert names[-2:] == ["node.drift-found.v1", "node.drift-settled.v1"]

    told(tmp_path, story)


def test_a_thin_pool_that_hands_removed_is_told_and_never_made_again(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(0, thin_bytes=GIB), provisioned(**THIN))
        node.machine.remove_volume("fast/pg")
        node.machine.remove_volume("fast/hwbus-thin")
        assert await findings(node) == [(Drift.VOLUME_MISSING, "replica/n1/pg")]
        facts = node.desk.world.pools[NODE, POOL].facts
        assert facts is not None
        assert facts.thin_bytes == 0
        await have(node, (extend(1), "pool", POOL, GROWN))
        volumes = [one.name for one in (await node.look()).volumes]
        assert volumes == []

    told(tmp_path, story)


def test_an_unchanged_picture_is_not_said_again(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned())
        foreign(node)
        told_before = len(node.desk.of(ReportDrift))
        async with node.life() as worker:
            await worker.scans.once()
            # A fresh worker repeats all it sees until it has told the drift, and so knows it all.
            await until(lambda: len(node.desk.of(ReportDrift)) > told_before)
            await node.settle(worker, always)
            before = len(node.desk.said)
            for _ in range(3):
                await worker.scans.once()
            await node.settle(worker, always)
            assert len(node.desk.said) == before

    told(tmp_path, story)
