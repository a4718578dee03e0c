"""Volumes with several replicas, on real kernels: what was acknowledged is there, whoever dies."""

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from node_workers.stillness import HOLD, LET_GO
from schemas.attaching import AttachVolume, DetachVolume, LimitVolume
from schemas.attachment import Limits
from schemas.copying import RestoreVolume
from schemas.deleting import DeleteVolume, UndeleteVolume
from schemas.encrypting import RekeyVolume
from schemas.handing import HandOverVolume
from schemas.legs import AddReplica, MigrateVolume, RemoveReplicaOf, SettleSplitBrain
from schemas.policy import PolicyKind, PolicySpec, RemovePolicy, Selector, SetPolicy
from schemas.refusals import Refusal
from schemas.rhythm import EVERY_MIN_S, Rhythm
from schemas.snapshot import CreateSnapshot, DeleteSnapshot, RollBackSnapshot
from schemas.verifying import VerifyVolume
from schemas.volume import Filesystem, GrowVolume, ProvisionVolume
from tests.support.encryption_contract import TEXT
from tests.support.house import AWAY_S, MIB, House, Plugged, Row, Scene
from tests.support.load import Load

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]
FAILOVER_S = 15.0
STILL_MAX_S = 5.0
LIMITED = "rbps=max wbps=max riops=max wiops=77"
_BLOCK = 15_488  # of 4 KiB
# Appends a number every few milliseconds, each on disk before the next; ends at the first error.
# What is said to be written is moved into its place: whoever reads it must not find it empty.
_WRITER = """
cat >/run/writer.sh <<'END'
n=0
while n=$((n + 1)); do
    echo $n >>$1/log && sync $1/log && echo $n >/run/said-$2 &&
        mv /run/said-$2 /run/written-$2 && continue
    echo failed >/run/failed-$2
    exit 1
done
END
setsid sh /run/writer.sh $at $v >/dev/null 2>&1 </dev/null &
echo $! >/run/writer-$v
"""


_PUT_KEY = "cd /etc && mkdir -p -m 700 hwbus/keys; umask 077; printf %s '{key}' >hwbus/keys/{name}"


