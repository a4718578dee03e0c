"""A disk whose every access fails, by dm-error under a running pool, on a real kernel."""

from collections.abc import Callable

import pytest

from hwbus.lab.uml import CommandFailedError
from schemas.copying import CloneVolume
from schemas.deleting import DeleteVolume
from schemas.node import Drift
from schemas.pool import GrowPool
from schemas.refusals import Refusal
from schemas.volume import GrowVolume, ProvisionVolume
from tests.support.house import MIB, House, Plugged, Scene

pytestmark = pytest.mark.lab
NODE = "n2"


async def _breakable(house: House, size: str) -> Plugged:
    """Plug in a disk with a multipath device over it, and wait until that is known as the disk."""
    disk = await house.lab.add_disk(NODE, size)
    device = await house.lab.wrap_disk(NODE, disk.letter)
    await house.look_again(NODE)
    known = await house.found(NODE, device, "")
    return Plugged(node=NODE, letter=disk.letter, device=device, id=known["id"], serial=disk.serial)


class Torn:
    """A pool of two disks, with a volume on each."""

    def __init__(self, house: House, unique: Callable[[str], str]) -> None:
        self.house = house
        self.unique = unique
        self.pool, self.well, self.ill = unique("pool"), unique("well"), unique("ill")

    async def make(self) -> None:
        # LVM takes the free extents of the larger disk first.
        self.large = await _breakable(self.house, "384M")
        await self.house.form(self.pool, [self.large])
        await self.house.make(self.well, self.large, self.pool, 352)
        self.small = await _breakable(self.house, "256M")
        grow = GrowPool(pool=self.pool, node=NODE, disks=(self.small.id,))
        await self.house.done(grow)
        await self.house.make(self.ill, self.small, self.pool, 64)

    async def sum_of(self, volume: str) -> str:
        read = f"dd if=/dev/{self.pool}/{volume} bs=1M iflag=direct status=none"
        return await self.house.sh(NODE, f"bash -c 'set -o pipefail; {read} | sha256sum'")

    async def defects(self) -> dict[str, list[str]]:
        rows = await self.house.rows("volumes", pool=self.pool)
        return {row["name"]: row["defects"] for row in rows}

    async def is_told(self) -> None:
        house, where = self.house, {"node": NODE, "object": f"pool/{NODE}/{self.pool}"}

        async def missed() -> bool:
            return bool(await house.rows("drift", **where))

        await house.look_again(NODE)
        await house.until(missed, what="the disk is missed")
        (row,) = await house.rows("drift", **where)
        assert row["drift"] == Drift.POOL_DISK_MISSING
        assert self.small.id in row["observed"]
        assert await self.defects() == {self.well: [], self.ill: [Drift.VOLUME_DISK_MISSING]}

    async def takes_nothing(self) -> None:
        for wish in (
            ProvisionVolume(volume=self.unique("no"), size_bytes=4 * MIB, pool=self.pool),
            GrowVolume(volume=self.well, size_bytes=360 * MIB),
        ):
            no = await self.house.refused(wish)
            assert no.code is Refusal.POOL_DISK_MISSING, no
            assert self.small.id in no.because
        clone = CloneVolume(volume=self.unique("no"), source=self.ill)
        assert (await self.house.failed(clone))["code"] == Refusal.POOL_DISK_MISSING

    async def is_whole(self) -> None:
        async def forgiven() -> bool:
            found = await self.house.rows("drift", node=NODE)
            ours = [row for row in found if self.pool in row["object"] + row["wanted"]]
            return not ours and not any((await self.defects()).values())

        await self.house.look_again(NODE)
        await self.house.until(forgiven, what="the pool is whole again")


def test_a_disk_that_cannot_be_read_marks_what_lies_on_it_and_is_welcome_back(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    async def scene(house: House) -> None:
        torn = Torn(house, unique)
        await torn.make()
        await house.sh(NODE, f"head -c 60M /dev/urandom >/dev/{torn.pool}/{torn.ill}; sync")
        sums = {volume: await torn.sum_of(volume) for volume in (torn.well, torn.ill)}
        await house.lab.fail_disk(NODE, torn.small.letter)
        await torn.is_told()
        await torn.takes_nothing()
        assert await torn.sum_of(torn.well) == sums[torn.well]
        with pytest.raises(CommandFailedError, match="Input/output error"):
            await torn.sum_of(torn.ill)
        await house.lab.mend_disk(NODE, torn.small.letter)
        await torn.is_whole()
        assert {v: await torn.sum_of(v) for v in (torn.well, torn.ill)} == sums
        await house.done(GrowVolume(volume=torn.ill, size_bytes=96 * MIB))
        await house.lab.fail_disk(NODE, torn.small.letter)
        await torn.is_told()
        await house.done(DeleteVolume(volume=torn.ill))
        await house.lab.mend_disk(NODE, torn.small.letter)
        await torn.is_whole()
        await house.settled(torn.pool, NODE)
        await house.clear(torn.pool, NODE, torn.large, torn.small)

    play(scene)
