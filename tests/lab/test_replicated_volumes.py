"""What is done with volumes that have several replicas, on real kernels, while they are in use."""

import secrets
from collections.abc import Callable
from functools import partial

import pytest

from schemas.attaching import DetachVolume
from schemas.copying import RestoreVolume
from schemas.deleting import DeleteVolume, UndeleteVolume
from schemas.encrypting import RekeyVolume
from schemas.handing import HandOverVolume
from schemas.legs import AddReplica, MigrateVolume, RemoveReplicaOf
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from schemas.snapshot import CreateSnapshot, DeleteSnapshot, RollBackSnapshot
from schemas.volume import Filesystem, GrowVolume, ProvisionVolume
from tests.support.encryption_contract import TEXT
from tests.support.house import MIB, House, Scene
from tests.support.load import Load
from tests.support.pair import FAILOVER_S, WRITER, Pair

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]
STILL_MAX_S = 5.0
_PUT_KEY = "cd /etc && mkdir -p -m 700 hwbus/keys; umask 077; printf %s '{key}' >hwbus/keys/{name}"


async def is_filled(house: House, pair: Pair) -> bool:
    return bool((await house.row("volumes", name=pair.volume))["sync_percent"])


async def moves_whoever_dies(house: House, pair: Pair) -> None:
    """Have the second replica move, and the desk and every worker die while it is filled."""
    slowly = MigrateVolume(volume=pair.volume, source="n2", node="n3", resync_bytes_per_s=4 * MIB)
    operation = (await house.say(slowly)).operation
    await house.until(partial(is_filled, house, pair), what="the new replica is being filled")
    who = (("controller", ""), *(("worker", node) for node in pair.nodes))
    for service in who:
        await house.lab.service_kill(*service)
    for service in who:
        await house.lab.service_start(*service)
    assert (await house.end(operation))["outcome"] == Outcome.COMPLETED


async def is_given_up_half_way(house: House, pair: Pair) -> None:
    """Have the volume migrate slowly, and call that off: it is as it was, and nothing is left.

    What its leg grew by to have room for metadata is the volume's, as docs/replication.md says.
    """
    before = await house.row("volumes", name=pair.volume)
    slowly = MigrateVolume(volume=pair.volume, node="n2", resync_bytes_per_s=MIB)
    operation = (await house.say(slowly)).operation
    await house.until(partial(is_filled, house, pair), what="the new replica is being filled")
    await house.say(CancelOperation(operation=operation))
    assert (await house.end(operation))["outcome"] == Outcome.CANCELLED
    after = await house.row("volumes", name=pair.volume)
    same = ("node", "replicas", "state", "consumer", "mount_point")
    assert [after[field] for field in same] == [before[field] for field in same]
    assert after["size_bytes"] - before["size_bytes"] == 4 * MIB, "each time anew"
    assert after["size_bytes"] == (await house.lvs("n1", pair.pool))[pair.volume].size_bytes
    await house.settled(pair.pool, "n2")
    assert await house.lvs("n2", pair.pool) == {}


def test_a_plain_volume_becomes_replicated_and_plain_again_under_load_and_moves(
    play: Play, unique: Unique
) -> None:
    async def scene(house: House) -> None:
        pair = Pair(house, unique, ("n1", "n2", "n3"))
        await pair.plug_in()
        await house.make(pair.volume, pair.disks[0], pair.pool, 64, filesystem=Filesystem.EXT4)
        await pair.attach()
        number = await pair.number("n1")
        load = Load(house, "n1", pair.volume, f"/mnt/{pair.volume}/data")
        await load.start()
        for _ in range(2):
            await is_given_up_half_way(house, pair)
            await load.goes_on()
        for change, nodes in (
            (partial(house.done, AddReplica(volume=pair.volume, node="n2")), ["n1", "n2"]),
            (partial(moves_whoever_dies, house, pair), ["n1", "n3"]),
            (partial(house.done, RemoveReplicaOf(volume=pair.volume, node="n3")), []),
        ):
            await change()
            row = await house.row("volumes", name=pair.volume)
            assert [one["node"] for one in row["replicas"]] == nodes
            await load.goes_on()
        assert await load.stop() > MIB
        assert await pair.number("n1") == number
        then = await pair.sh("n1", "sync; sha256sum <$at/data")
        await house.done(MigrateVolume(volume=pair.volume, node="n2"))
        assert await pair.sh("n2", "sha256sum <$at/data") == then
        await pair.detached()
        await pair.attach()
        row = await house.row("volumes", name=pair.volume)
        assert await pair.sh("n2", "blockdev --getsize64 /dev/hwbus/$v") == str(row["size_bytes"])
        for node in pair.nodes:
            await house.settled(pair.pool, node)
        await pair.clear()

    play(scene)


