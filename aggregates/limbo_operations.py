"""Which operations are open, and since when they should not be."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from aggregates.world import World
from schemas.commit import Commit
from schemas.grammar import Event
from schemas.limbo import Limbo
from schemas.operation import OperationEnded

_ENDED_KEPT_MAX = 10_000


class Open(msgspec.Struct, frozen=True):
    """An operation that has not ended: begun at ``seq`` by the object at ``subject``."""

    seq: int
    subject: str
    deadline: datetime


class Ended(msgspec.Struct, frozen=True):
    """An operation that has ended."""

    seq: int
    at: datetime


def promises_an_end(kind: type[Event]) -> bool:
    """Return whether such an event does: it names an operation and a deadline."""
    return {"operation", "deadline"} <= {*kind.__struct_fields__}


class Operations:
    """The open ones, by id. It reads promises from the events alone, and asks no process."""

    def __init__(self, grace_s: float, patience_s: float = 0.0) -> None:
        """Allow *grace_s* after a deadline, and *patience_s* for what is not told yet."""
        self.open: dict[str, Open] = {}
        self.late = 0
        self._grace = timedelta(seconds=grace_s)
        self._patience = timedelta(seconds=patience_s)
        self._ended: dict[str, Ended] = {}
        # Those of which the end is not remembered had ended by then.
        self._forgotten_at: datetime | None = None
        # Since when something is seen to be busy with an operation of which nothing is remembered.
        self._noticed: dict[tuple[str, str], datetime] = {}

    def begin(self, seq: int, subject: str, commit: Commit[Any], event: Any) -> str:
        """Note the operation that *event* is part of, and return its id.

        What a step of a larger operation begins is that operation's own affair.
        """
        id_: str = event.operation
        if commit.correlation not in self.open and id_ not in self.open:
            self.open[id_] = Open(seq, subject, event.deadline)
        return id_

    def end(self, seq: int, commit: Commit[Any], event: OperationEnded) -> bool:
        """Note an end; return whether there was something to be ended."""
        was = self.open.pop(event.operation, None)
        if was is not None and commit.at > was.deadline + self._grace:
            self.late += 1
        self._ended[event.operation] = Ended(seq, commit.at)
        if len(self._ended) > _ENDED_KEPT_MAX:
            self._forgotten_at = self._ended.pop(next(iter(self._ended))).at
        return was is not None

    def overdue(self, now: datetime) -> Iterator[tuple[Limbo, int, str, str]]:
        """Give what is open although its time is over."""
        for id_, one in self.open.items():
            if now > one.deadline + self._grace:
                late_s = (now - one.deadline).total_seconds()
                because = f"operation {id_} should have ended {late_s:.0f} s ago"
                yield Limbo.OVERDUE, one.seq, one.subject, because

    def held(
        self, world: World, now: datetime, may_be_untold: Callable[[str], bool]
    ) -> Iterator[tuple[Limbo, int, str, str]]:
        """Give what *world* keeps busy for an operation that is not open.

        One of which nothing is remembered ended long ago, or never began: unless it *may be untold*
        since the log was not told from its beginning.
        """
        noticed: dict[tuple[str, str], datetime] = {}
        for subject, id_ in _busy(world):
            if not id_ or id_ in self.open:
                continue
            ended = self._ended.get(id_)
            if ended is None:
                if may_be_untold(id_):
                    continue
                since = noticed[subject, id_] = self._noticed.get((subject, id_), now)
                if self._is_over(since, now):
                    because = f"it is busy with operation {id_}, which is not open, nor was lately"
                    yield Limbo.HELD_FOR_NOBODY, 0, subject, because
            elif now > ended.at + self._grace:
                because = f"it is busy with operation {id_}, which has ended"
                yield Limbo.HELD_FOR_NOBODY, ended.seq, subject, because
        self._noticed = noticed

    def _is_over(self, since: datetime, now: datetime) -> bool:
        """Whether what was unknown then and still is has ended, and the grace is over.

        A world may be a little ahead of what is told here: what has just begun is told soon.
        """
        graced = self._forgotten_at is None or now > self._forgotten_at + self._grace
        return graced and now - since >= self._patience


def _busy(world: World) -> Iterator[tuple[str, str]]:
    yield from ((f"volume/{name}", v.operation) for name, v in world.volumes.items())
    yield from ((f"snapshot/{name}", s.operation) for name, s in world.snapshots.items())
    yield from ((f"node/{name}", n.operation) for name, n in world.nodes.items())
    yield from ((f"pool/{n}/{name}", p.operation) for (n, name), p in world.pools.items())
    yield from ((f"group/{name}", g.operation) for name, g in world.groups.items())
    yield from ((f"schedule/{name}", s.running) for name, s in world.schedules.items())
    for name, target in world.targets.items():
        yield from ((f"target/{name}", id_) for id_ in target.running)
