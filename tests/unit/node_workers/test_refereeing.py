"""What the log says to a leg that has lost its peer, and what is made of silence."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from hwbus import subjects
from hwbus.memory import MemoryBus
from hwbus.ports import Call, Endpoint, ForbiddenError, NobodyThereError, OutcomeUnknownError
from node_workers.outbox import Link
from node_workers.refereeing import Referee
from node_workers.replication import Verdict
from schemas.answers import Accepted, Refused, Undecided
from schemas.grammar import kind_and_verb
from schemas.handing import FencePeer
from schemas.refusals import Refusal
from tests.support.virtual_time import run_virtually

UID = "1" * 26
ASK = FencePeer(volume="pg", uid=UID, node="n1", peer="n2")
YES = msgspec.json.encode(Accepted(command="c", seq=1, version=1))


class Wires:
    """A bus on which the desk answers as it was told to, or never."""

    def __init__(self, answer: bytes | Exception | None) -> None:
        self.bus = self
        self.calls: list[Call] = []
        self._answer = answer

    async def request(
        self, subject: str, data: bytes, *, headers: dict[str, str], timeout_s: float
    ) -> bytes:
        self.calls.append(Call(subject, data, headers))
        if isinstance(self._answer, Exception):
            raise self._answer
        if self._answer is None:
            await asyncio.sleep(timeout_s)
            raise OutcomeUnknownError("no answer")
        return self._answer


def verdict(wires: Wires | None, *, times: int = 1) -> Verdict:
    async def ask() -> Verdict:
        referee = Referee("n1")
        referee.link = cast("Link | None", wires)
        for _ in range(times - 1):
            await referee("pg", UID, "n2")
        return await referee("pg", UID, "n2")

    return run_virtually(ask)


def refused(code: Refusal) -> bytes:
    return msgspec.json.encode(Refused(code=code, because="so"))


def test_only_what_the_log_has_accepted_is_granted() -> None:
    assert verdict(Wires(YES)) is Verdict.GRANTED


def test_a_refusal_is_a_loss_only_where_another_has_the_volume() -> None:
    answers = {code: verdict(Wires(refused(code))) for code in Refusal}
    lost = {code for code, said in answers.items() if said is Verdict.LOST}
    assert lost == {Refusal.NOT_PRIMARY, Refusal.UNKNOWN_VOLUME}
    assert Verdict.GRANTED not in answers.values()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        OutcomeUnknownError("no answer"),
        NobodyThereError("nobody"),
        ForbiddenError("not yours"),
        ConnectionResetError("gone"),
        TimeoutError("late"),
        OSError("no route to host"),
        b"",
        b"not json",
        b"\xff\xfe",
        b"null",
        b'{"answer":"granted"}',
        b'{"answer":"accepted"}',
        YES + b"}",
        msgspec.json.encode(Undecided(command="c", because="the log is away")),
    ],
    ids=repr,
)
def test_whatever_else_comes_of_it_says_nothing(answer: bytes | Exception | None) -> None:
    assert verdict(Wires(answer)) is Verdict.UNKNOWN


def test_a_node_without_a_link_knows_nothing() -> None:
    assert verdict(None) is Verdict.UNKNOWN


def test_each_question_is_one_of_its_own_and_says_who_asks_for_what() -> None:
    wires = Wires(YES)
    verdict(wires, times=3)
    ids = {call.headers["Hwbus-Command-Id"] for call in wires.calls}
    assert len(ids) == 3
    for call in wires.calls:
        assert call.subject == subjects.command(*kind_and_verb(ASK))
        assert msgspec.json.decode(call.data, type=FencePeer) == ASK
        assert call.headers["Hwbus-Actor"] == "worker:n1"


def test_it_is_asked_over_a_bus_as_anybody_asks() -> None:
    async def scene() -> Verdict:
        bus, referee = MemoryBus(), Referee("n1")

        async def desk(call: Call) -> bytes:
            assert call.data
            return YES

        wires: Any = Wires(None)
        wires.bus = bus
        referee.link = wires
        assert await referee("pg", UID, "n2") is Verdict.UNKNOWN
        served = (Endpoint("fence", subjects.command(*kind_and_verb(ASK)), {}),)
        async with bus.serve("desk", "1.0.0", served, desk):
            return await referee("pg", UID, "n2")

    assert run_virtually(scene) is Verdict.GRANTED
