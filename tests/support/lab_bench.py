"""A node of a lab as a bench for the storage contract, and a worker that dies on it."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from hwbus.lab.client import LabClient
from node_workers.lvm import LvmStorage
from node_workers.ports import BlockFacts, Execution, Runner, ToolFailedError
from node_workers.simulated.faults import SimulatedCrash
from tests.support.clock import NOON
from tests.support.encryption_contract import NEW, OLD
from tests.support.keys import HeldKeys
from tests.support.storage_bench import NODE, Bench

# The table of a disk with one partition, as a PC's firmware knows it.
_PUT_PARTITION_TABLE = """
import struct, sys
entry = struct.pack("<BBBBBBBBII", 0, 0, 2, 0, 0x83, 255, 255, 255, 2048, 4096)
with open(sys.argv[1], "r+b") as disk:
    disk.seek(446); disk.write(entry); disk.seek(510); disk.write(b"\\x55\\xaa")
"""
_PUT_RAID = """
import struct, sys
block = bytearray(256)
struct.pack_into("<III", block, 0, 0xA92B4EFC, 1, 0)
block[16:32] = bytes(range(16)); block[32:36] = b"n9:0"
struct.pack_into("<iiQIi", block, 72, 1, 0, 1 << 20, 0, 2)
struct.pack_into("<QQQ", block, 128, 2048, 1 << 20, 8)
total = sum(struct.unpack("<64I", block))
struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
with open(sys.argv[1], "r+b") as disk:
    disk.seek(4096); disk.write(block)
"""
# What a shell does itself costs nothing here, each program that it starts 20 to 100 ms.
_READ_SYSFS = """
for name; do
    [ -d "/sys/block/$name" ] || continue
    serial=
    [ ! -e "/sys/block/$name/serial" ] || read -r serial <"/sys/block/$name/serial" || true
    echo "$name $serial"
done
"""
# A machine with blank disks again, whatever was made of them: what LVM made goes without LVM.
_CLEAN = """
[ ! -f $HOLDER ] || { kill $(cat $HOLDER) || true; rm $HOLDER; }
while read -r device target _; do
    case $device in /dev/mapper/*|/dev/ubd[b-e]*) umount "$target" ;; esac
done </proc/mounts
dmsetup remove_all
for left in /dev/mapper/*; do [ "$left" = /dev/mapper/control ] || exit 1; done
gone=
for folder in /dev/*; do
    if [ -L "$folder" ] || [ ! -d "$folder" ]; then continue; fi
    for link in "$folder"/*; do
        [ ! -L "$link" ] || [ -e "$link" ] || { gone="$gone $folder"; break; }
    done
done
rm -rf /run/lvm/hints $gone
wipefs -qaf $DISKS
for disk in $DISKS; do blkdiscard -f -z -l 2097152 "$disk"; done
blockdev --rereadpt $DISKS
"""
_HOLDER = "/run/holder.pid"
_DATA_AT_SECTOR = (12 << 20) // 512
# All that a pool is made of, when nothing is in it yet. The shelf outlives a boot.
_COPY = """
for disk in /dev/ubdb /dev/ubdc; do
    dd if={source} of={target} bs=1M count=2 conv=notrunc,fsync status=none
done
"""
_SHELF, _DISK = "/root/shelf-${disk##*/}", "$disk"
_LOOKS = ("lsblk", "fullreport", "wipefs", "sh")
_DISKS = tuple(f"/dev/ubd{letter}" for letter in "bcde")


