"""Replicated volumes on real kernels: what we add to bare DRBD in the same lab."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from hwbus.jetstream import Wires, connect
from hwbus.lab.client import LabClient, up
from hwbus.lab.requirements import why_not
from hwbus.lab.spec import uniform
from hwbus.lab.workspace import Workspace
from schemas.answers import Accepted, Refused
from schemas.attaching import AttachVolume, DetachVolume
from schemas.deleting import DeleteVolume
from schemas.handing import HandOverVolume
from schemas.legs import AddReplica
from schemas.operation import Outcome
from schemas.pool import FormPool
from schemas.refusals import Refusal
from schemas.volume import Filesystem, ProvisionVolume
from tests.benchmarks.bare_drbd import DEVICE, PLAIN, BareDrbd, copied_mib_per_s, write_random
from tests.benchmarks.figures import Figure, figure
from tests.benchmarks.in_nodes import Ran, fio, gap, readable_at
from tests.support.house import MIB, SERVICES, House

HERE, THERE, POOL = "n1", "n2", "fast"
CONSUMER = "host/bench"
VOLUME, AT = "ha", "/mnt/ha"
_DISK = "/dev/ubdb"
_SWAP_MIB, _SMALL_MIB, _SYNC_MIB = 4, 16, 256
_STILL_S = 2.0
_BLOCKS_A_MIB = 256


class Samples(msgspec.Struct):
    """What was measured, one of each a round; what begins with ``bare`` by hand in the same round.

    Times in s, pauses in ms, rates in MiB/s, all of fio by the block size.
    """

    swap_ms: list[float] = []
    still_ms: list[float] = []
    bare_swap_ms: list[float] = []
    sync: list[float] = []
    bare_sync: list[float] = []
    copying: list[float] = []
    bare_copying: list[float] = []
    fio: dict[str, list[float]] = {}
    bare_fio: dict[str, list[float]] = {}
    plain_fio: dict[str, list[float]] = {}
    gap_s: list[float] = []
    bare_gap_s: list[float] = []
    failover_s: list[float] = []
    bare_failover_s: list[float] = []


class Replicated:
    """Volumes in a lab whose first two nodes have pools and an unused disk each."""

    def __init__(self, house: House, *, mib: int, fio_s: int) -> None:
        self._house, self._mib, self._fio_s = house, mib, fio_s
        self._bare = BareDrbd(house, self._mib)
        self.found = Samples()

    async def all(self, rounds: int) -> None:
        """Measure everything, round after round."""
        await self.begin()
        for number in range(rounds):
            await self.turn(number)
            await self.cut_power()
            if number + 1 < rounds:
                await self.mend()

    async def begin(self) -> None:
        """Make the volume that is handed over and fails over, and what bare DRBD lies on."""
        await self._bare.make()
        await self._provision(VOLUME, 64, filesystem=Filesystem.EXT4, replicas=2)
        await self._attach(VOLUME, mount_point=AT)

    async def pools(self) -> None:
        """Make a pool on each of the two nodes."""
        await asyncio.gather(*(self._pool(node) for node in (HERE, THERE)))

    async def smoke(self) -> None:
        """Measure once what takes seconds: one volume gets a replica, and nothing of ours moves."""
        await self._bare.make()
        await self._swap("s")
        await self._bare_sync()
        await self._fio("s", "4k", "randwrite", 0, _SWAP_MIB)
        await self._bare.mount()
        self.found.bare_gap_s.append(await self._bare.hand_over(HERE, THERE))

    async def turn(self, number: int) -> None:
        """Measure all but power cuts once; the bare resource is mounted on n1 afterwards."""
        await self._swap(f"s{number}")
        await self._drop(f"s{number}")
        volume = f"v{number}"
        await self._sync(volume)
        await self._bare_sync()
        for block, pattern in (("4k", "randwrite"), ("64k", "write")):
            await self._fio(volume, block, pattern, number, self._mib)
        await self._drop(volume)
        await self._bare.mount()
        for source, target in ((HERE, THERE), (THERE, HERE)):
            self.found.bare_gap_s.append(await self._bare.hand_over(source, target))
            self.found.gap_s.append(await self._hand_over(source, target))

    async def cut_power(self) -> None:
        """Cut the power of n1 while it writes to both, once, and measure how n2 goes on."""
        writing = await Ran.appending(self._house, HERE, AT)
        bare = await self._bare.writer()
        began = time.monotonic()
        await self._house.lab.kill(HERE)
        told, _ = await writing.cut(), await bare.cut()
        bare_at, at = await asyncio.gather(
            self._bare.take_over(), readable_at(self._house, THERE, AT, told)
        )
        self.found.bare_failover_s.append(bare_at - began)
        self.found.failover_s.append(at - began)

    async def mend(self) -> None:
        """Have n1 again, and the volume on it."""
        await self._bare.down()
        await self._house.lab.boot(HERE)
        await self._house.ready(HERE, THERE)
        await self._house.until(self._is_home, what=f"{VOLUME} is on {HERE} again")
        await self._house.sh(HERE, "modprobe drbd; lvm vgchange -qq -ay bare")

    async def _is_home(self) -> bool:
        """Hand the volume over to n1, if that has by now what it missed; return whether it is."""
        answer = await self._house.client.command(HandOverVolume(volume=VOLUME, node=HERE))
        if isinstance(answer, Refused) and answer.code is Refusal.NOT_UP_TO_DATE:
            return False
        assert isinstance(answer, Accepted), answer
        end = await self._house.end(answer.operation)
        assert end["outcome"] == Outcome.COMPLETED, end
        return True

    async def _pool(self, node: str) -> None:
        disks: list[str] = []

        async def known() -> bool:
            rows = await self._house.rows("disks", node=node, state="free")
            disks[:] = [row["id"] for row in rows if row["path"] == _DISK]
            return bool(disks)

        await self._house.until(known, what=f"{_DISK} of {node} is free")
        await self._house.done(FormPool(pool=POOL, node=node, disks=tuple(disks)))

    async def _provision(self, volume: str, mib: int, **more: object) -> None:
        place = {"pool": POOL, "node": HERE} | more
        word = {"volume": volume, "size_bytes": mib * MIB} | place
        await self._house.done(msgspec.convert(word, ProvisionVolume, strict=False))

    async def _attach(self, volume: str, *, mount_point: str | None = None) -> None:
        word = AttachVolume(volume=volume, consumer=CONSUMER, mount_point=mount_point)
        await self._house.done(word)

    async def _drop(self, volume: str) -> None:
        await self._house.done(DetachVolume(volume=volume))
        await self._house.done(DeleteVolume(volume=volume))

    async def _swap(self, volume: str) -> None:
        """Measure the longest write to a plain volume: left alone, then while it gets a replica."""
        await self._provision(volume, _SWAP_MIB)
        await self._attach(volume)
        device = f"/dev/hwbus/{volume}"
        writing = await Ran.writing(self._house, HERE, device)
        await asyncio.sleep(_STILL_S)
        self.found.still_ms.append(await writing.longest_ms())
        writing = await Ran.writing(self._house, HERE, device)
        await self._house.done(AddReplica(volume=volume))
        self.found.swap_ms.append(await writing.longest_ms())
        self.found.bare_swap_ms.append(await self._bare.longest_write_ms())

    async def _sync(self, volume: str) -> None:
        """Measure how fast a volume full of random data, attached and at rest, gets a replica."""
        await self._provision(volume, self._mib)
        await self._attach(volume)
        await self._house.sh(HERE, write_random(f"/dev/hwbus/{volume}", self._mib))
        began = time.monotonic()
        await self._house.done(AddReplica(volume=volume, node=THERE))
        self.found.sync.append(self._mib / (time.monotonic() - began))
        self.found.copying.append(await copied_mib_per_s(self._house, HERE))

    async def _bare_sync(self) -> None:
        """Measure the same of the bare resource, as large."""
        whole, copying = await self._bare.first_sync()
        self.found.bare_sync.append(whole)
        self.found.bare_copying.append(copying)

    async def _fio(self, volume: str, block: str, pattern: str, turn: int, mib: int) -> None:
        """Measure three devices, in every other round the other way round."""
        devices = (
            (PLAIN, self.found.plain_fio),
            (DEVICE, self.found.bare_fio),
            (f"/dev/hwbus/{volume}", self.found.fio),
        )
        for device, found in reversed(devices) if turn % 2 else devices:
            rate = await fio(self._house, HERE, device, pattern, block, self._fio_s, mib)
            found.setdefault(block, []).append(rate)

    async def _hand_over(self, source: str, target: str) -> float:
        word = HandOverVolume(volume=VOLUME, node=target)
        return await gap(self._house, AT, source, target, lambda: self._house.done(word))


@asynccontextmanager
async def a_lab(nodes: int) -> AsyncIterator[LabClient]:
    """A lab with hwbus in it; its nodes have two disks."""
    workspace = Workspace()
    try:
        plan = uniform(nodes=nodes, disks=2, disk_size="2G", services=SERVICES)
        async with await up(plan, workspace.path, owner_pid=os.getpid()) as machines:
            yield machines
    finally:
        workspace.close()


async def replicated(*, rounds: int, quick: bool) -> list[Figure]:
    """Measure in a lab of its own; where there is none, one row says why."""
    reason = why_not()
    if reason:
        return [figure("replicated", [0.0], "", note=f"Not measured: {reason}")]
    async with a_lab(2 if quick else 3) as machines, connect(machines.nats_url, name="b") as wires:
        house = House(machines, wires)
        await house.ready(*(node.name for node in (await machines.status()).nodes))
        measuring = Replicated(house, mib=_SYNC_MIB, fio_s=5)
        await measuring.pools()
        if quick:
            return await smoke(machines, wires)
        await measuring.all(rounds)
    return rows(measuring.found)


async def smoke(machines: LabClient, wires: Wires) -> list[Figure]:
    """Measure once and little, in a lab that has the pools and an unused second disk a node."""
    measuring = Replicated(House(machines, wires), mib=_SMALL_MIB, fio_s=1)
    await measuring.smoke()
    return rows(measuring.found)


def rows(found: Samples) -> list[Figure]:
    """Return the rows of what was measured: in a quick run that is not all."""
    return [row for row in (*_moves(found), *_first_syncs(found), *_writes(found)) if row]


def _row(name: str, ours: list[float], unit: str, **more: Any) -> Figure | None:
    return figure(f"replicated: {name}", ours, unit, **more) if ours else None


def _moves(found: Samples) -> Iterator[Figure | None]:
    yield _row(
        "power cut to last write read elsewhere",
        found.failover_s,
        "s",
        floor=found.bare_failover_s,
        floor_is="drbdadm primary on the peer, which succeeds: from the same cut on",
        note="Ours first waits until the node was silent for 5 s; bare DRBD asks nobody.",
    )
    by_hand = "umount, drbdadm secondary; drbdadm primary, mount: by hand"
    yield _row(
        "hand-over, mounted nowhere",
        found.gap_s,
        "s",
        floor=found.bare_gap_s,
        floor_is=by_hand,
    )
    yield _row(
        "longest write while a replica is added",
        found.swap_ms,
        "ms",
        floor=found.bare_swap_ms,
        floor_is="the same writer while dmsetup puts the same table in place anew",
        note="The first sync is a part of it: the writer and DRBD share the node's only CPU.",
    )
    yield _row("longest write before, left alone", found.still_ms, "ms")


def _first_syncs(found: Samples) -> Iterator[Figure | None]:
    yield _row(
        "adding a replica, asked to ended",
        found.sync,
        "MiB/s",
        floor=found.bare_sync,
        floor_is="drbdadm primary --force until the peer is up to date",
    )
    yield _row(
        "of it the copying alone",
        found.copying,
        "MiB/s",
        floor=found.bare_copying,
        floor_is="the same of bare DRBD, both by the kernel's own notes",
    )


def _writes(found: Samples) -> Iterator[Figure | None]:
    told = "fio, direct, one at a time"
    for block, unit, times, name in (
        ("4k", "/s", _BLOCKS_A_MIB, "random writes of 4k"),
        ("64k", "MiB/s", 1, "sequential writes of 64k"),
    ):
        ours, drbd, plain = (
            [rate * times for rate in of.get(block, ())]
            for of in (found.fio, found.bare_fio, found.plain_fio)
        )
        yield _row(name, ours, unit, floor=drbd, floor_is=f"bare DRBD ({told})")
        yield _row(f"{name}, beside a plain LV", ours, unit, floor=plain, floor_is="the bare LV")
