"""The storage contract on a real kernel: real LVM, real filesystems, real refusals."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from hwbus.lab.client import LabClient
from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.observation import ContentKind
from node_workers.ports import BlockFacts, Execution, Filesystem, Runner, ToolFailedError
from node_workers.simulated.faults import SimulatedCrash
from tests.lab.conftest import LabFactory
from tests.support.attachment_contract import AttachmentContract, attach, detach
from tests.support.clock import NOON
from tests.support.copy_contract import CopyContract
from tests.support.encryption_contract import DEVICE, NEW, OLD, EncryptionContract, locked, use
from tests.support.growth_contract import GrowthContract
from tests.support.hold_contract import HoldContract
from tests.support.instant_contract import InstantContract
from tests.support.keys import HeldKeys
from tests.support.mending_contract import MendingContract
from tests.support.pool_contract import PoolContract
from tests.support.raw_disk_contract import RawDiskContract
from tests.support.snapshot_contract import SnapshotContract, snapshot
from tests.support.storage_bench import (
    CAUSE,
    MIB,
    NODE,
    POOL,
    UID,
    Bench,
    Play,
    Story,
    play_on,
    spec,
)
from tests.support.volume_contract import VolumeContract

pytestmark = pytest.mark.lab

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
_READ_SYSFS = """
import json, pathlib, sys
facts = {}
for name in sys.argv[1:]:
    folder = pathlib.Path("/sys/block", name)
    serial = folder / "serial"
    if folder.is_dir():
        facts[name] = serial.read_text().strip() if serial.exists() else ""
print(json.dumps(facts))
"""
_CLEAN = """
export LVM_SUPPRESS_FD_WARNINGS=1
test ! -f $HOLDER || kill $(cat $HOLDER) 2>/dev/null || true
for target in /mnt/mine /mnt/v1; do umount "$target" 2>/dev/null || true; done
for device in /dev/mapper/hwbus:* /dev/mapper/hwbus-crypt:*; do
    [ ! -b "$device" ] || dmsetup remove "$device"
done
rm -rf /dev/hwbus
for group in $(vgs --noheadings -o vg_name); do
    vgchange -q -an "$group" >/dev/null; vgremove -q -ff -y "$group" >/dev/null
