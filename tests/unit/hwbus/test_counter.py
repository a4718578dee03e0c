"""Submitted commands are decided once, wait for as long as the log cannot say, and end nobody."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from structlog.testing import capture_logs

from hwbus.asking import COMMAND_ID
from hwbus.codec import commit_codec
from hwbus.controller.counter import Counter, id_of
from hwbus.controller.storage import StorageDomain
from hwbus.desk import CommandDesk
from hwbus.memory import MemoryBus, MemoryDelivery, MemoryInbox, MemoryLog, MemoryOutlet
from hwbus.ports import Call, LogFullError, OutcomeUnknownError
from schemas.answers import Accepted, Answer, Undecided
from schemas.units import Id
from schemas.words import AnyEvent
from tests.support.stage import Counting
from tests.support.virtual_time import VirtualClock, run_virtually

CODEC = commit_codec(AnyEvent)
HOUR_S = 3600.0


class DeafInbox(MemoryInbox):
    """Loses what it is told at the end of the first deliveries, and delivers them again."""

    losses = 0

    def settled(self, number: int) -> None:
        super().settled(number)
        if self.losses:
            self.losses -= 1
            self._due.append(number)
            raise OutcomeUnknownError("no answer in time")


class ScriptedDesk:
    """Answers by subject what it was told to, and notes by which ids it was asked."""

    def __init__(self, answer: Callable[[Call], Answer]) -> None:
        self._answer = answer
        self.asked: list[tuple[str, str]] = []

    async def call(self, call: Call) -> Answer:
        self.asked.append((call.subject, call.headers[COMMAND_ID]))
        return self._answer(call)


class Scene:
    """A queue, and a counter that takes from it while it is open."""

    def __init__(self, *, at_once_max: int = 64, deliveries_max: int = 3) -> None:
        self.clock, self.bus, self.outlet = VirtualClock(), MemoryBus(), MemoryOutlet()
        self.log = MemoryLog(self.clock)
        self.inbox = DeafInbox(self.outlet, at_once_max=at_once_max, deliveries_max=deliveries_max)

    def desk(self) -> CommandDesk:
        return CommandDesk(StorageDomain(), self.log, self.outlet, CODEC, self.clock, Counting())

    @asynccontextmanager
    async def open(self, desk: Any = None) -> AsyncIterator["asyncio.Task[None]"]:
        counter = Counter(desk or self.desk(), self.bus, self.inbox, self.outlet, self.clock)
        async with counter.open("1.0.0") as queue:
            yield queue
            assert not queue.done()

    async def submit(self, what: str, body: object = None, **headers: str) -> None:
        await self.outlet.keep(
            f"hwbus.submit.{what}",
            msgspec.json.encode(body or {}),
            message_id=f"m{len(self.outlet.kept)}",
            headers={name.replace("_", "-"): text for name, text in headers.items()},
        )

    async def words(self) -> list[str]:
        """The commands that were decided about the node, in order."""
        return [CODEC.decode(s.data).word for s in await self.log.history("hwbus.evt.node.-.n1")]

    def parked(self) -> list[bytes]:
        return [kept.data for kept in self.outlet.under("hwbus.audit.parked.>")]


def play(tale: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await tale()

    run_virtually(whole)


def accepted(call: Call) -> Accepted:
    return Accepted(command=call.headers[COMMAND_ID], seq=1, version=1)


def undecided(call: Call) -> Undecided:
    return Undecided(command=call.headers[COMMAND_ID], because="the log is full")


def test_a_command_without_an_id_is_decided_once_however_often_it_is_delivered() -> None:
    async def tale() -> None:
        scene = Scene()
        scene.inbox.losses = 1
        desk = scene.desk()
        await desk.call(Call("hwbus.cmd.node.report-joined", b'{"node":"n1"}', {}))
        await scene.submit("node.cordon", {"node": "n1"})
        async with scene.open(desk):
            await asyncio.sleep(1)
            assert scene.inbox._times == {1: 2}
            assert await scene.words() == ["node.report-joined.v1", "node.cordon.v1"]
        last = (await scene.log.history("hwbus.evt.node.-.n1"))[-1]
        delivery = MemoryDelivery(scene.inbox, 1, scene.outlet.kept[0])
        assert CODEC.decode(last.data).command == id_of(delivery)

    play(tale)


def test_what_was_undone_meanwhile_is_not_done_again_by_a_repeated_delivery() -> None:
    async def tale() -> None:
        scene = Scene()
        desk = scene.desk()
        await desk.call(Call("hwbus.cmd.node.report-joined", b'{"node":"n1"}', {}))
        await scene.submit("node.cordon", {"node": "n1"})
        for _ in range(2):
            async with scene.open(desk):
                await asyncio.sleep(1)
            await desk.call(Call("hwbus.cmd.node.uncordon", b'{"node":"n1"}', {}))
            scene.inbox._due.append(1)
        words = await scene.words()
        assert words == ["node.report-joined.v1", "node.cordon.v1", "node.uncordon.v1"]

    play(tale)


def test_the_id_of_a_command_is_made_of_its_place_and_of_when_it_was_taken() -> None:
    scene = Scene()

    class At(MemoryDelivery):
        def __init__(self, number: int, at: datetime) -> None:
            super().__init__(scene.inbox, number, scene.outlet.kept[0])
            self.at = at

    async def tale() -> None:
        await scene.submit("node.cordon")
        now = datetime(2026, 11, 27, tzinfo=UTC)
        ids = [
            id_of(At(number, at))
            for number in (1, 2)
            for at in (now, now + timedelta(microseconds=1))
        ]
        assert len(set(ids)) == 4
        assert msgspec.convert(ids, list[Id]) == ids
        assert id_of(At(1, now)) == ids[0]

    play(tale)


def test_a_command_that_brings_its_id_keeps_it() -> None:
    async def tale() -> None:
        scene, desk = Scene(), ScriptedDesk(accepted)
        await scene.submit("node.cordon", Hwbus_Command_Id="mine")
        async with scene.open(desk):
            await asyncio.sleep(1)
        assert desk.asked == [("hwbus.submit.node.cordon", "mine")]

    play(tale)


def test_a_command_waits_as_long_as_the_log_takes_nothing_and_across_a_restart() -> None:
    async def tale() -> None:
        scene = Scene()
        scene.log._max_bytes = 0
        await scene.submit("node.report-joined", {"node": "n1"})
        for _ in range(2):
            desk = scene.desk()
            async with scene.open(desk):
                await asyncio.sleep(HOUR_S)
                assert 100 < desk.counters.undecided < HOUR_S / 2
        assert scene.parked() == []
        async with scene.open():
            await asyncio.sleep(20)
            scene.log._max_bytes = None
            await asyncio.sleep(20)
            assert await scene.words() == ["node.report-joined.v1"]
        assert scene.parked() == []
        assert scene.inbox._held == {}

    play(tale)


def test_commands_that_wait_keep_no_other_from_being_decided() -> None:
    async def tale() -> None:
        scene = Scene(at_once_max=2)
        desk = ScriptedDesk(lambda call: (undecided if "pool" in call.subject else accepted)(call))
        for _ in range(5):
            await scene.submit("pool.form")
        await scene.submit("node.cordon")
        async with scene.open(desk):
            await asyncio.sleep(1)
        assert desk.asked[-1][0] == "hwbus.submit.node.cordon"

    play(tale)


def test_a_command_that_breaks_the_desk_is_parked_at_last_and_ends_nobody() -> None:
    def answer(call: Call) -> Answer:
        if "pool" in call.subject:
            raise ValueError("a mistake of ours")
        return accepted(call)

    async def tale() -> None:
        scene, desk = Scene(), ScriptedDesk(answer)
        await scene.submit("pool.form", "poison")
        async with scene.open(desk):
            with capture_logs() as logs:
                await asyncio.sleep(HOUR_S)
            await scene.submit("node.cordon")
            await asyncio.sleep(1)
        assert [subject for subject, _ in desk.asked].count("hwbus.submit.pool.form") == 3
        assert desk.asked[-1][0] == "hwbus.submit.node.cordon"
        assert scene.parked() == [b'"poison"']
        assert sum("broke the desk" in one["event"] for one in logs) == 3

    play(tale)


def test_an_end_that_the_queue_does_not_confirm_is_told_and_ends_nobody() -> None:
    failures = iter([True, False, False])

    def answer(call: Call) -> Answer:
        if next(failures):
            raise ValueError("a mistake of ours")
        return accepted(call)

    async def tale() -> None:
        scene, desk = Scene(deliveries_max=9), ScriptedDesk(answer)
        scene.inbox.losses = 2  # of the request for it later, and of its being done
        await scene.submit("node.cordon")
        async with scene.open(desk):
            with capture_logs() as logs:
                await asyncio.sleep(HOUR_S)
        assert len(desk.asked) == 3
        assert len({id_ for _, id_ in desk.asked}) == 1
        assert sum("comes again" in one["event"] for one in logs) == 2

    play(tale)


def test_an_acceptance_that_the_audit_does_not_take_is_told_and_the_command_is_done() -> None:
    class Full(MemoryOutlet):
        async def keep(self, subject: str, data: bytes, **rest: Any) -> None:
            if subject.startswith("hwbus.audit."):
                raise LogFullError("the audit is full")
            await super().keep(subject, data, **rest)

    async def tale() -> None:
        scene, desk = Scene(), ScriptedDesk(accepted)
        scene.outlet = Full()
        scene.inbox = DeafInbox(scene.outlet)
        await scene.submit("node.cordon")
        async with scene.open(desk):
            with capture_logs() as logs:
                await asyncio.sleep(HOUR_S)
        assert len(desk.asked) == 1
        assert [one["because"] for one in logs] == ["the audit is full"]

    play(tale)


def test_what_is_in_hand_is_marked_as_in_work_for_as_long_as_that_takes() -> None:
    marked: list[float] = []

    class Marked(MemoryDelivery):
        async def working(self) -> None:
            marked.append(asyncio.get_running_loop().time())

    class One(DeafInbox):
        @asynccontextmanager
        async def take(self) -> AsyncIterator[AsyncIterator[Any]]:
            async def one() -> AsyncIterator[Any]:
                yield Marked(self, 1, self._outlet.kept[0])
                await asyncio.Event().wait()

            yield one()

    async def tale() -> None:
        scene = Scene()
        scene.inbox = One(scene.outlet)
        await scene.submit("node.cordon")
        async with scene.open(ScriptedDesk(undecided)):
            await asyncio.sleep(65)
        assert marked == [10, 20, 30, 40, 50, 60]

    play(tale)
