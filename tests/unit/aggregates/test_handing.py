"""Which replica is written to: epochs, of which each has one node that may."""

from typing import Any

import pytest
from msgspec.structs import replace

from aggregates.processes.epochs import follows, owed
from aggregates.volume import VolumePhase
from schemas.answers import Refused
from schemas.attaching import AttachVolume, VolumeAttached, VolumeAttachingBegan
from schemas.attachment import AttachmentRemovalWanted, AttachmentSpec, AttachmentWanted
from schemas.grammar import Event, Message
from schemas.handing import (
    FailoverBegan,
    FailVolumeOver,
    FencePeer,
    HandOverBegan,
    HandOverFailed,
    HandOverVolume,
    MoveHome,
    PeerReturned,
    ReportPeerBack,
    SetFailover,
    TieAnew,
    VolumeFailoverSet,
    VolumeHandedOver,
    VolumeHomeMoved,
    VolumeTiedAnew,
)
from schemas.legs import ConcludeReplicas, ReplicaAdditionBegan, ReplicaRemovalBegan
from schemas.node import NodeHeard
from schemas.refusals import Refusal
from schemas.replication import EpochNoted, LegDisk, NoteEpoch, PeerSeen, Sync, Tie
from schemas.volume import Candidate, ConcludeVolume, GrowVolume, VolumeLocked
from tests.support.given import GIB, OPERATION, OTHER, UID, given
from tests.support.legs_words import (
    MANY_PEERS,
    fenced,
    good,
    members,
    nodes,
    replicated,
    silent,
    tells,
    tied_by,
)
from tests.support.words import DEADLINE, volume_ready

PAST = (*nodes("n1", "n2", "n3"), *replicated("n1", "n2"))
FENCE = FencePeer(volume="pg", uid=UID, node="n1", peer="n2")
FAIL_OVER = FailVolumeOver(volume="pg")
HAND_OVER = HandOverVolume(volume="pg", node="n2")
BACK = ReportPeerBack(volume="pg", uid=UID, node="n1", peer="n2", epoch=1)
HANDING = HandOverBegan(
    volume="pg", uid=UID, operation=OPERATION, deadline=DEADLINE, from_node="n1", node="n2"
)
MOVE = MoveHome(volume="pg", operation=OPERATION, node="n2")
MOVED = VolumeHomeMoved(volume="pg", operation=OPERATION, node="n2", epoch=1)
LOCKED = VolumeLocked(volume="pg", uid=UID, operation=OTHER, snapshot="s")
ANEW = TieAnew(volume="pg", operation=OTHER, node="n2")
TIED = VolumeTiedAnew(
    volume="pg", operation=OTHER, node="n2", epoch=1, members=tied_by(members("n1", "n2"), OTHER)
)
FAILING_OVER = FailoverBegan(
    volume="pg",
    uid=UID,
    operation=OPERATION,
    deadline=DEADLINE,
    from_node="n1",
    node="n2",
    epoch=1,
)
WAS = AttachmentSpec(uid=OTHER, volume_uid=UID, pool="fast", consumer="host/a")
ATTACHED = (
    VolumeAttachingBegan(
        volume="pg", operation=OPERATION, deadline=DEADLINE, node="n1", attachment=WAS
    ),
    VolumeAttached(volume="pg", operation=OPERATION, attachment=WAS),
)
CONCLUDE = ConcludeReplicas(volume="pg", operation=OPERATION)


def test_a_primary_that_has_lost_its_peer_goes_on_in_a_new_epoch() -> None:
    given(*PAST).when(FENCE).then(fenced("n2"))
    volume = given(*PAST, fenced("n2")).world.volumes["pg"]
    assert (volume.epoch, volume.outdated, volume.node) == (1, frozenset({"n2"}), "n1")


def test_a_peer_that_is_fenced_again_begins_another_epoch() -> None:
    """What was seen of it in the epoch before, and told late, must not make it good again."""
    past = (*PAST, fenced("n2"))
    given(*past).when(FENCE).then(fenced("n2", epoch=2))
    given(*past, fenced("n2", epoch=2)).when(BACK).nothing()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (replace(FENCE, node="n2", peer="n1"), Refusal.NOT_PRIMARY),
        (replace(FENCE, node="n3", peer="n1"), Refusal.NOT_PRIMARY),
        (replace(FENCE, uid=OTHER), Refusal.UNKNOWN_VOLUME),
        (replace(FENCE, volume="other"), Refusal.UNKNOWN_VOLUME),
        (replace(FENCE, peer="n1"), Refusal.NO_SUCH_REPLICA),
    ],
)
def test_who_may_not_go_on_without_its_peer(command: FencePeer, code: Refusal) -> None:
    given(*PAST).when(command).refused(code)


