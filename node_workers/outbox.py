"""What the hands have to tell: kept on disk first, then told until somebody has answered."""

import asyncio
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Protocol

import msgspec
import structlog

from hwbus import subjects
from hwbus.ports import (
    Bus,
    Clock,
    EventLog,
    ForbiddenError,
    LogFullError,
    NobodyThereError,
    OutcomeUnknownError,
    Outlet,
)
from node_workers.figures import Figures
from node_workers.lanes import backoff_s
from node_workers.reports import NODE_LANE, Letter
from node_workers.store import Record, Store
from schemas.answers import Accepted, Refused, Undecided
from schemas.audit import ParkedRecord

_LOG = structlog.get_logger("node_workers.outbox")
_ANSWER: msgspec.json.Decoder[Accepted | Refused | Undecided] = msgspec.json.Decoder(
    Accepted | Refused | Undecided
)
RECORDS_MAX = 20_000
_RECORDS_SPARE = 1_000
_RECORDS_AT_ONCE = 64
_LANES_AT_ONCE = 32
_ANSWER_TIMEOUT_S = 5.0
_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 5.0
_LABEL_CHARACTERS_MAX = 63
_PARKED_DATA_BYTES_MAX = 1024
_NO_ANSWER = (OutcomeUnknownError, NobodyThereError, ForbiddenError)


class Link(Protocol):
    """The wires, while there are any."""

    @property
    def log(self) -> EventLog:
        """The truth."""
        ...

    @property
    def outlet(self) -> Outlet:
        """The audit stream."""
        ...

    @property
    def bus(self) -> Bus:
        """Requests and fleeting messages."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached at this moment."""
        ...


