"""Which operations are open, and since when they should not be."""

from collections.abc import Iterator
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

    def __init__(self, grace_s: float) -> None:
        """Allow *grace_s* after a deadline."""
        self.open: dict[str, Open] = {}
        self.late = 0
        self._grace = timedelta(seconds=grace_s)
        self._ended: dict[str, Ended] = {}

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
            del self._ended[next(iter(self._ended))]
        return was is not None

    def overdue(self, now: datetime) -> Iterator[tuple[Limbo, int, str, str]]:
        """Give what is open although its time is over."""
        for id_, one in self.open.items():
            if now > one.deadline + self._grace:
                late_s = (now - one.deadline).total_seconds()
                because = f"operation {id_} should have ended {late_s:.0f} s ago"
                yield Limbo.OVERDUE, one.seq, one.subject, because

    def held(self, world: World, now: datetime) -> Iterator[tuple[Limbo, int, str, str]]:
        """Give what *world* keeps busy for an operation that has ended."""
        for subject, id_ in _busy(world):
            ended = self._ended.get(id_)
            if id_ not in self.open and ended is not None and now > ended.at + self._grace:
                because = f"it is busy with operation {id_}, which has ended"
                yield Limbo.HELD_FOR_NOBODY, ended.seq, subject, because


def _busy(world: World) -> Iterator[tuple[str, str]]:
    yield from ((f"volume/{name}", v.operation) for name, v in world.volumes.items())
    yield from ((f"snapshot/{name}", s.operation) for name, s in world.snapshots.items())
    yield from ((f"node/{name}", n.operation) for name, n in world.nodes.items())
    yield from ((f"pool/{n}/{name}", p.operation) for (n, name), p in world.pools.items())
    for name, target in world.targets.items():
        yield from ((f"target/{name}", id_) for id_ in target.running)
