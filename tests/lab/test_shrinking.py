"""Disks leave a pool in use, on real kernels: nothing is lost, whoever dies or gives up."""

import asyncio
from collections.abc import Callable

import pytest

from schemas.operation import CancelOperation, Outcome
from schemas.pool import GrowPool
from schemas.refusals import Refusal
from schemas.shrinking import ShrinkPool
from schemas.volume import Filesystem, Layout
from tests.support.house import MIB, House, Plugged, Scene

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Play = Callable[[Scene], None]
Unique = Callable[[str], str]

# Writes a file again and again, until it is told to stop; an error ends it.
_WRITE = """
while [ ! -e {stop} ]; do dd if=/dev/zero of={at}/busy bs=64k count=16 conv=fsync status=none; done
"""


async def written(house: House, node: str, device: str, at: str, mib: int) -> str:
    """Mount a volume, put data on it, and return their checksum."""
    make = (
        f"mount -o X-mount.mkdir {device} {at}; dd if=/dev/urandom of={at}/data bs=1M count={mib}"
    )
    await house.sh(node, f"{make} conv=fsync status=none")
    return await checksum(house, node, at)


async def checksum(house: House, node: str, at: str) -> str:
    await house.sh(node, "echo 3 > /proc/sys/vm/drop_caches")
    return await house.sh(node, f"sha256sum < {at}/data")


async def on_disk(house: House, disk: Plugged) -> int:
    """Return how many extents of a disk are taken, as LVM has it."""
    out = await house.sh(
        disk.node, f"pvs --noheadings -o pv_pe_alloc_count {disk.device} 2>/dev/null || echo 0"
    )
    return int(out.strip() or 0)


def test_a_disk_is_replaced_while_its_volumes_are_written_to_and_the_worker_dies(
    play: Play, unique: Unique
) -> None:
    pool, volume, thin = unique("old"), unique("volume"), unique("thin")
    at = f"/mnt/{volume}"

    async def scene(house: House) -> None:
        old, new = await asyncio.gather(house.plug("n1", "512M"), house.plug("n1", "512M"))
        await house.form(pool, [old], thin_bytes=40 * MIB)
        row = await house.make(volume, old, pool, 120, filesystem=Filesystem.EXT4)
        await house.make(thin, old, pool, 20, layout=Layout.THIN)
        before = await written(house, "n1", row["device"], at, 60)
        stop = f"/tmp/{volume}.stop"
        writer = asyncio.create_task(
            house.lab.exec("n1", "sh", "-ec", _WRITE.format(at=at, stop=stop), timeout_s=120)
        )
        shrink = ShrinkPool(pool=pool, node="n1", disks=(old.id,))
        assert (await house.refused(shrink)).code is Refusal.LAST_DISK
        await house.done(GrowPool(pool=pool, node="n1", disks=(new.id,)))
        operation = (await house.say(shrink)).operation

        async def moving() -> bool:
            return bool((await house.sh("n1", "pgrep -x pvmove || true")).strip())

        await house.until(moving, 20, what="something is being moved")
        await house.lab.service_kill("worker", "n1")
        await house.sh("n1", "pkill -9 -x pvmove || true")
        assert not writer.done()
        await house.lab.service_start("worker", "n1")
        assert (await house.end(operation))["outcome"] == Outcome.COMPLETED
        await house.sh("n1", f"touch {stop}")
        assert (await writer).status == 0
        assert await checksum(house, "n1", at) == before
        freed = await house.found("n1", old.device, old.serial)
        assert (freed["state"], freed["pool"]) == ("free", "")
        assert (await house.row("pools", name=pool))["disks"] == [new.id]
        await house.settled(pool, "n1")
        await house.sh("n1", f"umount {at}; e2fsck -fn {row['device']}")
        await house.clear(pool, "n1", old, new)

    play(scene)


def test_a_drain_that_is_cancelled_leaves_the_pool_as_it_was(play: Play, unique: Unique) -> None:
    pool, volume = unique("undecided"), unique("volume")
    at = f"/mnt/{volume}"

    async def scene(house: House) -> None:
        old, new = await asyncio.gather(house.plug("n2", "512M"), house.plug("n2", "512M"))
        await house.form(pool, [old])
        row = await house.make(volume, old, pool, 400, filesystem=Filesystem.XFS)
        before = await written(house, "n2", row["device"], at, 50)
        await house.done(GrowPool(pool=pool, node="n2", disks=(new.id,)))
        operation = (await house.say(ShrinkPool(pool=pool, node="n2", disks=(old.id,)))).operation

        async def moving() -> bool:
            return "pvmove" in await house.sh("n2", f"lvs -a --noheadings -o lv_name {pool}")

        await house.until(moving, 20, what="something is being moved")
        row = await house.row("pools", name=pool)
        assert row["state"] == "shrinking"
        assert row["available_bytes"] < row["free_bytes"]
        await house.say(CancelOperation(operation=operation))
        assert (await house.end(operation))["outcome"] == Outcome.CANCELLED
        assert not await moving()
        assert await checksum(house, "n2", at) == before
        assert {d["id"] for d in await house.rows("disks", pool=f"n2/{pool}")} == {old.id, new.id}
        allocatable = await house.sh("n2", f"pvs --noheadings -o pv_attr -S vg_name={pool}")
        assert allocatable.split() == ["a--", "a--"]
        await house.settled(pool, "n2")
        await house.sh("n2", f"umount {at}")
        await house.clear(pool, "n2", old, new)

    play(scene)
