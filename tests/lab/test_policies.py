"""Policies on real kernels: what fills up grows, and disks join and leave, by themselves."""

import asyncio
from collections.abc import Callable

import pytest

from schemas.attaching import AttachVolume, DetachVolume
from schemas.disk import DiskClass, ReserveDisk, UnreserveDisk
from schemas.policy import (
    PausePolicy,
    PolicyKind,
    PolicySpec,
    RemovePolicy,
    ResumePolicy,
    Selector,
    SetPolicy,
)
from schemas.refusals import Refusal
from schemas.snapshot import CreateSnapshot, DeleteSnapshot
from schemas.volume import Filesystem, Layout
from tests.lab.test_health import _LIES, _TOOL, _let
from tests.support.house import MIB, House, Plugged, Row, Scene
from tests.support.smart import ata

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]


class Care:
    """One pool on one node, with one policy that looks after it."""

    def __init__(self, house: House, node: str, unique: Unique) -> None:
        self.house, self.node = house, node
        self.pool, self.volume, self.kept, self.policy = (
            unique(kind) for kind in ("pool", "volume", "kept", "policy")
        )

    async def set(self, kind: PolicyKind, step_mib: int, ceiling_mib: int = 0) -> None:
        spec = PolicySpec(
            kind=kind,
            selector=Selector(node=self.node, pool=self.pool),
            threshold_percent=80,
            step_bytes=step_mib * MIB,
            ceiling_bytes=ceiling_mib * MIB,
            cool_down_s=1,
        )
        await self.house.say(SetPolicy(policy=self.policy, spec=spec))

    async def sh(self, script: str) -> str:
        names = f"v=/dev/{self.pool}/{self.volume} s=/dev/{self.pool}/{self.kept}"
        at = f"at=/mnt/{self.volume}"
        return (await self.house.sh(self.node, f"{names} {at}\n{script}")).strip()

    async def comes(self, view: str, field: str, value: object, **where: str) -> Row:
        """Look again until a row says so."""
        rows: list[Row] = []

        async def is_so() -> bool:
            rows[:] = await self.house.rows(view, **where)
            if rows and rows[0][field] == value:
                return True
            await self.house.look_again(self.node)
            await asyncio.sleep(0.5)
            return False

        await self.house.until(is_so, 60, what=f"{view} {where} has {field} {value}: {rows}")
        return rows[0]

    async def row(self) -> Row:
        return await self.house.row("policies", name=self.policy)

    async def acted(self, kind: str) -> list[Row]:
        """Return the operations that the policy began."""
        rows = await self.house.rows("operations", kind=kind, actor=f"policy:{self.policy}")
        assert {row["state"] for row in rows} <= {"completed"}
        return rows


async def filesystem(care: Care) -> None:
    """Fill a mounted filesystem again and again: its volume grows, up to the ceiling."""
    house = care.house
    disk = await house.plug(care.node, "512M")
    await house.form(care.pool, [disk])
    await house.make(care.volume, disk, care.pool, 100, filesystem=Filesystem.EXT4)
    mount = f"/mnt/{care.volume}"
    await house.done(AttachVolume(volume=care.volume, consumer="host/test", mount_point=mount))
    await care.set(PolicyKind.GROW_VOLUMES, 64, 150)
    await care.sh("head -c 40M /dev/urandom >$at/precious; sync")
    before = await care.sh("sha256sum <$at/precious")
    fill = "dd if=/dev/zero of=$at/{name} bs=1M count={mib} conv=fsync status=none"
    await care.sh(fill.format(name="one", mib=45))
    # A step would make it 164 MiB; the ceiling is rounded down to whole extents.
    await care.comes("volumes", "size_bytes", 148 * MIB, name=care.volume)
    await care.sh(fill.format(name="two", mib=35))
    alarm = await care.comes("policies", "state", "alarm", name=care.policy)
    assert [one["code"] for one in alarm["alarms"]] == [Refusal.CEILING_REACHED]
    volume = await house.row("volumes", name=care.volume)
    assert (volume["size_bytes"], volume["fill_percent"] >= 80) == (148 * MIB, True)
    # The filesystem has grown with its volume: the kernel itself says so.
    assert int(await care.sh("df -B1 --output=size $at | tail -n 1")) > 125 * MIB
    await care.sh("rm $at/one $at/two; sync")
    calm = await care.comes("policies", "state", "active", name=care.policy)
    assert (calm["alarms"], len(await care.acted("volume-grow"))) == ([], 1)
    assert await care.sh("echo 3 >/proc/sys/vm/drop_caches; sha256sum <$at/precious") == before
    await house.settled(care.pool, care.node)
    await house.done(DetachVolume(volume=care.volume))
    await care.sh("e2fsck -fn $v")
    await house.clear(care.pool, care.node, disk)


