from msgspec.structs import replace

from schemas.answers import Refused
from schemas.deleting import DeleteVolume, VolumeDeleted, VolumeDeletionBegan, VolumeDeletionFailed
from schemas.grammar import Event
from schemas.node import NodeCordoned, NodeFellSilent
from schemas.pool import RoomReserved
from schemas.refusals import Refusal
from schemas.volume import (
    ConcludeVolume,
    GrowVolume,
    Layout,
    ProvisionVolume,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeGrowthFailed,
    VolumeProvisioned,
    VolumeProvisioningBegan,
    VolumeProvisioningFailed,
)
from tests.support.given import GIB, MIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import DEADLINE, pool_ready, volume_ready

PROVISION = ProvisionVolume(volume="pg", size_bytes=GIB)
PAST = (*pool_ready("n1"), *volume_ready("n1"))
GROWTH = VolumeGrowthBegan(
    volume="pg",
    uid=UID,
    operation=OPERATION,
    deadline=DEADLINE,
    node="n1",
    pool="fast",
    from_bytes=GIB,
    size_bytes=2 * GIB,
)
DELETION = VolumeDeletionBegan(
    volume="pg", uid=UID, operation=OPERATION, deadline=DEADLINE, node="n1", pool="fast"
)


def full(node: str, left_bytes: int) -> RoomReserved:
    return RoomReserved(
        pool="fast",
        node=node,
        claim=OTHER,
        size_bytes=20 * GIB - left_bytes,
        operation=OPERATION,
    )


def began(*past: Event, wish: ProvisionVolume = PROVISION) -> VolumeProvisioningBegan:
    decision = given(*past).when(wish).decision
    assert not isinstance(decision, Refused), decision
    (event,) = decision
    assert isinstance(event, VolumeProvisioningBegan)
    return event


def test_a_volume_goes_where_most_stays_free() -> None:
    event = began(*pool_ready("n1"), full("n1", 10 * GIB), *pool_ready("n2"))
    assert [(c.node, c.code) for c in event.candidates] == [("n2", None), ("n1", None)]
    assert event.candidates[0].score == sum(event.candidates[0].parts.values())


def test_the_decision_keeps_every_pool_it_looked_at_and_why_not() -> None:
    event = began(*pool_ready("n1"), full("n1", MIB), *pool_ready("n2"))
    assert [(c.node, c.code) for c in event.candidates] == [
        ("n2", None),
        ("n1", Refusal.CAPACITY),
    ]
    assert event.candidates[1].because


def test_the_request_narrows_down_where_to_look() -> None:
    pools = (*pool_ready("n1"), *pool_ready("n2"), *pool_ready("n2", "slow"))
    assert [c.node for c in began(*pools, wish=replace(PROVISION, node="n1")).candidates] == ["n1"]
    only_slow = began(*pools, wish=replace(PROVISION, pool="slow"))
    assert [(c.node, c.pool) for c in only_slow.candidates] == [("n2", "slow")]


def test_volumes_on_their_way_count_for_the_score() -> None:
    pools = (*pool_ready("n1"), *pool_ready("n2"))
    first = began(*pools)
    second = began(*pools, first, wish=replace(PROVISION, volume="pg2"))
    assert first.candidates[0].node != second.candidates[0].node


def test_more_than_there_is_is_refused_and_names_each_pool() -> None:
    pools = (*pool_ready("n1"), *pool_ready("n2"))
    wish = replace(PROVISION, size_bytes=21 * GIB)
    given(*pools).when(wish).refused(Refusal.CAPACITY, "n1/fast", "n2/fast")


def test_different_reasons_against_every_pool_make_one_refusal() -> None:
    pools = (*pool_ready("n1"), NodeCordoned(node="n1"), *pool_ready("n2"), full("n2", MIB))
    given(*pools).when(PROVISION).refused(Refusal.NO_PLACE, "n1", "n2")


def test_without_any_pool_there_is_no_place() -> None:
    given().when(PROVISION).refused(Refusal.NO_PLACE)
    given(*pool_ready("n1")).when(replace(PROVISION, pool="other")).refused(
        Refusal.NO_PLACE, "other"
    )


def test_nothing_is_placed_on_a_node_that_is_not_heard() -> None:
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    given(*pool_ready("n1"), silent).when(PROVISION).refused(Refusal.NODE_SILENT)


def test_a_name_is_given_once() -> None:
    given(*PAST).when(PROVISION).refused(Refusal.VOLUME_EXISTS, "pg")


