from collections.abc import Sequence

import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregates.processes.provision_disk import begin
from aggregates.raw_disks import KEPT_BYTES, given_bytes, group_of
from schemas.answers import Refused
from schemas.copying import CloneVolume, RestoreBackup
from schemas.deleting import DeleteVolume, VolumeDeletionBegan, VolumeHoldBegan
from schemas.disk import (
    ClaimDisk,
    Content,
    DiskChanged,
    DiskClaimed,
    DiskClass,
    DiskFound,
    DiskGone,
    DiskHealthChanged,
    DiskReleased,
    DiskReserved,
    DiskSeenTwice,
    Health,
    ReportDiskReleased,
    ReserveDisk,
    Wiping,
)
from schemas.grammar import Event, Request
from schemas.node import DetachPool, NodeCordoned, NodeFellSilent, NodeJoined, PoolAttached
from schemas.node import PoolDetached as Detached
from schemas.operation import OperationKind, OperationStarted, StepRefused
from schemas.pool import FormPool
from schemas.refusals import Refusal
from schemas.replica import ReplicaCreated, ReplicaSpec, ReplicaWanted
from schemas.snapshot import CreateSnapshot
from schemas.target import BackUpVolume, TargetAdded
from schemas.volume import (
    Candidate,
    GrowVolume,
    Layout,
    ProvisionVolume,
    VolumeProvisioned,
    VolumeProvisioningBegan,
)
from schemas.volume_group import CreateGroup
from tests.support.backup_words import PLACE, SEAL
from tests.support.given import GIB, MIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import DEADLINE, disk, node_with_disks, sighting, volume_ready

WISH = ProvisionVolume(volume="pg", size_bytes=GIB, layout=Layout.DISK)
GROUP = group_of(UID)
GIVEN = 20 * GIB - 4 * MIB


def found(name: str, size_bytes: int = 20 * GIB, node: str = "n1", **more: object) -> DiskFound:
    seen = replace(sighting(size_bytes=size_bytes), **more)
    return DiskFound(disk=name, node=node, sighting=seen)


def raw_volume(name: str = "n1-d0") -> tuple[Event, ...]:
    here = Candidate(node="n1", pool=GROUP, disk=name, room_bytes=GIVEN)
    spec = ReplicaSpec(uid=UID, pool=GROUP, size_bytes=GIVEN, layout=Layout.DISK, disk=name)
    return (
        *node_with_disks("n1"),
        VolumeProvisioningBegan(
            volume="pg",
            uid=UID,
            operation=OPERATION,
            deadline=DEADLINE,
            size_bytes=GIB,
            candidates=(here,),
            layout=Layout.DISK,
        ),
        DiskClaimed(disk=name, node="n1", pool=GROUP, operation=OPERATION, volume="pg"),
        PoolAttached(node="n1", pool=GROUP),
        ReplicaWanted(volume="pg", node="n1", operation=OPERATION, spec=spec),
        ReplicaCreated(
            volume="pg",
            node="n1",
            uid=UID,
            pool=GROUP,
            size_bytes=GIVEN,
            device=f"/dev/{GROUP}/pg",
            disk=name,
        ),
        VolumeProvisioned(
            volume="pg",
            uid=UID,
            operation=OPERATION,
            node="n1",
            pool=GROUP,
            size_bytes=GIVEN,
            disk=name,
        ),
    )


def began(past: Sequence[Event], wish: ProvisionVolume = WISH) -> VolumeProvisioningBegan:
    decision = given(*past).when(wish).decision
    assert not isinstance(decision, Refused), decision
    (event,) = decision
    assert isinstance(event, VolumeProvisioningBegan)
    return event


def test_the_smallest_disk_that_is_large_enough_comes_first() -> None:
    past = (
        NodeJoined(node="n1"),
        found("big", 90 * GIB),
        found("small", GIB),
        found("fits", 2 * GIB),
    )
    event = began(past)
    assert [(c.disk, c.code) for c in event.candidates] == [
        ("fits", None),
        ("big", None),
        ("small", Refusal.DISK_TOO_SMALL),
    ]
    assert {c.pool for c in event.candidates} == {GROUP}
    assert event.candidates[0].room_bytes == 2 * GIB - 4 * MIB
    assert "would give" in event.candidates[2].because


def test_node_disk_and_class_narrow_down_which_disk() -> None:
    past = (
        *node_with_disks("n1", 1),
        *node_with_disks("n2", 1),
        found("fast", node="n2", media=DiskClass.NVME),
    )
    assert [c.disk for c in began(past, replace(WISH, node="n1")).candidates] == ["n1-d0"]
    assert [c.disk for c in began(past, replace(WISH, disk="n2-d0")).candidates] == ["n2-d0"]
    assert [c.disk for c in began(past, replace(WISH, media=DiskClass.NVME)).candidates] == ["fast"]
    given(*past).when(replace(WISH, media=DiskClass.HDD)).refused(
        Refusal.NO_FREE_DISK, "no hdd disk"
    )
    given(*past).when(replace(WISH, disk="n9")).refused(Refusal.UNKNOWN_DISK, "n9")


