"""Replicated volumes become what they were, from the wish to the end, in memory."""

import asyncio

import pytest

from aggregates.volume import VolumePhase
from schemas.answers import Refused
from schemas.attaching import AttachVolume, DetachVolume
from schemas.grammar import Event
from schemas.handing import FailVolumeOver, HandOverVolume, VolumeTiedAnew
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from schemas.replica import ReplicaMergeWanted
from schemas.replication import LegDisk, ReplicaTieWanted
from schemas.snapshot import CreateSnapshot, DeleteSnapshot, RollBackSnapshot
from schemas.volume import ProvisionVolume
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

TAKE = CreateSnapshot(snapshot="s", volume="pg", reserve_bytes=40 * MIB, deadline_s=60, single=True)
BACK = RollBackSnapshot(snapshot="s", deadline_s=60)
DETACH = DetachVolume(volume="pg", deadline_s=60)


async def written_since(here: House) -> set[int]:
    """Take the snapshot, let more be written, detach; return what the snapshot has."""
    await asyncio.sleep(2)
    assert await here.ran(TAKE) == DONE
    kept = here.fabric.kept[here.stage.world.snapshots["s"].uid]
    await asyncio.sleep(2)
    assert await here.ran(DETACH) == DONE
    assert all(kept < leg.have for leg in here.fabric.legs.values())
    return set(kept)


async def all_hold(here: House, kept: set[int]) -> None:
    await here.in_sync()
    assert {tuple(sorted(leg.have)) for leg in here.fabric.legs.values()} == {tuple(sorted(kept))}
    assert {leg.disk for leg in here.fabric.legs.values()} == {LegDisk.UP_TO_DATE}
    assert (here.volume.phase, here.volume.snapshots) == (VolumePhase.READY, frozenset())
    assert here.stage.world.snapshots == {}


@pytest.mark.parametrize("first", [MADE, MADE_THREE])
def test_all_replicas_become_what_the_snapshot_has_and_the_volume_goes_on(
    first: ProvisionVolume,
) -> None:
    async def tale(here: House) -> None:
        kept = await written_since(here)
        before = here.volume
        assert await here.ran(BACK) == DONE
        assert here.volume.epoch > before.epoch
        assert {one.link.since for one in here.volume.members}.isdisjoint(
            {one.link.since for one in before.members}
        )
        await all_hold(here, kept)
        assert await here.ran(ATTACH) == DONE
        assert await here.ran(HandOverVolume(volume="pg", node="n2")) == DONE
        await here.in_sync()

    tell(tale, first, ATTACH, many=True)


def test_the_volume_is_written_to_where_it_was_rolled_back() -> None:
    async def tale(here: House) -> None:
        await asyncio.sleep(2)
        assert await here.ran(TAKE) == DONE
        kept = set(here.fabric.kept[here.stage.world.snapshots["s"].uid])
        assert await here.ran(HandOverVolume(volume="pg", node="n2")) == DONE
        await asyncio.sleep(2)
        assert await here.ran(DETACH) == DONE
        assert await here.ran(BACK) == DONE
        assert here.volume.node == "n1"
        await all_hold(here, kept)

    tell(tale, MADE, ATTACH)


def test_a_rollback_that_fails_before_the_merge_leaves_everything_as_it_was() -> None:
    async def tale(here: House) -> None:
        kept = await written_since(here)
        assert await here.ran(BACK) == (Outcome.FAILED, Refusal.TOOL_FAILED, ())
        assert (here.volume.outdated, here.volume.snapshots) == (frozenset(), frozenset({"s"}))
        assert not any(leg.spent for leg in here.fabric.legs.values())
        assert all(kept < leg.have for leg in here.fabric.legs.values())
        assert await here.ran(ATTACH) == DONE
        await here.in_sync()
        assert await here.ran(DeleteSnapshot(snapshot="s")) == DONE

    tell(tale, MADE, ATTACH, troubles=fails_at(ReplicaMergeWanted))


def test_a_leg_that_runs_no_more_after_its_merge_takes_nothing_from_the_other() -> None:
    async def tale(here: House) -> None:
        kept = await written_since(here)
        ended = await here.ran(BACK)
        assert ended == (Outcome.FAILED, Refusal.TOOL_FAILED, ("replica/n1/pg",))
        assert here.volume.outdated == frozenset()
        assert kept < here.fabric.legs[here.volume.uid, "n2"].have
        assert await here.ran(AttachVolume(volume="pg", consumer="host/a", node="n2")) == DONE
        await asyncio.sleep(3)
        assert here.volume.outdated == {"n1"}
        assert not [e for e in await here.stage.events() if isinstance(e, VolumeTiedAnew)]

    tell(tale, MADE, ATTACH, troubles=fails_at(ReplicaTieWanted, on="n1"))


