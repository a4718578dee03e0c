import pytest

from schemas.disk import (
    ClaimDisk,
    Content,
    DiskChanged,
    DiskClaimed,
    DiskClass,
    DiskClassOverridden,
    DiskForgotten,
    DiskFound,
    DiskGone,
    DiskReleased,
    DiskReserved,
    DiskSeenTwice,
    DiskUnreserved,
    OverrideDiskClass,
    ReportDiskForgotten,
    ReportDiskGone,
    ReportDiskReleased,
    ReportDiskSeen,
    ReserveDisk,
    UnreserveDisk,
)
from schemas.refusals import Refusal
from tests.support.given import OPERATION, given
from tests.support.words import sighting

FOUND = DiskFound(disk="d", node="n1", sighting=sighting())
CLAIM = ClaimDisk(disk="d", node="n1", pool="fast", operation=OPERATION)
CLAIMED = DiskClaimed(disk="d", node="n1", pool="fast", operation=OPERATION)


def seen(node: str, content: Content = Content.BLANK) -> ReportDiskSeen:
    return ReportDiskSeen(disk="d", node=node, sighting=sighting(content))


def test_a_disk_is_found_once() -> None:
    given().when(seen("n1")).then(FOUND)
    given(FOUND).when(seen("n1")).nothing()


def test_what_is_on_a_disk_is_news_when_it_changes() -> None:
    changed = DiskChanged(disk="d", node="n1", sighting=sighting(Content.FILESYSTEM))
    given(FOUND).when(seen("n1", Content.FILESYSTEM)).then(changed)


def test_a_disk_that_is_unplugged_and_plugged_in_elsewhere_has_moved() -> None:
    gone = DiskGone(disk="d", node="n1")
    given(FOUND).when(ReportDiskGone(disk="d", node="n1")).then(gone)
    given(FOUND, gone).when(seen("n2")).then(
        DiskFound(disk="d", node="n2", sighting=sighting(), moved_from="n1")
    )
    given(FOUND, gone).when(seen("n1")).then(FOUND)


def test_one_identity_seen_on_two_nodes_is_trusted_on_neither() -> None:
    twice = DiskSeenTwice(disk="d", node="n2", sighting=sighting())
    given(FOUND).when(seen("n2")).then(twice)
    given(FOUND, twice).when(CLAIM).refused(Refusal.DISK_SEEN_TWICE, "n1", "n2")


def test_when_one_of_two_goes_the_other_is_trusted_again() -> None:
    twice = DiskSeenTwice(disk="d", node="n2", sighting=sighting())
    given(FOUND, twice, DiskGone(disk="d", node="n2")).when(CLAIM).then(CLAIMED)


def test_a_disk_nobody_sees_is_not_gone_again() -> None:
    given(FOUND).when(ReportDiskGone(disk="d", node="n2")).nothing()


def test_a_blank_disk_is_claimed_once() -> None:
    given(FOUND).when(CLAIM).then(CLAIMED)
    given(FOUND, CLAIMED).when(CLAIM).nothing()
    other = ClaimDisk(disk="d", node="n1", pool="slow", operation=OPERATION)
    given(FOUND, CLAIMED).when(other).refused(Refusal.DISK_CLAIMED, "n1/fast")


@pytest.mark.parametrize("content", [c for c in Content if c is not Content.BLANK])
def test_a_disk_that_carries_anything_is_never_claimed(content: Content) -> None:
    found = DiskFound(disk="d", node="n1", sighting=sighting(content))
    given(found).when(CLAIM).refused(Refusal.DISK_NOT_BLANK, content.value)


def test_an_unknown_disk_is_not_claimed() -> None:
    given().when(CLAIM).refused(Refusal.UNKNOWN_DISK, "d")


def test_a_disk_that_is_not_there_is_not_claimed() -> None:
    given(FOUND, DiskGone(disk="d", node="n1")).when(CLAIM).refused(Refusal.DISK_GONE, "n1")


def test_a_pool_claims_disks_of_its_own_node_only() -> None:
    claim = ClaimDisk(disk="d", node="n2", pool="fast", operation=OPERATION)
    given(FOUND).when(claim).refused(Refusal.DISK_ELSEWHERE, "n1", "n2")


def test_a_reserved_disk_is_left_alone_until_it_is_unreserved() -> None:
    reserved = DiskReserved(disk="d", because="spare")
    given(FOUND).when(ReserveDisk(disk="d", because="spare")).then(reserved)
    given(FOUND, reserved).when(CLAIM).refused(Refusal.DISK_RESERVED)
    given(FOUND, reserved).when(UnreserveDisk(disk="d")).then(DiskUnreserved(disk="d"))
    given(FOUND, reserved, DiskUnreserved(disk="d")).when(CLAIM).then(CLAIMED)


def test_a_claimed_disk_cannot_be_reserved() -> None:
    given(FOUND, CLAIMED).when(ReserveDisk(disk="d")).refused(Refusal.DISK_CLAIMED, "n1/fast")


def test_reserving_twice_is_reserving_once() -> None:
    given(FOUND, DiskReserved(disk="d")).when(ReserveDisk(disk="d")).nothing()


def test_what_is_not_reserved_cannot_be_unreserved() -> None:
    given(FOUND).when(UnreserveDisk(disk="d")).refused(Refusal.DISK_NOT_RESERVED)


def test_the_operators_word_on_the_class_survives_every_rescan() -> None:
    override = DiskClassOverridden(disk="d", media=DiskClass.NVME)
    past = given(FOUND, override, DiskGone(disk="d", node="n1"), FOUND)
    assert past.world.disks["d"].media is DiskClass.NVME
    past.when(OverrideDiskClass(disk="d", media=DiskClass.NVME)).nothing()
    back = DiskClassOverridden(disk="d", media=None)
    past.when(OverrideDiskClass(disk="d")).then(back)


def test_only_its_own_pool_releases_a_disk() -> None:
    released = DiskReleased(disk="d", node="n1", pool="fast")
    mine = ReportDiskReleased(disk="d", node="n1", pool="fast")
    theirs = ReportDiskReleased(disk="d", node="n1", pool="slow")
    given(FOUND, CLAIMED).when(mine).then(released)
    given(FOUND, CLAIMED).when(theirs).nothing()
    given(FOUND, CLAIMED, released).when(mine).nothing()


def test_a_disk_of_a_removed_node_is_forgotten_altogether() -> None:
    forgotten = DiskForgotten(disk="d", node="n1")
    given(FOUND).when(ReportDiskForgotten(disk="d", node="n1")).then(forgotten)
    assert given(FOUND, forgotten).world.disks == {}


def test_a_disk_that_a_pool_elsewhere_misses_is_forgotten_only_by_the_removed_node() -> None:
    gone = DiskGone(disk="d", node="n1")
    moved = DiskFound(disk="d", node="n2", sighting=sighting(), moved_from="n1")
    left = given(FOUND, CLAIMED, gone, moved, DiskForgotten(disk="d", node="n2"))
    assert left.world.disks["d"].last_node == "n1"
    left.when(ClaimDisk(disk="d", node="n3", pool="other", operation=OPERATION)).refused(
        Refusal.DISK_CLAIMED, "n1/fast"
    )
