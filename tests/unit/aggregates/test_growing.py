"""Snapshots and thin pools are given more room: set aside first, and never more than there is."""

from typing import Any

from msgspec.structs import replace

from aggregates.ledger import room_bytes
from schemas.disk import DiskHealthChanged, Health
from schemas.growing import (
    ExtendThinPool,
    GrowSnapshot,
    GrowThinPool,
    SnapshotGrown,
    SnapshotGrowthBegan,
    SnapshotGrowthFailed,
    ThinPoolGrown,
    ThinPoolGrowthAbandoned,
    ThinPoolGrowthBegan,
    ThinPoolGrowthWanted,
    ThinPoolKept,
)
from schemas.node import NodeFellSilent
from schemas.pool import (
    AbandonPool,
    GrowPool,
    PoolOperationEnded,
    ReportPoolBuilt,
    ReportThinFill,
    Reserve,
    ThinPoolFilled,
)
from schemas.refusals import Refusal
from schemas.snapshot import (
    ConcludeSnapshot,
    DeleteSnapshot,
    ReportSnapshotFill,
    SnapshotCreated,
    SnapshotFailed,
    SnapshotFilled,
)
from schemas.volume import VolumeUnlocked
from tests.support.given import GIB, MIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import DEADLINE, POOL_UID, pool_facts, pool_ready, volume_ready
from tests.unit.aggregates.test_snapshot import BEGAN, CREATED, LOCKED, SNAPSHOT_UID, UNLOCKED

PAST = (*pool_ready("n1"), *volume_ready("n1"))
SNAPSHOT = (*PAST, BEGAN, LOCKED, CREATED, UNLOCKED)
GROW = GrowSnapshot(snapshot="s", reserve_bytes=300 * MIB)
GROWTH = SnapshotGrowthBegan(
    snapshot="s",
    uid=SNAPSHOT_UID,
    operation=OPERATION,
    deadline=DEADLINE,
    volume="pg",
    volume_uid=UID,
    node="n1",
    pool="fast",
    from_bytes=208 * MIB,
    reserve_bytes=300 * MIB,
)
FILLED = SnapshotFilled(snapshot="s", data_percent=85)
THIN = pool_ready("n1", thin_bytes=4 * GIB)
POOL: dict[str, Any] = {"pool": "fast", "node": "n1"}
MORE = GrowThinPool(**POOL, thin_bytes=5 * GIB)
THIN_BEGAN = ThinPoolGrowthBegan(
    **POOL,
    operation=OPERATION,
    deadline=DEADLINE,
    from_bytes=4 * GIB,
    thin_bytes=5 * GIB,
    metadata_bytes=0,
    reserved_bytes=GIB + 2 * 8 * MIB,
)
WANTED = ThinPoolGrowthWanted(**POOL, uid=POOL_UID, thin_bytes=5 * GIB, metadata_bytes=0)
GROWN_FACTS = replace(
    pool_facts("n1", thin_bytes=4 * GIB), thin_bytes=5 * GIB, thin_overhead_bytes=24 * MIB
)
GROWN = ThinPoolGrown(**POOL, uid=POOL_UID, facts=GROWN_FACTS)
ABANDON = AbandonPool(**POOL, operation=OPERATION, code=Refusal.CANCELLED, because="enough")
ABANDONED = ThinPoolGrowthAbandoned(
    **POOL,
    uid=POOL_UID,
    operation=OPERATION,
    code=Refusal.CANCELLED,
    because="enough",
    thin_bytes=4 * GIB,
)


def built(facts: Any) -> ReportPoolBuilt:
    return ReportPoolBuilt(**POOL, uid=POOL_UID, facts=facts)


def room(*past: Any) -> int:
    pool = given(*past).world.pools["n1", "fast"]
    assert pool.usable is not None
    return room_bytes(pool.ledger, pool.usable)


def test_a_snapshot_grows_to_whole_extents_and_no_further_than_it_could_use() -> None:
    given(*SNAPSHOT).when(GROW).then(GROWTH)
    odd = replace(GROW, reserve_bytes=300 * MIB - 1)
    given(*SNAPSHOT).when(odd).then(GROWTH)
    # 1 GiB are 262144 chunks, 1025 tables and 2 at the head: 1028 MiB and a little.
    most = replace(GROWTH, reserve_bytes=1032 * MIB)
    given(*SNAPSHOT).when(replace(GROW, reserve_bytes=5 * GIB)).then(most)


