"""What the bus, the outlet and the inbox promise, in memory and on the real broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest

from hwbus import subjects
from hwbus.jetstream import InboxSettings, Wires
from hwbus.memory import MemoryBus, MemoryInbox, MemoryOutlet
from hwbus.ports import (
    Bus,
    Call,
    Delivery,
    Endpoint,
    Inbox,
    LogFullError,
    NobodyThereError,
    OutcomeUnknownError,
    Outlet,
)
from hwbus.streams import AUDIT, SUBMIT
from tests.support.nats import fresh_broker, fresh_wires, until, until_async, wires_to

CREATE = subjects.command("volume", "create")
SUBMITTED = subjects.submit("volume", "create")
SHOUT = (Endpoint("create", CREATE, {"doc": "makes a volume"}),)
Story = Callable[["Side"], Coroutine[Any, Any, None]]
SideOpener = Callable[[], AbstractAsyncContextManager["Side"]]


class Side(Protocol):
    """One way to have all three ports."""

    @property
    def bus(self) -> Bus: ...

    @property
    def outlet(self) -> Outlet: ...

    def inbox(self, at_once_max: int = 64, deliveries_max: int = 10) -> Inbox: ...

    async def kept(self, pattern: str) -> list[tuple[str, bytes, dict[str, str]]]: ...

    async def something_kept(self) -> bool: ...


class InMemory:
    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.outlet = MemoryOutlet()

    def inbox(self, at_once_max: int = 64, deliveries_max: int = 10) -> Inbox:
        return MemoryInbox(self.outlet, at_once_max=at_once_max, deliveries_max=deliveries_max)

    async def kept(self, pattern: str) -> list[tuple[str, bytes, dict[str, str]]]:
        return [(k.subject, k.data, k.headers) for k in self.outlet.under(pattern)]

    async def something_kept(self) -> bool:
        return bool(await self.kept("hwbus.audit.>"))


class OnNats:
    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self.bus = wires.bus
        self.outlet = wires.outlet

    def inbox(self, at_once_max: int = 64, deliveries_max: int = 10) -> Inbox:
        return self._wires.inbox(
            InboxSettings(
                stream=SUBMIT.name,
                durable="desk",
                at_once_max=at_once_max,
                deliveries_max=deliveries_max,
            )
        )

    async def something_kept(self) -> bool:
        return await self._wires.log_of(AUDIT.name).head() > 0

    async def kept(self, pattern: str) -> list[tuple[str, bytes, dict[str, str]]]:
        settings = InboxSettings(stream=AUDIT.name, durable="look", filters=(pattern,))
        head = await self._wires.log_of(AUDIT.name).head()
        found: list[tuple[str, bytes, dict[str, str]]] = []
        async with self._wires.inbox(settings).take() as deliveries:
            while len(found) < head:
                delivery = await anext(deliveries)
                found.append((delivery.subject, delivery.data, delivery.headers))
                await delivery.done()
        return found


@asynccontextmanager
async def _memory() -> AsyncIterator[Side]:
    yield InMemory()


@asynccontextmanager
async def _fast() -> AsyncIterator[Side]:
    async with fresh_wires(stock=False) as wires:
        yield OnNats(wires)


@asynccontextmanager
async def _stock() -> AsyncIterator[Side]:
    async with fresh_wires(stock=True) as wires:
        yield OnNats(wires)


@pytest.fixture(params=[_memory, _fast, _stock], ids=["memory", "nats", "nats-stock"])
def opener(request: pytest.FixtureRequest) -> SideOpener:
    chosen: SideOpener = request.param
    return chosen


def told(opener: SideOpener, story: Story) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), opener() as side:
            await story(side)

    asyncio.run(run())


async def shout(call: Call) -> bytes:
    return call.data.upper()


# request and serve


def test_a_request_is_answered_by_the_service(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        calls: list[Call] = []

        async def answer(call: Call) -> bytes:
            calls.append(call)
            return b"42"

        async with side.bus.serve("desk", "1.0.0", SHOUT, answer):
            headers = {"traceparent": "00-1-2-01"}
            got = await side.bus.request(CREATE, b"how many", headers=headers, timeout_s=5)
        assert got == b"42"
        assert (calls[0].subject, calls[0].data) == (CREATE, b"how many")
        assert calls[0].headers["traceparent"] == "00-1-2-01"

    told(opener, story)


def test_without_a_service_there_is_nobody(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        with pytest.raises(NobodyThereError):
            await side.bus.request(CREATE, b"", headers={}, timeout_s=5)
        async with side.bus.serve("desk", "1.0.0", SHOUT, shout):
            assert await side.bus.request(CREATE, b"a", headers={}, timeout_s=5) == b"A"
        with pytest.raises(NobodyThereError):
            await side.bus.request(CREATE, b"", headers={}, timeout_s=5)

    told(opener, story)


def test_a_late_answer_is_an_unknown_outcome(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        gate = asyncio.Event()
        finished = asyncio.Event()

        async def slow(call: Call) -> bytes:
            await gate.wait()
            finished.set()
            return b"late"

        async with side.bus.serve("desk", "1.0.0", SHOUT, slow):
            with pytest.raises(OutcomeUnknownError):
                await side.bus.request(CREATE, b"", headers={}, timeout_s=0.05)
            gate.set()
            # The asker gave up; the work did not.
            await finished.wait()

    told(opener, story)


def test_fifty_slow_requests_run_side_by_side(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        inside = 0
        all_in = asyncio.Event()

        async def meet(call: Call) -> bytes:
            nonlocal inside
            inside += 1
            if inside == 50:
                all_in.set()
            await all_in.wait()
            return call.data

        async with side.bus.serve("desk", "1.0.0", SHOUT, meet):
            asks = (
                side.bus.request(CREATE, b"%d" % i, headers={}, timeout_s=10) for i in range(50)
            )
            assert await asyncio.gather(*asks) == [b"%d" % i for i in range(50)]

    told(opener, story)


def test_no_more_than_the_agreed_number_is_worked_on_at_once(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        inside = most = 0

        async def count(call: Call) -> bytes:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1
            return b""

        async with side.bus.serve("desk", "1.0.0", SHOUT, count, at_once_max=3):
            asks = (side.bus.request(CREATE, b"", headers={}, timeout_s=10) for _ in range(40))
            await asyncio.gather(*asks)
        assert most == 3

    told(opener, story)


def test_a_responder_that_breaks_does_not_break_the_service(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        async def fragile(call: Call) -> bytes:
            if call.data == b"bad":
                raise LookupError("no such thing")
            return b"good"

        async with side.bus.serve("desk", "1.0.0", SHOUT, fragile):
            with pytest.raises(OutcomeUnknownError, match="LookupError"):
                await side.bus.request(CREATE, b"bad", headers={}, timeout_s=5)
            assert await side.bus.request(CREATE, b"", headers={}, timeout_s=5) == b"good"

    told(opener, story)


def test_of_two_services_one_answers(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        answered: list[str] = []

        async def left(call: Call) -> bytes:
            answered.append("left")
            return b""

        async def right(call: Call) -> bytes:
            answered.append("right")
            return b""

        async with (
            side.bus.serve("desk", "1.0.0", SHOUT, left),
            side.bus.serve("desk", "1.0.0", SHOUT, right),
        ):
            for _ in range(40):
                await side.bus.request(CREATE, b"", headers={}, timeout_s=5)
        assert len(answered) == 40
        assert set(answered) == {"left", "right"}

    told(opener, story)


def test_what_is_published_to_a_service_is_worked_on_without_an_answer(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        done = asyncio.Event()

        async def note(call: Call) -> bytes:
            done.set()
            return b"to nobody"

        async with side.bus.serve("desk", "1.0.0", SHOUT, note):
            await side.bus.publish(CREATE, b"")
            await done.wait()

    told(opener, story)


def test_requests_in_work_end_before_the_service_does(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        started = asyncio.Event()

        async def slow(call: Call) -> bytes:
            started.set()
            await asyncio.sleep(0.05)
            return b"finished"

        async with side.bus.serve("desk", "1.0.0", SHOUT, slow):
            ask = asyncio.ensure_future(side.bus.request(CREATE, b"", headers={}, timeout_s=5))
            await started.wait()
        assert await ask == b"finished"

    told(opener, story)


# publish and listen


def test_a_listener_hears_what_is_published_under_its_pattern(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        async with side.bus.listen("hwbus.live.>") as calls:
            await side.bus.publish("hwbus.other", b"no")
            for i in range(3):
                await side.bus.publish(subjects.live("progress", f"p{i}"), b"%d" % i)
            heard = [await anext(calls) for _ in range(3)]
        assert [(c.subject, c.data) for c in heard] == [
            (f"hwbus.live.progress.p{i}", b"%d" % i) for i in range(3)
        ]

    told(opener, story)


def test_a_listener_too_slow_loses_the_oldest(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        async with (
            side.bus.listen("hwbus.live.flood") as calls,
            side.bus.listen("hwbus.live.end") as end,
        ):
            for i in range(5000):
                await side.bus.publish("hwbus.live.flood", b"%d" % i)
            await side.bus.publish("hwbus.live.end", b"")
            await anext(end)
            first = await anext(calls)
        assert first.data == b"904"

    told(opener, story)


# outlet


def test_what_is_kept_twice_is_stored_once(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        where = subjects.audit("executed", "node-1")
        for message_id in ("1", "1", "2"):
            await side.outlet.keep(where, b"lvs", message_id=message_id)
        assert len(await side.kept("hwbus.audit.>")) == 2

    told(opener, story)


# inbox


async def submit(side: Side, *texts: str) -> None:
    for text in texts:
        await side.outlet.keep(SUBMITTED, text.encode(), message_id=text)


async def take_done(deliveries: AsyncIterator[Delivery], count: int) -> list[bytes]:
    taken = []
    for _ in range(count):
        delivery = await anext(deliveries)
        taken.append(delivery.data)
        await delivery.done()
    return taken


async def nothing_comes(deliveries: AsyncIterator[Delivery], side: Side) -> None:
    """Nothing else is due if the next to arrive is a message sent now."""
    await submit(side, "the last")
    assert await take_done(deliveries, 1) == [b"the last"]


def test_submitted_commands_wait_for_somebody_to_take_them(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        await submit(side, "1", "2")
        async with side.inbox().take() as deliveries:
            first = await anext(deliveries)
            assert (first.subject, first.data) == (SUBMITTED, b"1")
            assert first.headers["Nats-Msg-Id"] == "1"
            await first.done()
            assert await take_done(deliveries, 1) == [b"2"]
            await nothing_comes(deliveries, side)

    told(opener, story)


def test_what_is_done_is_never_delivered_again(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        await submit(side, "1", "2")
        inbox = side.inbox()
        async with inbox.take() as deliveries:
            assert await take_done(deliveries, 1) == [b"1"]
        async with inbox.take() as deliveries:
            assert await take_done(deliveries, 1) == [b"2"]
            await nothing_comes(deliveries, side)

    told(opener, story)


def test_what_is_wanted_later_comes_again(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        await submit(side, "1", "2")
        async with side.inbox().take() as deliveries:
            first = await anext(deliveries)
            await first.later(0.05)
            assert await take_done(deliveries, 2) == [b"2", b"1"]
            await nothing_comes(deliveries, side)

    told(opener, story)


def test_no_more_than_the_agreed_number_is_handed_out(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        await submit(side, *"123456")
        async with side.inbox(at_once_max=2).take() as deliveries:
            held = [await anext(deliveries), await anext(deliveries)]
            third = asyncio.ensure_future(anext(deliveries))
            done, _ = await asyncio.wait({third}, timeout=0.1)
            assert not done
            await held[0].done()
            await held[1].done()
            await (await third).done()
            assert await take_done(deliveries, 3) == [b"4", b"5", b"6"]

    told(opener, story)


def test_a_parked_delivery_is_kept_aside_with_its_reason(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        await submit(side, "fine", "poison")
        async with side.inbox().take() as deliveries:
            assert await take_done(deliveries, 1) == [b"fine"]
            await (await anext(deliveries)).park("cannot be\r\nread")
            await nothing_comes(deliveries, side)
        ((subject, data, headers),) = await side.kept("hwbus.audit.parked.>")
        assert (subject, data) == ("hwbus.audit.parked.desk", b"poison")
        assert headers["reason"] == "cannot be read"
        assert headers["seq"] == "2"
        assert headers["subject"] == SUBMITTED

    told(opener, story)


def test_what_comes_back_too_often_is_parked(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        await submit(side, "cursed")
        async with side.inbox(deliveries_max=3).take() as deliveries:
            for _ in range(3):
                await (await anext(deliveries)).later(0)
            waiting = asyncio.ensure_future(anext(deliveries))
            await until_async(side.something_kept)
            await submit(side, "the last")
            last = await waiting
            assert last.data == b"the last"
            await last.done()
        ((_, data, headers),) = await side.kept("hwbus.audit.parked.>")
        assert data == b"cursed"
        assert "3 times" in headers["reason"]

    told(opener, story)


def test_a_message_has_the_same_place_and_moment_at_each_delivery(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        await submit(side, "1", "2")
        async with side.inbox().take() as deliveries:
            first, second = await anext(deliveries), await anext(deliveries)
            assert (first.seq, second.seq) == (1, 2)
            assert first.at <= second.at
            await second.done()
            await first.later(0)
            again = await anext(deliveries)
            assert (again.data, again.seq, again.at) == (b"1", 1, first.at)
            await again.done()

    told(opener, story)


def test_beside_one_that_made_room_another_is_handed_out(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        await submit(side, *"1234")
        async with side.inbox(at_once_max=2).take() as deliveries:
            waiting = [await anext(deliveries), await anext(deliveries)]
            third = asyncio.ensure_future(anext(deliveries))
            done, _ = await asyncio.wait({third}, timeout=0.1)
            assert not done
            for delivery in waiting * 2:
                await delivery.make_room()
            held = [await third, await anext(deliveries)]
            await submit(side, "5")
            fifth = asyncio.ensure_future(anext(deliveries))
            done, _ = await asyncio.wait({fifth}, timeout=0.1)
            assert not done
            for delivery in (*waiting, *held):
                await delivery.done()
            await (await fifth).done()
            await nothing_comes(deliveries, side)

    told(opener, story)


def test_a_delivery_is_settled_once(opener: SideOpener) -> None:
    async def story(side: Side) -> None:
        await submit(side, "1")
        async with side.inbox().take() as deliveries:
            delivery = await anext(deliveries)
            await delivery.done()
            with pytest.raises(RuntimeError, match="twice"):
                await delivery.later(0)

    told(opener, story)


# only on the real one


def test_two_desks_share_the_queue_and_a_dead_ones_work_comes_back() -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker) as one, wires_to(broker) as two:
            await one.ensure_streams()
            settings = InboxSettings(stream=SUBMIT.name, durable="desk", ack_wait_s=0.3)
            await submit(OnNats(one), "1")
            async with one.inbox(settings).take() as deliveries:
                assert (await anext(deliveries)).data == b"1"
            async with two.inbox(settings).take() as deliveries, asyncio.timeout(10):
                assert await take_done(deliveries, 1) == [b"1"]

    asyncio.run(story())


def test_what_is_marked_as_in_work_is_not_delivered_again_until_the_marks_end() -> None:
    async def story() -> None:
        async with fresh_wires() as wires:
            side = OnNats(wires)
            settings = InboxSettings(stream=SUBMIT.name, durable="desk", ack_wait_s=0.5)
            await submit(side, "1")
            async with wires.inbox(settings).take() as deliveries, asyncio.timeout(10):
                held = await anext(deliveries)
                again = asyncio.ensure_future(anext(deliveries))
                for _ in range(15):
                    await held.working()
                    await asyncio.wait({again}, timeout=0.1)
                assert not again.done()
                assert (await again).data == b"1"

    asyncio.run(story())


def test_what_cannot_be_parked_takes_no_place_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> None:
        raise LogFullError("the audit is full")

    async def story() -> None:
        async with fresh_wires() as wires:
            side = OnNats(wires)
            settings = InboxSettings(
                stream=SUBMIT.name, durable="desk", at_once_max=1, ack_wait_s=0.2, deliveries_max=1
            )
            inbox = wires.inbox(settings)
            monkeypatch.setattr(inbox._outlet, "keep", full)
            await submit(side, "cursed")
            async with inbox.take() as deliveries, asyncio.timeout(10):
                await (await anext(deliveries)).later(0)
                waiting = asyncio.ensure_future(anext(deliveries))
                await until(lambda: wires.counters.get("parked", 0) >= 3)
                await submit(side, "fine")
                assert (await waiting).data == b"fine"

    asyncio.run(story())


def test_an_inbox_goes_on_after_a_restart_of_the_broker() -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            side = OnNats(wires)
            async with side.inbox().take() as deliveries, asyncio.timeout(20):
                await submit(side, "1")
                assert await take_done(deliveries, 1) == [b"1"]
                await broker.stop()
                await until(lambda: not wires.connected)
                await broker.start()
                await until(lambda: wires.connected)
                await submit(side, "2")
                assert await take_done(deliveries, 1) == [b"2"]

    asyncio.run(story())


def test_a_service_answers_again_after_a_restart_of_the_broker() -> None:
    async def story() -> None:
        async with (
            fresh_broker() as broker,
            wires_to(broker) as wires,
            wires.bus.serve("desk", "1.0.0", SHOUT, shout),
        ):
            await broker.stop()
            with pytest.raises(OutcomeUnknownError):
                await wires.bus.request(CREATE, b"a", headers={}, timeout_s=1)
            await broker.start()
            await until(lambda: wires.connected)
            assert await wires.bus.request(CREATE, b"a", headers={}, timeout_s=5) == b"A"

    asyncio.run(story())


def test_a_service_can_be_found_and_asked_about_itself() -> None:
    async def story() -> None:
        async with (
            fresh_broker() as broker,
            wires_to(broker) as wires,
            wires.bus.serve("hwbus-desk", "1.2.3", SHOUT, shout),
        ):
            await wires.bus.request(CREATE, b"a", headers={}, timeout_s=5)
            ask = wires.bus.request
            ping = json.loads(await ask("$SRV.PING", b"", headers={}, timeout_s=5))
            info = json.loads(await ask("$SRV.INFO.hwbus-desk", b"", headers={}, timeout_s=5))
            stats = json.loads(await ask("$SRV.STATS.hwbus-desk", b"", headers={}, timeout_s=5))
        assert (ping["name"], ping["version"]) == ("hwbus-desk", "1.2.3")
        (endpoint,) = info["endpoints"]
        assert endpoint["subject"] == CREATE
        assert endpoint["metadata"] == {"doc": "makes a volume"}
        (figures,) = stats["endpoints"]
        assert figures["num_requests"] == 1
        assert figures["data"]["answered"] == 1
        assert figures["data"]["busy_ns"] > 0

    asyncio.run(story())
