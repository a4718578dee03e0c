"""A task that outlives groups that fail goes on, unless somebody has cancelled it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hwbus.cancelling import apart, heed_cancellation


async def fail() -> None:
    await asyncio.sleep(0)
    raise ConnectionError("gone")


async def stay() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)


async def with_body() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        await stay()


async def without_body() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        group.create_task(stay())


async def nested() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(stay())
        await without_body()


async def loop(group: Callable[[], Awaitable[None]], lives: list[int]) -> None:
    async def live() -> None:
        await group()

    while len(lives) < 3:
        lives.append(len(lives))
        try:
            await apart(live())
        except* ConnectionError:
            pass
        heed_cancellation()


GROUPS = (with_body, without_body, nested)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_that_fails_is_no_cancellation(group: Callable[[], Awaitable[None]]) -> None:
    lives: list[int] = []
    asyncio.run(loop(group, lives))
    assert len(lives) == 3


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("turns", range(8))
def test_a_cancellation_at_any_moment_of_a_failure_ends_it(
    group: Callable[[], Awaitable[None]], turns: int
) -> None:
    async def tale() -> None:
        running = asyncio.create_task(loop(group, []))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=5)
        assert done == {running}
        assert running.cancelled()

    asyncio.run(tale())


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ConnectionError, match="gone"):
        asyncio.run(apart(fail()))
