"""The storage contract on a simulated machine; ``tests/lab/test_lvm_*.py`` have real ones."""

from collections.abc import Awaitable, Callable

import pytest

from node_workers.lvm import LvmStorage
from node_workers.ports import Execution, Filesystem, NotThereError, Refusal, ToolFailedError
from node_workers.simulated.machine import SimulatedMachine
from node_workers.simulated.model import Content
from node_workers.simulated.runner import SimulatedRunner
from tests.support.attachment_contract import AttachmentContract
from tests.support.clock import ManualClock
from tests.support.copy_contract import CopyContract
from tests.support.encryption_contract import EncryptionContract
from tests.support.growth_contract import GrowthContract
from tests.support.hold_contract import HoldContract
from tests.support.instant_contract import InstantContract
from tests.support.mending_contract import HandsOffContract, MendingContract
from tests.support.pool_contract import PoolContract
from tests.support.raw_disk_contract import RawDiskContract
from tests.support.snapshot_contract import SnapshotContract
from tests.support.storage_bench import (
    CAUSE,
    NODE,
    POOL,
    UID,
    CountingRunner,
    Play,
    Story,
    play_on,
    spec,
)
from tests.support.volume_contract import VolumeContract

GIB = 1 << 30


class SimulatedBench:
    def __init__(self) -> None:
        self.machine = SimulatedMachine.with_disks("n1", [GIB] * 4)
        self.runner = SimulatedRunner(self.machine, ManualClock().now)
        self.sysfs = self.machine
        self.disks = [f"/dev/sd{letter}" for letter in "bcde"]
        self.identities: dict[str, str] = {}

    async def console(self, *argv: str) -> Execution:
        execution = await self.runner.run(argv, cause="a person", timeout_s=60)
        if execution.exit_status != 0:
            raise ToolFailedError(execution)
        return execution

    async def put_partition_table(self, disk: str) -> None:
        self._disk(disk, "gpt")

    async def put_raid(self, disk: str) -> None:
        self._disk(disk, "linux_raid_member")

    async def write(self, volume: str, data: str) -> None:
        self.machine.write(_lv(volume), data)

    async def read(self, volume: str) -> str:
        return self.machine.read(_lv(volume))

    async def finds(self, volume: str, text: str) -> bool:
        return self.machine.header(volume).data == text

    async def change(self, volume: str, mib: int) -> None:
        self.machine.change(volume, mib << 20)

    async def hold(self, volume: str) -> None:
        self.machine.volume(volume).held_open = True

    async def let_go(self, volume: str) -> None:
        self.machine.volume(volume).held_open = False

    async def mounted_bytes(self, target: str) -> int:
        state = self.machine.state
        device = next(mount.device for mount in state.mounts if mount.target == target)
        names = {lv.uuid: f"{vg.name}/{lv.name}" for vg in state.vgs for lv in vg.lvs}
        for one in state.mapped:
            names[one.uuid] = names[one.below]
        return self.machine.content(names[device]).size_bytes

    async def furnish(self, make: Callable[[], Awaitable[None]]) -> None:
        await make()

    async def reboot(self) -> None:
        self.machine.reboot()

    async def keep_busy(self, target: str, *, busy: bool) -> None:
        self.machine.keep_busy(target, busy=busy)

    async def make_cgroup(self, name: str) -> None:
        self.machine.add_cgroup(name, *(("memory",) if "/" in name else ("io", "memory")))

    async def io_max(self, name: str) -> list[str]:
        limits = self.machine.state.cgroups[name].io_max
        return [f"{number} {line}" for number, line in limits.items()]

    def _disk(self, path: str, kind: str) -> None:
        disk = next(one for one in self.machine.state.disks.values() if f"/dev/{one.name}" == path)
        self.machine.state.contents[disk.key] = Content(kind=kind)


def _lv(volume: str) -> str:
    """Return the logical volume of an attached one: there is one pool in these stories."""
    group, _, name = volume.partition("/")
    return f"{POOL if group == 'hwbus' else group}/{name}"


class TestStorageOnASimulatedMachine(
    PoolContract,
    VolumeContract,
    HoldContract,
    AttachmentContract,
    SnapshotContract,
    InstantContract,
    EncryptionContract,
    CopyContract,
    GrowthContract,
    RawDiskContract,
    MendingContract,
    HandsOffContract,
):
    @pytest.fixture
    def play(self) -> Play:
        return play_on(SimulatedBench())

    def test_waking_asks_for_no_filesystem_and_changes_none(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(spec(filesystem=Filesystem.EXT4))
            await on.bench.console("wipefs", "-a", "/dev/fast/v1")
            counting = CountingRunner(on.bench.runner)
            storage = LvmStorage(counting, on.bench.sysfs, node=NODE)
            wanted = spec(filesystem=Filesystem.EXT4)
            await storage.ensure_volume_unused(UID, wanted, cause=CAUSE)
            await storage.ensure_volume_awake(UID, wanted, cause=CAUSE)
            assert counting.tools == ["lvm", "lvchange", "lvm", "lvchange"]

        play(story)

    def test_what_is_not_there_or_not_ours_is_neither_put_to_sleep_nor_woken(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            for ensure in (on.storage.ensure_volume_unused, on.storage.ensure_volume_awake):
                with pytest.raises(NotThereError) as caught:
                    await ensure(UID, spec(), cause=CAUSE)
                assert caught.value.reason == "volume-missing"
            await on.bench.console("lvcreate", "--extents", "25", "--name", "v1", POOL)
            for ensure in (on.storage.ensure_volume_unused, on.storage.ensure_volume_awake):
                asked = ensure(UID, spec(), cause=CAUSE)
                assert await on.refused(asked) is Refusal.FOREIGN_VOLUME

        play(story)
