"""Disks leave a pool in use only when what it holds fits on the others."""

from typing import Any

from schemas.disk import DiskGone
from schemas.grammar import Event
from schemas.node import NodeFellSilent
from schemas.pool import (
    AbandonPool,
    GrowPool,
    PoolDisksDropped,
    PoolFactsChanged,
    PoolOperationEnded,
    RemovePool,
    ReportPoolBuilt,
    Reserve,
    RoomReserved,
    RoomSettled,
)
from schemas.refusals import Refusal
from schemas.shrinking import (
    DrainDisks,
    PoolDisksKept,
    PoolShrinkAbandoned,
    PoolShrinkBegan,
    PoolShrinkWanted,
    PoolShrunk,
    ShrinkPool,
)
from schemas.volume import Layout, ProvisionVolume, VolumeProvisioned, VolumeProvisioningBegan
from tests.support.given import GIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import DEADLINE, POOL_UID, pool_facts, pool_ready

HERE: dict[str, Any] = {"pool": "fast", "node": "n1"}
READY = pool_ready("n1", size_bytes=40 * GIB)
SHRINK = ShrinkPool(**HERE, disks=("n1-d1",), deadline_s=600)
BEGAN = PoolShrinkBegan(
    **HERE, operation=OPERATION, deadline=DEADLINE, disks=("n1-d1",), leaving_bytes=20 * GIB
)
DRAIN = DrainDisks(**HERE, operation=OPERATION)
WANTED = PoolShrinkWanted(**HERE, uid=POOL_UID, disks=("n1-d0",), leaving=("n1-d1",))
FEWER = pool_facts("n1", disks=1)
SHRUNK = PoolShrunk(**HERE, uid=POOL_UID, facts=FEWER)
DROPPED = PoolDisksDropped(**HERE, disks=("n1-d1",))
ABANDON = AbandonPool(
    **HERE, operation=OPERATION, code=Refusal.CANCELLED, because="changed my mind"
)
ABANDONED = PoolShrinkAbandoned(
    **HERE,
    uid=POOL_UID,
    operation=OPERATION,
    code=Refusal.CANCELLED,
    because="changed my mind",
    disks=("n1-d0", "n1-d1"),
    kept=("n1-d1",),
)
KEPT = PoolDisksKept(**HERE, disks=("n1-d1",))


def built(**more: Any) -> ReportPoolBuilt:
    facts = more.pop("facts", pool_facts("n1", size_bytes=40 * GIB))
    return ReportPoolBuilt(**HERE, uid=POOL_UID, facts=facts)


def taken(gib: int) -> Event:
    return RoomSettled(**HERE, claim=UID, size_bytes=gib * GIB)


def test_disks_leave_one_operation_after_the_room_was_given_up() -> None:
    given(*READY).when(SHRINK).then(BEGAN)
    given(*READY, BEGAN).when(DRAIN).then(WANTED)
    given(*READY, BEGAN, WANTED).when(DRAIN).nothing()


def test_what_is_taken_must_fit_on_the_disks_that_stay() -> None:
    given(*READY, taken(20)).when(SHRINK).then(BEGAN)
    given(*READY, taken(21)).when(SHRINK).refused(Refusal.CAPACITY, "21 GiB", "20 GiB")
    reserved = RoomReserved(**HERE, claim=UID, size_bytes=21 * GIB, operation=OTHER)
    given(*READY, reserved).when(SHRINK).refused(Refusal.CAPACITY, "21 GiB")


def test_what_is_leaving_is_promised_to_nobody() -> None:
    def reserve(gib: int) -> Reserve:
        return Reserve(**HERE, claim=UID, size_bytes=gib * GIB, operation=OTHER)

    given(*READY, BEGAN).when(reserve(21)).refused(Refusal.CAPACITY, "20 GiB")
    wish = ProvisionVolume(volume="pg", size_bytes=21 * GIB)
    given(*READY, BEGAN).when(wish).refused(Refusal.CAPACITY, "20 GiB")
    striped = ProvisionVolume(volume="pg", size_bytes=GIB, layout=Layout.STRIPED, stripes=2)
    given(*READY, BEGAN).when(striped).refused(Refusal.TOO_FEW_DISKS, "1 disks")