_TROUBLES: dict[str, tuple[Event, Refusal]] = {
    "claimed": (
        DiskClaimed(disk="n1-d0", node="n1", pool="fast", operation=OTHER),
        Refusal.DISK_CLAIMED,
    ),
    "another volume": (
        DiskClaimed(disk="n1-d0", node="n1", pool="x", operation=OTHER, volume="v2"),
        Refusal.DISK_CLAIMED,
    ),
    "reserved": (DiskReserved(disk="n1-d0"), Refusal.DISK_RESERVED),
    "gone": (DiskGone(disk="n1-d0", node="n1"), Refusal.DISK_GONE),
    "seen twice": (
        DiskSeenTwice(disk="n1-d0", node="n2", sighting=sighting()),
        Refusal.DISK_SEEN_TWICE,
    ),
    "failing": (
        DiskHealthChanged(disk="n1-d0", node="n1", health=Health.FAILING, reasons=("old",)),
        Refusal.DISK_FAILING,
    ),
    "filesystem": (
        DiskChanged(disk="n1-d0", node="n1", sighting=sighting(Content.FILESYSTEM)),
        Refusal.DISK_NOT_BLANK,
    ),
    "system": (
        DiskChanged(disk="n1-d0", node="n1", sighting=sighting(Content.SYSTEM)),
        Refusal.DISK_NOT_BLANK,
    ),
    "cordoned": (NodeCordoned(node="n1"), Refusal.NODE_CORDONED),
    "silent": (NodeFellSilent(node="n1", last_heard=NOON), Refusal.NODE_SILENT),
}


@pytest.mark.parametrize("trouble", _TROUBLES)
def test_a_disk_that_may_not_be_taken_is_refused_with_its_reason(trouble: str) -> None:
    event, code = _TROUBLES[trouble]
    past = (NodeJoined(node="n2"), *node_with_disks("n1", 1), event)
    given(*past).when(WISH).refused(code)
    given(*past).when(replace(WISH, disk="n1-d0")).refused(code)


@pytest.mark.parametrize(
    "wish",
    [
        replace(WISH, layout=Layout.LINEAR, disk="n1-d0"),
        replace(WISH, layout=Layout.THIN, media=DiskClass.SSD),
        replace(WISH, pool="fast"),
        replace(WISH, stripes=2),
        replace(WISH, key_ref="file:k"),
    ],
)
def test_a_wish_that_contradicts_itself_is_refused(wish: ProvisionVolume) -> None:
    given(*node_with_disks("n1")).when(wish).refused(Refusal.UNCLEAR_DISK)


def test_a_claimed_disk_is_claimed_once_and_released_by_whoever_had_it() -> None:
    claim = ClaimDisk(disk="n1-d0", node="n1", pool=GROUP, operation=OPERATION, volume="pg")
    claimed = DiskClaimed(disk="n1-d0", node="n1", pool=GROUP, operation=OPERATION, volume="pg")
    past = node_with_disks("n1")
    given(*past).when(claim).then(claimed)
    given(*past, claimed).when(claim).nothing()
    other = replace(claim, pool=group_of(OTHER), volume="v2")
    given(*past, claimed).when(other).refused(Refusal.DISK_CLAIMED, "volume pg")
    pool = replace(claim, pool="fast", volume=None)
    given(*past, claimed).when(pool).refused(Refusal.DISK_CLAIMED, "volume pg")
    form = FormPool(pool="fast", node="n1", disks=("n1-d0",))
    given(*past, claimed).when(form).refused(Refusal.DISK_CLAIMED, "volume pg")
    given(*past, claimed).when(ReserveDisk(disk="n1-d0")).refused(Refusal.DISK_CLAIMED)
    release = ReportDiskReleased(disk="n1-d0", node="n1", pool=GROUP)
    given(*past, claimed).when(release).then(DiskReleased(disk="n1-d0", node="n1", pool=GROUP))
    given(*past, claimed).when(replace(release, pool=group_of(OTHER))).nothing()


@pytest.mark.parametrize(
    "wish",
    [
        GrowVolume(volume="pg", size_bytes=90 * GIB),
        CreateSnapshot(snapshot="s1", volume="pg"),
        CloneVolume(volume="new", source="pg"),
        CreateGroup(group="g", volumes=("pg",)),
    ],
)
def test_what_a_whole_disk_cannot_do_is_refused_for_good(wish: Request) -> None:
    given(*raw_volume()).when(wish).refused(Refusal.IS_RAW_DISK, "pg is a whole disk")


