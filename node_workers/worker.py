"""Hands: new events and a fresh start take the same path; fold, plan, ensure, report."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from random import Random
from typing import Any

import structlog

from hwbus.telemetry import current_traceparent, remote_span
from node_workers.counting import Counting
from node_workers.feed import Feed, Links
from node_workers.figures import Figures
from node_workers.hands import Hands
from node_workers.health import Checkups
from node_workers.keeping import CORRELATION
from node_workers.lanes import Gates, Lane, Lanes, backoff_s
from node_workers.loans import Loans
from node_workers.observation import Observation
from node_workers.outbox import Outbox
from node_workers.plan import (
    changed_pools,
    companions,
    plan,
    pools_to_activate,
    restless_volumes,
    settled_by_hand,
    sleeping_pools,
    step_for,
    volumes_at_rest,
)
from node_workers.ports import StorageError
from node_workers.presence import Presence
from node_workers.refereeing import Referee
from node_workers.replication import ReplicatedStorage
from node_workers.reports import Trouble, command_id, letter, trouble_of
from node_workers.scans import Rhythm, Scans
from node_workers.state import State
from node_workers.steps import HaveReplica, Step
from node_workers.storage import Storage
from node_workers.tending import Tending
from node_workers.turns import Turns
from node_workers.tying import TyingHands
from node_workers.watching import ReplicationWatch
from schemas.grammar import Report
from schemas.operation import ReportProgressed
from schemas.pool import PoolFacts, ReportPoolBuilt
from schemas.refusals import Refusal

_LOG = structlog.get_logger("node_workers.worker")
_BECAUSE_CHARACTERS_MAX = 1000
_HOPELESS_MAX = 64
FINISH_S = 20.0
START_S = 120.0
"""How long a node may have what it had before the boot come back before it is linked."""


class Worker:
    """One node's hands. ``run`` is its whole life."""

    def __init__(
        self,
        *,
        node: str,
        state: State,
        outbox: Outbox,
        storage: Storage,
        observe: Callable[[str], Awaitable[Observation]],
        presence: Presence,
        checkups: Checkups,
        rng: Random,
        figures: Figures,
        rhythm: Rhythm,
        loans: Loans,
        turns: Turns,
        replicated: ReplicatedStorage,
        referee: Referee,
        counting: Counting,
    ) -> None:
        self._node = node
        self._loans = loans
        self._turns = turns
        self._referee = referee
        self._state = state
        self._outbox = outbox
        self._storage = storage
        self._checkups = checkups
        self._rng = rng
        self._figures = figures
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes = Lanes(self._work, self._fail)
        self._gates = Gates()
        self._scans = self._looking(observe, rhythm)
        tying, busy = TyingHands(storage, replicated, node), self._lanes.busy
        paths, call_in = self._scans.paths, loans.desk.call_in
        self._hands = Hands(storage, node, paths, call_in, tying, turns.leader, counting)
        self._counting = counting
        self._replication = ReplicationWatch(state, replicated, busy, node=node, figures=figures)
        self._tending = Tending(state, busy, self._hands, self._scans, figures)
        self._feed = self._following(presence)
        self._told_facts: dict[str, PoolFacts] = {}
        # Instants that are not to be had: who comes second does not hold everything still again.
        self._hopeless: dict[str, Trouble] = {}

    def _following(self, presence: Presence) -> Feed:
        return Feed(
            self._state,
            self._outbox,
            presence,
            self._scans,
            self._on_news,
            node=self._node,
            rng=self._rng,
            figures=self._figures,
            linked=(self._loans.borrower, self._referee, self._turns.leader),
            desks=(self._loans.desk, self._turns.follower),
        )

    def _looking(self, observe: Callable[[str], Awaitable[Observation]], rhythm: Rhythm) -> Scans:
        return Scans(
            self._state,
            observe,
            self._on_seen,
            self._lanes.busy,
            lambda: self.caught_up,
            self._checkups.repeat,
            node=self._node,
            figures=self._figures,
            rhythm=rhythm,
        )

    @property
    def scans(self) -> Scans:
        """The looks at the machine, for whoever has a hint for them."""
        return self._scans

    @property
    def referee(self) -> Referee:
        """Who asks the log for a leg that has lost a peer."""
        return self._referee

    @property
    def feed(self) -> Feed:
        """What reaches the node."""
        return self._feed

    @property
    def caught_up(self) -> bool:
        """Whether the node knows all that is wanted of it."""
        return self._feed.caught_up

    @property
    def quiet(self) -> bool:
        """Whether nothing is left to be done, told or kept, as far as the node knows."""
        return (
            self.caught_up
            and not self._lanes.busy()
            and not plan(self._state.wanted)
            and self._outbox.letters_waiting == 0
            and self._outbox.records_waiting == 0
        )

    async def run(self, links: Links, stop: asyncio.Event) -> None:
        """Work until *stop* is set, with the bus or without, then end what was begun.

        Raises whatever broke the worker's own memory: without it nothing may be done.
        """
        await self._start()
        jobs: list[asyncio.Task[None]] = [
            asyncio.create_task(self._replication.run(), name="replication"),
            asyncio.create_task(self._scans.run(), name="scans"),
            asyncio.create_task(self._checkups.run(), name="checkups"),
            asyncio.create_task(self._feed.run(links), name="feed"),
        ]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        tasks: set[asyncio.Future[Any]] = {*jobs, stopping}
        try:
            await asyncio.wait({*tasks, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            await self._lanes.close(within_s=0.0 if self._failed.done() else FINISH_S)
        finally:
            await self._lanes.close(within_s=0.0)
            await self._loans.desk.close()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        ended = [one for one in (self._failed, *jobs) if one.done() and not one.cancelled()]
        errors = [error for one in ended if (error := one.exception()) is not None]
        for error in errors[1:]:
            _LOG.error("something else broke with it", because=repr(error))
        if errors:
            raise errors[0]

    async def _start(self) -> None:
        """Have what there was before the boot there again, in bounded time.

        A disk that hangs must not keep a node from being told what to do. What is not there by
        then the looks and the watch bring back, as they do at any other time.
        """
        try:
            async with asyncio.timeout(START_S):
                await self._tending.resume("start:resume")
                await self._activate(pools_to_activate(self._state.wanted), "start:boot")
                await self._replication.bring_up("start:boot")
        except TimeoutError:
            _LOG.error("not everything is there again after the start", waited_s=START_S)

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _activate(self, pools: dict[str, str], cause: str) -> None:
        if not pools:
            return
        try:
            at_rest = volumes_at_rest(self._state.wanted)
            activated = await self._storage.ensure_active(pools, cause=cause, at_rest=at_rest)
        except StorageError as error:
            _LOG.error(
                "volumes could not be activated", pools=sorted(pools), because=error.sentence
            )
            return
        if activated:
            _LOG.info("volumes activated", volumes=len(activated), cause=cause)

    def _on_news(self, keys: Iterable[str]) -> None:
        self._replication.hint()
        for key in keys:
            for one in companions(key, self._state.wanted):
                self._lanes.kick(one)

    async def _on_seen(self, seen: Observation, cause: str, unsure: AbstractSet[str]) -> None:
        await self._checkups.note(self._scans.paths())
        if self.caught_up:
            self._on_news(step.key for step in plan(self._state.wanted))
            await self._tell_changed_pools(seen, cause, unsure)
        if self._feed.caught_up:
            for key in settled_by_hand(self._state.wanted, seen):
                await self._state.reopen(key)
                self._lanes.kick(key)
            for key in restless_volumes(self._state.wanted, seen):
                # Also if it was worked on meanwhile: the step looks first.
                await self._state.again(key)
                self._lanes.kick(key)
        await self._activate(sleeping_pools(self._state.wanted, seen), cause)
        self._replication.hint()
        await self._tending.look_after(seen, cause)
        if not self._state.removed:
            await self._counting.look(seen, cause)

    async def _tell_changed_pools(
        self, seen: Observation, cause: str, unsure: AbstractSet[str]
    ) -> None:
        for pool, facts in changed_pools(self._state.wanted, seen):
            # Once for each change: if the log does not take it over, saying it again will not help.
            if pool.key in unsure or self._told_facts.get(pool.key) == facts:
                continue
            self._told_facts[pool.key] = facts
            report = ReportPoolBuilt(pool=pool.name, node=self._node, uid=pool.uid, facts=facts)
            id_ = command_id(self._node, cause.replace(":", "-"), "report-built", pool.name)
            about = letter(report, node=self._node, command_id=id_, lane=pool.key, cause=cause)
            await self._state.say((about,), {})

    async def _work(self, key: str, lane: Lane) -> None:
        """Bring one object to where it shall be; return when there is nothing left to do."""
        attempt, told, origin_seq = 0, None, 0
        while self._feed.caught_up and not self._lanes.closing:
            lane.kicked.clear()
            wanted = self._state.wanted.get(key)
            step = None if wanted is None else step_for(wanted, self._state.wanted)
            if step is None:
                return
            if step.origin.seq != origin_seq:
                attempt, told, origin_seq = 0, None, step.origin.seq
            if step.destructive and not await self._feed.is_news_free(step.key):
                await lane.pause(backoff_s(attempt, self._rng))
                attempt += 1
                continue
            trouble = await self._try(step, lane)
            if trouble is None or not self._is_current(step):
                continue
            if trouble != told:
                await self._state.troubled(
                    step, trouble, attempt=attempt, traceparent=step.origin.traceparent
                )
                told = trouble
            if not trouble.permanent:
                await lane.pause(backoff_s(attempt, self._rng))
            attempt += 1

    def _is_current(self, step: Step) -> bool:
        wanted = self._state.wanted.get(step.key)
        if wanted is None or wanted.origin != step.origin:
            return False
        alone = not isinstance(step, HaveReplica) or not step.together
        return alone or step_for(wanted, self._state.wanted) is not None

    async def _try(self, step: Step, lane: Lane) -> Trouble | None:
        cause = step.origin.cause
        async with self._gates.of(step.group).enter(alone=step.alone):
            if not self._is_current(step):
                return None
            instant = step.instant if isinstance(step, HaveReplica) else ""
            if instant in self._hopeless:
                return self._hopeless[instant]
            CORRELATION.set(step.origin.correlation)
            about = {"hwbus.object": step.key, "hwbus.node": self._node, "hwbus.cause": cause}
            with remote_span(f"ensure {step.key}", step.origin.traceparent, about):
                try:
                    report = await self._ensure(step, lane, cause)
                except StorageError as error:
                    _LOG.warning("trouble", key=step.key, cause=cause, because=error.sentence)
                    self._figures.count("troubles_total")
                    return self._note_hopeless(instant, trouble_of(error, unready=step.unready))
                except Exception as error:  # noqa: BLE001 -- told to whoever waits
                    # A fault of ours must not stop the other lanes; and whoever waits must know.
                    _LOG.exception("a step broke", key=step.key, cause=cause)
                    self._figures.count("faults_total")
                    because = f"{type(error).__name__}: {error}"[:_BECAUSE_CHARACTERS_MAX]
                    return Trouble(code=Refusal.TOOL_FAILED, because=because, permanent=False)
                if report is None:
                    return None
                if isinstance(report, ReportProgressed):
                    await self._state.progressed(step, report)
                    return None
                await self._state.answered(step, report, traceparent=current_traceparent())
        self._figures.count("steps_total")
        _LOG.info("ensured", key=step.key, cause=cause, report=type(report).__name__)
        if step.alone or step.settles:
            self._scans.hint()
        return None

    def _note_hopeless(self, instant: str, trouble: Trouble) -> Trouble:
        if instant and trouble.permanent:
            self._hopeless[instant] = trouble
            while len(self._hopeless) > _HOPELESS_MAX:
                del self._hopeless[next(iter(self._hopeless))]
        return trouble

    async def _ensure(self, step: Step, lane: Lane, cause: str) -> Report | None:
        """Ensure *step*; a long one is broken off when it is wanted no more, or we are to end."""
        if not step.long:
            return await self._hands.ensure(step, cause)
        doing = asyncio.create_task(self._hands.ensure(step, cause))
        try:
            while not doing.done() and self._is_current(step) and not self._lanes.closing:
                lane.kicked.clear()
                kicked = asyncio.create_task(lane.kicked.wait())
                await asyncio.wait((doing, kicked), return_when=asyncio.FIRST_COMPLETED)
                kicked.cancel()
        finally:
            if not doing.done():
                doing.cancel()
                await asyncio.wait((doing,))
        return None if doing.cancelled() else doing.result()
