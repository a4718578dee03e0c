"""Findings are settled, from the wish to the end, on a control plane in memory."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.attaching import AttachVolume
from schemas.deleting import DeleteVolume
from schemas.errand import ErrandWanted
from schemas.grammar import Event
from schemas.mending import ReplicaMendWanted, SeenVolume
from schemas.node import Drift, DriftSettled, Finding, ReportDrift
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from schemas.replica import ReplicaRemovalWanted, ReplicaWanted
from schemas.settling import (
    DriftSettlingEnded,
    ForeignQuarantined,
    ForeignReleased,
    SettleDrift,
    Verb,
    VolumeLost,
    mark,
)
from schemas.snapshot import CreateSnapshot
from tests.support.given import GIB
from tests.unit.hwbus.test_driver import PROVISION, Play, Troubles, fails_at, play, story, with_pool

DONE = (Outcome.COMPLETED, None, 0)
LV = SeenVolume(pool="fast", name="pg", lv="a-b-c", size_bytes=GIB)
THEIRS = replace(LV, name="theirs", lv="d-e-f", size_bytes=2 * GIB)
MISSING = Finding(drift=Drift.VOLUME_MISSING, object="replica/n1/pg", wanted="fast/pg, 1 GiB")
LARGER = Finding(
    drift=Drift.VOLUME_RESIZED, object="replica/n1/pg", lv=replace(LV, size_bytes=3 * GIB)
)
SMALLER = replace(LARGER, lv=replace(LV, size_bytes=GIB // 2))
RENAMED = Finding(drift=Drift.VOLUME_RENAMED, object="replica/n1/pg", lv=replace(LV, name="mine"))
FOREIGN = Finding(drift=Drift.VOLUME_FOREIGN, object="lv/n1/fast/theirs", lv=THEIRS)


def tell(tale: Callable[[Play], Awaitable[None]], troubles: Troubles = lambda _: None) -> None:
    async def whole() -> None:
        async with play(troubles) as here:
            await with_pool(here)
            made = await here.stage.accepted(PROVISION)
            assert await here.outcome(made.operation) == DONE
            await tale(here)

    story(whole)


async def found(here: Play, *findings: Finding) -> None:
    await here.stage.accepted(ReportDrift(node="n1", findings=findings))


def wish(finding: Finding, verb: Verb, **more: str) -> SettleDrift:
    about: dict[str, Any] = {
        "node": "n1",
        "drift": finding.drift,
        "object": finding.object,
        "verb": verb,
    }
    return SettleDrift(**{**about, "seen": mark(finding), "deadline_s": 60, **more})


async def settle(
    here: Play, finding: Finding, verb: Verb, **more: str
) -> tuple[Outcome | None, Refusal | None, int]:
    await found(here, finding)
    accepted = await here.stage.accepted(wish(finding, verb, **more))
    return await here.outcome(accepted.operation)


async def recorded(here: Play, word: type[Event]) -> list[Event]:
    return [event for event in await here.stage.events() if isinstance(event, word)]


def settled_bytes(here: Play) -> int:
    ledger = here.stage.world.pools["n1", "fast"].ledger
    assert not ledger.reserved
    return ledger.thick_settled_bytes


def test_a_size_by_hand_becomes_the_size_of_volume_leg_and_ledger() -> None:
    async def tale(here: Play) -> None:
        assert await settle(here, LARGER, Verb.ACCEPT) == DONE
        assert here.stage.world.volumes["pg"].size_bytes == 3 * GIB
        assert here.stage.world.replicas["n1", "pg"].size_bytes == 3 * GIB
        assert settled_bytes(here) == 3 * GIB
        await found(here)
        assert len(await recorded(here, DriftSettled)) == 1
        gone = await here.stage.accepted(DeleteVolume(volume="pg"))
        assert await here.outcome(gone.operation) == DONE
        assert here.stage.world.pools["n1", "fast"].ledger.empty

    tell(tale)


def test_more_than_the_ledger_has_is_not_accepted_and_nothing_is_asked_of_the_node() -> None:
    async def tale(here: Play) -> None:
        most = replace(LARGER, lv=replace(LV, size_bytes=40 * GIB))
        assert await settle(here, most, Verb.ACCEPT) == (Outcome.FAILED, Refusal.CAPACITY, 0)
        assert await recorded(here, ReplicaMendWanted) == []
        assert settled_bytes(here) == GIB
        assert here.stage.world.volumes["pg"].size_bytes == GIB

    tell(tale)


@pytest.mark.parametrize("finding", [RENAMED, SMALLER])
def test_what_was_renamed_or_cut_off_is_made_as_decided(finding: Finding) -> None:
    async def tale(here: Play) -> None:
        assert await settle(here, finding, Verb.UNDO) == DONE
        assert here.stage.world.volumes["pg"].size_bytes == GIB
        assert settled_bytes(here) == GIB

    tell(tale)


def test_a_lost_volume_is_missed_no_more_and_its_room_is_free() -> None:
    async def tale(here: Play) -> None:
        here.node.lose("pg")
        assert await settle(here, MISSING, Verb.ACCEPT) == DONE
        assert "pg" not in here.stage.world.volumes
        assert ("n1", "pg") not in here.stage.world.replicas
        assert here.stage.world.pools["n1", "fast"].ledger.empty
        (lost,) = await recorded(here, VolumeLost)
        assert isinstance(lost, VolumeLost)
        assert (lost.size_bytes, lost.pool) == (GIB, "fast")
        assert await recorded(here, ReplicaRemovalWanted) == []
        made = await here.stage.accepted(PROVISION)  # the name is free
        assert await here.outcome(made.operation) == DONE

    tell(tale)


def test_a_lost_volume_is_made_anew_for_whoever_says_its_name() -> None:
    async def tale(here: Play) -> None:
        here.node.lose("pg")
        uid = here.stage.world.volumes["pg"].uid
        await found(here, MISSING)
        for said in ({}, {"volume": "db"}):
            await here.stage.refused(wish(MISSING, Verb.RECREATE, **said), Refusal.NOT_CONFIRMED)
        assert await settle(here, MISSING, Verb.RECREATE, volume="pg") == DONE
        assert here.node.volumes["pg"].uid == uid == here.stage.world.volumes["pg"].uid
        assert settled_bytes(here) == GIB

    tell(tale)


@pytest.mark.parametrize("verb", [Verb.ACCEPT, Verb.RECREATE])
def test_what_is_there_after_all_is_neither_forgotten_nor_made_anew(verb: Verb) -> None:
    async def tale(here: Play) -> None:
        end = await settle(here, MISSING, verb, volume="pg")
        assert end == (Outcome.FAILED, Refusal.NOT_AS_SEEN, 0)
        assert here.stage.world.volumes["pg"].operation == ""
        assert settled_bytes(here) == GIB
        assert "pg" in here.node.volumes
        assert [f.drift for f in here.stage.world.nodes["n1"].findings] == [Drift.VOLUME_MISSING]

    tell(tale)


def test_what_somebody_made_becomes_a_volume() -> None:
    async def tale(here: Play) -> None:
        assert await settle(here, FOREIGN, Verb.ADOPT, volume="db") == DONE
        volume = here.stage.world.volumes["db"]
        assert (volume.size_bytes, volume.pool, volume.node) == (2 * GIB, "fast", "n1")
        assert here.node.volumes["db"].adopts == THEIRS
        assert settled_bytes(here) == 3 * GIB

    tell(tale)


def test_an_adoption_that_fails_gives_back_and_removes_nothing() -> None:
    async def tale(here: Play) -> None:
        end = await settle(here, FOREIGN, Verb.ADOPT)
        assert end == (Outcome.FAILED, Refusal.NOT_AS_SEEN, 0)
        assert await recorded(here, ReplicaRemovalWanted) == []
        assert set(here.stage.world.volumes) == {"pg"}
        assert settled_bytes(here) == GIB

    troubled = {"at": False}

    def only_theirs(event: Event) -> Refusal | None:
        theirs = isinstance(event, ReplicaWanted) and event.spec.adopts is not None
        troubled["at"] = troubled["at"] or theirs
        return Refusal.NOT_AS_SEEN if theirs else None

    tell(tale, only_theirs)
    assert troubled["at"]


def test_what_is_in_quarantine_takes_room_until_it_is_released() -> None:
    async def tale(here: Play) -> None:
        assert await settle(here, FOREIGN, Verb.QUARANTINE) == DONE
        assert settled_bytes(here) == 3 * GIB
        (one,) = await recorded(here, ForeignQuarantined)
        assert isinstance(one, ForeignQuarantined)
        aside = replace(FOREIGN, drift=Drift.VOLUME_QUARANTINED)
        aside = replace(aside, lv=replace(THEIRS, claim=one.claim))
        assert await settle(here, aside, Verb.RELEASE) == DONE
        await found(here, FOREIGN)
        await here.stage.until(lambda _: settled_bytes(here) == GIB)
        assert here.stage.world.nodes["n1"].quarantined == ()

    tell(tale)


@pytest.mark.parametrize("later", [(), (FOREIGN,)])
def test_what_is_seen_in_quarantine_no_more_takes_no_room(later: tuple[Finding, ...]) -> None:
    async def tale(here: Play) -> None:
        await settle(here, FOREIGN, Verb.QUARANTINE)
        (one,) = await recorded(here, ForeignQuarantined)
        assert isinstance(one, ForeignQuarantined)
        await found(here, FOREIGN)  # by a look that began before
        assert settled_bytes(here) == 3 * GIB
        lv = replace(THEIRS, claim=one.claim)
        await found(here, replace(FOREIGN, drift=Drift.VOLUME_QUARANTINED, lv=lv))
        assert settled_bytes(here) == 3 * GIB
        await found(here, *later)
        await here.stage.until(lambda _: settled_bytes(here) == GIB)
        assert len(await recorded(here, ForeignReleased)) == 1

    tell(tale)


def test_a_quarantine_that_fails_gives_its_room_back() -> None:
    async def tale(here: Play) -> None:
        end = await settle(here, FOREIGN, Verb.QUARANTINE)
        assert end == (Outcome.FAILED, Refusal.IN_USE, 0)
        assert settled_bytes(here) == GIB
        assert here.stage.world.nodes["n1"].quarantined == ()

    tell(tale, fails_at(ErrandWanted, code=Refusal.IN_USE))


@pytest.mark.parametrize(
    ("finding", "verb"),
    [
        (LARGER, Verb.ACCEPT),
        (RENAMED, Verb.UNDO),
        (FOREIGN, Verb.ADOPT),
        (FOREIGN, Verb.QUARANTINE),
    ],
)
def test_what_is_cancelled_while_the_node_is_away_leaves_all_as_it_was(
    finding: Finding, verb: Verb
) -> None:
    async def tale(here: Play) -> None:
        await found(here, finding)
        await here.stop()
        accepted = await here.stage.accepted(wish(finding, verb))
        await here.stage.until(lambda w: bool(w.nodes["n1"].settling))
        await here.stage.refused(wish(finding, verb), Refusal.FINDING_BUSY)
        await here.stage.until(lambda w: accepted.operation in w.operations)
        await here.stage.accepted(CancelOperation(operation=accepted.operation))
        here.start()
        outcome, _, leftovers = await here.outcome(accepted.operation)
        # What the node has done before it heard of it counts.
        assert outcome in {Outcome.CANCELLED, Outcome.COMPLETED}
        assert leftovers == 0
        (end,) = await recorded(here, DriftSettlingEnded)
        assert isinstance(end, DriftSettlingEnded)
        assert (end.code is None) is (outcome is Outcome.COMPLETED)
        ledger = here.stage.world.pools["n1", "fast"].ledger
        assert not ledger.reserved

    tell(tale)


def test_a_silent_node_holds_no_settling_past_its_deadline() -> None:
    async def tale(here: Play) -> None:
        await found(here, LARGER)
        await here.stop()
        accepted = await here.stage.accepted(wish(LARGER, Verb.ACCEPT))
        end = await here.outcome(accepted.operation)
        assert end == (Outcome.FAILED, Refusal.DEADLINE, 1)
        assert here.stage.world.volumes["pg"].operation == ""
        assert here.stage.world.nodes["n1"].settling == ()
        here.start()

    tell(tale)


def test_lost_volumes_that_are_attached_or_have_snapshots_stay_in_the_record() -> None:
    async def tale(here: Play) -> None:
        await found(here, MISSING)
        kept = await here.stage.accepted(CreateSnapshot(snapshot="before", volume="pg"))
        assert await here.outcome(kept.operation) == DONE
        for verb in (Verb.ACCEPT, Verb.RECREATE):
            await here.stage.refused(wish(MISSING, verb, volume="pg"), Refusal.HAS_SNAPSHOTS)

    tell(tale)

    async def attached(here: Play) -> None:
        await found(here, MISSING)
        used = await here.stage.accepted(AttachVolume(volume="pg", consumer="host/db"))
        assert await here.outcome(used.operation) == DONE
        for verb in (Verb.ACCEPT, Verb.RECREATE):
            await here.stage.refused(wish(MISSING, verb, volume="pg"), Refusal.VOLUME_ATTACHED)

    tell(attached)


@pytest.mark.parametrize(
    ("finding", "verb", "code"),
    [
        (SMALLER, Verb.ACCEPT, Refusal.CUT_OFF),
        (LARGER, Verb.UNDO, Refusal.WRONG_WAY),
        (RENAMED, Verb.ACCEPT, Refusal.WRONG_WAY),
        (FOREIGN, Verb.RECREATE, Refusal.WRONG_WAY),
        (MISSING, Verb.ADOPT, Refusal.WRONG_WAY),
        (FOREIGN, Verb.RELEASE, Refusal.WRONG_WAY),
        (Finding(drift=Drift.POOL_DISK_MISSING, object="pool/n1/fast"), Verb.ADOPT, None),
        (replace(FOREIGN, lv=replace(THEIRS, layout="cache")), Verb.QUARANTINE, None),
        (replace(FOREIGN, lv=replace(THEIRS, layout="raid,raid1")), Verb.ADOPT, None),
        (replace(FOREIGN, lv=replace(THEIRS, origin="pg")), Verb.ADOPT, None),
        (replace(FOREIGN, lv=replace(THEIRS, mixed=True)), Verb.ADOPT, None),
        (replace(FOREIGN, lv=None), Verb.ADOPT, None),
        (replace(FOREIGN, object="lv/n1/fast/Not_A_Name"), Verb.ADOPT, Refusal.BAD_NAME),
        (replace(FOREIGN, object="lv/n1/fast/pg"), Verb.ADOPT, Refusal.VOLUME_EXISTS),
    ],
)
def test_what_cannot_be_settled_so_is_refused_and_nothing_is_recorded(
    finding: Finding, verb: Verb, code: Refusal | None
) -> None:
    async def tale(here: Play) -> None:
        await found(here, finding)
        head = await here.stage.log.head()
        answer = await here.stage.say(wish(finding, verb))
        other = Refusal.WRONG_WAY if finding.drift is Drift.POOL_DISK_MISSING else None
        expected = code or other or Refusal.CANNOT_TAKE_OVER
        assert getattr(answer, "code", None) is expected, answer
        assert await here.stage.log.head() == head

    tell(tale)


def test_a_finding_is_settled_only_as_it_was_seen() -> None:
    async def tale(here: Play) -> None:
        await found(here, LARGER)
        before = wish(LARGER, Verb.ACCEPT)
        await found(here, replace(LARGER, lv=replace(LV, size_bytes=4 * GIB)))
        await here.stage.refused(before, Refusal.FINDING_CHANGED)
        await found(here)
        await here.stage.refused(before, Refusal.UNKNOWN_FINDING)

    tell(tale)
