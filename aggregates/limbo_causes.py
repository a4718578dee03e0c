"""Has everything a cause that is in the record? Judged commit by commit, in their order."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from aggregates.limbo_known import Known
from schemas.audit import ExecutedRecord
from schemas.commit import Commit
from schemas.limbo import Limbo

EVENTS, AUDIT = "HWBUS_EVENTS", "HWBUS_AUDIT"
_MACHINES = ("worker:", "policy:", "schedule:", "qos:")
_DESK = "hwbus"
_OF_OPERATIONS = frozenset({"operation", "loan"})
_NAMED = _OF_OPERATIONS | {"event", "command"}
_WAITING_MAX = 10_000
_GAPS_MAX = 1000
Find = Callable[[Limbo, str, int, str, str], None]


def name_of(address: tuple[str, str, str]) -> str:
    """Return the address as people read it."""
    kind, place, id_ = address
    return f"{kind}/{id_}" if place == "-" else f"{kind}/{place}/{id_}"


class _Waiting(msgspec.Struct, frozen=True):
    """A cause that may still turn up: a refusal is on the other stream."""

    at: datetime
    code: Limbo
    stream: str
    seq: int
    subject: str
    kind: str
    which: str


class Causes:
    """Judges causes. ``unjudged`` counts those that lie further back than is remembered."""

    def __init__(self, find: Find, *, ids_max: int, patience_s: float, whole: bool) -> None:
        """Wait *patience_s* for what a cause names before it is called lost.

        Only where both streams are told *whole* can a command be called lost.
        """
        self.unjudged = 0
        self._find = find
        self._patience = timedelta(seconds=patience_s)
        self._ids = Known(ids_max)
        self._waiting: list[_Waiting] = []
        self._gaps: list[tuple[int, int]] = []
        self._last = 0
        self._whole = whole
        self._hidden = False

    def reach(self, seq: int) -> None:
        """Note that the log has come to *seq*; what it left out on its way is missing."""
        if seq > self._last + 1 and len(self._gaps) < _GAPS_MAX:
            self._gaps.append((self._last + 1, seq - 1))
        self._last = seq

    def miss_refusals(self) -> None:
        """Note that not all refusals are told: a command that is not known may be one of them."""
        self._whole = False

    def miss_operations(self) -> None:
        """Note that something could not be read: an operation may have begun there."""
        self._hidden = True

    def may_be_untold(self, operation: str) -> bool:
        """Return whether *operation* may have begun where the log was not told, or not read."""
        return (self._hidden or bool(self._gaps)) and operation not in self._ids

    def know(self, id_: str) -> None:
        """Note a command, or an operation, that was begun or refused."""
        self._ids.add(id_)

    def judge(self, seq: int, address: tuple[str, str, str], commit: Commit[Any]) -> None:
        """Look at one commit, whose own command is known by now."""
        cause, belongs_to = commit.cause, commit.correlation
        if not (commit.actor and commit.command and belongs_to):
            lacking = [n for n in ("actor", "command", "correlation") if not getattr(commit, n)]
            because = f"it has no {' and no '.join(lacking)}"
            self._find(Limbo.NO_CAUSE, EVENTS, seq, name_of(address), because)
        elif belongs_to != commit.command and belongs_to not in self._ids:
            self._wait(commit.at, Limbo.CAUSE_LOST, EVENTS, seq, name_of(address), "", belongs_to)
        if cause:
            kind, _, which = cause.partition(":")
            if kind == "event" and which.isdecimal() and int(which) >= seq:
                because = f"{cause} does not stand before it"
                self._find(Limbo.CAUSE_LOST, EVENTS, seq, name_of(address), because)
            elif kind in _NAMED and not self._is_there(kind, which):
                about = name_of(address)
                self._wait(commit.at, Limbo.CAUSE_LOST, EVENTS, seq, about, kind, which)
        elif commit.actor == _DESK or commit.actor.startswith(_MACHINES):
            because = f"{commit.actor} did {commit.word} for no reason that it names"
            self._find(Limbo.NO_CAUSE, EVENTS, seq, name_of(address), because)

    def judge_tool(self, seq: int, subject: str, tool: ExecutedRecord) -> None:
        """Look at one tool that ran."""
        kind, _, which = tool.cause.partition(":")
        code = Limbo.TOOL_WITHOUT_CAUSE
        if not which:
            because = f"{tool.argv[0] if tool.argv else 'a tool'} ran for {tool.cause or 'nothing'}"
            self._find(code, AUDIT, seq, subject, because)
            return
        for origin, named in ((kind, which), ("", tool.correlation)):
            if named and not self._is_there(origin, named):
                self._wait(tool.at, code, AUDIT, seq, subject, origin, named)

    def settle(self, now: datetime) -> None:
        """Call lost what has been waited for long enough."""
        still = []
        for one in self._waiting:
            if self._is_there(one.kind, one.which):
                continue
            if now - one.at < self._patience:
                still.append(one)
            elif not self._may_judge(one.kind):
                self.unjudged += 1
            else:
                named = f"{one.kind}:{one.which}" if one.kind else f"the operation {one.which}"
                because = f"{named} is not in the record"
                self._find(one.code, one.stream, one.seq, one.subject, because)
        self._waiting = still

    def _wait(
        self,
        at: datetime,
        code: Limbo,
        stream: str,
        seq: int,
        subject: str,
        kind: str,
        which: str,
    ) -> None:
        if len(self._waiting) >= _WAITING_MAX:
            self.unjudged += 1
        else:
            self._waiting.append(_Waiting(at, code, stream, seq, subject, kind, which))

    def _may_judge(self, kind: str) -> bool:
        """Whether what is not known is not there: numbers count, operations are all told."""
        told = self._whole or kind in _OF_OPERATIONS
        return kind == "event" or (told and not self._ids.forgot)

    def _is_there(self, kind: str, which: str) -> bool:
        match kind:
            case "event":
                there = which.isdecimal() and 1 <= int(which) <= self._last
                return there and not any(a <= int(which) <= b for a, b in self._gaps)
            case "command" | "operation" | "loan" | "":
                return which in self._ids
            case _:
                return True  # a look, a rule, the clock: it begins there