def test_only_disks_of_the_pool_that_are_there_can_leave_it() -> None:
    def of(*disks: str) -> ShrinkPool:
        return ShrinkPool(**HERE, disks=disks)

    given(*READY).when(of("n1-d7")).refused(Refusal.DISK_NOT_IN_POOL, "n1-d7")
    given(*READY).when(of("n1-d1", "n1-d1")).refused(Refusal.NO_DISKS_NAMED)
    given(*READY).when(of("n1-d0", "n1-d1")).refused(Refusal.LAST_DISK)
    given(*READY, DiskGone(disk="n1-d1", node="n1")).when(SHRINK).refused(Refusal.DISK_GONE)
    given().when(SHRINK).refused(Refusal.UNKNOWN_POOL)
    given(*READY, NodeFellSilent(node="n1", last_heard=NOON)).when(SHRINK).refused(
        Refusal.NODE_SILENT
    )


def test_a_striped_volume_keeps_a_disk_for_each_of_its_stripes() -> None:
    striped = (
        VolumeProvisioningBegan(
            volume="wide",
            uid=UID,
            operation=OTHER,
            deadline=DEADLINE,
            size_bytes=GIB,
            candidates=(),
            layout=Layout.STRIPED,
            stripes=2,
        ),
        VolumeProvisioned(
            volume="wide", uid=UID, operation=OTHER, node="n1", pool="fast", size_bytes=GIB
        ),
    )
    given(*READY, *striped).when(SHRINK).refused(Refusal.TOO_FEW_DISKS, "2 stripes")


def test_a_pool_that_is_shrinking_is_busy() -> None:
    for word in (SHRINK, GrowPool(**HERE, disks=("x",)), RemovePool(**HERE)):
        given(*READY, BEGAN).when(word).refused(Refusal.POOL_BUSY, OPERATION)


def test_it_has_shrunk_when_the_node_no_longer_names_the_disk() -> None:
    given(*READY, BEGAN, WANTED).when(built(facts=FEWER)).then(SHRUNK, DROPPED)
    pool = given(*READY, BEGAN, WANTED, SHRUNK, DROPPED).world.pools["n1", "fast"]
    assert (pool.disks, pool.leaving, pool.leaving_bytes, pool.dropping) == (("n1-d0",), (), 0, ())
    assert pool.usable == FEWER


def test_a_report_from_before_changes_nothing() -> None:
    given(*READY, BEGAN, WANTED).when(built()).nothing()


def test_a_shrink_that_is_given_up_before_the_node_was_asked_is_over_at_once() -> None:
    given(*READY, BEGAN).when(ABANDON).then(ABANDONED, KEPT)


def test_a_shrink_that_is_given_up_later_waits_for_the_node() -> None:
    past = (*READY, BEGAN, WANTED)
    given(*past).when(ABANDON).then(ABANDONED)
    half_way = built(facts=FEWER)
    changed = PoolFactsChanged(**HERE, uid=POOL_UID, facts=FEWER)
    given(*past, ABANDONED).when(half_way).then(changed)
    given(*past, ABANDONED).when(built()).then(KEPT)
    ended = PoolOperationEnded(**HERE, operation=OPERATION)
    given(*past, ABANDONED, ended).when(SHRINK).refused(Refusal.POOL_NOT_READY)
    given(*past, ABANDONED, KEPT, ended).when(SHRINK).then(BEGAN)


def test_what_has_shrunk_cannot_be_given_up_any_more() -> None:
    given(*READY, BEGAN, WANTED, SHRUNK, DROPPED).when(ABANDON).nothing()
