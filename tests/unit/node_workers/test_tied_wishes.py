"""What a node shall have of replicated volumes, after any history, and which step that makes."""

from typing import Any

import pytest
from msgspec.structs import replace

from node_workers.folding import fold
from node_workers.plan import step_for, volumes_at_rest
from node_workers.plan_attachments import attachment_step
from node_workers.steps import (
    HaveMerged,
    HaveNoAttachment,
    HaveNoReplica,
    HaveReplica,
    HaveReplicaAwake,
    HaveReplicaHeld,
    HaveSplitSettled,
)
from node_workers.wanted import Origin, Settling, Wanted, WantedAttachment, WantedReplica
from schemas.attachment import (
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentSpec,
    AttachmentWanted,
)
from schemas.draining import PoolForgotten
from schemas.grammar import Event
from schemas.keys import Encryption
from schemas.pool import PoolBuildWanted
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaCreated,
    ReplicaHoldWanted,
    ReplicaKept,
    ReplicaMergeWanted,
    ReplicaRekeyWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaResizeWanted,
    ReplicaSpec,
    ReplicaTroubled,
    ReplicaWanted,
    SnapshotOf,
)
from schemas.replication import (
    EpochNoted,
    ReplicaForgotten,
    ReplicaTieWanted,
    Replication,
    SplitSettlingWanted,
)
from tests.support.legs_words import members, tied_by

UID, OTHER, OP = "1" * 26, "2" * 26, "0" * 26
LEG: dict[str, Any] = {"volume": "pg", "node": "n1"}
MINE: dict[str, Any] = LEG | {"uid": UID}
WISH: dict[str, Any] = MINE | {"operation": OP}
TIED = Replication(members=members("n1", "n2"), size_bytes=100)
PLAIN = ReplicaSpec(uid=UID, pool="fast", size_bytes=100)

WANTED = ReplicaWanted(**LEG, operation=OP, spec=PLAIN)
BORN_TIED = ReplicaWanted(**LEG, operation=OP, spec=replace(PLAIN, replication=TIED))
THERE = ReplicaCreated(**MINE, pool="fast", size_bytes=104, device="/dev/fast/pg")
KEPT = ReplicaKept(**MINE, size_bytes=104)
TIE = ReplicaTieWanted(**WISH, size_bytes=108, replication=TIED)
UNTIE = ReplicaTieWanted(**WISH, size_bytes=108)
RESIZE = ReplicaResizeWanted(**WISH, size_bytes=208, device_bytes=200)
HOLD = ReplicaHoldWanted(**WISH)
REMOVE = ReplicaRemovalWanted(**WISH)
KEEP = ReplicaRemovalWithdrawn(**WISH)
LOSES = SplitSettlingWanted(**WISH, loses=True)
WINS = SplitSettlingWanted(**WISH, loses=False)
LASTING = ReplicaTroubled(**MINE, code=Refusal.NOT_UP_TO_DATE, because="old", permanent=True)
ATTACH = AttachmentWanted(
    **LEG,
    operation=OP,
    spec=AttachmentSpec(uid=OTHER, volume_uid=UID, pool="fast", consumer="host/a"),
)
FORCE = AttachmentRemovalWanted(**LEG, operation=OP, uid=OTHER, forced=True)


def after(*events: Event | tuple[Event, int]) -> Wanted | None:
    """Fold events; one with a number is what our answer to the wish of that number became."""
    wanted: Wanted | None = None
    for seq, one in enumerate(events, 1):
        event, cause = (one[0], f"event:{one[1]}") if isinstance(one, tuple) else (one, "")
        wanted = fold(wanted, (event,), Origin(seq=seq, correlation=OP), cause)
    return wanted


def leg(*events: Event | tuple[Event, int]) -> WantedReplica:
    wanted = after(*events)
    assert isinstance(wanted, WantedReplica)
    return wanted


def step(*events: Event | tuple[Event, int]) -> Any:
    wanted = leg(*events)
    return step_for(wanted, {wanted.key: wanted})


def ties(one: WantedReplica) -> tuple[bool, bool, bool]:
    return one.tied, one.untie, one.open


def test_a_leg_is_tied_only_when_the_wish_to_tie_it_is_answered() -> None:
    assert ties(leg(WANTED, (THERE, 1), TIE)) == (False, False, True)
    assert ties(leg(WANTED, TIE, (THERE, 1))) == (False, False, True)
    assert ties(leg(WANTED, (THERE, 1), TIE, THERE)) == (False, False, True)
    assert ties(leg(WANTED, (THERE, 1), TIE, (KEPT, 3))) == (True, False, False)
    assert ties(leg(BORN_TIED, (THERE, 1))) == (True, False, False)


