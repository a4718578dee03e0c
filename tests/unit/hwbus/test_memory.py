import asyncio

from hypothesis import given
from hypothesis import strategies as st

from hwbus.memory import MemoryBus, MemoryInbox, MemoryLog, MemoryOutlet
from hwbus.ports import Call, Endpoint, StaleError
from tests.support.clock import NOON, ManualClock

WRITES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), max_size=30)


@given(WRITES)
def test_every_reading_agrees_with_a_list(writes: list[tuple[str, int]]) -> None:
    async def story() -> None:
        log = MemoryLog(ManualClock())
        model: list[str] = []
        for number, (name, after) in enumerate(writes):
            subject = f"hwbus.evt.x.-.{name}"
            last = max((i + 1 for i, s in enumerate(model) if s == subject), default=0)
            try:
                seq = await log.append(subject, b"", after=after, message_id=str(number))
            except StaleError:
                assert after != last
            else:
                assert after == last
                model.append(subject)
                assert seq == len(model)
        assert await log.head() == len(model)
        for name in "abc":
            subject = f"hwbus.evt.x.-.{name}"
            expected = [i + 1 for i, s in enumerate(model) if s == subject]
            assert [s.seq for s in await log.history(subject)] == expected

    asyncio.run(story())


def test_messages_bear_the_hour_of_the_clock() -> None:
    async def story() -> None:
        clock = ManualClock()
        log = MemoryLog(clock)
        await log.append("hwbus.evt.x.-.a", b"", after=0, message_id="1")
        clock.move(60)
        await log.append("hwbus.evt.x.-.b", b"", after=0, message_id="2")
        hours = [(s.at - NOON).total_seconds() for s in await log.history("hwbus.evt.x.-.a")]
        assert hours == [0]
        second = await log.get(2)
        assert second is not None
        assert (second.at - NOON).total_seconds() == 60

    asyncio.run(story())


def test_services_take_turns_in_an_order_that_does_not_depend_on_chance() -> None:
    async def story() -> list[str]:
        bus = MemoryBus()
        answered: list[str] = []

        async def left(call: Call) -> bytes:
            answered.append("left")
            return b""

        async def right(call: Call) -> bytes:
            answered.append("right")
            return b""

        where = (Endpoint("a", "a", {}),)
        async with bus.serve("x", "1.0.0", where, left), bus.serve("x", "1.0.0", where, right):
            for _ in range(4):
                await bus.request("a", b"", headers={}, timeout_s=1)
        return answered

    assert asyncio.run(story()) == asyncio.run(story()) == ["right", "left"] * 2


def test_what_was_taken_and_not_settled_comes_again_in_its_old_place() -> None:
    async def story() -> None:
        outlet = MemoryOutlet()
        for text in ("1", "2", "3"):
            await outlet.keep("hwbus.submit.a.b", text.encode(), message_id=text)
        inbox = MemoryInbox(outlet)
        async with inbox.take() as deliveries:
            await (await anext(deliveries)).make_room()
            await anext(deliveries)
        async with inbox.take() as deliveries:
            assert [(await anext(deliveries)).data for _ in range(3)] == [b"1", b"2", b"3"]

    asyncio.run(story())


def test_the_outlet_can_be_looked_into() -> None:
    async def story() -> None:
        outlet = MemoryOutlet()
        await outlet.keep("hwbus.audit.executed.n1", b"lvs", message_id="1", headers={"k": "v"})
        await outlet.keep("hwbus.audit.refused.volume", b"no", message_id="2")
        (kept,) = outlet.under("hwbus.audit.executed.>")
        assert kept.data == b"lvs"
        assert kept.headers == {"k": "v", "Nats-Msg-Id": "1"}

    asyncio.run(story())
