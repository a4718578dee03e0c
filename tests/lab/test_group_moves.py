"""A workload with two volumes, on real kernels: both are where the other is, whatever happens."""

import asyncio
from collections.abc import Callable

import pytest

from schemas.attaching import AttachVolume, DetachVolume
from schemas.deleting import DeleteVolume
from schemas.group_moves import AddGroupReplica, HandGroupOver
from schemas.handing import HandOverVolume
from schemas.refusals import Refusal
from schemas.snapshot import DeleteSnapshot
from schemas.volume import Filesystem, ProvisionVolume
from schemas.volume_group import CreateGroup, RemoveGroup, SnapshotGroup
from tests.support.house import MIB, House, Plugged, Row, Scene

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]
NODES = ("n1", "n2", "n3")
FAILOVER_S = 45.0


class Workload:
    """Two volumes of a group, each with a file on it."""

    def __init__(self, house: House, unique: Unique) -> None:
        self.house, self.unique = house, unique
        self.pool, self.group = unique("pool"), unique("shop")
        self.volumes = (unique("data"), unique("wal"))
        self.disks: list[Plugged] = []

    async def make(self) -> None:
        """Only for the first a node is named; the second goes where that is."""
        plugged = (self.house.plug(node, "512M") for node in NODES)
        self.disks = list(await asyncio.gather(*plugged))
        await asyncio.gather(*(self.house.form(self.pool, [disk]) for disk in self.disks))
        await self.house.say(CreateGroup(group=self.group))
        for volume, node in zip(self.volumes, ("n1", None), strict=True):
            wish = ProvisionVolume(
                volume=volume,
                size_bytes=48 * MIB,
                pool=self.pool,
                node=node,
                filesystem=Filesystem.EXT4,
                group=self.group,
            )
            await self.house.done(wish)
            at = f"/mnt/{volume}"
            await self.house.done(AttachVolume(volume=volume, consumer="host/test", mount_point=at))
            await self.house.sh("n1", f"head -c 4M /dev/urandom >{at}/file; sync {at}/file")

    async def rows(self) -> list[Row]:
        return [await self.house.row("volumes", name=volume) for volume in self.volumes]

    async def place(self) -> tuple[str, ...]:
        """Return where both are, the node that they are written to on first."""
        found = {
            (row["node"], *sorted({leg["node"] for leg in row["replicas"]} - {row["node"]}))
            for row in await self.rows()
        }
        (common,) = found
        row = await self.house.row("groups", name=self.group)
        assert (row["state"], row["nodes"]) == ("ready", [common[0]]), row
        return common

    async def sums(self, node: str) -> list[str]:
        files = " ".join(f"/mnt/{volume}/file" for volume in self.volumes)
        return (await self.house.sh(node, f"sha256sum {files}")).split()

    async def all_healthy(self) -> bool:
        return all(row["health"] == "healthy" for row in await self.rows())

    async def kept(self) -> None:
        """Take snapshots of both, on both of their nodes, at one instant, and let them go."""
        name = self.unique("kept")
        wish = SnapshotGroup(group=self.group, snapshot=name, reserve_bytes=8 * MIB)
        await self.house.done(wish)
        rows = await self.house.rows("snapshots", group=self.group)
        assert [row["consistency"] for row in rows] == ["filesystem"] * 4
        assert len({(row["volume"], row["node"]) for row in rows}) == 4
        for row in rows:
            await self.house.done(DeleteSnapshot(snapshot=row["name"]))

    async def clear(self) -> None:
        for volume in self.volumes:
            await self.house.done(DetachVolume(volume=volume))
            await self.house.done(DeleteVolume(volume=volume))
        await self.house.say(RemoveGroup(group=self.group))
        for disk in self.disks:
            await self.house.clear(self.pool, disk.node, disk)


def test_two_volumes_of_a_workload_are_replicated_handed_over_and_failed_over_together(
    play: Play, unique: Unique
) -> None:
    async def scene(house: House) -> None:
        load = Workload(house, unique)
        await load.make()
        assert await load.place() == ("n1",)
        then = await load.sums("n1")
        await house.done(AddGroupReplica(group=load.group))
        home, other = await load.place()
        assert (home, await load.sums("n1")) == ("n1", then)
        alone = await house.refused(HandOverVolume(volume=load.volumes[0], node=other))
        assert alone.code is Refusal.GROUP_APART
        await house.done(HandGroupOver(group=load.group, node=other))
        assert await load.place() == (other, "n1")
        assert await load.sums(other) == then
        await house.until(load.all_healthy, what="both have all of it")
        await load.kept()
        await house.lab.kill(other)

        async def both_failed_over() -> bool:
            rows = await load.rows()
            return all((row["node"], row["operation"]) == ("n1", "") for row in rows)

        await house.until(both_failed_over, FAILOVER_S, what="both go on without their node")
        assert await load.place() == ("n1", other)
        assert await load.sums("n1") == then
        await house.lab.boot(other)
        await house.until(load.all_healthy, what="both are healthy again")
        await load.clear()

    play(scene)