done
wipefs -qaf $DISKS
for disk in $DISKS; do blkdiscard -f -z -l 2097152 "$disk"; blockdev --rereadpt "$disk"; done
for disk in $DISKS; do wipefs -J -n "$disk"; done
"""
_HOLDER = "/run/holder.pid"
_DATA_AT_BYTES = 12 << 20
_DISKS = tuple(f"/dev/ubd{letter}" for letter in "bcde")


class LabBench:
    """A node of a lab, its tools run from outside."""

    disks = _DISKS

    def __init__(self, lab: LabClient, node: str = "n1") -> None:
        self.lab = lab
        self.node = node
        self.runner = self
        self.sysfs = self

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        if not cause.strip():
            raise ValueError("no tool runs without a cause")
        start_s = time.monotonic()
        result = await self.lab.exec(
            *(self.node, "env", "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1", *argv),
            stdin=stdin,
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
        execution = await self.console("python3", "-c", _READ_SYSFS, *names)
        serials = json.loads(execution.stdout)
        return {name: BlockFacts(serial=serial) for name, serial in serials.items()}

    async def console(self, *argv: str) -> Execution:
        execution = await self.run(argv, cause="a person", timeout_s=60)
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
        script = "d = open(f'/dev/{v}', 'r+b', 0); d.seek(at); d.write(w.encode().ljust(512))"
        script += "; os.fsync(d)"
        await self._python(script, volume, data)

    async def read(self, volume: str) -> str:
        script = "d = open(f'/dev/{v}', 'rb', 0); d.seek(at); print(d.read(512).decode())"
        return (await self._python(script, volume)).stdout.strip().strip("\x00")

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

    async def _python(self, script: str, volume: str, data: str = "") -> Execution:
        names = f"import os; v, w, at = {volume!r}, {data!r}, {_DATA_AT_BYTES}; "
        return await self.console("python3", "-c", names + script)

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

    async def clean(self) -> None:
        await self.lab.shell(
            self.node, f"DISKS='{' '.join(self.disks)}' HOLDER={_HOLDER}\n{_CLEAN}"
        )


@pytest.fixture(scope="module")
def machine(lab: LabFactory) -> Iterator[LabBench]:
    machine = LabBench(lab(nodes=2, disks=4, disk_size="1G"))
    yield machine
    asyncio.run(machine.clean())


@pytest.fixture
def bench(machine: LabBench) -> LabBench:
    asyncio.run(machine.clean())
    return machine


class TestStorageOnARealKernel(
    PoolContract,
    VolumeContract,
    HoldContract,
    AttachmentContract,
    SnapshotContract,
    InstantContract,
    EncryptionContract,
    CopyContract,
    GrowthContract,
    RawDiskContract,
    MendingContract,
):
    @pytest.fixture
    def play(self, bench: LabBench) -> Play:
        return play_on(bench)


def test_a_disk_keeps_its_identity_when_it_moves_to_another_machine(bench: LabBench) -> None:
    async def story() -> None:
        (disk,) = await Story(bench).pool(0)
        await bench.console("vgchange", "--activate", "n", POOL)
        moved = await bench.lab.move_disk("n1", "b", "n2", "h")
        there = LabBench(bench.lab, "n2")
        try:
            seen = await observe(there, there, node="n2", cause=CAUSE)
            found = next(one for one in seen.disks if one.path == "/dev/ubdh")
            assert (found.identity, found.stamped) == (disk.disk, True)
            assert found.content.pool_uid == UID
            here = await Story(bench).look()
            assert all(one.identity != disk.disk for one in here.disks)
        finally:
            await bench.lab.move_disk("n2", "h", "n1", "b")
        assert moved is not None

    asyncio.run(story())


def test_half_a_filesystem_is_made_again(bench: LabBench) -> None:
    async def story(on: Story) -> None:
        await on.pool()
        wanted = spec(mib=320, filesystem=Filesystem.XFS)
        await on.volume(wanted)
        # What a mkfs.xfs leaves that died before its last write: its mark of being in progress.
        await on.bench.console(
            *("xfs_db", "-x", "-c", "sb 0", "-c", "write inprogress 1", "/dev/fast/v1")
        )
        assert (await on.storage.ensure_volume(UID, wanted, cause=CAUSE)).changed
        await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")

    play_on(bench)(story)


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


@pytest.mark.slow
def test_a_crash_between_any_two_tools_ends_well_on_a_real_kernel(bench: LabBench) -> None:
    wanted = spec(mib=320, filesystem=Filesystem.XFS)
    grown = spec(mib=400, filesystem=Filesystem.XFS)

    async def story(on: Story) -> None:
        disks = await on.disks(0, 1)
        steps: list[Callable[[LvmStorage], Awaitable[object]]] = [
            lambda storage: storage.ensure_pool(UID, POOL, disks, cause=CAUSE),
            lambda storage: storage.ensure_volume(UID, wanted, cause=CAUSE),
            lambda storage: storage.ensure_volume_size(UID, grown, cause=CAUSE),
        ]
        for step in steps:
            await _until_it_ends(on.bench, step)
        await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")
        assert await on.bench.mounted_bytes("/mnt/v1") > 300 * MIB
        await on.bench.console("umount", "/mnt/v1")
        ends: list[Callable[[LvmStorage], Awaitable[object]]] = [
            lambda storage: storage.ensure_volume_removed(UID, POOL, "uid-v1", "v1", cause=CAUSE),
            lambda storage: storage.ensure_pool_removed(UID, POOL, disks, cause=CAUSE),
        ]
        for step in ends:
            await _until_it_ends(on.bench, step)
        assert [await on.content(index) for index in (0, 1)] == [ContentKind.BLANK] * 2

    play_on(bench)(story)


@pytest.mark.slow
def test_a_crash_between_any_two_tools_of_a_rollback_ends_well_on_a_real_kernel(
    bench: LabBench,
) -> None:
    wanted = snapshot()

    async def story(on: Story) -> None:
        await on.pool()
        await on.volume(spec())
        await on.bench.write("fast/v1", "before")
        await _until_it_ends(on.bench, lambda s: s.ensure_snapshot(UID, wanted, cause=CAUSE))
        await on.bench.write("fast/v1", "after")
        await _until_it_ends(on.bench, lambda s: s.ensure_rolled_back(UID, wanted, cause=CAUSE))
        assert await on.bench.read("fast/v1") == "before"
        assert await on.seen("s1") is None

    play_on(bench)(story)


@pytest.mark.slow
def test_a_crash_between_any_two_tools_of_encryption_ends_well_on_a_real_kernel(
    bench: LabBench,
) -> None:
    wanted, grown = locked(), locked(140)
    rekeyed, dropped = locked(100, NEW), (OLD,)

    async def story(on: Story) -> None:
        await on.pool()
        await _until_it_ends(on.bench, lambda s: s.ensure_volume(UID, wanted, cause=CAUSE))
        assert (await on.seen() or wanted).size_bytes == 116 * MIB
        await _until_it_ends(on.bench, lambda s: s.ensure_attached(UID, use(), cause=CAUSE))
        await on.bench.write(DEVICE, "precious")
        await _until_it_ends(
            on.bench, lambda s: s.ensure_volume_keys(UID, rekeyed, dropped, cause=CAUSE)
        )
        await _until_it_ends(on.bench, lambda s: s.ensure_detached(use(), cause=CAUSE))
        await _until_it_ends(
            on.bench,
            lambda s: s.ensure_volume_size(UID, replace(grown, keys=(OLD, NEW)), cause=CAUSE),
            30,
        )
        await attach(on, use(NEW))
        assert await on.bench.read(DEVICE) == "precious"
        await detach(on, use(NEW))
        await _until_it_ends(
            on.bench, lambda s: s.ensure_volume_removed(UID, POOL, "uid-v1", "v1", cause=CAUSE)
        )
        assert await on.seen() is None

    play_on(bench)(story)


async def _until_it_ends(
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


_IN_THE_NODE = """
import asyncio, os, sys
from datetime import UTC, datetime
from node_workers.inventory import observe
from node_workers.sysfs import RealSysfs
from node_workers.runner import RealRunner, RecordingRunner
from node_workers.uevents import block_uevents

