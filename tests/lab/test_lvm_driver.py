"""The storage contract on a real kernel: real LVM, real filesystems, real refusals.

Volumes in use and what is made of snapshots have files of their own, for the labs of two processes
to share the work.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.observation import ContentKind
from node_workers.ports import Filesystem
from tests.support.hold_contract import HoldContract
from tests.support.lab_bench import LabBench, until_it_ends
from tests.support.pool_contract import PoolContract
from tests.support.raw_disk_contract import RawDiskContract
from tests.support.storage_bench import CAUSE, MIB, POOL, UID, Play, Story, play_on, spec
from tests.support.volume_contract import VolumeContract

pytestmark = pytest.mark.lab


class TestStorageOnARealKernel(PoolContract, VolumeContract, HoldContract, RawDiskContract):
    @pytest.fixture
    def play(self, bench: LabBench) -> Play:
        return play_on(bench)


def test_a_disk_keeps_its_identity_when_it_moves_to_another_machine(bench: LabBench) -> None:
    async def story() -> None:
        (disk,) = await Story(bench).pool(0)
        await bench.console("vgchange", "--activate", "n", POOL)
        moved = await bench.lab.move_disk("n1", "b", "n2", "h")
        there = LabBench(bench.lab, "n2")
        try:
            seen = await observe(there, there, node="n2", cause=CAUSE)
            found = next(one for one in seen.disks if one.path == "/dev/ubdh")
            assert (found.identity, found.stamped) == (disk.disk, True)
            assert found.content.pool_uid == UID
            here = await Story(bench).look()
            assert all(one.identity != disk.disk for one in here.disks)
        finally:
            await bench.lab.move_disk("n2", "h", "n1", "b")
        assert moved is not None

    asyncio.run(story())


def test_half_a_filesystem_is_made_again(bench: LabBench) -> None:
    async def story(on: Story) -> None:
        await on.pool()
        wanted = spec(mib=320, filesystem=Filesystem.XFS)
        await on.volume(wanted)
        # What a mkfs.xfs leaves that died before its last write: its mark of being in progress.
        await on.bench.console(
            *("xfs_db", "-x", "-c", "sb 0", "-c", "write inprogress 1", "/dev/fast/v1")
        )
        assert (await on.storage.ensure_volume(UID, wanted, cause=CAUSE)).changed
        await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")

    play_on(bench)(story)


@pytest.mark.slow
def test_a_crash_between_any_two_tools_ends_well_on_a_real_kernel(bench: LabBench) -> None:
    wanted = spec(mib=320, filesystem=Filesystem.XFS)
    grown = spec(mib=400, filesystem=Filesystem.XFS)

    async def story(on: Story) -> None:
        disks = await on.disks(0, 1)
        steps: list[Callable[[LvmStorage], Awaitable[object]]] = [
            lambda storage: storage.ensure_pool(UID, POOL, disks, cause=CAUSE),
            lambda storage: storage.ensure_volume(UID, wanted, cause=CAUSE),
            lambda storage: storage.ensure_volume_size(UID, grown, cause=CAUSE),
        ]
        for step in steps:
            await until_it_ends(on.bench, step)
        await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")
        assert await on.bench.mounted_bytes("/mnt/v1") > 300 * MIB
        await on.bench.console("umount", "/mnt/v1")
        ends: list[Callable[[LvmStorage], Awaitable[object]]] = [
            lambda storage: storage.ensure_volume_removed(UID, POOL, "uid-v1", "v1", cause=CAUSE),
            lambda storage: storage.ensure_pool_removed(UID, POOL, disks, cause=CAUSE),
        ]
        for step in ends:
            await until_it_ends(on.bench, step)
        assert [await on.content(index) for index in (0, 1)] == [ContentKind.BLANK] * 2

    play_on(bench)(story)


_IN_THE_NODE = """
import asyncio, os, sys
from datetime import UTC, datetime
from node_workers.inventory import observe
from node_workers.sysfs import RealSysfs
from node_workers.runner import RealRunner, RecordingRunner
from node_workers.uevents import block_uevents

async def main():
    told, now = [], lambda: datetime.fromtimestamp(0, UTC)
    runner = RecordingRunner(RealRunner(now, os.environ), told.append, now)
    async with block_uevents() as events:
        print("listening", flush=True)
        async with asyncio.timeout(30):
            event = await anext(events)
    seen = await observe(runner, RealSysfs(), node="n1", cause="a test")
    print(event.action, event.name, [one.exit_status for one in told])
    print(*(f"{one.path}={one.serial}={one.content.kind}" for one in seen.disks))
asyncio.run(main())
"""


def test_a_worker_inside_the_node_hears_a_disk_come_and_sees_it(bench: LabBench) -> None:
    async def story() -> None:
        heard = asyncio.Event()
        output = bytearray()

        def on_output(_: str, data: bytes) -> None:
            output.extend(data)
            heard.set()

        root = str(Path(__file__).parents[2])
        program = asyncio.create_task(
            bench.lab.exec(
                *("n1", sys.executable, "-c", _IN_THE_NODE),
                env={"PYTHONPATH": root},
                on_output=on_output,
            )
        )
        await asyncio.wait_for(heard.wait(), 30)
        await bench.lab.add_disk("n1", "64M", serial="HOT", letter="k")
        try:
            await program
        finally:
            await bench.lab.remove_disk("n1", "k")
        said = output.decode()
        assert "add ubdk [0, 0, 0]" in said
        assert "/dev/ubdk=HOT=blank" in said
        assert "/dev/ubda=" in said

    asyncio.run(story())