def test_a_snapshot_that_has_enough_is_given_no_more() -> None:
    small = replace(GROW, reserve_bytes=208 * MIB)
    given(*SNAPSHOT).when(small).refused(Refusal.RESERVE_ENOUGH, "208 MiB")
    full = replace(CREATED, reserve_bytes=1032 * MIB)
    given(*PAST, BEGAN, LOCKED, full, UNLOCKED).when(replace(GROW, reserve_bytes=5 * GIB)).refused(
        Refusal.RESERVE_ENOUGH, "all that it can use"
    )


def test_what_cannot_be_given_more_room_says_why() -> None:
    lost = SnapshotFailed(
        snapshot="s", uid=SNAPSHOT_UID, code=Refusal.SNAPSHOT_LOST, because="full"
    )
    given(*SNAPSHOT, lost).when(GROW).refused(Refusal.SNAPSHOT_LOST)
    given(*PAST).when(GROW).refused(Refusal.UNKNOWN_SNAPSHOT)
    given(*SNAPSHOT, GROWTH).when(GROW).refused(Refusal.SNAPSHOT_BUSY)
    given(*SNAPSHOT, NodeFellSilent(node="n1", last_heard=NOON)).when(GROW).refused(
        Refusal.NODE_SILENT
    )
    failing = DiskHealthChanged(disk="n1-d0", node="n1", health=Health.FAILING, reasons=("old",))
    given(*SNAPSHOT, failing).when(GROW).refused(Refusal.POOL_DISK_FAILING)
    tight = (*pool_ready("n1", size_bytes=GIB + 80 * MIB), *SNAPSHOT[len(pool_ready("n1")) :])
    given(*tight).when(GROW).refused(Refusal.CAPACITY)


def test_a_snapshot_that_grows_is_busy_and_its_level_is_told_anew() -> None:
    begun = (*SNAPSHOT, FILLED, GROWTH, LOCKED)
    given(*begun).when(DeleteSnapshot(snapshot="s")).refused(Refusal.SNAPSHOT_BUSY)
    done = ConcludeSnapshot(snapshot="s", operation=OPERATION, reserve_bytes=300 * MIB)
    grown = SnapshotGrown(snapshot="s", operation=OPERATION, reserve_bytes=300 * MIB)
    given(*begun).when(done).then(grown)
    after = (*begun, grown, UNLOCKED)
    snapshot = given(*after).world.snapshots["s"]
    assert (snapshot.reserve_bytes, snapshot.fill_percent, snapshot.operation) == (300 * MIB, 0, "")
    late = ReportSnapshotFill(
        snapshot="s", uid=SNAPSHOT_UID, data_percent=85, reserve_bytes=208 * MIB
    )
    given(*after).when(late).nothing()
    given(*after).when(replace(late, reserve_bytes=300 * MIB)).then(FILLED)


def test_a_snapshot_that_did_not_grow_is_what_it_was() -> None:
    begun = (*SNAPSHOT, FILLED, GROWTH, LOCKED)
    failed = ConcludeSnapshot(
        snapshot="s",
        operation=OPERATION,
        reserve_bytes=208 * MIB,
        code=Refusal.DEADLINE,
        because="late",
    )
    event = SnapshotGrowthFailed(
        snapshot="s",
        operation=OPERATION,
        reserve_bytes=208 * MIB,
        code=Refusal.DEADLINE,
        because="late",
    )
    given(*begun).when(failed).then(event)
    unlocked = VolumeUnlocked(volume="pg", operation=OPERATION, snapshot="s")
    after = given(*begun, event, unlocked).world.snapshots
    assert after == given(*SNAPSHOT, FILLED).world.snapshots


def test_snapshots_from_before_there_were_reserves_have_the_one_they_were_created_with() -> None:
    old = SnapshotCreated(snapshot="s", uid=SNAPSHOT_UID, operation=OPERATION, reserve_bytes=8)
    assert given(*PAST, BEGAN, LOCKED, old).world.snapshots["s"].reserve_bytes == 8