def test_a_leg_is_free_only_when_the_wish_to_free_it_is_answered() -> None:
    past = (BORN_TIED, (THERE, 1))
    assert ties(leg(*past, UNTIE)) == (True, True, True)
    assert ties(leg(*past, UNTIE, (KEPT, 1))) == (True, True, True)
    assert ties(leg(*past, UNTIE, (KEPT, 3))) == (False, False, False)
    assert ties(leg(*past, UNTIE, TIE)) == (True, False, True)


def test_a_leg_that_was_never_tied_has_nothing_to_be_freed_of() -> None:
    assert ties(leg(WANTED, (THERE, 1), UNTIE)) == (False, False, True)


def test_a_leg_that_may_have_been_tied_is_freed_however_often_that_is_said() -> None:
    assert leg(WANTED, (THERE, 1), TIE, UNTIE).untie
    assert leg(WANTED, (THERE, 1), TIE, UNTIE, UNTIE).untie


def test_a_leg_that_is_tied_anew_may_begin_with_nothing_of_an_earlier_tie() -> None:
    past = (BORN_TIED, (THERE, 1))
    anew = replace(TIE, replication=replace(TIED, members=tied_by(TIED.members, OTHER)))
    assert ties(leg(*past, anew)) == (False, False, True)
    assert ties(leg(*past, anew, (KEPT, 3))) == (True, False, False)
    assert ties(leg(*past, anew, (KEPT, 3), anew)) == (True, False, True)
    assert ties(leg(*past, TIE)) == (True, False, True)


def test_who_is_rolled_back_knows_whether_its_volume_is_tied() -> None:
    snapshot = replace(PLAIN, uid=OTHER, snapshot_of=SnapshotOf(volume="pg", uid=UID))
    about: dict[str, Any] = {"volume": "s", "node": "n1", "operation": OP}
    merging = leg(ReplicaWanted(**about, spec=snapshot), ReplicaMergeWanted(**about, uid=OTHER))
    kept = replace(merging, merging=False, withdrawn=True)
    for volume, tied in ((leg(BORN_TIED, (THERE, 1)), True), (leg(WANTED, (THERE, 1)), False)):
        for one, word in ((merging, HaveMerged), (kept, HaveReplica)):
            due = step_for(one, {one.key: one, volume.key: volume})
            assert isinstance(due, word)
            assert due.of_tied is tied


def test_nothing_is_made_on_a_leg_only_until_it_is_tied() -> None:
    bare = ReplicaWanted(**LEG, operation=OP, spec=replace(PLAIN, bare=True))
    assert step(bare).spec.bare
    tie = step(bare, (THERE, 1), TIE)
    assert (tie.spec.bare, tie.spec.replication) == (False, TIED)
    assert not step(bare, (THERE, 1), TIE, UNTIE).spec.bare


def test_a_leg_knows_of_each_wish_for_keys_whether_its_header_is_its_own() -> None:
    keys = Encryption(keys=("file:b", "file:a"), generation=2)
    there = ReplicaRekeyWanted(**WISH, encryption=keys, elsewhere=True)
    found = step(BORN_TIED, (THERE, 1), there)
    assert (found.encryption, found.elsewhere) == (keys, True)
    here = replace(there, elsewhere=False)
    assert not step(BORN_TIED, (THERE, 1), there, here).elsewhere


def test_a_leg_that_was_there_is_not_made_again_to_be_tied() -> None:
    tie = step(WANTED, (THERE, 1), TIE)
    assert isinstance(tie, HaveReplica)
    assert (tie.may_create, tie.tied, tie.spec.size_bytes) == (False, False, 108)
    assert tie.spec.replication == TIED
    assert step(WANTED, (THERE, 1), TIE, (KEPT, 3)) is None


def test_growth_has_leg_and_device_grow_each_to_its_own_size() -> None:
    grown = step(BORN_TIED, (THERE, 1), RESIZE)
    assert isinstance(grown, HaveReplica)
    assert (grown.tied, grown.spec.size_bytes) == (True, 208)
    assert grown.spec.replication == replace(TIED, size_bytes=200)
    assert leg(WANTED, (THERE, 1), RESIZE).spec.replication is None


@pytest.mark.parametrize(
    ("wish", "settling"), [(LOSES, Settling.LOSES), (WINS, Settling.WINS)], ids=["loses", "wins"]
)
def test_a_split_is_settled_once(wish: Event, settling: Settling) -> None:
    past = (BORN_TIED, (THERE, 1), wish)
    assert leg(*past).settling is settling
    due = step(*past)
    assert isinstance(due, HaveSplitSettled)
    assert due.loses is (settling is Settling.LOSES)
    done = leg(*past, (KEPT, 3))
    assert (done.settling, done.tied, done.open) == (Settling.NONE, True, False)
    again = replace(done, answered_seq=0)
    assert not isinstance(step_for(again, {again.key: again}), HaveSplitSettled)


