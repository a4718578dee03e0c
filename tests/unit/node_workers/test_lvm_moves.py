"""Moves off the disks of a pool: only those of that pool's own disks are taken up or ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest
from msgspec.structs import replace

from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.ports import Execution, PoolDisk, Runner, VolumeSpec
from node_workers.simulated.arguments import UnknownToolUseError
from node_workers.simulated.machine import SimulatedMachine
from node_workers.simulated.runner import SimulatedRunner
from tests.support.clock import ManualClock

GIB, MIB = 1 << 30, 1 << 20
UID, NAME, CAUSE = "01pool", "fast", "01command"
SEGMENTS = ("pvs", "--reportformat", "json", "--segments")


class MidMove:
    """A machine on which something is moved from one disk to another, as LVM shows that."""

    def __init__(self, inner: Runner, source: str, target: str) -> None:
        self._inner = inner
        self._disks = (source, target)
        self.ran: list[tuple[str, ...]] = []

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        execution = await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        if argv[0] in {"pvmove", "pvchange"}:
            self.ran.append(tuple(argv))
        if tuple(argv[:4]) != SEGMENTS:
            return execution
        rows = msgspec.json.decode(execution.stdout)["report"][0]["pvseg"]
        uuids = {row["pv_name"]: row["pv_uuid"] for row in rows}
        for path in self._disks:
            row = next(row for row in rows if row["pv_name"] == path)
            moved = {"lv_name": "[pvmove0]", "move_pv_uuid": uuids[self._disks[0]]}
            rows.insert(rows.index(row), {**row, **moved})
        shown = msgspec.json.encode({"report": [{"pvseg": rows}]}).decode()
        return replace(execution, stdout=shown)


Tale = Callable[[LvmStorage, dict[str, PoolDisk], MidMove], Awaitable[None]]


def moving(source: str, target: str, tale: Tale) -> None:
    """Have a pool of sdb, sdc and sdd, a volume on the first of them, and a move underway."""

    async def run() -> None:
        machine = SimulatedMachine.with_disks("n1", [GIB] * 3)
        plain = SimulatedRunner(machine, ManualClock().now)
        seen = (await observe(plain, machine, node="n1", cause=CAUSE)).disks
        named = {
            d.path: PoolDisk(disk=d.identity, path=d.path) for d in seen if d.path != "/dev/sda"
        }
        storage = LvmStorage(plain, machine, node="n1")
        await storage.ensure_pool(UID, NAME, list(named.values()), cause=CAUSE)
        spec = VolumeSpec(uid="u1", name="v1", pool=NAME, size_bytes=100 * MIB)
        await storage.ensure_volume(UID, spec, cause=CAUSE)
        tools = MidMove(plain, source, target)
        await tale(LvmStorage(tools, machine, node="n1"), named, tools)

    asyncio.run(run())


def test_a_move_that_was_begun_goes_on_by_its_disk() -> None:
    async def tale(storage: LvmStorage, disks: dict[str, PoolDisk], tools: MidMove) -> None:
        leaving = [disks["/dev/sdb"]]
        assert not await storage.ensure_pool_disks_drained(UID, NAME, leaving, cause=CAUSE)
        assert tools.ran[-1] == ("pvmove", "--interval", "1", "/dev/sdb")

    moving("/dev/sdb", "/dev/sdc", tale)


@pytest.mark.parametrize("target", ["/dev/sdb", "/dev/sdd"])
def test_a_move_off_another_disk_is_not_taken_up(target: str) -> None:
    async def tale(storage: LvmStorage, disks: dict[str, PoolDisk], tools: MidMove) -> None:
        leaving = [disks["/dev/sdb"]]
        assert not await storage.ensure_pool_disks_drained(UID, NAME, leaving, cause=CAUSE)
        assert tools.ran[-1] == ("pvmove", "--interval", "1", "--name", "v1", "/dev/sdb")

    moving("/dev/sdc", target, tale)


def test_only_the_moves_off_disks_that_stay_after_all_are_ended() -> None:
    async def tale(storage: LvmStorage, disks: dict[str, PoolDisk], tools: MidMove) -> None:
        await storage.ensure_pool_disks_kept(UID, NAME, [disks["/dev/sdd"]], cause=CAUSE)
        await storage.ensure_pool_disks_kept(UID, NAME, [disks["/dev/sdc"]], cause=CAUSE)
        assert not tools.ran
        await storage.ensure_pool_disks_kept(UID, NAME, list(disks.values()), cause=CAUSE)
        assert tools.ran == [("pvmove", "--abort", "/dev/sdb")]

    moving("/dev/sdb", "/dev/sdc", tale)


@pytest.mark.parametrize("argv", [("pvmove", "--abort"), ("pvmove", "--interval", "1")])
def test_the_model_moves_nothing_of_other_people(argv: tuple[str, ...]) -> None:
    runner = SimulatedRunner(SimulatedMachine.with_disks("n1", [GIB]), ManualClock().now)
    with pytest.raises(UnknownToolUseError, match="pvmove"):
        asyncio.run(runner.run(argv, cause=CAUSE, timeout_s=1.0))
