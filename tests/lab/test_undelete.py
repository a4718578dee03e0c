"""Deleting with a hold, on real kernels: the data stays, comes back as it was, or goes in time."""

from collections.abc import Callable

import pytest

from schemas.deleting import DeleteVolume, PurgeVolume, UndeleteVolume
from schemas.refusals import Refusal
from schemas.volume import Filesystem, GrowVolume, ProvisionVolume
from tests.support.house import GIB, House, Scene

pytestmark = pytest.mark.lab

HOUR_S = 3600


async def _filled(house: House, pool: str, volume: str) -> str:
    """Put data on a mounted filesystem, and return its checksum; it stays mounted."""
    return await house.sh(
        "n1",
        f"mkdir -p /mnt/{volume} && mount /dev/{pool}/{volume} /mnt/{volume}"
        f" && dd if=/dev/urandom of=/mnt/{volume}/data bs=1M count=16 status=none"
        f" && sync && md5sum < /mnt/{volume}/data",
    )


async def _active(house: House, pool: str, volume: str) -> bool:
    out = await house.sh("n1", f"lvs --noheadings -o lv_active {pool}/{volume}")
    return out.strip() == "active"


def test_a_deleted_volume_comes_back_with_all_its_data_even_after_a_boot(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    pool, volume, other = unique("pool"), unique("vol"), unique("vol")

    async def scene(house: House) -> None:
        disk = await house.plug("n1")
        await house.form(pool, [disk])
        await house.make(volume, disk, pool, 64, filesystem=Filesystem.EXT4)
        await house.make(other, disk, pool, 64)
        checksum = await _filled(house, pool, volume)
        await house.sh("n1", f"umount /mnt/{volume}")
        before = (await house.lvs("n1", pool))[volume]

        await house.done(DeleteVolume(volume=volume, hold_s=HOUR_S))
        row = await house.row("volumes", name=volume)
        assert (row["state"], row["operation"]) == ("held", "")
        assert row["held_until"]
        assert (await house.lvs("n1", pool))[volume] == before
        await house.settled(pool, "n1")
        for wish, code in (
            (GrowVolume(volume=volume, size_bytes=GIB), Refusal.VOLUME_HELD),
            (ProvisionVolume(volume=volume, size_bytes=GIB), Refusal.VOLUME_EXISTS),
        ):
            assert (await house.refused(wish)).code is code

        await house.lab.kill("n1")
        await house.lab.boot("n1")
        await house.ready("n1")

        async def as_decided() -> bool:
            woken = await _active(house, pool, other)
            return woken and not await _active(house, pool, volume)

        # The cut may have taken from the worker's own file that the volume is held.
        await house.until(as_decided, what=f"{other} is active after the boot, {volume} is not")

        await house.done(UndeleteVolume(volume=volume))
        assert (await house.row("volumes", name=volume))["state"] == "ready"
        mount = f"mount /dev/{pool}/{volume} /mnt/{volume}"
        assert await house.sh("n1", f"{mount} && md5sum < /mnt/{volume}/data") == checksum
        await house.sh("n1", f"umount /mnt/{volume}")
        assert (await house.lvs("n1", pool))[volume] == before
        await house.settled(pool, "n1")
        await house.clear(pool, "n1", disk)

    play(scene)


def test_a_mounted_volume_is_not_held_and_nobody_notices_the_attempt(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    pool, volume = unique("pool"), unique("vol")

    async def scene(house: House) -> None:
        disk = await house.plug("n1")
        await house.form(pool, [disk])
        await house.make(volume, disk, pool, 64, filesystem=Filesystem.EXT4)
        checksum = await _filled(house, pool, volume)
        end = await house.failed(DeleteVolume(volume=volume, hold_s=HOUR_S))
        assert end["code"] == Refusal.IN_USE
        assert f"/mnt/{volume}" in end["because"]
        row = await house.row("volumes", name=volume)
        assert (row["state"], row["held_until"]) == ("ready", None)
        assert await house.sh("n1", f"md5sum < /mnt/{volume}/data") == checksum
        # Held open without being mounted: only LVM itself can tell.
        await house.sh("n1", f"umount /mnt/{volume}")
        holder = f"sleep 60 < /dev/{pool}/{volume} > /dev/null 2>&1 & echo $!"
        pid = (await house.sh("n1", holder)).strip()
        end = await house.failed(DeleteVolume(volume=volume, hold_s=HOUR_S))
        assert end["code"] == Refusal.IN_USE
        await house.sh("n1", f"kill {pid}")
        await house.clear(pool, "n1", disk)

    play(scene)


def test_a_hold_that_is_over_or_purged_leaves_nothing_of_the_volume(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    pool, short, purged = unique("pool"), unique("vol"), unique("vol")

    async def scene(house: House) -> None:
        disk = await house.plug("n1")
        await house.form(pool, [disk])
        for volume in (short, purged):
            await house.make(volume, disk, pool, 64, filesystem=Filesystem.EXT4)
        await house.done(DeleteVolume(volume=short, hold_s=2))
        await house.done(DeleteVolume(volume=purged, hold_s=HOUR_S))
        await house.done(PurgeVolume(volume=purged))

        async def is_gone() -> bool:
            return not await house.rows("volumes", name=short)

        await house.until(is_gone, 20, what=f"{short} is gone by itself")
        assert await house.lvs("n1", pool) == {}
        await house.settled(pool, "n1")
        trail = await house.rows("audit", object=f"volume/{short}", word="volume.purge.v1")
        assert [row["actor"] for row in trail] == ["hwbus"]
        await house.clear(pool, "n1", disk)

    play(scene)