def test_a_node_that_is_no_peer_keeps_nobody_waiting() -> None:
    given(*PAST).when(replace(FENCE, peer="n3")).nothing()


def test_a_replica_that_is_lost_while_it_is_added_has_missed_something_too() -> None:
    """It may have said already that it has everything: added now, it would be trusted."""
    adding = ReplicaAdditionBegan(
        volume="pg",
        uid=UID,
        operation=OPERATION,
        deadline=DEADLINE,
        node="n1",
        pool="fast",
        size_bytes=GIB,
        leg_bytes=GIB,
        candidates=(Candidate(node="n2", pool="fast"),),
    )
    past = (*nodes("n1", "n2"), *volume_ready("n1"), adding)
    given(*past).when(FENCE).then(fenced("n2"))
    done = replace(CONCLUDE, members=members("n1", "n2"))
    after = given(*past, fenced("n2"))
    added = after.decide(done)
    assert not isinstance(added, Refused)
    assert given(*past, fenced("n2"), *added).world.volumes["pg"].outdated == {"n2"}
    failed = after.decide(replace(CONCLUDE, code=Refusal.DEADLINE, because="late"))
    assert not isinstance(failed, Refused)
    assert given(*past, fenced("n2"), *failed).world.volumes["pg"].outdated == set()


def test_what_an_earlier_operation_left_attached_on_a_silent_node_is_taken_by_force() -> None:
    """It was to be detached there, in good time; whoever has lost the log is not waited for."""
    about: dict[str, Any] = {"volume": "pg", "node": "n1", "operation": OPERATION}
    left = (AttachmentWanted(**about, spec=WAS), AttachmentRemovalWanted(**about, uid=OTHER))
    for past, taken in ((left, True), ((), False)):
        decided = given(*PAST, *past, silent("n1")).decide(FAIL_OVER)
        assert not isinstance(decided, Refused)
        (began,) = decided
        assert isinstance(began, FailoverBegan)
        assert (began.attached, began.attachment) == (taken, None)


def test_of_a_fence_and_a_failover_exactly_one_wins() -> None:
    dead = (*PAST, silent("n1"))
    after_fence = given(*dead, fenced("n2"))
    after_fence.when(FAIL_OVER).refused(Refusal.NOT_UP_TO_DATE, "n2 has not all")
    after_failover = given(*dead, FAILING_OVER)
    after_failover.when(FENCE).refused(Refusal.NOT_PRIMARY, "in epoch 1 only n2")
    after_failover.when(replace(FENCE, node="n2", peer="n1")).then(fenced("n1", epoch=2, node="n2"))


def test_a_peer_is_back_once_the_home_of_this_epoch_has_seen_it_whole() -> None:
    past = (*PAST, fenced("n2"))
    given(*past).when(BACK).then(PeerReturned(volume="pg", peer="n2"))
    for stale in (
        replace(BACK, epoch=0),
        replace(BACK, epoch=2),
        replace(BACK, node="n2"),
        replace(BACK, uid=OTHER),
        replace(BACK, peer="n3"),
    ):
        given(*past).when(stale).nothing()
    given(*PAST).when(replace(BACK, epoch=0)).nothing()


def test_an_old_epoch_brings_nobody_back_after_a_failover() -> None:
    past = (*PAST, fenced("n2"), PeerReturned(volume="pg", peer="n2"), silent("n1"))
    moved = replace(FAILING_OVER, epoch=2)
    back = ReportPeerBack(volume="pg", uid=UID, node="n2", peer="n1", epoch=1)
    given(*past, moved).when(back).nothing()
    given(*past, moved).when(replace(back, epoch=2)).then(PeerReturned(volume="pg", peer="n1"))


def test_a_volume_fails_over_to_the_replica_that_has_everything() -> None:
    given(*PAST, silent("n1")).when(FAIL_OVER).then(FAILING_OVER)
    given(*PAST, silent("n1")).when(replace(FAIL_OVER, node="n2")).then(FAILING_OVER)
    after = given(*PAST, silent("n1"), FAILING_OVER).world.volumes["pg"]
    assert (after.node, after.epoch, after.outdated) == ("n2", 1, frozenset({"n1"}))


