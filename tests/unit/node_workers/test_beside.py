"""What runs beside a worker must not end without anybody noticing."""

import asyncio

import pytest

from node_workers.__main__ import _beside


def test_what_breaks_beside_a_worker_stops_it_and_is_raised() -> None:
    async def breaks() -> None:
        raise OSError("the kernel is gone")

    async def life() -> None:
        stop = asyncio.Event()
        async with _beside(breaks(), stop):
            await stop.wait()

    with pytest.raises(OSError, match="the kernel is gone"):
        asyncio.run(life())


def test_what_ends_beside_a_worker_or_is_ended_with_it_stops_nothing() -> None:
    async def ends() -> None:
        return

    async def life() -> bool:
        stop = asyncio.Event()
        async with _beside(ends(), stop), _beside(asyncio.sleep(60), stop):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return stop.is_set()

    assert not asyncio.run(life())