class Pair:
    """A volume with a replica on each of two nodes, and a program that writes to it."""

    def __init__(self, house: House, unique: Unique, nodes: tuple[str, ...] = ("n1", "n2")) -> None:
        self.house, self.nodes = house, nodes
        self.pool, self.volume = unique("pool"), unique("ha")
        self.disks: list[Plugged] = []

    async def plug_in(self) -> None:
        self.disks = list(
            await asyncio.gather(*(self.house.plug(node, "1G") for node in self.nodes))
        )
        await asyncio.gather(*(self.house.form(self.pool, [disk]) for disk in self.disks))

    async def make(self, mib: int = 64, **more: Any) -> Row:
        await self.plug_in()
        word = ProvisionVolume(
            volume=self.volume,
            size_bytes=mib * MIB,
            pool=self.pool,
            node=self.nodes[0],
            replicas=2,
            **({"filesystem": Filesystem.EXT4} | more),
        )
        await self.house.done(word)
        return await self.house.row("volumes", name=self.volume)

    async def attach(self, **more: Any) -> None:
        where = {"consumer": "host/test", "mount_point": f"/mnt/{self.volume}"}
        await self.house.done(AttachVolume(volume=self.volume, **(where | more)))

    async def has_written(self, node: str, at_least: int = 10) -> bool:
        count = await self.sh(node, "cat /run/written-$v 2>/dev/null || echo 0")
        return int(count or "0") >= at_least

    async def stop_writing(self, node: str) -> None:
        """Have nobody write there; whoever wrote may be dead already."""
        await self.sh(
            node,
            "pkill -g $(cat /run/writer-$v) || true\n"
            "while pgrep -g $(cat /run/writer-$v) >/dev/null; do sleep 0.1; done",
        )

    async def limits(self, node: str) -> str:
        """Return what the kernel holds the consumer to."""
        return await self.sh(node, "cat /sys/fs/cgroup/$v/io.max")

    async def number(self, node: str) -> str:
        """Return the number of the device that the consumer has."""
        return await self.sh(
            node, "dmsetup info -c --noheadings -o major,minor --separator : hwbus:$v"
        )

    async def failed_over(self, node: str) -> bool:
        rows = await self.house.rows("volumes", name=self.volume)
        return any((row["node"], row["operation"]) == (node, "") for row in rows)

    async def goes_on(self, at_least: int, *, either: bool) -> str:
        """Wait until n1 has written so much; return the node that has the volume.

        With *either* n2 may have it instead: if nobody was heard, who is heard first may go on.
        """

        async def decided() -> bool:
            if await self.has_written("n1", at_least):
                return True
            return either and await self.failed_over("n2")

        await self.house.until(decided, what="somebody goes on")
        return str((await self.house.row("volumes", name=self.volume))["node"])

    async def runs(self, node: str) -> bool:
        return "UpToDate" in await self.sh(node, "drbdsetup status $r 2>/dev/null || true")

    async def is_frozen(self, node: str) -> bool:
        return "suspended:fencing" in await self.sh(node, "drbdsetup status $r --verbose")

    async def is_healthy(self) -> bool:
        return bool((await self.house.row("volumes", name=self.volume))["health"] == "healthy")

    async def verified(self, mib: int = 60) -> None:
        """Compare the legs by checksum, with nobody writing."""
        await self.detached()
        for node in self.nodes:
            await self.sh(node, "drbdadm down $r")
        read = f"dmsetup mknodes; head -c {mib * MIB} /dev/{self.pool}/$v | sha256sum"
        sums = [await self.sh(node, read) for node in self.nodes]
        assert sums[0] == sums[1]
        await self.house.until(self.is_healthy, what="the legs are up again")

    async def finds_and_repairs_what_differs(self) -> None:
        """Change 4 KiB of one leg past all that is above it, while the volume is attached."""
        house, leg = self.house, f"/dev/{self.pool}/$v"
        block = "bs=4k count=1 iflag=direct status=none"
        read = f"dd if={leg} skip={_BLOCK} {block} | sha256sum"
        spoil = f"dd if=/dev/urandom of={leg} seek={_BLOCK} bs=4k count=1 oflag=direct"
        await self.sh("n2", f"{spoil} 2>/dev/null")
        found = await house.failed(VerifyVolume(volume=self.volume))
        assert found["code"] == Refusal.REPLICAS_DIFFER, found

        async def told() -> bool:
            row = await house.row("volumes", name=self.volume)
            known = row["compared"]["differing_bytes"], row["replicas"][1]["out_of_sync_bytes"]
            return (row["health"], *known) == ("differs", 4096, 4096)

        await house.until(told, what="what differs is told")
        assert await self.sh("n1", read) != await self.sh("n2", read)
        await self.is_repaired_by_policy()
        assert await self.sh("n1", read) == await self.sh("n2", read)
        await house.done(VerifyVolume(volume=self.volume))

    async def is_repaired_by_policy(self) -> None:
        """Have a policy that is due every few seconds compare the replicas, and even them out."""
        house, policy = self.house, f"scrub-{self.volume}"
        spec = PolicySpec(
            kind=PolicyKind.VERIFY_REPLICAS,
            selector=Selector(pool=self.pool),
            rhythm=Rhythm(every_s=EVERY_MIN_S),
            repair=True,
            at_once=1,
        )
        await house.say(SetPolicy(policy=policy, spec=spec))
        await house.until(self.is_healthy, what="a policy has evened them out")
        await house.say(RemovePolicy(policy=policy))
        runs = await house.rows("operations", kind="volume-verify", actor=f"policy:{policy}")
        assert {row["object"] for row in runs} == {f"volume/{self.volume}"}
        for row in runs:
            assert (await house.end(row["id"]))["outcome"] == "completed"

    async def kept(self, snapshot: Row, mib: int) -> str:
        """Return the checksum of what is in a snapshot, without what DRBD has behind it."""
        device = f"/dev/{self.pool}/{snapshot['name']}"
        return await self.sh(snapshot["node"], f"head -c {mib * MIB} {device} | sha256sum")

    async def stood_still_s(self, operation: str) -> float:
        """Return how long nobody could write while a snapshot was taken."""
        tools = {tuple(one["argv"][:4]): one for one in await self.house.tools(operation)}
        began, ended = tools[HOLD], tools[LET_GO]
        between = datetime.fromisoformat(ended["at"]) - datetime.fromisoformat(began["at"])
        return between.total_seconds() + float(ended["duration_ms"]) / 1000

    async def detached(self) -> None:
        operation = (await self.house.say(DetachVolume(volume=self.volume))).operation
        if operation:
            assert (await self.house.end(operation))["outcome"] == "completed"

    async def clear(self) -> None:
        """Leave nothing of it, attached or not."""
        await self.detached()
        await self.house.done(DeleteVolume(volume=self.volume))
        for disk in self.disks:
            await self.house.clear(self.pool, disk.node, disk)

    async def sh(self, node: str, script: str) -> str:
        names = f"v={self.volume} at=/mnt/{self.volume} r=hwbus-{self.volume}"
        return (await self.house.sh(node, f"{names}\n{script}")).strip()


