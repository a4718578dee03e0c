"""Somebody changes LVM by hand: it is told with both sides, and settled by whoever decides so."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from schemas.answers import Accepted, Refused
from schemas.node import Drift
from schemas.refusals import Refusal
from schemas.settling import SettleDrift, Verb
from schemas.units import readable
from tests.support.house import MIB, House, Row, Scene, Volume

pytestmark = pytest.mark.lab
WITHIN_S = 60
NODE = "n3"
THEIRS, SCRATCH = "theirs", "scratch"
Found = dict[tuple[str, str], Row]


class Names(msgspec.Struct, frozen=True):
    """What is changed by hand, and what the stranger is called once it is adopted."""

    pool: str
    lost: str
    empty: str
    renamed: str
    resized: str
    adopted: str

    def leg(self, drift: Drift, volume: str) -> tuple[str, str]:
        return drift.value, f"replica/{NODE}/{volume}"

    def lv(self, drift: Drift, name: str) -> tuple[str, str]:
        return drift.value, f"lv/{NODE}/{self.pool}/{name}"


def expected(names: Names) -> dict[tuple[str, str], tuple[str, str]]:
    """Return what is wanted and what is observed, by kind and object."""
    stranger = ("nothing", f"linear volume, {readable(16 * MIB)}, without a tag of ours")
    nowhere, size = "no logical volume with its tag", readable(32 * MIB)
    missing, pool = Drift.VOLUME_MISSING, names.pool
    return {
        names.leg(missing, names.lost): (f"{pool}/{names.lost}, {size}", nowhere),
        names.leg(missing, names.empty): (f"{pool}/{names.empty}, {size}", nowhere),
        names.leg(Drift.VOLUME_RENAMED, names.renamed): (
            f"{pool}/{names.renamed}",
            f"{pool}/taken",
        ),
        names.leg(Drift.VOLUME_RESIZED, names.resized): (size, readable(48 * MIB)),
        names.lv(Drift.VOLUME_FOREIGN, THEIRS): stranger,
        names.lv(Drift.VOLUME_FOREIGN, SCRATCH): stranger,
    }


def wish(row: Row, verb: Verb, volume: str | None = None) -> SettleDrift:
    """Return the command about a finding as it is in the view."""
    return SettleDrift(
        node=NODE,
        drift=Drift(row["drift"]),
        object=row["object"],
        verb=verb,
        seen=row["seen"],
        volume=volume,
    )


async def findings(house: House, names: Names) -> Found:
    mine = {object_ for _, object_ in expected(names)}
    rows = await house.rows("drift", node=NODE)
    return {(row["drift"], row["object"]): row for row in rows if row["object"] in mine}


async def digests(house: House, pool: str, *volumes: str) -> list[str]:
    """Return the checksum of the first 8 MiB of each volume."""
    told = await house.sh(
        NODE, f"for v in {' '.join(volumes)}; do head -c 8M /dev/{pool}/$v | sha256sum; done"
    )
    return [line.split()[0] for line in told.splitlines()]


async def changed_by_hand(house: House, names: Names) -> list[str]:
    """Fill volumes, change them behind hwbus's back, and return what is in each."""
    pool = names.pool
    filled = (names.renamed, names.resized, THEIRS, SCRATCH)
    await house.sh(
        NODE,
        f"set -e; for v in {THEIRS} {SCRATCH}; do lvcreate -q -y -L 16m -n $v {pool}; done\n"
        f"for v in {' '.join(filled)}; do"
        f" head -c 8M /dev/urandom | dd of=/dev/{pool}/$v bs=1M conv=fsync status=none; done",
    )
    before = await digests(house, pool, *filled)
    await house.sh(
        NODE,
        f"set -e; lvremove -q -y {pool}/{names.lost} {pool}/{names.empty};"
        f"lvrename -q {pool} {names.renamed} taken; lvextend -q -L 48m {pool}/{names.resized}",
    )
    return before


async def found_and_left(house: House, names: Names) -> Found:
    """Wait until all is found, and see that a worker that starts anew leaves it as it is."""
    by_hand = await house.lvs(NODE, names.pool)
    found: Found = {}

    async def all_found() -> bool:
        found.clear()
        found.update(await findings(house, names))
        return len(found) == 6

    found_s = await house.until(all_found, WITHIN_S, what="all six are found")
    print(f"found after {found_s:.1f} s")
    both = {key: (row["wanted"], row["observed"]) for key, row in found.items()}
    assert both == expected(names)
    marked = [line for row in found.values() for line in row["settle"] if row["seen"] in line]
    assert len(marked) == 10
    await house.lab.service_kill("worker", NODE)
    await house.lab.service_start("worker", NODE)
    await house.scanned(NODE)
    assert await house.lvs(NODE, names.pool) == by_hand
    return found


