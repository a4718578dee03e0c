"""The contract of replication on two real kernels: real DRBD, real power loss, real partitions."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hwbus.lab.client import LabClient
from hwbus.lab.uml.errors import LabError
from node_workers.drbd_legs import Replicating
from node_workers.drbd_tools import PUT
from node_workers.fencing import Promises, handler
from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.ports import Execution, NotThereError, PoolDisk, Runner, SnapshotSpec
from node_workers.replication import DiskState, Member, Role, Start, Verdict
from node_workers.sealed import new_keys
from node_workers.simulated.faults import SimulatedCrash
from tests.lab.conftest import LabFactory
from tests.support.encrypted_replication_contract import EncryptedReplicationContract
from tests.support.encryption_contract import NEW, OLD
from tests.support.keys import HeldKeys
from tests.support.lab_bench import LabBench
from tests.support.replication_contract import (
    DEVICE,
    SIZE,
    Machine,
    PlayPair,
    ReplicationContract,
    Tale,
    members_of,
    reason,
)
from tests.support.storage_bench import CAUSE, MIB, POOL

pytestmark = pytest.mark.lab

_ROOT = str(Path(__file__).parents[2])
_SOCKET = "/run/hwbus/fence.sock"
# The worker's ear in the node; what the log says there is in a file.
_SERVE = f"""
import asyncio, pathlib
from node_workers.fencing import FenceServer, Promises
from node_workers.replication import Verdict

async def judge(volume, uid, peer):
    said = pathlib.Path("/run/hwbus/verdict")
    return Verdict(said.read_text().strip()) if said.exists() else Verdict.UNKNOWN

