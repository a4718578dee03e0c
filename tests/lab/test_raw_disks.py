"""Whole disks as volumes on real kernels: their data stays while they do, and goes with them."""

import asyncio
from collections.abc import Callable

import pytest

from hwbus.lab.protocol import DiskStatus
from hwbus.lab.uml.errors import ConsoleError
from schemas.attaching import AttachVolume, DetachVolume
from schemas.deleting import DeleteVolume, PurgeVolume
from schemas.disk import Wiping
from schemas.operation import Outcome
from schemas.refusals import Refusal
from schemas.volume import Filesystem, GrowVolume, Layout, ProvisionVolume
from tests.support.house import House, Plugged, Scene

pytestmark = pytest.mark.lab

# The first MiB is LVM's, and none of its user's.
_BLANK = """
blockdev --flushbufs {0}; rest=$(($(blockdev --getsize64 {0}) - 1048576))
cmp -n $rest -i 1048576 {0} /dev/zero && echo blank
"""
_SUM = "blockdev --flushbufs {0}; sha256sum < {0}"
# One partition, as a PC's firmware knows it: 8 MiB from the second MiB on.
_TABLE = r"""
put() {{ dd of={0} bs=1 seek=$1 conv=notrunc status=none; }}
head -c 64 /dev/zero | put 446
printf '\000\000\002\000\203\377\377\377\000\010\000\000\000\100\000\000' | put 446
printf '\125\252' | put 510
wipefs -J -n {0} | grep -q dos
"""


async def _made(house: House, volume: str, disk: Plugged, **more: object) -> None:
    word = ProvisionVolume(
        volume=volume,
        size_bytes=1,
        layout=Layout.DISK,
        disk=disk.id,
        **more,  # type: ignore[arg-type]
    )
    await house.done(word)
    row = await house.row("disks", id=disk.id)
    assert (row["state"], row["volume"], row["pool"]) == ("claimed", volume, "")
    usage = await house.row("usage", level="volume", name=volume)
    assert 0 < row["size_bytes"] - usage["allocated_bytes"] < 6 << 20
    no = await house.refused(GrowVolume(volume=volume, size_bytes=1 << 40))
    assert no.code is Refusal.IS_RAW_DISK


async def _blank(house: House, disk: Plugged) -> None:
    """See that the disk is free, and that nothing is left of all that its user could write."""
    await house.found(disk.node, disk.device, disk.serial)
    assert (await house.sh(disk.node, _BLANK.format(disk.device))).strip() == "blank"


async def _wiped_alone(house: House, volume: str) -> None:
    """The worker dies while it wipes; the disk beside, in use by hand, keeps every byte."""
    disk, beside = await asyncio.gather(house.plug("n1", "128M"), house.plug("n1", "32M"))
    fill = f"dd if=/dev/urandom of={beside.device} bs=1M status=none oflag=direct || true"
    await house.sh("n1", fill)
    before = await house.sh("n1", _SUM.format(beside.device))
    await _made(house, volume, disk, filesystem=Filesystem.EXT4)
    at = f"/mnt/{volume}"
    await house.done(AttachVolume(volume=volume, consumer="host/a", mount_point=at))
    await house.sh("n1", f"head -c 20000000 /dev/urandom > {at}/file; sync")
    no = await house.refused(DeleteVolume(volume=volume))
    assert no.code is Refusal.VOLUME_ATTACHED
    await house.done(DetachVolume(volume=volume))
    operation = (await house.say(DeleteVolume(volume=volume))).operation
    await house.lab.service_kill("worker", "n1")
    await house.lab.service_start("worker", "n1")
    assert (await house.end(operation))["outcome"] == Outcome.COMPLETED
    await _blank(house, disk)
    assert await house.sh("n1", _SUM.format(beside.device)) == before
    await house.sh("n1", f"blkdiscard -f {beside.device}")
    await house.unplug(disk, beside)


async def _kept(house: House, volume: str) -> None:
    """It stays ours with a partition table of its user on it, after a power cut, and while held."""
    disk = await house.plug("n2", "64M")
    await _made(house, volume, disk)
    device = f"/dev/hwbus/{volume}"
    await house.done(AttachVolume(volume=volume, consumer="host/b"))
    await house.sh("n2", f"dd if=/dev/urandom of={device} bs=1M count=8 status=none")
    await house.sh("n2", f"{_TABLE.format(device)}\nsync")
    before = await house.sh("n2", _SUM.format(device))
    await house.lab.kill("n2")
    await house.lab.boot("n2")
    await house.ready("n2")

    async def is_back() -> bool:
        return "there" in await house.sh("n2", f"test -b {device} && echo there || true")

    await house.until(is_back, what=f"{device} is there again")
    assert await house.sh("n2", _SUM.format(device)) == before
    row = await house.row("disks", id=disk.id)
    assert (row["state"], row["content"], row["volume"]) == ("claimed", "ours", volume)
    await house.done(DetachVolume(volume=volume))
    await house.done(DeleteVolume(volume=volume, hold_s=3600, wiping=Wiping.ZERO))
    assert (await house.row("disks", id=disk.id))["volume"] == volume
    await house.done(PurgeVolume(volume=volume))
    await _blank(house, disk)
    await house.unplug(disk)


async def _carried(house: House, at: tuple[str, str], to: str, group: str) -> DiskStatus:
    """Pull a disk out as soon as nobody looks at it, and plug it into another node."""
    there: list[DiskStatus] = []

    async def is_there() -> bool:
        # A worker that looks meanwhile has the volume active again.
        await house.sh(at[0], f"vgchange -q -an {group}")
        try:
            there.append(await house.lab.move_disk(*at, to))
        except ConsoleError:
            return False
        return True

    await house.until(is_there, 20, what=f"{at} is not open")
    return there[0]


async def _moved(house: House, volume: str) -> None:
    """A disk that is away marks its volume, is not replaced by another, and is known on return."""
    disk = await house.plug("n3", "64M")
    await _made(house, volume, disk)
    [row] = await house.rows("replicas", volume=volume)
    group = row["device"].split("/")[2]
    away = await _carried(house, ("n3", disk.letter), "n1", group)
    other = await house.plug("n3", "64M", letter=disk.letter)

    async def marked() -> bool:
        found = [r["object"] for r in await house.rows("drift") if r["drift"] == "volume-missing"]
        return f"replica/n3/{volume}" in found

    await house.until(marked, what=f"{volume} is missed")
    operation = (await house.say(DeleteVolume(volume=volume))).operation

    async def troubled() -> bool:
        [leg] = await house.rows("replicas", volume=volume)
        return bool(leg["code"] == Refusal.DISK_GONE)

    await house.until(troubled, what=f"{volume} is not deleted without its disk")
    assert (await house.row("disks", id=other.id))["state"] == "free"
    back = await _carried(house, ("n1", away.letter), "n3", group)
    assert back.device != disk.device
    assert (await house.end(operation))["outcome"] == Outcome.COMPLETED
    there = await house.found("n3", back.device, disk.serial)
    now = Plugged(
        node="n3", letter=back.letter, device=back.device, id=there["id"], serial=disk.serial
    )
    await _blank(house, now)
    await house.unplug(now, other)


def test_whole_disks_become_volumes_and_are_wiped_when_they_go_and_no_other_is(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    async def scene(house: House) -> None:
        await asyncio.gather(
            _wiped_alone(house, unique("wiped")),
            _moved(house, unique("moved")),
            _kept(house, unique("kept")),
        )

    play(scene)
