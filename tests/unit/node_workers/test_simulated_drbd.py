"""What the simulated DRBD makes of legs that meet, part, and meet again."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from node_workers.replication import Start, Verdict
from node_workers.simulated.drbd_handshake import Outcome, compare, meet
from node_workers.simulated.drbd_model import INCONSISTENT, UP_TO_DATE, Leg, Metadata
from node_workers.simulated.lan import Lan
from node_workers.simulated.machine import SimulatedMachine
from tests.support.replication_contract import DEVICE, SIZE, Tale, is_missed
from tests.support.simulated_pair import SimulatedPair
from tests.support.storage_bench import MIB
from tests.support.virtual_time import run_virtually

A, B, C, D, E = (0x10 * number for number in range(1, 6))


Tales = Callable[[Tale], Awaitable[None]]


def said(current: int, bitmap: int = 0, *history: int) -> Metadata:
    old = (*history, 0, 0)
    return Metadata(current=current, bitmap=bitmap, history=(old[0], old[1]))


# By drbd(9), and drbd_uuid_compare of Linux: what is old is filled from what is new.
MEETINGS = {
    "two that were just made": (Metadata(), Metadata(), Outcome.EQUAL),
    "one that was just made": (said(A), Metadata(), Outcome.FULL_SOURCE),
    "equal ones": (said(A), said(A), Outcome.EQUAL),
    "one that went on": (said(B, A), said(A), Outcome.SOURCE),
    "one that went on twice": (said(C, B, A), said(A), Outcome.FULL_SOURCE),
    "both went on": (said(B, A), said(C, A), Outcome.SPLIT),
    "both went on long ago": (said(B, D, A), said(C, E, A), Outcome.SPLIT),
    "strangers": (said(B, A), said(D, C), Outcome.REFUSED),
}
OTHER_SIDE = {
    Outcome.SOURCE: Outcome.TARGET,
    Outcome.FULL_SOURCE: Outcome.FULL_TARGET,
}


@pytest.mark.parametrize("name", MEETINGS)
def test_generations_say_who_is_filled_from_whom(name: str) -> None:
    here, there, outcome = MEETINGS[name]
    assert compare(here, there) is outcome
    assert compare(there, here) is OTHER_SIDE.get(outcome, outcome)


def test_of_equals_who_died_as_primary_sends_what_was_under_way() -> None:
    crashed = said(A)
    crashed.crashed_primary = True
    assert compare(crashed, said(A)) is Outcome.SOURCE
    assert compare(said(A), crashed) is Outcome.TARGET


def test_a_leg_that_was_filled_half_is_filled_on_whatever_generations_say() -> None:
    good, half = Leg(name="v", disk=UP_TO_DATE), Leg(name="v", disk=INCONSISTENT)
    assert meet(good, said(A), half, said(A)) is Outcome.SOURCE
    assert meet(half, said(A), good, said(A)) is Outcome.TARGET
    assert meet(half, said(C, B, A), good, said(A)) is Outcome.FULL_TARGET


def test_who_gives_its_data_up_is_filled_whoever_asks() -> None:
    keeps, loses = Leg(name="v", disk=UP_TO_DATE), Leg(name="v", disk=UP_TO_DATE, discard=True)
    assert meet(keeps, said(B, A), loses, said(C, A)) is Outcome.SOURCE
    assert meet(loses, said(C, A), keeps, said(B, A)) is Outcome.TARGET
    assert meet(loses, said(C, A), loses, said(B, A)) is Outcome.SPLIT


def test_nobody_is_filled_who_is_written_to() -> None:
    old = Leg(name="v", disk=UP_TO_DATE, primary=True)
    assert meet(old, said(A), Leg(name="v", disk=UP_TO_DATE), said(B, A)) is Outcome.REFUSED


def play(tale: Tales) -> None:
    async def act() -> None:
        pair = SimulatedPair()
        await pair.begin()
        try:
            await tale(Tale(pair))
        finally:
            await pair.end()

    run_virtually(act)


async def _written_while_apart(on: Tale, parted_s: float) -> int:
    """Have somebody write on a while the network is cut for so long; returns what was safe."""
    await on.tied()
    await on.attach(on.a)
    await on.a.write_on(DEVICE)
    await on.pair.part()
    await asyncio.sleep(0.1)
    safe = on.a.written()
    await asyncio.sleep(parted_s)
    assert on.a.written() == safe
    return safe


@pytest.mark.parametrize("parted_s", [1.0, 10.0])
def test_what_was_under_way_arrives_when_the_network_is_back(parted_s: float) -> None:
    async def tale(on: Tale) -> None:
        safe = await _written_while_apart(on, parted_s)
        assert await on.a.found(DEVICE) == safe + 1
        await on.pair.join()
        await on.goes_on(on.a)
        await on.a.stop_writing()
        await on.in_step()
        assert await on.same()

    play(tale)


def test_what_was_under_way_when_the_log_let_it_go_on_is_copied_later() -> None:
    async def tale(on: Tale) -> None:
        await _written_while_apart(on, 5.0)
        await on.a.judge(Verdict.GRANTED)
        await on.goes_on(on.a)
        await on.a.stop_writing()
        await on.pair.join()
        await on.in_step()
        assert await on.same()

    play(tale)


def test_a_leg_without_metadata_is_filled_wholly_whatever_was_there_before() -> None:
    async def tale(on: Tale) -> None:
        await on.tied()
        await on.b.spoil()
        assert not await on.same()
        on.pair.tie_anew()
        await on.b.storage.ensure_replica_down("v1", "uid-v1", force=False, cause="x")
        await _retie(on)
        assert await on.same()
        assert await on.b.copied_bytes() == SIZE

    play(tale)


async def _retie(on: Tale) -> None:
    await on.a.judge(Verdict.GRANTED)
    await on.tie(on.a)
    await on.tie(on.b, Start.NOTHING)
    await on.in_step()


def test_of_a_split_the_data_of_who_loses_are_gone_whoever_that_is() -> None:
    async def tale(on: Tale) -> None:
        await on.tied()
        await on.pair.part()
        sums = []
        for machine in (on.a, on.b):
            await machine.judge(Verdict.GRANTED)
            await on.until(machine, is_missed)
            await on.attach(machine)
            await machine.shell(f"echo {machine.node} > {DEVICE}")
            await on.detach(machine)
            sums.append(await machine.sum(SIZE // MIB))
        await on.pair.join()
        await on.until(on.a, lambda state: state.split)
        await on.a.storage.settle_split(on.spec(), loses=True, cause="x")
        await on.b.storage.settle_split(on.spec(), loses=False, cause="x")
        await on.in_step()
        assert [await one.sum(SIZE // MIB) for one in (on.a, on.b)] == [sums[1]] * 2

    play(tale)


def test_machines_in_folders_find_each_other_and_see_who_is_off(tmp_path: Path) -> None:
    lans = {name: _Clocked(tmp_path / "network", tmp_path / name) for name in ("n1", "n2")}
    machines = {
        name: SimulatedMachine.in_folder(tmp_path / name, name, [1 << 30], lan)
        for name, lan in lans.items()
    }
    one, other = machines["n1"], machines["n2"]
    for machine in machines.values():
        machine.execute(("modprobe", "drbd"))
    with lans["n1"].held(one.state):
        (peer,) = lans["n1"].peers(one.state)
        assert (peer.machine, peer.drbd_loaded) == ("n2", True)
        peer.files["/run/told"] = "by n1"
    other.execute(("modprobe", "drbd"))
    assert other.state.files == {"/run/told": "by n1"}
    lans["n1"].later_s = 5.0
    with lans["n1"].held(one.state):
        assert lans["n1"].peers(one.state) == []


class _Clocked(Lan):
    later_s = 0.0

    def now_s(self) -> float:
        return 1000.0 + self.later_s
