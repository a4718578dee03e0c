"""More and fewer replicas of a volume, and where they are: what is refused, and what follows."""

from typing import Any

import pytest
from msgspec.structs import replace

from aggregates.processes.settlements import follows, owed
from aggregates.volume import VolumePhase
from schemas.deleting import DeleteVolume, VolumeDeletionBegan, VolumeHoldBegan
from schemas.grammar import Event, Message
from schemas.handing import FailVolumeOver
from schemas.keys import HEADER_BYTES
from schemas.legs import (
    AddReplica,
    ConcludeReplicas,
    MigrateVolume,
    MigrationBegan,
    MigrationFailed,
    RemoveReplicaOf,
    ReplicaAdded,
    ReplicaAdditionBegan,
    ReplicaAdditionFailed,
    ReplicaRemovalBegan,
    ReplicaRemovalFailed,
    SettleSplitBrain,
    SplitSettled,
    SplitSettlingBegan,
    VolumeMigrated,
    VolumeReplicaRemoved,
)
from schemas.linking import LinkReturned, LinkTaken, ReportLinkReturned, TakeLink
from schemas.node import Capability, NodeCordoned, NodeJoined
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaHeld,
    ReplicaHoldWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaRemoved,
    ReplicaResized,
    ReplicaResizeWanted,
    ReplicaSpec,
    ReplicaWanted,
    ReportReplicaPresent,
    ResizeReplica,
)
from schemas.replicating import head_room_bytes
from schemas.replication import (
    ForgetReplica,
    LegDisk,
    LegSeen,
    ReplicaForgotten,
    ReplicaTieWanted,
    Replication,
    ReplicationChanged,
    ReportReplication,
    SettleSplit,
    SplitSettlingWanted,
    TieReplica,
)
from schemas.volume import (
    ConcludeVolume,
    GrowVolume,
    Layout,
    Leg,
    ProvisionVolume,
    ReportLegRemoved,
    VolumeGone,
    VolumeGrowthBegan,
    VolumeProvisioningBegan,
)
from tests.support.given import GIB, MIB, OPERATION, OTHER, UID, given
from tests.support.legs_words import (
    LEG_BYTES,
    MANY_PEERS,
    ONE_PEER,
    began,
    fenced,
    leg,
    link,
    members,
    nodes,
    replicated,
    silent,
    tells,
    tied_by,
)
from tests.support.words import DEADLINE, pool_ready, volume_ready

SEALING = (*ONE_PEER, Capability.ENCRYPTION)
THREE = nodes("n1", "n2", "n3")
PAST = (*THREE, *replicated("n1", "n2"))
PLAIN = (*THREE, *volume_ready("n1"))
ABOUT: dict[str, Any] = {
    "volume": "pg",
    "uid": UID,
    "operation": OPERATION,
    "deadline": DEADLINE,
}
GOING = ReplicaRemovalBegan(
    **ABOUT,
    node="n2",
    pool="fast",
    size_bytes=GIB,
    members=members("n1", "n2"),
    home="n1",
)
MIGRATING = MigrationBegan(**ABOUT, home="n1", source="n1")
ADDED = ReplicaAdded(volume="pg", operation=OPERATION, members=members("n1", "n2"))
CONCLUDE = ConcludeReplicas(volume="pg", operation=OPERATION)
LATE = replace(CONCLUDE, code=Refusal.DEADLINE, because="late")
WRONG: dict[str, Any] = {
    "volume": "pg",
    "operation": OPERATION,
    "code": Refusal.DEADLINE,
    "because": "late",
}
BEGAN = VolumeProvisioningBegan
ADD = AddReplica(volume="pg", deadline_s=600)
REMOVE = RemoveReplicaOf(volume="pg", node="n2")
MIGRATE = MigrateVolume(volume="pg", deadline_s=600)
SPLIT = SettleSplitBrain(volume="pg", loses="n2")


def fit(decided: object) -> list[str]:
    assert isinstance(decided, tuple)
    (event,) = decided
    assert isinstance(event, ReplicaAdditionBegan)
    return [one.node for one in event.candidates if one.code is None]