class Alone:
    """A volume on n3 that has nothing to do with the others, and something random on it."""

    def __init__(self, house: House, unique: Unique) -> None:
        self.house, self.pool, self.volume = house, unique("pool"), unique("alone")

    async def make(self) -> None:
        self.disk = await self.house.plug("n3", "1G")
        await self.house.form(self.pool, [self.disk])
        await self.house.make(self.volume, self.disk, self.pool, 64)
        self.sum = await self.sh("head -c 8M /dev/urandom | tee $d | sha256sum; sync $d")

    async def is_there(self) -> bool:
        """Return whether what was written can be read."""
        return await self.sh("test -b $d && head -c 8M $d | sha256sum || true") == self.sum

    async def clear(self) -> None:
        await self.house.clear(self.pool, "n3", self.disk)

    async def sh(self, script: str) -> str:
        return (await self.house.sh("n3", f"d=/dev/{self.pool}/{self.volume}\n{script}")).strip()


def test_what_was_written_is_there_when_a_node_loses_power(play: Play, unique: Unique) -> None:
    async def scene(house: House) -> None:
        pair = Pair(house, unique)
        await pair.make()
        await house.say(LimitVolume(volume=pair.volume, limits=Limits(write_iops=77)))
        for node in pair.nodes:
            await pair.sh(node, "mkdir /sys/fs/cgroup/$v")
        await pair.attach(cgroup=pair.volume)
        assert await pair.limits("n1") == f"{await pair.number('n1')} {LIMITED}"
        await pair.sh("n1", _WRITER)
        await house.until(partial(pair.has_written, "n1"), what="something is written")
        acknowledged = int(await pair.sh("n1", "cat /run/written-$v"))
        await house.lab.kill("n1")
        took_s = await house.until(partial(pair.failed_over, "n2"), 2 * FAILOVER_S)
        assert took_s < FAILOVER_S
        log = (await pair.sh("n2", "cat $at/log")).split()
        assert log[:acknowledged] == [str(n) for n in range(1, acknowledged + 1)]
        assert await pair.limits("n2") == f"{await pair.number('n2')} {LIMITED}"
        await pair.sh("n2", "echo on >$at/more; sync")
        await house.lab.boot("n1")
        await house.until(pair.is_healthy, what="n1 has what it missed")
        assert (await pair.sh("n1", "drbdadm role $r")).startswith("Secondary")
        assert await pair.sh("n1", "mount | grep $at || true; ls /dev/hwbus/$v 2>&1 || true") == (
            f"ls: cannot access '/dev/hwbus/{pair.volume}': No such file or directory"
        )
        await pair.sh("n1", "mkdir /sys/fs/cgroup/$v")
        await house.done(HandOverVolume(volume=pair.volume, node="n1"))
        assert (await pair.sh("n1", "cat $at/log")).split() == log
        assert await pair.limits("n1") == f"{await pair.number('n1')} {LIMITED}"
        await pair.clear()

    play(scene)


