"""The responder for plans: what it is asked and answers, from now and from any point of the log."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest

from hwbus.controller.plans import Plans
from hwbus.ports import Call
from schemas.answers import Refused
from schemas.node import CordonNode
from schemas.plan import Forecast
from schemas.queries import Behind, Page
from schemas.refusals import Refusal
from schemas.volume import ProvisionVolume
from tests.support.given import GIB
from tests.support.stage import ScriptedNode, Stage
from tests.support.virtual_time import VirtualClock, run_virtually

_ANSWER: msgspec.json.Decoder[Page[Forecast] | Refused | Behind] = msgspec.json.Decoder(
    Page[Forecast] | Refused | Behind
)
PG = ProvisionVolume(volume="pg", size_bytes=GIB)


async def at_once(work: Callable[[], bytes]) -> bytes:
    """A thread could not wait in a time that is only told."""
    return work()


class Asking:
    """A control plane of two nodes, and the responder beside it."""

    def __init__(self, stage: Stage) -> None:
        assert stage.desk is not None
        self.stage = stage
        self.desk = stage.desk
        here = (stage.world, lambda: self.desk.position, stage.log, stage.clock)
        self.plans = Plans(*here, beside=at_once)

    async def ask(self, data: Any) -> Page[Forecast] | Refused | Behind:
        sent = data if isinstance(data, bytes) else msgspec.json.encode(data)
        return _ANSWER.decode(await self.plans(Call("hwbus.q.plan", sent, {})))

    async def say(self, *commands: Any, **more: Any) -> Page[Forecast]:
        steps = [{"what": "say", "command": one} for one in commands]
        page = await self.ask({"steps": steps, **more})
        assert isinstance(page, Page), page
        return page

    async def refused(self, data: Any) -> Refusal:
        answer = await self.ask(data)
        assert isinstance(answer, Refused), answer
        return answer.code


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Asking]:
    stage = Stage(VirtualClock())
    nodes = [ScriptedNode(stage, name, Random(name)) for name in ("n1", "n2")]
    async with stage.control_plane():
        for node in nodes:
            await node.join()
        tasks = [asyncio.create_task(node.work()) for node in nodes]
        try:
            for node in nodes:
                await stage.accepted(node.form(2))
            await stage.settled()
            yield Asking(stage)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def tell(tale: Callable[[Asking], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with cluster() as asking:
            await tale(asking)

    run_virtually(whole)


def test_a_plan_adds_nothing_to_the_log_and_the_command_then_goes_where_it_said() -> None:
    async def tale(asking: Asking) -> None:
        head, kept = await asking.stage.log.head(), len(asking.stage.outlet.kept)
        page = await asking.say(PG)
        assert await asking.stage.log.head() == head
        assert len(asking.stage.outlet.kept) == kept
        assert "pg" not in asking.stage.world.volumes
        assert (page.kind, page.seq, page.at) == ("plan", head, None)
        [move] = page.items[0].moves
        await asking.stage.accepted(PG)
        await asking.stage.settled()
        volume = asking.stage.world.volumes["pg"]
        assert move.target == f"{volume.node}/{volume.pool}"

    tell(tale)


def test_a_plan_may_begin_at_any_point_of_the_past() -> None:
    async def tale(asking: Asking) -> None:
        log = asking.stage.log
        before = await log.head()
        stored = await log.get(before)
        assert stored is not None
        await asyncio.sleep(5)
        await asking.stage.accepted(CordonNode(node="n1"))
        await asking.stage.accepted(CordonNode(node="n2"))
        assert (await asking.say(PG)).items[0].steps[0].code is Refusal.NODE_CORDONED
        then = await asking.say(PG, at=before)
        assert (then.seq, then.at) == (before, stored.at)
        assert then.items[0].steps[0].code is None
        moment = (stored.at + timedelta(seconds=1)).isoformat()
        assert (await asking.say(PG, at=moment)).items[0].moves == then.items[0].moves
        empty = await asking.say(PG, at=1)
        assert empty.items[0].steps[0].code is Refusal.NO_PLACE

    tell(tale)


def test_points_that_are_none_are_refused_with_the_codes_of_the_past() -> None:
    async def tale(asking: Asking) -> None:
        steps = [{"what": "say", "command": PG}]
        later = (asking.stage.clock.now() + timedelta(days=1)).isoformat()
        for at, code in (
            (0, Refusal.BEFORE_THE_LOG),
            ("1999-01-01T00:00:00Z", Refusal.BEFORE_THE_LOG),
            (10_000, Refusal.NOT_YET),
            (later, Refusal.NOT_YET),
            ("yesterday", Refusal.NO_POINT),
        ):
            assert await asking.refused({"steps": steps, "at": at}) is code, at

    tell(tale)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Refusal.MALFORMED),
        (b"{", Refusal.MALFORMED),
        ({"steps": []}, Refusal.MALFORMED),
        ({"steps": [{"what": "rains"}]}, Refusal.MALFORMED),
        ({"steps": [{"what": "say", "command": {}}]}, Refusal.MALFORMED),
        (
            {"steps": [{"what": "say", "command": {"type": "volume.paint.v1"}}]},
            Refusal.UNKNOWN_COMMAND,
        ),
        ({"steps": [{"what": "say", "command": {"type": "x"}}]}, Refusal.UNKNOWN_COMMAND),
        (
            {"steps": [{"what": "say", "command": {"type": "volume.provision.v1"}}]},
            Refusal.MALFORMED,
        ),
        (
            {"steps": [{"what": "work-fails", "node": "n1", "event": "rain.v1"}]},
            Refusal.MALFORMED,
        ),
        (b" " * 1_000_000, Refusal.TOO_LARGE),
    ],
)
def test_a_question_that_cannot_be_read_is_refused(data: Any, code: Refusal) -> None:
    async def tale(asking: Asking) -> None:
        assert await asking.refused(data) is code

    tell(tale)


def test_what_was_written_is_waited_for_and_not_for_ever() -> None:
    async def tale(asking: Asking) -> None:
        steps = [{"what": "say", "command": PG}]
        head = await asking.stage.log.head()
        late = await asking.ask({"steps": steps, "min_seq": head + 1, "wait_ms": 100})
        assert isinstance(late, Behind)
        assert (late.seq, late.min_seq) == (head, head + 1)
        asked = {"steps": steps, "min_seq": head + 1, "wait_ms": 60_000}
        asking_ = asyncio.create_task(asking.ask(asked))
        await asyncio.sleep(1)
        assert not asking_.done()
        await asking.stage.accepted(CordonNode(node="n1"))
        page = await asking_
        assert isinstance(page, Page)

    tell(tale)


def test_what_does_not_fit_into_one_message_is_counted_and_not_listed() -> None:
    async def tale(asking: Asking) -> None:
        many = [ProvisionVolume(volume="v" * 50 + str(n), size_bytes=1) for n in range(1000)]
        page = await asking.say(*many)
        told = page.items[0]
        assert len(msgspec.json.encode(page)) <= 900_000
        assert told.counts.events > len(told.events)

    tell(tale)
