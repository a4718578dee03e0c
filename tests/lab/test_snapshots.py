"""Snapshots on real kernels: what was written comes back, and nothing is lost in silence."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from schemas.deleting import DeleteVolume
from schemas.grammar import Message
from schemas.operation import OperationKind
from schemas.refusals import Refusal
from schemas.snapshot import CreateSnapshot, DeleteSnapshot, RollBackSnapshot
from schemas.volume import Filesystem, GrowVolume, Layout
from tests.support.house import MIB, House, Plugged, Scene

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]
EXT4: dict[str, Any] = {"filesystem": Filesystem.EXT4}


class Kept:
    """One volume with a filesystem on one node, and a snapshot of it."""

    def __init__(self, house: House, node: str, unique: Unique) -> None:
        self.house, self.node = house, node
        self.pool, self.volume, self.snapshot = (unique(k) for k in ("pool", "volume", "kept"))
        self.disk: Plugged | None = None

    async def make(self, disk_size: str = "512M", mib: int = 96, **more: Any) -> None:
        disk = self.disk = await self.house.plug(self.node, disk_size)
        thin = more.get("layout") is Layout.THIN
        await self.house.form(self.pool, [disk], **({"thin_bytes": 256 * MIB} if thin else {}))
        await self.house.make(self.volume, disk, self.pool, mib, **more)

    async def sh(self, script: str) -> str:
        names = f"v=/dev/{self.pool}/{self.volume} s=/dev/{self.pool}/{self.snapshot}"
        mounts = f"at=/mnt/{self.volume} back=/mnt/{self.snapshot}"
        return (await self.house.sh(self.node, f"{names} {mounts}\n{script}")).strip()

    async def take(self, **more: Any) -> str:
        word = CreateSnapshot(snapshot=self.snapshot, volume=self.volume, **more)
        return await self.house.done(word)

    async def row(self) -> dict[str, Any]:
        return await self.house.row("snapshots", name=self.snapshot)

    async def clear(self) -> None:
        assert self.disk is not None
        await self.house.clear(self.pool, self.node, self.disk)


def test_a_snapshot_of_a_mounted_volume_holds_what_was_written_and_brings_it_back(
    play: Play, unique: Unique
) -> None:
    async def tale(kept: Kept, layout: Layout) -> None:
        house = kept.house
        await kept.make(layout=layout, **EXT4)
        await kept.sh("mkdir -p $at; mount $v $at")
        # Not synced: it is the snapshot that has to see to it.
        then = await kept.sh("head -c 6M /dev/urandom >$at/file; sha256sum <$at/file")
        await kept.take()
        assert (await kept.row())["consistency"] == "filesystem"
        now = await kept.sh("head -c 7M /dev/urandom >$at/file; sync; sha256sum <$at/file")
        look = "mkdir -p $back; mount -o ro $s $back; sha256sum <$back/file; umount $back"
        assert await kept.sh(look) == then != now
        await house.holds(kept.pool, kept.node)
        refused = await house.refused(DeleteVolume(volume=kept.volume))
        assert refused.code is Refusal.HAS_SNAPSHOTS
        no = await house.failed(RollBackSnapshot(snapshot=kept.snapshot))
        assert no["code"] == Refusal.IN_USE
        assert f"/mnt/{kept.volume}" in no["because"]
        assert await kept.sh("sha256sum <$at/file") == now
        row = await kept.row()
        assert (row["state"], row["operation"]) == ("ready", "")
        assert await kept.sh(look) == then
        await kept.sh("umount $at")
        await house.done(RollBackSnapshot(snapshot=kept.snapshot))
        assert await kept.sh("e2fsck -fn $v >/dev/null 2>&1 && mount $v $at") == ""
        assert await kept.sh("sha256sum <$at/file; umount $at") == then
        assert await house.rows("snapshots", name=kept.snapshot) == []
        assert list(await house.lvs(kept.node, kept.pool)) == [
            *(["hwbus-thin"] if layout is Layout.THIN else []),
            kept.volume,
        ]
        await house.settled(kept.pool, kept.node)
        await kept.clear()

    async def scene(house: House) -> None:
        await asyncio.gather(
            tale(Kept(house, "n1", unique), Layout.LINEAR),
            tale(Kept(house, "n2", unique), Layout.THIN),
        )

    play(scene)


def test_a_snapshot_that_overflows_fails_with_an_alarm_and_its_volume_goes_on(
    play: Play, unique: Unique
) -> None:
    async def scene(house: House) -> None:
        kept = Kept(house, "n3", unique)
        await kept.make()
        await kept.take(reserve_bytes=8 * MIB)
        assert (await kept.row())["consistency"] == "filesystem"
        head = await house.wires.log.head()
        written = "dd if=/dev/urandom of=$v bs=1M oflag=direct status=none"
        await kept.sh(f"{written} count=7")
        await house.look_again("n3")
        filled = await happened(kept, "snapshot.filled.v1", head, least_percent=80)
        assert filled["data_percent"] < 95
        assert (await kept.row())["state"] == "ready"
        await kept.sh(f"{written} count=20")
        await house.look_again("n3")
        lost = await happened(kept, "snapshot.failed.v1", head)
        assert lost["code"] == Refusal.SNAPSHOT_LOST
        row = await kept.row()
        assert (row["state"], row["fill_percent"], row["why"]) == ("failed", 100, lost["because"])
        no = await house.refused(RollBackSnapshot(snapshot=kept.snapshot))
        assert no.code is Refusal.SNAPSHOT_LOST
        await house.holds(kept.pool, "n3")
        await house.done(DeleteSnapshot(snapshot=kept.snapshot))
        await house.done(GrowVolume(volume=kept.volume, size_bytes=128 * MIB))
        await house.settled(kept.pool, "n3")
        await kept.clear()

    play(scene)


async def happened(kept: Kept, event: str, after: int, *, least_percent: int = 0) -> dict[str, Any]:
    """Return the first such event about the snapshot; of one that fills up, from that level on."""
    about = (f"snapshot/{kept.snapshot}",)
    async with (
        asyncio.timeout(60),
        kept.house.client.happenings(after=after, objects=about) as happenings,
    ):
        async for happening in happenings:
            for one in happening.events:
                if one["type"] == event and one.get("data_percent", 100) >= least_percent:
                    return one
    raise AssertionError("the log has no end")


@pytest.mark.slow
def test_a_worker_that_dies_while_a_volume_is_rolled_back_ends_it_in_its_next_life(
    play: Play, unique: Unique
) -> None:
    async def scene(house: House) -> None:
        kept = Kept(house, "n1", unique)
        await kept.make("512M", 200)
        then = await kept.sh(
            "dd if=/dev/urandom of=$v bs=1M count=200 oflag=direct status=none; sha256sum <$v"
        )
        await kept.take(reserve_bytes=210 * MIB)
        await kept.sh("dd if=/dev/urandom of=$v bs=1M count=200 oflag=direct status=none")
        operation = (await house.say(RollBackSnapshot(snapshot=kept.snapshot))).operation
        busy: list[Message] = [
            DeleteVolume(volume=kept.volume),
            CreateSnapshot(snapshot=unique("other"), volume=kept.volume),
        ]

        async def merging() -> bool:
            return (await kept.sh("lvs --noheadings -o lv_attr $v")).startswith("O")

        await house.until(merging, 30, what="it is merged")
        for word in busy:
            assert (await house.refused(word)).code is Refusal.VOLUME_BUSY
        await house.lab.service_kill("worker", "n1")
        await house.lab.service_start("worker", "n1")
        end = await house.end(operation)
        assert (end["outcome"], end["kind"]) == ("completed", OperationKind.SNAPSHOT_ROLL_BACK)
        assert await kept.sh("sha256sum <$v") == then
        merges = [t["argv"] for t in await house.tools(operation) if "--merge" in t["argv"]]
        assert len(merges) <= 1
        await house.settled(kept.pool, "n1")
        await kept.clear()

    play(scene)