def test_a_split_is_not_settled_any_more_when_something_else_is_wanted() -> None:
    for wish in (HOLD, REMOVE, KEEP, TIE, UNTIE, RESIZE):
        assert leg(BORN_TIED, (THERE, 1), LOSES, wish).settling is Settling.NONE
    assert leg(BORN_TIED, (THERE, 1), LOSES, KEPT).settling is Settling.LOSES


def test_an_epoch_is_noted_and_is_no_wish() -> None:
    past = (BORN_TIED, (THERE, 1))
    noted = leg(*past, EpochNoted(**MINE, epoch=7))
    assert (noted.epoch, noted.origin, noted.open) == (7, leg(*past).origin, False)
    assert leg(*past, EpochNoted(**MINE | {"uid": OTHER}, epoch=7)).epoch == 0
    assert leg(*past, EpochNoted(**MINE, epoch=7), TIE).epoch == 7


def test_of_what_was_forgotten_nothing_is_wanted() -> None:
    assert after(BORN_TIED, ReplicaForgotten(**WISH, pool="fast")) is None
    stale = ReplicaForgotten(**WISH | {"uid": OTHER}, pool="fast")
    assert after(BORN_TIED, stale) == replace(leg(BORN_TIED), folded_seq=2)
    build = PoolBuildWanted(pool="fast", node="n1", uid=UID, disks=("d1",))
    assert after(build, PoolForgotten(pool="fast", node="n1", disks=("d1",))) is None


def test_a_wish_about_an_earlier_leg_of_that_name_is_not_for_this_one() -> None:
    before = leg(BORN_TIED, (THERE, 1))
    for wish in (UNTIE, LOSES):
        assert leg(BORN_TIED, (THERE, 1), replace(wish, uid=OTHER)).spec == before.spec


def test_a_leg_that_could_not_be_freed_is_taken_down_before_it_goes_or_is_held() -> None:
    """Its spec ties it to nobody, and DRBD still has it."""
    stuck = (BORN_TIED, (THERE, 1), UNTIE, (LASTING, 3))
    assert not leg(*stuck).open
    for wish, word in ((REMOVE, HaveNoReplica), (HOLD, HaveReplicaHeld)):
        due = step(*stuck, wish)
        assert isinstance(due, word)
        assert due.tied
        assert not step(WANTED, (THERE, 1), wish).tied
        assert step(BORN_TIED, wish).tied


def test_a_leg_that_could_not_be_freed_is_freed_when_it_comes_back_into_use() -> None:
    """Metadata that nobody knows of would take what is written without it for old."""
    stuck = (BORN_TIED, (THERE, 1), UNTIE, (LASTING, 3), HOLD, KEEP)
    due = step(*stuck)
    assert isinstance(due, HaveReplica)
    assert (due.untie, due.withdrawn, due.may_create) == (True, True, False)
    assert ties(leg(*stuck, (KEPT, 6))) == (False, False, False)


def test_a_tied_leg_that_was_held_is_tied_again() -> None:
    back = leg(BORN_TIED, (THERE, 1), HOLD, KEEP)
    due = step_for(back, {back.key: back})
    assert isinstance(due, HaveReplicaAwake)
    assert due.spec.replication == TIED
    assert volumes_at_rest({back.key: back}) == {UID}


def test_what_is_forced_goes_with_what_uses_it_and_only_then() -> None:
    one = leg(BORN_TIED, (THERE, 1))

    def due(*events: Event) -> Any:
        use = after(*events)
        assert isinstance(use, WantedAttachment)
        return step_for(use, {one.key: one, use.key: use})

    gone = due(ATTACH, FORCE)
    assert isinstance(gone, HaveNoAttachment)
    assert (gone.forced, gone.replication) == (True, TIED)
    assert not due(ATTACH, replace(FORCE, forced=False)).forced
    back = AttachmentRemovalWithdrawn(**LEG, operation=OP, uid=OTHER)
    assert not due(ATTACH, FORCE, back, replace(FORCE, forced=False)).forced


def test_a_volume_in_use_goes_by_its_own_leg() -> None:
    use = after(ATTACH)
    assert isinstance(use, WantedAttachment)
    one = leg(BORN_TIED)
    assert attachment_step(use, {one.key: one}).replication == TIED
    other = replace(one, uid=OTHER)
    assert attachment_step(use, {other.key: other}).replication is None
