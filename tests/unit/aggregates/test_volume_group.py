"""Volume groups: who may be in one, and when all of them can be kept at one instant."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from aggregates.processes import settlements
from schemas.answers import Refused
from schemas.deleting import VolumeDeleted, VolumeHeld
from schemas.grammar import Event, Message
from schemas.node import NodeFellSilent
from schemas.refusals import Refusal
from schemas.snapshot import Part, SnapshotCreationBegan
from schemas.volume import Layout, VolumeGrowthBegan
from schemas.volume_group import (
    MEMBERS_MAX,
    AddToGroup,
    ConcludeGroup,
    CreateGroup,
    GroupCreated,
    GroupRemoved,
    GroupSnapshotBegan,
    GroupSnapshotFailed,
    GroupSnapshotTaken,
    GroupVolumesAdded,
    GroupVolumesLeft,
    Member,
    RemoveGroup,
    ReportVolumeLeft,
    SnapshotGroup,
    TakeOutOfGroup,
)
from tests.support.given import GIB, NOON, OPERATION, OTHER, UID, Given, given
from tests.support.words import DEADLINE, pool_ready, volume_ready

WAL = tuple(
    replace(event, **{f: OTHER for f in ("uid", "claim") if hasattr(event, f)})
    if not hasattr(event, "spec")
    else replace(event, spec=replace(event.spec, uid=OTHER))
    for event in volume_ready("n1", "wal")
)
PAST = (*pool_ready("n1"), *pool_ready("n2"), *volume_ready("n1"), *WAL)
PG, LOG = Member(volume="pg", uid=UID), Member(volume="wal", uid=OTHER)
SHOP = GroupCreated(group="shop", at=NOON, members=(PG, LOG))
WISH = SnapshotGroup(group="shop", snapshot="s")
BEGAN = GroupSnapshotBegan(
    group="shop",
    snapshot="s",
    operation=OPERATION,
    deadline=DEADLINE,
    node="n1",
    parts=tuple(
        Part(
            snapshot=f"s-{member.volume}",
            volume=member.volume,
            volume_uid=member.uid,
            pool="fast",
            size_bytes=GIB,
            reserve_bytes=-(-GIB // 5),
        )
        for member in (PG, LOG)
    ),
)
GROWING = VolumeGrowthBegan(
    volume="wal",
    uid=OTHER,
    operation=OTHER,
    deadline=DEADLINE,
    node="n1",
    pool="fast",
    from_bytes=GIB,
    size_bytes=2 * GIB,
    layout=Layout.LINEAR,
)


def test_a_group_is_made_of_volumes_that_are_there() -> None:
    given(*PAST).when(CreateGroup(group="shop", volumes=("wal", "pg", "pg"))).then(SHOP)
    given(*PAST).when(CreateGroup(group="shop")).then(GroupCreated(group="shop", at=NOON))
    nobody = CreateGroup(group="shop", volumes=("nobody",))
    given(*PAST).when(nobody).refused(Refusal.UNKNOWN_VOLUME, "nobody")
    given(*PAST, SHOP).when(CreateGroup(group="shop")).refused(Refusal.GROUP_EXISTS)


def test_a_volume_is_in_one_group_at_most() -> None:
    no = given(*PAST, SHOP).when(CreateGroup(group="other", volumes=("pg",)))
    no.refused(Refusal.IN_OTHER_GROUP, "pg", "shop")
    other = GroupCreated(group="other", at=NOON)
    add = AddToGroup(group="other", volumes=("wal",))
    given(*PAST, SHOP, other).when(add).refused(Refusal.IN_OTHER_GROUP)


def test_a_group_has_a_bound() -> None:
    full = tuple(Member(volume=f"v{n}", uid=UID) for n in range(MEMBERS_MAX))
    past = (*PAST, GroupCreated(group="full", at=NOON, members=full))
    given(*past).when(AddToGroup(group="full", volumes=("pg",))).refused(Refusal.GROUP_FULL)


def test_volumes_come_and_go() -> None:
    one = GroupCreated(group="shop", at=NOON, members=(PG,))
    added = GroupVolumesAdded(group="shop", at=NOON, members=(LOG,))
    given(*PAST, one).when(AddToGroup(group="shop", volumes=("wal", "pg"))).then(added)
    given(*PAST, SHOP).when(AddToGroup(group="shop", volumes=("wal", "pg"))).nothing()
    left = GroupVolumesLeft(group="shop", volumes=("wal",))
    given(*PAST, SHOP).when(TakeOutOfGroup(group="shop", volumes=("wal",))).then(left)
    again = TakeOutOfGroup(group="shop", volumes=("wal",))
    given(*PAST, SHOP, left).when(again).refused(Refusal.NOT_IN_GROUP)
    free = CreateGroup(group="other", volumes=("wal",))
    given(*PAST, SHOP, left).when(free).then(GroupCreated(group="other", at=NOON, members=(LOG,)))
    given(*PAST, SHOP).when(RemoveGroup(group="shop")).then(GroupRemoved(group="shop"))


@pytest.mark.parametrize(
    "word",
    [
        AddToGroup(group="shop", volumes=("pg",)),
        TakeOutOfGroup(group="shop", volumes=("pg",)),
        RemoveGroup(group="shop"),
        WISH,
    ],
)
def test_a_group_is_not_changed_while_it_is_not_there_or_is_being_kept(word: Message) -> None:
    given(*PAST).when(word).refused(Refusal.UNKNOWN_GROUP)
    given(*PAST, SHOP, BEGAN).when(word).refused(Refusal.GROUP_BUSY)


def test_all_volumes_of_a_group_are_to_be_kept_with_room_for_each() -> None:
    given(*PAST, SHOP).when(WISH).then(BEGAN)
    small = tuple(replace(part, reserve_bytes=GIB // 8) for part in BEGAN.parts)
    wish = replace(WISH, reserve_bytes=GIB // 8)
    given(*PAST, SHOP).when(wish).then(replace(BEGAN, parts=small))


def test_a_name_that_would_be_too_long_is_numbered() -> None:
    wish = replace(WISH, snapshot="s" * 62)
    decision = given(*PAST, SHOP).decide(wish)
    assert not isinstance(decision, Refused)
    (began,) = decision
    assert isinstance(began, GroupSnapshotBegan)
    assert [part.snapshot for part in began.parts] == [f"{'s' * 60}-{n}" for n in (0, 1)]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ((GroupVolumesLeft(group="shop", volumes=("pg", "wal")),), Refusal.GROUP_EMPTY),
        ((VolumeDeleted(volume="wal", uid=OTHER, operation=OTHER),), Refusal.UNKNOWN_VOLUME),
        ((GROWING,), Refusal.VOLUME_BUSY),
        (
            (VolumeHeld(volume="wal", uid=OTHER, operation=OTHER, until=DEADLINE),),
            Refusal.VOLUME_HELD,
        ),
        ((NodeFellSilent(node="n1", last_heard=NOON),), Refusal.NODE_SILENT),
        ((*volume_ready("n2", "s-pg"),), Refusal.VOLUME_EXISTS),
    ],
)
def test_nothing_is_kept_unless_all_can_be(more: tuple[Event, ...], code: Refusal) -> None:
    given(*PAST, SHOP, *more).when(WISH).refused(code)


def test_volumes_of_several_nodes_have_no_instant_in_common() -> None:
    far = Member(volume="far", uid=UID)
    past = (
        *PAST,
        *volume_ready("n2", "far"),
        GroupCreated(group="shop", at=NOON, members=(PG, far)),
    )
    given(*past).when(WISH).refused(Refusal.GROUP_SPREAD, "n1", "n2")


def test_a_name_that_is_taken_by_a_snapshot_is_refused() -> None:
    other = SnapshotCreationBegan(
        snapshot="s-wal",
        uid=UID,
        operation=OTHER,
        deadline=DEADLINE,
        volume="pg",
        volume_uid=UID,
        node="n1",
        pool="fast",
        size_bytes=GIB,
    )
    given(*PAST, SHOP, other).when(WISH).refused(Refusal.SNAPSHOT_EXISTS, "s-wal")


def test_there_must_be_room_for_all_together() -> None:
    tight = (*pool_ready("n1", size_bytes=2 * GIB + GIB // 4), *volume_ready("n1"), *WAL, SHOP)
    given(*tight).when(replace(WISH, reserve_bytes=GIB // 8)).then(
        replace(BEGAN, parts=tuple(replace(part, reserve_bytes=GIB // 8) for part in BEGAN.parts))
    )
    given(*tight).when(WISH).refused(Refusal.CAPACITY)


def test_the_end_of_a_snapshot_is_told_once() -> None:
    about = {"group": "shop", "snapshot": "s", "operation": OPERATION}
    done = ConcludeGroup(group="shop", operation=OPERATION)
    taken = GroupSnapshotTaken(**about)
    given(*PAST, SHOP, BEGAN).when(done).then(taken)
    given(*PAST, SHOP, BEGAN, taken).when(done).nothing()
    no = replace(done, code=Refusal.CAPACITY, because="full")
    failed = GroupSnapshotFailed(**about, code=Refusal.CAPACITY, because="full")
    given(*PAST, SHOP, BEGAN).when(no).then(failed)


@pytest.mark.parametrize(
    "end",
    [
        VolumeDeleted(volume="wal", uid=OTHER, operation=OTHER),
        VolumeHeld(volume="wal", uid=OTHER, operation=OTHER, until=DEADLINE),
    ],
)
def test_a_volume_that_is_deleted_leaves_its_group(end: Event) -> None:
    here = given(*PAST, SHOP, end)
    (left,) = (w for w in follows(here, end) if isinstance(w, ReportVolumeLeft))
    assert (left.group, left.volume, left.uid) == ("shop", "wal", OTHER)
    because = "it was deleted"
    here.when(left).then(GroupVolumesLeft(group="shop", volumes=("wal",), because=because))
    here.when(replace(left, uid=UID)).nothing()


def test_a_group_that_nobody_told_of_a_deletion_is_told_later() -> None:
    here = given(*PAST, SHOP, VolumeDeleted(volume="wal", uid=OTHER, operation=OTHER))
    assert [w.volume for w in owed(here) if isinstance(w, ReportVolumeLeft)] == ["wal"]


def test_a_volume_that_got_into_two_groups_stays_where_it_came_first() -> None:
    second = GroupCreated(group="another", at=DEADLINE, members=(PG,))
    here = given(*PAST, SHOP, second)
    left = [w for w in owed(here) if isinstance(w, ReportVolumeLeft)]
    assert [(w.group, w.volume) for w in left] == [("another", "pg")]
    assert "shop" in left[0].because


def follows(here: Given, event: Event) -> Sequence[Message]:
    return settlements.follows((event,), here.world)


def owed(here: Given) -> Sequence[Message]:
    return settlements.owed(here.world)
