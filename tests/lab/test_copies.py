"""Clones and restored snapshots on real kernels: what was there comes out, or nothing does."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from node_workers.copier import CHUNK_BYTES
from schemas.copying import CloneVolume, RestoreVolume
from schemas.operation import CancelOperation, OperationKind
from schemas.refusals import Refusal
from schemas.snapshot import CreateSnapshot, DeleteSnapshot
from schemas.volume import Filesystem, Layout
from tests.support.house import MIB, House, Plugged, Row, Scene

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]
RATE = 8 * MIB
THIN_POOL = {"thin_bytes": 512 * MIB, "thin_ratio_percent": 400}


class Source:
    """A volume on one node, and room for copies of it."""

    def __init__(self, house: House, node: str, unique: Unique) -> None:
        self.house, self.node = house, node
        self.pool, self.volume, self.copy = (unique(kind) for kind in ("pool", "volume", "copy"))
        self.disk: Plugged | None = None

    async def make(self, mib: int = 96, **more: Any) -> None:
        disk = self.disk = await self.house.plug(self.node, "1G")
        thin = more.get("layout") is Layout.THIN
        await self.house.form(self.pool, [disk], **(THIN_POOL if thin else {}))
        await self.house.make(self.volume, disk, self.pool, mib, **more)

    async def sh(self, script: str) -> str:
        names = f"v=/dev/{self.pool}/{self.volume} c=/dev/{self.pool}/{self.copy}"
        mounts = f"at=/mnt/{self.volume} there=/mnt/{self.copy}"
        return (await self.house.sh(self.node, f"{names} {mounts}\n{script}")).strip()

    def clone(self, **more: Any) -> CloneVolume:
        wanted = {"volume": self.copy, "source": self.volume, "pool": self.pool} | more
        return CloneVolume(**wanted)

    async def begin(self, word: CloneVolume | RestoreVolume) -> str:
        return (await self.house.say(word)).operation

    async def half_way(self, operation: str) -> Row:
        async def moving() -> bool:
            return any(
                row["copied_bytes"] for row in await self.house.rows("operations", id=operation)
            )

        await self.house.until(moving, what=f"{self.copy} is being filled")
        return await self.house.row("operations", id=operation)

    async def alone(self) -> None:
        """See that the source is all there is, and throw it away."""
        rows = await self.house.rows("volumes", pool=self.pool)
        assert [row["name"] for row in rows] == [self.volume]
        assert await self.house.rows("snapshots", pool=self.pool) == []
        await self.house.settled(self.pool, self.node)
        await self.clear()

    async def clear(self) -> None:
        assert self.disk is not None
        await self.house.clear(self.pool, self.node, self.disk)


async def _a_clone_under_load_survives_its_worker(source: Source) -> None:
    house = source.house
    await source.make(filesystem=Filesystem.EXT4)
    await source.sh("mkdir -p $at $there; mount $v $at")
    then = await source.sh("head -c 24M /dev/urandom >$at/file; sha256sum <$at/file")
    operation = await source.begin(
        source.clone(size_bytes=160 * MIB, rate_bytes_per_s=RATE, reserve_bytes=64 * MIB)
    )
    before = await source.half_way(operation)
    await house.lab.service_kill("worker", source.node)
    await source.sh("head -c 12M /dev/urandom >$at/file; sync")
    await house.lab.service_start("worker", source.node)
    assert (await house.end(operation))["outcome"] == "completed"
    row = await house.row("operations", id=operation)
    assert row["kind"] == OperationKind.VOLUME_CLONE
    assert row["leftovers"] == []
    assert 0 < before["copied_bytes"] < before["of_bytes"] == 96 * MIB
    assert before["bytes_per_s"] < 1.1 * RATE
    turns = [tool for tool in await house.tools(operation) if "node_workers.copier" in tool["argv"]]
    copied = [tool for tool in turns if tool["exit_status"] in {0, 3}]
    assert len(copied) < 5, "it began anew"
    assert await source.sh("mount $c $there; sha256sum <$there/file") == then
    assert int(await source.sh("df --output=size -BM $there | tail -1 | tr -d ' M'")) > 120
    assert await source.sh("sha256sum <$at/file") != then
    await source.sh("umount $at $there; e2fsck -fn $c >/dev/null 2>&1")
    assert await house.rows("snapshots", pool=source.pool) == []
    await house.settled(source.pool, source.node)
    await source.clear()


async def _a_thin_clone_is_there_at_once(source: Source) -> None:
    house = source.house
    await source.make(304, layout=Layout.THIN, filesystem=Filesystem.XFS)
    await source.sh("mkdir -p $at $there; mount $v $at")
    then = await source.sh("head -c 6M /dev/urandom >$at/file; sha256sum <$at/file")
    await house.done(source.clone())
    await source.sh("head -c 6M /dev/urandom >$at/file; sync")
    assert await source.sh("mount $c $there; sha256sum <$there/file; umount $there") == then
    kept = f"{source.copy}-kept"
    await house.done(CreateSnapshot(snapshot=kept, volume=source.copy))
    larger, pool = f"{source.copy}-2", source.pool
    await house.done(RestoreVolume(volume=larger, snapshot=kept, size_bytes=400 * MIB, pool=pool))
    thick = f"{source.copy}-3"
    await house.done(RestoreVolume(volume=thick, snapshot=kept, layout=Layout.LINEAR, pool=pool))
    look = "mount /dev/{0}/{1} $there; sha256sum <$there/file; umount $there"
    for name in (larger, thick):
        assert await source.sh(look.format(source.pool, name)) == then
    await house.done(DeleteSnapshot(snapshot=kept))
    assert await source.sh(look.format(source.pool, larger)) == then
    await source.sh("umount $at")
    await house.settled(source.pool, source.node)
    await source.clear()


class Far(Source):
    """A volume on one node, and room for copies of it on another one."""

    def __init__(self, house: House, node: str, there: str, unique: Unique) -> None:
        super().__init__(house, node, unique)
        self.far_pool, self.there = unique("pool"), there
        self.far_disk: Plugged | None = None

    async def prepare(self) -> None:
        await asyncio.gather(self.make(filesystem=Filesystem.EXT4), self._make_room())
        await self.sh("mkdir -p $at; mount $v $at; head -c 80M /dev/urandom >$at/file")

    async def _make_room(self) -> None:
        self.far_disk = await self.house.plug(self.there, "1G")
        await self.house.form(self.far_pool, [self.far_disk])

    async def afar(self, script: str) -> str:
        names = f"c=/dev/{self.far_pool}/{self.copy} there=/mnt/{self.copy}"
        return (await self.house.sh(self.there, f"{names}\n{script}")).strip()

    async def chunks(self) -> int:
        """Return how many chunks are noted as copied; -1 before there is a journal, and after."""
        look = "cat /var/lib/hwbus/worker/copies/copy-* 2>&- | wc -l"
        return int(await self.afar(look)) - 1

    async def clear_all(self) -> None:
        assert self.far_disk is not None
        await self.house.clear(self.far_pool, self.there, self.far_disk)
        await self.clear()


async def _a_clone_on_another_node_survives_both_workers(far: Far) -> None:
    house, lab = far.house, far.house.lab
    then = await far.sh("sha256sum <$at/file")
    wish = far.clone(node=far.there, pool=far.far_pool, size_bytes=160 * MIB)
    operation = await far.begin(replace(wish, rate_bytes_per_s=RATE, reserve_bytes=64 * MIB))

    async def begun() -> bool:
        return await far.chunks() > 0

    await house.until(begun, what=f"{far.copy} is being filled")
    await lab.service_kill("worker", far.node)

    async def told() -> bool:
        why = (await house.row("operations", id=operation))["why"]
        return str(why).startswith((Refusal.SOURCE_UNREACHABLE, Refusal.SOURCE_SILENT))

    await house.until(told, what="it is told that the source is silent")
    await far.sh("head -c 12M /dev/urandom >$at/file; sync")
    await lab.service_start("worker", far.node)
    before = await far.half_way(operation)
    chunks = await far.chunks()
    assert chunks >= before["copied_bytes"] // CHUNK_BYTES > 0
    await lab.service_kill("worker", far.there)
    await lab.service_start("worker", far.there)
    seen: list[int] = []

    async def further() -> bool:
        seen.append(await far.chunks())
        return not chunks >= seen[-1] >= 0

    await house.until(further, what=f"more is copied than {chunks} chunks")
    assert chunks <= min((one for one in seen if one >= 0), default=chunks), "it began anew"
    assert (await house.end(operation))["outcome"] == "completed"
    row = await house.row("operations", id=operation)
    assert (row["of_bytes"], row["leftovers"]) == (96 * MIB, [])
    assert before["bytes_per_s"] < 1.1 * RATE
    volume = await house.row("volumes", name=far.copy)
    assert (volume["node"], volume["pool"]) == (far.there, far.far_pool)
    assert await far.afar("mkdir -p $there; mount $c $there; sha256sum <$there/file") == then
    assert int(await far.afar("df --output=size -BM $there | tail -1 | tr -d ' M'")) > 120
    await far.afar("umount $there; e2fsck -fn $c >/dev/null 2>&1")
    await far.sh("umount $at")
    assert await house.rows("snapshots", pool=far.pool) == []
    await asyncio.gather(house.settled(far.pool, far.node), house.settled(far.far_pool, far.there))
    await far.clear_all()


async def _a_clone_that_cannot_be_is_nothing(source: Source) -> None:
    house = source.house
    await source.make()
    operation = await source.begin(source.clone(rate_bytes_per_s=RATE, reserve_bytes=4 * MIB))
    await source.half_way(operation)
    await source.sh("dd if=/dev/urandom of=$v bs=1M count=32 oflag=direct status=none")
    end = await house.end(operation)
    assert (end["outcome"], end["code"]) == ("failed", Refusal.SNAPSHOT_LOST)
    refused = await house.refused(source.clone(size_bytes=MIB))
    assert refused.code is Refusal.SMALLER_THAN_SOURCE
    operation = await source.begin(source.clone(rate_bytes_per_s=RATE))
    await source.half_way(operation)
    await house.say(CancelOperation(operation=operation))
    end = await house.end(operation)
    assert (end["outcome"], end.get("leftovers")) == ("cancelled", None)
    await source.alone()


def test_copies_hold_what_was_there_or_are_not_there(play: Play, unique: Unique) -> None:
    async def scene(house: House) -> None:
        await asyncio.gather(
            _a_clone_under_load_survives_its_worker(Source(house, "n1", unique)), others(house)
        )

    async def others(house: House) -> None:
        far = Far(house, "n3", "n2", unique)
        await asyncio.gather(
            _a_thin_clone_is_there_at_once(Source(house, "n2", unique)),
            _a_clone_that_cannot_be_is_nothing(Source(house, "n3", unique)),
            far.prepare(),
        )
        await _a_clone_on_another_node_survives_both_workers(far)

    play(scene)
