"""Two simulated machines with DRBD and the network between them, and a person at each."""

import asyncio
import contextlib
import itertools
import shlex
from datetime import UTC, datetime, timedelta

from node_workers.drbd_legs import Replicating
from node_workers.drbd_tools import DRBDADM
from node_workers.fencing import Promises, Question
from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.ports import PoolDisk, Runner
from node_workers.replication import Member, Verdict
from node_workers.sealed import new_keys
from node_workers.simulated import drbd_blocks
from node_workers.simulated.devices import Device, Devices
from node_workers.simulated.drbd_wire import Switch
from node_workers.simulated.machine import SimulatedMachine
from node_workers.simulated.model import Content, Mapped
from node_workers.simulated.runner import SimulatedRunner
from tests.support.encryption_contract import NEW, OLD
from tests.support.keys import HeldKeys
from tests.support.replication_contract import members_of
from tests.support.storage_bench import CAUSE, MIB, POOL

_EPOCH = datetime(2026, 11, 27, tzinfo=UTC)
_WRITES_EVERY_S = 0.02
_FIRST_BLOCK, _BLOCKS, _SPOILT_BLOCK = 2048, 1024, 4096
_LEG = f"{POOL}/v1"


def _now() -> datetime:
    return _EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def switch() -> Switch:
    """Return a network whose time is that of the loop that runs."""
    return Switch(lambda: asyncio.get_running_loop().time())


