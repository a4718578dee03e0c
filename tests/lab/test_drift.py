"""Somebody changes LVM by hand: it is told with both sides, never repaired behind their back."""

import asyncio
import time
from collections.abc import Callable

import pytest

from schemas.answers import Accepted, Refused
from schemas.node import Drift
from schemas.refusals import Refusal
from schemas.settling import SettleDrift, Verb
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


def wish(row: Row, verb: Verb, **more: str) -> SettleDrift:
    """Return the command about a finding as it is in the view."""
    about = (row["node"], Drift(row["drift"]), row["object"], row["seen"])
    node, drift, object_, seen = about
    return SettleDrift(
        node=node, drift=drift, object=object_, verb=verb, seen=seen, volume=more.get("volume")
    )


async def digests(house: House, pool: str, *names: str) -> dict[str, str]:
    """Return the checksum of the first 8 MiB of each volume."""
    told = await house.sh(
        "n2", f"for v in {' '.join(names)}; do head -c 8M /dev/{pool}/$v | sha256sum; done"
    )
    return dict(zip(names, (line.split()[0] for line in told.splitlines()), strict=True))


async def changed_by_hand(house: House, pool: str, names: dict[str, str]) -> dict[str, str]:
    """Fill volumes, change them behind hwbus's back, and return what is in each."""
    theirs = ("theirs", "scratch")
    made = "".join(f"lvcreate -q -y -L 16m -n {name} {pool};" for name in theirs)
    mine = (names["renamed"], names["larger"])
    filled = "".join(
        f"head -c 8M /dev/urandom | dd of=/dev/{pool}/{name} bs=1M conv=fsync status=none;"
        for name in (*mine, *theirs)
    )
    await house.sh("n2", f"set -e; {made} {filled}")
    before = await digests(house, pool, *mine, *theirs)
    await house.sh(
        "n2",
        f"set -e; lvremove -q -y {pool}/{names['lost']} {pool}/{names['empty']};"
        f"lvrename -q {pool} {names['renamed']} taken; lvextend -q -L 48m {pool}/{names['larger']}",
    )
    return before


async def settled_all(
    house: House, found: dict[tuple[str, str], Row], pool: str, names: dict[str, str]
) -> None:
    """Settle each finding in the way that fits it, all at once."""
    leg = {kind: f"replica/n2/{name}" for kind, name in names.items()}
    stranger = found[Drift.VOLUME_FOREIGN, f"lv/n2/{pool}/theirs"]
    wishes = (
        wish(found[Drift.VOLUME_RENAMED, leg["renamed"]], Verb.UNDO),
        wish(found[Drift.VOLUME_RESIZED, leg["larger"]], Verb.ACCEPT),
        wish(found[Drift.VOLUME_MISSING, leg["lost"]], Verb.ACCEPT),
        wish(found[Drift.VOLUME_MISSING, leg["empty"]], Verb.RECREATE, volume=names["empty"]),
        wish(stranger, Verb.ADOPT, volume=names["adopted"]),
        wish(found[Drift.VOLUME_FOREIGN, f"lv/n2/{pool}/scratch"], Verb.QUARANTINE),
    )
    odd = wish(stranger, Verb.RECREATE, volume="theirs")
    assert (await house.refused(odd)).code is Refusal.WRONG_WAY
    await asyncio.gather(*(house.done(one) for one in wishes))


async def out_of_quarantine(house: House, pool: str, aside: Row, digest: str) -> None:
    """Release what nobody could activate; and what was changed since it was seen is left alone."""
    await house.sh("n2", f"lvchange -ay {pool}/scratch; test ! -e /dev/{pool}/scratch")
    await house.done(wish(aside, Verb.RELEASE))
    await house.sh("n2", f"lvchange -ay {pool}/scratch")
    assert await digests(house, pool, "scratch") == {"scratch": digest}
    foreign: list[Row] = []

    async def foreign_again() -> bool:
        about = {"object": aside["object"], "drift": Drift.VOLUME_FOREIGN.value}
        foreign[:] = await house.rows("drift", **about)
        return bool(foreign)

    await house.until(foreign_again, WITHIN_S, what="it is foreign again")
    await house.sh("n2", f"lvextend -q -L 20m {pool}/scratch")
    # Whoever is the first to see it: the desk by a look that was told, or the node.
    answer = await house.client.command(wish(foreign[0], Verb.ADOPT))
    if isinstance(answer, Accepted):
        assert (await house.end(answer.operation))["code"] == Refusal.NOT_AS_SEEN
    else:
        assert isinstance(answer, Refused)
        assert answer.code is Refusal.FINDING_CHANGED


def test_what_was_changed_by_hand_is_settled_by_commands_and_no_data_is_lost(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    pool = unique("settle")
    names = {kind: unique(kind) for kind in ("lost", "empty", "renamed", "larger", "adopted")}

    async def scene(house: House) -> None:
        began_s = time.monotonic()
        disk = await house.plug("n2", "512M")
        await house.form(pool, [disk])
        made = [names[kind] for kind in ("lost", "empty", "renamed", "larger")]
        await asyncio.gather(*(house.make(volume, disk, pool, 32) for volume in made))
        before = await changed_by_hand(house, pool, names)
        found: dict[tuple[str, str], Row] = {}

        async def findings() -> dict[tuple[str, str], Row]:
            rows = await house.rows("drift", node="n2")
            mine = [r for r in rows if pool in r["object"] or r["object"][11:] in names.values()]
            return {(row["drift"], row["object"]): row for row in mine}

        async def all_found() -> bool:
            found.update(await findings())
            return len(found) == 6

        await house.look_again("n2")
        await house.until(all_found, WITHIN_S, what="all six are found")
        await settled_all(house, found, pool, names)
        await house.look_again("n2")

        async def only_quiet() -> bool:
            return [row["quiet"] for row in (await findings()).values()] == [True]

        await house.until(only_quiet, WITHIN_S, what="all are settled")
        mine, adopted = (names["renamed"], names["larger"]), names["adopted"]
        after = await digests(house, pool, *mine, adopted)
        assert after == {**{n: before[n] for n in mine}, adopted: before["theirs"]}
        await house.settled(pool, "n2")  # what is in quarantine is in the ledger, too
        sizes = {row["name"]: row["size_bytes"] for row in await house.rows("volumes", pool=pool)}
        other = {names["larger"]: 48 * MIB, adopted: 16 * MIB}
        assert sizes == {names["empty"]: 32 * MIB, names["renamed"]: 32 * MIB, **other}
        past = await house.rows("drift-past", node="n2", by="alice")
        settled = {row["verb"] for row in past if row["operation"]}
        assert settled >= {"undo", "accept", "recreate", "adopt", "quarantine"}

        (aside,) = (await findings()).values()
        await out_of_quarantine(house, pool, aside, before["scratch"])
        await house.sh("n2", f"lvremove -q -y {pool}/scratch")
        await house.clear(pool, "n2", disk)
        print(f"settled all in {time.monotonic() - began_s:.1f} s")

    play(scene)