def test_a_replica_is_added_where_there_is_room_and_none_yet() -> None:
    decided = given(*PLAIN).decide(ADD)
    assert sorted(fit(decided)) == ["n2", "n3"]
    assert isinstance(decided, tuple)
    (event,) = decided
    assert isinstance(event, ReplicaAdditionBegan)
    assert (event.node, event.leg_bytes, event.members, event.blank) == ("n1", GIB, (), False)
    assert fit(given(*PLAIN).decide(replace(ADD, node="n3"))) == ["n3"]
    assert given(*PLAIN, event).world.volumes["pg"].phase is VolumePhase.ADDING_REPLICA


def test_no_replica_is_added_where_an_earlier_one_has_not_gone_yet() -> None:
    spec = ReplicaSpec(uid=UID, pool="fast", size_bytes=LEG_BYTES)
    about: dict[str, Any] = {"volume": "pg", "node": "n2", "operation": OTHER}
    stays = (ReplicaWanted(**about, spec=spec), ReplicaRemovalWanted(**about, uid=UID))
    assert fit(given(*PLAIN, *stays).decide(ADD)) == ["n3"]
    given(*PLAIN, *stays).when(replace(ADD, node="n2")).refused(Refusal.TOO_MANY_REPLICAS)
    gone = ReplicaRemoved(volume="pg", node="n2", uid=UID, pool="fast")
    assert sorted(fit(given(*PLAIN, *stays, gone).decide(ADD))) == ["n2", "n3"]


def test_a_replica_of_an_encrypted_volume_is_where_one_can_encrypt_and_its_header_is_counted() -> (
    None
):
    def encrypted(event: Event) -> Event:
        return replace(event, key_ref="file:k") if isinstance(event, BEGAN) else event

    past = (
        *nodes("n1", "n2", capabilities=SEALING),
        *nodes("n3"),
        *map(encrypted, volume_ready("n1")),
    )
    decided = given(*past).decide(ADD)
    assert fit(decided) == ["n2"]
    assert isinstance(decided, tuple)
    (event,) = decided
    assert isinstance(event, ReplicaAdditionBegan)
    codes = {one.node: one.code for one in event.candidates}
    assert codes["n3"] is Refusal.CANNOT_ENCRYPT
    assert event.header_bytes == HEADER_BYTES


def test_another_zone_comes_first() -> None:
    zones = [replace(event, zone=z) for z, event in zip("aab", _joins(), strict=True)]
    assert fit(given(*PLAIN, *zones).decide(ADD)) == ["n3", "n2"]


def _joins() -> list[NodeJoined]:
    events = nodes("n1", "n2", "n3")
    return [e for e in events if isinstance(e, NodeJoined) and e.capabilities]


DUMB = NodeJoined(node="n1")


@pytest.mark.parametrize(
    ("past", "command", "code"),
    [
        ((), ADD, Refusal.UNKNOWN_VOLUME),
        ((*PLAIN, DUMB), ADD, Refusal.CANNOT_REPLICATE),
        ((*PLAIN, replace(_joins()[0], address="")), ADD, Refusal.NO_STORAGE_ADDRESS),
        ((*PLAIN, silent("n1")), ADD, Refusal.NODE_SILENT),
        (PLAIN, replace(ADD, node="n1"), Refusal.TOO_MANY_REPLICAS),
        ((*PLAIN, replace(DUMB, node="n3")), replace(ADD, node="n3"), Refusal.CANNOT_REPLICATE),
        ((*PLAIN, NodeCordoned(node="n3")), replace(ADD, node="n3"), Refusal.NODE_CORDONED),
        (PAST, ADD, Refusal.TOO_MANY_REPLICAS),
        ((*PLAIN, MIGRATING), ADD, Refusal.VOLUME_BUSY),
    ],
)
def test_where_no_replica_is_added(
    past: tuple[Event, ...], command: AddReplica, code: Refusal
) -> None:
    given(*past).when(command).refused(code)


def test_with_several_peers_a_third_is_added_and_ninth_is_not() -> None:
    many = nodes("n1", "n2", "n3", capabilities=MANY_PEERS)
    assert fit(given(*many, *replicated("n1", "n2")).decide(ADD)) == ["n3"]
    names = [f"n{number}" for number in range(1, 10)]
    full = (*nodes(*names, capabilities=MANY_PEERS), *replicated(*names[:8]))
    given(*full).when(ADD).refused(Refusal.TOO_MANY_REPLICAS)


def test_a_step_of_a_larger_operation_is_not_kept_out_by_it() -> None:
    step = replace(ADD, operation=OPERATION)
    assert sorted(fit(given(*PLAIN, MIGRATING).decide(step))) == ["n2", "n3"]
    given(*PLAIN, MIGRATING).when(replace(step, operation=OTHER)).refused(Refusal.VOLUME_BUSY)


