"""Whoever uses a volume that is given up is dead before what waits is let go, latecomers too."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from node_workers import evict
from node_workers.drbd_roles import EVICT
from node_workers.drbd_tools import DRBDADM
from node_workers.ports import Execution, Filesystem, InUseError
from node_workers.replication import DiskState, Verdict
from tests.support.replication_contract import DEVICE, TARGET, Tale, is_missed
from tests.support.simulated_pair import SimulatedNode, SimulatedPair
from tests.support.storage_bench import CAUSE
from tests.support.virtual_time import run_virtually

MOUNTED: dict[str, Any] = {"filesystem": Filesystem.EXT4, "mount_point": TARGET}
RESUME = (*DRBDADM, "resume-io", "hwbus-v1")


class Latecomers:
    """Has somebody come to use the volume after each of so many looks for users, and at the last.

    As in life the last unmounting does not end while the device stands still.
    """

    def __init__(self, node: SimulatedNode, count: int) -> None:
        self._node = node
        self._left = count
        self._resumed = asyncio.Event()
        self.in_use: list[tuple[bool, bool, bool]] = []

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        if argv[0] == "drbdsetup" or tuple(argv) == RESUME:
            self.in_use.append(self._uses())
        run = self._node.runner.run
        if argv[0] == "umount":
            self._come()
        done = await run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        if tuple(argv) == RESUME:
            self._resumed.set()
        if argv[0] == "umount":
            await self._resumed.wait()
        if tuple(argv[:-1]) == EVICT:
            self._left -= 1
            if self._left >= 0:
                self._come()
        return done

    def _come(self) -> None:
        state = self._node.machine.state
        if self._is_mounted():
            state.mounts = [replace(one, busy=one.target == TARGET) for one in state.mounts]
            for one in state.mapped:
                one.held_open = one.held_open or one.name == "hwbus:v1"

    def _is_mounted(self) -> bool:
        return any(one.target == TARGET for one in self._node.machine.state.mounts)

    def _uses(self) -> tuple[bool, bool, bool]:
        state = self._node.machine.state
        held = any(one.held_open for one in state.mapped)
        return held, self._is_mounted(), DEVICE in state.links


async def given_up(count: int) -> Latecomers:
    """Have n1, frozen, give the volume up that n2 went on with."""
    pair = SimulatedPair()
    on, a = Tale(pair), pair.a
    await pair.begin()
    await on.tied()
    kind = on.leg(filesystem=Filesystem.EXT4)
    await a.storage.ensure_filesystem(kind, on.spec(), cause=CAUSE)
    await on.attach(a, **MOUNTED)
    await a.write_on(DEVICE)
    await a.judge(Verdict.LOST)
    await on.pair.part()
    await on.until(a, lambda state: state.frozen)
    await on.until(pair.b, is_missed)
    late = Latecomers(a, count)
    a.storage = a.storage_on(late)
    try:
        await a.storage.ensure_secondary("v1", "uid-v1", force=True, cause=CAUSE)
        assert (await on.state(a)).disk is DiskState.OUTDATED
    finally:
        await pair.end()
    return late


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_nobody_uses_it_when_what_waits_is_let_go(count: int) -> None:
    late = run_virtually(lambda: given_up(count))
    assert late.in_use == [(False, False, False)] * 2  # detached, and let go


def test_who_keeps_coming_keeps_it_frozen() -> None:
    with pytest.raises(InUseError):
        run_virtually(lambda: given_up(1000))


def test_who_is_about_to_die_is_known_by_what_waits_for_it() -> None:
    nobody = ["Name:\tsh\n", "SigPnd:\t0000000000000000\n", "ShdPnd:\t0000000000000001\n"]
    assert not evict.has_sigkill(nobody)
    assert evict.has_sigkill([*nobody, "SigPnd:\t0000000000000100\n"])
    assert evict.has_sigkill([*nobody, "ShdPnd:\t0000000000000101\n"])
    assert not evict.is_dying(os.getpid())


def test_who_has_a_file_of_a_mount_that_is_no_more_uses_its_device() -> None:
    script = "import os, sys; fd = os.memfd_create('f'); print(os.fstat(fd).st_dev, flush=True)"
    argv = (sys.executable, "-I", "-S", "-c", f"{script}; sys.stdin.read()")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        number = int(program.stdout.readline())
        assert evict.uses(program.pid, f"{os.major(number)}:{os.minor(number)}")
        assert not evict.uses(program.pid, "7:4095")
        program.communicate()