def test_stripes_and_layout_must_agree() -> None:
    pool = pool_ready("n1")
    given(*pool).when(replace(PROVISION, stripes=2)).refused(Refusal.BAD_LAYOUT)
    striped = replace(PROVISION, layout=Layout.STRIPED)
    given(*pool).when(striped).refused(Refusal.BAD_LAYOUT)
    assert began(*pool, wish=replace(striped, stripes=2)).stripes == 2


def test_a_volume_is_ready_where_the_operation_says_it_is() -> None:
    pool = pool_ready("n1")
    event = began(*pool)
    done = ConcludeVolume(volume="pg", operation=OPERATION, node="n1", pool="fast", size_bytes=GIB)
    ready = VolumeProvisioned(
        volume="pg", uid=UID, operation=OPERATION, node="n1", pool="fast", size_bytes=GIB
    )
    given(*pool, event).when(done).then(ready)
    given(*pool, event, ready).when(done).nothing()
    given(*pool, event).when(replace(done, operation=OTHER)).nothing()


def test_a_volume_that_could_not_be_made_leaves_its_name_free() -> None:
    pool = pool_ready("n1")
    event = began(*pool)
    failed = VolumeProvisioningFailed(
        volume="pg", uid=UID, operation=OPERATION, code=Refusal.DEADLINE, because="late"
    )
    report = ConcludeVolume(volume="pg", operation=OPERATION, code=Refusal.DEADLINE, because="late")
    given(*pool, event).when(report).then(failed)
    assert began(*pool, event, failed).volume == "pg"


def test_a_volume_grows_and_never_shrinks() -> None:
    given(*PAST).when(GrowVolume(volume="pg", size_bytes=2 * GIB)).then(GROWTH)
    for size_bytes in (GIB, GIB - 1, 1):
        grow = GrowVolume(volume="pg", size_bytes=size_bytes)
        given(*PAST).when(grow).refused(Refusal.NOT_LARGER, str(GIB))


def test_a_volume_does_not_outgrow_its_pool() -> None:
    given(*PAST).when(GrowVolume(volume="pg", size_bytes=21 * GIB)).refused(Refusal.CAPACITY)


def test_one_operation_at_a_time_runs_on_a_volume() -> None:
    for running in (GROWTH, DELETION):
        grow = GrowVolume(volume="pg", size_bytes=3 * GIB)
        given(*PAST, running).when(grow).refused(Refusal.VOLUME_BUSY, OPERATION)
        given(*PAST, running).when(DeleteVolume(volume="pg")).refused(Refusal.VOLUME_BUSY)
    grown = VolumeGrown(volume="pg", operation=OPERATION, size_bytes=2 * GIB)
    given(*PAST, GROWTH, grown).when(DeleteVolume(volume="pg")).then(DELETION)


def test_what_is_not_there_is_neither_grown_nor_deleted() -> None:
    given().when(GrowVolume(volume="pg", size_bytes=GIB)).refused(Refusal.UNKNOWN_VOLUME)
    given().when(DeleteVolume(volume="pg")).refused(Refusal.UNKNOWN_VOLUME, "pg")


def test_nothing_is_done_on_a_node_that_is_not_heard() -> None:
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    given(*PAST, silent).when(DeleteVolume(volume="pg")).refused(Refusal.NODE_SILENT, "n1")


def test_growing_ends_with_the_size_the_node_has() -> None:
    done = ConcludeVolume(volume="pg", operation=OPERATION, size_bytes=2 * GIB)
    grown = VolumeGrown(volume="pg", operation=OPERATION, size_bytes=2 * GIB)
    given(*PAST, GROWTH).when(done).then(grown)
    late = replace(done, code=Refusal.DEADLINE, because="late")
    failed = VolumeGrowthFailed(
        volume="pg",
        operation=OPERATION,
        size_bytes=2 * GIB,
        code=Refusal.DEADLINE,
        because="late",
    )
    given(*PAST, GROWTH).when(late).then(failed)


def test_a_deleted_volume_leaves_its_name_free() -> None:
    gone = ConcludeVolume(volume="pg", operation=OPERATION, gone=True)
    deleted = VolumeDeleted(volume="pg", uid=UID, operation=OPERATION)
    given(*PAST, DELETION).when(gone).then(deleted)
    assert given(*PAST, DELETION, deleted).world.volumes == {}


def test_a_deletion_that_was_given_up_leaves_the_volume_in_use() -> None:
    report = ConcludeVolume(
        volume="pg", operation=OPERATION, code=Refusal.IN_USE, because="mounted on /srv"
    )
    failed = VolumeDeletionFailed(
        volume="pg", operation=OPERATION, code=Refusal.IN_USE, because="mounted on /srv"
    )
    given(*PAST, DELETION).when(report).then(failed)
    given(*PAST, DELETION, failed).when(DeleteVolume(volume="pg")).then(DELETION)
