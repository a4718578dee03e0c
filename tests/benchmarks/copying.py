"""Snapshots and copies on real LVM: what we add to a bare ``lvcreate -s`` and a bare ``dd``."""

import time
from collections.abc import Awaitable, Callable

from hwbus.jetstream import Wires
from hwbus.lab.client import LabClient
from schemas.answers import Accepted
from schemas.copying import RestoreVolume
from schemas.deleting import DeleteVolume
from schemas.grammar import Message
from schemas.snapshot import CreateSnapshot, DeleteSnapshot
from tests.benchmarks.figures import Figure, figure

MIB = 1 << 20
Say = Callable[[Wires, Message, str], Awaitable[Accepted]]
Ended = Callable[[Wires, str, int], Awaitable[list[tuple[str, float]]]]
# By one Python process in the node: its clock is the node's own.
_BARE_SNAPSHOT = """
import subprocess, sys, time
quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
for number in range(int(sys.argv[2])):
    began = time.monotonic()
    lvcreate = "lvcreate --yes --snapshot --extents 4 --name bare"
    subprocess.run([*lvcreate.split(), sys.argv[1]], **quiet)
    print((time.monotonic() - began) * 1e3)
    subprocess.run(["lvremove", "--yes", sys.argv[1].rpartition("/")[0] + "/bare"], **quiet)
"""
_BARE_COPY = """
import subprocess, sys, time
source, target, mib, runs = sys.argv[1:]
dd = f"dd if={source} of={target} bs=1M count={mib} iflag=direct oflag=direct conv=fsync"
for _ in range(int(runs)):
    began = time.monotonic()
    subprocess.run(f"{dd} status=none".split(), check=True)
    print(int(mib) / (time.monotonic() - began))
"""


class Copying:
    """One volume of *mib* MiB named v999 on the first of two *nodes*, and what is made of it."""

    def __init__(
        self,
        lab: LabClient,
        wires: Wires,
        nodes: tuple[str, str],
        pool: str,
        say: Say,
        ended: Ended,
    ) -> None:
        self._lab, self._wires = lab, wires
        (self._node, self._there), self._pool = nodes, pool
        self._say, self._ended = say, ended
        self._number = 0

    async def measure(self, *, mib: int, runs: int) -> list[Figure]:
        """Return the rows of snapshots and copies."""
        # Zeros would not travel to another node.
        dd = f"dd if=/dev/urandom of=/dev/{self._pool}/v999 bs=1M count={mib} oflag=direct"
        await self._lab.exec(self._node, *dd.split())
        took = [await self._snapshot(f"s{n}") for n in range(runs)]
        rates: list[float] = []
        afar: list[float] = []
        for n in range(runs):
            rates.append(await self._copy(f"s{n}", f"c{n}", mib, self._node))
            afar.append(await self._copy(f"s{n}", f"f{n}", mib, self._there))
        source, target = f"{self._pool}/s0", f"{self._pool}/c0"
        floor = await self._bare(_BARE_SNAPSHOT, f"{self._pool}/v999", str(runs))
        bare = (f"/dev/{source}", f"/dev/{target}", str(mib), str(runs))
        floors = await self._bare(_BARE_COPY, *bare)
        for n in range(runs):
            for volume in (f"c{n}", f"f{n}"):
                await self._done(DeleteVolume(volume=volume))
            await self._done(DeleteSnapshot(snapshot=f"s{n}"))
        note = "Every chunk is read back past the page cache and compared; dd does not do that."
        return [
            figure(
                "lab: thick snapshot, asked to ready",
                took,
                "ms",
                floor=floor,
                floor_is="lvcreate --snapshot alone, in the same node and volume group",
            ),
            figure(
                "lab: copy of a snapshot, verified",
                rates,
                "MiB/s",
                floor=floors,
                floor_is="dd with direct I/O and fsync between the same two devices",
                note=note,
            ),
            figure(
                "lab: copy to another node, verified",
                afar,
                "MiB/s",
                floor=rates,
                floor_is="the copy of the same snapshot on the node that has it",
            ),
        ]

    async def _snapshot(self, name: str) -> float:
        began = time.perf_counter()
        wish = CreateSnapshot(snapshot=name, volume="v999", reserve_bytes=16 * MIB)
        await self._done(wish)
        return (time.perf_counter() - began) * 1e3

    async def _copy(self, snapshot: str, volume: str, mib: int, node: str) -> float:
        """Return MiB a second, from when the node was told until it said that all is there."""
        wish = RestoreVolume(volume=volume, snapshot=snapshot, node=node)
        at = dict(await self._done(wish))
        return mib / ((at["replica.created.v1"] - at["replica.wanted.v1"]) / 1e3)

    async def _done(self, word: Message) -> list[tuple[str, float]]:
        self._number += 1
        head = await self._wires.log.head()
        accepted = await self._say(self._wires, word, f"bench-copying-{self._number}")
        return await self._ended(self._wires, accepted.operation, head)

    async def _bare(self, program: str, *arguments: str) -> list[float]:
        """Run *program* while the worker holds still: the node has one CPU."""
        pid = str((await self._lab.service("worker", self._node)).pid)
        await self._lab.exec(self._node, "kill", "-STOP", pid)
        try:
            ran = await self._lab.exec(self._node, "python3", "-c", program, *arguments)
        finally:
            await self._lab.exec(self._node, "kill", "-CONT", pid)
        return [float(line) for line in ran.stdout.split()]
