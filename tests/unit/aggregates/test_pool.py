from typing import Any

from msgspec.structs import replace

from schemas.disk import DiskClaimed
from schemas.node import NodeFellSilent, NodeJoined
from schemas.pool import (
    AbandonPool,
    BuildPool,
    ConcludePool,
    ExtendPool,
    FormPool,
    GrowPool,
    PoolBuildWanted,
    PoolDisksDropped,
    PoolExtensionWanted,
    PoolFactsChanged,
    PoolFormed,
    PoolFormingBegan,
    PoolGrown,
    PoolGrowthAbandoned,
    PoolGrowthBegan,
    PoolOperationEnded,
    PoolRemovalAbandoned,
    PoolRemovalBegan,
    PoolRemovalWanted,
    PoolRemoved,
    PoolTroubled,
    RemovePool,
    ReportPoolAbsent,
    ReportPoolBuilt,
    ReportPoolTrouble,
    ReportReleased,
    ReportSettled,
    ReportThinFill,
    ReportUnreserved,
    Reserve,
    RoomReleased,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
    TearDownPool,
    ThinPoolFilled,
)
from schemas.refusals import Refusal
from tests.support.given import GIB, MIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import (
    DEADLINE,
    POOL_UID,
    disk,
    node_with_disks,
    pool_facts,
    pool_ready,
)

HERE: dict[str, Any] = {"pool": "fast", "node": "n1"}
FORM = FormPool(**HERE, disks=("n1-d0", "n1-d1"))
BEGAN = PoolFormingBegan(
    **HERE, uid=UID, operation=OPERATION, deadline=DEADLINE, disks=("n1-d0", "n1-d1")
)
WANTED = PoolBuildWanted(**HERE, uid=UID, disks=("n1-d0", "n1-d1"))
READY = pool_ready("n1")
GROWTH = PoolGrowthBegan(**HERE, operation=OPERATION, deadline=DEADLINE, disks=("n1-d2",))
EXTENSION = PoolExtensionWanted(**HERE, uid=POOL_UID, disks=("n1-d0", "n1-d1", "n1-d2"))
REMOVAL = PoolRemovalBegan(**HERE, operation=OPERATION, deadline=DEADLINE)
TEAR_DOWN = PoolRemovalWanted(**HERE, uid=POOL_UID, operation=OPERATION)
GIVEN_UP: dict[str, Any] = {"operation": OPERATION, "code": Refusal.DEADLINE, "because": "late"}


def reserve(size_bytes: int, claim: str = UID, **more: Any) -> Reserve:
    wish = Reserve(**HERE, claim=claim, size_bytes=size_bytes, operation=OPERATION)
    return replace(wish, **more)


def reserved(size_bytes: int, claim: str = UID, *, thin: bool = False) -> RoomReserved:
    return RoomReserved(**HERE, claim=claim, size_bytes=size_bytes, operation=OPERATION, thin=thin)


def test_a_pool_is_formed_of_blank_disks_of_its_node() -> None:
    given(*node_with_disks("n1")).when(FORM).then(BEGAN)


def test_a_pool_is_not_formed_of_what_is_not_there() -> None:
    given().when(FORM).refused(Refusal.UNKNOWN_NODE, "n1")
    given(NodeJoined(node="n1")).when(FORM).refused(Refusal.UNKNOWN_DISK, "n1-d0")


def test_a_disk_named_twice_is_a_mistake() -> None:
    twice = FormPool(**HERE, disks=("n1-d0", "n1-d0"))
    given(*node_with_disks("n1")).when(twice).refused(Refusal.NO_DISKS_NAMED)


def test_a_disk_of_another_pool_is_not_taken() -> None:
    claimed = DiskClaimed(disk="n1-d1", node="n1", pool="slow", operation=OTHER)
    given(*node_with_disks("n1"), claimed).when(FORM).refused(Refusal.DISK_CLAIMED, "slow")


def test_nothing_is_formed_on_a_node_that_is_not_heard() -> None:
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    given(*node_with_disks("n1"), silent).when(FORM).refused(Refusal.NODE_SILENT)


def test_a_thin_pool_has_to_fit_on_the_disks() -> None:
    wish = FormPool(**HERE, disks=("n1-d0",), thin_bytes=21 * GIB)
    given(*node_with_disks("n1")).when(wish).refused(Refusal.CAPACITY)