def test_a_replicated_volume_grows_and_is_kept_and_held(play: Play, unique: Unique) -> None:
    async def scene(house: House) -> None:
        pair = Pair(house, unique)
        await pair.make()
        await pair.attach()
        await pair.sh("n1", "head -c 4M /dev/urandom >$at/file; sync")
        await house.done(GrowVolume(volume=pair.volume, size_bytes=96 * MIB))
        size_mib = "df --output=size -BM $at | tail -1 | tr -d ' M'"
        assert int(await pair.sh("n1", size_mib)) > 80
        then = await pair.sh("n1", "sha256sum <$at/file")
        kept, copy = unique("kept"), unique("copy")
        await house.done(CreateSnapshot(snapshot=kept, volume=pair.volume, single=True))
        await pair.sh("n1", "head -c 2M /dev/urandom >$at/file; sync")
        await house.done(RestoreVolume(volume=copy, snapshot=kept))
        look = f"mkdir -p /mnt/{copy}; mount /dev/{pair.pool}/{copy} /mnt/{copy}"
        where = (await house.row("volumes", name=copy))["node"]
        read = f"{look}; sha256sum </mnt/{copy}/file; umount /mnt/{copy}"
        assert (await house.sh(where, read)).strip() == then
        await house.done(DeleteVolume(volume=copy))
        await house.done(DeleteSnapshot(snapshot=kept))
        now = await pair.sh("n1", "sha256sum <$at/file")
        await house.done(HandOverVolume(volume=pair.volume, node="n2"))
        assert await pair.sh("n2", "sha256sum <$at/file") == now
        await house.done(DetachVolume(volume=pair.volume))
        await house.done(DeleteVolume(volume=pair.volume, hold_s=600))
        for node in pair.nodes:
            assert await pair.sh(node, "drbdsetup status $r 2>&1 || true") != ""
        await house.done(UndeleteVolume(volume=pair.volume))
        await pair.attach()
        assert await pair.sh("n2", "sha256sum <$at/file") == now
        await pair.clear()

    play(scene)


def test_all_replicas_are_kept_at_one_instant_and_one_outlives_its_node(
    play: Play, unique: Unique
) -> None:
    """Both become what was kept of the second, after the node of the first had lost its power."""

    async def scene(house: House) -> None:
        pair, kept = Pair(house, unique), unique("kept")
        twin = f"{kept}-n2"
        await pair.make(mib=32)
        await pair.attach()
        await pair.sh("n1", f"head -c 4M /dev/urandom >$at/file; sync\n{WRITER}")
        then = await pair.sh("n1", "sha256sum <$at/file")
        await house.until(partial(pair.has_written, "n1"), what="somebody writes")
        operation = await house.done(CreateSnapshot(snapshot=kept, volume=pair.volume))
        rows = [await house.row("snapshots", name=name) for name in (kept, twin)]
        assert [(row["node"], row["state"]) for row in rows] == [("n1", "ready"), ("n2", "ready")]
        assert [row["consistency"] for row in rows] == ["filesystem"] * 2
        still_s = await pair.stood_still_s(operation)
        print(f"two replicas were kept at one instant: nobody could write for {still_s:.2f} s")
        assert still_s < STILL_MAX_S
        written = int(await pair.sh("n1", "cat /run/written-$v"))
        await house.until(partial(pair.has_written, "n1", written + 10), what="it goes on")
        sums = [await pair.kept(row, mib=32) for row in rows]
        assert sums[0] == sums[1]
        await house.lab.kill("n1")
        await house.until(partial(pair.failed_over, "n2"), 2 * FAILOVER_S)
        await pair.sh("n2", "head -c 2M /dev/urandom | tee $at/other >$at/file; sync")
        assert (await house.refused(RollBackSnapshot(snapshot=twin))).code is Refusal.NODE_SILENT
        await house.lab.boot("n1")
        await house.until(pair.is_healthy, what="n1 has what it missed")
        await pair.detached()
        # Many tools on two nodes, one after another: on a busy machine that takes its time.
        await house.done(RollBackSnapshot(snapshot=twin), within_s=180)
        await house.until(pair.is_healthy, what="n1 is filled from what n2 has become")
        assert await pair.kept(rows[0], mib=32) == sums[0]
        await house.done(DeleteSnapshot(snapshot=kept))
        await pair.verified(mib=32)
        await pair.attach()
        assert await pair.sh("n2", "ls $at/other 2>/dev/null || sha256sum <$at/file") == then
        await pair.clear()

    play(scene)


