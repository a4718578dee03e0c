"""Snapshots of groups from their first commit to their last, on a control plane in memory."""

from collections.abc import Callable, Coroutine

import pytest

from aggregates.volume import VolumePhase
from schemas.deleting import DeleteVolume
from schemas.grammar import Event
from schemas.operation import CancelOperation, OperationKind, Outcome
from schemas.pool import RoomReserved
from schemas.refusals import Refusal
from schemas.replica import ReplicaRemovalWanted, ReplicaWanted
from schemas.snapshot import SnapshotCreated, SnapshotCreationFailed
from schemas.volume import GrowVolume, ProvisionVolume
from schemas.volume_group import (
    CreateGroup,
    GroupSnapshotFailed,
    GroupSnapshotTaken,
    SnapshotGroup,
)
from tests.support.given import GIB, MIB
from tests.support.virtual_time import run_virtually
from tests.unit.hwbus.test_driver import Play, Troubles, play

VOLUMES = ("a", "b", "c")
TAKE = SnapshotGroup(group="shop", snapshot="s", reserve_bytes=40 * MIB, deadline_s=60)
SNAPSHOTS = {"s-a", "s-b", "s-c"}


async def furnish(here: Play) -> None:
    await here.stage.accepted(here.node.form(disks=2))
    await here.stage.settled()
    for volume in VOLUMES:
        wish = ProvisionVolume(volume=volume, size_bytes=GIB, deadline_s=60)
        await here.stage.accepted(wish)
    await here.stage.settled()
    await here.stage.accepted(CreateGroup(group="shop", volumes=VOLUMES))


async def books_are_right(here: Play, snapshots: set[str]) -> None:
    """Nothing is busy or locked, and all books have exactly these snapshots."""
    world = here.stage.world
    await here.stage.until(
        lambda w: w.pools["n1", "fast"].ledger.claims == len(VOLUMES) + len(snapshots)
    )
    assert not world.pools["n1", "fast"].ledger.reserved
    for name in VOLUMES:
        volume = world.volumes[name]
        kept = {s for s in snapshots if s.endswith(f"-{name}")}
        assert (volume.phase, volume.operation) == (VolumePhase.READY, "")
        assert volume.snapshots == kept
    assert world.groups["shop"].operation == ""
    assert set(world.snapshots) == snapshots
    assert set(here.node.volumes) == {*VOLUMES, *snapshots}


Tale = Callable[[Play], Coroutine[object, object, None]]


def told(tale_of: Tale, troubles: Troubles = lambda _: None) -> None:
    async def tale() -> None:
        async with play(troubles) as here:
            await furnish(here)
            await tale_of(here)

    run_virtually(tale)


def test_all_snapshots_of_a_group_are_taken_and_room_is_reserved_for_all_before() -> None:
    async def tale(here: Play) -> None:
        taken = await here.stage.accepted(TAKE)
        assert await here.outcome(taken.operation) == (Outcome.COMPLETED, None, 0)
        await books_are_right(here, SNAPSHOTS)
        operation = here.stage.world.operations[taken.operation]
        assert (operation.kind, operation.object) == (OperationKind.GROUP_SNAPSHOT, "group/shop")
        events = await here.stage.events()
        mine = [e for e in events if getattr(e, "operation", "") == taken.operation]
        reserved = [i for i, e in enumerate(mine) if isinstance(e, RoomReserved)]
        wanted = [i for i, e in enumerate(mine) if isinstance(e, ReplicaWanted)]
        assert len(reserved) == len(wanted) == 3
        assert max(reserved) < min(wanted)
        specs = [e.spec for e in mine if isinstance(e, ReplicaWanted)]
        assert len({spec.together for spec in specs}) == 1
        assert len({spec.uid for spec in specs}) == 3
        assert sum(isinstance(e, SnapshotCreated) for e in mine) == 3
        assert sum(isinstance(e, GroupSnapshotTaken) for e in mine) == 1

    told(tale)


@pytest.mark.parametrize("which", ["s-a", "s-b", "s-c"])
def test_when_one_snapshot_fails_the_others_are_removed_again(which: str) -> None:
    def troubles(event: Event) -> Refusal | None:
        hit = isinstance(event, ReplicaWanted) and event.volume == which
        return Refusal.NO_SPACE_ON_NODE if hit else None

    async def tale(here: Play) -> None:
        begun = await here.stage.accepted(TAKE)
        end = await here.outcome(begun.operation)
        assert end == (Outcome.FAILED, Refusal.NO_SPACE_ON_NODE, 0)
        await books_are_right(here, set())
        events = await here.stage.events()
        (failed,) = [e for e in events if isinstance(e, GroupSnapshotFailed)]
        assert failed.code is Refusal.NO_SPACE_ON_NODE
        assert sum(isinstance(e, SnapshotCreationFailed) for e in events) == 3
        assert not [e for e in events if isinstance(e, SnapshotCreated)]
        again = await here.stage.accepted(GrowVolume(volume="a", size_bytes=2 * GIB))
        assert await here.outcome(again.operation) == (Outcome.COMPLETED, None, 0)

    told(tale, troubles)