async def main():
    server = FenceServer(pathlib.Path("{_SOCKET}"), judge, Promises())
    async with server.serving():
        print("serving", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
# Numbers in blocks of 512 bytes, each forced to the disk, and told of only after that.
_WRITE = """
import mmap, os, sys, time
block = mmap.mmap(-1, 4096)
device = os.open(sys.argv[1], os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
number = 0
while True:
    number += 1
    block[:16] = b"%016d" % number
    os.pwritev(device, [block], 4096 * (number % 1024 + 2048))
    print(number, flush=True)
    time.sleep(0.02)
"""
_FIND = """
import os, sys
device = os.open(sys.argv[1], os.O_RDONLY)
blocks = (os.pread(device, 16, 4096 * (index + 2048)) for index in range(1024))
# Where nothing was written yet an encrypted device has anything.
print(max(int(block) if block.isdigit() else 0 for block in blocks))
"""
_CLEAN = """
modprobe drbd
rm -f /run/hwbus/verdict
resources=$(drbdsetup events2 --now | sed -n 's/^exists resource name:\\([^ ]*\\).*/\\1/p')
# A test that failed may have left it frozen: whoever writes to it could not even be killed.
for name in $resources; do drbdadm resume-io $name 2>/dev/null || true; done
umount -l /mnt/v1 2>/dev/null || true
[ ! -e /run/writer ] || kill -9 $(cat /run/writer) 2>/dev/null || true
for name in hwbus:v1 hwbus-crypt:v1 hwbus:v1.backing; do
    [ ! -e /dev/mapper/$name ] || dmsetup remove --retry $name || true
done
for name in $resources; do drbdadm down $name; done
for device in /dev/mapper/hwbus:*; do [ ! -b "$device" ] || dmsetup remove "$device"; done
rm -rf /dev/hwbus /etc/drbd.d/hwbus-* /run/hwbus/split /run/hwbus/verify
! vgs fast || lvremove -qq -y fast
"""


class LabMachine:
    """A node with a pool, its storage run from outside."""

    def __init__(self, lab: LabClient, node: str, disk: str) -> None:
        self.node = node
        self.pool_uid = f"uid-pool-{node}"
        self.bench = LabBench(lab, node)
        self.disk = disk
        self.keys = new_keys()
        self.held_keys = HeldKeys(OLD, NEW)
        self.held = self.held_keys.held
        self.verdict = Verdict.UNKNOWN
        self.storage = self.storage_on(self.bench)
        self._writer: asyncio.Task[object] | None = None
        self._ear: asyncio.Task[object] | None = None
        self._said = b""

    def storage_on(self, runner: Runner) -> LvmStorage:
        replicating = Replicating(
            secret=self.keys.secret,
            judge=self._judge,
            handler=handler(Path(_SOCKET)),
            promises=Promises(),
        )
        return LvmStorage(
            runner,
            self.bench,
            node=self.node,
            keys=self.held_keys,
            replicating=replicating,
        )

    async def _judge(self, volume: str, uid: str, peer: str) -> Verdict:
        del volume, uid, peer
        return self.verdict

    async def shell(self, script: str) -> str:
        return await self.bench.lab.shell(self.node, script)

    async def judge(self, verdict: Verdict) -> None:
        self.verdict = verdict
        await self.shell(f"mkdir -p /run/hwbus; echo {verdict.value} >/run/hwbus/verdict")

    async def start_over(self) -> None:
        await self.clean()
        await self.begin()

    async def begin(self) -> None:
        await self.shell("mkdir -p /run/hwbus; modprobe drbd")
        serving = asyncio.Event()
        self._ear = asyncio.create_task(
            self.bench.lab.exec(
                *(self.node, sys.executable, "-c", _SERVE),
                env={"PYTHONPATH": _ROOT},
                timeout_s=600,
                on_output=lambda *_: serving.set(),
            )
        )
        await asyncio.wait_for(serving.wait(), 30)

    async def make_pool(self) -> None:
        seen = await observe(self.bench, self.bench, node=self.node, cause=CAUSE)
        found = next(one for one in seen.disks if one.path == self.disk)
        disks = [PoolDisk(disk=found.identity, path=found.path)]
        await self.storage.ensure_pool(self.pool_uid, POOL, disks, cause=CAUSE)

    async def end(self) -> None:
        for task in (self._writer, self._ear):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, LabError, TimeoutError):
                    await task
        self._writer = self._ear = None

    async def write_on(self, path: str) -> None:
        self._said = b""

        def on_output(_: str, data: bytes) -> None:
            self._said += data

        script = f"echo $$ >/run/writer; exec {sys.executable} -I -S -c '{_WRITE}' {path}"
        self._writer = asyncio.create_task(
            self.bench.lab.exec(
                *(self.node, "sh", "-c", script), timeout_s=600, check=False, on_output=on_output
            )
        )
        while not self.written():
            assert not self._writer.done(), self._writer
            await asyncio.sleep(0.05)

    def written(self) -> int:
        lines = self._said.split(b"\n")[:-1]
        return int(lines[-1]) if lines and lines[-1].isdigit() else 0

    async def copied_bytes(self) -> int:
        said = await self.shell("dmesg | sed -n 's/.*will sync \\([0-9]*\\) KB.*/\\1/p' | tail -n1")
        return int(said or 0) << 10

    async def stop_writing(self) -> None:
        assert self._writer is not None
        assert not self._writer.done(), self._said[-300:]
        await self.shell("kill -9 $(cat /run/writer)")
        await self._writer

    async def found(self, path: str) -> int:
        return int(await self.shell(f"python3 -c '{_FIND}' {path}"))

    async def sum(self, mib: int) -> str:
        read = f"dd if=/dev/{POOL}/v1 bs=1M count={mib} iflag=direct status=none"
        return await self.shell(f"{read} | md5sum")

    async def spoil(self) -> None:
        await self.shell(
            f"dd if=/dev/urandom of=/dev/{POOL}/v1 bs=4k count=1 seek=4096 oflag=direct"
        )

    async def finds(self, text: str) -> bool:
        read = f"sync; dd if=/dev/{POOL}/v1 bs=1M iflag=direct status=none"
        return (await self.shell(f"{read} | grep -c '{text}' || true")).strip() != "0"

    async def blank(self) -> None:
        await self.shell(f"blkdiscard --zeroout /dev/{POOL}/v1")

    def start_anew(self) -> None:
        self.storage = self.storage_on(self.bench)

    async def power_off(self) -> None:
        await self.bench.lab.kill(self.node)
        await self.end()

    async def power_on(self) -> None:
        await self.bench.lab.boot(self.node)
        await self.begin()

    async def clean(self) -> None:
        await self.shell(_CLEAN)


