"""Operations on snapshots from their first commit to their last, on a control plane in memory."""

from collections.abc import Callable

from aggregates.replica import ReplicaPhase
from aggregates.volume import VolumePhase
from aggregates.world import World
from schemas.deleting import DeleteVolume
from schemas.grammar import Event
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from schemas.replica import Consistency, ReplicaMergeWanted, ReplicaRemovalWithdrawn, ReplicaWanted
from schemas.snapshot import (
    CreateSnapshot,
    DeleteSnapshot,
    RollBackSnapshot,
    SnapshotCreated,
    SnapshotGone,
    SnapshotRolledBack,
)
from schemas.volume import GrowVolume, ProvisionVolume
from tests.support.given import GIB, MIB
from tests.support.virtual_time import run_virtually
from tests.unit.hwbus.test_driver import Play, play

PROVISION = ProvisionVolume(volume="pg", size_bytes=GIB, deadline_s=60)
TAKE = CreateSnapshot(snapshot="s", volume="pg", reserve_bytes=40 * MIB, deadline_s=60)
DELETE = DeleteSnapshot(snapshot="s", deadline_s=60)
BACK = RollBackSnapshot(snapshot="s", deadline_s=60)


async def volume(here: Play) -> None:
    await here.stage.accepted(here.node.form(disks=2))
    await here.stage.settled()
    await here.stage.accepted(PROVISION)
    await here.stage.settled()


async def books_are_right(here: Play, *snapshots: str) -> None:
    """Nothing is held, and the ledger has the volume and exactly these snapshots."""
    world = here.stage.world
    await here.stage.until(
        lambda _: world.pools["n1", "fast"].ledger.claims == 1 + len(snapshots), within_s=120
    )
    pg = world.volumes["pg"]
    assert (pg.phase, pg.operation, pg.snapshots) == (VolumePhase.READY, "", frozenset(snapshots))
    assert set(world.snapshots) == set(snapshots)
    assert set(here.node.volumes) == {"pg", *snapshots}
    assert not world.pools["n1", "fast"].ledger.reserved


def test_a_snapshot_is_taken_deleted_and_rolled_back_to_and_the_books_are_right() -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here)
            for end in (DELETE, BACK):
                taken = await here.stage.accepted(TAKE)
                assert await here.outcome(taken.operation) == (Outcome.COMPLETED, None, 0)
                await books_are_right(here, "s")
                ended = await here.stage.accepted(end)
                assert await here.outcome(ended.operation) == (Outcome.COMPLETED, None, 0)
                await books_are_right(here)
            events = await here.stage.events()
            created = [e for e in events if isinstance(e, SnapshotCreated)]
            assert [e.consistency for e in created] == [Consistency.FILESYSTEM] * 2
            assert [e.reserve_bytes for e in created] == [40 * MIB] * 2
            assert sum(isinstance(e, SnapshotRolledBack) for e in events) == 1

    run_virtually(tale)


def test_nothing_else_is_begun_while_a_snapshot_is_worked_on() -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here)
            here.node.slow_s = 20
            taken = await here.stage.accepted(TAKE)
            await here.stage.until(lambda world: bool(world.volumes["pg"].operation))
            grow = GrowVolume(volume="pg", size_bytes=2 * GIB)
            other = CreateSnapshot(snapshot="other", volume="pg")
            for word in (grow, DeleteVolume(volume="pg"), other):
                refused = await here.stage.refused(word, Refusal.VOLUME_BUSY)
                assert taken.operation in refused.because
            await here.stage.refused(DELETE, Refusal.SNAPSHOT_BUSY)
            assert (await here.outcome(taken.operation))[0] is Outcome.COMPLETED
            await here.stage.refused(DeleteVolume(volume="pg"), Refusal.HAS_SNAPSHOTS)

    run_virtually(tale)


def troubled_at(kind: type[Event]) -> Callable[[Event], Refusal | None]:
    return lambda event: Refusal.IN_USE if isinstance(event, kind) else None


