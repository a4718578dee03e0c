"""Replicas that move: wherever that is given up, a volume has as many as before, all there."""

import pytest

from schemas.attachment import AttachmentRemovalWanted, AttachmentWanted
from schemas.draining import DrainNode
from schemas.grammar import Event
from schemas.legs import (
    AddReplica,
    MigrateVolume,
    ReplicaAdded,
    ReplicaRemovalBegan,
    VolumeReplicaRemoved,
)
from schemas.node import CordonNode
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from schemas.replica import ReplicaRemovalWanted, ReplicaRemoved, ReplicaWanted
from schemas.replication import EpochNoted, ReplicaTieWanted, ReplicationChanged
from schemas.volume import ProvisionVolume
from tests.support.given import GIB
from tests.unit.hwbus.test_replica_operations import (
    ATTACH,
    DONE,
    MIGRATE,
    PLAIN,
    House,
    fails_at,
    once,
    tell,
)


@pytest.mark.parametrize("attached", [True, False])
def test_a_plain_volume_migrates_in_use(*, attached: bool) -> None:
    async def tale(here: House) -> None:
        written = set(here.fabric.acknowledged.get(here.volume.uid, set()))
        assert await here.ran(MIGRATE) == DONE
        assert (list(here.legs()), here.volume.node) == (["n3"], "n3")
        assert written <= here.fabric.legs[here.volume.uid, "n3"].have
        assert (here.volume.use.attachment is not None) is attached

    tell(tale, PLAIN, *((ATTACH,) if attached else ()))


@pytest.mark.parametrize("source", ["n1", "n2"])
def test_one_replica_of_two_migrates(source: str) -> None:
    async def tale(here: House) -> None:
        wish = MigrateVolume(volume="pg", source=source, node="n3", deadline_s=60)
        assert await here.ran(wish) == DONE
        await here.in_sync()
        other = {"n1": "n2", "n2": "n1"}[source]
        assert sorted(here.legs()) == sorted([other, "n3"])
        assert here.volume.node == other

    made = ProvisionVolume(volume="pg", size_bytes=GIB, node="n1", deadline_s=60)
    tell(tale, made, AddReplica(volume="pg", node="n2", deadline_s=60), ATTACH)


@pytest.mark.parametrize(
    "word",
    [
        ReplicaRemovalBegan,
        ReplicaTieWanted,
        ReplicaRemovalWanted,
        ReplicaRemoved,
        VolumeReplicaRemoved,
        ReplicaWanted,
        ReplicationChanged,
        ReplicaAdded,
    ],
)
def test_wherever_a_migration_of_one_of_two_is_aborted_there_are_two(word: type[Event]) -> None:
    async def tale(here: House) -> None:
        wish = MigrateVolume(volume="pg", source="n2", node="n3", deadline_s=60)
        begun = await here.begun(wish, word)
        await here.stage.say(CancelOperation(operation=begun))
        outcome, _, left = await here.ended(begun)
        await here.in_sync()
        there = "n3" if outcome is Outcome.COMPLETED else "n2"
        assert (sorted(here.legs()), left) == (["n1", there], ())
        assert {one.node for one in here.volume.members} == {"n1", there}

    tell(tale, PLAIN, AddReplica(volume="pg", node="n2", deadline_s=60), ATTACH)


ABORTS = [ReplicaWanted, ReplicaTieWanted, AttachmentRemovalWanted, EpochNoted, AttachmentWanted]


@pytest.mark.parametrize("word", ABORTS)
def test_wherever_a_migration_is_aborted_the_volume_is_as_it_was_or_all_there(
    word: type[Event],
) -> None:
    async def tale(here: House) -> None:
        begun = await here.begun(MIGRATE, word)
        await here.stage.say(CancelOperation(operation=begun))
        outcome = await here.ended(begun)
        assert outcome[2] == ()
        where = "n3" if outcome[0] is Outcome.COMPLETED else "n1"
        assert (list(here.legs()), here.volume.node) == ([where], where)
        assert here.volume.members == ()
        assert here.volume.use.attachment is not None

    tell(tale, PLAIN, ATTACH)


@pytest.mark.parametrize(
    ("word", "on"),
    [
        (ReplicaWanted, "n3"),
        (ReplicaTieWanted, "n1"),
        (AttachmentRemovalWanted, "n1"),
        (AttachmentWanted, "n3"),
    ],
)
def test_whichever_step_of_a_migration_fails_the_volume_stays(word: type[Event], on: str) -> None:
    async def tale(here: House) -> None:
        outcome = await here.ran(MIGRATE)
        assert outcome[:2] == (Outcome.FAILED, Refusal.TOOL_FAILED)
        assert (list(here.legs()), here.volume.node) == (["n1"], "n1")
        assert here.volume.use.attachment is not None

    tell(tale, PLAIN, ATTACH, troubles=once(fails_at(word, on=on)))


@pytest.mark.parametrize("drained", [False, True])
def test_what_does_not_leave_after_a_migration_is_named(*, drained: bool) -> None:
    async def tale(here: House) -> None:
        outcome = await here.ran(DrainNode(node="n1", deadline_s=120) if drained else MIGRATE)
        if drained:
            named = ("volume/pg", "replica/n1/pg")
            assert outcome == (Outcome.FAILED, Refusal.NOT_DRAINED, named)
        else:
            assert outcome == (Outcome.COMPLETED, None, ("replica/n1/pg",))
        assert here.volume.members == ()
        assert here.volume.node != "n1"
        here.troubles = lambda _: None
        here.work.pop("n1").cancel()
        here.start("n1")
        await here.stage.until(lambda world: ("n1", "pg") not in world.replicas, 60)

    tell(tale, PLAIN, ATTACH, troubles=fails_at(ReplicaRemovalWanted))


@pytest.mark.parametrize("cordoned", [False, True])
def test_a_replica_whose_new_place_fails_comes_back_to_its_old_one(*, cordoned: bool) -> None:
    async def tale(here: House) -> None:
        if cordoned:
            await here.stage.say(CordonNode(node="n2"))
        wish = MigrateVolume(volume="pg", source="n2", node="n3", deadline_s=60)
        outcome = await here.ran(wish)
        assert outcome == (Outcome.FAILED, Refusal.TOOL_FAILED, ())
        await here.in_sync()
        assert sorted(here.legs()) == ["n1", "n2"]

    add = AddReplica(volume="pg", node="n2", deadline_s=60)
    tell(tale, PLAIN, add, ATTACH, troubles=fails_at(ReplicaWanted, on="n3"))