def test_a_replica_given_up_for_lost_is_filled_anew_when_it_is_back(
    play: Play, unique: Unique
) -> None:
    """What it has looks like what two new legs begin with, and lacks all that came after."""

    async def scene(house: House) -> None:
        pair = Pair(house, unique)
        await pair.make()
        await pair.attach()
        await house.lab.kill("n2")

        async def silent() -> bool:
            return bool((await house.row("nodes", name="n2"))["silent"])

        await house.until(silent, what="n2 is silent")
        await house.done(RemoveReplicaOf(volume=pair.volume, node="n2", lost=True))
        assert await house.rows("replicas", volume=pair.volume, node="n2") == []
        await pair.sh("n1", "head -c 8M /dev/urandom >$at/file; sync")
        await house.lab.boot("n2")
        await house.ready("n2")
        # It would be asked for by itself, a minute after that was refused since n2 was away.
        await house.done(AddReplica(volume=pair.volume, node="n2"))
        await pair.sh("n1", "sha256sum <$at/file >/run/sum-$v")
        await pair.verified()
        await pair.attach()
        then = await pair.sh("n1", "cat /run/sum-$v")
        await house.done(HandOverVolume(volume=pair.volume, node="n2"))
        assert await pair.sh("n2", "sha256sum <$at/file") == then
        await pair.clear()

    play(scene)


@pytest.mark.parametrize("who", ["both", "n1", "n2", "none"])
def test_of_two_parted_nodes_one_writes(who: str, play: Play, unique: Unique) -> None:
    """The nodes lose one another, and some of them the log; whoever goes on, the other does not."""

    async def scene(house: House) -> None:
        pair = Pair(house, unique)
        await pair.make()
        await pair.attach()
        await pair.sh("n1", _WRITER)
        await house.until(partial(pair.has_written, "n1"), what="something is written")
        deaf = [node for node in ("n1", "n2") if who not in {"both", node}]
        for node in deaf:
            await house.lab.set_link(node, "control", connected=False)
        await house.lab.set_link("n2", "storage", connected=False)
        if who in {"both", "n1"}:
            before = int(await pair.sh("n1", "cat /run/written-$v"))
            await house.until(partial(pair.has_written, "n1", before + 50), what="n1 goes on")
            home = "n1"
        elif who == "n2":
            await house.until(partial(pair.failed_over, "n2"), 3 * FAILOVER_S)
            home = "n2"
        else:
            await house.until(partial(pair.is_frozen, "n1"), what="n1 stands still")
            home = ""
        written = int(await pair.sh("n1", "cat /run/written-$v"))
        if home == "n2":
            assert await pair.sh("n1", "sleep 2; cat /run/written-$v") == str(written)
        await house.lab.set_link("n2", "storage", connected=True)
        for node in deaf:
            await house.lab.set_link(node, "control", connected=True)
        await house.ready("n1", "n2")
        if home != "n2":
            # Views tell what was told: first see for yourself that what stood still goes on.
            home = await pair.goes_on(written + 20, either=not home)
        if home == "n2":
            log = (await pair.sh("n2", "cat $at/log")).split()
            assert log[:written] == [str(n) for n in range(1, written + 1)]
        await house.until(pair.is_healthy, what="both have all of it")
        await pair.stop_writing("n1")
        assert (await house.row("volumes", name=pair.volume))["node"] == home
        if home == "n1":
            assert await pair.sh("n1", "ls /run/failed-$v 2>/dev/null || true") == ""
        await pair.verified()
        await pair.clear()

    play(scene)


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
        for word, nodes in (
            (AddReplica(volume=pair.volume, node="n2"), ["n1", "n2"]),
            (MigrateVolume(volume=pair.volume, source="n2", node="n3"), ["n1", "n3"]),
            (RemoveReplicaOf(volume=pair.volume, node="n3"), []),
        ):
            await house.done(word)
            row = await house.row("volumes", name=pair.volume)
            assert [one["node"] for one in row["replicas"]] == nodes
            await load.goes_on()
        assert await load.stop() > MIB
        assert await pair.number("n1") == number
        then = await pair.sh("n1", "sync; sha256sum <$at/data")
        await house.done(MigrateVolume(volume=pair.volume, node="n2"))
        assert await pair.sh("n2", "sha256sum <$at/data") == then
        for node in pair.nodes:
            await house.settled(pair.pool, node)
        await pair.clear()

    play(scene)


