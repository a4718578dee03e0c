"""Volumes with several replicas, on real kernels: what was acknowledged is there, whoever dies."""

import time
from collections.abc import Callable
from functools import partial

import pytest

from schemas.attaching import LimitVolume
from schemas.attachment import Limits
from schemas.handing import HandOverVolume
from schemas.legs import AddReplica, RemoveReplicaOf, SettleSplitBrain
from schemas.volume import Filesystem
from tests.support.house import AWAY_S, MIB, House, Scene
from tests.support.load import Load
from tests.support.pair import FAILOVER_S, WRITER, Alone, Pair

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]
LIMITED = "rbps=max wbps=max riops=max wiops=77"


def test_what_was_written_is_there_when_a_node_loses_power(play: Play, unique: Unique) -> None:
    async def scene(house: House) -> None:
        pair = Pair(house, unique)
        await pair.make()
        await house.say(LimitVolume(volume=pair.volume, limits=Limits(write_iops=77)))
        for node in pair.nodes:
            await pair.sh(node, "mkdir /sys/fs/cgroup/$v")
        await pair.attach(cgroup=pair.volume)
        assert await pair.limits("n1") == f"{await pair.number('n1')} {LIMITED}"
        await pair.sh("n1", WRITER)
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
        await pair.sh("n1", WRITER)
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


def test_a_node_that_loses_its_power_at_once_knows_what_it_has_without_the_bus(
    play: Play, unique: Unique
) -> None:
    async def scene(house: House) -> None:
        alone = Alone(house, unique)
        await alone.make()
        for service in ("controller", "nats"):
            await house.lab.service_stop(service)
        await house.lab.kill("n3")
        await house.lab.boot("n3")
        await house.until(alone.is_there, what="n3 has its volume again by itself")
        for service in ("nats", "controller"):
            await house.lab.service_start(service)
        await house.ready("n1", "n2", "n3")
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
