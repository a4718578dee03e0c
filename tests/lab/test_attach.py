"""Volumes in use on a real kernel: written to, grown, busy, and in use again after a power cut."""

from collections.abc import Callable

import pytest

from schemas.attaching import AttachVolume, DetachVolume
from schemas.deleting import DeleteVolume
from schemas.refusals import Refusal
from schemas.volume import Filesystem, GrowVolume
from tests.support.house import MIB, NODES, House, Scene

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]

NODE = "n2"
CONSUMER = "pod/shop/pg-0"
_WRITE = "head -c 16000000 /dev/urandom > $at/file; sha256sum < $at/file > /tmp/sum; sync"
_COMPARE = "sha256sum < $at/file | cmp - /tmp/sum"
_BUSY = "cd $at; setsid sleep 300 <&- >&- 2>&- & echo $! > /run/busy"
_IDLE = "kill -9 $(cat /run/busy); while kill -0 $(cat /run/busy) 2>&-; do sleep 0.02; done"
_COUNTED = "sync; cat /sys/dev/block/$(lsblk -ndo MAJ:MIN $device | tr -d ' ')/stat"
_FILE_BYTES = 16_000_000
_OWN_BYTES = 4 * MIB  # what the filesystem writes for itself while it is mounted and unmounted
_TRACES = "findmnt $at || true; ls /dev/hwbus; dmsetup ls | grep hwbus: || true"


class Used:
    """A volume with data on it that a consumer has, and what may happen to it meanwhile."""

    def __init__(self, house: House, volume: str) -> None:
        self.house = house
        self.volume = volume
        self.at = f"/mnt/{volume}"
        self.attach = AttachVolume(volume=volume, consumer=CONSUMER, mount_point=self.at)

    async def shell(self, script: str) -> str:
        about = f"at={self.at} device=/dev/hwbus/{self.volume}"
        return await self.house.sh(NODE, f"{about}; {script}")

    async def in_use(self) -> bool:
        found = await self.shell("findmnt -n -o SOURCE $at || true")
        return found.strip() == f"/dev/mapper/hwbus:{self.volume}"

    async def is_its_consumers_alone(self) -> None:
        assert (await self.house.say(self.attach)).operation == ""
        other = AttachVolume(volume=self.volume, consumer="host/backup")
        for word in (other, DeleteVolume(volume=self.volume)):
            no = await self.house.refused(word)
            assert no.code is Refusal.VOLUME_ATTACHED
            assert CONSUMER in no.because

    async def grows(self, mib: int) -> None:
        before = await self._mounted_mib()
        word = GrowVolume(volume=self.volume, size_bytes=mib * MIB)
        tools = await self.house.ran(await self.house.done(word), "xfs_growfs")
        assert await self._mounted_mib() > before + 120
        assert await self.in_use()
        verbs = [row["argv"][1] for row in tools if row["argv"][0] == "dmsetup"]
        assert verbs[-2:] == ["load", "resume"]

    async def _mounted_mib(self) -> int:
        return int(await self.shell("df -m --output=size $at | tail -1"))

    async def is_busy(self) -> None:
        await self.shell(_BUSY)
        end = await self.house.failed(DetachVolume(volume=self.volume))
        assert end["code"] == Refusal.IN_USE
        assert "busy" in end["because"]
        row = await self.house.row("volumes", name=self.volume)
        assert (row["state"], row["consumer"]) == ("ready", CONSUMER)
        assert await self.in_use()
        await self.shell(_IDLE)

    async def kernel_counts(self) -> int:
        """Return the bytes that were written to the device since it was made."""
        return 512 * int((await self.shell(_COUNTED)).split()[6])

    async def told(self) -> int:
        return int((await self.house.row("volumes", name=self.volume))["written_bytes"])

    async def is_handed_back_and_taken_again(self) -> int:
        """Have it detached and attached; return what was written, as its node has told."""
        assert await self.told() == 0
        counted = await self.kernel_counts()
        await self.house.done(DetachVolume(volume=self.volume))
        told = await self.told()
        assert told >= _FILE_BYTES
        assert abs(told - counted) < _OWN_BYTES
        await self.house.done(self.attach)
        return told

    async def loses_power(self) -> None:
        await self.shell("sync")
        lab = self.house.lab
        for service in ("controller", "nats"):
            await lab.service_stop(service)
        await lab.kill(NODE)
        await lab.boot(NODE)
        await self.house.until(self.in_use, what="it is in use again without the bus")
        await self.shell(f"{_COMPARE}; test -b $device")
        for service in ("nats", "controller"):
            await lab.service_start(service)
        await self.house.ready(*NODES)


def test_an_attached_volume_serves_its_consumer_until_it_is_taken_back(
    play: Play, unique: Unique
) -> None:
    pool = unique("used")

    async def scene(house: House) -> None:
        used = Used(house, unique("volume"))
        disk = await house.plug(NODE, "1G")
        await house.form(pool, [disk])
        await house.make(used.volume, disk, pool, 320, filesystem=Filesystem.XFS)
        await house.done(used.attach)
        row = await house.row("volumes", name=used.volume)
        assert row["attached_device"] == f"/dev/hwbus/{used.volume}"
        assert row["mount_point"] == used.at
        await used.shell(_WRITE)
        await used.is_its_consumers_alone()
        await used.grows(480)
        await used.shell(_COMPARE)
        await used.is_busy()
        before = await used.is_handed_back_and_taken_again()
        await used.loses_power()
        await used.shell(f"head -c {_FILE_BYTES} /dev/urandom > $at/copy")
        counted = await used.kernel_counts()
        assert counted >= _FILE_BYTES
        await house.done(DetachVolume(volume=used.volume))
        assert before + counted <= await used.told() < before + counted + _OWN_BYTES
        assert await used.shell(_TRACES) == ""
        await used.shell(f"mount /dev/{pool}/{used.volume} $at; {_COMPARE}; umount $at")
        assert (await house.row("volumes", name=used.volume))["consumer"] == ""
        await house.holds(pool, NODE)
        await house.clear(pool, NODE, disk)

    play(scene)