class LabBench:
    """A node of a lab, its tools run from outside."""

    disks = _DISKS

    def __init__(self, lab: LabClient, node: str = "n1") -> None:
        self.lab = lab
        self.node = node
        self.runner = self
        self.sysfs = self
        self.identities: dict[str, str] = {}
        self._has_shelf = False
        self._blank = False

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        if not cause.strip():
            raise ValueError("no tool runs without a cause")
        tool = argv[1] if argv[0] == "lvm" else argv[0]
        self._blank = self._blank and tool in _LOOKS
        start_s = time.monotonic()
        result = await self.lab.exec(
            *(self.node, *argv),
            stdin=stdin,
            env={"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"},
            timeout_s=timeout_s,
            check=False,
        )
        return Execution(
            argv=tuple(argv),
            exit_status=result.status,
            stdout=result.stdout,
            stderr=result.stderr,
            duration_ms=(time.monotonic() - start_s) * 1000,
            cause=cause,
            started_at=datetime.fromtimestamp(NOON.timestamp(), UTC),
        )

    async def facts(self, names: Sequence[str]) -> Mapping[str, BlockFacts]:
        execution = await self.console("sh", "-c", _READ_SYSFS, "sh", *names)
        serials = (line.partition(" ") for line in execution.stdout.splitlines())
        return {name: BlockFacts(serial=serial.strip()) for name, _, serial in serials}

    async def console(self, *argv: str, stdin: bytes = b"") -> Execution:
        execution = await self.run(argv, cause="a person", timeout_s=60, stdin=stdin)
        if execution.exit_status != 0:
            raise ToolFailedError(execution)
        return execution

    async def put_partition_table(self, disk: str) -> None:
        await self.console("python3", "-c", _PUT_PARTITION_TABLE, disk)
        await self.console("blockdev", "--rereadpt", disk)

    async def put_raid(self, disk: str) -> None:
        await self.console("python3", "-c", _PUT_RAID, disk)

    async def write(self, volume: str, data: str) -> None:
        # At a place where a fresh filesystem keeps nothing, within the smallest volume used here.
        # Without a flush a thin pool may not have noted by the next boot whose blocks these are.
        argv = (f"of=/dev/{volume}", f"seek={_DATA_AT_SECTOR}", "conv=notrunc,fsync")
        await self.console("dd", "status=none", *argv, stdin=data.encode().ljust(512))

    async def read(self, volume: str) -> str:
        argv = (f"if=/dev/{volume}", f"skip={_DATA_AT_SECTOR}", "count=1")
        return (await self.console("dd", "status=none", *argv)).stdout.strip().strip("\x00")

    async def finds(self, volume: str, text: str) -> bool:
        script = f"sync; echo 3 > /proc/sys/vm/drop_caches; grep -c '{text}' /dev/{volume} || true"
        return (await self.lab.shell(self.node, script)).strip() != "0"

    async def change(self, volume: str, mib: int) -> None:
        where = (f"of=/dev/{volume}", "bs=1M", f"count={mib}", "seek=50")
        await self.console("dd", "if=/dev/zero", *where, "oflag=direct", "status=none")

    async def hold(self, volume: str) -> None:
        script = f"sleep 600 </dev/{volume} >/dev/null 2>&1 & echo $! >{_HOLDER}"
        await self.lab.shell(self.node, script)

    async def let_go(self, volume: str) -> None:
        gone = f"while fuser -s /dev/{volume}; do sleep 0.05; done"
        await self.lab.shell(self.node, f"kill $(cat {_HOLDER}); rm {_HOLDER}; {gone}")

    async def mounted_bytes(self, target: str) -> int:
        execution = await self.console("stat", "-f", "-c", "%b %S", target)
        blocks, block_bytes = execution.stdout.split()
        return int(blocks) * int(block_bytes)

    async def reboot(self) -> None:
        await self.lab.shutdown(self.node)
        await self.lab.boot(self.node)

    async def keep_busy(self, target: str, *, busy: bool) -> None:
        begin = f"cd {target}; setsid sleep 300 <&- >&- 2>&- & echo $! > /run/busy"
        end = "kill -9 $(cat /run/busy); while kill -0 $(cat /run/busy) 2>&-; do sleep 0.02; done"
        await self.lab.shell(self.node, begin if busy else end)

    async def make_cgroup(self, name: str) -> None:
        await self.console("mkdir", "-p", f"/sys/fs/cgroup/{name}")

    async def io_max(self, name: str) -> list[str]:
        found = await self.console("cat", f"/sys/fs/cgroup/{name}/io.max")
        return found.stdout.splitlines()

    async def furnish(self, make: Callable[[], Awaitable[None]]) -> None:
        blank = self._blank
        if blank and self._has_shelf:
            await self.lab.shell(self.node, _COPY.format(source=_SHELF, target=_DISK))
        await make()
        if blank and not self._has_shelf:
            await self.lab.shell(self.node, _COPY.format(source=_DISK, target=_SHELF))
            self._has_shelf = True

    async def clean(self) -> None:
        await self.lab.shell(
            self.node, f"DISKS='{' '.join(self.disks)}' HOLDER={_HOLDER}\n{_CLEAN}"
        )
        self._blank = True


class DyingRunner:
    """Dies right after an execution, as a worker does that is killed."""

    def __init__(self, inner: Runner, executions: int) -> None:
        self._inner = inner
        self._left = executions

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        execution = await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        self._left -= 1
        if self._left == 0:
            raise SimulatedCrash(f"after {argv[0]}")
        return execution


async def until_it_ends(
    bench: Bench, step: Callable[[LvmStorage], Awaitable[object]], attempts_max: int = 20
) -> None:
    """Take the step, dying after one, two, three executions and so on, until it comes to its end.

    What one life has done the next one finds done, so this passes through every state there is.
    """
    for executions in range(1, attempts_max):
        runner, keys = DyingRunner(bench.runner, executions), HeldKeys(OLD, NEW)
        storage = LvmStorage(runner, bench.sysfs, node=NODE, keys=keys)
        try:
            await step(storage)
        except SimulatedCrash:
            continue
        return
    pytest.fail("it never ended")
