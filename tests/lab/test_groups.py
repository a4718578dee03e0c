"""Groups and schedules on real kernels: one instant for all, and nothing stands still for ever."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from node_workers import stillness
from schemas.attaching import AttachVolume, DetachVolume
from schemas.refusals import Refusal
from schemas.rhythm import Keep, Rhythm
from schemas.schedule import CreateSchedule, PauseSchedule, RemoveSchedule
from schemas.snapshot import CreateSnapshot, DeleteSnapshot
from schemas.volume import Filesystem
from schemas.volume_group import CreateGroup, RemoveGroup, SnapshotGroup
from tests.support.house import MIB, House, Plugged, Scene

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]

# Writes n to the first device, then to the second, then notes that both have it; and so on.
WRITER = """
import mmap, os, sys
first, second, noted, stop = sys.argv[1:]
devices = [os.open(one, os.O_RDWR | os.O_DIRECT | os.O_DSYNC) for one in (first, second)]
file, page, number = os.open(noted, os.O_RDWR | os.O_CREAT, 0o600), mmap.mmap(-1, 4096), 0
while not os.path.exists(stop):
    number += 1
    page[:8] = number.to_bytes(8, "little")
    for device in devices:
        os.pwrite(device, page, 0)
    os.pwrite(file, b"%020d" % number, 0)