def test_a_name_is_given_once_on_a_node() -> None:
    given(*READY).when(FORM).refused(Refusal.POOL_EXISTS, "fast")


def test_the_node_is_asked_once_the_disks_are_claimed() -> None:
    past = (*node_with_disks("n1"), BEGAN)
    build = BuildPool(**HERE, operation=OPERATION)
    given(*past).when(build).then(WANTED)
    given(*past, WANTED).when(build).nothing()
    given(*past).when(BuildPool(**HERE, operation=OTHER)).refused(Refusal.NOT_YOURS)


def test_a_pool_is_ready_when_its_node_says_so_and_was_asked() -> None:
    past = (*node_with_disks("n1"), BEGAN)
    built = ReportPoolBuilt(**HERE, uid=UID, facts=pool_facts("n1"))
    formed = PoolFormed(**HERE, uid=UID, facts=pool_facts("n1"))
    given(*past).when(built).nothing()
    given(*past, WANTED).when(built).then(formed)
    given(*past, WANTED, formed).when(built).nothing()


def test_forming_given_up_before_the_node_was_asked_leaves_nothing() -> None:
    past = (*node_with_disks("n1"), BEGAN)
    removed = PoolRemoved(**HERE, uid=UID, disks=("n1-d0", "n1-d1"))
    given(*past).when(AbandonPool(**HERE, **GIVEN_UP)).then(removed)


def test_forming_given_up_later_has_the_node_take_it_apart() -> None:
    past = (*node_with_disks("n1"), BEGAN, WANTED)
    going = PoolRemovalWanted(**HERE, uid=UID, operation=OPERATION, because="late")
    removed = PoolRemoved(**HERE, uid=UID, disks=("n1-d0", "n1-d1"))
    given(*past).when(AbandonPool(**HERE, **GIVEN_UP)).then(going)
    given(*past, going).when(ReportPoolAbsent(**HERE, uid=UID)).then(removed)
    given(*past).when(ReportPoolAbsent(**HERE, uid=UID)).nothing()


def test_room_is_reserved_in_whole_extents() -> None:
    given(*READY).when(reserve(1)).then(reserved(4 * MIB))
    given(*READY).when(reserve(5 * MIB, stripes=2)).then(reserved(8 * MIB))


def test_what_is_reserved_counts_as_used() -> None:
    past = (*READY, reserved(15 * GIB, OTHER))
    given(*past).when(reserve(5 * GIB)).then(reserved(5 * GIB))
    given(*past).when(reserve(5 * GIB + 1)).refused(Refusal.CAPACITY, str(5 * GIB))


def test_reserving_again_for_the_same_claim_is_no_news() -> None:
    given(*READY, reserved(GIB)).when(reserve(GIB)).nothing()


def test_what_an_earlier_operation_has_not_settled_is_added_to_by_no_other() -> None:
    later = reserve(GIB, operation=OTHER)
    given(*READY, reserved(GIB)).when(later).refused(Refusal.REPLICA_BUSY, OPERATION)
    given(*READY, reserved(GIB)).when(replace(later, first=False)).refused(Refusal.REPLICA_BUSY)
    settled = RoomSettled(**HERE, claim=UID, size_bytes=GIB)
    given(*READY, settled).when(later).refused(Refusal.REPLICA_BUSY, "not been removed yet")
    more = replace(reserved(GIB), operation=OTHER)
    given(*READY, settled).when(replace(later, first=False)).then(more)


def test_what_lvm_takes_replaces_what_was_set_aside() -> None:
    settled = RoomSettled(**HERE, claim=UID, size_bytes=3 * GIB)
    past = (*READY, reserved(2 * GIB))
    report = ReportSettled(**HERE, claim=UID, size_bytes=3 * GIB)
    given(*past).when(report).then(settled)
    given(*past, settled).when(report).nothing()
    ledger = given(*past, settled).world.pools["n1", "fast"].ledger
    assert (ledger.thick_reserved_bytes, ledger.thick_settled_bytes) == (0, 3 * GIB)


