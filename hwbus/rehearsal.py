"""What would follow: commands decided on a fork, and played to the end by hands that are given.

Nothing here waits, asks a clock, draws lots or writes. What the desk and the driver do one after
another with a log between them is done here at once, by the same deciders and the same script; so
the same fork and the same commands give the same end.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from hwbus.domain import Domain
from hwbus.driver import LAST_RESORT_S, Script, Step, Work, turning_points
from hwbus.subjects import Address
from schemas.answers import Refused
from schemas.grammar import Event, Message

_ACTOR = "hwbus"
DECISIONS_MAX = 50_000

Decision = tuple[Event, ...] | Refused


class Hands(Protocol):
    """Whoever does what is wanted, and says so."""

    def after(self, events: Sequence[Event]) -> Sequence[Message]:
        """Return what is said once *events* have happened."""
        ...

    def unasked(self) -> Sequence[Message]:
        """Return what somebody says by itself when all is quiet; nothing twice."""
        ...


class Happened(msgspec.Struct, frozen=True):
    """One commit that would be, and the operation it would belong to."""

    at: datetime
    address: Address
    events: tuple[Event, ...]
    operation: str


class _Played:
    """One operation that is played."""

    def __init__(self, work: Work, began: datetime) -> None:
        self.work = work
        turns_back, ends = turning_points(work.deadline, began)
        self.moments = [turns_back, ends, ends + timedelta(seconds=LAST_RESORT_S)]
        self.sent: set[tuple[str, int]] = set()


class Rehearsal:
    """Plays on *domain*, which it changes: give it a fork. It begins at *at*."""

    def __init__(
        self,
        domain: Domain,
        script: Script,
        hands: Hands,
        *,
        at: datetime,
        mint: Callable[[], str],
        decisions_max: int = DECISIONS_MAX,
    ) -> None:
        self.now = at
        self.happened: list[Happened] = []
        self.decisions = 0
        self._domain = domain
        self._script = script
        self._hands = hands
        self._mint = mint
        self._decisions_max = decisions_max
        self._said: deque[tuple[Message, str]] = deque()
        self._open: dict[str, _Played] = {}
        self._moved: dict[str, None] = {}

    @property
    def cut_off(self) -> bool:
        """Whether there was more to decide than is decided for one rehearsal."""
        return self.decisions >= self._decisions_max

    @property
    def unended(self) -> tuple[str, ...]:
        """The operations that have not come to an end."""
        return tuple(self._open)

    def decide(self, command: Message, operation: str = "") -> Decision:
        """Have *command* decided, as part of *operation* if it is one of it."""
        self.decisions += 1
        decision = self._domain.decide(command, actor=_ACTOR, at=self.now, mint=self._mint)
        if isinstance(decision, Refused) or not decision:
            return decision
        begun = self._domain.operation(decision)
        operation = self._domain.belongs_to(command) or begun or operation
        address = self._domain.address(command)
        self._domain.evolve(address, decision)
        self.happened.append(Happened(self.now, address, decision, operation))
        self._note(decision, operation)
        self._said += ((report, operation) for report in self._script.follows(decision))
        self._said += ((one, operation) for one in self._hands.after(decision))
        return decision

    def play(self, *, time_passes: bool = True) -> None:
        """Go on until nothing is to be said any more, or it is cut off.

        Unless *time_passes*, an operation that waits is left waiting.
        """
        while not self.cut_off:
            if self._said:
                message, operation = self._said.popleft()
                self.decide(message, operation)
            elif not (self._go_on() or self._unasked()) and not (
                time_passes and self._let_time_pass()
            ):
                return

    def _note(self, events: tuple[Event, ...], operation: str) -> None:
        for event in events:
            begun = self._script.begin(event)
            if begun is not None and operation not in self._open:
                self._open[operation] = _Played(begun, self.now)
        here = self._open.get(operation)
        if here is None:
            return
        for event in events:
            here.work = here.work.evolve(event)
        self._moved[operation] = None
        if here.work.ended:
            del self._open[operation]

    def _go_on(self) -> bool:
        """Send the step of one operation that is due; return whether there was one."""
        while self._moved:
            operation = next(iter(self._moved))
            del self._moved[operation]
            here = self._open.get(operation)
            step = None if here is None else here.work.due()
            if here is None or step is None or (step.step, step.attempt) in here.sent:
                continue
            self._send(operation, here, step)
            return True
        return False

    def _send(self, operation: str, here: _Played, step: Step) -> None:
        # What leaves no trace in the log may be sent again, but not before something has moved.
        answer = self.decide(step.command, operation)
        if isinstance(answer, Refused):
            self.decide(self._script.refused(operation, step, answer), operation)
        elif answer:
            here.sent.add((step.step, step.attempt))

    def _unasked(self) -> bool:
        said = self._hands.unasked()
        self._said += ((message, "") for message in said)
        return bool(said)

    def _let_time_pass(self) -> bool:
        """Let the next moment come at which an operation is told the time; False: there is none."""
        waiting = [(one.moments[0], name) for name, one in self._open.items() if one.moments]
        if not waiting:
            return False
        moment, operation = min(waiting)
        here = self._open[operation]
        self.now = max(self.now, moment)
        del here.moments[0]
        if here.moments:
            self.decide(self._script.expired(operation, self.now), operation)
        elif here.work.out_of_time:
            self._send(operation, here, here.work.last_resort())
        return True