async def snapshot(care: Care) -> None:
    """Overwrite all of a volume that has a small snapshot: it keeps up, and holds what it held."""
    house = care.house
    disk = await house.plug(care.node, "512M")
    await house.form(care.pool, [disk])
    await house.make(care.volume, disk, care.pool, 64)
    await care.sh("dd if=/dev/urandom of=$v bs=1M count=64 oflag=direct status=none")
    before = await care.sh("sha256sum <$v")
    take = CreateSnapshot(snapshot=care.kept, volume=care.volume, reserve_bytes=16 * MIB)
    await house.done(take)
    await care.set(PolicyKind.GROW_SNAPSHOTS, 28)
    done = 0
    for upto, reserve in ((13, 44), (38, 68)):
        more = f"seek={done} count={upto - done}"
        await care.sh(f"dd if=/dev/urandom of=$v bs=1M {more} oflag=direct status=none")
        await care.comes("snapshots", "reserve_bytes", reserve * MIB, name=care.kept)
        done = upto
    # With 68 MiB it has all that it can ever use: the volume may change everywhere.
    await care.sh("dd if=/dev/urandom of=$v bs=1M count=64 oflag=direct status=none")
    await care.comes("snapshots", "state", "ready", name=care.kept)
    assert await care.sh("echo 3 >/proc/sys/vm/drop_caches; sha256sum <$s") == before
    assert await care.sh("sha256sum <$v") != before
    assert len(await care.acted("snapshot-grow")) == 2
    await house.settled(care.pool, care.node)
    await house.done(DeleteSnapshot(snapshot=care.kept))
    await house.clear(care.pool, care.node, disk)


async def thin_pool(care: Care) -> None:
    """Write to a thin volume that was promised more than there is: the thin pool follows."""
    house = care.house
    disk = await house.plug(care.node, "512M")
    await house.form(care.pool, [disk], thin_bytes=100 * MIB, thin_ratio_percent=200)
    await house.make(care.volume, disk, care.pool, 180, layout=Layout.THIN)
    await care.set(PolicyKind.GROW_THIN_POOLS, 64)
    for seek, grown in ((0, 164), (85, 228)):
        more = f"seek={seek} count={85 if not seek else 55}"
        await care.sh(f"dd if=/dev/urandom of=$v bs=1M {more} oflag=direct status=none")
        await care.comes("pools", "thin_bytes", grown * MIB, name=care.pool)
    assert len(await care.acted("thin-pool-grow")) == 2
    await house.settled(care.pool, care.node)
    await house.clear(care.pool, care.node, disk)


def test_what_fills_up_grows_by_itself_and_stops_at_the_ceiling_with_an_alarm(
    play: Play, unique: Unique
) -> None:
    async def scene(house: House) -> None:
        cares = [Care(house, node, unique) for node in ("n1", "n2", "n3")]
        await asyncio.gather(
            *(t(c) for t, c in zip((filesystem, snapshot, thin_pool), cares, strict=True))
        )
        for care in cares:
            await house.say(RemovePolicy(policy=care.policy))

    play(scene)


