"""All replicas of a volume are kept at one instant, from the wish to the end, in memory."""

import asyncio

import pytest

from aggregates.snapshot import SnapshotPhase
from aggregates.volume import VolumePhase
from schemas.grammar import Event
from schemas.instants import InstantSettled
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from schemas.replica import ReplicaRemovalWanted, ReplicaWanted
from schemas.replication import LegDisk
from schemas.snapshot import (
    CreateSnapshot,
    DeleteSnapshot,
    RollBackSnapshot,
    SnapshotCreationFailed,
)
from schemas.volume_group import CreateGroup, SnapshotGroup
from tests.support.given import MIB
from tests.unit.hwbus.test_replica_operations import (
    ATTACH,
    DONE,
    MADE,
    MADE_THREE,
    House,
    fails_at,
    tell,
)

TAKE = CreateSnapshot(snapshot="s", volume="pg", reserve_bytes=40 * MIB, deadline_s=60)
NODES = {"s": "n1", "s-n2": "n2"}


def there(here: House) -> dict[str, str]:
    """Return the snapshots that are ready, and where they are."""
    known = here.stage.world.snapshots
    assert {one.phase for one in known.values()} <= {SnapshotPhase.READY}
    assert here.volume.snapshots == known.keys()
    assert here.volume.phase is VolumePhase.READY
    on_nodes = {
        name: node
        for node, one in here.nodes.items()
        for name, spec in one.volumes.items()
        if spec.snapshot_of is not None
    }
    assert on_nodes == {name: one.node for name, one in known.items()}
    return on_nodes


async def gone(here: House) -> None:
    """Wait until nothing is left of the other snapshot, on its node and in the log."""
    await here.stage.until(lambda world: world.volumes["pg"].snapshots == {"s"}, 120)


def test_each_replica_is_kept_by_a_snapshot_of_its_own_and_all_can_go_one_by_one() -> None:
    async def tale(here: House) -> None:
        assert await here.ran(TAKE) == DONE
        assert there(here) == NODES
        events = await here.stage.events()
        wanted = [e for e in events if isinstance(e, ReplicaWanted) and e.spec.snapshot_of]
        assert [(e.node, e.spec.together is not None) for e in wanted] == [
            ("n2", True),
            ("n1", True),
        ]
        (settled,) = [e for e in events if isinstance(e, InstantSettled)]
        assert settled.node == "n2"
        for name in ("s", "s-n2"):
            assert await here.ran(DeleteSnapshot(snapshot=name)) == DONE
        assert there(here) == {}

    tell(tale, MADE, ATTACH)


def test_of_three_replicas_three_are_kept() -> None:
    async def tale(here: House) -> None:
        assert await here.ran(TAKE) == DONE
        assert there(here) == {**NODES, "s-n3": "n3"}

    tell(tale, MADE_THREE, ATTACH, many=True)


def test_one_alone_is_kept_if_that_is_asked_for() -> None:
    async def tale(here: House) -> None:
        alone = CreateSnapshot(snapshot="s", volume="pg", deadline_s=60, single=True)
        assert await here.ran(alone) == DONE
        assert there(here) == {"s": "n1"}

    tell(tale, MADE, ATTACH)


def test_who_does_not_follow_has_none_and_nothing_is_left_there() -> None:
    async def tale(here: House) -> None:
        here.nodes["n1"].deaf = {"n2"}
        outcome, code, _ = await here.ran(TAKE)
        assert (outcome, code) == (Outcome.COMPLETED, None)
        await gone(here)
        assert there(here) == {"s": "n1"}
        (failed,) = [e for e in await here.stage.events() if isinstance(e, SnapshotCreationFailed)]
        assert (failed.snapshot, failed.because) == ("s-n2", "n2 did not take it in time")

    tell(tale, MADE, ATTACH)


@pytest.mark.parametrize("word", [ReplicaWanted, InstantSettled])
def test_what_fails_on_the_other_node_is_done_without(word: type[Event]) -> None:
    async def tale(here: House) -> None:
        outcome, code, _ = await here.ran(TAKE)
        assert (outcome, code) == (Outcome.COMPLETED, None)
        await gone(here)
        assert there(here) == {"s": "n1"}

    tell(tale, MADE, ATTACH, troubles=fails_at(word, on="n2"))


def test_what_fails_on_the_node_that_writes_leaves_nothing_anywhere() -> None:
    async def tale(here: House) -> None:
        assert (await here.ran(TAKE))[:2] == (Outcome.FAILED, Refusal.TOOL_FAILED)
        assert there(here) == {}

    tell(tale, MADE, ATTACH, troubles=fails_at(ReplicaWanted, on="n1"))


def test_who_dies_before_it_is_told_has_its_snapshot_removed_when_it_is_back() -> None:
    async def tale(here: House) -> None:
        here.work.pop("n2").cancel()
        operation = (await here.stage.accepted(TAKE)).operation
        await asyncio.sleep(70)
        assert await here.ended(operation) == (Outcome.COMPLETED, None, ("replica/n2/s-n2",))
        here.start("n2")
        await gone(here)
        assert there(here) == {"s": "n1"}

    tell(tale, MADE, ATTACH)


@pytest.mark.parametrize("late_s", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_cancelled_at_any_time_it_leaves_all_or_none(late_s: float) -> None:
    async def tale(here: House) -> None:
        operation = (await here.stage.accepted(TAKE)).operation
        await asyncio.sleep(late_s)
        await here.stage.say(CancelOperation(operation=operation))
        outcome, _, left = await here.ended(operation)
        assert left == ()
        assert there(here) == (NODES if outcome is Outcome.COMPLETED else {})

    tell(tale, MADE, ATTACH)


def test_a_silent_replica_is_not_asked() -> None:
    async def tale(here: House) -> None:
        await here.lose("n2")
        assert await here.ran(TAKE) == DONE
        assert there(here) == {"s": "n1"}
        await here.find("n2")
        await here.in_sync()

    tell(tale, MADE, ATTACH)


def test_a_name_that_a_twin_would_need_is_taken() -> None:
    async def tale(here: House) -> None:
        other = CreateSnapshot(snapshot="s-n2", volume="pg", deadline_s=60, single=True)
        assert await here.ran(other) == DONE
        await here.stage.refused(TAKE, Refusal.SNAPSHOT_EXISTS)

    tell(tale, MADE, ATTACH)


def test_a_group_keeps_the_replicas_of_all_its_volumes() -> None:
    async def tale(here: House) -> None:
        await here.stage.accepted(CreateGroup(group="shop", volumes=("pg",)))
        assert await here.ran(SnapshotGroup(group="shop", snapshot="g", deadline_s=60)) == DONE
        assert there(here) == {"g-pg": "n1", "g-pg-n2": "n2"}
        events = await here.stage.events()
        removals = [e for e in events if isinstance(e, ReplicaRemovalWanted)]
        assert removals == []

    tell(tale, MADE, ATTACH)


def test_the_volume_becomes_what_was_kept_of_the_other_replica() -> None:
    async def tale(here: House) -> None:
        await asyncio.sleep(2)
        assert await here.ran(TAKE) == DONE
        back = RollBackSnapshot(snapshot="s-n2", deadline_s=60)
        assert await here.ran(back) == DONE
        await here.in_sync()
        assert here.volume.node == "n2"
        assert there(here) == {"s": "n1"}
        assert {leg.disk for leg in here.fabric.legs.values()} == {LegDisk.UP_TO_DATE}

    tell(tale, MADE)