def test_its_consumer_goes_along_and_the_silent_node_has_it_no_more() -> None:
    past = (*PAST, *ATTACHED, silent("n1"))
    spec = replace(WAS, uid=UID)
    began = replace(FAILING_OVER, attached=True, attachment=spec)
    given(*past).when(FAIL_OVER).then(began)
    use = given(*past, began).world.volumes["pg"].use
    assert (use.attachment, use.attaching) == (None, spec)


@pytest.mark.parametrize(
    ("more", "command", "code"),
    [
        ((), FAIL_OVER, Refusal.NODE_NOT_SILENT),
        ((silent("n1"), fenced("n2")), FAIL_OVER, Refusal.NOT_UP_TO_DATE),
        ((silent("n1"), silent("n2")), FAIL_OVER, Refusal.NODE_SILENT),
        ((silent("n1"), tells("n2", LegDisk.INCONSISTENT)), FAIL_OVER, Refusal.NOT_UP_TO_DATE),
        ((silent("n1"), tells("n2", peers=(good("n1"),))), FAIL_OVER, Refusal.STILL_CONNECTED),
        ((silent("n1"),), replace(FAIL_OVER, node="n3"), Refusal.NOT_UP_TO_DATE),
        ((silent("n1"), HANDING), FAIL_OVER, Refusal.VOLUME_BUSY),
        ((), replace(FAIL_OVER, volume="other"), Refusal.UNKNOWN_VOLUME),
    ],
)
def test_what_does_not_fail_over(
    more: tuple[Event, ...], command: FailVolumeOver, code: Refusal
) -> None:
    given(*PAST, *more).when(command).refused(code)


def test_a_volume_with_one_replica_has_nowhere_to_go() -> None:
    alone = given(*nodes("n1", "n2"), *volume_ready("n1"), silent("n1"))
    alone.when(FAIL_OVER).refused(Refusal.NOT_REPLICATED, "one replica, on n1")
    alone.when(HAND_OVER).refused(Refusal.NOT_REPLICATED)


def test_a_volume_is_handed_over_with_its_consumer_and_can_be_had_back() -> None:
    given(*PAST).when(HAND_OVER).then(HANDING)
    along, again = replace(WAS, uid=UID), replace(WAS, uid=OPERATION)
    began = replace(HANDING, attachment=along, back=again)
    given(*PAST, *ATTACHED).when(HAND_OVER).then(began)
    given(*PAST).when(replace(HAND_OVER, node="n1")).nothing()


@pytest.mark.parametrize(
    ("more", "command", "code"),
    [
        ((fenced("n2"),), HAND_OVER, Refusal.NOT_UP_TO_DATE),
        ((tells("n2", LegDisk.INCONSISTENT),), HAND_OVER, Refusal.NOT_UP_TO_DATE),
        ((silent("n2"),), HAND_OVER, Refusal.NODE_SILENT),
        ((silent("n1"),), HAND_OVER, Refusal.NODE_SILENT),
        ((), replace(HAND_OVER, node="n3"), Refusal.NO_SUCH_REPLICA),
        ((HANDING,), HAND_OVER, Refusal.VOLUME_BUSY),
    ],
)
def test_what_is_not_handed_over(
    more: tuple[Event, ...], command: HandOverVolume, code: Refusal
) -> None:
    given(*PAST, *more).when(command).refused(code)


def test_the_next_epoch_begins_when_nobody_writes_any_more() -> None:
    given(*PAST, HANDING).when(MOVE).then(MOVED)
    given(*PAST, HANDING, MOVED).when(MOVE).nothing()
    back = replace(MOVE, node="n1")
    given(*PAST, HANDING, MOVED).when(back).then(replace(MOVED, node="n1", epoch=2))


@pytest.mark.parametrize(
    ("more", "command", "code"),
    [
        ((HANDING, fenced("n2")), MOVE, Refusal.NOT_UP_TO_DATE),
        ((HANDING,), replace(MOVE, operation=OTHER), Refusal.NOT_YOURS),
        ((HANDING,), replace(MOVE, node="n3"), Refusal.NO_SUCH_REPLICA),
        ((), MOVE, Refusal.NOT_YOURS),
    ],
)
def test_a_replica_that_was_fenced_since_gets_nothing_handed_over(
    more: tuple[Event, ...], command: MoveHome, code: Refusal
) -> None:
    given(*PAST, *more).when(command).refused(code)


