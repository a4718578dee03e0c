"""What becomes of a replicated volume whose leg here is not good, or was without its disk."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from node_workers.drbd_legs import MARK, MARKS
from node_workers.drbd_tools import DRBDADM, LOOK, PUT
from node_workers.ports import Execution, Runner, UnsuitableError
from node_workers.replication import DiskState, Role, Verdict
from node_workers.simulated.drbd_model import DISKLESS, INCONSISTENT, OUTDATED
from tests.support.replication_contract import Tale, is_missed, reason
from tests.support.simulated_pair import SimulatedNode, SimulatedPair
from tests.support.storage_bench import CAUSE, POOL
from tests.support.virtual_time import run_virtually

Story = Callable[[Tale, SimulatedNode, SimulatedNode], Awaitable[None]]
THE_MARK = MARK.format("uid-v1")


def play(story: Story) -> None:
    async def act() -> None:
        pair = SimulatedPair()
        await pair.begin()
        try:
            on = Tale(pair)
            await on.tied()
            await story(on, pair.a, pair.b)
        finally:
            await pair.end()

    run_virtually(act)


def is_marked(node: SimulatedNode) -> bool:
    return THE_MARK in node.machine.state.files


async def loses_disk_in_use(on: Tale, a: SimulatedNode, b: SimulatedNode) -> None:
    """Have a go on through b, both die, and a alone come back with its disk."""
    await on.attach(a)
    a.lose_disk()
    state = await on.state(a)
    assert (state.role, state.disk) == (Role.PRIMARY, DiskState.DISKLESS)
    await b.power_off()
    await a.power_off()
    await comes_back(on, a)
    await a.judge(Verdict.GRANTED)


async def comes_back(on: Tale, node: SimulatedNode) -> None:
    await node.power_on()
    node.start_anew()
    await node.storage.ensure_active({POOL: node.pool_uid}, cause=CAUSE)
    await on.tie(node, may=False)


@pytest.mark.parametrize("disk", [DISKLESS, INCONSISTENT, OUTDATED])
def test_a_leg_that_is_not_good_has_no_peer_fenced(disk: str) -> None:
    async def story(on: Tale, a: SimulatedNode, _: SimulatedNode) -> None:
        await on.pair.part()
        await on.until(a, is_missed)
        (leg,) = a.machine.state.legs
        leg.disk = disk
        await a.judge(Verdict.GRANTED)
        for _again in range(3):
            assert await reason(on.attach(a), UnsuitableError) == "not-up-to-date"
        assert a.asked == []

    play(story)


def test_a_disk_that_was_lost_in_use_is_not_gone_on_with_after_a_boot() -> None:
    async def story(on: Tale, a: SimulatedNode, b: SimulatedNode) -> None:
        await loses_disk_in_use(on, a, b)
        assert (await on.state(a)).disk is DiskState.OUTDATED
        assert await reason(on.attach(a), UnsuitableError) == "not-up-to-date"
        assert a.asked == []

    play(story)


def test_once_it_is_in_step_again_it_counts_as_any_other() -> None:
    async def story(on: Tale, a: SimulatedNode, b: SimulatedNode) -> None:
        await loses_disk_in_use(on, a, b)
        await comes_back(on, b)
        await on.in_step()
        assert not is_marked(a)
        await on.pair.part()
        await on.until(a, is_missed)
        await on.attach(a)
        assert a.asked == ["n2"]

    play(story)


def test_a_secondary_that_was_without_its_disk_does_not_take_over() -> None:
    async def story(on: Tale, a: SimulatedNode, b: SimulatedNode) -> None:
        await on.attach(a)
        b.lose_disk()
        assert (await on.state(b)).role is Role.SECONDARY
        await b.power_off()
        await a.power_off()
        await comes_back(on, b)
        await b.judge(Verdict.GRANTED)
        assert await reason(on.attach(b), UnsuitableError) == "not-up-to-date"

    play(story)


def test_by_the_word_that_gives_its_peer_up_it_is_taken_as_it_is() -> None:
    async def story(on: Tale, a: SimulatedNode, b: SimulatedNode) -> None:
        await loses_disk_in_use(on, a, b)
        assert is_marked(a)
        await a.storage.ensure_plain(a.pool_uid, on.leg(), uid="uid-v1", cause=CAUSE)
        assert a.asked == ["n2"]
        assert not is_marked(a)
        await on.attach(a, replication=None)

    play(story)


def test_a_good_leg_is_never_marked() -> None:
    async def story(on: Tale, a: SimulatedNode, b: SimulatedNode) -> None:
        await on.attach(a)
        await b.power_off()
        await a.power_off()
        await comes_back(on, a)
        await a.judge(Verdict.GRANTED)
        await on.attach(a)
        await on.detach(a)
        await a.storage.ensure_replica_down("v1", "uid-v1", force=False, cause=CAUSE)
        for verb in ("new-resource", "new-minor"):  # whoever dies here has no disk yet
            assert a.machine.execute((*DRBDADM, verb, "hwbus-v1"))[0] == 0
        assert (await on.state(a)).disk is DiskState.DISKLESS
        assert not is_marked(a)

    play(story)


class Recorded:
    """A runner that remembers what ran, apart from what only looks."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.ran: list[tuple[str, ...]] = []

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        if tuple(argv) not in {LOOK, MARKS}:
            self.ran.append(tuple(argv))
        return await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)


def test_it_is_written_down_before_anything_else_is_done() -> None:
    works: tuple[Callable[[Tale, SimulatedNode], Awaitable[object]], ...] = (
        lambda on, a: on.tie(a, may=False),
        lambda _, a: a.storage.ensure_secondary("v1", "uid-v1", force=True, cause=CAUSE),
        lambda _, a: a.storage.ensure_replica_down("v1", "uid-v1", force=True, cause=CAUSE),
        lambda on, a: a.storage.ensure_plain(a.pool_uid, on.leg(), uid="uid-v1", cause=CAUSE),
        lambda on, a: a.storage.settle_split(on.spec(), loses=False, cause=CAUSE),
        lambda _, a: a.storage.replication_states(cause=CAUSE),
    )
    for work in works:

        async def story(
            on: Tale,
            a: SimulatedNode,
            _: SimulatedNode,
            work: Callable[[Tale, SimulatedNode], Awaitable[object]] = work,
        ) -> None:
            await on.attach(a)
            recorded = Recorded(a.runner)
            a.storage = a.storage_on(recorded)
            await on.pair.part()
            await asyncio.sleep(5)
            a.lose_disk()
            await a.judge(Verdict.LOST)
            try:
                await work(on, a)
            except UnsuitableError as error:
                if error.reason != "not-up-to-date":
                    raise
            assert recorded.ran[0] == (*PUT, THE_MARK)
            assert recorded.ran.count((*PUT, THE_MARK)) == 1

        play(story)
