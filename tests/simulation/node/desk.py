"""A desk for one node in memory: real deciders answer its reports, a test says what is wished."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec

from aggregates.decision import Facts
from aggregates.world import World
from hwbus import subjects
from hwbus.memory import MemoryBus, MemoryLog, MemoryOutlet
from hwbus.ports import Bus, Call, Endpoint, EventLog, NobodyThereError, Responder, Stored
from schemas.answers import Accepted, Answer, Refused, Undecided
from schemas.audit import ExecutedRecord, ParkedRecord
from schemas.commit import Commit
from schemas.grammar import Event, Message, kind_and_verb, type_name
from schemas.place import place_of
from schemas.words import AnyEvent, command_for
from tests.support.clock import ManualClock

_COMMITS = msgspec.json.Decoder(Commit[AnyEvent])
_EXECUTED = msgspec.json.Decoder(ExecutedRecord)
_PARKED = msgspec.json.Decoder(ParkedRecord)


class Said(msgspec.Struct, frozen=True):
    """A report as it came in."""

    id: str
    word: Message
    headers: dict[str, str]


class Desk:
    """The log, the audit stream and the answers, as one node sees them."""

    def __init__(self, log: EventLog | None = None) -> None:
        self.clock = ManualClock()
        self.log = log or MemoryLog(self.clock)
        self.outlet = MemoryOutlet()
        self.world = World()
        self.said: list[Said] = []
        self.answer: Callable[[Said], Answer | None] = lambda _: None
        self.away = False
        self._decided: dict[str, Accepted] = {}
        self._inner = MemoryBus()
        self._cut = asyncio.Event()

    async def forked(self) -> "Desk":
        """Return another desk with the same past, which hears nothing of what happens here."""
        other = Desk()
        other.clock = ManualClock(self.clock.now())
        other.log = MemoryLog(other.clock)
        for number in range(1, await self.log.head() + 1):
            stored = await self.log.get(number)
            assert stored is not None
            commit = self.read(stored)
            address = subjects.Address(*place_of(commit.events[0]))
            other.world.evolve(address.kind, address.place, address.id, commit.events)
            last = await other.log.last(stored.subject)
            after = last.seq if last else 0
            await other.log.append(stored.subject, stored.data, after=after, message_id=commit.id)
        for kept in self.outlet.kept:
            message_id = kept.headers["Nats-Msg-Id"]
            await other.outlet.keep(kept.subject, kept.data, message_id=message_id)
        other.said = list(self.said)
        other._decided = dict(self._decided)
        return other

    @property
    def bus(self) -> Bus:
        return self

    @property
    def connected(self) -> bool:
        return not self.away

    async def happen(
        self, *events: Event, operation: str = "op", cause: str = "", traceparent: str = ""
    ) -> int:
        """Append one commit of *events*, which are about one aggregate; return its sequence."""
        address = subjects.Address(*place_of(events[0]))
        last = await self.log.last(address.subject)
        after = last.seq if last else 0
        number = await self.log.head() + 1
        commit = Commit(
            id=f"c{number}",
            at=self.clock.now(),
            actor="test",
            command=f"c{number}",
            word="test.v1",
            correlation=operation,
            cause=cause,
            traceparent=traceparent,
            version=number,
            events=events,
        )
        data = msgspec.json.encode(commit)
        self.world.evolve(address.kind, address.place, address.id, events)
        return await self.log.append(address.subject, data, after=after, message_id=commit.id)

    async def garble(self, subject: str, data: bytes) -> int:
        last = await self.log.last(subject)
        after = last.seq if last else 0
        return await self.log.append(subject, data, after=after, message_id=f"bad-{after}")

    async def request(
        self, subject: str, data: bytes, *, headers: dict[str, str], timeout_s: float
    ) -> bytes:
        """As ``Bus.request``: decide as the real desk would, with the real deciders."""
        await asyncio.sleep(0)
        if self.away:
            raise NobodyThereError(subject)
        if subject.startswith("hwbus.lend."):
            lent = self._inner.request(subject, data, headers=headers, timeout_s=timeout_s)
            return await lent
        word = command_for(*subjects.parse_command(subject))
        assert word is not None, subject
        said = Said(headers["Hwbus-Command-Id"], msgspec.json.decode(data, type=word), headers)
        self.said.append(said)
        scripted = self.answer(said)
        return msgspec.json.encode(scripted or await self._decide(said))

    async def _decide(self, said: Said) -> Answer:
        if said.id in self._decided:
            return self._decided[said.id]
        facts = Facts(at=self.clock.now(), operation="o" * 26, uid="u" * 26, world=self.world)
        events = self.world.decide(said.word, facts)
        if isinstance(events, Refused):
            return events
        seq = 0
        if events:
            seq = await self.happen(
                *events,
                operation=said.headers.get("Hwbus-Correlation", said.id),
                cause=said.headers["Hwbus-Cause"],
            )
            self._decided[said.id] = Accepted(command=said.id, seq=seq, version=seq)
        return Accepted(command=said.id, seq=seq, version=seq)

    async def publish(self, subject: str, data: bytes) -> None:
        await self._inner.publish(subject, data)

    def cut(self) -> None:
        """Lose every link that there is; new ones can be made."""
        self._cut.set()
        self._cut = asyncio.Event()

    @asynccontextmanager
    async def listen(self, subject: str) -> AsyncIterator[AsyncIterator[Call]]:
        cut = self._cut
        async with self._inner.listen(subject) as calls:
            yield _until_cut(calls, cut)

    def serve(
        self,
        name: str,
        version: str,
        endpoints: Sequence[Endpoint],
        responder: Responder,
        *,
        at_once_max: int = 1024,
    ) -> AbstractAsyncContextManager[None]:
        return self._inner.serve(name, version, endpoints, responder, at_once_max=at_once_max)

    @asynccontextmanager
    async def link(self) -> AsyncIterator["Desk"]:
        if self.away:
            raise ConnectionError("nobody is there")
        yield self

    def reports(self, kind: str) -> list[Any]:
        """All reports about one kind of thing, repetitions included, oldest first."""
        return [said.word for said in self.said if kind_and_verb(said.word)[0] == kind]

    def of(self, word: type[Message]) -> list[Any]:
        return [said.word for said in self.said if isinstance(said.word, word)]

    async def events(self, kind: str, place: str, id_: str) -> list[Event]:
        history = await self.log.history(subjects.Address(kind, place, id_).subject)
        return [event for stored in history for event in self.read(stored).events]

    async def names(self, kind: str, place: str, id_: str) -> list[str]:
        return [type_name(event) for event in await self.events(kind, place, id_)]

    def read(self, stored: Stored) -> Commit[Any]:
        return _COMMITS.decode(stored.data)

    def executed(self) -> list[ExecutedRecord]:
        return [_EXECUTED.decode(k.data) for k in self.outlet.under("hwbus.audit.executed.*")]

    def parked(self) -> list[ParkedRecord]:
        return [_PARKED.decode(k.data) for k in self.outlet.under("hwbus.audit.parked.*")]


async def _until_cut(calls: AsyncIterator[Call], cut: asyncio.Event) -> AsyncIterator[Call]:
    while True:
        heard = asyncio.ensure_future(anext(calls))
        cutting = asyncio.ensure_future(cut.wait())
        try:
            await asyncio.wait((heard, cutting), return_when=asyncio.FIRST_COMPLETED)
            if cutting.done():
                raise ConnectionError("cut")
            yield heard.result()
        finally:
            heard.cancel()
            cutting.cancel()
            await asyncio.wait((heard, cutting))


def undecided(said: Said) -> Undecided:
    return Undecided(command=said.id, because="scripted")
