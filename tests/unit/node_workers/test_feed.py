"""Whoever follows the log goes on when the bus has gone, and ends when told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, cast

import pytest

from node_workers.feed import Feed
from node_workers.figures import Figures
from node_workers.outbox import Link


class Losing(Feed):
    """One whose bus goes away when it is told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.back = asyncio.Event()
        self.times = 0
        about: dict[str, Any] = {"node": "n1", "rng": Random(1), "figures": Figures()}
        nobody = cast("Any", None)
        super().__init__(
            nobody, nobody, nobody, nobody, lambda _: None, **about, linked=(), desks=()
        )

    async def _attend(self, link: Link) -> None:
        del link
        self.times += 1
        if self.times > 1:
            self.back.set()
            await asyncio.sleep(3600)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lose())
            group.create_task(self._end_slowly())

    async def _lose(self) -> None:
        await self.gone.wait()
        raise ConnectionError("the bus is gone")

    async def _end_slowly(self) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)


@asynccontextmanager
async def no_link() -> AsyncIterator[Link]:
    yield cast("Link", None)


def test_it_is_back_after_the_bus_has_gone() -> None:
    async def tale() -> None:
        feed = Losing()
        running = asyncio.create_task(feed.run(no_link))
        feed.gone.set()
        await asyncio.wait_for(feed.back.wait(), 5)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(tale())


@pytest.mark.parametrize("turns", range(8))
def test_told_to_end_it_ends_also_at_the_moment_the_bus_goes_away(turns: int) -> None:
    async def tale() -> None:
        feed = Losing()
        running = asyncio.create_task(feed.run(no_link))
        while not feed.times:  # noqa: ASYNC110
            await asyncio.sleep(0)
        feed.gone.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=5)
        assert done == {running}
        assert feed.times == 1

    asyncio.run(tale())