def test_of_what_is_rolled_back_one_replica_counts_from_the_next_epoch_on() -> None:
    given(*PAST, LOCKED).when(ANEW).then(TIED)
    volume = given(*PAST, LOCKED, TIED).world.volumes["pg"]
    assert (volume.node, volume.epoch, volume.outdated) == ("n2", 1, frozenset({"n1"}))
    assert (volume.phase, volume.members) == (VolumePhase.LOCKED, TIED.members)
    assert {one.link.since for one in volume.members} == {OTHER}
    given(*PAST, LOCKED, TIED).when(ANEW).nothing()
    # What counts is what was kept there, whatever that replica has missed since.
    given(*PAST, fenced("n2"), LOCKED).when(ANEW).then(replace(TIED, epoch=2))
    told = list(follows(TIED, given(*PAST, LOCKED, TIED).world))
    assert [(one.node, one.epoch) for one in told if isinstance(one, NoteEpoch)] == [
        ("n1", 1),
        ("n2", 1),
    ]


@pytest.mark.parametrize(
    ("more", "command", "code"),
    [
        ((), ANEW, Refusal.NOT_YOURS),
        ((HANDING,), replace(ANEW, operation=OPERATION), Refusal.NOT_YOURS),
        ((LOCKED,), replace(ANEW, operation=UID), Refusal.NOT_YOURS),
        ((LOCKED,), replace(ANEW, node="n3"), Refusal.NO_SUCH_REPLICA),
    ],
)
def test_who_rolls_nothing_back_ties_nothing_anew(
    more: tuple[Event, ...], command: TieAnew, code: Refusal
) -> None:
    given(*PAST, *more).when(command).refused(code)


def test_how_a_hand_over_ends() -> None:
    past, spec = (*PAST, *ATTACHED, HANDING), replace(WAS, uid=UID)
    done = VolumeHandedOver(volume="pg", operation=OPERATION, node="n2", attachment=spec)
    given(*past, MOVED).when(replace(CONCLUDE, attachment=spec)).then(done)
    assert given(*past, MOVED, done).world.volumes["pg"].use.attachment == spec
    failed = HandOverFailed(
        volume="pg", operation=OPERATION, code=Refusal.DEADLINE, because="late", kept=True
    )
    late = replace(CONCLUDE, code=Refusal.DEADLINE, because="late", kept=True)
    given(*past).when(late).then(failed)
    volume = given(*past, failed).world.volumes["pg"]
    assert (volume.use.attachment, volume.operation) == (WAS, "")
    assert given(*past, replace(failed, kept=False)).world.volumes["pg"].use.attachment is None
    given(*past).when(replace(CONCLUDE, operation=OTHER)).nothing()


def test_what_its_operation_never_said_is_said_for_it() -> None:
    ended = ConcludeVolume(volume="pg", operation=OPERATION, code=Refusal.DEADLINE, because="late")
    for began in (HANDING, FAILING_OVER):
        decided = given(*PAST, began).decide(ended)
        assert isinstance(decided, tuple)
        assert given(*PAST, began, *decided).world.volumes["pg"].operation == ""


def test_attaching_elsewhere_begins_an_epoch_there() -> None:
    attach = AttachVolume(volume="pg", consumer="host/a", node="n2")
    decided = given(*PAST).decide(attach)
    assert isinstance(decided, tuple)
    volume = given(*PAST, *decided).world.volumes["pg"]
    assert (volume.node, volume.pool, volume.epoch) == ("n2", "fast", 1)
    given(*PAST, fenced("n2")).when(attach).refused(Refusal.NOT_UP_TO_DATE)
    given(*PAST).when(replace(attach, node="n3")).refused(Refusal.NO_SUCH_REPLICA)


def test_whether_another_goes_on_by_itself_can_be_said() -> None:
    off = SetFailover(volume="pg", auto=False)
    set_ = VolumeFailoverSet(volume="pg", auto=False)
    given(*PAST).when(off).then(set_)
    given(*PAST, set_).when(off).nothing()
    assert not given(*PAST, set_).world.volumes["pg"].failover
    given(*PAST, HANDING).when(off).refused(Refusal.VOLUME_BUSY)


