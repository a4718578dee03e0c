"""Keeps operations going: folds what happened, sends what is due, and lets none outlive its time.

The driver holds nothing that the log does not: whoever starts it anew folds the past and goes on
where the last one died. Every command it sends has an id made of the operation, the step and the
attempt, so that sending twice is sending once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
import structlog

from hwbus.asking import Asked
from hwbus.desk import CommandDesk, Seen
from hwbus.ports import Clock
from schemas.answers import Accepted, Refused, Undecided
from schemas.commit import Commit
from schemas.grammar import Event, Message, kind_and_verb

ACTOR = "hwbus"
GRACE_SHARE = 10
GRACE_MAX_S = 30.0
MARGIN_SHARE = 20
MARGIN_MAX_S = 2.0
TICK_S = 0.25
AGAIN_S = (0.05, 0.2, 1.0, 5.0)
BEGIN_AGAIN_S = (1.0, 5.0)
LAST_RESORT_S = 5.0
OWED_EVERY_S = 60.0

_log = structlog.get_logger(__name__)


class Step(Protocol):
    """One command that is due."""

    @property
    def step(self) -> str:
        """Which step of the operation it is."""
        ...

    @property
    def attempt(self) -> int:
        """The how manieth try of that step."""
        ...

    @property
    def command(self) -> Message:
        """What is to be sent."""
        ...


class Work(Protocol):
    """One operation in progress, as pure state."""

    @property
    def deadline(self) -> datetime:
        """When it must have ended."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it has."""
        ...

    @property
    def out_of_time(self) -> bool:
        """Whether nobody is waited for any longer."""
        ...

    def due(self) -> Step | None:
        """Return what is to be sent now, or None while it is somebody else's turn."""
        ...

    def evolve(self, event: Event) -> "Work":
        """Return the work after *event*."""
        ...

    def last_resort(self) -> Step:
        """Return the end of a work whose way back is blocked when its time is up."""
        ...


class Script(Protocol):
    """What the driver plays: which event begins what, and what follows from what."""

    def begin(self, event: Event) -> Work | None:
        """Return the work that *event* begins, or None."""
        ...

    def follows(self, events: Sequence[Event]) -> Sequence[Message]:
        """Return the reports that follow from one commit, whoever waits for them."""
        ...

    def owed(self) -> Sequence[Message]:
        """Return the reports that commits of the past still owe."""
        ...

    def waiting_for(self, report: Message) -> str:
        """Return the operation that waits for what *report* tells, or an empty string."""
        ...

    def refused(self, operation: str, step: Step, refused: Refused) -> Message:
        """Return how an operation is told that its step was refused."""
        ...

    def expired(self, operation: str, at: datetime) -> Message:
        """Return how an operation is told the time."""
        ...


class _Running:
    """One operation, and the task that sends its commands one after another."""

    def __init__(self, work: Work, began: datetime, traceparent: str) -> None:
        self.work = work
        self.traceparent = traceparent
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.turns_back, self.ends = turning_points(work.deadline, began)
        self.blocked_since: datetime | None = None


def turning_points(deadline: datetime, began: datetime) -> tuple[datetime, datetime]:
    """Return when an operation is told to turn back, and when that its time is up."""
    span_s = (deadline - began).total_seconds()
    turns_back = deadline - timedelta(seconds=min(span_s / GRACE_SHARE, GRACE_MAX_S))
    # Said a little early, so that what remains to be written down is written in time.
    return turns_back, deadline - timedelta(seconds=min(span_s / MARGIN_SHARE, MARGIN_MAX_S))


