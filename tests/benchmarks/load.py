"""Load: so many at once, or so many a second whether or not the last one came back."""

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable

from tests.benchmarks.figures import Sample, sample

Send = Callable[[int], Awaitable[object]]
"""Sends the thing of that number and returns when it is durable; raises if it is not."""

_SPIN_S = 0.0005


class Numbers:
    """Numbers that are used once in a run, whoever asks."""

    def __init__(self) -> None:
        self._next = itertools.count()

    def __call__(self) -> int:
        return next(self._next)


async def closed_loop(
    send: Send, numbers: Numbers, *, at_once: int, count: int, at_most_s: float = math.inf
) -> Sample:
    """Keep *at_once* in flight until *count* have been answered, or the time is up."""
    times_ms: list[float] = []
    left = itertools.repeat(None, count)

    async def one_after_the_other() -> None:
        for _ in left:
            sent = time.perf_counter()
            if sent - began > at_most_s:
                return
            await send(numbers())
            times_ms.append((time.perf_counter() - sent) * 1e3)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_the_other())
    return sample(times_ms, time.perf_counter() - began)


async def open_loop(send: Send, numbers: Numbers, *, per_s: int, for_s: float) -> Sample:
    """Send at a steady rate; times count from when each was due, so that waiting is not hidden."""
    times_ms: list[float] = []
    began = time.perf_counter()

    async def one(due: float) -> None:
        await send(numbers())
        times_ms.append((time.perf_counter() - due) * 1e3)

    async with asyncio.TaskGroup() as group:
        for number in range(int(per_s * for_s)):
            due = began + number / per_s
            await _until(due)
            group.create_task(one(due))
    return sample(times_ms, time.perf_counter() - began)


async def _until(due: float) -> None:
    """Sleep until a little before *due*, then only let others go first: timers are not exact."""
    while (ahead := due - time.perf_counter()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(max(0.0, ahead - _SPIN_S))
