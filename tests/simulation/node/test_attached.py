"""What a node does for volumes in use: over reboots, behind its back, and when somebody is busy."""

from pathlib import Path

from schemas.attachment import Limits, ReportAttachmentPresent, ReportAttachmentTrouble
from schemas.node import Drift, Finding
from schemas.refusals import Refusal
from tests.simulation.node.lives import Node
from tests.simulation.node.stories import (
    CGROUP,
    EXT4,
    FREE,
    MADE,
    MOUNTED,
    RESIZED,
    attach,
    attached,
    detach,
    formed,
    grow,
    have,
    keep_attached,
    provisioned,
    recorded,
    shown,
)
from tests.simulation.node.test_node import always, told
from tests.support.nats import until, until_async

IN_USE = (formed(), provisioned(**EXT4), attached())
SLOW = Limits(read_iops=100)
HOLDS = {"254:1": "rbps=max wbps=max riops=100 wiops=max"}


def targets(node: Node) -> list[str]:
    return [mount.target for mount in node.machine.state.mounts if mount.target != "/"]


def test_after_a_reboot_a_volume_is_in_use_again_even_without_the_bus(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *IN_USE)
        node.machine.reboot()
        node.desk.away = True
        async with node.life():
            await until(lambda: targets(node) == ["/mnt/pg"])
        assert node.machine.state.links == {"/dev/hwbus/pg": "/dev/mapper/hwbus:pg"}
        assert await recorded(node, "attachment", "pg") == ["attachment.wanted.v1", MADE]

    told(tmp_path, story)


def test_what_somebody_took_away_by_hand_is_made_again_at_the_next_look(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *IN_USE)
        async with node.life() as worker:
            await node.settle(worker, always)
            node.machine.unmount("/mnt/pg")
            await worker.scans.once()
            assert targets(node) == ["/mnt/pg"]
            node.machine.unmount("/mnt/pg")
            node.machine.state.mapped.clear()
            await worker.scans.once()
            assert targets(node) == ["/mnt/pg"]
            done = len(node.executed)
            await worker.scans.once()
            looks = {("lsblk", ""), ("lvm", ""), ("wipefs", ""), ("dmsetup", "info")}
            ran = {(a[0], a[1] if a[0] == "dmsetup" else "") for a in node.executed[done:]}
            assert ran <= looks
        assert len(node.desk.of(ReportAttachmentPresent)) == 1

    told(tmp_path, story)


def test_what_cannot_be_made_again_is_a_finding_until_it_can(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(**EXT4), attached(limits=SLOW))
        node.machine.reboot()

        def findings() -> tuple[Finding, ...]:
            return node.desk.world.nodes[node.name].findings

        async with node.life() as worker:
            await until(lambda: bool(findings()))
            assert targets(node) == ["/mnt/pg"]
            (finding,) = findings()
            assert finding.drift is Drift.ATTACHMENT_MISSING
            assert finding.object == "attachment/n1/pg"
            assert "/dev/hwbus/pg, mounted at /mnt/pg, limited, for host/" in finding.wanted
            assert finding.observed == f"there is no control group {CGROUP}"
            group = node.machine.add_cgroup(CGROUP, "io")
            await worker.scans.once()
            assert group.io_max == HOLDS
            await worker.scans.once()
            await node.settle(worker, always)
            assert findings() == ()

    told(tmp_path, story)


def test_limits_that_cannot_hold_are_told_once_with_their_reason(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(**EXT4))
        async with node.life() as worker:
            await attach(**MOUNTED, limits=SLOW)(node)
            node.machine.add_cgroup(CGROUP, "memory")
            await node.settle(worker, always)
            (trouble,) = node.desk.of(ReportAttachmentTrouble)
            assert (trouble.code, trouble.permanent) == (Refusal.NO_IO_CONTROLLER, True)
            assert CGROUP in trouble.because
            await detach()(node)
            await node.settle(worker, shown(node, "attachment", "pg", FREE))
        assert (targets(node), node.machine.state.mapped) == ([], [])

    told(tmp_path, story)


def test_who_is_busy_keeps_the_volume_and_the_reason_is_told(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *IN_USE)
        async with node.life() as worker:
            node.machine.keep_busy("/mnt/pg")
            await detach()(node)
            await node.settle(worker, always)
            (trouble,) = node.desk.of(ReportAttachmentTrouble)
            assert (trouble.code, trouble.permanent) == (Refusal.IN_USE, True)
            assert "busy" in trouble.because
            await keep_attached()(node)
            await node.settle(worker, shown(node, "attachment", "pg", MADE))
            assert targets(node) == ["/mnt/pg"]
            node.machine.keep_busy("/mnt/pg", busy=False)
            await detach()(node)
            await node.settle(worker, shown(node, "attachment", "pg", FREE))
        assert (targets(node), node.machine.state.links) == ([], {})

    told(tmp_path, story)


def test_growth_puts_a_device_right_that_somebody_left_standing_still(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *IN_USE)
        (device,) = node.machine.state.mapped
        device.suspended = True
        async with node.life() as worker:
            await grow()(node)
            await node.settle(worker, shown(node, "replica", "pg", RESIZED))
            assert not device.suspended
            assert device.size_bytes == 400 << 20
            assert node.machine.content("fast/pg").size_bytes == 400 << 20

    told(tmp_path, story)


def test_what_is_being_taken_back_is_not_made_again_behind_its_back(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, *IN_USE)
        async with node.life() as worker:
            await detach()(node)

            async def gone() -> bool:
                await worker.scans.once()
                return await shown(node, "attachment", "pg", FREE)()

            await until_async(gone)
            await worker.scans.once()
            await node.settle(worker, always)
        assert (targets(node), node.machine.state.mapped) == ([], [])

    told(tmp_path, story)