def test_how_an_addition_ends() -> None:
    decided = given(*PLAIN).decide(ADD)
    assert isinstance(decided, tuple)
    past = (*PLAIN, *decided)
    given(*past).when(replace(CONCLUDE, members=members("n1", "n2"))).then(ADDED)
    volume = given(*past, ADDED).world.volumes["pg"]
    assert (volume.phase, volume.members) == (VolumePhase.READY, members("n1", "n2"))
    failed = ReplicaAdditionFailed(**WRONG)
    given(*past).when(LATE).then(failed)
    assert given(*past, failed).world.volumes["pg"].members == ()
    larger = replace(failed, size_bytes=LEG_BYTES)
    given(*past).when(replace(LATE, size_bytes=LEG_BYTES)).then(larger)
    assert given(*past, larger).world.volumes["pg"].size_bytes == LEG_BYTES
    given(*past).when(replace(LATE, operation=OTHER)).nothing()


def test_while_a_volume_is_made_its_replicas_come_and_fail_and_it_is_still_being_made() -> None:
    making = (*THREE, began("n1", "n2"), *leg("n1", "n1"))
    given(*making).when(LATE).then(ReplicaAdditionFailed(**WRONG))
    failed = given(*making, ReplicaAdditionFailed(**WRONG)).world.volumes["pg"]
    assert (failed.phase, failed.operation) == (VolumePhase.PROVISIONING, OPERATION)
    there = given(*making, ADDED).world.volumes["pg"]
    assert (there.phase, there.members) == (VolumePhase.PROVISIONING, members("n1", "n2"))
    step = AddReplica(volume="pg", made_on="n1", made_in="fast", operation=OPERATION)
    assert sorted(fit(given(*making).decide(step))) == ["n2", "n3"]


@pytest.mark.parametrize(
    ("past", "command", "code"),
    [
        (THREE[:-1], ProvisionVolume(volume="pg", size_bytes=GIB, replicas=4), Refusal.NO_PLACE),
        (
            (*nodes("n1"), *pool_ready("n2")),
            ProvisionVolume(volume="pg", size_bytes=GIB, replicas=2),
            Refusal.NO_PLACE,
        ),
        (
            THREE,
            ProvisionVolume(volume="pg", size_bytes=GIB, replicas=3),
            Refusal.NO_PLACE,
        ),
        (
            THREE,
            ProvisionVolume(volume="pg", size_bytes=GIB, replicas=2, layout=Layout.DISK),
            Refusal.CANNOT_REPLICATE,
        ),
        (
            THREE,
            ProvisionVolume(volume="pg", size_bytes=GIB, replicas=2, key_ref="file:k"),
            Refusal.CANNOT_ENCRYPT,
        ),
        (
            (*nodes("n1", capabilities=SEALING), *nodes("n2")),
            ProvisionVolume(volume="pg", size_bytes=GIB, replicas=2, key_ref="file:k"),
            Refusal.NO_PLACE,
        ),
    ],
)
def test_what_is_not_made_with_several_replicas(
    past: tuple[Event, ...], command: ProvisionVolume, code: Refusal
) -> None:
    given(*past).when(command).refused(code)


def test_a_replica_is_removed_and_the_volume_has_what_the_replication_took() -> None:
    given(*PAST).when(REMOVE).then(GOING)
    past = (*PAST, GOING)
    done = VolumeReplicaRemoved(
        volume="pg", operation=OPERATION, node="n2", members=(), size_bytes=LEG_BYTES
    )
    given(*past).when(replace(CONCLUDE, node="n2", size_bytes=LEG_BYTES)).then(done)
    volume = given(*past, done).world.volumes["pg"]
    assert (volume.members, volume.size_bytes, volume.outdated) == ((), LEG_BYTES, frozenset())
    given(*past).when(LATE).then(ReplicaRemovalFailed(**WRONG))