async def shows_nothing(pair: Pair, node: str, old: str, new: str) -> None:
    """See no plain text on a leg, and that it opens by the new key alone."""
    read = f"dd if=/dev/{pair.pool}/$v bs=1M iflag=direct status=none"
    assert await pair.sh(node, f"{read} | grep -c '{TEXT}' || true") == "0"
    # Both have the same header: DRBD has brought it there.
    opens = "cryptsetup open --test-passphrase --key-file /etc/hwbus/keys/{} /run/header"
    tried = "; ".join(f"{opens.format(key)} && echo yes || echo no" for key in (old, new))
    found = await pair.sh(node, f"{read} count=16 >/run/header; {tried}; rm /run/header")
    assert found.split() == ["no", "yes"]


def test_an_encrypted_volume_survives_its_node_and_shows_nothing_on_any_leg(
    play: Play, unique: Unique
) -> None:
    """The worker is killed when the header has just come; later the node loses its power."""

    async def scene(house: House) -> None:
        pair, old, new = Pair(house, unique), unique("key"), unique("key")
        await pair.plug_in()
        for name in (old, new):
            key = secrets.token_urlsafe(48)
            for node in pair.nodes:
                await pair.sh(node, _PUT_KEY.format(key=key, name=name))
        word = ProvisionVolume(
            volume=pair.volume,
            size_bytes=64 * MIB,
            pool=pair.pool,
            node="n1",
            replicas=2,
            filesystem=Filesystem.EXT4,
            key_ref=f"file:{old}",
        )
        operation = (await house.say(word)).operation

        async def formatted() -> bool:
            return any("luksFormat" in tool["argv"] for tool in await house.tools(operation))

        await house.until(formatted, what="there is a header")
        await house.lab.service_kill("worker", "n1")
        await house.lab.service_start("worker", "n1")
        assert (await house.end(operation))["outcome"] == "completed"
        row = await house.row("volumes", name=pair.volume)
        assert (row["encrypted"], row["size_bytes"]) == (True, 64 * MIB)
        await pair.attach()
        assert await pair.sh("n1", "blockdev --getsize64 /dev/hwbus/$v") == str(64 * MIB)
        await pair.sh("n1", f"yes '{TEXT}' | head -c 8000000 >$at/file; sync")
        then = await pair.sh("n1", "sha256sum <$at/file")
        await house.done(RekeyVolume(volume=pair.volume, key_ref=f"file:{new}"))
        for node in pair.nodes:
            keys = (await house.row("replicas", volume=pair.volume, node=node))["keys"]
            assert keys == [f"file:{new}"]
        for node in pair.nodes:
            await shows_nothing(pair, node, old, new)
        await house.lab.kill("n1")
        await house.until(partial(pair.failed_over, "n2"), 2 * FAILOVER_S)
        assert await pair.sh("n2", "sha256sum <$at/file") == then
        await house.lab.boot("n1")
        await house.until(pair.is_healthy, what="n1 has what it missed")
        kept = unique("kept")
        await house.done(CreateSnapshot(snapshot=kept, volume=pair.volume, single=True))
        await pair.sh("n2", "head -c 2M /dev/urandom >$at/file; sync")
        await pair.detached()
        await house.done(RollBackSnapshot(snapshot=kept), within_s=180)
        await house.until(pair.is_healthy, what="n1 is filled from what n2 has become")
        await pair.attach()
        await house.done(RemoveReplicaOf(volume=pair.volume, node="n1"))
        assert await pair.sh("n2", "sha256sum <$at/file; drbdsetup status $r 2>&- || true") == then
        await pair.clear()

    play(scene)
