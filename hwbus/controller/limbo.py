"""The log is looked through for what is in limbo as it grows: `hwbus doctor` and a figure tell.

The past is taken in for what is open and what is booked; causes are judged of what comes from then
on. `hwbus doctor --log` judges all of them.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import structlog

from aggregates.limbo import GRACE_S, LimboChecker
from aggregates.limbo_ledgers import Books, OnNode, books_of
from aggregates.world import World
from hwbus.desk import CommandDesk, Seen
from hwbus.ports import (
    Bus,
    Call,
    Clock,
    Endpoint,
    EventLog,
    NobodyThereError,
    OutcomeUnknownError,
    Stored,
)
from hwbus.subjects import Address, query
from projectors.projector import Projector
from projectors.reading import UnreadableError, read_record
from schemas.audit import ExecutedRecord, RefusedRecord
from schemas.limbo import CHECKS, LimboRow, LimboVerdict
from schemas.pool import POOLS
from schemas.queries import Page

LOOK_EVERY_S = 10.0
PATIENCE_S = 60.0
"""For a refusal that is named as a cause: it comes along another stream."""

_IDS_MAX = 1 << 18
_AUDIT = ("hwbus.audit.refused.>", "hwbus.audit.executed.>")
_AGAIN_S = 5.0
_LOG = structlog.get_logger("hwbus.limbo")


class LimboWatch:
    """Feed it the log, stretch by stretch. It acts on nothing."""

    def __init__(
        self,
        desk: CommandDesk,
        world: World,
        projector: Projector,
        audit: EventLog,
        clock: Clock,
        *,
        grace_s: float = GRACE_S,
    ) -> None:
        self._desk = desk
        self._world = world
        self._projector = projector
        self._audit = audit
        self._clock = clock
        self._grace_s = grace_s
        self._checker = LimboChecker(
            grace_s=grace_s, ids_max=_IDS_MAX, patience_s=PATIENCE_S, whole=False
        )
        self._verdict: LimboVerdict | None = None

    def take(self, seen: Sequence[Seen], *, judge: bool) -> None:
        """Look at a stretch of the log; at its causes only to *judge* them."""
        for one in seen:
            at = one.address
            self._checker.take(one.seq, (at.kind, at.place, at.id), one.commit, judge=judge)

    def counts(self) -> dict[str, int]:
        """Return how many findings there were of each check at the last look."""
        return dict.fromkeys(CHECKS, 0) if self._verdict is None else self._verdict.counts

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._look_again())

    @asynccontextmanager
    async def serving(self, bus: Bus, version: str) -> AsyncIterator[None]:
        """Answer `hwbus.q.limbo` until the context is left."""
        metadata = {"answer": "Page[LimboRow]", "idempotent": "true"}
        endpoint = Endpoint(name="limbo", subject=query("limbo"), metadata=metadata)
        async with bus.serve("hwbus-limbo", version, [endpoint], self._answer):
            yield

    def look(self) -> LimboVerdict:
        """Look up what hangs now, and tell of what was not so before."""
        now = self._clock.now()
        self._checker.compare(self._said(), "the control plane")
        for row in self._projector.status():
            behind = row.lag_s > self._grace_s
            head = row.head if behind else row.position
            self._checker.note_views(row.stream, row.position, head, row.parked)
        before = frozenset(map(_which, () if self._verdict is None else self._verdict.findings))
        self._verdict = self._checker.verdict(now, self._world)
        for one in self._verdict.findings:
            if _which(one) not in before:
                about = {"code": one.code, "stream": one.stream, "seq": one.seq}
                _LOG.error("in limbo", **about, subject=one.subject, because=one.because)
        return self._verdict

    def _said(self) -> dict[OnNode, Books | None]:
        """Return the sums of the desk, and None for pools of which it knows more than was seen."""
        said: dict[OnNode, Books | None] = {}
        for (node, name), pool in self._world.pools.items():
            known = self._desk.seq_of(Address(POOLS, node, name))
            same = known == self._checker.at_pool((node, name))
            said[node, name] = books_of(pool) if same else None
        return said

    async def _look_again(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _follow(self) -> None:
        """Follow the audit from where it ends now."""
        head = await self._head()
        async with self._audit.follow(after=head, subjects=_AUDIT) as batches:
            async for batch in batches:
                for stored in batch:
                    self._note(stored)

    async def _head(self) -> int:
        told = False
        while True:
            try:
                return await self._audit.head()
            except (OutcomeUnknownError, NobodyThereError) as error:
                # Once: the same is told by all that follow the log.
                if not told:
                    _LOG.warning("the audit cannot be looked at yet", because=str(error))
                told = True
            await asyncio.sleep(_AGAIN_S)

    def _note(self, stored: Stored) -> None:
        try:
            record = read_record(stored)
        except UnreadableError:
            return  # the projector sets it aside, and tells
        if isinstance(record, RefusedRecord):
            self._checker.know_refused(record.command)
        elif isinstance(record, ExecutedRecord):
            self._checker.take_tool(stored.seq, stored.subject, record)

    async def _answer(self, call: Call) -> bytes:  # noqa: ARG002 -- all are told, whatever is asked
        verdict = self.look()
        return msgspec.json.encode(Page(kind="limbo", seq=verdict.seq, items=verdict.findings))


def _which(row: LimboRow) -> tuple[str, str, int, str]:
    return row.code, row.stream, row.seq, row.subject
