"""A disk that says that it is failing gets nothing new, and what is on it stays in use."""

import pytest
from msgspec.structs import replace

from schemas.answers import Refused
from schemas.deleting import DeleteVolume
from schemas.disk import (
    ClaimDisk,
    DiskForgotten,
    DiskFound,
    DiskGone,
    DiskHealthChanged,
    Health,
    ReportDiskHealth,
)
from schemas.grammar import Event, Message
from schemas.node import Drift, DriftFound, DriftSettled, Finding
from schemas.pool import FormPool, GrowPool, ReportSettled, Reserve, RoomReserved
from schemas.refusals import Refusal
from schemas.volume import GrowVolume, ProvisionVolume, VolumeProvisioningBegan
from tests.support.given import GIB, OPERATION, OTHER, UID, given
from tests.support.words import disk, node_with_disks, pool_ready, sighting, volume_ready

BAD = "1 or more media errors"
REPORT = ReportDiskHealth(disk="d", node="n1", health=Health.FAILING, reasons=(BAD,))
FOUND = DiskFound(disk="d", node="n1", sighting=sighting())
CHANGED = DiskHealthChanged(disk="d", node="n1", health=Health.FAILING, reasons=(BAD,))
WELL = replace(REPORT, health=Health.HEALTHY, reasons=())
RECOVERED = replace(CHANGED, health=Health.HEALTHY, reasons=())
PROVISION = ProvisionVolume(volume="new", size_bytes=GIB)


def failing(node: str, number: int = 0) -> DiskHealthChanged:
    return replace(CHANGED, disk=disk(node, number), node=node)


def test_health_is_told_when_it_changes() -> None:
    given(FOUND).when(REPORT).then(CHANGED)
    given(FOUND, CHANGED).when(REPORT).nothing()
    other = replace(REPORT, reasons=(BAD, "it has become read-only"))
    given(FOUND, CHANGED).when(other).then(replace(CHANGED, reasons=other.reasons))
    given(FOUND, CHANGED).when(WELL).then(RECOVERED)


def test_a_disk_without_smart_is_unknown_from_the_beginning() -> None:
    silent = replace(REPORT, health=Health.UNKNOWN, reasons=())
    given(FOUND).when(silent).nothing()
    told = DiskHealthChanged(disk="d", node="n1", health=Health.UNKNOWN)
    given(FOUND, RECOVERED).when(silent).then(told)


def test_a_failing_disk_that_no_longer_answers_has_not_recovered() -> None:
    silent = replace(REPORT, health=Health.UNKNOWN, reasons=())
    given(FOUND, CHANGED).when(silent).nothing()


def test_health_outlives_that_the_disk_is_pulled_and_may_be_told_before_the_disk_is() -> None:
    gone = DiskGone(disk="d", node="n1")
    there = replace(FOUND, node="n2", moved_from="n1")
    for past in ((FOUND, CHANGED, gone, there), (CHANGED, FOUND)):
        assert given(*past).world.disks["d"].health is Health.FAILING
    forgotten = (FOUND, CHANGED, gone, DiskForgotten(disk="d", node="n1"))
    assert given(*forgotten).world.disks == {}


@pytest.mark.parametrize(
    "wish",
    [
        FormPool(pool="fast", node="n1", disks=("n1-d0", "n1-d1")),
        ClaimDisk(disk="n1-d1", node="n1", pool="fast", operation=OPERATION),
    ],
)
def test_a_failing_disk_is_put_in_no_pool(wish: Message) -> None:
    past = (*node_with_disks("n1"), failing("n1", 1))
    given(*past).when(wish).refused(Refusal.DISK_FAILING, "n1-d1", BAD)
    decision = given(*past, replace(failing("n1", 1), health=Health.HEALTHY)).decide(wish)
    assert not isinstance(decision, Refused)


def test_a_pool_grows_by_disks_that_are_well_even_if_one_of_its_own_is_failing() -> None:
    more = DiskFound(disk="spare", node="n1", sighting=sighting())
    past = (*pool_ready("n1"), failing("n1"), more)
    decision = given(*past).decide(GrowPool(pool="fast", node="n1", disks=("spare",)))
    assert not isinstance(decision, Refused)


def test_a_volume_goes_to_another_pool_than_one_with_a_failing_disk() -> None:
    past = (*pool_ready("n1", size_bytes=90 * GIB), failing("n1", 1), *pool_ready("n2"))
    decision = given(*past).decide(PROVISION)
    assert not isinstance(decision, Refused)
    [event] = decision
    assert isinstance(event, VolumeProvisioningBegan)
    first, second = event.candidates
    assert (first.node, first.code) == ("n2", None)
    assert (second.node, second.code) == ("n1", Refusal.POOL_DISK_FAILING)
    assert disk("n1", 1) in second.because


def test_where_every_pool_has_a_failing_disk_a_volume_is_refused_and_the_disks_are_named() -> None:
    past = (*pool_ready("n1"), failing("n1"), *pool_ready("n2"), failing("n2"))
    given(*past).when(PROVISION).refused(Refusal.POOL_DISK_FAILING, "n1-d0", "n2-d0", BAD)


def test_a_volume_on_a_failing_disk_does_not_grow_but_can_be_deleted() -> None:
    past = (*pool_ready("n1"), *volume_ready("n1"), failing("n1"))
    grow = GrowVolume(volume="pg", size_bytes=2 * GIB)
    given(*past).when(grow).refused(Refusal.POOL_DISK_FAILING, "n1-d0")
    assert not isinstance(given(*past).decide(DeleteVolume(volume="pg")), Refused)


def test_the_ledger_sets_nothing_aside_on_a_failing_disk_but_keeps_its_books() -> None:
    reserve = Reserve(pool="fast", node="n1", claim=UID, size_bytes=GIB, operation=OTHER)
    past: tuple[Event, ...] = (*pool_ready("n1"), failing("n1"))
    given(*past).when(reserve).refused(Refusal.POOL_DISK_FAILING, "n1-d0")
    told = (
        *pool_ready("n1"),
        RoomReserved(pool="fast", node="n1", claim=UID, size_bytes=GIB, operation=OTHER),
        failing("n1"),
    )
    given(*told).when(reserve).nothing()
    settled = ReportSettled(pool="fast", node="n1", claim=UID, size_bytes=GIB)
    assert not isinstance(given(*told).decide(settled), Refused)


TORN = Finding(drift=Drift.POOL_DISK_MISSING, object="pool/n1/fast", observed="missing: n1-d1")


def test_a_pool_that_misses_a_disk_takes_nothing_until_it_is_whole_again() -> None:
    past = (*pool_ready("n1"), *volume_ready("n1"))
    torn, mended = DriftFound(node="n1", finding=TORN), DriftSettled(node="n1", finding=TORN)
    for wish in (
        PROVISION,
        GrowVolume(volume="pg", size_bytes=2 * GIB),
        Reserve(pool="fast", node="n1", claim=OTHER, size_bytes=GIB, operation=OTHER),
    ):
        given(*past, torn).when(wish).refused(Refusal.POOL_DISK_MISSING, "n1-d1")
        assert not isinstance(given(*past, torn, mended).decide(wish), Refused)
    assert not isinstance(given(*past, torn).decide(DeleteVolume(volume="pg")), Refused)


def test_a_pool_is_not_held_up_by_what_another_one_misses() -> None:
    elsewhere = replace(TORN, object="pool/n1/slow")
    past = (*pool_ready("n1"), DriftFound(node="n1", finding=elsewhere))
    assert not isinstance(given(*past).decide(PROVISION), Refused)
