"""What a log promises, held against the one in memory and the real one, on both client paths."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, timedelta
from functools import partial
from typing import Any

import pytest

from hwbus.filters import matches
from hwbus.jetstream import Wires, connect
from hwbus.memory import MemoryLog
from hwbus.ports import (
    EventLog,
    LogFullError,
    OutcomeUnknownError,
    StaleError,
    Stored,
)
from hwbus.server import Broker
from hwbus.streams import EVENTS, Stream
from tests.support.clock import ManualClock
from tests.support.frozen import frozen
from tests.support.nats import (
    fresh_broker,
    fresh_cluster,
    fresh_wires,
    replicated,
    until,
    until_async,
    wires_to,
)

A = "hwbus.evt.volume.-.a"
B = "hwbus.evt.volume.-.b"
POOL = "hwbus.evt.pool.node-1.fast"
Story = Callable[[EventLog], Coroutine[Any, Any, None]]
LogOpener = Callable[[], AbstractAsyncContextManager[EventLog]]


@asynccontextmanager
async def _memory() -> AsyncIterator[EventLog]:
    yield MemoryLog(ManualClock())


@asynccontextmanager
async def _fast() -> AsyncIterator[EventLog]:
    async with fresh_wires(stock=False) as wires:
        yield wires.log


@asynccontextmanager
async def _stock() -> AsyncIterator[EventLog]:
    async with fresh_wires(stock=True) as wires:
        yield wires.log


@pytest.fixture(params=[_memory, _fast, _stock], ids=["memory", "nats", "nats-stock"])
def opener(request: pytest.FixtureRequest) -> LogOpener:
    chosen: LogOpener = request.param
    return chosen


def told(opener: LogOpener, story: Story) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), opener() as log:
            await story(log)

    asyncio.run(run())


async def write(log: EventLog, subject: str, *texts: str) -> list[int]:
    last = await log.last(subject)
    after = last.seq if last else 0
    seqs = []
    for text in texts:
        after = await log.append(
            subject, text.encode(), after=after, message_id=f"{text}-{subject}-{after}"
        )
        seqs.append(after)
    return seqs


async def read(log: EventLog, count: int, after: int = 0, **how: Any) -> list[Stored]:
    found: list[Stored] = []
    async with log.follow(after=after, **how) as batches:
        while len(found) < count:
            found += await anext(batches)
    return found


# append


def test_sequences_count_from_one_over_the_whole_stream(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        assert await write(log, A, "1") == [1]
        assert await log.first() == 1
        assert await write(log, B, "2") == [2]
        assert await write(log, A, "3") == [3]

    told(opener, story)


def test_an_append_behind_a_moved_subject_is_stale_and_stores_nothing(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        await write(log, A, "1")
        with pytest.raises(StaleError):
            await log.append(A, b"2", after=0, message_id="other")
        with pytest.raises(StaleError):
            await log.append(A, b"2", after=7, message_id="ahead")
        with pytest.raises(StaleError):
            await log.append(B, b"2", after=1, message_id="elsewhere")
        assert await log.head() == 1

    told(opener, story)


def test_of_many_who_append_after_the_same_message_exactly_one_succeeds(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        async def attempt(who: int, after: int) -> int:
            try:
                return await log.append(A, b"%d" % who, after=after, message_id=f"{after}-{who}")
            except StaleError:
                return 0

        after = 0
        for _ in range(20):
            won = [s for s in await asyncio.gather(*(attempt(i, after) for i in range(16))) if s]
            assert len(won) == 1
            after = won[0]
        assert len(await log.history(A)) == 20

    told(opener, story)


def test_writers_of_different_subjects_do_not_hinder_each_other(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        names = [f"hwbus.evt.volume.-.v{i}" for i in range(1000)]
        await asyncio.gather(*(write(log, name, "1", "2") for name in names))
        assert await log.head() == 2000
        found = await read(log, 2000)
        assert [stored.seq for stored in found] == list(range(1, 2001))
        for name in (names[0], names[500], names[999]):
            assert [s.data for s in await log.history(name)] == [b"1", b"2"]

    told(opener, story)


def test_a_repetition_is_never_stored_twice(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        first = await log.append(A, b"1", after=0, message_id="same")
        with suppress(StaleError):
            assert await log.append(A, b"1", after=0, message_id="same") == first
        assert await log.append(A, b"1", after=first, message_id="same") == first
        assert await log.head() == 1

    told(opener, story)


def test_one_id_on_two_subjects_is_two_messages(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        await log.append(A, b"1", after=0, message_id="same")
        await log.append(B, b"2", after=0, message_id="same")
        last = await log.last(B)
        assert last is not None
        assert last.data == b"2"

    told(opener, story)


def test_any_bytes_come_back_as_they_were(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        data = bytes(range(256)) * 100 + b"\r\nMSG x 1 2\r\n"
        seq = await log.append(A, data, after=0, message_id="bytes")
        empty = await log.append(A, b"", after=seq, message_id="empty")
        for stored in (await log.get(seq), (await log.history(A))[0], (await read(log, 2))[0]):
            assert stored is not None
            assert stored.data == data
        last = await log.last(A)
        assert last is not None
        assert (last.seq, last.data) == (empty, b"")

    told(opener, story)


# reading


def test_an_empty_log_has_nothing_to_show(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        assert await log.first() == 1
        assert await log.head() == 0
        assert await log.last(A) is None
        assert await log.history(A) == []
        assert await log.get(1) is None
        assert await log.get(0) is None

    told(opener, story)


def test_last_takes_wildcards(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        await write(log, A, "1")
        await write(log, B, "2")
        newest = await log.last("hwbus.evt.>")
        assert newest is not None
        assert (newest.seq, newest.subject) == (2, B)
        assert await log.last("hwbus.evt.nothing.>") is None

    told(opener, story)


def test_last_history_get_and_follow_tell_the_same(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        await write(log, A, "1", "2")
        await write(log, B, "3")
        await write(log, A, "4")
        history = await log.history(A)
        assert [(s.seq, s.subject, s.data) for s in history] == [
            (1, A, b"1"),
            (2, A, b"2"),
            (4, A, b"4"),
        ]
        assert await log.last(A) == history[-1]
        assert [await log.get(s.seq) for s in history] == history
        assert [s for s in await read(log, 4) if s.subject == A] == history
        assert await log.get(5) is None
        assert history[0].at.tzinfo is UTC
        assert abs(history[0].at - history[-1].at) < timedelta(minutes=1)

    told(opener, story)


def test_a_long_history_is_whole_and_in_order(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        await write(log, A, *(str(i) for i in range(1203)))
        await write(log, B, "noise")
        assert [s.data for s in await log.history(A)] == [b"%d" % i for i in range(1203)]

    told(opener, story)


def test_what_was_appended_is_read_at_once(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        for i in range(50):
            seq = (await write(log, A, str(i)))[0]
            last = await log.last(A)
            assert last is not None
            assert last.seq == seq
            assert await log.head() == seq
            assert len(await log.history(A)) == i + 1

    told(opener, story)


# follow


def test_a_follower_catches_up_and_then_sees_what_is_new(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        await write(log, A, "1", "2", "3")
        async with log.follow(after=1) as batches:
            seen: list[bytes] = []
            while len(seen) < 2:
                seen += [s.data for s in await anext(batches)]
            assert seen == [b"2", b"3"]
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0)
            assert not waiting.done()
            await write(log, B, "4")
            assert [s.data for s in await waiting] == [b"4"]

    told(opener, story)


def test_batches_are_never_empty_and_never_too_large(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        await asyncio.gather(*(write(log, f"hwbus.evt.x.-.{i}", "1") for i in range(300)))
        seen: list[int] = []
        async with log.follow(after=0, batch_max=7) as batches:
            while len(seen) < 300:
                batch = await anext(batches)
                assert 1 <= len(batch) <= 7
                seen += [s.seq for s in batch]
        assert seen == list(range(1, 301))

    told(opener, story)


@pytest.mark.parametrize(
    "patterns",
    [
        ("hwbus.evt.pool.>",),
        ("hwbus.evt.*.node-1.>", "hwbus.evt.volume.-.a"),
        ("hwbus.evt.*.*.a",),
        ("hwbus.evt.>", "hwbus.evt.volume.-.a"),
        ("hwbus.evt.*.node-1.*", "hwbus.evt.pool.*.fast", "hwbus.evt.volume.-.b"),
    ],
)
def test_a_filter_lets_through_what_it_matches_once(
    opener: LogOpener, patterns: tuple[str, ...]
) -> None:
    async def story(log: EventLog) -> None:
        subjects = [A, POOL, B, "hwbus.evt.pool.node-2.fast", "hwbus.evt.replica.node-1.a"] * 4
        for subject in subjects:
            await write(log, subject, "x")
        wanted = [
            seq
            for seq, subject in enumerate(subjects, start=1)
            if any(matches(pattern, subject) for pattern in patterns)
        ]
        found = await read(log, len(wanted), subjects=patterns)
        assert [s.seq for s in found] == wanted

    told(opener, story)


def test_a_follower_that_starts_beyond_the_end_waits_for_it(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        async with log.follow(after=2) as batches:
            await write(log, A, "1", "2", "3")
            assert [s.seq for s in await anext(batches)] == [3]

    told(opener, story)


def test_followers_beside_each_other_each_see_everything(opener: LogOpener) -> None:
    async def story(log: EventLog) -> None:
        readers = [asyncio.create_task(read(log, 200)) for _ in range(5)]
        await write(log, A, *(str(i) for i in range(200)))
        for found in await asyncio.gather(*readers):
            assert [s.seq for s in found] == list(range(1, 201))

    told(opener, story)


def test_a_slow_reader_gets_everything_from_a_bounded_buffer() -> None:
    async def story() -> None:
        async with fresh_wires() as wires:
            total = 20_000
            names = [f"hwbus.evt.x.-.{i}" for i in range(total)]
            for start in range(0, total, 2000):
                await asyncio.gather(*(write(wires.log, n, "1") for n in names[start:][:2000]))
            async with wires.log.follow(after=0, batch_max=100) as batches:
                first = await anext(batches)
                await until(lambda: wires.counters["in_msgs"] > 0)
                before = wires.counters["in_msgs"]
                await wires.log.head()
                await wires.log.head()
                assert wires.counters["in_msgs"] - before < 3_500
                seen = len(first)
                while seen < total:
                    seen += len(await anext(batches))

    asyncio.run(story())


# refusals and failures of the real one


def test_a_full_log_refuses_and_forgets_nothing() -> None:
    async def story(log: EventLog) -> None:
        many = [write(log, f"hwbus.evt.x.-.{i}", "y" * 1000) for i in range(100)]
        ends = await asyncio.gather(*many, return_exceptions=True)
        refused = [end for end in ends if isinstance(end, LogFullError)]
        head = await log.head()
        assert 0 < head == 100 - len(refused) < 100
        assert await log.get(1) is not None

    async def on_nats() -> None:
        small = Stream(
            name=EVENTS.name, subjects=EVENTS.subjects, description="small", max_bytes=20_000
        )
        async with fresh_wires(streams=(small,)) as wires:
            await story(wires.log)

    asyncio.run(on_nats())
    asyncio.run(story(MemoryLog(ManualClock(), max_bytes=20_000)))


@pytest.mark.parametrize("size_bytes", [1_500_000, 5_000_000])
def test_a_message_too_large_is_refused_and_the_connection_stays(size_bytes: int) -> None:
    async def story() -> None:
        async with fresh_wires() as wires:
            with pytest.raises(LogFullError):
                await wires.log.append(A, b"x" * size_bytes, after=0, message_id="huge")
            await write(wires.log, A, "small")
            assert "disconnects" not in wires.counters

    asyncio.run(story())


@pytest.mark.parametrize("stock", [False, True])
def test_an_append_during_a_disconnection_is_unknown_and_last_tells_the_truth(
    stock: bool,
) -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker, stock=stock) as wires:
            await wires.ensure_streams()
            await write(wires.log, A, "1")
            await broker.stop()
            with pytest.raises(OutcomeUnknownError):
                await wires.log.append(A, b"2", after=1, message_id="lost")
            await until(lambda: not wires.connected)
            with pytest.raises(OutcomeUnknownError):
                await wires.log.append(A, b"2", after=1, message_id="lost")
            await broker.start()
            await until(lambda: wires.connected)
            last = await wires.log.last(A)
            assert last is not None
            assert last.data == b"1"
            assert await wires.log.append(A, b"2", after=1, message_id="lost") == 2

    asyncio.run(story())


def test_an_append_that_a_frozen_broker_stores_later_is_unknown_and_then_found() -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker, answer_within_s=0.3) as wires:
            await wires.ensure_streams()
            assert broker.pid is not None
            async with frozen(broker.pid):
                with pytest.raises(OutcomeUnknownError, match=r"no answer .* in 0\.3 s"):
                    await wires.log.append(A, b"mine", after=0, message_id="1")

            async def stored() -> bool:
                last = await wires.log.last(A)
                return last is not None and last.data == b"mine"

            await until_async(stored)  # awake again, it works off what was waiting
            with pytest.raises(StaleError):
                await wires.log.append(A, b"mine", after=0, message_id="1")
            assert await wires.log.head() == 1

    asyncio.run(story())


def test_whoever_waits_for_an_answer_when_the_broker_dies_is_told_at_once() -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker, answer_within_s=60) as wires:
            await wires.ensure_streams()
            stored: list[int] = []

            async def writer(name: str) -> None:
                after = 0
                while True:
                    after = await wires.log.append(
                        name, b"x", after=after, message_id=f"{name}-{after}"
                    )
                    stored.append(after)

            tasks = [asyncio.create_task(writer(f"hwbus.evt.x.-.{i}")) for i in range(32)]
            await until(lambda: len(stored) > 500)
            broker.kill()
            async with asyncio.timeout(5):
                ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, OutcomeUnknownError) for end in ends)
            await broker.start()
            await until(lambda: wires.connected)
            # Killed, but not unplugged: what was acknowledged is there, and a little more may be.
            assert max(stored) <= await wires.log.head() <= len(stored) + 32

    asyncio.run(story())


@pytest.mark.parametrize("stock", [False, True])
@pytest.mark.parametrize("patterns", [("hwbus.evt.>",), ("hwbus.evt.x.-.a", "hwbus.evt.x.-.b")])
def test_a_follower_survives_restarts_without_gap_or_repetition(
    stock: bool, patterns: tuple[str, ...]
) -> None:
    async def story() -> None:
        async with (
            fresh_broker() as broker,
            wires_to(broker, stock=stock) as wires,
            wires_to(broker, name="writer") as other,
        ):
            await wires.ensure_streams()
            seen: list[int] = []

            async def watch() -> None:
                async with wires.log.follow(after=0, subjects=patterns) as batches:
                    async for batch in batches:
                        seen.extend(s.seq for s in batch)

            watching = asyncio.create_task(watch())
            for round_ in range(3):
                await _write_steadily(other, 200, round_)
                await _restart(broker, hard=round_ == 1)
                await until(lambda: wires.connected and other.connected)
            await _write_steadily(other, 200, 3)
            total = await other.log.head()
            await until(lambda: len(seen) >= total)
            watching.cancel()
            await asyncio.wait({watching})
            assert seen == list(range(1, total + 1))

    asyncio.run(story())


async def _write_steadily(wires: Wires, count: int, round_: int) -> None:
    for i in range(count):
        name = f"hwbus.evt.x.-.{'ab'[i % 2]}"
        last = await wires.log.last(name)
        after = last.seq if last else 0
        await wires.log.append(name, b"x", after=after, message_id=f"{round_}-{i}")


async def _restart(broker: Broker, *, hard: bool) -> None:
    if hard:
        broker.kill()
    else:
        await broker.stop()
    await broker.start()


def test_a_follower_whose_consumer_vanishes_makes_a_new_one() -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            async with wires.log.follow(after=0) as batches:
                await write(wires.log, A, "1")
                assert [s.seq for s in await anext(batches)] == [1]
                await _delete_consumers(broker)
                await write(wires.log, A, "2", "3")
                seen: list[int] = []
                while len(seen) < 2:
                    seen += [s.seq for s in await anext(batches)]
                assert seen == [2, 3]

    asyncio.run(story())


def test_a_follower_says_so_when_the_connection_is_closed_for_good() -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            async with wires.log.follow(after=0) as batches:
                await write(wires.log, A, "1")
                await anext(batches)
                # nats-py does this by itself, for example when a login has expired.
                await wires._core.client.close()
                with pytest.raises(ConnectionError, match="closed for good"):
                    await anext(batches)
            await wires.until_gone()
            with pytest.raises(OutcomeUnknownError):
                await wires.log.append(A, b"2", after=1, message_id="2")

    asyncio.run(story())


@pytest.mark.slow
def test_of_three_brokers_the_leader_may_die_without_loss_gap_or_repetition() -> None:
    async def story() -> None:
        async with fresh_cluster() as brokers:
            urls = [broker.url for broker in brokers]
            async with connect(urls, name="writer") as wires, connect(urls, name="reader") as other:
                await until_async(partial(replicated, wires), within_s=60)
                seen: list[int] = []
                watching = asyncio.create_task(_watch(other, seen))
                after = await _append_through(wires, 0, 200)
                (await _leader_of(brokers)).kill()
                after = await _append_through(wires, after, 200)
                history = await wires.log.history(A)
                assert [s.seq for s in history] == list(range(1, after + 1))
                await until(lambda: len(seen) >= after, within_s=30)
                watching.cancel()
                await asyncio.wait({watching})
                assert seen == list(range(1, after + 1))

    asyncio.run(story())


async def _watch(wires: Wires, seen: list[int]) -> None:
    async with wires.log.follow(after=0) as batches:
        async for batch in batches:
            seen.extend(s.seq for s in batch)


async def _append_through(wires: Wires, after: int, count: int) -> int:
    """Append, and when an outcome is unknown do as the desk does: look what became of it."""
    for number in range(count):
        mine = b"%d-%d" % (after, number)
        stored = False
        async with asyncio.timeout(60):
            while not stored:
                try:
                    after = await wires.log.append(A, mine, after=after, message_id=mine.decode())
                    stored = True
                except (OutcomeUnknownError, StaleError):
                    last = await _last_at_last(wires)
                    stored = last.data == mine
                    after = last.seq
    return after


async def _last_at_last(wires: Wires) -> Stored:
    found: list[Stored] = []

    async def look() -> bool:
        try:
            last = await wires.log.last(A)
        except OutcomeUnknownError:
            return False
        assert last is not None
        found.append(last)
        return True

    await until_async(look, within_s=60)
    return found[0]


async def _leader_of(brokers: list[Broker]) -> Broker:
    import nats

    client = await nats.connect(brokers[0].url)
    info = await client.jetstream().stream_info(EVENTS.name)
    await client.close()
    assert info.cluster is not None
    return brokers[int(str(info.cluster.leader)[1:])]


async def _delete_consumers(broker: Broker) -> None:
    import nats

    client = await nats.connect(broker.url)
    manager = client.jsm()
    for info in await manager.consumers_info(EVENTS.name):
        await manager.delete_consumer(EVENTS.name, info.name)
    await client.close()
