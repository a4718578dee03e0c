"""The model refuses as the real tools were seen to: same status, same meaning to the driver."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from node_workers.filesystems import parse_mounts, parse_signatures
from node_workers.ports import Execution
from node_workers.simulated.machine import SimulatedMachine
from node_workers.simulated.model import Content, Disk
from node_workers.simulated.runner import SimulatedRunner
from node_workers.tools import meaning
from tests.support.clock import ManualClock

RECORDED = Path(__file__).parent / "recorded"
GIB = 1 << 30

# How the machine came to be from which the outputs were recorded.
SETUP = """
pvcreate --metadatasize 16m /dev/ubde
pvcreate --metadatasize 16m /dev/ubdf
vgcreate --addtag hwbus.pool=01pool fast /dev/ubde /dev/ubdf
pvchange --addtag hwbus.disk=wwn-5000e /dev/ubde
pvchange --addtag hwbus.disk=wwn-5000f /dev/ubdf
lvcreate --extents 25 --name v1 --addtag hwbus.volume=uid-v1 --addtag hwbus.cause=01c fast
lvcreate --extents 26 --stripes 2 --stripesize 64k --name v2 --addtag hwbus.volume=uid-v2 fast
lvcreate --type thin-pool --extents 50 --name hwbus-thin --poolmetadatasize 8m \
--config activation{error_when_full=1} --addtag hwbus.pool=01pool fast
lvcreate --type thin --virtualsize 400m --name v3 --thinpool hwbus-thin \
--addtag hwbus.volume=uid-v3 fast
lvcreate --extents 5 --name theirs fast
mkfs.ext4 -q /dev/fast/v2
mkfs.xfs -q /dev/fast/v3
mount /dev/fast/v3 /mnt/v3
pvcreate /dev/ubdg
"""
# And what was done then, before the second report; 20 MiB of v2 were written over.
SNAPSHOTS = """
lvcreate --yes --snapshot --extents 2 --name s1 --addtag hwbus.volume=uid-s1 fast/v1
lvcreate --yes --snapshot --setactivationskip n --name s3 --addtag hwbus.volume=uid-s3 fast/v3
lvcreate --yes --snapshot --extents 2 --name s2 fast/v2
"""


def recorded(name: str) -> Execution:
    return msgspec.json.decode((RECORDED / f"{name}.json").read_bytes(), type=Execution)


def machine() -> SimulatedMachine:
    lab = SimulatedMachine.with_disks("n1", [])
    for letter, kind in zip("bcdefgh", ("ext4", "gpt", "linux_raid_member"), strict=False):
        lab.add_disk(Disk(key=letter, name=f"ubd{letter}", size_bytes=GIB), Content(kind=kind))
    for letter in "efgh":
        lab.add_disk(Disk(key=letter, name=f"ubd{letter}", size_bytes=GIB))
    for line in SETUP.strip().splitlines():
        assert lab.execute(line.split())[0] == 0, line
    return lab


def simulated(argv: tuple[str, ...], lab: SimulatedMachine) -> Execution:
    runner = SimulatedRunner(lab, ManualClock().now)
    return asyncio.run(runner.run(argv, cause="c", timeout_s=1))


def numbers(text: str) -> object:
    """Return LVM's report without what differs on every machine."""
    different = {"vg_uuid", "pv_uuid", "lv_uuid", "vg_mda_free", "data_percent"}
    different |= {"metadata_percent", "lv_attr", "lv_kernel_minor", "pv_free"}
    return [
        {
            kind: sorted(
                (sorted((key, value) for key, value in row.items() if key not in different))
                for row in part.get(kind, ())
            )
            for kind in ("vg", "pv", "lv")
        }
        for part in sorted(msgspec.json.decode(text)["report"], key=lambda part: "vg" not in part)
    ]


def test_the_models_report_is_the_one_recorded() -> None:
    real = recorded("fullreport")
    assert numbers(simulated(real.argv, machine()).stdout) == numbers(real.stdout)


def test_the_models_report_of_snapshots_is_the_one_recorded() -> None:
    real, lab = recorded("fullreport-snapshots"), machine()
    for line in SNAPSHOTS.strip().splitlines():
        assert lab.execute(line.split())[0] == 0, line
    lab.change("fast/v2", 20 << 20)
    assert numbers(simulated(real.argv, lab).stdout) == numbers(real.stdout)


@pytest.mark.parametrize(
    "name",
    sorted(path.stem for path in RECORDED.glob("*.json") if not path.stem.startswith("fullrep")),
)
def test_the_model_answers_as_the_real_tool_did(name: str) -> None:
    real, lab = recorded(name), machine()
    if name.endswith(("missing-disk", "partial")):
        lab.unmount("/mnt/v3")
        lab.reboot()
        lab.pull("ubdf")
    model = simulated(real.argv, lab)
    assert model.exit_status == real.exit_status
    if real.exit_status:
        assert meaning(model).reason == meaning(real).reason


def test_signatures_and_mounts_are_read_as_recorded() -> None:
    found = dict(parse_signatures(recorded("wipefs").stdout))
    assert {device: one.kind for device, one in found.items()} == {
        "ubdb": "ext4",
        "ubdc": "dos",
        "ubdd": "linux_raid_member",
    }
    assert parse_signatures(recorded("wipefs-blank").stdout) == ()
    assert ("/mnt/v3",) in parse_mounts(recorded("findmnt").stdout).values()
