"""The doorkeeper writes whom the broker let in, and says since when it does not hear."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from hwbus.controller import doorkeeper
from hwbus.controller.doorkeeper import Doorkeeper, Ear, LoginFigures
from hwbus.memory import MemoryBus
from hwbus.ports import Call, Endpoint, OutcomeUnknownError
from schemas.audit import AuditRecord, Hearing, HearingRecord, LoginRecord
from tests.support.clock import NOON, ManualClock
from tests.support.nats import until
from tests.unit.hwbus.test_logins import AWAY, IN, away, notice

_DECODER: msgspec.json.Decoder[AuditRecord] = msgspec.json.Decoder(AuditRecord)


class Paper:
    """An outlet that keeps what it is given once, unless it is told to be out of order."""

    def __init__(self) -> None:
        self.kept: dict[str, AuditRecord] = {}
        self.subjects: list[str] = []
        self.broken = False

    async def keep(self, subject: str, data: bytes, *, message_id: str) -> None:
        if self.broken:
            raise OutcomeUnknownError("no answer")
        self.subjects.append(subject)
        self.kept.setdefault(message_id, _DECODER.decode(data))

    def states(self) -> list[Hearing]:
        return [one.state for one in self.kept.values() if isinstance(one, HearingRecord)]

    def logins(self) -> list[LoginRecord]:
        return [one for one in self.kept.values() if isinstance(one, LoginRecord)]


class Line:
    """A connection of the system account, in memory."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.counters: dict[str, int] = {}
        self.gone = asyncio.Event()

    async def until_gone(self) -> None:
        await self.gone.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("_PROBE_S", "_TICK_S", "_AGAIN_S"):
        monkeypatch.setattr(doorkeeper, name, 0.005)
    return iter(())


def a_doorkeeper(paper: Paper, clock: ManualClock, line: Line | None = None) -> Doorkeeper:
    @asynccontextmanager
    async def dial() -> AsyncIterator[Ear]:
        assert line is not None
        line.gone.clear()
        yield line

    way: Any = None if line is None else dial
    return Doorkeeper(paper, clock, dial=way, listener="h1", once="o")


async def answer(call: Call) -> bytes:
    return b"{}"


PROBE = Endpoint("idz", doorkeeper._PROBE, {})


def test_gaps_are_told_from_when_to_when() -> None:
    async def tale() -> None:
        paper, clock, line = Paper(), ManualClock(NOON), Line()
        keeper = a_doorkeeper(paper, clock, line)
        running = asyncio.create_task(keeper.run())
        async with line.bus.serve("s", "1.0.0", [PROBE], answer):
            await until(lambda: keeper.heard)
            line.counters["reconnects"] = 1
            await until(lambda: paper.states()[-1:] == [Hearing.AGAIN])
            line.counters["listen_dropped"] = 7
            await until(lambda: paper.states()[-1:] == [Hearing.MISSED])
            line.gone.set()
            await until(lambda: paper.states()[-2:] == [Hearing.LOST, Hearing.AGAIN])
        running.cancel()
        await asyncio.wait([running])
        await keeper.close()
        states = paper.states()
        assert (states[0], states[-1]) == (Hearing.BEGAN, Hearing.STOPPED)
        lost = [r for r in paper.kept.values() if isinstance(r, HearingRecord) and r.missed]
        assert [one.missed for one in lost] == [7]
        assert keeper.missed == 7

    asyncio.run(tale())


@pytest.mark.parametrize("turns", range(12))
def test_told_to_end_it_ends_also_at_the_moment_it_stops_hearing(turns: int) -> None:
    async def tale() -> None:
        paper, line = Paper(), Line()
        keeper = a_doorkeeper(paper, ManualClock(NOON), line)
        running = asyncio.create_task(keeper.run())
        async with line.bus.serve("s", "1.0.0", [PROBE], answer):
            await until(lambda: keeper.heard)
            line.gone.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            done, _ = await asyncio.wait([running], timeout=5)
        assert done == {running}

    asyncio.run(tale())


def test_who_may_ask_but_not_listen_does_not_pass_for_somebody_who_hears() -> None:
    async def tale() -> None:
        paper, line = Paper(), Line()
        keeper = a_doorkeeper(paper, ManualClock(NOON), line)
        line.counters["errors"] = 1
        running = asyncio.create_task(keeper.run())
        async with line.bus.serve("s", "1.0.0", [PROBE], answer):
            await until(lambda: paper.states() == [Hearing.LOST])
            assert "does not let this login hear" in keeper.trouble
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(tale())


def test_a_login_that_nobody_can_write_waits_and_too_many_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doorkeeper, "WAITING_MAX", 3)

    async def tale() -> None:
        paper, clock = Paper(), ManualClock(NOON)
        keeper = a_doorkeeper(paper, clock)
        paper.broken = True
        running = asyncio.create_task(keeper.run())
        await asyncio.sleep(0)
        for n in range(5):
            keeper.take(Call(AWAY, notice(id=n), {}))
        paper.broken = False
        await until(lambda: Hearing.MISSED in paper.states())
        running.cancel()
        await asyncio.wait([running])
        assert [one.number for one in paper.logins()] in ([0, 1], [0, 1, 2])
        assert keeper.missed == 5 - len(paper.logins())

    asyncio.run(tale())


def test_who_stops_in_order_tells_what_was_held_back_and_counted() -> None:
    async def tale() -> None:
        paper, clock, line = Paper(), ManualClock(NOON), Line()
        keeper = a_doorkeeper(paper, clock, line)
        keeper.take(Call(IN, notice(), {}))
        for n in range(9):
            keeper.take(Call(AWAY, msgspec.json.encode(_as_notice(n)), {}))
        await keeper.close()
        told = [(str(one.outcome), one.times) for one in paper.logins()]
        assert sorted(told) == [("let-in", 1), ("turned-away", 1)] + [("turned-away", 1)] * 4 + [
            ("turned-away", 4)
        ]
        assert set(paper.subjects) == {
            "hwbus.audit.login.let-in",
            "hwbus.audit.login.turned-away",
            "hwbus.audit.hearing.logins",
        }

    asyncio.run(tale())


def _as_notice(n: int) -> Any:
    record = away(n)
    return msgspec.json.decode(notice(at=record.at, id=n, host=record.address, reason="x"))


def test_a_notice_that_cannot_be_read_is_told() -> None:
    async def tale() -> None:
        paper, clock, line = Paper(), ManualClock(NOON), Line()
        keeper = a_doorkeeper(paper, clock, line)
        keeper.take(Call(IN, b"{", {}))
        await keeper.close()
        assert paper.states() == [Hearing.MISSED, Hearing.STOPPED]
        missed = {m.name: m.samples[0].value for m in LoginFigures(keeper).collect()}
        assert missed == {"hwbus_logins_heard": 0, "hwbus_logins_missed": 1}
        deaf = a_doorkeeper(paper, clock)
        assert [m.name for m in LoginFigures(deaf).collect() if m.samples] == [
            "hwbus_logins_missed"
        ]

    asyncio.run(tale())