def test_what_is_seen_is_booked_even_beyond_what_there_should_be() -> None:
    report = ReportSettled(**HERE, claim=UID, size_bytes=30 * GIB)
    given(*READY).when(report).then(RoomSettled(**HERE, claim=UID, size_bytes=30 * GIB))


def test_room_comes_back_when_nothing_of_the_claim_is_left() -> None:
    past = (*READY, reserved(GIB), RoomSettled(**HERE, claim=UID, size_bytes=GIB))
    released = RoomReleased(**HERE, claim=UID)
    given(*past).when(ReportReleased(**HERE, claim=UID)).then(released)
    given(*past, released).when(ReportReleased(**HERE, claim=UID)).nothing()
    assert given(*past, released).world.pools["n1", "fast"].ledger.empty


def test_what_was_set_aside_and_not_used_comes_back() -> None:
    back = RoomUnreserved(**HERE, claim=UID)
    given(*READY, reserved(GIB)).when(ReportUnreserved(**HERE, claim=UID)).then(back)
    given(*READY).when(ReportUnreserved(**HERE, claim=UID)).nothing()


def test_a_pool_holds_as_many_volumes_as_it_may() -> None:
    past = (*pool_ready("n1", volumes_max=1), reserved(GIB, OTHER))
    given(*past).when(reserve(GIB)).refused(Refusal.VOLUME_LIMIT)


def test_metadata_space_is_a_dimension_of_its_own() -> None:
    tight = PoolFactsChanged(
        **HERE, uid=POOL_UID, facts=replace(pool_facts("n1"), metadata_bytes=2047)
    )
    past = (*READY, tight, reserved(GIB, OTHER))
    given(*past).when(reserve(GIB)).refused(Refusal.METADATA, "2047")


def test_more_stripes_than_disks_are_refused() -> None:
    given(*READY).when(reserve(GIB, stripes=3)).refused(Refusal.TOO_FEW_DISKS, "2 disks")


def test_thin_volumes_need_a_thin_pool() -> None:
    given(*READY).when(reserve(GIB, thin=True)).refused(Refusal.NO_THIN_POOL)


def test_a_thin_pool_promises_up_to_its_ratio_and_no_more() -> None:
    past = (
        *pool_ready("n1", thin_bytes=10 * GIB, thin_ratio_percent=200),
        reserved(15 * GIB, OTHER, thin=True),
    )
    given(*past).when(reserve(5 * GIB, thin=True)).then(reserved(5 * GIB, thin=True))
    given(*past).when(reserve(5 * GIB + 1, thin=True)).refused(Refusal.THIN_RATIO)


def test_a_thin_pool_takes_its_room_from_the_thick_volumes() -> None:
    past = pool_ready("n1", thin_bytes=10 * GIB)
    given(*past).when(reserve(10 * GIB - 8 * MIB)).then(reserved(10 * GIB - 8 * MIB))
    given(*past).when(reserve(10 * GIB)).refused(Refusal.CAPACITY)


def test_nothing_is_reserved_in_a_pool_that_is_not_there_or_going() -> None:
    given().when(reserve(GIB)).refused(Refusal.UNKNOWN_POOL)
    given(*READY, REMOVAL).when(reserve(GIB)).refused(Refusal.POOL_NOT_READY, "removing")


def test_a_pool_grows_by_a_blank_disk() -> None:
    past = (*READY, *node_with_disks("n1", 3)[3:])
    grow = GrowPool(**HERE, disks=("n1-d2",))
    given(*past).when(grow).then(GROWTH)
    given(*past, GROWTH).when(grow).refused(Refusal.POOL_BUSY, OPERATION)
    given(*READY).when(grow).refused(Refusal.UNKNOWN_DISK)
    given().when(grow).refused(Refusal.UNKNOWN_POOL)


def test_growth_is_done_when_the_node_shows_the_new_disk() -> None:
    past = (*READY, GROWTH, EXTENSION)
    given(*READY, GROWTH).when(ExtendPool(**HERE, operation=OPERATION)).then(EXTENSION)
    more = pool_facts("n1", 3, 30 * GIB)
    grown = PoolGrown(**HERE, uid=POOL_UID, facts=more)
    given(*past).when(ReportPoolBuilt(**HERE, uid=POOL_UID, facts=more)).then(grown)
    same = ReportPoolBuilt(**HERE, uid=POOL_UID, facts=pool_facts("n1"))
    given(*past).when(same).nothing()
    assert given(*past, grown).world.pools["n1", "fast"].disks == tuple(
        disk("n1", n) for n in range(3)
    )