class Driver:
    """Plays *script* on *desk*. Feed it every stretch of the log, in order, with ``take``."""

    def __init__(
        self, desk: CommandDesk, script: Script, clock: Clock, encode: Callable[[Message], bytes]
    ) -> None:
        self._desk = desk
        self._script = script
        self._clock = clock
        self._encode = encode
        self._open: dict[str, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._live = False
        self._position = 0
        self._moved = asyncio.Condition()

    @property
    def open_operations(self) -> int:
        """How many operations have not ended."""
        return len(self._open)

    def overdue(self) -> list[str]:
        """Return the operations that are open past their deadline; there should be none."""
        now = self._clock.now()
        return [name for name, running in self._open.items() if running.work.deadline < now]

    async def take(self, seen: Sequence[Seen]) -> None:
        """Note what happened. Sends nothing before ``go_live``."""
        for one in seen:
            self._note(one)
            if self._live:
                self._settle(one.commit, one.seq)
        if seen:
            async with self._moved:
                self._position = seen[-1].seq
                self._moved.notify_all()

    def go_live(self) -> None:
        """Begin to send: the past has been taken in as far as it went."""
        self._live = True
        for operation, running in self._open.items():
            self._start(operation, running)
        self._spawn(self._insist("telling the time", self._tick))
        self._spawn(self._insist("paying debts", self._pay_debts))

    async def close(self) -> None:
        """Stop sending. What is open stays open for whoever comes next."""
        tasks = [*self._tasks, *(r.task for r in self._open.values() if r.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _note(self, one: Seen) -> None:
        commit = one.commit
        for event in commit.events:
            begun = self._script.begin(event)
            # What a step of a larger operation begins is that operation's own affair.
            if begun is not None and commit.correlation not in self._open:
                running = _Running(begun, commit.at, commit.traceparent)
                self._open[commit.correlation] = running
                if self._live:
                    self._start(commit.correlation, running)
        here = self._open.get(commit.correlation)
        if here is None:
            return
        for event in commit.events:
            here.work = here.work.evolve(event)
        here.changed.set()
        if here.work.ended:
            del self._open[commit.correlation]

    def _settle(self, commit: Commit[Any], seq: int) -> None:
        for number, report in enumerate(self._script.follows(commit.events)):
            wish = self._wish(
                report,
                id_=f"rule.{commit.id}.{number}",
                correlation=commit.correlation,
                cause=f"event:{seq}",
                traceparent=commit.traceparent,
            )
            self._spawn(self._see_through(wish, report))

    def _start(self, operation: str, running: _Running) -> None:
        async def run() -> None:
            try:
                await self._run(operation, running)
            except Exception:
                # If that goes on, it is the last resort that ends the operation in time.
                running.blocked_since = running.blocked_since or self._clock.now()
                raise

        running.task = self._spawn(self._insist(f"operation {operation}", run))

    async def _insist(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work*, and begin it anew when it dies of an error: nobody else would go on with it.

        It does no harm to do a part of it twice: what is sent has the same id each time.
        """
        for number in range(1 << 30):
            try:
                await work()
            except Exception as error:  # noqa: BLE001 -- whatever it was, it is logged
                _log.error("the driver begins anew what broke", work=what, exc_info=error)
                await asyncio.sleep(BEGIN_AGAIN_S[min(number, len(BEGIN_AGAIN_S) - 1)])
            else:
                return

    async def _run(self, operation: str, running: _Running) -> None:
        """Send what is due, wait until the log shows what came of it, and again, to the end."""
        while not running.work.ended:
            running.changed.clear()
            step = running.work.due()
            if step is None:
                running.blocked_since = None
                await running.changed.wait()
                continue
            answer = await self._send(operation, step, running.traceparent)
            if isinstance(answer, Accepted):
                await self._until(answer.seq)
            if running.work.due() == step and not running.changed.is_set():
                running.blocked_since = running.blocked_since or self._clock.now()
                await running.changed.wait()
            running.blocked_since = None

    async def _send(self, operation: str, step: Step, traceparent: str) -> Accepted | Refused:
        wish = self._wish(
            step.command,
            id_=f"{operation}.{step.step}.{step.attempt}",
            correlation=operation,
            cause=f"operation:{operation}",
            traceparent=traceparent,
        )
        answer = await self._see_through(wish, step.command)
        if isinstance(answer, Refused):
            _log.info("step refused", operation=operation, step=step.step, code=answer.code)
            told = self._script.refused(operation, step, answer)
            about = self._wish(
                told,
                id_=f"{operation}.{step.step}.{step.attempt}.refused",
                correlation=operation,
                cause=f"command:{wish.id}",
                traceparent=traceparent,
            )
            return await self._see_through(about, told)
        return answer

    async def _see_through(self, wish: Asked, command: Message) -> Accepted | Refused:
        """Have *command* decided, however often the log cannot say: the id is always the same."""
        for number in range(1 << 30):
            answer = await self._desk.settle(wish, command)
            if not isinstance(answer, Undecided):
                return answer
            _log.warning("undecided", command=wish.id, because=answer.because)
            await asyncio.sleep(AGAIN_S[min(number, len(AGAIN_S) - 1)])
        raise AssertionError("unreachable in any lifetime")

    async def _until(self, seq: int) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._position >= seq)

    async def _tick(self) -> None:
        """Tell every operation when to turn back, and when its time is up."""
        while True:
            now = self._clock.now()
            for operation, running in list(self._open.items()):
                await self._tell_time(operation, running, now)
            await asyncio.sleep(TICK_S)

    async def _tell_time(self, operation: str, running: _Running, now: datetime) -> None:
        for number, moment in enumerate((running.turns_back, running.ends), start=1):
            if now >= moment:
                told = self._script.expired(operation, now)
                id_ = f"{operation}.expired.{number}"
                await self._desk.settle(self._wish(told, id_=id_, correlation=operation), told)
        stuck = running.blocked_since
        if (
            running.work.out_of_time
            and stuck is not None
            and (now - stuck).total_seconds() > LAST_RESORT_S
        ):
            _log.error("operation ends as a last resort", operation=operation)
            await self._send(operation, running.work.last_resort(), running.traceparent)

    async def _pay_debts(self) -> None:
        while True:
            for report in self._script.owed():
                id_ = f"owed.{self._position}.{msgspec.json.encode(report).hex()[-32:]}"
                waiting = self._script.waiting_for(report)
                await self._see_through(self._wish(report, id_=id_, correlation=waiting), report)
            await asyncio.sleep(OWED_EVERY_S)

    def _wish(
        self,
        command: Message,
        *,
        id_: str,
        correlation: str = "",
        cause: str = "rule",
        traceparent: str = "",
    ) -> Asked:
        kind, verb = kind_and_verb(command)
        return Asked(
            id=id_,
            actor=ACTOR,
            kind=kind,
            verb=verb,
            data=self._encode(command),
            correlation=correlation,
            cause=cause,
            traceparent=traceparent,
            within=True,
        )

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("the driver failed at something", exc_info=task.exception())