@pytest.mark.parametrize(
    ("past", "command", "code"),
    [
        (PAST, replace(REMOVE, node="n1"), Refusal.REPLICA_IN_CHARGE),
        (PAST, replace(REMOVE, node="n3"), Refusal.NO_SUCH_REPLICA),
        (PLAIN, REMOVE, Refusal.NOT_REPLICATED),
        (PAST, replace(REMOVE, lost=True), Refusal.NODE_NOT_SILENT),
        ((*PAST, silent("n2")), REMOVE, Refusal.NODE_SILENT),
        ((*PAST, silent("n1")), REMOVE, Refusal.NODE_SILENT),
        ((*PAST, tells("n1", LegDisk.INCONSISTENT)), REMOVE, Refusal.NOT_UP_TO_DATE),
        ((*PAST, GOING), REMOVE, Refusal.VOLUME_BUSY),
    ],
)
def test_which_replica_is_not_removed(
    past: tuple[Event, ...], command: RemoveReplicaOf, code: Refusal
) -> None:
    given(*past).when(command).refused(code)


def test_the_replica_on_a_node_that_is_lost_is_given_up() -> None:
    past = (*PAST, silent("n2"))
    given(*past).when(replace(REMOVE, lost=True)).then(replace(GOING, lost=True))


@pytest.mark.parametrize("node", ["n2", None])
def test_a_leg_that_goes_later_than_its_volume_gave_it_up_does_not_take_that_along(
    node: str | None,
) -> None:
    """It has the identity of the volume; the data is with the other."""
    done = VolumeReplicaRemoved(
        volume="pg", operation=OPERATION, node="n2", members=(), size_bytes=LEG_BYTES
    )
    past = (*PAST, GOING, done)
    given(*past).when(ReportLegRemoved(volume="pg", uid=UID, node="n2")).nothing()
    gone = VolumeGone(volume="pg", uid=UID)
    given(*past).when(ReportLegRemoved(volume="pg", uid=UID, node="n1")).then(gone)
    several = given(*PAST).when(ReportLegRemoved(volume="pg", uid=UID, node=node))
    several.nothing() if node else several.then(gone)


def test_a_migration_and_its_stages_are_one_operation() -> None:
    given(*PLAIN).when(MIGRATE).then(MIGRATING)
    past = (*PLAIN, MIGRATING)
    given(*past).when(ADD).refused(Refusal.VOLUME_BUSY)
    adding = given(*past).decide(replace(ADD, operation=OPERATION))
    assert isinstance(adding, tuple)
    between = (*past, *adding, ADDED)
    volume = given(*between).world.volumes["pg"]
    assert (volume.phase, volume.operation) == (VolumePhase.MIGRATING, OPERATION)
    given(*between).when(CONCLUDE).then(
        VolumeMigrated(volume="pg", operation=OPERATION, source="n1")
    )
    given(*between).when(LATE).then(MigrationFailed(**WRONG))
    ended = ConcludeVolume(volume="pg", operation=OPERATION, code=Refusal.DEADLINE, because="late")
    both = (ReplicaAdditionFailed(**WRONG), MigrationFailed(**WRONG))
    given(*past, *adding).when(ended).then(*both)
    assert given(*past, *adding, *both).world.volumes["pg"].operation == ""


@pytest.mark.parametrize(
    ("past", "command", "code"),
    [
        (PLAIN, replace(MIGRATE, source="n2"), Refusal.NO_SUCH_REPLICA),
        (PAST, replace(MIGRATE, source="n3"), Refusal.NO_SUCH_REPLICA),
        (PAST, replace(MIGRATE, node="n2"), Refusal.TOO_MANY_REPLICAS),
        (PLAIN, replace(MIGRATE, node="n1"), Refusal.TOO_MANY_REPLICAS),
        ((*PAST, fenced("n2")), MIGRATE, Refusal.NOT_UP_TO_DATE),
        ((*PLAIN, DUMB), MIGRATE, Refusal.CANNOT_REPLICATE),
        ((*PLAIN, silent("n1")), MIGRATE, Refusal.NODE_SILENT),
    ],
)
def test_what_does_not_migrate(
    past: tuple[Event, ...], command: MigrateVolume, code: Refusal
) -> None:
    given(*past).when(command).refused(code)