class SimulatedNode:
    """One of the two, as ``replication_contract.Machine`` wants it."""

    def __init__(self, node: str, wire: Switch) -> None:
        self.node = node
        self.pool_uid = f"uid-pool-{node}"
        self.wire = wire
        self.machine = SimulatedMachine.with_disks(node, [1 << 30], wire)
        wire.plug(self.machine.state)
        self.runner = SimulatedRunner(self.machine, _now)
        self.keys = new_keys()
        self.held_keys = HeldKeys(OLD, NEW)
        self.held = self.held_keys.held
        self.verdict = Verdict.UNKNOWN
        self.asked: list[str] = []
        self.promises = Promises()
        self.storage = self.storage_on(self.runner)
        self._kernel: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._written = 0

    def storage_on(self, runner: Runner) -> LvmStorage:
        replicating = Replicating(
            secret=self.keys.secret,
            judge=self._judge,
            handler=("python", "fence_peer.py", "fence.sock"),
            promises=self.promises,
        )
        return LvmStorage(
            runner, self.machine, node=self.node, keys=self.held_keys, replicating=replicating
        )

    async def _judge(self, volume: str, uid: str, peer: str) -> Verdict:
        if self.promises.hold(Question(volume=volume, uid=uid, peer=peer)):
            return Verdict.GRANTED
        self.asked.append(peer)
        return self.verdict

    async def judge(self, verdict: Verdict) -> None:
        self.verdict = verdict

    def begin(self) -> None:
        self._kernel = asyncio.create_task(self.machine.handler.serve(self._judge))

    async def end(self) -> None:
        for task in (self._writer, self._kernel):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._writer = self._kernel = None

    async def make_pool(self) -> None:
        seen = await observe(self.runner, self.machine, node=self.node, cause=CAUSE)
        found = next(one for one in seen.disks if one.path == "/dev/sdb")
        disks = [PoolDisk(disk=found.identity, path=found.path)]
        await self.storage.ensure_pool(self.pool_uid, POOL, disks, cause=CAUSE)

    async def shell(self, script: str) -> str:
        """Do what a person does by these lines; there is no shell here to read them."""
        return "".join([self._line(line.strip()) for line in script.split(";")])

    def _line(self, line: str) -> str:
        match shlex.split(line):
            case ["echo", said, "|", "dd", target, *_]:
                self._put(target.removeprefix("of="), said)
            case ["echo" | "yes", said, *_, target]:
                self._put(target.removeprefix(">"), said)
            case ["cat" | "md5sum" | "head", *_, target]:
                return f"{self._content(target.lstrip('<')).data}\n"
            case ["stat", *_, target]:
                return f"{self._content(target).size_bytes // 4096} * 4096\n"
            case ["blockdev", _, path]:
                return f"{self._device(path).size_bytes}\n"
            case ["drbdadm", *words]:
                self._must("sh", *DRBDADM[1:], *words)
            case ["mkfs.ext4", quiet, path, _]:
                self._must("mkfs.ext4", quiet, "-U", "a person's", path)
            case ["wipefs", "-qa", path]:
                self._must("wipefs", "-a", path)
            case ["sync", _]:
                pass
            case words:
                raise AssertionError(f"nobody was taught {words}")
        return ""

    async def write_on(self, path: str) -> None:
        self._written = 0
        self._mapped(path).held_open = True
        self._writer = asyncio.create_task(self._write(path))
        while not self._written:
            assert not self._writer.done(), self._writer
            await asyncio.sleep(0.05)

    async def _write(self, path: str) -> None:
        for number in itertools.count(1):
            if not await self._write_one(path, number):
                return  # killed
            self._written = number
            await asyncio.sleep(_WRITES_EVERY_S)

    async def _write_one(self, path: str, number: int) -> bool:
        """Write and wait until it is safe; returns whether it is."""
        if not self._is_held(path):
            return False
        with self.machine.kernel.at_work():
            content = self._content(path)
            content.blocks[_FIRST_BLOCK + number % _BLOCKS] = str(number)
            Devices(self.machine.state).put(self._device(path), content)
        waiting = self.machine.kernel.waiting
        while waiting and not self.machine.kernel.acknowledged(waiting):
            await asyncio.sleep(_WRITES_EVERY_S)
            if not self._is_held(path):
                return False
        return self._is_held(path)

    def written(self) -> int:
        return self._written

    async def stop_writing(self) -> None:
        assert self._writer is not None
        assert not self._writer.done()
        self._writer.cancel()
        for mapped in self.machine.state.mapped:
            mapped.held_open = False

    async def found(self, path: str) -> int:
        blocks = self._content(path).blocks
        return max((int(text) for text in blocks.values() if text.isdigit()), default=0)

    async def copied_bytes(self) -> int:
        return max((leg.last_sync_bytes for leg in self.machine.state.legs), default=0)

    async def sum(self, mib: int) -> str:
        return drbd_blocks.digest(self.machine.header(_LEG), mib * MIB)

    async def spoil(self) -> None:
        with self.machine.kernel.at_work(past=True):
            texts = self.machine.header(_LEG).blocks
            texts[_SPOILT_BLOCK] = f"spoilt {texts.get(_SPOILT_BLOCK, '')}"

    async def finds(self, text: str) -> bool:
        return self.machine.header(_LEG).data == text

    async def blank(self) -> None:
        self._must("blkdiscard", "--zeroout", f"/dev/{_LEG}")

    def lose_disk(self) -> None:
        """Have the leg go without its disk, as after an I/O error."""
        (leg,) = self.machine.state.legs
        self._must("drbdsetup", "detach", str(leg.minor), "--force")

    def start_anew(self) -> None:
        self.storage = self.storage_on(self.runner)

    async def power_off(self) -> None:
        self.wire.power(self.node, on=False)
        await self.end()

    async def power_on(self) -> None:
        self.machine.reboot()
        self.wire.power(self.node, on=True)
        self.begin()

    def _must(self, *argv: str) -> None:
        status, _, said = self.machine.execute(argv)
        assert status == 0, (argv, said)

    def _put(self, where: str, said: str) -> None:
        with self.machine.kernel.at_work():
            self._content(where).data = said

    def _content(self, where: str) -> Content:
        """Return what lies on a device, or on the one that is mounted there, and its one file."""
        return Devices(self.machine.state).content(self._device(where))

    def _device(self, where: str) -> Device:
        state = self.machine.state
        for mount in state.mounts:
            if where == mount.target or (
                where.startswith(f"{mount.target}/") and mount.target != "/"
            ):
                mapped = next(one for one in state.mapped if one.uuid == mount.device)
                where = f"/dev/mapper/{mapped.name}"
        found = Devices(state).find(where)
        assert found is not None, where
        return found

    def _mapped(self, path: str) -> Mapped:
        name = self._device(path).name
        return next(one for one in self.machine.state.mapped if one.name == name)

    def _is_held(self, path: str) -> bool:
        found = Devices(self.machine.state).find(path)
        held = [one.name for one in self.machine.state.mapped if one.held_open]
        return found is not None and found.name in held


class SimulatedPair:
    """n1 and n2."""

    def __init__(self) -> None:
        self.wire = switch()
        self.port, self.ties = 7790, 1
        self.a, self.b = SimulatedNode("n1", self.wire), SimulatedNode("n2", self.wire)

    def members(self) -> tuple[Member, ...]:
        keys = (self.a.keys.public, self.b.keys.public)
        return members_of(keys, self.port, self.ties)

    def move(self) -> None:
        self.port += 1

    def tie_anew(self) -> None:
        self.ties += 1

    async def part(self) -> None:
        self.wire.cut("n1", "n2")

    async def join(self) -> None:
        self.wire.mend("n1", "n2")

    async def begin(self) -> None:
        for machine in (self.a, self.b):
            await machine.make_pool()
            machine.begin()

    async def end(self) -> None:
        for machine in (self.a, self.b):
            await machine.end()