def test_nothing_stops_while_nobody_decides(play: Play, unique: Unique) -> None:
    """Broker and control plane are away: whoever writes goes on, and a node that boots comes up.

    For as long as ``HWBUS_AWAY_S`` says; docs/replication.md tells of ten minutes.
    """

    async def scene(house: House) -> None:
        pair = Pair(house, unique)
        await pair.make()
        await pair.attach()
        alone = Alone(house, unique)
        await alone.make()
        load = Load(house, "n1", pair.volume, f"/mnt/{pair.volume}/data")
        await load.start()
        for service in ("controller", "nats"):
            await house.lab.service_stop(service)
        until_s = time.monotonic() + AWAY_S
        await load.goes_on()
        # In order: its peer knows that it has left, and n1 need not ask whether it may go on.
        await pair.sh("n2", "drbdadm down $r")
        await house.until(partial(pair.runs, "n2"), what="n2 is up again by itself")
        await load.goes_on()
        await house.lab.kill("n3")
        await house.lab.boot("n3")
        await house.until(alone.is_there, what="n3 has its volume again by itself")
        while time.monotonic() < until_s:
            await load.goes_on()
        for service in ("nats", "controller"):
            await house.lab.service_start(service)
        await house.ready("n1", "n2", "n3")
        await house.until(pair.is_healthy, what="all is as it was")
        assert await load.stop() > MIB // 2
        await pair.verified()
        await pair.clear()
        await alone.clear()

    play(scene)


def test_a_split_brain_made_by_hand_is_told_and_ended_by_a_word(play: Play, unique: Unique) -> None:
    async def scene(house: House) -> None:
        pair = Pair(house, unique)
        await pair.make(filesystem=Filesystem.NONE, failover=False)
        write = "dd if=/dev/urandom of=$(drbdadm sh-dev $r) bs=1M count=4 oflag=direct 2>/dev/null"
        for node in ("n1", "n2"):
            await house.lab.service_stop("worker", node)
            # Whoever makes one overrides the referee: nothing less lets both of them write.
            await pair.sh(
                node, "drbdadm disconnect $r; drbdsetup disk-options 1000 --fencing=dont-care"
            )
            await pair.sh(node, "drbdadm -- --force primary $r")
            await pair.sh(node, f"{write}; drbdadm secondary $r")
        for node in ("n1", "n2"):
            await pair.sh(node, "drbdadm connect $r")
        for node in ("n1", "n2"):
            await house.lab.service_start("worker", node)

        async def told() -> bool:
            return bool((await house.row("volumes", name=pair.volume))["health"] == "split")

        await house.until(told, what="the split brain is told")
        sums = await pair.sh("n1", f"head -c {60 * MIB} /dev/{pair.pool}/$v | sha256sum")
        await house.done(SettleSplitBrain(volume=pair.volume, loses="n2"))
        await house.until(pair.is_healthy, what="both are one again")
        assert await pair.sh("n2", f"head -c {60 * MIB} /dev/{pair.pool}/$v | sha256sum") == sums
        await pair.attach(mount_point=None)
        await pair.finds_and_repairs_what_differs()
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
        await pair.sh("n1", f"head -c 4M /dev/urandom >$at/file; sync\n{_WRITER}")
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
