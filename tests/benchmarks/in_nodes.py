"""Programs that measure in the nodes of a lab: writers, a look at mounts, fio."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Self

from hwbus.lab.uml.errors import LabError
from tests.support.house import MIB, House

_WITHIN_S = 60.0
_PROGRAM_S = 600.0
# Appends numbers, each on disk before it is told, and the next only after that.
_APPEND = """
import os, sys, time
log = os.open(sys.argv[1] + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DSYNC)
number = 0
while True:
    number += 1
    os.write(log, b"%d\\n" % number)
    print(number, flush=True)
    time.sleep(0.02)
"""
_READ = """
import sys, time
last = 0
while last < int(sys.argv[2]):
    time.sleep(0.02)
    try:
        last = int(open(sys.argv[1] + "/log").read().rpartition("\\n")[0].split()[-1])
    except (OSError, IndexError):
        pass
"""
# Writes without pause until it is told to stop, then says how long the longest took, in ms.
_WRITE = """
import mmap, os, signal, sys, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
block = mmap.mmap(-1, 4096)
device = os.open(sys.argv[1], os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
print(os.getpid(), flush=True)
longest_s = number = 0
while not stop:
    began = time.monotonic()
    os.pwritev(device, [block], 4096 * (number % 1024))
    longest_s = max(longest_s, time.monotonic() - began)
    number += 1
print(longest_s * 1e3, flush=True)
"""
# The kernel wakes who polls this file when something is mounted or unmounted; see proc(5).
_MOUNTED = """
import select, sys
mounts = open("/proc/self/mounts")
poll = select.poll()
poll.register(mounts, select.POLLERR | select.POLLPRI)
print("looking", flush=True)
while True:
    mounts.seek(0)
    if any(line.split()[1] == sys.argv[1] for line in mounts) == (sys.argv[2] == "there"):
        break
    poll.poll(100)
print("seen", flush=True)
"""


class Ran:
    """A Python program in a node, and the lines that it has written so far."""

    def __init__(self, house: House, node: str, program: str, *words: str) -> None:
        self._house, self._node, self._said = house, node, b""
        self._more = asyncio.Event()
        argv = ("python3", "-I", "-S", "-c", program, *words)
        self._task = asyncio.create_task(
            house.lab.exec(node, *argv, timeout_s=_PROGRAM_S, on_output=self._note)
        )

    @classmethod
    async def appending(cls, house: House, node: str, at: str) -> Self:
        """Append numbers to the log of the filesystem *at*; returns when ten are on disk."""
        ran = cls(house, node, _APPEND, at)
        await ran.lines(10)
        return ran

    @classmethod
    async def writing(cls, house: House, node: str, device: str) -> Self:
        """Write to a device without pause; returns when it has begun."""
        ran = cls(house, node, _WRITE, device)
        await ran.lines(1)
        return ran

    @classmethod
    async def mounted(cls, house: House, node: str, at: str, wanted: str) -> Self:
        """Look until *at* is a mount point, or is none; returns when it looks."""
        ran = cls(house, node, _MOUNTED, at, wanted)
        await ran.lines(1)
        return ran

    def _note(self, stream: str, data: bytes) -> None:
        del stream
        self._said += data
        self._more.set()

    async def lines(self, count: int) -> list[str]:
        """Wait for so many lines; return all there are. Raises what the program ended with."""
        async with asyncio.timeout(_WITHIN_S):
            while len(found := self._said.decode().split("\n")[:-1]) < count:
                if self._task.done():
                    self._task.result()
                    raise RuntimeError(f"a program on {self._node} said only {found}")
                self._more.clear()
                waiting = asyncio.create_task(self._more.wait())
                await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
        return found

    async def seen_at(self) -> float:
        """Return when, by the monotonic clock, the second line came."""
        await self.lines(2)
        at = time.monotonic()
        await self._task
        return at

    async def longest_ms(self) -> float:
        """Have a writer stop; return how long its longest write took."""
        pid = (await self.lines(1))[0]
        await self._house.sh(self._node, f"kill {pid}")
        await self._task
        return float((await self.lines(2))[1])

    async def cut(self) -> int:
        """Return the last number that was told by a program whose node has lost its power."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LabError):
            await self._task
        return int((await self.lines(1))[-1])


async def readable_at(house: House, node: str, at: str, number: int) -> float:
    """Return when, by the monotonic clock, *number* can be read from the log there."""
    argv = ("python3", "-I", "-S", "-c", _READ, at, str(number))
    await house.lab.exec(node, *argv, timeout_s=_WITHIN_S)
    return time.monotonic()


async def gap(
    house: House, at: str, source: str, target: str, act: Callable[[], Awaitable[object]]
) -> float:
    """Return for how many seconds *at* was mounted on neither node while something was done."""
    gone = await Ran.mounted(house, source, at, "gone")
    there = await Ran.mounted(house, target, at, "there")
    seen = asyncio.gather(gone.seen_at(), there.seen_at())
    await act()
    gone_at, there_at = await seen
    return there_at - gone_at


async def fio(
    house: House, node: str, device: str, pattern: str, block: str, seconds: int, mib: int
) -> float:
    """Return MiB/s of direct writes, one after the other, to the first *mib* MiB of a device."""
    said = await house.sh(
        node,
        "fio --name=bench --output-format=json --direct=1 --ioengine=psync --time_based"
        f" --filename={device} --rw={pattern} --bs={block} --runtime={seconds} --size={mib}M",
    )
    return float(json.loads(said[said.index("{") :])["jobs"][0]["write"]["bw_bytes"]) / MIB