class Outbox:
    """Letters in memory in the order of their lanes, records on disk only; both survive a crash."""

    def __init__(
        self,
        store: Store,
        *,
        node: str,
        identity: str,
        clock: Clock,
        rng: Random,
        figures: Figures,
        records_max: int = RECORDS_MAX,
    ) -> None:
        self._store = store
        self._node = node
        self._identity = identity
        self._clock = clock
        self._rng = rng
        self._figures = figures
        self._records_max = records_max
        self._lanes: dict[str, deque[tuple[int, Letter]]] = {}
        self._records_waiting = 0
        self._news = asyncio.Event()
        self._records_news = asyncio.Event()

    async def load(self, letters: Sequence[tuple[int, Letter]]) -> None:
        """Take over what an earlier life left: its letters, and on disk its records."""
        self._records_waiting = await self._store.count_records()
        self._records_news.set()
        self.post([letter for _, letter in letters], [number for number, _ in letters])

    def post(self, letters: Sequence[Letter], numbers: Sequence[int]) -> None:
        """Send *letters*, which are in the store under *numbers*."""
        for letter, number in zip(letters, numbers, strict=True):
            lane = self._lanes.setdefault(letter.lane, deque())
            if letter.newest_only:
                kept = [one for one in lane if not one[1].newest_only]
                lane.clear()
                lane.extend(kept)
            lane.append((number, letter))
        self._figures.show("letters_waiting", self.letters_waiting)
        self._news.set()

    @property
    def letters_waiting(self) -> int:
        """How many reports have not been answered."""
        return sum(len(lane) for lane in self._lanes.values())

    @property
    def records_waiting(self) -> int:
        """How many records are not on the audit stream yet."""
        return self._records_waiting

    async def keep(self, records: Sequence[Record]) -> None:
        """Have *records* on disk, and on the audit stream when it can be reached."""
        # Shielded, so that what is on disk and how many we think are there never part.
        await asyncio.shield(self._keep_and_count(records))

    async def _keep_and_count(self, records: Sequence[Record]) -> None:
        await self._store.add_records(records)
        await self.added(len(records))

    async def added(self, count: int) -> None:
        """Know that *count* records were put into the store; drop the oldest beyond the bound."""
        self._records_waiting += count
        if self._records_waiting > self._records_max:
            dropped = await self._store.drop_records(_RECORDS_SPARE)
            self._records_waiting -= dropped
            self._figures.count("records_dropped_total", dropped)
            _LOG.error("audit records dropped: the bus was away for too long", records=dropped)
        self._figures.show("records_waiting", self._records_waiting)
        self._records_news.set()

    async def deliver(self, link: Link) -> None:
        """Send letters and records until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver_letters(link.bus), name="letters")
            group.create_task(self._deliver_records(link.outlet), name="records")

    async def _deliver_letters(self, bus: Bus) -> None:
        running: set[str] = set()
        room = asyncio.Semaphore(_LANES_AT_ONCE)

        async def lane(name: str) -> None:
            try:
                await self._deliver_lane(bus, name, room)
            finally:
                running.discard(name)
                self._news.set()

        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                for name in [name for name in self._next_lanes() if name not in running]:
                    running.add(name)
                    group.create_task(lane(name), name=f"letters of {name}")
                await self._news.wait()

    def _next_lanes(self) -> tuple[str, ...]:
        """Return the lanes that may go: the node's own first, and alone.

        A disk on a node that nobody knows could be seen and not be used, and what is found wrong on
        such a node is not noted.
        """
        return (NODE_LANE,) if NODE_LANE in self._lanes else tuple(self._lanes)

    async def _deliver_lane(self, bus: Bus, name: str, room: asyncio.Semaphore) -> None:
        lane, attempt = self._lanes[name], 0
        while lane:
            number, letter = lane[0]
            async with room:
                answer = await self._ask(bus, letter)
            if isinstance(answer, Undecided):
                _LOG.info("report not answered yet", lane=name, because=answer.because)
                wait_s = backoff_s(attempt, self._rng, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S)
                await asyncio.sleep(wait_s)
                attempt += 1
                continue
            await self._answered(number, letter, answer)
            attempt = 0
            if lane and lane[0][0] == number:
                lane.popleft()
        self._lanes.pop(name, None)
        self._figures.show("letters_waiting", self.letters_waiting)

    async def _ask(self, bus: Bus, letter: Letter) -> Accepted | Refused | Undecided:
        command = letter.headers["Hwbus-Command-Id"]
        try:
            answer = await bus.request(
                letter.subject, letter.data, headers=letter.headers, timeout_s=_ANSWER_TIMEOUT_S
            )
            return _ANSWER.decode(answer)
        except _NO_ANSWER as error:
            return Undecided(command=command, because=str(error))
        except msgspec.DecodeError as error:
            _LOG.exception("an answer could not be read", command=command)
            return Undecided(command=command, because=f"unreadable answer: {error}")

    async def _answered(self, number: int, letter: Letter, answer: Accepted | Refused) -> None:
        if isinstance(answer, Accepted):
            self._figures.count("reports_total")
            await self._store.remove_letter(number)
            return
        # Reports are never refused; that this one was is a fault of ours, and repeating it helps
        # nobody.
        self._figures.count("reports_refused_total")
        _LOG.error(
            "a report was refused",
            subject=letter.subject,
            command=letter.headers["Hwbus-Command-Id"],
            code=answer.code.value,
            because=answer.because,
        )
        record = parked(
            self._node,
            self._clock,
            subject=letter.subject,
            seq=0,
            because=f"report refused: {answer.code.value} {answer.because}",
            data=letter.data,
        )
        await self._store.remove_letter(number, (record,))
        await self.added(1)

    async def _deliver_records(self, outlet: Outlet) -> None:
        attempt = 0
        while True:
            self._records_news.clear()
            rows = await self._store.oldest_records(_RECORDS_AT_ONCE)
            if not rows:
                await self._records_news.wait()
                continue
            kept = await asyncio.gather(*(self._keep(outlet, *row) for row in rows))
            done = [number for number in kept if number]
            if done:
                await asyncio.shield(self._forget(done))
            if len(done) == len(rows):
                attempt = 0
                continue
            wait_s = backoff_s(attempt, self._rng, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S)
            await asyncio.sleep(wait_s)
            attempt += 1

    async def _forget(self, done: Sequence[int]) -> None:
        await self._store.remove_records(done)
        self._records_waiting -= len(done)
        self._figures.count("records_total", len(done))
        self._figures.show("records_waiting", self._records_waiting)

    async def _keep(self, outlet: Outlet, number: int, subject: str, data: bytes) -> int:
        try:
            await outlet.keep(subject, data, message_id=f"{self._node}.{self._identity}.{number}")
        except (*_NO_ANSWER, LogFullError) as error:
            _LOG.warning("record not on the audit stream yet", because=str(error))
            return 0
        return number


def parked(node: str, clock: Clock, *, subject: str, seq: int, because: str, data: bytes) -> Record:
    """Return the record that a message was set aside by this node's worker."""
    consumer = f"worker-{node}"
    record = ParkedRecord(
        at=clock.now(),
        consumer=consumer,
        subject=subject,
        seq=seq,
        because=because,
        data=data[:_PARKED_DATA_BYTES_MAX].decode(errors="replace"),
    )
    # The longest node names would make a longer word than a subject may have.
    word = consumer[:_LABEL_CHARACTERS_MAX].rstrip("-")
    return Record(subject=subjects.audit("parked", word), data=msgspec.json.encode(record))