def test_a_peer_that_cannot_be_tied_is_named_and_does_not_count() -> None:
    async def tale(here: House) -> None:
        kept = await written_since(here)
        assert await here.ran(BACK) == (Outcome.COMPLETED, None, ("replica/n2/pg",))
        assert here.volume.outdated == {"n2"}
        assert here.fabric.legs[here.volume.uid, "n1"].have == kept
        assert await here.ran(ATTACH) == DONE

    tell(tale, MADE, ATTACH, troubles=fails_at(ReplicaTieWanted, on="n2"))


def test_what_has_been_merged_is_seen_through_whoever_gives_it_up() -> None:
    """Nobody waits for the other node then; it is filled whenever it is back."""

    async def tale(here: House) -> None:
        kept = await written_since(here)
        for name in ("n1", "n2"):
            here.work.pop(name).cancel()
        operation = (await here.stage.accepted(BACK)).operation
        await asyncio.sleep(2)
        assert (await here.stage.accepted(CancelOperation(operation=operation))) is not None
        await asyncio.sleep(2)
        here.start("n1")
        assert await here.ended(operation) == (Outcome.COMPLETED, None, ("replica/n2/pg",))
        assert here.volume.outdated == {"n2"}
        here.start("n2")
        await all_hold(here, kept)

    tell(tale, MADE, ATTACH)


def test_a_node_that_comes_back_with_what_was_rolled_back_gives_it_to_nobody() -> None:
    async def tale(here: House) -> None:
        kept = await written_since(here)
        here.work.pop("n2").cancel()
        here.fabric.crash("n2")
        operation = (await here.stage.accepted(BACK)).operation
        await asyncio.sleep(5)
        assert await here.stage.accepted(CancelOperation(operation=operation)) is not None
        assert (await here.ended(operation))[0] is Outcome.COMPLETED
        assert await here.ran(ATTACH) == DONE
        await asyncio.sleep(3)
        here.fabric.down.discard("n2")
        here.start("n2")
        await here.in_sync()
        on_both = [leg.have for leg in here.fabric.legs.values()]
        assert on_both[0] == on_both[1] > kept

    tell(tale, MADE, ATTACH)


def test_a_volume_goes_on_as_it_was_when_nobody_says_whether_it_was_rolled_back() -> None:
    async def tale(here: House) -> None:
        kept = await written_since(here)
        here.work["n1"].cancel()
        operation = (await here.stage.accepted(BACK)).operation
        await asyncio.sleep(2)
        await here.lose("n1")
        ended = await here.ended(operation)
        assert ended == (Outcome.FAILED, Refusal.DEADLINE, ("replica/n1/s",))
        assert await here.ran(FailVolumeOver(volume="pg")) == DONE
        assert (here.volume.node, here.volume.outdated) == ("n2", frozenset({"n1"}))
        assert kept < here.fabric.legs[here.volume.uid, "n2"].have
        await here.find("n1")
        await here.stage.until(lambda world: world.snapshots == {}, 60)
        assert await here.ran(ATTACH) == DONE
        await asyncio.sleep(3)
        assert here.volume.outdated == {"n1"}
        assert here.fabric.legs[here.volume.uid, "n1"].spent

    tell(tale, MADE, ATTACH)


def test_nobody_goes_on_with_a_replica_that_may_have_been_rolled_back() -> None:
    async def tale(here: House) -> None:
        await asyncio.sleep(2)
        assert await here.ran(TAKE) == DONE
        assert await here.ran(HandOverVolume(volume="pg", node="n2")) == DONE
        await here.in_sync()
        assert await here.ran(DETACH) == DONE
        here.work.pop("n1").cancel()
        operation = (await here.stage.accepted(BACK)).operation
        await asyncio.sleep(2)
        await here.lose("n2")
        assert (await here.ended(operation))[0] is Outcome.FAILED
        refused = await here.stage.say(FailVolumeOver(volume="pg"))
        assert isinstance(refused, Refused)
        assert "has not said whether" in refused.because
        here.start("n1")
        await here.find("n2")

    tell(tale, MADE, ATTACH)


def test_each_step_is_taken_once() -> None:
    async def tale(here: House) -> None:
        await written_since(here)
        assert await here.ran(BACK) == DONE
        words: tuple[type[Event], ...] = (ReplicaMergeWanted, ReplicaTieWanted, VolumeTiedAnew)
        told = [type(e) for e in await here.stage.events() if isinstance(e, words)]
        assert told[-4:] == [ReplicaMergeWanted, ReplicaTieWanted, VolumeTiedAnew, ReplicaTieWanted]

    tell(tale, MADE, ATTACH)
