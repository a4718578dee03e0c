"""Operations from their first commit to their last, on a control plane in memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random

import msgspec
import pytest
from structlog.testing import capture_logs

from aggregates.processes.registry import begin
from aggregates.volume import VolumePhase
from hwbus.asking import Asked
from hwbus.desk import CommandDesk
from hwbus.ports import LogFullError
from schemas.answers import Answer
from schemas.deleting import DeleteVolume
from schemas.grammar import Event, Message
from schemas.node import CordonNode, RemoveNode
from schemas.operation import (
    CancelOperation,
    CancelWanted,
    OperationEnded,
    OperationExpired,
    OperationKind,
    OperationStarted,
    Outcome,
    ReportConcluded,
)
from schemas.pool import GrowPool, PoolBuildWanted, PoolExtensionWanted, RemovePool
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaRemovalWanted,
    ReplicaResizeWanted,
    ReplicaWanted,
)
from schemas.volume import (
    Candidate,
    GrowVolume,
    Layout,
    ProvisionVolume,
    VolumeProvisioned,
    VolumeProvisioningBegan,
)
from tests.support.given import GIB, OPERATION, UID
from tests.support.stage import ScriptedNode, Stage
from tests.support.virtual_time import EPOCH, VirtualClock, run_virtually
from tests.support.words import DEADLINE

Troubles = Callable[[Event], Refusal | None]
PROVISION = ProvisionVolume(volume="pg", size_bytes=GIB, deadline_s=60)


class Play:
    """A stage with one node at work."""

    def __init__(self, stage: Stage, node: ScriptedNode) -> None:
        self.stage = stage
        self.node = node
        self.worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.worker = asyncio.create_task(self.node.work())

    async def stop(self) -> None:
        if self.worker is not None:
            self.worker.cancel()
            await asyncio.gather(self.worker, return_exceptions=True)

    async def outcome(self, operation: str) -> tuple[Outcome | None, Refusal | None, int]:
        await self.stage.settled()
        ends = [e for e in await self.stage.events() if isinstance(e, OperationEnded)]
        (end,) = [e for e in ends if e.operation == operation]
        return end.outcome, end.code, len(end.leftovers)


@asynccontextmanager
async def play(troubles: Troubles = lambda _: None, *, disks: int = 2) -> AsyncIterator[Play]:
    stage = Stage(VirtualClock())
    node = ScriptedNode(stage, "n1", Random(1), troubles)
    here = Play(stage, node)
    async with stage.control_plane():
        await node.join(disks)
        here.start()
        try:
            yield here
        finally:
            await here.stop()


async def with_pool(here: Play) -> None:
    formed = await here.stage.accepted(here.node.form())
    assert await here.outcome(formed.operation) == (Outcome.COMPLETED, None, 0)


def story(tale: Callable[[], Coroutine[object, object, None]]) -> None:
    run_virtually(tale)


def fails_at(*words: type[Event], code: Refusal = Refusal.TOOL_FAILED) -> Troubles:
    return lambda event: code if isinstance(event, words) else None


def test_a_pool_is_formed_grown_and_removed_and_its_disks_are_free_again() -> None:
    async def tale() -> None:
        async with play() as here:
            await with_pool(here)
            grow = GrowPool(pool="fast", node="n1", disks=("n1-d1",))
            grown = await here.stage.accepted(grow)
            assert await here.outcome(grown.operation) == (Outcome.COMPLETED, None, 0)
            facts = here.stage.world.pools["n1", "fast"].facts
            assert facts is not None
            assert facts.size_bytes == 40 * GIB
            removed = await here.stage.accepted(RemovePool(pool="fast", node="n1"))
            assert await here.outcome(removed.operation) == (Outcome.COMPLETED, None, 0)
            assert here.stage.world.pools == {}
            assert [d.owner for d in here.stage.world.disks.values()] == [None, None]
            assert here.stage.world.nodes["n1"].pools == frozenset()

    story(tale)


def test_a_volume_is_made_grown_and_deleted_and_the_ledger_follows() -> None:
    async def tale() -> None:
        async with play() as here:
            await with_pool(here)
            made = await here.stage.accepted(PROVISION)
            assert await here.outcome(made.operation) == (Outcome.COMPLETED, None, 0)
            ledger = here.stage.world.pools["n1", "fast"].ledger
            assert (ledger.thick_settled_bytes, ledger.reserved) == (GIB, {})
            grown = await here.stage.accepted(GrowVolume(volume="pg", size_bytes=3 * GIB))
            assert await here.outcome(grown.operation) == (Outcome.COMPLETED, None, 0)
            assert here.stage.world.volumes["pg"].size_bytes == 3 * GIB
            assert here.stage.world.pools["n1", "fast"].ledger.thick_settled_bytes == 3 * GIB
            deleted = await here.stage.accepted(DeleteVolume(volume="pg"))
            assert await here.outcome(deleted.operation) == (Outcome.COMPLETED, None, 0)
            assert here.stage.world.pools["n1", "fast"].ledger.empty
            assert here.node.volumes == {}

    story(tale)


def test_an_empty_node_is_removed_and_nothing_names_it() -> None:
    async def tale() -> None:
        async with play() as here:
            removed = await here.stage.accepted(RemoveNode(node="n1"))
            assert await here.outcome(removed.operation) == (Outcome.COMPLETED, None, 0)
            assert here.stage.world.disks == {}
            await here.stage.refused(CordonNode(node="n1"), Refusal.NODE_REMOVED)

    story(tale)


@pytest.mark.parametrize(
    ("troubles", "leaves"),
    [
        (fails_at(PoolBuildWanted, code=Refusal.REFUSED_TO_TOUCH), Refusal.REFUSED_TO_TOUCH),
        (fails_at(PoolBuildWanted), Refusal.TOOL_FAILED),
    ],
)
def test_a_pool_that_cannot_be_made_gives_everything_back(
    troubles: Troubles, leaves: Refusal
) -> None:
    async def tale() -> None:
        async with play(troubles) as here:
            formed = await here.stage.accepted(here.node.form())
            assert await here.outcome(formed.operation) == (Outcome.FAILED, leaves, 0)
            assert here.stage.world.pools == {}
            assert [d.owner for d in here.stage.world.disks.values()] == [None, None]

    story(tale)


def test_a_pool_that_cannot_grow_stays_as_it_was() -> None:
    async def tale() -> None:
        async with play(fails_at(PoolExtensionWanted)) as here:
            await with_pool(here)
            grow = GrowPool(pool="fast", node="n1", disks=("n1-d1",))
            grown = await here.stage.accepted(grow)
            assert await here.outcome(grown.operation) == (
                Outcome.FAILED,
                Refusal.TOOL_FAILED,
                0,
            )
            pool = here.stage.world.pools["n1", "fast"]
            assert (pool.disks, pool.adding, pool.dropping) == (("n1-d0",), (), ())
            assert here.stage.world.disks["n1-d1"].owner is None

    story(tale)


def test_a_volume_that_cannot_be_made_leaves_nothing_behind() -> None:
    async def tale() -> None:
        async with play(fails_at(ReplicaWanted)) as here:
            await with_pool(here)
            made = await here.stage.accepted(PROVISION)
            assert await here.outcome(made.operation) == (
                Outcome.FAILED,
                Refusal.TOOL_FAILED,
                0,
            )
            assert here.stage.world.volumes == {}
            assert here.stage.world.replicas == {}
            assert here.stage.world.pools["n1", "fast"].ledger.empty

    story(tale)


def test_what_was_half_made_and_cannot_be_removed_is_named_at_once() -> None:
    async def tale() -> None:
        async with play(fails_at(ReplicaWanted, ReplicaRemovalWanted)) as here:
            await with_pool(here)
            began = here.stage.clock.now()
            made = await here.stage.accepted(msgspec.structs.replace(PROVISION, deadline_s=86_400))
            assert await here.outcome(made.operation) == (
                Outcome.FAILED,
                Refusal.TOOL_FAILED,
                1,
            )
            assert here.stage.clock.now() - began < timedelta(minutes=1)
            assert here.stage.world.volumes == {}
            assert not here.stage.world.pools["n1", "fast"].ledger.empty

    story(tale)


def test_a_volume_that_cannot_grow_stays_in_use_as_large_as_it_was() -> None:
    async def tale() -> None:
        async with play(fails_at(ReplicaResizeWanted)) as here:
            await with_pool(here)
            await here.stage.accepted(PROVISION)
            await here.stage.settled()
            grown = await here.stage.accepted(
                GrowVolume(volume="pg", size_bytes=2 * GIB, deadline_s=60)
            )
            outcome, code, _ = await here.outcome(grown.operation)
            assert (outcome, code) == (Outcome.FAILED, Refusal.TOOL_FAILED)
            volume = here.stage.world.volumes["pg"]
            assert (volume.phase, volume.size_bytes) == (VolumePhase.READY, GIB)

    story(tale)


def test_a_volume_in_use_is_not_deleted_and_stays_in_use() -> None:
    async def tale() -> None:
        in_use = fails_at(ReplicaRemovalWanted, code=Refusal.IN_USE)
        async with play(in_use) as here:
            await with_pool(here)
            await here.stage.accepted(PROVISION)
            await here.stage.settled()
            deleted = await here.stage.accepted(DeleteVolume(volume="pg"))
            assert await here.outcome(deleted.operation) == (Outcome.FAILED, Refusal.IN_USE, 0)
            assert here.stage.world.volumes["pg"].phase is VolumePhase.READY
            assert "pg" in here.node.volumes

    story(tale)


def test_an_operation_on_a_dead_node_ends_by_its_deadline_and_says_what_is_left() -> None:
    async def tale() -> None:
        async with play() as here:
            await with_pool(here)
            await here.stop()
            made = await here.stage.accepted(PROVISION)
            outcome, code, left = await here.outcome(made.operation)
            assert (outcome, code, left) == (Outcome.FAILED, Refusal.DEADLINE, 1)
            expiries = [e for e in await here.stage.events() if isinstance(e, OperationExpired)]
            assert len(expiries) == 2
            assert not here.stage.world.pools["n1", "fast"].ledger.empty
            here.start()
            await here.stage.until(lambda w: w.pools["n1", "fast"].ledger.empty)
            assert here.node.volumes == {}

    story(tale)


def test_a_cancelled_operation_is_undone() -> None:
    async def tale() -> None:
        async with play() as here:
            await with_pool(here)
            here.node.slow_s = 10.0
            made = await here.stage.accepted(PROVISION)
            await here.stage.until(lambda w: ("n1", "pg") in w.replicas)
            await here.stage.accepted(CancelOperation(operation=made.operation))
            assert await here.outcome(made.operation) == (
                Outcome.CANCELLED,
                Refusal.CANCELLED,
                0,
            )
            assert here.stage.world.volumes == {}
            await here.stage.until(lambda w: w.pools["n1", "fast"].ledger.empty)
            assert here.node.volumes == {}

    story(tale)


def test_a_deletion_cancelled_too_late_is_completed() -> None:
    async def tale() -> None:
        async with play() as here:
            await with_pool(here)
            await here.stage.accepted(PROVISION)
            await here.stage.settled()
            deleted = await here.stage.accepted(DeleteVolume(volume="pg"))
            await here.stage.until(
                lambda w: ("n1", "pg") not in w.replicas or not here.node.volumes
            )
            await here.stage.say(CancelOperation(operation=deleted.operation))
            outcome, _, _ = await here.outcome(deleted.operation)
            assert outcome is Outcome.COMPLETED
            assert "pg" not in here.stage.world.volumes

    story(tale)


def test_what_has_succeeded_is_not_undone_by_a_late_cancel() -> None:
    async def tale() -> None:
        async with play() as here:
            await with_pool(here)
            made = await here.stage.accepted(PROVISION)
            await here.stage.until(lambda w: w.volumes["pg"].phase is VolumePhase.READY)
            await here.stage.say(CancelOperation(operation=made.operation))
            assert await here.outcome(made.operation) == (Outcome.COMPLETED, None, 0)
            assert here.stage.world.volumes["pg"].phase is VolumePhase.READY
            assert "pg" in here.node.volumes

    story(tale)


@pytest.mark.parametrize("late", [False, True])
def test_success_and_cancel_in_either_order_end_as_success(late: bool) -> None:
    began = VolumeProvisioningBegan(
        volume="pg",
        uid=UID,
        operation=OPERATION,
        deadline=DEADLINE,
        size_bytes=GIB,
        candidates=(Candidate(node="n1", pool="fast"),),
    )
    done = VolumeProvisioned(
        volume="pg", uid=UID, operation=OPERATION, node="n1", pool="fast", size_bytes=GIB
    )
    cancel = CancelWanted(operation=OPERATION)
    started = OperationStarted(
        operation=OPERATION,
        kind=OperationKind.VOLUME_PROVISION,
        object="volume/pg",
        deadline=DEADLINE,
    )
    work = begin(began)
    assert work is not None
    for event in (started, done, cancel) if late else (started, cancel, done):
        work = work.evolve(event)
    due = work.due()
    assert due is not None
    assert isinstance(due.command, ReportConcluded)
    assert due.command.outcome is Outcome.COMPLETED


def test_when_one_pool_does_not_keep_its_word_the_next_is_tried() -> None:
    async def tale() -> None:
        stage = Stage(VirtualClock())
        nodes = [ScriptedNode(stage, name, Random(1)) for name in ("n1", "n2")]
        async with stage.control_plane():
            for node in nodes:
                await node.join(1)
            workers = [asyncio.create_task(node.work()) for node in nodes]
            for node in nodes:
                await stage.accepted(node.form())
            await stage.settled()
            wishes = [ProvisionVolume(volume=f"v{n}", size_bytes=12 * GIB) for n in range(2)]
            await asyncio.gather(*(stage.accepted(wish) for wish in wishes))
            await stage.settled()
            assert {v.node for v in stage.world.volumes.values()} == {"n1", "n2"}
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    story(tale)


def test_twenty_requests_of_six_gib_on_three_pools_of_twenty_make_exactly_nine() -> None:
    async def tale() -> None:
        stage = Stage(VirtualClock())
        nodes = [ScriptedNode(stage, f"n{n}", Random(n)) for n in range(1, 4)]
        async with stage.control_plane():
            for node in nodes:
                await node.join(1)
            workers = [asyncio.create_task(node.work()) for node in nodes]
            for node in nodes:
                await stage.accepted(node.form())
            await stage.settled()
            wishes = [ProvisionVolume(volume=f"v{n}", size_bytes=6 * GIB) for n in range(20)]
            await asyncio.gather(*(stage.say(wish) for wish in wishes))
            await stage.settled()
            assert len(stage.world.volumes) == 9
            for pool in stage.world.pools.values():
                assert (len(pool.ledger.settled), pool.ledger.reserved) == (3, {})
            failed = [
                e.code
                for e in await stage.events()
                if isinstance(e, OperationEnded) and e.outcome is Outcome.FAILED
            ]
            assert set(failed) <= {Refusal.CAPACITY}
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    story(tale)


def test_a_thin_volume_without_a_thin_pool_never_begins() -> None:
    async def tale() -> None:
        async with play() as here:
            await with_pool(here)
            wish = ProvisionVolume(volume="pg", size_bytes=GIB, layout=Layout.THIN)
            await here.stage.refused(wish, Refusal.NO_THIN_POOL)

    story(tale)


def broken(desk: CommandDesk, *parts: str, times: int) -> None:
    """Let *desk* break the first *times* at each id with one of *parts* in it."""
    settle, asked = desk.settle, Counter[str]()

    async def settled(wish: Asked, command: Message) -> Answer:
        asked[wish.id] += 1
        if asked[wish.id] <= times and any(part in wish.id for part in parts):
            raise LogFullError("nobody thought of this")
        return await settle(wish, command)

    desk.settle = settled  # type: ignore[method-assign]


def test_an_operation_whose_task_died_is_begun_anew_and_ends_as_it_should() -> None:
    async def tale() -> None:
        async with play() as here:
            await with_pool(here)
            assert here.stage.desk is not None
            broken(here.stage.desk, ".reserve.", ".create.", ".conclude.", times=1)
            with capture_logs() as logs:
                made = await here.stage.accepted(PROVISION)
                assert await here.outcome(made.operation) == (Outcome.COMPLETED, None, 0)
            told = [one["work"] for one in logs if "begins anew" in one["event"]]
            assert told == [f"operation {made.operation}"] * 3

    story(tale)


def test_an_operation_whose_task_dies_each_time_is_ended_in_time_all_the_same() -> None:
    async def tale() -> None:
        async with play() as here:
            await with_pool(here)
            assert here.stage.desk is not None
            broken(here.stage.desk, ".reserve.", ".failed.", times=1 << 30)
            made = await here.stage.accepted(PROVISION)
            outcome, _, _ = await here.outcome(made.operation)
            assert outcome is Outcome.FAILED
            assert here.stage.clock.now() < EPOCH + timedelta(seconds=120)

    story(tale)


def test_an_operation_is_told_the_time_although_that_broke_once() -> None:
    async def tale() -> None:
        async with play() as here:
            await with_pool(here)
            await here.stop()
            assert here.stage.desk is not None
            broken(here.stage.desk, ".expired.", times=1)
            made = await here.stage.accepted(PROVISION)
            outcome, code, _ = await here.outcome(made.operation)
            assert (outcome, code) == (Outcome.FAILED, Refusal.DEADLINE)

    story(tale)
