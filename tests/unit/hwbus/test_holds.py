"""Held deletions from their first commit to their last, and the clock that ends a hold."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random

import msgspec

from aggregates.replica import ReplicaPhase
from aggregates.volume import VolumePhase
from aggregates.world import World
from hwbus.controller.holds import AGAIN_AFTER_S
from schemas.deleting import DeleteVolume, PurgeVolume, UndeleteVolume, VolumeDeleted, VolumeHeld
from schemas.grammar import Event, Message
from schemas.node import ReportNodeHeard, ReportNodeSilent
from schemas.operation import CancelOperation, OperationEnded, OperationKind, Outcome
from schemas.refusals import Refusal
from schemas.replica import ReplicaHoldWanted, ReplicaRemovalWanted, ReplicaRemovalWithdrawn
from schemas.volume import ProvisionVolume
from tests.support.given import GIB
from tests.support.stage import ScriptedNode, Stage
from tests.support.virtual_time import VirtualClock, run_virtually

HOUR_S = 3600
DELETE = DeleteVolume(volume="pg", hold_s=HOUR_S, deadline_s=60)
COMPLETED = (Outcome.COMPLETED, None, 0)


class Play:
    """A stage with one node at work, and a volume on it. ``trouble`` is what the node meets."""

    def __init__(self) -> None:
        self.stage = Stage(VirtualClock())
        self.trouble: Callable[[Event], Refusal | None] = lambda _: None
        self.node = ScriptedNode(self.stage, "n1", Random(1), self._meets)

    def _meets(self, event: Event) -> Refusal | None:
        return self.trouble(event)

    @property
    def world(self) -> World:
        return self.stage.world

    @property
    def phase(self) -> VolumePhase:
        return self.world.volumes["pg"].phase

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        work = asyncio.create_task(self.node.work())
        try:
            yield
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def end(self, operation: str) -> tuple[Outcome | None, Refusal | None, int]:
        await self.stage.settled()
        ends = [e for e in await self.stage.events() if isinstance(e, OperationEnded)]
        (end,) = [e for e in ends if e.operation == operation]
        return end.outcome, end.code, len(end.leftovers)

    async def done(self, wish: Message) -> tuple[Outcome | None, Refusal | None, int]:
        return await self.end((await self.stage.accepted(wish)).operation)

    async def furnish(self) -> None:
        await self.node.join(1)
        await self.done(self.node.form())
        await self.done(ProvisionVolume(volume="pg", size_bytes=GIB))

    async def gone_at(self) -> float:
        """Wait until the volume is gone; return how long its hold has been over then."""
        await self.stage.until(lambda world: "pg" not in world.volumes, within_s=9 * HOUR_S)
        held = [e for e in await self.stage.events() if isinstance(e, VolumeHeld)]
        return (self.stage.clock.now() - held[-1].until).total_seconds()


def story(tale: Callable[[Play], Coroutine[object, object, None]]) -> None:
    async def told() -> None:
        here = Play()
        async with here.stage.control_plane(), here.working():
            await here.furnish()
            await tale(here)

    run_virtually(told)


def test_a_held_volume_comes_back_and_the_ledger_never_let_go_of_it() -> None:
    async def tale(here: Play) -> None:
        before = here.world.volumes["pg"], here.world.replicas["n1", "pg"]
        assert await here.done(DELETE) == COMPLETED
        assert here.phase is VolumePhase.HELD
        assert here.world.pools["n1", "fast"].ledger.thick_settled_bytes == GIB
        assert await here.done(UndeleteVolume(volume="pg")) == COMPLETED
        assert (here.world.volumes["pg"], here.world.replicas["n1", "pg"]) == before
        kinds = [operation.kind for operation in here.world.operations.values()]
        assert kinds[-2:] == [OperationKind.VOLUME_DELETE, OperationKind.VOLUME_UNDELETE]

    story(tale)


def test_a_hold_that_is_over_is_purged_by_itself_and_leaves_nothing() -> None:
    async def tale(here: Play) -> None:
        assert await here.done(DELETE) == COMPLETED
        assert await here.gone_at() < 5
        await here.stage.settled()
        assert here.node.volumes == {}
        assert here.world.pools["n1", "fast"].ledger.empty

    story(tale)


def test_a_purge_does_not_wait_for_the_hold_to_be_over() -> None:
    async def tale(here: Play) -> None:
        await here.done(DELETE)
        assert await here.done(PurgeVolume(volume="pg")) == COMPLETED
        assert here.node.volumes == {}
        assert sum(isinstance(e, VolumeDeleted) for e in await here.stage.events()) == 1

    story(tale)


def test_a_hold_survives_the_control_plane() -> None:
    async def told() -> None:
        here = Play()
        async with here.working():
            async with here.stage.control_plane():
                await here.furnish()
                await here.done(DELETE)
            await asyncio.sleep(2 * HOUR_S)
            async with here.stage.control_plane():
                assert HOUR_S - 60 < await here.gone_at() < HOUR_S + 5

    run_virtually(told)


def test_a_volume_in_use_is_not_held() -> None:
    async def tale(here: Play) -> None:
        here.trouble = lambda e: Refusal.IN_USE if isinstance(e, ReplicaHoldWanted) else None
        assert await here.done(DELETE) == (Outcome.FAILED, Refusal.IN_USE, 0)
        assert here.phase is VolumePhase.READY
        assert here.world.volumes["pg"].until is None

    story(tale)


def test_a_hold_that_is_cancelled_leaves_the_volume_in_use() -> None:
    async def tale(here: Play) -> None:
        here.node.slow_s = 20
        begun = await here.stage.accepted(DELETE)
        leg = ("n1", "pg")
        await here.stage.until(lambda w: w.replicas[leg].phase is ReplicaPhase.HOLDING)
        await here.stage.accepted(CancelOperation(operation=begun.operation))
        assert await here.end(begun.operation) == (Outcome.CANCELLED, Refusal.CANCELLED, 0)
        assert here.phase is VolumePhase.READY

    story(tale)


def test_an_undeletion_that_the_node_does_not_answer_in_time_leaves_the_volume_held() -> None:
    async def tale(here: Play) -> None:
        await here.done(DELETE)
        here.node.slow_s = 10_000
        undelete = UndeleteVolume(volume="pg", deadline_s=60)
        outcome, code, left = await here.done(undelete)
        assert (outcome, code, left) == (Outcome.FAILED, Refusal.DEADLINE, 1)
        assert here.phase is VolumePhase.HELD

    story(tale)


def test_a_leg_that_was_removed_behind_our_back_is_neither_held_nor_brought_back() -> None:
    async def tale(here: Play) -> None:
        await here.done(DELETE)
        here.node.volumes.clear()
        end = await here.done(UndeleteVolume(volume="pg"))
        assert end == (Outcome.FAILED, Refusal.UNKNOWN_REPLICA, 0)
        assert here.world.volumes == {}
        await here.done(ProvisionVolume(volume="pg", size_bytes=GIB))
        here.node.volumes.clear()
        assert await here.done(DELETE) == COMPLETED
        assert here.world.volumes == {}
        assert here.world.pools["n1", "fast"].ledger.empty

    story(tale)


def test_a_purge_that_failed_leaves_the_volume_held_and_is_tried_again_later() -> None:
    async def tale(here: Play) -> None:
        await here.done(DELETE)
        failing = True
        here.trouble = lambda e: (
            Refusal.TOOL_FAILED if failing and isinstance(e, ReplicaRemovalWanted) else None
        )
        assert await here.done(PurgeVolume(volume="pg")) == (
            Outcome.FAILED,
            Refusal.TOOL_FAILED,
            0,
        )
        assert here.phase is VolumePhase.HELD
        await asyncio.sleep(HOUR_S + 60)
        purges = [o for o in here.world.operations.values() if o.outcome is Outcome.FAILED]
        assert (here.phase, len(purges)) == (VolumePhase.HELD, 2)
        failing = False
        assert AGAIN_AFTER_S - 60 < await here.gone_at() < AGAIN_AFTER_S + 60

    story(tale)


def test_nothing_is_purged_on_a_node_that_is_not_heard() -> None:
    async def tale(here: Play) -> None:
        await here.done(DELETE)
        heard = here.stage.clock.now()
        await here.stage.accepted(ReportNodeSilent(node="n1", last_heard=heard))
        await asyncio.sleep(2 * HOUR_S)
        assert here.phase is VolumePhase.HELD
        assert here.stage.outlet.under("hwbus.audit.refused.>") == []
        await here.stage.accepted(ReportNodeHeard(node="n1"))
        assert HOUR_S - 60 < await here.gone_at() < HOUR_S + 5

    story(tale)


def test_a_volume_that_was_undeleted_outlives_the_hold_it_had() -> None:
    async def tale(here: Play) -> None:
        await here.done(DELETE)
        await here.done(UndeleteVolume(volume="pg"))
        await asyncio.sleep(HOUR_S / 2)
        await here.done(msgspec.structs.replace(DELETE, hold_s=3 * HOUR_S))
        await asyncio.sleep(HOUR_S)
        assert here.phase is VolumePhase.HELD
        assert await here.gone_at() < 5
        wishes = [e for e in await here.stage.events() if isinstance(e, ReplicaRemovalWithdrawn)]
        assert len(wishes) == 1

    story(tale)
