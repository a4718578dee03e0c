"""The model under the tests: what it keeps, what it refuses to guess, and its faults."""

import asyncio
from pathlib import Path

import pytest

from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.observation import ContentKind, Observation
from node_workers.ports import (
    Filesystem,
    InUseError,
    NoSpaceError,
    NotThereError,
    PoolDisk,
    ToolTimedOutError,
    VolumeSpec,
)
from node_workers.simulated.arguments import UnknownToolUseError
from node_workers.simulated.faults import Faults, SimulatedCrash
from node_workers.simulated.machine import SimulatedMachine
from node_workers.simulated.runner import SimulatedRunner
from tests.support.clock import ManualClock

GIB, MIB = 1 << 30, 1 << 20


def runner(machine: SimulatedMachine, **faults: float) -> SimulatedRunner:
    return SimulatedRunner(machine, ManualClock().now, Faults(seed=1, **faults))  # type: ignore[arg-type]


def look(machine: SimulatedMachine, node: str = "n1") -> Observation:
    return asyncio.run(observe(runner(machine), machine, node=node, cause="c"))


def with_volume(machine: SimulatedMachine, disks: int = 1) -> None:
    async def story() -> None:
        storage = LvmStorage(runner(machine), machine, node="n1")
        seen = (await observe(runner(machine), machine, node="n1", cause="c")).disks
        wanted = [PoolDisk(disk=one.identity, path=one.path) for one in seen[1 : disks + 1]]
        await storage.ensure_pool("01pool", "fast", wanted, cause="c")
        spec = VolumeSpec(uid="u1", name="v1", pool="fast", size_bytes=100 * MIB)
        await storage.ensure_volume("01pool", spec, cause="c")

    asyncio.run(story())


def storage(machine: SimulatedMachine) -> LvmStorage:
    return LvmStorage(runner(machine), machine, node="n1")


def test_a_volume_on_a_lost_disk_can_be_removed_and_keeps_nobody_asleep() -> None:
    machine = SimulatedMachine.with_disks("n1", [GIB, GIB])
    with_volume(machine, disks=2)
    large = VolumeSpec(uid="u2", name="v2", pool="fast", size_bytes=1200 * MIB)
    asyncio.run(storage(machine).ensure_volume("01pool", large, cause="c"))
    machine.pull("sdc")
    machine.reboot()
    assert asyncio.run(storage(machine).ensure_active({"fast": "01pool"}, cause="c")) == ("u1",)
    with pytest.raises(NotThereError) as caught:
        asyncio.run(storage(machine).ensure_volume_size("01pool", large, cause="c"))
    assert caught.value.reason == "disk-missing"
    removal = storage(machine).ensure_volume_removed("01pool", "fast", "u2", "v2", cause="c")
    asyncio.run(removal)
    assert [one.uid for one in look(machine).volumes] == ["u1"]


def test_no_filesystem_is_made_on_a_blank_volume_that_somebody_has_open() -> None:
    machine = SimulatedMachine.with_disks("n1", [GIB])
    with_volume(machine)
    machine.volume("fast/v1").held_open = True
    spec = VolumeSpec(
        uid="u1", name="v1", pool="fast", size_bytes=100 * MIB, filesystem=Filesystem.EXT4
    )
    with pytest.raises(InUseError):
        asyncio.run(storage(machine).ensure_volume("01pool", spec, cause="c"))
    assert machine.content("fast/v1").kind == ""


def test_volumes_made_side_by_side_share_out_what_there_is() -> None:
    machine = SimulatedMachine.with_disks("n1", [GIB])
    with_volume(machine)
    hands = storage(machine)

    async def one(number: int) -> bool:
        spec = VolumeSpec(uid=f"x{number}", name=f"x{number}", pool="fast", size_bytes=200 * MIB)
        try:
            await hands.ensure_volume("01pool", spec, cause="c")
        except NoSpaceError:
            return False
        return True

    async def story() -> list[bool]:
        return await asyncio.gather(*(one(number) for number in range(10)))

    assert asyncio.run(story()).count(True) == 4
    assert len(look(machine).volumes) == 5


@pytest.mark.parametrize(
    "argv",
    [
        ["dd", "if=/dev/zero", "of=/dev/sdb"],
        ["vgremove", "--force", "fast"],
        ["lvm", "vgs"],
        ["lsblk"],
        ["lvcreate", "--extents", "5q", "--virtualsize", "1", "--type", "thin"],
    ],
)
def test_a_tool_or_flag_the_model_was_not_taught_is_an_error_of_ours(argv: list[str]) -> None:
    machine = SimulatedMachine.with_disks("n1", [GIB])
    with pytest.raises(UnknownToolUseError):
        asyncio.run(runner(machine).run(argv, cause="c", timeout_s=1))


