"""Crash after every execution on a replicated volume, start anew: the end is the same."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest

from node_workers.ports import (
    Execution,
    Filesystem,
    NotThereError,
    Runner,
    SnapshotSpec,
    StorageError,
)
from node_workers.replication import Start, Verdict
from node_workers.simulated import drbd_blocks
from node_workers.simulated.drbd_model import BLOCK_BYTES
from node_workers.simulated.faults import SimulatedCrash
from node_workers.simulated.model import State
from tests.support.encryption_contract import OLD
from tests.support.replication_contract import SIZE, TARGET, Tale, is_missed
from tests.support.simulated_pair import SimulatedNode, SimulatedPair
from tests.support.storage_bench import CAUSE, MIB, POOL
from tests.support.virtual_time import run_virtually

Step = Callable[[Tale], Awaitable[object]]
EXT4: dict[str, Any] = {"filesystem": Filesystem.EXT4}
MOUNTED: dict[str, Any] = {**EXT4, "mount_point": TARGET}
_SETTLED_S = 20.0
LARGER = SIZE + 8 * MIB


class Fuse:
    """Lets so many executions through, on both machines together, and then dies. 0: never."""

    def __init__(self, count: int = 0) -> None:
        self.count = count
        self.executions = 0

    def runner(self, inner: Runner) -> Runner:
        return _Fused(inner, self)


class _Fused:
    def __init__(self, inner: Runner, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        fuse = self._fuse
        if fuse.count and fuse.executions >= fuse.count:
            raise SimulatedCrash("this worker is dead")
        execution = await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        fuse.executions += 1
        if fuse.executions == fuse.count:
            raise SimulatedCrash(f"after {argv}")
        return execution


async def new_legs(on: Tale) -> None:
    for one in (on.a, on.b):
        await one.storage.ensure_volume(one.pool_uid, on.leg(), cause=CAUSE)


async def tied(on: Tale) -> None:
    await on.tie(on.a)
    await on.tie(on.b)
    await on.in_step()


async def formatted(on: Tale) -> None:
    await on.a.storage.ensure_filesystem(on.leg(**EXT4), on.spec(), cause=CAUSE)


async def in_use(on: Tale) -> None:
    await on.attach(on.a, **MOUNTED)


async def precious(on: Tale) -> None:
    await on.a.shell(f"echo precious > {TARGET}/file")


async def let_go(on: Tale) -> None:
    await on.detach(on.a, **MOUNTED)


async def handed_over(on: Tale) -> None:
    await on.detach(on.a, **MOUNTED)
    await on.attach(on.b, **MOUNTED)


async def plain_in_use(on: Tale) -> None:
    await on.a.storage.ensure_volume(on.a.pool_uid, on.plain(**EXT4), cause=CAUSE)
    await on.attach(on.a, replication=None, **MOUNTED)
    await precious(on)


async def converted(on: Tale) -> None:
    await on.tie(on.a)


async def filled(on: Tale) -> None:
    await on.b.storage.ensure_volume(on.b.pool_uid, on.leg(), cause=CAUSE)
    await on.tie(on.b, Start.NOTHING)
    await on.in_step()


async def plain_again(on: Tale) -> None:
    await on.a.storage.ensure_plain(on.a.pool_uid, on.leg(), uid="uid-v1", cause=CAUSE)


async def taken_away(on: Tale) -> None:
    b = on.b
    await b.storage.ensure_replica_down("v1", "uid-v1", force=False, cause=CAUSE)
    await b.storage.ensure_volume_removed(b.pool_uid, POOL, "uid-v1", "v1", cause=CAUSE)


async def down(on: Tale) -> None:
    await on.b.storage.ensure_replica_down("v1", "uid-v1", force=False, cause=CAUSE)


async def tied_anew(on: Tale) -> None:
    await on.tie(on.a)
    await on.tie(on.b, Start.NOTHING)
    await on.in_step()


async def another_tie(on: Tale) -> None:
    await plain_again(on)
    on.pair.tie_anew()


async def grown(on: Tale) -> None:
    leg, spec = on.leg(LARGER, **EXT4), on.spec(LARGER)
    for one in (on.a, on.b, on.a):
        await one.storage.ensure_replicated_size(one.pool_uid, leg, spec, cause=CAUSE)


async def frozen_and_lost(on: Tale) -> None:
    await on.a.judge(Verdict.LOST)
    await on.b.judge(Verdict.GRANTED)
    await on.pair.part()
    await on.until(on.a, lambda state: state.frozen)
    await on.until(on.b, is_missed)


async def failed_over(on: Tale) -> None:
    await on.attach(on.b, **MOUNTED)
    await on.a.storage.ensure_secondary("v1", "uid-v1", force=True, cause=CAUSE)
    if not await on.a.storage.replication_states(cause=CAUSE):
        await on.tie(on.a, may=False)  # as whoever watches over legs has them up again


async def joined(on: Tale) -> None:
    await on.pair.join()


async def split(on: Tale) -> None:
    await on.pair.part()
    for machine in (on.a, on.b):
        await machine.judge(Verdict.GRANTED)
        await on.until(machine, is_missed)
        await on.attach(machine)
        await on.detach(machine)
    await on.pair.join()
    await on.until(on.a, lambda state: state.split)


async def settled(on: Tale) -> None:
    await on.b.storage.settle_split(on.spec(), loses=True, cause=CAUSE)
    await on.a.storage.settle_split(on.spec(), loses=False, cause=CAUSE)


async def spoilt(on: Tale) -> None:
    await on.b.spoil()


async def compared(on: Tale) -> None:
    assert await on.compared(on.a, "run") == BLOCK_BYTES


async def evened_out(on: Tale) -> None:
    await on.evened_out(on.a)


IN_USE: list[Step] = [new_legs, tied, formatted, in_use, precious]
CASES: dict[str, tuple[list[Step], Step]] = {
    "tie two new legs": ([new_legs], tied),
    "make a filesystem": ([new_legs, tied], formatted),
    "attach": ([new_legs, tied, formatted], in_use),
    "detach": (IN_USE, let_go),
    "hand over": (IN_USE, handed_over),
    "tie a volume in use": ([plain_in_use], converted),
    "fill a new replica": ([plain_in_use, converted], filled),
    "untie a volume in use": (IN_USE, plain_again),
    "take a replica away": (IN_USE, taken_away),
    "tie what another tie left": ([*IN_USE, down, another_tie], tied_anew),
    "grow in use": (IN_USE, grown),
    "fail over from one that stands still": ([*IN_USE, frozen_and_lost], failed_over),
    "settle a split": ([new_legs, tied, split], settled),
    "compare": ([new_legs, tied, spoilt], compared),
    "even out": ([new_legs, tied, spoilt, compared], evened_out),
}


class Run:
    """A pair on which what comes before was done; workers are as fresh as after a crash."""

    def __init__(self, name: str) -> None:
        self.before, self.step = CASES[name]
        self.pair = SimulatedPair()
        self.on = Tale(self.pair)

    async def begin(self) -> None:
        await self.pair.begin()
        for step in self.before:
            await step(self.on)

    async def act(self, fuse: Fuse) -> None:
        for node in self._nodes():
            node.storage = node.storage_on(fuse.runner(node.runner))
        await self.step(self.on)

    async def end(self) -> object:
        await joined(self.on)
        await asyncio.sleep(_SETTLED_S)  # legs meet, and fill each other, by themselves
        for node in self._nodes():
            await node.storage.replication_states(cause=CAUSE)  # as is done every half minute
        await self.pair.end()
        return [_left(node.machine.state) for node in self._nodes()]

    def _nodes(self) -> tuple[SimulatedNode, SimulatedNode]:
        return self.pair.a, self.pair.b


def _left(state: State) -> object:
    legs: list[object] = [
        (leg.name, leg.primary, leg.disk, leg.peer_disk, leg.sectors) for leg in state.legs
    ]
    legs += [(leg.name, leg.connection, leg.replication, leg.suspended) for leg in state.legs]
    numbers = {one.uuid: one.name for one in state.mapped}
    numbers |= {lv.uuid: lv.name for vg in state.vgs for lv in vg.lvs}
    mapped = sorted(
        (one.name, numbers.get(one.below, one.below), one.sectors, one.suspended)
        for one in state.mapped
    )
    lvs = [(lv.name, lv.extents, lv.tags) for vg in state.vgs for lv in vg.lvs]
    data = {
        at: (drbd_blocks.flat(one), {end: md.bits for end, md in one.metadata.items()})
        for at, one in state.contents.items()
        if drbd_blocks.flat(one) or one.metadata
    }
    return legs, mapped, lvs, data, state.mounts, state.links, sorted(state.files)


def undisturbed(name: str) -> tuple[object, int]:
    async def live() -> tuple[object, int]:
        run, fuse = Run(name), Fuse()
        await run.begin()
        await run.act(fuse)
        return await run.end(), fuse.executions

    return run_virtually(live)


def disturbed(name: str, *crashes: int) -> object:
    async def live() -> object:
        run = Run(name)
        await run.begin()
        for count in crashes:
            try:
                await run.act(Fuse(count))
            except SimulatedCrash:
                continue
        await run.act(Fuse())
        return await run.end()

    return run_virtually(live)


@pytest.mark.parametrize("name", CASES)
def test_a_crash_after_any_execution_changes_nothing_in_the_end(name: str) -> None:
    expected, executions = undisturbed(name)
    assert executions > 0
    for count in range(1, executions + 1):
        try:
            end = disturbed(name, count)
        except StorageError as error:
            pytest.fail(f"crashed after execution {count} of {executions}, then: {error!r}")
        assert end == expected, f"crashed after execution {count} of {executions}"


# What is begun, and what is wanted instead once whoever began it is dead.
REVERSED: dict[str, tuple[list[Step], Step, Step]] = {
    "tied, and not after all": ([plain_in_use], converted, plain_again),
    "untied, and not after all": ([plain_in_use, converted], plain_again, converted),
}
SNAPSHOT = SnapshotSpec(
    uid="uid-s1", name="s1", pool=POOL, size_bytes=40 * MIB, volume="v1", volume_uid="uid-v1"
)


async def called_off(on: Tale, node: SimulatedNode, wish: Step) -> None:
    """Have *wish* instead, which may come too late, and then a snapshot."""
    try:
        await wish(on)
    except NotThereError as error:
        if error.reason != "metadata-missing":
            raise
        await plain_again(on)  # it is seen through
    state = node.machine.state
    assert [one.name for one in state.mapped if one.loaded_below] == []
    wanted = "drbd:100" if state.legs else node.machine.volume(f"{POOL}/v1").uuid
    assert lies_on(state) == wanted
    await node.storage.ensure_snapshots([(node.pool_uid, SNAPSHOT)], may_take=True, cause=CAUSE)
    assert lies_on(state) == wanted


def lies_on(state: State) -> str:
    """Return what the device of the consumer lies on, whatever is mapped in between."""
    mapped = {one.uuid: one for one in state.mapped}
    below = next(one.below for one in state.mapped if one.name == "hwbus:v1")
    while below in mapped:
        below = mapped[below].below
    return below


@pytest.mark.parametrize("keys", [(), (OLD,)], ids=["clear", "encrypted"])
@pytest.mark.parametrize("name", REVERSED)
def test_a_move_that_was_called_off_half_way_is_not_made_later(
    name: str, keys: tuple[str, ...]
) -> None:
    before, step, back = REVERSED[name]

    async def live(count: int) -> int:
        pair, fuse = SimulatedPair(), Fuse(count)
        on = Tale(pair)
        on.keys = keys
        await pair.begin()
        for one in before:
            await one(on)
        pair.a.storage = pair.a.storage_on(fuse.runner(pair.a.runner))
        with contextlib.suppress(SimulatedCrash):
            await step(on)
        pair.a.storage = pair.a.storage_on(pair.a.runner)
        await called_off(on, pair.a, back)
        await pair.end()
        return fuse.executions

    executions = run_virtually(partial(live, 0))
    assert executions > 0
    for count in range(1, executions + 1):
        run_virtually(partial(live, count))
