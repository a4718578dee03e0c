"""Is anything in limbo? Goes through the log once, and says what hangs, and what does not add up.

No operation is open past its deadline; every commit and every tool has a cause that is in the
record; the room of every pool adds up; every projector is where the log is. What is kept for that
does not grow with the log, but for eight bytes an id, of which only so many are remembered.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aggregates.limbo_causes import AUDIT, EVENTS, Causes, name_of
from aggregates.limbo_ledgers import TELLING, Books, Ledgers, OnNode
from aggregates.limbo_operations import Operations, promises_an_end
from aggregates.world import World
from schemas.audit import ExecutedRecord
from schemas.commit import Commit
from schemas.grammar import Event
from schemas.limbo import Limbo, LimboRow, LimboVerdict
from schemas.operation import OperationEnded
from schemas.pool import POOLS

GRACE_S = 120.0
"""Longer than an operation takes to be told the time, and a rule to be applied again."""

FINDINGS_MAX = 100
_IDS_MAX = 1 << 22
_Found = tuple[Limbo, int, str, str]
# What an event tells of, by its class: hardly any tells of anything, and all come by here.
_ROOM, _PROMISE, _END = 1, 2, 4
_TELLS: dict[type[Event], int] = {}


class LimboChecker:
    """Takes the commits in their order, then tools; says at any time how it is.

    What is wrong for ever is noted as it comes; what hangs is looked up when it is asked for.
    """

    def __init__(
        self,
        *,
        grace_s: float = GRACE_S,
        ids_max: int = _IDS_MAX,
        patience_s: float = 0.0,
        whole: bool = True,
    ) -> None:
        """Wait *patience_s* for causes and for what the world knows already.

        *whole*: all commands and refusals are told here.
        """
        self.seq = 0
        self._grace_s = grace_s
        self._commits = 0
        self._tools = 0
        self._untold = 0
        self._findings: list[LimboRow] = []
        self._views: dict[str, _Found] = {}
        self._differing: dict[str, tuple[_Found, ...]] = {}
        self._operations = Operations(grace_s, patience_s)
        self._ledgers = Ledgers()
        self._causes = Causes(self._find, ids_max=ids_max, patience_s=patience_s, whole=whole)

    def take(
        self,
        seq: int,
        address: tuple[str, str, str],
        commit: Commit[Any],
        events: Sequence[Event] | None = None,
        *,
        judge: bool = True,
    ) -> None:
        """Look at one commit about the aggregate at *address* (kind, place, id).

        *events* are those that can be read, if not all of them can. Without *judge* its cause is
        not looked at.
        """
        self.seq = seq
        self._commits += 1
        self._causes.reach(seq)
        if address[0] == POOLS:
            self._ledgers.touch(seq, address[1:])
        if events is not None and len(events) < len(commit.events):
            self._causes.miss_operations()
        for event in commit.events if events is None else events:
            kind = type(event)
            what = _TELLS.get(kind)
            if what is None:
                what = _TELLS[kind] = _told_by(kind)
            if what:
                self._note(seq, address, commit, event, what)
        if judge:
            self._causes.know(commit.command)
            self._causes.judge(seq, address, commit)

    def skip(self, seq: int, subject: str, because: str) -> None:
        """Note a message that is no commit."""
        self.seq = seq
        self._causes.reach(seq)
        self._causes.miss_operations()
        self._find(Limbo.UNREADABLE, EVENTS, seq, subject, because)

    def know_refused(self, command: str) -> None:
        """Note a command that was refused: what came of that has it as its cause."""
        self._causes.know(command)

    def miss_refusals(self) -> None:
        """Note that the beginning of the audit is not told: some causes cannot be looked up."""
        self._causes.miss_refusals()

    def take_tool(self, seq: int, subject: str, tool: ExecutedRecord) -> None:
        """Look at the record of one tool that ran."""
        self._tools += 1
        self._causes.judge_tool(seq, subject, tool)

    def compare(self, said: Mapping[OnNode, Books | None], by: str) -> None:
        """Compare the sums with what ``by`` says of pools, who has seen just as much of the log."""
        self._differing[by] = tuple(self._ledgers.differing(said, by))

    def at_pool(self, key: OnNode) -> int:
        """Return the sequence of what was said last of a pool; 0: nothing, or it is gone."""
        return self._ledgers.seq_of(key)

    def note_views(self, stream: str, position: int, head: int, parked: int) -> None:
        """Note that views stand at *position* of a stream, although it has long been at *head*."""
        self._views.pop(stream, None)
        if position < head:
            because = f"they stand at {position} of {head}"
            self._views[stream] = (Limbo.BEHIND, position + 1, f"views of {stream}", because)
        elif parked:
            because = f"{parked} messages were set aside because nobody could read them"
            self._views[stream] = (Limbo.UNREADABLE, 0, f"views of {stream}", because)

    def verdict(self, now: datetime, world: World | None = None) -> LimboVerdict:
        """Say what came of it so far; *world* is what the aggregates make of the same log."""
        self._causes.settle(now)
        standing = [*self._operations.overdue(now), *self._ledgers.over()]
        standing += [one for found in self._differing.values() for one in found]
        if world is not None:
            standing += self._operations.held(world, now, self._causes.may_be_untold)
        rows = [_row(EVENTS, *one) for one in standing]
        rows += [_row(stream, *one) for stream, one in self._views.items()]
        rows = sorted((*self._findings, *rows), key=lambda row: (row.stream, row.seq, row.code))
        return LimboVerdict(
            seq=self.seq,
            at=now,
            grace_s=self._grace_s,
            commits=self._commits,
            tools=self._tools,
            open=len(self._operations.open),
            late=self._operations.late,
            pools=len(self._ledgers),
            unjudged=self._causes.unjudged,
            findings=tuple(rows[:FINDINGS_MAX]),
            untold=self._untold + max(0, len(rows) - FINDINGS_MAX),
        )

    def _note(
        self, seq: int, address: tuple[str, str, str], commit: Any, event: Any, what: int
    ) -> None:
        if what & _ROOM:
            wrong = self._ledgers.take(seq, address[1:], event)
            if wrong is not None:
                self._find(wrong[0], EVENTS, seq, name_of(address), wrong[1])
        if what & _PROMISE:
            id_ = self._operations.begin(seq, name_of(address), commit, event)
            self._causes.know(id_)
        if what & _END and not self._operations.end(seq, commit, event):
            because = f"operation {event.operation} was not open"
            self._find(Limbo.ENDED_TWICE, EVENTS, seq, name_of(address), because)

    def _find(self, code: Limbo, stream: str, seq: int, subject: str, because: str) -> None:
        if len(self._findings) >= FINDINGS_MAX:
            self._untold += 1
            return
        self._findings.append(_row(stream, code, seq, subject, because))


def _row(stream: str, code: Limbo, seq: int, subject: str, because: str) -> LimboRow:
    return LimboRow(
        code=code, stream=stream, seq=seq, subject=subject, because=because, fix=code.advice
    )


def _told_by(kind: type[Event]) -> int:
    return (
        _ROOM * (kind in TELLING)
        | _PROMISE * promises_an_end(kind)
        | _END * (kind is OperationEnded)
    )


__all__ = ["AUDIT", "EVENTS", "FINDINGS_MAX", "GRACE_S", "Books", "LimboChecker"]