async def settled(house: House, names: Names, found: Found) -> None:
    """Settle each finding in the way that fits it, all at once; the other ways are refused."""
    missing, foreign = Drift.VOLUME_MISSING, Drift.VOLUME_FOREIGN
    theirs, empty = found[names.lv(foreign, THEIRS)], found[names.leg(missing, names.empty)]
    for odd, code in (
        (wish(theirs, Verb.RECREATE, THEIRS), Refusal.WRONG_WAY),
        (wish(empty, Verb.RECREATE), Refusal.NOT_CONFIRMED),
    ):
        assert (await house.refused(odd)).code is code
    wishes = (
        wish(found[names.leg(Drift.VOLUME_RENAMED, names.renamed)], Verb.UNDO),
        wish(found[names.leg(Drift.VOLUME_RESIZED, names.resized)], Verb.ACCEPT),
        wish(found[names.leg(missing, names.lost)], Verb.ACCEPT),
        wish(empty, Verb.RECREATE, names.empty),
        wish(theirs, Verb.ADOPT, names.adopted),
        wish(found[names.lv(foreign, SCRATCH)], Verb.QUARANTINE),
    )
    await asyncio.gather(*(house.done(one) for one in wishes))

    async def only_quiet() -> bool:
        return [row["quiet"] for row in (await findings(house, names)).values()] == [True]

    settled_s = await house.until(only_quiet, WITHIN_S, what="all are settled")
    print(f"settled after {settled_s:.1f} s")
    past = await house.rows("drift-past", node=NODE, by="alice")
    verbs = {row["verb"] for row in past if (row["drift"], row["object"]) in found}
    assert verbs == {"undo", "accept", "recreate", "adopt", "quarantine"}


async def out_of_quarantine(house: House, names: Names, digest: str) -> None:
    """Release what nobody could activate; and what was changed since it was seen is left alone."""
    pool, foreign = names.pool, names.lv(Drift.VOLUME_FOREIGN, SCRATCH)
    await house.sh(NODE, f"lvchange -ay {pool}/{SCRATCH}; test ! -e /dev/{pool}/{SCRATCH}")
    (aside,) = (await findings(house, names)).values()
    await house.done(wish(aside, Verb.RELEASE))
    await house.sh(NODE, f"lvchange -ay {pool}/{SCRATCH}")
    assert await digests(house, pool, SCRATCH) == [digest]

    async def foreign_again() -> bool:
        return foreign in await findings(house, names)

    await house.until(foreign_again, WITHIN_S, what="it is foreign again")
    row = (await findings(house, names))[foreign]
    await house.sh(NODE, f"lvextend -q -L 20m {pool}/{SCRATCH}")
    # Whoever is the first to see it: the desk by a look that was told, or the node.
    answer = await house.client.command(wish(row, Verb.ADOPT))
    if isinstance(answer, Accepted):
        assert (await house.end(answer.operation))["code"] == Refusal.NOT_AS_SEEN
    else:
        assert isinstance(answer, Refused)
        assert answer.code is Refusal.FINDING_CHANGED
    await house.sh(NODE, f"lvremove -q -y {pool}/{SCRATCH}")
    await house.look_again(NODE)

    async def none_left() -> bool:
        return await findings(house, names) == {}

    await house.until(none_left, WITHIN_S, what="what somebody removed is missed by nobody")
    gone = (await house.rows("drift-past", node=NODE, object=foreign[1]))[0]
    assert (gone["verb"], gone["by"]) == (None, "")


async def nothing_is_lost(
    house: House, names: Names, ours: dict[str, Volume], before: list[str]
) -> None:
    """Compare data, identities, sizes and the ledger, which knows what is in quarantine too."""
    mine = (names.renamed, names.resized, names.adopted)
    assert await digests(house, names.pool, *mine) == before[:3]
    now = await house.lvs(NODE, names.pool)
    assert [now[name].uuid for name in mine[:2]] == [ours[name].uuid for name in mine[:2]]
    await house.settled(names.pool, NODE)
    rows = await house.rows("volumes", pool=names.pool)
    sizes = {names.empty: 32, names.renamed: 32, names.resized: 48, names.adopted: 16}
    assert {row["name"]: row["size_bytes"] // MIB for row in rows} == sizes


@pytest.mark.slow
def test_what_was_changed_by_hand_is_found_and_left_until_somebody_settles_it(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    kinds = ("drift", "lost", "empty", "renamed", "resized", "adopted")
    names = Names(*(unique(kind) for kind in kinds))

    async def scene(house: House) -> None:
        disk = await house.plug(NODE, "512M")
        await house.form(names.pool, [disk])
        made = (names.lost, names.empty, names.renamed, names.resized)
        await asyncio.gather(*(house.make(volume, disk, names.pool, 32) for volume in made))
        ours = await house.lvs(NODE, names.pool)
        before = await changed_by_hand(house, names)
        found = await found_and_left(house, names)
        await settled(house, names, found)
        await nothing_is_lost(house, names, ours, before)
        await out_of_quarantine(house, names, before[3])
        await house.settled(names.pool, NODE)
        await house.clear(names.pool, NODE, disk)

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
