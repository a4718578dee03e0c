"""One look at a machine, from outputs recorded in the lab."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from node_workers.inventory import LSBLK, observe
from node_workers.lvm_report import FULL_REPORT
from node_workers.observation import ContentKind, DiskClass, Observation
from node_workers.ports import BlockFacts, Execution, ToolFailedError
from node_workers.sysfs import RealSysfs
from tests.support.clock import NOON

RECORDED = Path(__file__).parent / "recorded"


class Replay:
    """Answers with what was recorded; *answers* replaces some of it."""

    def __init__(self, **answers: Execution) -> None:
        self.answers = {
            "lsblk": recorded("lsblk"),
            "lvm": recorded("fullreport"),
            "wipefs": recorded("wipefs"),
        } | answers
        self.asked: list[tuple[str, ...]] = []

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        assert cause
        assert timeout_s > 0
        assert not stdin
        self.asked.append(tuple(argv))
        return self.answers[argv[0]]


class Facts:
    def __init__(self, **facts: BlockFacts) -> None:
        self._facts = facts

    async def facts(self, names: Sequence[str]) -> Mapping[str, BlockFacts]:
        return {name: self._facts.get(name, BlockFacts(serial=f"n1-{name[-1]}")) for name in names}


def recorded(name: str) -> Execution:
    return msgspec.json.decode((RECORDED / f"{name}.json").read_bytes(), type=Execution)


def said(stdout: str, status: int = 0) -> Execution:
    return Execution(
        argv=("x",),
        exit_status=status,
        stdout=stdout,
        stderr="",
        duration_ms=1,
        cause="c",
        started_at=NOON,
    )


def look(runner: Replay, facts: Facts | None = None) -> Observation:
    return asyncio.run(observe(runner, facts or Facts(), node="n1", cause="c"))


def lsblk(**more: object) -> Execution:
    row: dict[str, object] = {
        "name": "sdb",
        "kname": "sdb",
        "path": "/dev/sdb",
        "type": "disk",
        "size": 1 << 30,
        "rota": True,
        "rm": False,
        "ro": False,
        "serial": None,
        "wwn": None,
        "model": None,
        "mountpoints": [None],
        "maj:min": "8:16",
    }
    return said(msgspec.json.encode({"blockdevices": [row | more]}).decode())


NO_LVM = said('{"report": []}')
NO_SIGNATURES = said("")


def test_every_disk_says_what_is_on_it() -> None:
    kinds = {disk.path: disk.content.kind for disk in look(Replay()).disks}
    assert kinds == {
        "/dev/ubda": ContentKind.SYSTEM,
        "/dev/ubdb": ContentKind.FILESYSTEM,
        "/dev/ubdc": ContentKind.PARTITION_TABLE,
        "/dev/ubdd": ContentKind.RAID,
        "/dev/ubde": ContentKind.LVM,
        "/dev/ubdf": ContentKind.LVM,
        "/dev/ubdg": ContentKind.LVM,
        "/dev/ubdh": ContentKind.BLANK,
    }


def test_members_are_known_by_their_stamp() -> None:
    disks = {disk.path: disk for disk in look(Replay()).disks}
    assert (disks["/dev/ubde"].identity, disks["/dev/ubde"].stamped) == ("wwn-5000e", True)
    assert disks["/dev/ubde"].content.pool_uid == "01pool"
    assert disks["/dev/ubdg"].content.pool == ""
    assert not disks["/dev/ubdb"].stamped


def test_volumes_say_where_they_are_mounted() -> None:
    volumes = {one.name: one for one in look(Replay()).volumes}
    assert volumes["v3"].mount_points == ("/mnt/v3",)
    assert volumes["v1"].mount_points == ()


def test_only_disks_that_nobody_claims_are_probed() -> None:
    replay = Replay()
    look(replay)
    assert [argv[0] for argv in replay.asked] == ["lsblk", "lvm", "wipefs"]
    assert replay.asked[:2] == [LSBLK, FULL_REPORT]
    assert replay.asked[2][3:] == ("/dev/ubdb", "/dev/ubdd", "/dev/ubdh")


@pytest.mark.parametrize(
    ("more", "facts", "expected"),
    [
        ({"rota": True}, BlockFacts(), DiskClass.HDD),
        ({"rota": False}, BlockFacts(), DiskClass.SSD),
        ({"rota": True}, BlockFacts(rotational=False), DiskClass.SSD),
        ({"kname": "nvme0n1"}, BlockFacts(), DiskClass.NVME),
    ],
)
def test_the_class_follows_name_and_rotation(
    more: dict[str, object], facts: BlockFacts, expected: DiskClass
) -> None:
    replay = Replay(lsblk=lsblk(**more), lvm=NO_LVM, wipefs=NO_SIGNATURES)
    (disk,) = look(replay, Facts(sdb=facts, nvme0n1=facts)).disks
    assert disk.disk_class is expected


@pytest.mark.parametrize(
    "more",
    [
        *({"kname": name} for name in ("loop0", "ram0", "zram0", "dm-3", "nbd0", "sr0", "md0")),
        {"type": "rom"},
        {"size": 0},
    ],
)
def test_what_is_no_disk_is_not_shown(more: dict[str, object]) -> None:
    assert look(Replay(lsblk=lsblk(**more), lvm=NO_LVM)).disks == ()


@pytest.mark.parametrize(
    ("more", "facts", "expected"),
    [
        ({"mountpoints": ["/mnt"]}, BlockFacts(), ContentKind.MOUNTED),
        ({"mountpoints": ["[SWAP]"]}, BlockFacts(), ContentKind.SYSTEM),
        ({"mountpoints": ["/"]}, BlockFacts(), ContentKind.SYSTEM),
        ({}, BlockFacts(holders=("dm-0",)), ContentKind.HELD),
        ({}, BlockFacts(), ContentKind.BLANK),
    ],
)
def test_a_disk_in_use_is_not_blank(
    more: dict[str, object], facts: BlockFacts, expected: ContentKind
) -> None:
    replay = Replay(lsblk=lsblk(**more), lvm=NO_LVM, wipefs=NO_SIGNATURES)
    assert look(replay, Facts(sdb=facts)).disks[0].content.kind is expected


def test_a_physical_volume_that_lvm_may_not_see_is_not_blank() -> None:
    signature = '{"signatures": [{"device": "sdb", "type": "LVM2_member", "uuid": "u"}]}'
    replay = Replay(lsblk=lsblk(), lvm=NO_LVM, wipefs=said(signature))
    assert look(replay).disks[0].content.kind is ContentKind.LVM


@pytest.mark.parametrize("tool", ["lsblk", "lvm"])
def test_half_a_picture_is_none(tool: str) -> None:
    with pytest.raises(ToolFailedError):
        look(Replay(**{tool: said("", status=1)}))


def test_the_kernels_own_files_are_read(tmp_path: Path) -> None:
    disk = tmp_path / "block" / "sdb"
    for name, text in {
        "device/wwid": "naa.5000c500\n",
        "device/model": "ST4000NM  \n",
        "queue/rotational": "1\n",
        "serial": "Z1\x00\n",
        "holders/dm-1/dev": "254:1",
    }.items():
        (disk / name).parent.mkdir(parents=True, exist_ok=True)
        (disk / name).write_text(text)
    facts = asyncio.run(RealSysfs(tmp_path).facts(["sdb", "sdz"]))
    assert facts == {
        "sdb": BlockFacts(
            serial="Z1", wwn="naa.5000c500", model="ST4000NM", rotational=True, holders=("dm-1",)
        )
    }


def test_several_paths_to_one_disk_are_one_disk_and_its_paths_are_none() -> None:
    several = {
        "name": "mpatha",
        "kname": "dm-0",
        "path": "/dev/mapper/mpatha",
        "type": "mpath",
        "size": 1 << 30,
        "rota": False,
        "rm": False,
        "ro": False,
        "serial": None,
        "wwn": None,
        "model": None,
        "mountpoints": [None],
        "maj:min": "254:0",
    }
    paths = [
        several
        | {"name": name, "kname": name, "path": f"/dev/{name}", "type": "disk", "maj:min": number}
        | {"children": [several]}
        for name, number in (("sda", "8:0"), ("sdb", "8:16"))
    ]
    blocks = said(msgspec.json.encode({"blockdevices": paths}).decode())
    replay = Replay(lsblk=blocks, lvm=NO_LVM, wipefs=NO_SIGNATURES)
    (disk,) = look(replay, Facts(**{"dm-0": BlockFacts(wwn="naa.5000c500a")})).disks
    assert (disk.path, disk.identity) == ("/dev/mapper/mpatha", "wwn-5000c500a")
    assert disk.content.kind is ContentKind.BLANK
    assert replay.asked[2][3:] == ("/dev/mapper/mpatha",)


@pytest.mark.parametrize(
    ("uuid", "wwn"),
    [
        ("mpath-35000c500a1b2c3d4", "naa.5000c500a1b2c3d4"),
        ("mpath-3600508b400105e210000900000490000", "naa.600508b400105e210000900000490000"),
        ("mpath-nvme.1234-abcd", "nvme.1234-abcd"),
        ("LVM-abc", ""),
        ("", ""),
    ],
)
def test_a_multipath_device_has_the_name_that_its_paths_have(
    tmp_path: Path, uuid: str, wwn: str
) -> None:
    folder = tmp_path / "block/dm-0/dm"
    folder.mkdir(parents=True)
    (folder / "uuid").write_text(f"{uuid}\n")
    assert asyncio.run(RealSysfs(tmp_path).facts(["dm-0"]))["dm-0"].wwn == wwn