def test_nothing_is_filled_into_a_whole_disk_from_elsewhere() -> None:
    clone = CloneVolume(volume="new", source="pg", layout=Layout.DISK)
    pool = volume_ready()
    target = TargetAdded(target="s3", place=PLACE, cluster="c")
    past = (*node_with_disks("n1"), *pool, target)
    given(*past).when(clone).refused(Refusal.IS_RAW_DISK)
    restore = RestoreBackup(
        volume="new",
        target="s3",
        backup="b",
        manifest=SEAL,
        backup_bytes=GIB,
        layout=Layout.DISK,
    )
    given(*past).when(restore).refused(Refusal.IS_RAW_DISK)
    back_up = BackUpVolume(target="s3", volume="pg")
    given(*raw_volume(), target).when(back_up).refused(Refusal.IS_RAW_DISK, "be backed up")


def test_how_a_disk_is_wiped_is_said_when_it_goes_and_kept_while_it_is_held() -> None:
    zero = DeleteVolume(volume="pg", wiping=Wiping.ZERO)
    (event,) = _decided(zero)
    assert isinstance(event, VolumeDeletionBegan)
    assert event.wiping is Wiping.ZERO
    assert (event.deadline - DEADLINE).total_seconds() == GIVEN // (50 * MIB)
    (held,) = _decided(replace(zero, hold_s=60))
    assert isinstance(held, VolumeHoldBegan)
    assert held.wiping is Wiping.ZERO
    (lost,) = _decided(DeleteVolume(volume="pg", hold_s=60, wiping=Wiping.LOST))
    assert isinstance(lost, VolumeDeletionBegan)
    assert (lost.wiping, lost.deadline) == (Wiping.LOST, DEADLINE)


def _decided(wish: Request) -> tuple[Event, ...]:
    decision = given(*raw_volume()).when(wish).decision
    assert not isinstance(decision, Refused), decision
    return decision


def test_a_volume_in_a_pool_is_not_wiped_in_another_way() -> None:
    wish = DeleteVolume(volume="pg", wiping=Wiping.ZERO)
    past = (*node_with_disks("n1"), *volume_ready())
    given(*past).when(wish).refused(Refusal.NOT_RAW_DISK, "linear")


def test_a_disk_that_its_node_does_not_take_is_given_back_and_the_next_one_tried() -> None:
    event = began(node_with_disks("n1"))
    process = begin(event)
    told: list[Event] = [
        OperationStarted(
            operation=OPERATION,
            kind=OperationKind.VOLUME_PROVISION,
            object="volume/pg",
            deadline=DEADLINE,
        ),
        DiskClaimed(disk="n1-d0", node="n1", pool=GROUP, operation=OPERATION, volume="pg"),
    ]
    for one in told:
        process = process.evolve(one)
    due = process.due()
    assert due is not None
    assert due.step == "attach"
    refused = StepRefused(
        operation=OPERATION, step="attach", code=Refusal.NODE_CORDONED, because="repair"
    )
    process = process.evolve(refused)
    assert [process.due().command] == [  # type: ignore[union-attr]
        ReportDiskReleased(disk="n1-d0", node="n1", pool=GROUP)
    ]
    process = process.evolve(DiskReleased(disk="n1-d0", node="n1", pool=GROUP))
    due = process.due()
    assert due is not None
    assert isinstance(due.command, ClaimDisk)
    assert due.command.disk == disk("n1", 1)


def test_what_cannot_be_begun_after_its_node_took_it_is_taken_from_the_node_first() -> None:
    process = begin(began(node_with_disks("n1", 1)))
    for one in (
        OperationStarted(
            operation=OPERATION,
            kind=OperationKind.VOLUME_PROVISION,
            object="volume/pg",
            deadline=DEADLINE,
        ),
        DiskClaimed(disk="n1-d0", node="n1", pool=GROUP, operation=OPERATION, volume="pg"),
        PoolAttached(node="n1", pool=GROUP),
        StepRefused(operation=OPERATION, step="create", code=Refusal.NODE_SILENT, because="silent"),
    ):
        process = process.evolve(one)
    due = process.due()
    assert due is not None
    assert due.command == DetachPool(node="n1", pool=GROUP)
    process = process.evolve(Detached(node="n1", pool=GROUP))
    due = process.due()
    assert due is not None
    assert isinstance(due.command, ReportDiskReleased)


@any_of(st.integers(min_value=0, max_value=1 << 50))
def test_a_volume_always_fits_behind_the_label_and_wastes_little(disk_bytes: int) -> None:
    size = given_bytes(disk_bytes)
    assert size % (4 * MIB) == 0
    assert size + KEPT_BYTES <= max(disk_bytes, KEPT_BYTES)
    assert disk_bytes - size < KEPT_BYTES + 4 * MIB