def test_growth_given_up_before_the_node_was_asked_drops_the_disks_at_once() -> None:
    given_up = PoolGrowthAbandoned(
        **HERE, **GIVEN_UP, uid=POOL_UID, disks=("n1-d0", "n1-d1"), dropped=("n1-d2",)
    )
    dropped = PoolDisksDropped(**HERE, disks=("n1-d2",))
    given(*READY, GROWTH).when(AbandonPool(**HERE, **GIVEN_UP)).then(given_up, dropped)


def test_growth_given_up_later_waits_for_the_node_to_drop_the_disks() -> None:
    past = (*READY, GROWTH, EXTENSION)
    given_up = PoolGrowthAbandoned(
        **HERE, **GIVEN_UP, uid=POOL_UID, disks=("n1-d0", "n1-d1"), dropped=("n1-d2",)
    )
    given(*past).when(AbandonPool(**HERE, **GIVEN_UP)).then(given_up)
    still = ReportPoolBuilt(**HERE, uid=POOL_UID, facts=pool_facts("n1", 3, 30 * GIB))
    given(*past, given_up).when(still).then(
        PoolFactsChanged(**HERE, uid=POOL_UID, facts=still.facts)
    )
    without = ReportPoolBuilt(**HERE, uid=POOL_UID, facts=pool_facts("n1"))
    given(*past, given_up).when(without).then(PoolDisksDropped(**HERE, disks=("n1-d2",)))


def test_a_pool_that_carries_anything_is_not_removed() -> None:
    given(*READY, reserved(GIB)).when(RemovePool(**HERE)).refused(Refusal.POOL_IN_USE)


def test_an_empty_pool_is_removed_by_its_node() -> None:
    removed = PoolRemoved(**HERE, uid=POOL_UID, disks=("n1-d0", "n1-d1"))
    given(*READY).when(RemovePool(**HERE)).then(REMOVAL)
    given(*READY, REMOVAL).when(TearDownPool(**HERE, operation=OPERATION)).then(TEAR_DOWN)
    absent = ReportPoolAbsent(**HERE, uid=POOL_UID)
    given(*READY, REMOVAL, TEAR_DOWN).when(absent).then(removed)
    assert given(*READY, REMOVAL, TEAR_DOWN, removed).world.pools == {}


def test_removal_given_up_in_time_keeps_the_pool() -> None:
    kept = PoolRemovalAbandoned(**HERE, **GIVEN_UP, uid=POOL_UID)
    given(*READY, REMOVAL).when(AbandonPool(**HERE, **GIVEN_UP)).then(kept)
    given(*READY, REMOVAL, TEAR_DOWN).when(AbandonPool(**HERE, **GIVEN_UP)).nothing()
    ended = PoolOperationEnded(**HERE, operation=OPERATION)
    given(*READY, REMOVAL, kept).when(ConcludePool(**HERE, operation=OPERATION)).then(ended)
    given(*READY, REMOVAL, kept, ended).when(reserve(GIB)).then(reserved(GIB))


def test_the_same_passing_trouble_is_news_once() -> None:
    trouble = ReportPoolTrouble(
        **HERE, uid=POOL_UID, code=Refusal.TOOL_FAILED, because="vgextend: 5"
    )
    noted = PoolTroubled(**HERE, code=Refusal.TOOL_FAILED, because="vgextend: 5")
    given(*READY).when(trouble).then(noted)
    given(*READY, noted).when(trouble).nothing()
    lasting = replace(trouble, permanent=True)
    given(*READY, noted).when(lasting).then(replace(noted, permanent=True))


def test_the_fill_of_a_thin_pool_is_news_when_it_passes_a_mark() -> None:
    past = pool_ready("n1", thin_bytes=10 * GIB)
    filled = ThinPoolFilled(**HERE, data_percent=80)
    given(*past).when(ReportThinFill(**HERE, data_percent=80)).then(filled)
    given(*past, filled).when(ReportThinFill(**HERE, data_percent=80)).nothing()
    given(*READY).when(ReportThinFill(**HERE, data_percent=80)).nothing()
