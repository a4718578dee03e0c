"""Nodes that are emptied, and nodes that are lost, on real kernels: every volume stays whole."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from hwbus.controller.rebuilds import AT_ONCE
from schemas.attaching import AttachVolume, DetachVolume
from schemas.deleting import DeleteVolume
from schemas.draining import DrainNode, ForgetNode
from schemas.node import AdmitNode, CordonNode, UncordonNode
from schemas.operation import CancelOperation, Outcome
from schemas.volume import Filesystem, ProvisionVolume
from tests.support.house import MIB, NODES, House, Plugged, Scene

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]


class Fleet:
    """A pool of one name on each node, and volumes with a checksum to be recognised by."""

    def __init__(self, house: House, unique: Unique) -> None:
        self.house, self.pool = house, unique("pool")
        self.volumes = [unique(kind) for kind in ("both", "used", "idle")]
        self.sums: dict[str, str] = {}
        self.disks: list[Plugged] = []

    async def make(self) -> None:
        self.disks = list(await asyncio.gather(*(self.house.plug(n, "1G") for n in NODES)))
        await asyncio.gather(*(self.house.form(self.pool, [disk]) for disk in self.disks))
        both, used, idle = self.volumes
        words = (self._wish(both, 2), self._wish(used, 1), self._wish(idle, 1))
        await asyncio.gather(*(self.house.done(word) for word in words))
        await asyncio.gather(*(self._filled(name) for name in self.volumes))
        await self.house.done(DetachVolume(volume=idle))

    def _wish(self, name: str, replicas: int) -> ProvisionVolume:
        return ProvisionVolume(
            volume=name,
            size_bytes=32 * MIB,
            pool=self.pool,
            node="n1",
            replicas=replicas,
            filesystem=Filesystem.EXT4,
        )

    def replicated(self, name: str, node: str) -> ProvisionVolume:
        return ProvisionVolume(
            volume=name, size_bytes=16 * MIB, pool=self.pool, node=node, replicas=2
        )

    async def _filled(self, name: str) -> None:
        await self.attach(name)
        fill = f"head -c 4M /dev/urandom >/mnt/{name}/file; sync"
        self.sums[name] = await self.house.sh("n1", f"{fill}; sha256sum </mnt/{name}/file")

    async def attach(self, name: str) -> None:
        where = f"/mnt/{name}"
        word = AttachVolume(volume=name, consumer=f"host/{name}", mount_point=where)
        await self.house.done(word)

    async def replicas(self, name: str) -> list[str]:
        return sorted(row["node"] for row in await self.house.rows("replicas", volume=name))

    async def home(self, name: str) -> str:
        return str((await self.house.row("volumes", name=name))["node"])

    async def whole(self, *names: str) -> None:
        """See that what is attached has what was written to it, wherever it is by now."""
        for name in names:
            found = await self.house.sh(await self.home(name), f"sha256sum </mnt/{name}/file")
            assert found == self.sums[name]

    async def healthy(self, name: str) -> bool:
        return bool((await self.house.row("volumes", name=name))["health"] == "healthy")

    async def all_healthy(self) -> bool:
        rows = await self.house.rows("volumes", pool=self.pool)
        return all(row["health"] == "healthy" for row in rows)

    async def rebuilt(self, names: Sequence[str], after: int) -> int:
        """Wait until each was given one replica more; return how many were at one time, at most."""
        under_way, most, left = 0, 0, len(names)
        volumes = [f"volume/{name}" for name in names]
        async with (
            asyncio.timeout(60),
            self.house.client.happenings(after=after, objects=volumes) as happenings,
        ):
            async for event in (one async for happening in happenings for one in happening.events):
                assert event["type"] != "volume.replica-addition-failed.v1", event
                under_way += bool(event["type"] == "volume.replica-addition-began.v1")
                most = max(most, under_way)
                if event["type"] == "volume.replica-added.v1":
                    under_way, left = under_way - 1, left - 1
                    if not left:
                        return most
        raise AssertionError("the log has no end")


async def is_called_off_half_way(house: House, fleet: Fleet) -> None:
    """Have the node drained, and call that off: each volume is whole where it was.

    The first has been handed over and has left n1 by then: its replica comes back, and its consumer
    stays where it is.
    """
    replicas = {name: await fleet.replicas(name) for name in fleet.volumes}
    slowly = DrainNode(node="n1", at_once=1, resync_bytes_per_s=2 * MIB)
    operation = (await house.say(slowly)).operation

    async def is_filled() -> bool:
        return bool((await house.row("volumes", name=fleet.volumes[0]))["sync_percent"])

    await house.until(is_filled, what="the first volume has a replica elsewhere soon")
    await house.say(CancelOperation(operation=operation))
    end = await house.end(operation)
    assert end["outcome"] == Outcome.CANCELLED
    assert "leftovers" not in end, "nothing is left half done"
    assert {name: await fleet.replicas(name) for name in fleet.volumes} == replicas
    rows = await house.rows("volumes", pool=fleet.pool)
    assert {row["name"]: row["node"] for row in rows} == dict(
        zip(fleet.volumes, ("n2", "n1", "n1"), strict=True)
    )
    assert [(row["state"], row["operation"]) for row in rows] == [("ready", "")] * 3
    await house.until(lambda: fleet.healthy(fleet.volumes[0]), what="nothing is missing")
    await fleet.whole(*fleet.volumes[:2])
    await house.settled(fleet.pool, "n3")
    assert await house.lvs("n3", fleet.pool) == {}
    await house.say(UncordonNode(node="n1"))


async def are_rebuilt_few_at_a_time(house: House, fleet: Fleet, spare: str, after: int) -> None:
    """See that volumes get another replica, not all at one time; at first none can be filled."""

    async def as_many_as_may() -> bool:
        rows = await house.rows("volumes", pool=fleet.pool)
        return sum(bool(row["state"] == "adding-replica") for row in rows) >= AT_ONCE

    await house.until(as_many_as_may, what="replicas are added")
    await house.scanned(spare)  # meanwhile it is looked for what is missing once more
    await house.lab.set_link(spare, "storage", connected=True)
    names = [row["name"] for row in await house.rows("volumes", pool=fleet.pool)]
    assert len(names) > AT_ONCE
    assert await fleet.rebuilt(names, after) == AT_ONCE
    await house.until(fleet.all_healthy, what="nothing is missing")


def test_a_node_is_drained_and_another_is_lost(play: Play, unique: Unique) -> None:
    async def scene(house: House) -> None:
        fleet = Fleet(house, unique)
        await fleet.make()
        both, used, idle = fleet.volumes
        await is_called_off_half_way(house, fleet)
        drained = await house.done(DrainNode(node="n1", at_once=2), within_s=120)
        assert (await house.row("operations", id=drained))["leftovers"] == []
        assert await house.lvs("n1", fleet.pool) == {}
        await fleet.attach(idle)
        await fleet.whole(both, used, idle)
        await house.settled(fleet.pool, "n1")
        await house.say(UncordonNode(node="n1"))

        for name in (used, idle):
            await house.done(DetachVolume(volume=name))
            await house.done(DeleteVolume(volume=name))
        lost = await fleet.home(both)
        (spare,) = set(NODES) - set(await fleet.replicas(both))
        more = [unique(f"more{number}") for number in range(AT_ONCE)]
        await house.say(CordonNode(node=spare))
        await asyncio.gather(*(house.done(fleet.replicated(name, lost)) for name in more))
        await house.say(UncordonNode(node=spare))
        await house.lab.kill(lost)

        async def goes_on() -> bool:
            row = await house.row("volumes", name=both)
            return bool(row["node"] != lost and row["operation"] == "")

        await house.until(goes_on, 45, what=f"{both} goes on without {lost}")
        await fleet.whole(both)

        async def silent() -> bool:
            return bool((await house.row("nodes", name=lost))["silent"])

        await house.until(silent, what=f"{lost} is silent")
        head = await house.wires.log.head()
        await house.lab.set_link(spare, "storage", connected=False)
        await house.done(ForgetNode(node=lost))
        assert await house.rows("pools", node=lost) == []
        assert await house.rows("replicas", node=lost) == []
        await are_rebuilt_few_at_a_time(house, fleet, spare, head)
        await fleet.whole(both)
        await house.lab.boot(lost)
        await house.say(AdmitNode(node=lost))
        await house.ready(lost)

    play(scene)