def test_room_that_is_there_for_one_and_not_for_all_is_given_back() -> None:
    async def tale(here: Play) -> None:
        # So much that any two fit; that all three do not is known before anything begins.
        big = SnapshotGroup(group="shop", snapshot="s", deadline_s=60)
        rest = ProvisionVolume(volume="rest", size_bytes=36 * GIB + 500 * MIB, deadline_s=60)
        await here.stage.accepted(rest)
        await here.stage.settled()
        await here.stage.refused(big, Refusal.CAPACITY)
        assert here.stage.world.snapshots == {}

    told(tale)


@pytest.mark.parametrize("late_s", [0.0, 0.01, 0.02, 0.05, 0.1, 0.2])
def test_cancelled_at_any_time_it_leaves_all_snapshots_or_none(late_s: float) -> None:
    async def tale(here: Play) -> None:
        here.node.slow_s = 0.05
        begun = await here.stage.accepted(TAKE)
        started = here.stage.clock.now()
        await here.stage.until(
            lambda _: (here.stage.clock.now() - started).total_seconds() >= late_s
        )
        await here.stage.say(CancelOperation(operation=begun.operation))
        outcome, code, left = await here.outcome(begun.operation)
        assert left == 0
        if outcome is Outcome.COMPLETED:
            await books_are_right(here, SNAPSHOTS)
        else:
            assert (outcome, code) == (Outcome.CANCELLED, Refusal.CANCELLED)
            await books_are_right(here, set())

    told(tale)


def test_a_node_that_does_not_answer_in_time_leaves_what_it_may_have_made_as_leftovers() -> None:
    async def tale(here: Play) -> None:
        here.node.slow_s = 10_000
        begun = await here.stage.accepted(TAKE)
        outcome, code, left = await here.outcome(begun.operation)
        assert (outcome, code, left) == (Outcome.FAILED, Refusal.DEADLINE, 3)
        assert here.stage.world.volumes["a"].phase is VolumePhase.READY
        assert here.stage.world.volumes["a"].snapshots == {"s-a"}
        again = await here.stage.say(TAKE)
        assert getattr(again, "code", None) is Refusal.REPLICA_BUSY

    told(tale)


def test_while_a_group_is_being_kept_its_volumes_are_busy() -> None:
    async def tale(here: Play) -> None:
        here.node.slow_s = 5
        begun = await here.stage.accepted(TAKE)
        await here.stage.until(lambda w: w.volumes["c"].phase is VolumePhase.LOCKED)
        await here.stage.refused(DeleteVolume(volume="a"), Refusal.VOLUME_BUSY)
        await here.stage.refused(TAKE, Refusal.GROUP_BUSY)
        assert await here.outcome(begun.operation) == (Outcome.COMPLETED, None, 0)

    told(tale)


def test_a_control_plane_that_dies_while_a_group_is_being_kept_is_followed_by_the_next() -> None:
    async def tale(here: Play) -> None:
        here.node.slow_s = 2
        begun = await here.stage.accepted(TAKE)
        await here.stage.until(lambda w: w.volumes["b"].phase is VolumePhase.LOCKED)
        async with here.stage.control_plane():
            assert await here.outcome(begun.operation) == (Outcome.COMPLETED, None, 0)
            await books_are_right(here, SNAPSHOTS)
        removals = [e for e in await here.stage.events() if isinstance(e, ReplicaRemovalWanted)]
        assert removals == []

    told(tale)


def test_a_deleted_volume_leaves_its_group_and_the_next_snapshot_does_without_it() -> None:
    async def tale(here: Play) -> None:
        gone = await here.stage.accepted(DeleteVolume(volume="b", hold_s=3600, deadline_s=60))
        assert await here.outcome(gone.operation) == (Outcome.COMPLETED, None, 0)
        await here.stage.until(lambda w: set(w.groups["shop"].members) == {"a", "c"})
        taken = await here.stage.accepted(TAKE)
        assert await here.outcome(taken.operation) == (Outcome.COMPLETED, None, 0)
        assert set(here.stage.world.snapshots) == {"s-a", "s-c"}

    told(tale)