async def main():
    told, now = [], lambda: datetime.fromtimestamp(0, UTC)
    runner = RecordingRunner(RealRunner(now, os.environ), told.append, now)
    async with block_uevents() as events:
        print("listening", flush=True)
        async with asyncio.timeout(30):
            event = await anext(events)
    seen = await observe(runner, RealSysfs(), node="n1", cause="a test")
    print(event.action, event.name, [one.exit_status for one in told])
    print(*(f"{one.path}={one.serial}={one.content.kind}" for one in seen.disks))
asyncio.run(main())
"""


def test_a_worker_inside_the_node_hears_a_disk_come_and_sees_it(bench: LabBench) -> None:
    async def story() -> None:
        heard = asyncio.Event()
        output = bytearray()

        def on_output(_: str, data: bytes) -> None:
            output.extend(data)
            heard.set()

        root = str(Path(__file__).parents[2])
        program = asyncio.create_task(
            bench.lab.exec(
                *("n1", sys.executable, "-c", _IN_THE_NODE),
                env={"PYTHONPATH": root},
                on_output=on_output,
            )
        )
        await asyncio.wait_for(heard.wait(), 30)
        await bench.lab.add_disk("n1", "64M", serial="HOT", letter="k")
        try:
            await program
        finally:
            await bench.lab.remove_disk("n1", "k")
        said = output.decode()
        assert "add ubdk [0, 0, 0]" in said
        assert "/dev/ubdk=HOT=blank" in said
        assert "/dev/ubda=" in said

    asyncio.run(story())