"""
# LVM that takes its time, once.
SLOW = """rm -f /usr/sbin/lvcreate /run/slow
cat >/usr/sbin/lvcreate <<'EOF'
#!/bin/sh
[ -e /run/slow ] || {{ touch /run/slow; sleep {seconds}; }}
exec /usr/sbin/lvm lvcreate "$@"
EOF
chmod +x /usr/sbin/lvcreate"""
QUICK = "ln -sf lvm /usr/sbin/lvcreate"
STILL = "dmsetup info -c --noheadings -o suspended hwbus:{a} hwbus:{b} | tr '\\n' ' '"


class Shop:
    """Two attached volumes that a writer writes to in turns, in a group."""

    def __init__(self, house: House, node: str, unique: Unique) -> None:
        self.house, self.node, self.unique = house, node, unique
        self.pool, self.group = unique("pool"), unique("shop")
        self.a, self.b = unique("first"), unique("second")
        self.stop, self.noted = f"/run/{self.pool}.stop", f"/run/{self.pool}.noted"
        self.disk: Plugged | None = None

    async def make(self, *more: str) -> None:
        disk = self.disk = await self.house.plug(self.node, "1G")
        await self.house.form(self.pool, [disk])
        for volume in (self.a, self.b):
            await self.house.make(volume, disk, self.pool, 64)
            await self.house.done(AttachVolume(volume=volume, consumer="host/writer"))
        await self.house.say(CreateGroup(group=self.group, volumes=(self.a, self.b, *more)))
        writer = f"cat >/root/writer.py <<'EOF'\n{WRITER}EOF\n"
        devices = f"/dev/hwbus/{self.a} /dev/hwbus/{self.b}"
        run = f"setsid python3 /root/writer.py {devices} {self.noted} {self.stop}"
        await self.sh(f"{writer}rm -f {self.stop}; {run} </dev/null >{self.noted}.log 2>&1 &")
        await self.moves_on()

    async def sh(self, script: str) -> str:
        return (await self.house.sh(self.node, script)).strip()

    async def written(self) -> int:
        return int(await self.sh(f"cat {self.noted} 2>/dev/null || true") or 0)

    async def moves_on(self, within_s: float = 20) -> float:
        """Wait until the writer writes; return after how long."""
        before = await self.written()

        async def more() -> bool:
            return await self.written() > before

        return await self.house.until(more, within_s, what="the writer goes on")

    async def take(self, name: str) -> str:
        wish = SnapshotGroup(group=self.group, snapshot=name, reserve_bytes=16 * MIB)
        return await self.house.done(wish)

    async def numbers(self, first: str, second: str) -> tuple[int, int]:
        read = "od -An -tu8 -N8 /dev/{}/{}".format
        said = await self.sh(f"{read(self.pool, first)}; {read(self.pool, second)}")
        return tuple(int(word) for word in said.split())  # type: ignore[return-value]

    async def pair(self, name: str) -> tuple[int, int]:
        return await self.numbers(f"{name}-{self.a}", f"{name}-{self.b}")

    async def slow_down(self, seconds: float) -> None:
        await self.sh(SLOW.format(seconds=seconds))

    async def stands_still(self) -> bool:
        return await self.sh(STILL.format(a=self.a, b=self.b)) == "Suspended Suspended"

    async def _give_back(self, volume: str) -> None:
        for row in await self.house.rows("snapshots", volume=volume):
            await self.house.done(DeleteSnapshot(snapshot=row["name"]))
        await self.house.done(DetachVolume(volume=volume))

    async def clear(self) -> None:
        """Stop the writer, of which nothing is lost, and take everything away."""
        assert self.disk is not None
        await self.sh(
            f"touch {self.stop}; while pgrep -f '[w]riter.py.*{self.stop}'; do sleep 0.1; done"
        )
        said = await self.sh(f"cat {self.noted}.log; rm {self.stop}")
        assert said == "", said
        last = await self.written()
        assert await self.numbers(self.a, self.b) == (last, last)
        volumes = [row["name"] for row in await self.house.rows("volumes", pool=self.pool)]
        await asyncio.gather(*(self._give_back(volume) for volume in volumes))
        await self.house.say(RemoveGroup(group=self.group))
        await self.house.settled(self.pool, self.node)
        await self.house.clear(self.pool, self.node, self.disk)


async def one_instant(shop: Shop, files: str) -> None:
    for name in ("one", "two"):
        operation = await shop.take(shop.unique(name))
        (still,) = [
            t for t in await shop.house.ran(operation, "sh") if t["argv"][:4] == [*stillness.STILL]
        ]
        print(f"{name}: three volumes stood still for less than {still['duration_ms']:.0f} ms")
        assert still["duration_ms"] < 10_000
        await shop.moves_on()
    rows = await shop.house.rows("snapshots", group=shop.group)
    assert len(rows) == 6
    for together in sorted({row["together"] for row in rows}):
        first, second = await shop.pair(together)
        assert first - second in {0, 1}, (together, first, second)
        assert first > 0
    caught = {row["volume"]: row["consistency"] for row in rows}
    assert caught == {shop.a: "crash", shop.b: "crash", files: "filesystem"}
    whole = f"/dev/{shop.pool}/{rows[-1]['together']}-{files}"
    assert "needs_recovery" not in await shop.sh(f"dumpe2fs -h {whole} 2>/dev/null")
    await shop.sh(f"e2fsck -fn {whole}")


async def one_after_another(shop: Shop) -> None:
    """Without a group the same writer leaves snapshots that never were the case together."""
    for volume in (shop.a, shop.b):
        wish = CreateSnapshot(snapshot=f"x-{volume}", volume=volume, reserve_bytes=16 * MIB)
        await shop.house.done(wish)
    first, second = await shop.pair("x")
    assert first - second < 0


@pytest.mark.slow
def test_a_group_is_kept_at_one_instant_while_it_is_written_to(play: Play, unique: Unique) -> None:
    async def scene(house: House) -> None:
        shop, files = Shop(house, "n1", unique), unique("files")
        await shop.make()
        assert shop.disk is not None
        await house.make(files, shop.disk, shop.pool, 64, filesystem=Filesystem.EXT4)
        at = f"/mnt/{files}"
        await house.done(AttachVolume(volume=files, consumer="host/files", mount_point=at))
        await house.say(RemoveGroup(group=shop.group))
        await house.say(CreateGroup(group=shop.group, volumes=(shop.a, shop.b, files)))
        busy = f"while [ ! -e {shop.stop} ]; do head -c 99999 /dev/urandom >{at}/f; done"
        await shop.sh(f"setsid sh -c '{busy}' </dev/null >/dev/null 2>&1 &")
        await one_instant(shop, files)
        await one_after_another(shop)
        await shop.clear()

    play(scene)


@pytest.mark.slow
def test_volumes_go_on_whoever_dies_while_they_stand_still(play: Play, unique: Unique) -> None:
    async def scene(house: House) -> None:
        shop = Shop(house, "n2", unique)
        await shop.make()
        await shop.slow_down(3)
        kept = unique("kept")
        wish = SnapshotGroup(group=shop.group, snapshot=kept, reserve_bytes=16 * MIB)
        begun = await house.say(wish)
        await house.until(shop.stands_still, 20, what="both stand still")
        await house.lab.service_kill("worker", shop.node)
        assert await shop.stands_still()
        took_s = await shop.moves_on()
        print(f"its worker killed, the volumes went on {took_s:.1f} s later, by themselves")
        await shop.sh(QUICK)
        await house.lab.service_start("worker", shop.node)
        assert (await house.end(begun.operation))["outcome"] == "completed"
        first, second = await shop.pair(kept)
        assert first - second in {0, 1}, (first, second)
        await everybody_dies(shop)
        await lvm_hangs(shop)
        await shop.clear()

    play(scene)


async def everybody_dies(shop: Shop) -> None:
    """Worker, script and keeper are killed: what stands still goes on when a worker starts."""
    await shop.slow_down(20)
    name = shop.unique("kept")
    wish = SnapshotGroup(group=shop.group, snapshot=name, reserve_bytes=16 * MIB, deadline_s=120)
    begun = await shop.house.say(wish)
    await shop.house.until(shop.stands_still, 20, what="both stand still")
    await shop.house.lab.service_kill("worker", shop.node)
    everybody = f"pkill -9 -f '[h]wbus 10 hwbus:{shop.a}'; pkill -9 -f '[s]leep (10|20)'"
    gone = f"while pgrep -f '[h]wbus 10 hwbus:{shop.a}'; do sleep 0.05; done"
    await shop.sh(f"{QUICK}; {everybody}; {gone}")
    assert await shop.stands_still()
    await shop.house.lab.service_start("worker", shop.node)
    took_s = await shop.moves_on()
    print(f"all killed, the volumes went on {took_s:.1f} s after a worker was started")
    assert (await shop.house.end(begun.operation))["outcome"] == "completed"
    first, second = await shop.pair(name)
    assert first - second in {0, 1}, (first, second)


async def lvm_hangs(shop: Shop) -> None:
    """LVM takes longer than anybody shall wait: the volumes go on, and nothing is kept."""
    await shop.slow_down(11)
    name = shop.unique("kept")
    wish = SnapshotGroup(group=shop.group, snapshot=name, reserve_bytes=16 * MIB, deadline_s=120)
    begun = await shop.house.say(wish)
    await shop.house.until(shop.stands_still, 20, what="both stand still")
    took_s = await shop.moves_on()
    print(f"LVM hanging, the volumes went on after {took_s:.1f} s")
    end = await shop.house.end(begun.operation)
    await shop.sh(QUICK)
    assert (end["outcome"], end["code"]) == ("failed", Refusal.NOT_STILL)
    assert end.get("leftovers", []) == []
    kept = await shop.house.rows("snapshots", group=shop.group)
    assert name not in {row["together"] for row in kept}
    assert name not in await shop.sh(f"lvs {shop.pool}")


@pytest.mark.slow
def test_a_schedule_takes_and_lets_go_by_the_clock(play: Play, unique: Unique) -> None:
    async def scene(house: House) -> None:
        pool, volume, name = unique("pool"), unique("volume"), unique("often")
        disk = await house.plug("n3", "512M")
        await house.form(pool, [disk])
        await house.make(volume, disk, pool, 64)
        about: dict[str, Any] = {"rhythm": Rhythm(every_s=10), "keep": Keep(hourly=1)}
        await house.say(CreateSchedule(schedule=name, volume=volume, **about))

        async def twice() -> bool:
            row = await house.row("schedules", name=name)
            kept = await house.rows("snapshots", schedule=name)
            # At the turn of an hour, two are kept.
            return row["taken"] >= 2 and len(kept) <= row["taken"] - 1 and not row["operation"]

        await house.until(twice, 60, what="two were taken and one was let go")
        await house.say(PauseSchedule(schedule=name))
        kept = {row["name"] for row in await house.rows("snapshots", schedule=name)}
        row = await house.row("schedules", name=name)
        assert (row["state"], row["failed"], row["missed"]) == ("paused", 0, 0)
        assert row["last_snapshot"] in kept
        by = await house.rows("audit", actor=f"schedule:{name}", kind="accepted")
        assert {one["word"] for one in by} == {"snapshot.create.v1", "snapshot.delete.v1"} | {
            "schedule.report-run.v1"
        }
        await house.say(RemoveSchedule(schedule=name))

        async def at_rest() -> bool:
            rows = await house.rows("snapshots", volume=volume)
            return all(one["state"] == "ready" for one in rows)

        await house.until(at_rest, 20, what="all is at rest")
        for one in await house.rows("snapshots", volume=volume):
            await house.done(DeleteSnapshot(snapshot=one["name"]))
        await house.settled(pool, "n3")
        await house.clear(pool, "n3", disk)

    play(scene)
