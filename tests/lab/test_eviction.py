"""Nodes that are emptied, and nodes that are lost, on real kernels: every volume stays whole."""

import asyncio
from collections.abc import Callable

import pytest

from schemas.attaching import AttachVolume, DetachVolume
from schemas.deleting import DeleteVolume
from schemas.draining import DrainNode, ForgetNode
from schemas.node import AdmitNode, UncordonNode
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

    async def _filled(self, name: str) -> None:
        await self.attach(name)
        fill = f"head -c 4M /dev/urandom >/mnt/{name}/file; sync"
        self.sums[name] = await self.house.sh("n1", f"{fill}; sha256sum </mnt/{name}/file")

    async def attach(self, name: str) -> None:
        where = f"/mnt/{name}"
        word = AttachVolume(volume=name, consumer=f"host/{name}", mount_point=where)
        await self.house.done(word)

    async def home(self, name: str) -> str:
        return str((await self.house.row("volumes", name=name))["node"])

    async def whole(self, *names: str) -> None:
        """See that what is attached has what was written to it, wherever it is by now."""
        for name in names:
            found = await self.house.sh(await self.home(name), f"sha256sum </mnt/{name}/file")
            assert found == self.sums[name]

    async def healthy(self, name: str) -> bool:
        return bool((await self.house.row("volumes", name=name))["health"] == "healthy")


def test_a_node_is_drained_and_another_is_lost(play: Play, unique: Unique) -> None:
    async def scene(house: House) -> None:
        fleet = Fleet(house, unique)
        await fleet.make()
        both, used, idle = fleet.volumes
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
        await house.lab.kill(lost)

        async def goes_on() -> bool:
            row = await house.row("volumes", name=both)
            return bool(row["node"] != lost and row["operation"] == "")

        await house.until(goes_on, 45, what=f"{both} goes on without {lost}")
        await fleet.whole(both)

        async def silent() -> bool:
            return bool((await house.row("nodes", name=lost))["silent"])

        await house.until(silent, what=f"{lost} is silent")
        await house.done(ForgetNode(node=lost))
        assert await house.rows("pools", node=lost) == []
        assert await house.rows("replicas", node=lost) == []
        await house.until(lambda: fleet.healthy(both), what=f"{both} has another replica")
        await fleet.whole(both)
        await house.lab.boot(lost)
        await house.say(AdmitNode(node=lost))
        await house.ready(lost)

    play(scene)
