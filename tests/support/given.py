"""Given what happened, when somebody says this, then that follows: the tests of the deciders."""

from collections.abc import Sequence
from datetime import UTC, datetime

from aggregates.decision import Facts
from aggregates.world import World
from schemas.answers import Refused
from schemas.grammar import Event, Message
from schemas.place import place_of
from schemas.refusals import Refusal

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OPERATION = "0" * 25 + "1"
UID = "0" * 25 + "2"
OTHER = "0" * 25 + "9"
GIB = 1 << 30
MIB = 1 << 20


class Given:
    """A past, told by events."""

    def __init__(self, past: Sequence[Event]) -> None:
        self.world = World()
        for event in past:
            self.world.evolve(*place_of(event), [event])

    def when(self, command: Message) -> "When":
        """Somebody says *command*."""
        return When(self.decide(command))

    def decide(
        self, command: Message, operation: str = OPERATION, uid: str = UID
    ) -> tuple[Event, ...] | Refused:
        """Return what is decided about *command*."""
        return self.world.decide(
            command, Facts(at=NOON, operation=operation, uid=uid, world=self.world)
        )


class When:
    """A decision, to be compared with what it should be."""

    def __init__(self, decision: tuple[Event, ...] | Refused) -> None:
        self.decision = decision

    def then(self, *events: Event) -> None:
        """Exactly these events are recorded."""
        assert self.decision == events

    def nothing(self) -> None:
        """It is accepted, and nothing needs to be recorded."""
        assert self.decision == ()

    def refused(self, code: Refusal, *because: str) -> None:
        """It is refused under *code*, and the reason names all of *because*."""
        assert isinstance(self.decision, Refused), self.decision
        assert self.decision.code is code, self.decision
        assert self.decision.fix
        for part in because:
            assert part in self.decision.because


def given(*past: Event) -> Given:
    """Return the world after *past*."""
    return Given(past)
