"""Whatever dies in the middle, on real kernels: the work ends well, and nothing is done twice."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from hwbus import subjects
from hwbus.streams import AUDIT
from schemas.audit import ExecutedRecord, ParkedRecord
from schemas.deleting import DeleteVolume
from schemas.grammar import Message
from schemas.pool import FormPool
from schemas.volume import Filesystem, GrowVolume, ProvisionVolume
from tests.support.house import MIB, NODES, House, Plugged, Row, Scene, signatures

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Play = Callable[[Scene], None]
Unique = Callable[[str], str]
_ONCE = ("pvcreate", "vgcreate", "lvcreate", "mkfs.ext4", "lvextend", "lvremove")
_WITHIN_S = 60


class Middle:
    """Begins an operation on a node and says when it is so and so far."""

    def __init__(self, house: House, node: str) -> None:
        self._house = house
        self._node = node
        self._audit = house.wires.log_of(AUDIT.name)
        self.operation = ""

    async def begin(self, word: Message, tools: int, wanted: str) -> None:
        """Say *word*; return when the event *wanted* is written and *tools* tools have run for it.

        Returns as well when the operation has ended before: then `was_quicker` tells.
        """
        heads = await self._house.wires.log.head(), await self._audit.head()
        self.operation = (await self._house.say(word)).operation
        async with asyncio.timeout(_WITHIN_S):
            await self._until_wanted(heads[0], wanted)
            ended = asyncio.create_task(self._house.end(self.operation))
            counted = asyncio.create_task(self._until_ran(heads[1], tools))
            await asyncio.wait({ended, counted}, return_when=asyncio.FIRST_COMPLETED)
            for task in (ended, counted):
                task.cancel()
            await asyncio.wait({ended, counted})

    async def was_quicker(self) -> bool:
        """Whether the operation had ended before anything could be broken."""
        row = await self._house.row("operations", id=self.operation)
        return row["ended_at"] is not None

    async def _until_wanted(self, after: int, wanted: str) -> None:
        async with self._house.client.happenings(after=after) as happenings:
            async for one in happenings:
                mine = self.operation == one.correlation
                if mine and any(event["type"] == wanted for event in one.events):
                    return

    async def _until_ran(self, after: int, tools: int) -> None:
        seen = 0
        subject = subjects.audit("executed", self._node)
        async with self._audit.follow(after=after, subjects=(subject,)) as batches:
            while seen < tools:
                for stored in await anext(batches):
                    record = msgspec.json.decode(stored.data, type=ExecutedRecord)
                    seen += record.correlation == self.operation


async def _once_each(house: House, operation: str) -> list[Row]:
    """No tool that makes or takes something has succeeded twice with the same words."""
    tools = await house.tools(operation)
    for program in _ONCE:
        repeated = [argv for argv, n in Counter(signatures(tools, program)).items() if n > 1]
        assert not repeated
    return tools


class Kind:
    """One kind of operation with what is there before, and what must be there after."""

    def __init__(self, house: House, node: str, unique: Unique) -> None:
        self.house = house
        self.node = node
        self.pool = unique("pool")
        self.volume = unique("volume")
        self.disk: Plugged | None = None

    async def plugged(self) -> Plugged:
        self.disk = await self.house.plug(self.node, "512M")
        return self.disk

    async def with_volume(self) -> str:
        disk = await self.plugged()
        await self.house.form(self.pool, [disk])
        row = await self.house.make(self.volume, disk, self.pool, 64, filesystem=Filesystem.EXT4)
        return str(row["device"])

    async def shell(self, script: str) -> str:
        at, device = f"/mnt/{self.volume}", f"/dev/{self.pool}/{self.volume}"
        return await self.house.sh(self.node, f"at={at}; device={device}\n{script}")

    async def prepare(self) -> tuple[Message, str]:
        raise NotImplementedError

    async def compare(self) -> None:
        raise NotImplementedError


class Forming(Kind):
    async def prepare(self) -> tuple[Message, str]:
        disk = await self.plugged()
        word = FormPool(pool=self.pool, node=self.node, disks=(disk.id,), thin_bytes=64 * MIB)
        return word, "pool.build-wanted.v1"

    async def compare(self) -> None:
        assert list(await self.house.lvs(self.node, self.pool)) == ["hwbus-thin"]


class Provisioning(Kind):
    async def prepare(self) -> tuple[Message, str]:
        await self.house.form(self.pool, [await self.plugged()])
        word = ProvisionVolume(
            volume=self.volume,
            size_bytes=64 * MIB,
            pool=self.pool,
            filesystem=Filesystem.EXT4,
        )
        return word, "replica.wanted.v1"

    async def compare(self) -> None:
        assert list(await self.house.lvs(self.node, self.pool)) == [self.volume]
        assert "ext4" in await self.shell("blkid -p -o value -s TYPE $device; e2fsck -fn $device")


class Growing(Kind):
    async def prepare(self) -> tuple[Message, str]:
        await self.with_volume()
        await self.shell(
            "mkdir -p $at; mount $device $at; head -c 8M /dev/urandom > $at/file;"
            "sha256sum < $at/file > /tmp/sum; sync"
        )
        return GrowVolume(volume=self.volume, size_bytes=160 * MIB), "replica.resize-wanted.v1"

    async def compare(self) -> None:
        await self.shell(
            "mkdir -p $at; mountpoint -q $at || mount $device $at;"
            "sha256sum < $at/file | cmp - /tmp/sum; test $(df --output=size -BM $at | tail -1 "
            "| tr -d ' M') -gt 120; umount $at; e2fsck -fn $device"
        )
        assert (await self.house.lvs(self.node, self.pool))[self.volume].size_bytes == 160 * MIB


class Deleting(Kind):
    async def prepare(self) -> tuple[Message, str]:
        await self.with_volume()
        return DeleteVolume(volume=self.volume), "replica.removal-wanted.v1"

    async def compare(self) -> None:
        assert await self.house.lvs(self.node, self.pool) == {}


# After how many tools the worker is killed on n1, n2, n3.
_POINTS: dict[type[Kind], Sequence[int]] = {
    Forming: (0, 4, 6),
    Provisioning: (0, 1, 2),
    Growing: (0, 1, 2),
    Deleting: (0, 1, 2),
}


@pytest.mark.parametrize("kind", list(_POINTS))
def test_a_worker_killed_in_the_middle_goes_on_where_it_was(
    play: Play, unique: Unique, kind: type[Kind]
) -> None:
    async def one(house: House, node: str, tools: int) -> bool:
        case, middle = kind(house, node, unique), Middle(house, node)
        word, wanted = await case.prepare()
        await middle.begin(word, tools, wanted)
        await house.lab.service_kill("worker", node)
        in_the_middle = not await middle.was_quicker()
        await house.lab.service_start("worker", node)
        end = await house.end(middle.operation)
        assert end["outcome"] == "completed", (tools, end)
        await case.compare()
        await house.settled(case.pool, node)
        await _once_each(house, middle.operation)
        assert case.disk is not None
        await house.clear(case.pool, node, case.disk)
        return in_the_middle

    async def scene(house: House) -> None:
        places = zip(NODES, _POINTS[kind], strict=True)
        caught = await asyncio.gather(*(one(house, node, tools) for node, tools in places))
        assert any(caught), "every operation had ended before its worker was killed"
        print(f"{kind.__name__}: {sum(caught)} of 3 caught in the middle")

    play(scene)


async def _kill_controller(house: House) -> None:
    await house.lab.service_kill("controller")
    await house.lab.service_start("controller")


async def _kill_nats(house: House) -> None:
    await house.lab.service_kill("nats")
    await house.lab.service_start("nats")


async def _cut_power(house: House) -> None:
    await house.lab.kill("n1")
    await house.lab.boot("n1")


@pytest.mark.parametrize("breaks", [_kill_controller, _kill_nats, _cut_power])
def test_the_control_plane_the_bus_or_a_whole_node_dies_and_the_work_ends_well(
    play: Play, unique: Unique, breaks: Callable[[House], Awaitable[None]]
) -> None:
    async def one(house: House, case: Kind, *, here: bool) -> None:
        middle = Middle(house, case.node)
        word, wanted = await case.prepare()
        await house.sh(case.node, "sync")
        await middle.begin(word, 0, wanted)
        if here:
            await breaks(house)
        assert (await house.end(middle.operation))["outcome"] == "completed"
        await house.ready(case.node)
        await case.compare()
        await house.settled(case.pool, case.node)
        await _once_each(house, middle.operation)
        assert case.disk is not None
        await house.clear(case.pool, case.node, case.disk)

    async def scene(house: House) -> None:
        await one(house, Provisioning(house, "n1", unique), here=True)
        await one(house, Growing(house, "n1", unique), here=True)

    play(scene)


def test_a_node_that_boots_without_control_plane_and_bus_has_its_volumes(
    play: Play, unique: Unique
) -> None:
    async def active(house: House, case: Kind) -> bool:
        out = await house.sh(
            "n2", f"lvs --noheadings -o lv_active {case.pool}/{case.volume} 2>/dev/null || true"
        )
        return out.strip() == "active"

    async def scene(house: House) -> None:
        case = Growing(house, "n2", unique)
        await case.prepare()
        await case.shell("umount $at; sync")
        for service in ("controller", "nats"):
            await house.lab.service_stop(service)
        await house.lab.kill("n2")
        await house.lab.boot("n2")
        await house.until(lambda: active(house, case), what="the volume is active again")
        await case.shell("mount $device $at; sha256sum < $at/file | cmp - /tmp/sum; umount $at")
        for service in ("nats", "controller"):
            await house.lab.service_start(service)
        await house.ready(*NODES)
        await house.settled(case.pool, "n2")
        assert case.disk is not None
        await house.clear(case.pool, "n2", case.disk)

    play(scene)


def test_a_message_that_nobody_can_read_is_set_aside_and_stops_neither_worker_nor_views(
    play: Play, unique: Unique
) -> None:
    bad = unique("unreadable")

    async def parked(house: House) -> set[str]:
        log = house.wires.log_of(AUDIT.name)
        consumers: set[str] = set()
        after = max(0, await log.head() - 500)
        for seq in range(after + 1, await log.head() + 1):
            stored = await log.get(seq)
            if stored is not None and stored.subject.startswith("hwbus.audit.parked."):
                record = msgspec.json.decode(stored.data, type=ParkedRecord)
                if record.subject == f"hwbus.evt.pool.n1.{bad}":
                    consumers.add(record.consumer)
        return consumers

    async def scene(house: House) -> None:
        await house.wires.bus.publish(f"hwbus.evt.pool.n1.{bad}", b"\xff{not json")
        case: Any = Provisioning(house, "n1", unique)
        word, _ = await case.prepare()
        await house.done(word)
        await case.compare()
        await house.settled(case.pool, "n1")

        async def told() -> bool:
            consumers = await parked(house)
            return any("n1" in one for one in consumers) and len(consumers) > 1

        await house.until(told, 20, what="worker and views have set it aside")
        subject = f"hwbus.evt.pool.n1.{bad}"
        rows = [row for row in await house.rows("parked") if row["subject"] == subject]
        assert [bool(row["because"]) for row in rows] == [True]
        await house.clear(case.pool, "n1", case.disk)

    play(scene)