def test_a_split_brain_is_settled_against_one_side() -> None:
    past = (*PAST, tells("n1", split=True))
    settling = SplitSettlingBegan(**ABOUT, node="n1", loses="n2")
    given(*past).when(SPLIT).then(settling)
    assert given(*past, settling).world.volumes["pg"].outdated == {"n2"}
    given(*past, settling, silent("n1")).when(FailVolumeOver(volume="pg")).refused(
        Refusal.VOLUME_BUSY
    )
    given(*past, settling).when(CONCLUDE).then(SplitSettled(volume="pg", operation=OPERATION))
    given(*PAST).when(SPLIT).refused(Refusal.NO_SPLIT_BRAIN)
    given(*past).when(replace(SPLIT, loses="n1")).refused(Refusal.REPLICA_IN_CHARGE)
    given(*past).when(replace(SPLIT, loses="n3")).refused(Refusal.NO_SUCH_REPLICA)
    given(*past, silent("n2")).when(SPLIT).refused(Refusal.NODE_SILENT)


def test_all_replicas_grow_are_held_and_go() -> None:
    other = (Leg(node="n2", pool="fast"),)
    decided = given(*PAST).decide(GrowVolume(volume="pg", size_bytes=300 * GIB // 100))
    assert isinstance(decided, tuple)
    (growth,) = decided
    assert isinstance(growth, VolumeGrowthBegan)
    assert (growth.others, growth.header_bytes) == (other, head_room_bytes(GIB, 2))
    held = given(*PAST).decide(DeleteVolume(volume="pg", hold_s=60))
    gone = given(*PAST).decide(DeleteVolume(volume="pg"))
    assert isinstance(held, tuple)
    assert isinstance(gone, tuple)
    assert isinstance(held[0], VolumeHoldBegan)
    assert isinstance(gone[0], VolumeDeletionBegan)
    assert held[0].others == gone[0].others == ("n2",)


def test_head_room_grows_with_the_device_and_its_peers() -> None:
    assert head_room_bytes(GIB, 2) == 4 * MIB
    assert head_room_bytes(1 << 40, 2) == 36 * MIB
    assert head_room_bytes(1 << 40, 3) == 68 * MIB


TAKE = TakeLink(node="n1", volume="pg", uid=UID, operation=OPERATION)
TAKEN = LinkTaken(node="n1", volume="pg", uid=UID, operation=OPERATION, link=link("n1"))


def test_no_two_volumes_share_a_device_or_a_port() -> None:
    given(*THREE).when(TAKE).then(TAKEN)
    second = replace(TAKE, volume="other", uid=OTHER)
    given(*THREE, TAKEN).when(second).then(
        replace(TAKEN, volume="other", uid=OTHER, link=link("n1", 1))
    )
    again = replace(TAKE, operation=OTHER)
    new = replace(link("n1"), since=OTHER)
    given(*THREE, TAKEN).when(again).then(replace(TAKEN, operation=OTHER, link=new))
    free = (*THREE, TAKEN, LinkReturned(node="n1", uid=UID))
    given(*free).when(second).then(replace(TAKEN, volume="other", uid=OTHER))


def test_a_leg_stays_in_its_tie_until_it_is_loose() -> None:
    """What is left on a node of an earlier tie must not pass for what has all data."""
    again = replace(TAKE, operation=OTHER)
    given(*PAST).when(again).then(replace(TAKEN, operation=OTHER))
    new = replace(TAKEN, operation=OTHER, link=replace(link("n1"), since=OTHER))
    given(*PAST, replace(TYING, replication=None)).when(again).then(new)
    gone = ReplicaForgotten(volume="pg", node="n1", operation=OPERATION, uid=UID, pool="fast")
    given(*PAST, gone).when(again).then(new)
    # One that was rolled back is tied by that, whatever its link was taken for.
    anew = Replication(members=tied_by(members("n1", "n2"), UID), size_bytes=GIB)
    since = replace(TAKEN, operation=OTHER, link=replace(link("n1"), since=UID))
    given(*PAST, replace(TYING, replication=anew)).when(again).then(since)


def test_a_node_without_drbd_or_an_address_has_no_links() -> None:
    given(*pool_ready("n1")).when(TAKE).refused(Refusal.CANNOT_REPLICATE)
    given(*THREE, replace(_joins()[0], address="")).when(TAKE).refused(Refusal.NO_STORAGE_ADDRESS)
    given(*THREE, NodeCordoned(node="n1")).when(TAKE).then(TAKEN)
    given(*THREE, TAKEN, NodeCordoned(node="n1")).when(TAKE).then(TAKEN)


def test_a_link_that_was_taken_anew_is_not_given_back_for_an_older_reason() -> None:
    back = LinkReturned(node="n1", uid=UID)
    given(*THREE, TAKEN).when(ReportLinkReturned(node="n1", uid=UID)).then(back)
    older = ReportLinkReturned(node="n1", uid=UID, taken_by=OPERATION)
    given(*THREE, TAKEN).when(older).then(back)
    given(*THREE, TAKEN, replace(TAKEN, operation=OTHER)).when(older).nothing()
    given(*THREE).when(older).nothing()


def test_whatever_has_no_leg_any_more_owes_its_link() -> None:
    back = ReportLinkReturned(node="n2", uid=UID, taken_by=OPERATION)
    assert back not in owed(given(*PAST).world)
    removed = (
        ReplicaRemovalWanted(volume="pg", node="n2", operation=OPERATION, uid=UID),
        ReplicaRemoved(volume="pg", node="n2", uid=UID, pool="fast"),
    )
    assert back in owed(given(*PAST, *removed).world)
    assert back not in owed(given(*PAST, GOING, *removed).world)


@pytest.mark.parametrize("migrates", [False, True])
def test_what_a_replica_that_came_to_nothing_has_left_larger_is_as_large_as_it_is_seen(
    migrates: bool,
) -> None:
    untied = replace(TYING, replication=None)
    resized = ReplicaResized(volume="pg", node="n1", uid=UID, pool="fast", size_bytes=LEG_BYTES)
    past = (*PLAIN, untied, resized, *((MIGRATING,) if migrates else ()))
    began = decision(past, replace(ADD, operation=OPERATION if migrates else None))
    assert (began.size_bytes, began.leg_bytes) == (LEG_BYTES, LEG_BYTES)
    volume = given(*past, began, ADDED).world.volumes["pg"]
    assert volume.size_bytes == LEG_BYTES


def test_while_one_of_two_migrates_the_other_leg_is_larger_than_what_is_seen_of_it() -> None:
    moving = replace(MIGRATING, source="n2")
    going = replace(GOING, deadline=DEADLINE)
    gone = VolumeReplicaRemoved(
        volume="pg", operation=OPERATION, node="n2", members=(), size_bytes=LEG_BYTES
    )
    untying = (*PAST, moving, going, replace(TYING, replication=None))
    wish = replace(ADD, operation=OPERATION)
    given(*untying, gone).when(wish).refused(Refusal.REPLICA_BUSY)
    resized = ReplicaResized(volume="pg", node="n1", uid=UID, pool="fast", size_bytes=LEG_BYTES)
    began = decision((*untying, resized, gone), wish)
    assert (began.size_bytes, began.leg_bytes) == (GIB, LEG_BYTES)


def decision(past: tuple[Event, ...], wish: AddReplica) -> ReplicaAdditionBegan:
    decided = given(*past).decide(wish)
    assert isinstance(decided, tuple)
    (event,) = decided
    assert isinstance(event, ReplicaAdditionBegan)
    return event


def test_a_leg_that_is_untied_after_all_owes_its_link_whatever_became_of_it_since() -> None:
    """The operation that wanted it untied may have ended before it was."""
    back = ReportLinkReturned(node="n1", uid=UID, taken_by=OPERATION)
    untied = (
        replace(TYING, replication=None),
        ReplicaResized(volume="pg", node="n1", uid=UID, pool="fast", size_bytes=GIB),
    )
    held = (
        ReplicaHoldWanted(volume="pg", node="n1", operation=OTHER, uid=UID),
        ReplicaHeld(volume="pg", node="n1", uid=UID),
    )
    assert back not in owed(given(*PAST, untied[0]).world)
    for past in (untied, (untied[0], *held)):
        world = given(*PAST, *past).world
        assert back in owed(world)
        assert back in follows([past[-1]], world)
        busy = given(*PAST, *past, GOING).world
        assert back not in follows([past[-1]], busy)
    assert back not in follows([held[1]], given(*PAST, *held).world), "it is still tied"


TIED = Replication(members=members("n1", "n2"), size_bytes=GIB)
TIE = TieReplica(volume="pg", node="n1", operation=OTHER, size_bytes=LEG_BYTES, replication=TIED)
TYING = ReplicaTieWanted(
    volume="pg", node="n1", operation=OTHER, uid=UID, size_bytes=LEG_BYTES, replication=TIED
)


def test_a_leg_is_tied_again_for_whoever_waits_for_its_node_to_say_so() -> None:
    given(*PAST).when(TIE).then(TYING)
    given(*PAST, silent("n1")).when(TIE).then(TYING)
    loose = given(*PAST, replace(TYING, replication=None)).world.replicas["n1", "pg"]
    assert (loose.seen, loose.spec and loose.spec.replication) == (None, None)
    given(*PAST).when(replace(TIE, node="n3")).refused(Refusal.UNKNOWN_REPLICA)
    gone = ReplicaRemovalWanted(volume="pg", node="n1", operation=OPERATION, uid=UID)
    given(*PAST, gone).when(TIE).refused(Refusal.REPLICA_BUSY)


def test_what_was_said_of_another_tie_is_no_answer_to_this_one() -> None:
    anew = replace(TIED, members=tied_by(TIED.members, OTHER))
    tying = given(*PAST, replace(TYING, replication=anew))
    present = ReportReplicaPresent(
        volume="pg", node="n1", uid=UID, size_bytes=LEG_BYTES, device="/dev/fast/pg", tie=OTHER
    )
    tying.when(replace(present, tie=OPERATION)).nothing()
    tying.when(replace(present, tie=None)).nothing()
    answer = tying.decide(present)
    assert isinstance(answer, tuple)
    assert [type(event) for event in answer] == [ReplicaResized]


def test_what_was_seen_before_does_not_overtake_what_was_seen_later() -> None:
    seen = LegSeen(primary=True, disk=LegDisk.UP_TO_DATE)
    report = ReportReplication(volume="pg", node="n1", uid=UID, epoch=2, seen=seen)
    told = ReplicationChanged(volume="pg", node="n1", uid=UID, epoch=2, seen=seen)
    given(*PAST).when(report).then(told)
    given(*PAST, told).when(report).nothing()
    given(*PAST, told).when(replace(report, epoch=1)).nothing()
    given(*PAST, told).when(replace(report, epoch=3)).then(replace(told, epoch=3))
    given(*PAST).when(replace(report, uid=OTHER)).nothing()
    given(*PLAIN).when(report).nothing()


def test_a_leg_on_a_lost_node_is_forgotten_once() -> None:
    forget = ForgetReplica(volume="pg", node="n2", operation=OPERATION)
    forgotten = ReplicaForgotten(volume="pg", node="n2", operation=OPERATION, uid=UID, pool="fast")
    given(*PAST, silent("n2")).when(forget).then(forgotten)
    given(*PAST, silent("n2"), forgotten).when(forget).refused(Refusal.UNKNOWN_REPLICA)


def test_both_sides_of_a_split_are_asked_to_connect() -> None:
    settle = SettleSplit(volume="pg", node="n2", operation=OPERATION, loses=True)
    about = {"volume": "pg", "node": "n2", "operation": OPERATION}
    given(*PAST).when(settle).then(SplitSettlingWanted(**about, uid=UID, loses=True))
    given(*PLAIN).when(replace(settle, node="n1")).refused(Refusal.NO_SUCH_REPLICA)
    given(*PAST, silent("n2")).when(settle).refused(Refusal.NODE_SILENT)
    leg: dict[str, Any] = {"volume": "pg", "node": "n2", "operation": OPERATION, "uid": UID}
    unsure = (ReplicaRemovalWanted(**leg), ReplicaRemovalWithdrawn(**leg))
    given(*PAST, *unsure).when(settle).refused(Refusal.REPLICA_BUSY)


def test_a_tied_leg_is_asked_to_grow_also_if_it_is_as_large_already() -> None:
    """The device on it is another matter, and whoever asks waits for the node to say so."""
    about: dict[str, Any] = {
        "volume": "pg",
        "node": "n1",
        "operation": OPERATION,
        "size_bytes": LEG_BYTES,
    }
    wanted = ReplicaResizeWanted(**about, uid=UID, device_bytes=2 * GIB)
    given(*PAST).when(ResizeReplica(**about, device_bytes=2 * GIB)).then(wanted)
    spec = given(*PAST, wanted).world.replicas["n1", "pg"].spec
    assert spec is not None
    assert spec.replication is not None
    assert spec.replication.size_bytes == 2 * GIB
    given(*PLAIN).when(replace(ResizeReplica(**about), size_bytes=GIB)).nothing()
    there: Message = ReportReplicaPresent(
        volume="pg", node="n1", uid=UID, size_bytes=LEG_BYTES, device="/dev/fast/pg"
    )
    assert given(*PAST, wanted).decide(there) != ()
