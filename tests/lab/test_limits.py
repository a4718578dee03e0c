"""Limits on a real kernel, measured: each for itself, changed under load, set again when lost."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from schemas.attaching import AttachVolume, DetachVolume, LimitVolume
from schemas.attachment import Limits
from schemas.refusals import Refusal
from tests.support.house import MIB, House, Scene

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]

NODE = "n3"
WITHIN = 0.1
LARGE_MINOR = 300  # a number that the old layout of eight bits could not hold
_FIO = """
echo $$ > {cgroup}/cgroup.procs
exec fio --output-format=json --direct=1 --ioengine=psync --filename=/dev/hwbus/{volume} \
    --size=64M --time_based --runtime={seconds} \
    --name=read --rw=randread --bs={read} --name=write --rw=randwrite --bs={write}
"""
_READS = "set -- $(cat /sys/block/$(lsblk -n -o KNAME /dev/hwbus/{volume})/stat); echo $1"
_EARLIER = """
device=/dev/{pool}/{volume}
dmsetup create hwbus:{volume} --uuid HWBUS-{uid} --major 254 --minor {minor} \
    --table "0 $(blockdev --getsz $device) linear $(lsblk -n -d -o MAJ:MIN $device) 0"
"""


class Limited:
    """A volume that is read and written side by side, from a control group, as fast as may be."""

    def __init__(self, house: House, volume: str) -> None:
        self.house = house
        self.volume = volume
        self.cgroup = f"/sys/fs/cgroup/{volume}"

    async def limit(self, **limits: int) -> None:
        await self.house.done(LimitVolume(volume=self.volume, limits=Limits(**limits)))
        assert (await self.house.row("volumes", name=self.volume))["limits"] == limits

    async def io_max(self) -> str:
        return (await self.house.sh(NODE, f"cat {self.cgroup}/io.max")).strip()

    async def measure(self, read: str, write: str, seconds: int = 3) -> tuple[Any, Any]:
        """Return what fio has to say of its reading and of its writing, in blocks so large."""
        script = _FIO.format(
            cgroup=self.cgroup, volume=self.volume, seconds=seconds, read=read, write=write
        )
        reading, writing = json.loads(await self.house.sh(NODE, script))["jobs"]
        return reading["read"], writing["write"]

    async def reads(self) -> int:
        """Return how often the device was read since it was made."""
        return int(await self.house.sh(NODE, _READS.format(volume=self.volume)))

    async def changes_under_load(self) -> None:
        await self.limit(read_iops=50, write_iops=100)
        before = await self.reads()
        running = asyncio.create_task(self.measure("4k", "4k", seconds=6))

        async def is_read() -> bool:
            return await self.reads() > before + 25

        await self.house.until(is_read, what="it is being read")
        await self.limit(read_iops=1000, write_iops=100)
        reading, writing = await running
        assert reading["iops"] > 2 * 50
        assert writing["iops"] == pytest.approx(100, rel=WITHIN)


def test_each_limit_holds_for_itself_and_changes_under_load(play: Play, unique: Unique) -> None:
    pool = unique("slow")

    async def scene(house: House) -> None:
        it = Limited(house, unique("volume"))
        disk = await house.plug(NODE, "512M")
        await house.form(pool, [disk])
        uid = (await house.make(it.volume, disk, pool, 128))["uid"]
        await house.say(LimitVolume(volume=it.volume, limits=Limits(read_iops=2)))
        attach = AttachVolume(volume=it.volume, consumer="host/fio", cgroup=it.volume)
        assert (await house.failed(attach))["code"] == Refusal.NO_CGROUP
        await house.sh(NODE, f"mkdir {it.cgroup}")
        about = {"pool": pool, "volume": it.volume, "uid": uid, "minor": LARGE_MINOR}
        await house.sh(NODE, _EARLIER.format(**about))
        await house.done(attach)
        assert (await it.io_max()).startswith(f"254:{LARGE_MINOR} ")
        await it.limit(read_iops=200, write_bytes_per_s=4 * MIB)
        reading, writing = await it.measure("4k", "64k")
        assert reading["iops"] == pytest.approx(200, rel=WITHIN)
        assert writing["bw_bytes"] == pytest.approx(4 * MIB, rel=WITHIN)
        await it.limit(read_bytes_per_s=8 * MIB, write_iops=150)
        reading, writing = await it.measure("64k", "4k")
        assert reading["bw_bytes"] == pytest.approx(8 * MIB, rel=WITHIN)
        assert writing["iops"] == pytest.approx(150, rel=WITHIN)
        await it.changes_under_load()
        holds = await it.io_max()
        lost = f"254:{LARGE_MINOR} riops=max wiops=max"
        await house.sh(NODE, f"echo {lost} > {it.cgroup}/io.max")
        await house.scanned(NODE)
        assert await it.io_max() == holds
        await house.done(DetachVolume(volume=it.volume))
        assert await it.io_max() == ""
        await house.clear(pool, NODE, disk)

    play(scene)
