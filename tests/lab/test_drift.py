"""Somebody changes LVM by hand: it is told with both sides, never repaired behind their back."""

import asyncio
from collections.abc import Callable

import pytest

from schemas.node import Drift
from schemas.units import readable
from schemas.volume import DeleteVolume
from tests.support.house import MIB, House, Row, Scene

pytestmark = pytest.mark.lab
WITHIN_S = 60


def sides(found: dict[str, Row]) -> dict[str, tuple[str, str, bool]]:
    """Return what was wanted, what is observed, and whether there is a way out."""
    return {
        drift: (row["wanted"], row["observed"], bool(row["settle"])) for drift, row in found.items()
    }


def expected(pool: str, lost: str, renamed: str, resized: str) -> dict[str, tuple[str, str, bool]]:
    stranger = f"linear volume, {readable(16 * MIB)}, without a tag of ours"
    return {
        Drift.VOLUME_MISSING: (
            f"{pool}/{lost}, {readable(32 * MIB)}",
            "no logical volume with its tag",
            True,
        ),
        Drift.VOLUME_RENAMED: (f"{pool}/{renamed}", f"{pool}/taken", True),
        Drift.VOLUME_RESIZED: (readable(32 * MIB), readable(48 * MIB), True),
        Drift.VOLUME_FOREIGN: ("nothing", stranger, True),
    }


@pytest.mark.slow
def test_what_was_changed_by_hand_is_found_and_left_as_it_is(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    pool = unique("drift")
    lost, renamed, resized = (unique(kind) for kind in ("lost", "renamed", "resized"))

    async def findings(house: House) -> dict[str, Row]:
        rows = await house.rows("drift", node="n3")
        return {row["drift"]: row for row in rows if pool in row["object"] + row["wanted"]} | {
            row["drift"]: row for row in rows if resized in row["object"]
        }

    async def scene(house: House) -> None:
        disk = await house.plug("n3", "512M")
        await house.form(pool, [disk])
        for volume in (lost, renamed, resized):
            await house.make(volume, disk, pool, 32)
        ours = await house.lvs("n3", pool)
        await house.sh(
            "n3",
            f"lvremove -q -y {pool}/{lost}; lvrename -q {pool} {renamed} taken;"
            f"lvextend -q -L 48m {pool}/{resized}; lvcreate -q -y -L 16m -n stranger {pool}",
        )
        by_hand = await house.lvs("n3", pool)

        async def all_found() -> bool:
            return len(await findings(house)) == 4

        found_s = await house.until(all_found, WITHIN_S, what="all four are found")
        print(f"found after {found_s:.1f} s")
        assert sides(await findings(house)) == expected(pool, lost, renamed, resized)
        await house.lab.service_kill("worker", "n3")
        await house.lab.service_start("worker", "n3")
        await house.scanned("n3")
        assert await house.lvs("n3", pool) == by_hand
        assert by_hand["taken"].uuid == ours[renamed].uuid

        await house.sh(
            "n3",
            f"lvrename -q {pool} taken {renamed}; lvreduce -q -f -y -L 32m {pool}/{resized};"
            f"lvremove -q -y {pool}/stranger",
        )
        await house.done(DeleteVolume(volume=lost))
        await house.look_again("n3")

        async def all_settled() -> bool:
            return await findings(house) == {}

        settled_s = await house.until(all_settled, WITHIN_S, what="all are settled")
        print(f"settled after {settled_s:.1f} s")
        left = await house.lvs("n3", pool)
        assert {name: lv.uuid for name, lv in left.items()} == {
            name: ours[name].uuid for name in (renamed, resized)
        }
        await house.settled(pool, "n3")
        await house.clear(pool, "n3", disk)

    play(scene)


def test_a_pool_that_was_removed_by_hand_is_not_made_again(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    pool, volume = unique("gone"), unique("volume")

    async def scene(house: House) -> None:
        disk = await house.plug("n1", "256M")
        await house.form(pool, [disk])
        await house.make(volume, disk, pool, 32)
        await house.sh("n1", f"vgremove -q -f -y {pool}")
        await house.look_again("n1")

        async def missed() -> bool:
            rows = await house.rows("drift", object=f"pool/n1/{pool}")
            return [row["drift"] for row in rows] == [Drift.POOL_MISSING]

        await house.until(missed, WITHIN_S, what="the pool is missed")
        await house.scanned("n1")
        assert pool not in await house.vgs("n1")
        await asyncio.wait_for(house.clear(pool, "n1", disk), 90)

    play(scene)
