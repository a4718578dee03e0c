"""A person at a simulated node sees and changes the same machine as its worker."""

import pytest

from hwbus.demo.hands import Hands
from node_workers.simulated.machine import SimulatedMachine

DISK_BYTES = 1 << 30
FREE_BYTES = DISK_BYTES - (4 << 20)
VOLUME_BYTES = 64 << 20
VGS = ("vgs", "-o", "vg_name,pv_count,lv_count,vg_size,vg_free,vg_tags")
LVS = ("lvs", "-o", "lv_name,lv_size,lv_layout,lv_tags", "fast")


@pytest.fixture
def machine() -> SimulatedMachine:
    machine = SimulatedMachine.with_disks("n1", [DISK_BYTES])
    create = "lvcreate --yes --wipesignatures y --zero y --extents 16 --name pg --addtag a=b fast"
    for line in (
        "pvcreate /dev/sdb",
        "vgcreate --addtag hwbus.pool=x fast /dev/sdb",
        create,
        "mkfs.ext4 -q -U 0 /dev/fast/pg",
        "mount /dev/fast/pg /mnt/pg",
    ):
        status, _, stderr = machine.execute(line.split())
        assert status == 0, stderr
    return machine


def said(machine: SimulatedMachine, *argv: str) -> str:
    ran = Hands(machine).run(argv)
    assert ran.status == 0, ran.stderr
    return ran.stdout


def test_groups_and_volumes_are_listed_as_lvm_lists_them(machine: SimulatedMachine) -> None:
    groups = [line.split() for line in said(machine, *VGS).splitlines()]
    size, free = str(FREE_BYTES), str(FREE_BYTES - VOLUME_BYTES)
    assert groups[1:] == [["fast", "1", "1", size, free, "hwbus.pool=x"]]
    volumes = [line.split() for line in said(machine, *LVS).splitlines()]
    assert volumes[1:] == [["pg", str(VOLUME_BYTES), "linear", "a=b"]]


def test_the_disks_of_a_group_are_listed_with_what_is_free(machine: SimulatedMachine) -> None:
    argv = ("pvs", "-o", "pv_name,pv_size,pv_free", "-S", "vg_name=fast")
    disks = [line.split() for line in said(machine, *argv).splitlines()]
    assert disks[1:] == [["/dev/sdb", str(FREE_BYTES), str(FREE_BYTES - VOLUME_BYTES)]]
    assert said(machine, *argv[:-1], "vg_name=other").splitlines()[1:] == []


def test_a_control_group_is_made_like_a_folder(machine: SimulatedMachine) -> None:
    said(machine, "mkdir", "/sys/fs/cgroup/till")
    assert said(machine, "cat", "/sys/fs/cgroup/till/io.max") == ""
    assert Hands(machine).run(["cat", "/sys/fs/cgroup/other/io.max"]).status != 0


def test_one_volume_is_listed_without_headings(machine: SimulatedMachine) -> None:
    assert said(machine, "lvs", "--noheadings", "-o", "stripes", "fast/pg").strip() == "1"


def test_a_mounted_filesystem_shows_where_it_is_and_how_large(machine: SimulatedMachine) -> None:
    assert said(machine, "findmnt", "/mnt/pg") == "/dev/mapper/fast-pg ext4 /mnt/pg\n"
    assert said(machine, "df", "/mnt/pg").splitlines()[1] == f"{VOLUME_BYTES} /mnt/pg"
    assert said(machine, "blkid", "-p", "/dev/fast/pg") == "ext4\n"


def test_the_checksum_follows_the_data(machine: SimulatedMachine) -> None:
    before = said(machine, "md5sum", "/mnt/pg/data")
    said(machine, "dd", "if=/dev/urandom", "of=/mnt/pg/data", "count=1")
    after = said(machine, "md5sum", "/mnt/pg/data")
    assert before != after
    assert said(machine, "md5sum", "/mnt/pg/data") == after
    machine.state.contents.clear()
    assert said(machine, "md5sum", "/mnt/pg/data") == before


def test_volumes_are_renamed_and_removed_behind_the_back_of_hwbus(
    machine: SimulatedMachine,
) -> None:
    said(machine, "lvrename", "fast", "pg", "taken")
    assert "taken" in said(machine, *LVS)
    said(machine, "lvremove", "-y", "fast/taken")
    assert "taken" not in said(machine, *LVS)


@pytest.mark.parametrize(
    "line",
    [
        "lvremove -y fast/nothing",
        "lvrename fast nothing other",
        "md5sum /mnt/other/data",
        "blkid -p /dev/fast/nothing",
        "umount /mnt/other",
    ],
)
def test_what_cannot_be_done_ends_with_a_status(machine: SimulatedMachine, line: str) -> None:
    assert Hands(machine).run(line.split()).status != 0