class LabPair:
    """n1 and n2 of a lab."""

    def __init__(self, lab: LabClient) -> None:
        self.lab = lab
        self.port, self.ties = 7790, 1
        self.a, self.b = LabMachine(lab, "n1", "/dev/ubdb"), LabMachine(lab, "n2", "/dev/ubdb")

    def members(self) -> tuple[Member, ...]:
        keys = (self.a.keys.public, self.b.keys.public)
        return members_of(keys, self.port, self.ties)

    def move(self) -> None:
        self.port += 1

    def tie_anew(self) -> None:
        self.ties += 1

    async def part(self) -> None:
        await self.lab.set_link("n1", "storage", connected=False)

    async def join(self) -> None:
        await self.lab.set_link("n1", "storage", connected=True)

    async def begin(self) -> None:
        await self.join()
        await asyncio.gather(*(machine.start_over() for machine in (self.a, self.b)))

    async def end(self) -> None:
        await asyncio.gather(*(machine.end() for machine in (self.a, self.b)))

    async def make_pools(self) -> None:
        async def make(machine: LabMachine) -> None:
            await machine.clean()
            await machine.bench.clean()
            await machine.make_pool()

        await asyncio.gather(make(self.a), make(self.b))

    async def take_pools(self) -> None:
        async def take(machine: LabMachine) -> None:
            await machine.clean()
            await machine.shell(f"vgremove -qq -y {POOL}; wipefs -qaf {machine.disk}")

        await asyncio.gather(take(self.a), take(self.b))


@pytest.fixture(scope="module")
def machines(lab: LabFactory) -> Iterator[LabClient]:
    found = lab(nodes=2, disks=4, disk_size="1G")
    asyncio.run(LabPair(found).make_pools())
    yield found
    asyncio.run(LabPair(found).take_pools())


@pytest.fixture
def pair(machines: LabClient) -> PlayPair:
    def play(tale: Callable[[Tale], Awaitable[None]]) -> None:
        async def act() -> None:
            pair = LabPair(machines)
            await pair.begin()
            try:
                await tale(Tale(pair))
            finally:
                await pair.end()

        asyncio.run(act())

    return play


class TestReplicationOnRealKernels(ReplicationContract, EncryptedReplicationContract):
    pass


class DyingAfter:
    """Dies once right after a tool of which all these words are among its own."""

    def __init__(self, inner: Runner, words: Sequence[str]) -> None:
        self._inner = inner
        self._words = set(words)
        self.died = False

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        execution = await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        if not self.died and self._words <= set(argv):
            self.died = True
            raise SimulatedCrash(f"after {argv}")
        return execution


_TOOLS = (
    ("dmsetup", "create"),
    ("create-md",),
    ("restore-md",),
    PUT,
    ("new-resource",),
    ("new-minor",),
    ("attach",),
    ("primary",),
    ("dmsetup", "load"),
    ("dmsetup", "resume"),
    ("adjust",),
)


@pytest.mark.slow
def test_a_crash_after_any_tool_of_a_conversion_under_way_ends_well(pair: PlayPair) -> None:
    async def tale(on: Tale) -> None:
        machine = on.a
        assert isinstance(machine, LabMachine)
        await machine.storage.ensure_volume(machine.pool_uid, on.plain(), cause=CAUSE)
        await on.attach(machine, replication=None)
        await machine.write_on(DEVICE)
        whole = machine.storage
        for words in _TOOLS:
            dying = DyingAfter(machine.bench, words)
            machine.storage = machine.storage_on(dying)
            with pytest.raises(SimulatedCrash):
                await on.tie(machine)
        machine.storage = whole
        state = await on.tie(machine, may=False)
        assert (state.role, state.disk) == (Role.PRIMARY, DiskState.UP_TO_DATE)
        await on.goes_on(machine)
        await machine.stop_writing()
        assert await machine.found(DEVICE) >= machine.written()

    pair(tale)