def test_a_machine_in_a_folder_is_the_same_after_a_restart(tmp_path: Path) -> None:
    machine = SimulatedMachine.in_folder(tmp_path, "n1", [GIB, GIB])
    with_volume(machine)
    machine.write("fast/v1", "precious")
    again = SimulatedMachine.in_folder(tmp_path, "n1", [])
    assert look(again) == look(machine)
    assert again.read("fast/v1") == "precious"
    assert (tmp_path / "sdb.img").stat().st_size == GIB
    assert not list(tmp_path.glob("*.new"))


def test_a_disk_moves_with_its_pool_and_its_identity() -> None:
    here, there = (SimulatedMachine.with_disks(name, [GIB]) for name in ("n1", "n2"))
    with_volume(here)
    identity = look(here).disks[1].identity
    there.plug(here.pull("sdb"), "sdx")
    assert look(here).pools == ()  # LVM knows of a group only from its disks
    moved = next(one for one in look(there, "n2").disks if one.path == "/dev/sdx")
    assert (moved.identity, moved.content.pool_uid) == (identity, "01pool")
    assert [one.uid for one in look(there, "n2").volumes] == ["u1"]


def test_a_pulled_disk_leaves_a_pool_that_says_so() -> None:
    machine = SimulatedMachine.with_disks("n1", [GIB, GIB])
    with_volume(machine, disks=2)
    pulled = machine.pull("sdb")
    seen = look(machine)
    assert seen.pools[0].missing_disks == 1
    assert seen.volumes[0].health == "partial"
    machine.plug(pulled)
    assert look(machine).pools[0].missing_disks == 0


def test_equal_serials_stay_two_disks() -> None:
    machines = [SimulatedMachine.with_disks(name, [GIB]) for name in ("n1", "n2")]
    for machine in machines:
        for disk in machine.state.disks.values():
            disk.serial = "SAME"
    identities = [
        disk.identity
        for machine, node in zip(machines, ("n1", "n2"), strict=True)
        for disk in look(machine, node).disks
    ]
    assert len(set(identities)) == 4


def test_two_disks_under_one_world_wide_name_are_told_apart() -> None:
    machine = SimulatedMachine.with_disks("n1", [GIB, GIB])
    for disk in machine.state.disks.values():
        disk.wwn = "naa.5000"
    assert len({disk.identity for disk in look(machine).disks}) == 3


def test_a_disk_that_cannot_be_read_hides_no_other() -> None:
    machine = SimulatedMachine.with_disks("n1", [GIB, GIB])
    next(one for one in machine.state.disks.values() if one.name == "sdb").broken = True
    kinds = [disk.content.kind for disk in look(machine).disks]
    assert kinds == [ContentKind.SYSTEM, ContentKind.UNREADABLE, ContentKind.BLANK]


def test_a_volume_removed_by_hand_is_gone_and_a_renamed_one_keeps_its_uid() -> None:
    machine = SimulatedMachine.with_disks("n1", [GIB])
    with_volume(machine)
    machine.volume("fast/v1").name = "mine"
    assert [(one.name, one.uid) for one in look(machine).volumes] == [("mine", "u1")]
    machine.remove_volume("fast/mine")
    assert look(machine).volumes == ()


def test_the_same_seed_is_the_same_bad_day() -> None:
    def day() -> list[str]:
        bad = runner(
            SimulatedMachine.with_disks("n1", [GIB]),
            fail_before=0.3,
            time_out=0.3,
            slow=0.1,
            slow_s=0.0,
        )
        return [asyncio.run(outcome(bad)) for _ in range(20)]

    assert day() == day()
    assert len(set(day())) == 3


async def outcome(bad: SimulatedRunner) -> str:
    try:
        execution = await bad.run(["wipefs", "-J", "-n", "/dev/sdb"], cause="c", timeout_s=1)
    except ToolTimedOutError:
        return "timed out"
    return "failed" if execution.exit_status else "worked"


def test_a_dead_worker_runs_nothing_more() -> None:
    machine = SimulatedMachine.with_disks("n1", [GIB])
    dying = runner(machine)
    dying.crash_after_execution(1)
    for _ in range(2):
        with pytest.raises(SimulatedCrash):
            asyncio.run(dying.run(["pvcreate", "/dev/sdb"], cause="c", timeout_s=1))
    assert dying.executions == 1
    assert look(machine).disks[1].content.kind is ContentKind.LVM