def test_a_snapshot_that_the_node_cannot_take_is_undone_with_the_reason() -> None:
    async def tale() -> None:
        trouble = troubled_at(ReplicaWanted)
        async with play() as here:
            await volume(here)
            here.node._troubles = trouble
            taken = await here.stage.accepted(TAKE)
            assert await here.outcome(taken.operation) == (Outcome.FAILED, Refusal.IN_USE, 0)
            await books_are_right(here)

    run_virtually(tale)


def test_a_volume_in_use_is_not_rolled_back_and_its_snapshot_stays() -> None:
    async def tale() -> None:
        async with play(troubled_at(ReplicaMergeWanted)) as here:
            await volume(here)
            await here.stage.accepted(TAKE)
            await here.stage.settled()
            back = await here.stage.accepted(BACK)
            assert await here.outcome(back.operation) == (Outcome.FAILED, Refusal.IN_USE, 0)
            await books_are_right(here, "s")

    run_virtually(tale)


def test_a_rollback_that_is_cancelled_before_the_node_hears_of_it_changes_nothing() -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here)
            await here.stage.accepted(TAKE)
            await here.stage.settled()
            await here.stop()
            back = await here.stage.accepted(BACK)
            await here.stage.until(phase(ReplicaPhase.MERGING))
            # A worker reads all there is before it acts: it does not see the wish alone.
            here.node._position = await here.stage.log.head()
            await here.stage.accepted(CancelOperation(operation=back.operation))
            await here.stage.until(phase(ReplicaPhase.STAYING))
            here.start()
            expected = (Outcome.CANCELLED, Refusal.CANCELLED, 0)
            assert await here.outcome(back.operation) == expected
            await books_are_right(here, "s")

    run_virtually(tale)


def phase(wanted: ReplicaPhase) -> Callable[[World], bool]:
    return lambda world: world.replicas["n1", "s"].phase is wanted


def test_a_rollback_that_the_node_had_done_is_done_although_it_was_cancelled() -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here)
            await here.stage.accepted(TAKE)
            await here.stage.settled()
            here.node.slow_s = 20
            back = await here.stage.accepted(BACK)
            await here.stage.until(lambda world: world.replicas["n1", "s"].phase.value == "merging")
            here.node.volumes.pop("s")
            here.node.merged.add(here.stage.world.snapshots["s"].uid)
            await here.stage.accepted(CancelOperation(operation=back.operation))
            assert await here.outcome(back.operation) == (Outcome.COMPLETED, None, 0)
            events = await here.stage.events()
            assert any(isinstance(e, ReplicaRemovalWithdrawn) for e in events)
            await books_are_right(here)

    run_virtually(tale)


def test_a_snapshot_that_hands_removed_is_no_rollback_and_is_gone_from_the_books() -> None:
    async def tale() -> None:
        async with play(troubled_at(ReplicaMergeWanted)) as here:
            await volume(here)
            await here.stage.accepted(TAKE)
            await here.stage.settled()
            here.node.volumes.pop("s")
            back = await here.stage.accepted(BACK)
            outcome, code, _ = await here.outcome(back.operation)
            assert (outcome, code) == (Outcome.FAILED, Refusal.IN_USE)
            await books_are_right(here)
            assert any(isinstance(e, SnapshotGone) for e in await here.stage.events())

    run_virtually(tale)


def test_a_node_that_does_not_answer_leaves_a_name_and_the_books_are_right_once_it_does() -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here)
            await here.stop()
            taken = await here.stage.accepted(TAKE)
            assert await here.outcome(taken.operation) == (Outcome.FAILED, Refusal.DEADLINE, 1)
            await here.stage.refused(DeleteVolume(volume="pg"), Refusal.HAS_SNAPSHOTS)
            here.start()
            await here.stage.until(lambda world: not world.volumes["pg"].snapshots, within_s=300)
            await books_are_right(here)

    run_virtually(tale)
