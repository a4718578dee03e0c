"""Policies at work: what they would do is asked of the world, decided by them, and then said.

Nothing is remembered here that the log does not hold: a policy records that it acts before the wish
is said, and the id of the wish is made of that record. So whoever dies in between, or does it
twice, changes nothing about the end.
"""

from collections.abc import Callable, Sequence

import structlog

from aggregates.care import due, pending
from aggregates.world import World
from hwbus.controller.looking import Looking
from hwbus.desk import CommandDesk, Seen
from hwbus.ports import Clock
from schemas.answers import Accepted, Answer, Refused, Undecided
from schemas.disk import DiskChanged, DiskFound, DiskHealthChanged
from schemas.filling import VolumeFilled
from schemas.grammar import Event, Message
from schemas.pool import ThinPoolFilled
from schemas.snapshot import SnapshotFilled

_SEQS_MAX = 20_000

_LOG = structlog.get_logger("hwbus.care")
# A look into a set: every event of the past comes by here.
_TELLING: frozenset[type[Event]] = frozenset(
    {VolumeFilled, SnapshotFilled, ThinPoolFilled, DiskFound, DiskChanged, DiskHealthChanged}
)


class Care(Looking):
    """Looks every second what policies have to do. Feed it the log, stretch by stretch."""

    def __init__(
        self, desk: CommandDesk, world: World, clock: Clock, mint: Callable[[], str]
    ) -> None:
        super().__init__(desk, world, clock, mint)
        self._seqs: dict[str, int] = {}

    def take(self, seen: Sequence[Seen]) -> None:
        """Note which event told of each object last: it is the cause of what is done about it."""
        for one in seen:
            for event in one.commit.events:
                if type(event) in _TELLING:
                    self._note(str(one.address), one.seq)

    def _note(self, object_: str, seq: int) -> None:
        self._seqs.pop(object_, None)
        self._seqs[object_] = seq
        if len(self._seqs) > _SEQS_MAX:
            del self._seqs[next(iter(self._seqs))]

    async def look(self) -> None:
        """Say what was decided before, then have decided what is due now."""
        for one in pending(self._world):
            answer = await self._say(one.act.wish, one.id, one.actor, one.cause)
            if isinstance(answer, Undecided):
                continue  # said again at the next look, under the same id
            refused = answer.because if isinstance(answer, Refused) else ""
            _LOG.info("a policy acts", policy=one.policy, object=one.object, refused=refused)
            await self._report(one.answered(answer), f"command:{one.id}")
        for report in due(self._world, self._clock.now(), self._seqs):
            seq = self._seqs.get(report.object)
            await self._report(report, f"event:{seq}" if seq else "policy")

    async def _report(self, report: Message, cause: str) -> None:
        answer = await self._say(report, self._mint(), "hwbus", cause)
        if not isinstance(answer, Accepted):
            _LOG.warning("a policy was not told", because=answer.because)

    async def _say(self, command: Message, id_: str, actor: str, cause: str) -> Answer:
        return await self.ask(command, cause=cause, actor=actor, id_=id_)