class Spare:
    """A pool with a volume on one disk, and two policies: disks join it, failing ones leave."""

    def __init__(self, house: House, unique: Unique) -> None:
        self.care = Care(house, "n3", unique)
        self.house, self.pool = house, self.care.pool
        self.join, self.drain = unique("join"), unique("drain")
        self.others: list[Row] = []

    async def make(self, first: Plugged) -> str:
        """Make pool and volume; return the checksum of what is on it."""
        # What else is blank on that node is kept out of it as people keep it out.
        self.others = await self.house.rows("disks", node="n3", state="free")
        for row in self.others:
            if row["id"] != first.id:
                await self.house.say(ReserveDisk(disk=row["id"]))
        await self.house.form(self.pool, [first])
        await self.house.make(self.care.volume, first, self.pool, 64)
        await self.care.sh("dd if=/dev/urandom of=$v bs=1M count=64 oflag=direct status=none")
        here = Selector(node="n3", pool=self.pool)
        add = PolicySpec(kind=PolicyKind.ADD_DISKS, selector=here, media=DiskClass.SSD)
        out = PolicySpec(kind=PolicyKind.DRAIN_DISKS, selector=here)
        await self.house.say(SetPolicy(policy=self.join, spec=add))
        await self.house.say(SetPolicy(policy=self.drain, spec=out))
        return await self.care.sh("sha256sum <$v")

    async def stranger(self) -> Plugged:
        """Plug a disk in on which there is a filesystem before the policy may have it."""
        await self.house.say(PausePolicy(policy=self.join))
        used = await self.house.plug("n3", "256M")
        await self.house.sh("n3", f"mkfs.ext4 -q {used.device}")
        await self.care.comes("disks", "content", "filesystem", id=used.id)
        await self.house.say(ResumePolicy(policy=self.join))
        return used

    async def members(self) -> list[str]:
        return [*(await self.house.row("pools", name=self.pool))["disks"]]

    async def did(self, kind: str, policy: str) -> None:
        """Exactly one operation of that kind was begun in the name of the policy, and is done."""
        where = {"kind": kind, "actor": f"policy:{policy}"}
        row = await self.care.comes("operations", "state", "completed", **where)
        assert row["object"] == f"pool/n3/{self.pool}"
        assert len(await self.house.rows("operations", **where)) == 1

    async def clear(self, *disks: Plugged) -> None:
        for policy in (self.join, self.drain):
            await self.house.say(RemovePolicy(policy=policy))
        for row in await self.house.rows("disks", node="n3", state="reserved"):
            await self.house.say(UnreserveDisk(disk=row["id"]))
        await self.house.settled(self.pool, "n3")
        await self.house.sh("n3", f"rm -r /run/smart && mv {_TOOL}.real {_TOOL}")
        await self.house.clear(self.pool, "n3", *disks)


def test_a_blank_disk_that_is_plugged_in_joins_and_a_failing_one_is_drained(
    play: Play, unique: Unique
) -> None:
    async def scene(house: House) -> None:
        await house.sh("n3", _LIES)
        spare, first = Spare(house, unique), await house.plug("n3", "512M")
        before = await spare.make(first)
        used = await spare.stranger()
        new = await house.lab.add_disk("n3", "512M")

        async def joined() -> bool:
            return len(await spare.members()) == 2

        await house.until(joined, 60, what="the new disk has joined")
        (row,) = await house.rows("disks", node="n3", path=new.device)
        assert row["pool"] == f"n3/{spare.pool}"
        await _let(house, first.device, ata(passed=False, id5="24"), 1 << 3)
        await house.lab.service_kill("worker", "n3")
        await house.lab.service_start("worker", "n3")

        async def drained() -> bool:
            return await spare.members() == [row["id"]]

        await house.until(drained, 60, what="the failing disk is out")
        await spare.care.comes("disks", "pool", "", id=first.id)
        assert await spare.care.sh("echo 3 >/proc/sys/vm/drop_caches; sha256sum <$v") == before
        await spare.did("pool-grow", spare.join)
        await spare.did("pool-shrink", spare.drain)
        stranger = await house.row("disks", id=used.id)
        assert (stranger["content"], stranger["pool"]) == ("filesystem", "")
        await spare.clear(first, used)
        await house.lab.remove_disk("n3", new.letter)

    play(scene)