@pytest.mark.slow
def test_the_file_of_a_leg_that_was_set_apart_does_not_come_back_when_power_is_lost(
    pair: PlayPair,
) -> None:
    async def tale(on: Tale) -> None:
        machine = on.a
        assert isinstance(machine, LabMachine)
        await machine.storage.ensure_volume(machine.pool_uid, on.plain(), cause=CAUSE)
        await on.tie(machine)
        await machine.judge(Verdict.GRANTED)
        await machine.shell("sync /etc/drbd.d")
        await machine.storage.ensure_plain(machine.pool_uid, on.leg(), uid="uid-v1", cause=CAUSE)
        await machine.power_off()
        await machine.power_on()
        assert await machine.shell("ls /etc/drbd.d") == "global_common.conf\n"

    pair(tale)


_SNAPSHOT = SnapshotSpec(
    uid="uid-s1",
    name="s1",
    pool=POOL,
    size_bytes=8 * MIB,
    volume="v1",
    volume_uid="uid-v1",
    thin=False,
)
_BEFORE_THE_MERGE: tuple[Sequence[str], ...] = (
    PUT,
    ("dmsetup", "remove"),
    ("lvchange", "--addtag"),
)
_OF_THE_NEW_TIE: tuple[Sequence[str], ...] = (("wipe-md",), ("create-md",), ("restore-md",), PUT)


@pytest.mark.slow
def test_a_leg_that_was_rolled_back_never_runs_as_what_it_was_whatever_dies(pair: PlayPair) -> None:
    """Its metadata are of then: by them it and its peer could look alike, or it be the older."""

    async def tale(on: Tale) -> None:
        a, b = on.a, on.b
        assert isinstance(a, LabMachine)
        await on.tied()
        await a.storage.ensure_snapshot(a.pool_uid, _SNAPSHOT, cause=CAUSE)
        then = await a.sum(SIZE // MIB)
        await _write_once(on, a)
        now = await a.sum(SIZE // MIB)
        assert now != then
        whole = a.storage

        async def roll_back() -> None:
            await a.storage.ensure_metadata_spent("v1", "uid-v1", cause=CAUSE)
            await a.storage.ensure_rolled_back(a.pool_uid, _SNAPSHOT, cause=CAUSE)

        async def dies(words: Sequence[str], work: Callable[[], Awaitable[object]]) -> None:
            a.storage = a.storage_on(DyingAfter(a.bench, words))
            with pytest.raises(SimulatedCrash):
                await work()
            a.storage = whole

        for words in _BEFORE_THE_MERGE:
            await dies(words, roll_back)
            assert await reason(on.tie(a, may=False), NotThereError) == "metadata-missing"
        # It was given up in time: all is as it was.
        await a.storage.ensure_snapshot_kept(a.pool_uid, _SNAPSHOT, cause=CAUSE)
        await a.storage.ensure_metadata_valid("v1", "uid-v1", cause=CAUSE)
        await on.tie(a, may=False)
        await on.in_step()
        assert (await a.sum(SIZE // MIB), await b.sum(SIZE // MIB)) == (now, now)
        await dies(("lvconvert",), roll_back)
        assert await reason(on.tie(a, may=False), NotThereError) == "metadata-missing"
        await roll_back()
        assert await b.sum(SIZE // MIB) == now
        on.pair.tie_anew()
        for words in _OF_THE_NEW_TIE:
            await dies(words, lambda: on.tie(a, Start.ROLLED_BACK))
        await on.tie(a, Start.ROLLED_BACK)
        await on.tie(b, Start.NOTHING)
        await on.tie(a, may=False)
        await on.in_step()
        assert (await a.sum(SIZE // MIB), await b.sum(SIZE // MIB)) == (then, then)

    pair(tale)


async def _write_once(on: Tale, machine: Machine) -> None:
    await on.attach(machine)
    await machine.shell("dd if=/dev/urandom of=/dev/hwbus/v1 bs=1M count=4 oflag=direct 2>&1")
    await on.detach(machine)