def test_a_thin_pool_grows_with_room_set_aside_for_data_metadata_and_spare() -> None:
    given(*THIN).when(MORE).then(THIN_BEGAN)
    before = room(*THIN)
    assert room(*THIN, THIN_BEGAN) == before - THIN_BEGAN.reserved_bytes
    all_of_it = Reserve(**POOL, claim=OTHER, size_bytes=before, operation=OPERATION)
    given(*THIN, THIN_BEGAN).when(all_of_it).refused(Refusal.CAPACITY)
    given(*THIN, THIN_BEGAN).when(ExtendThinPool(**POOL, operation=OPERATION)).then(WANTED)
    given(*THIN, THIN_BEGAN, WANTED).when(built(GROWN_FACTS)).then(GROWN)
    filled = ThinPoolFilled(**POOL, data_percent=85, metadata_percent=60)
    pool = given(*THIN, filled, THIN_BEGAN, WANTED, GROWN).world.pools["n1", "fast"]
    assert (pool.thin_percent, pool.thin_metadata_percent, pool.thin_growth) == (0, 0, None)
    assert pool.thin_bytes == 5 * GIB
    ended = PoolOperationEnded(**POOL, operation=OPERATION)
    assert room(*THIN, THIN_BEGAN, WANTED, GROWN, ended) == before - GIB - 16 * MIB


def test_metadata_grows_on_request_and_no_stale_word_counts_as_done() -> None:
    wish = GrowThinPool(**POOL, thin_bytes=4 * GIB, metadata_bytes=11 * MIB)
    began = replace(
        THIN_BEGAN, thin_bytes=4 * GIB, metadata_bytes=12 * MIB, reserved_bytes=2 * 8 * MIB
    )
    given(*THIN).when(wish).then(began)
    wanted = replace(WANTED, thin_bytes=4 * GIB, metadata_bytes=12 * MIB)
    facts = pool_facts("n1", thin_bytes=4 * GIB)
    given(*THIN, began, wanted).when(built(facts)).nothing()
    done = replace(facts, thin_overhead_bytes=24 * MIB)
    given(*THIN, began, wanted).when(built(done)).then(replace(GROWN, facts=done))


def test_a_thin_pool_that_cannot_grow_says_why() -> None:
    given(*pool_ready("n1")).when(MORE).refused(Refusal.NO_THIN_POOL)
    given(*THIN).when(replace(MORE, thin_bytes=4 * GIB)).refused(Refusal.THIN_NOT_LARGER, "4 GiB")
    given(*THIN).when(replace(MORE, thin_bytes=3 * GIB, metadata_bytes=GIB)).refused(
        Refusal.THIN_NOT_LARGER
    )
    given(*THIN).when(replace(MORE, thin_bytes=20 * GIB)).refused(Refusal.CAPACITY, "metadata")
    given(*THIN, THIN_BEGAN).when(MORE).refused(Refusal.POOL_BUSY)
    given(*THIN, NodeFellSilent(node="n1", last_heard=NOON)).when(MORE).refused(Refusal.NODE_SILENT)
    given().when(MORE).refused(Refusal.UNKNOWN_POOL)
    other = ExtendThinPool(**POOL, operation=OTHER)
    given(*THIN, THIN_BEGAN).when(other).refused(Refusal.NOT_YOURS)


def test_a_growth_that_is_given_up_ends_when_the_node_has_said_what_there_is() -> None:
    facts = pool_facts("n1", thin_bytes=4 * GIB)
    kept = ThinPoolKept(**POOL, uid=POOL_UID, facts=facts)
    given(*THIN, THIN_BEGAN).when(ABANDON).then(ABANDONED, kept)
    given(*THIN, THIN_BEGAN, WANTED).when(ABANDON).then(ABANDONED)
    waiting = (*THIN, THIN_BEGAN, WANTED, ABANDONED)
    assert room(*waiting) == room(*THIN, THIN_BEGAN)
    ended = PoolOperationEnded(**POOL, operation=OPERATION)
    grow = GrowPool(**POOL, disks=("n1-d5",))
    given(*waiting, ended).when(grow).refused(Refusal.POOL_NOT_READY)
    given(*waiting).when(built(GROWN_FACTS)).then(replace(kept, facts=GROWN_FACTS))
    assert room(*waiting, kept) == room(*THIN)


def test_how_full_a_thin_pool_was_before_it_grew_is_late_news() -> None:
    grown = (*THIN, THIN_BEGAN, WANTED, GROWN)
    report = ReportThinFill(**POOL, data_percent=85, thin_bytes=4 * GIB)
    given(*grown).when(report).nothing()
    given(*grown).when(replace(report, thin_bytes=5 * GIB, metadata_percent=60)).then(
        ThinPoolFilled(**POOL, data_percent=85, metadata_percent=60)
    )
    given(*THIN).when(replace(report, thin_bytes=0)).then(ThinPoolFilled(**POOL, data_percent=85))