def test_each_leg_is_told_each_epoch() -> None:
    past = (*PAST, fenced("n2"))
    about: dict[str, Any] = {"volume": "pg", "uid": UID, "epoch": 1}
    told = (NoteEpoch(**about, node="n1"), NoteEpoch(**about, node="n2"))
    assert tuple(follows(fenced("n2"), given(*past).world)) == told
    assert tuple(owed(given(*past).world)) == told
    noted = EpochNoted(volume="pg", node="n1", uid=UID, epoch=1)
    given(*past).when(told[0]).then(noted)
    given(*past, noted).when(told[0]).nothing()
    given(*past, noted).when(replace(told[0], epoch=0)).nothing()
    assert tuple(owed(given(*past, noted).world)) == told[1:]


def test_who_is_leaving_and_whose_data_is_given_up_may_not_become_the_one_that_writes() -> None:
    """The others write without it from then on, and ask nobody."""
    going = ReplicaRemovalBegan(
        volume="pg",
        uid=UID,
        operation=OPERATION,
        deadline=DEADLINE,
        node="n2",
        pool="fast",
        size_bytes=GIB,
        members=members("n1", "n2"),
        home="n1",
    )
    after = given(*PAST, going).world
    assert (after.volumes["pg"].outdated, after.volumes["pg"].epoch) == (frozenset({"n2"}), 1)
    assert {one.node for one in follows(going, after) if isinstance(one, NoteEpoch)} == {
        "n1",
        "n2",
    }
    failed = given(*PAST, going).decide(replace(CONCLUDE, code=Refusal.CANCELLED, because="so"))
    assert isinstance(failed, tuple)
    stays = given(*PAST, going, *failed, silent("n1"))
    stays.when(FAIL_OVER).refused(Refusal.NOT_UP_TO_DATE)
    given(*PAST, going).when(BACK).nothing()
    given(*PAST, going, *failed).when(BACK).nothing()
    seen = replace(BACK, epoch=2)
    given(*PAST, going, *failed).when(seen).then(PeerReturned(volume="pg", peer="n2"))


WHOLE = good("n2")


@pytest.mark.parametrize(
    ("peer", "disk", "epoch", "back"),
    [
        (WHOLE, LegDisk.UP_TO_DATE, 1, True),
        (WHOLE, LegDisk.UP_TO_DATE, 0, False),
        (WHOLE, LegDisk.INCONSISTENT, 1, False),
        (replace(WHOLE, sync=Sync.SOURCE), LegDisk.UP_TO_DATE, 1, False),
        (replace(WHOLE, tie=Tie.CONNECTING), LegDisk.UP_TO_DATE, 1, False),
        (replace(WHOLE, disk=LegDisk.CONSISTENT), LegDisk.UP_TO_DATE, 1, False),
    ],
)
def test_when_the_home_sees_its_peer_whole(
    peer: PeerSeen, disk: LegDisk, epoch: int, *, back: bool
) -> None:
    seen = tells("n1", disk, peers=(peer,), epoch=epoch)
    world = given(*PAST, fenced("n2"), seen).world
    said: tuple[Message, ...] = tuple(follows(seen, world))
    assert said == ((BACK,) if back else ())
    theirs = tells("n2", peers=(good("n1"),), epoch=1)
    assert tuple(follows(theirs, world)) == ()


def test_the_epoch_stays_what_it_is_whatever_else_is_done() -> None:
    grown = given(*PAST, fenced("n2")).decide(GrowVolume(volume="pg", size_bytes=2 * GIB))
    assert isinstance(grown, tuple)
    assert given(*PAST, fenced("n2"), *grown).world.volumes["pg"].epoch == 1
    assert given(*PAST, silent("n1"), NodeHeard(node="n1")).world.volumes["pg"].epoch == 0


def test_a_third_replica_is_good_again_once_the_new_home_has_seen_it_whole() -> None:
    """The new home may take it for outdated, and then would go on without asking."""
    names = ("n1", "n2", "n3")
    past = (*nodes(*names, capabilities=MANY_PEERS), *replicated(*names))
    over = given(*past, silent("n1"), FAILING_OVER).world.volumes["pg"]
    assert over.outdated == {"n1", "n3"}
    moved = given(*past, HANDING, MOVED)
    assert moved.world.volumes["pg"].outdated == {"n3"}
    back = ReportPeerBack(volume="pg", uid=UID, node="n2", peer="n3", epoch=1)
    moved.when(back).then(PeerReturned(volume="pg", peer="n3"))
    moved.when(replace(back, epoch=0)).nothing()
