"""Order within an object, width between objects."""

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from node_workers.lanes import SIDE_BY_SIDE_MAX, Gate, Gates, Lane, Lanes, backoff_s
from tests.support.nats import until


def told(story: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(10):
            await story

    asyncio.run(run())


def test_one_object_is_never_worked_on_twice_at_once() -> None:
    async def story() -> None:
        running, most, done = 0, 0, 0

        async def work(_key: str, _lane: Lane) -> None:
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            done += 1

        lanes = Lanes(work, fail)
        for _ in range(5):
            lanes.kick("replica/a")
            await asyncio.sleep(0)
        await until(lambda: not lanes.busy())
        assert most == 1
        assert done >= 2

    told(story())


def test_news_during_work_is_worked_on_afterwards() -> None:
    async def story() -> None:
        seen: list[int] = []
        news = 1

        async def work(_key: str, _lane: Lane) -> None:
            seen.append(news)
            await asyncio.sleep(0)

        lanes = Lanes(work, fail)
        lanes.kick("pool/a")
        await asyncio.sleep(0)
        news = 2
        lanes.kick("pool/a")
        await until(lambda: not lanes.busy())
        assert seen[-1] == 2

    told(story())


def test_a_pause_ends_when_there_is_news() -> None:
    async def story() -> None:
        lane = Lane()
        pausing = asyncio.create_task(lane.pause(60))
        await asyncio.sleep(0)
        lane.kicked.set()
        await asyncio.wait_for(pausing, 1)

    told(story())


def test_work_that_breaks_is_told_and_ends_its_lane_only() -> None:
    async def story() -> None:
        told_of: list[BaseException] = []

        async def work(key: str, _lane: Lane) -> None:
            if key == "bad":
                raise OSError("disk full")

        lanes = Lanes(work, told_of.append)
        lanes.kick("bad")
        lanes.kick("good")
        await until(lambda: not lanes.busy())
        assert [str(error) for error in told_of] == ["disk full"]

    told(story())


def test_closing_lets_work_end_within_its_time_and_cuts_off_the_rest() -> None:
    async def story() -> None:
        ended: list[str] = []
        never = asyncio.Event()

        async def work(key: str, _lane: Lane) -> None:
            if key == "hangs":
                await never.wait()
            await asyncio.sleep(0.01)
            ended.append(key)

        lanes = Lanes(work, fail)
        lanes.kick("ends")
        lanes.kick("hangs")
        await asyncio.sleep(0)
        await lanes.close(within_s=0.2)
        assert ended == ["ends"]
        lanes.kick("late")
        assert not lanes.busy()

    told(story())


def test_few_are_inside_a_gate_at_once_and_one_alone() -> None:
    async def story() -> None:
        gate = Gate()
        inside: list[bool] = []
        most = 0

        async def visit(*, alone: bool) -> None:
            nonlocal most
            async with gate.enter(alone=alone):
                inside.append(alone)
                most = max(most, len(inside))
                assert not alone or inside == [True]
                assert alone or not any(inside)
                await asyncio.sleep(0.001)
                inside.remove(alone)

        visits = [visit(alone=number % 7 == 3) for number in range(40)]
        await asyncio.gather(*visits)
        assert most == SIDE_BY_SIDE_MAX

    told(story())


def test_whoever_wants_to_be_alone_is_not_overtaken() -> None:
    async def story() -> None:
        gate, order = Gate(), list[str]()

        async def visit(name: str, *, alone: bool) -> None:
            async with gate.enter(alone=alone):
                order.append(name)
                await asyncio.sleep(0)

        names = [("a", False), ("alone", True), ("b", False), ("c", False)]
        await asyncio.gather(*(visit(name, alone=alone) for name, alone in names))
        assert order == ["a", "alone", "b", "c"]

    told(story())


def test_somebody_who_gives_up_waiting_leaves_the_gate_open() -> None:
    async def story() -> None:
        gate = Gate(1)
        async with gate.enter(alone=False):
            waiting = asyncio.create_task(_visit(gate))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
        async with asyncio.timeout(1), gate.enter(alone=True):
            pass

    told(story())


async def _visit(gate: Gate) -> None:
    async with gate.enter(alone=True):
        raise AssertionError("it was full")


def test_each_group_has_its_own_gate() -> None:
    gates = Gates()
    assert gates.of("fast") is gates.of("fast")
    assert gates.of("fast") is not gates.of("slow")


@given(st.integers(0, 10_000), st.integers(0, 2**32))
def test_waiting_grows_and_is_bounded(attempt: int, seed: int) -> None:
    wait_s = backoff_s(attempt, Random(seed))
    assert 0 < wait_s <= 30.0
    assert wait_s >= min(0.25 * 2 ** min(attempt, 6), 15.0)


def fail(error: BaseException) -> None:
    raise error
