"""A log whose beginning was taken out: the one that tests have in memory is as the real one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
import pytest

from hwbus.ports import EventLog
from hwbus.streams import EVENTS, STREAMS
from tests.contract.test_event_log_contract import A, read, write
from tests.support.clock import ManualClock
from tests.support.nats import fresh_wires
from tests.support.purged import PurgedLog


@asynccontextmanager
async def _purged_memory(until: int) -> AsyncIterator[EventLog]:
    log = PurgedLog(ManualClock())
    await write(log, A, "1", "2", "3")
    log.purge(until)
    yield log


@asynccontextmanager
async def _purged(until: int) -> AsyncIterator[EventLog]:
    loose = [msgspec.structs.replace(one, deny_purge=False) for one in STREAMS]
    async with fresh_wires(streams=loose) as wires:
        await write(wires.log, A, "1", "2", "3")
        await wires._core.api(f"STREAM.PURGE.{EVENTS.name}", {"seq": until + 1}, dict)
        yield wires.log


@pytest.mark.parametrize("opened", [_purged_memory, _purged], ids=["memory", "nats"])
@pytest.mark.parametrize("until", [2, 3])
def test_a_log_whose_beginning_was_taken_out_says_where_it_begins(
    opened: Callable[[int], AbstractAsyncContextManager[EventLog]], until: int
) -> None:
    async def story() -> None:
        async with opened(until) as log:
            assert (await log.first(), await log.head()) == (until + 1, 3)
            assert [await log.get(seq) for seq in (1, 2)] == [None, None]
            last = await log.last(A)
            assert (last.seq if last else 0) == (3 if until == 2 else 0)
            assert await write(log, A, "4") == [4]
            assert [one.seq for one in await read(log, 4 - until)] == list(range(until + 1, 5))
            assert [one.seq for one in await log.history(A)] == list(range(until + 1, 5))

    asyncio.run(story())
