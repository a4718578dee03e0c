"""Who may have a volume, and what may be done to one that somebody has."""

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.attaching import (
    AttachVolume,
    DetachVolume,
    LimitVolume,
    VolumeAttached,
    VolumeAttachingBegan,
    VolumeAttachingFailed,
    VolumeDetached,
    VolumeDetachingBegan,
    VolumeDetachingFailed,
    VolumeLimited,
    VolumeLimitingBegan,
    VolumeLimitingFailed,
)
from schemas.attachment import AttachmentSpec, Limits
from schemas.deleting import DeleteVolume, VolumeDeletionBegan
from schemas.grammar import Event
from schemas.node import NodeFellSilent
from schemas.refusals import Refusal
from schemas.volume import ConcludeVolume, Filesystem, GrowVolume, VolumeProvisioningBegan
from tests.support.given import GIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import DEADLINE, pool_ready, volume_ready

BUSY: dict[str, Any] = {"volume": "pg", "operation": OPERATION}


def with_ext4(event: Event) -> Event:
    if isinstance(event, VolumeProvisioningBegan):
        return replace(event, filesystem=Filesystem.EXT4)
    return event


RAW = (*pool_ready("n1"), *volume_ready("n1"))
PAST = tuple(map(with_ext4, RAW))
ATTACH = AttachVolume(
    volume="pg", consumer="pod/shop/pg-0", mount_point="/mnt/pg", cgroup="shop/pg-0"
)
SPEC = AttachmentSpec(
    uid=UID,
    volume_uid=UID,
    pool="fast",
    consumer="pod/shop/pg-0",
    filesystem=Filesystem.EXT4,
    mount_point="/mnt/pg",
    cgroup="shop/pg-0",
)
BEGAN = VolumeAttachingBegan(**BUSY, deadline=DEADLINE, node="n1", attachment=SPEC)
ATTACHED = VolumeAttached(**BUSY, attachment=SPEC)
HELD = (*PAST, BEGAN, ATTACHED)
DETACHING = VolumeDetachingBegan(**BUSY, deadline=DEADLINE, node="n1", consumer="pod/shop/pg-0")
DONE = ConcludeVolume(**BUSY)
LATE = ConcludeVolume(**BUSY, code=Refusal.DEADLINE, because="late")
FAILED: dict[str, Any] = {**BUSY, "code": Refusal.DEADLINE, "because": "late"}
SLOW = Limits(read_iops=100, write_bytes_per_s=GIB)


def test_a_volume_is_attached_to_one_consumer_on_its_node() -> None:
    given(*PAST).when(ATTACH).then(BEGAN)
    given(*PAST, BEGAN).when(DONE).then(ATTACHED)
    given(*PAST, BEGAN).when(replace(DONE, operation=OTHER)).nothing()


def test_the_same_consumer_again_is_the_same_attachment() -> None:
    given(*HELD).when(ATTACH).nothing()
    given(*HELD).when(replace(ATTACH, mount_point="/srv")).refused(
        Refusal.VOLUME_ATTACHED, "pod/shop/pg-0", "/mnt/pg"
    )


def test_another_consumer_is_refused_and_told_who_has_it() -> None:
    other = replace(ATTACH, consumer="host/backup")
    given(*HELD).when(other).refused(Refusal.VOLUME_ATTACHED, "pod/shop/pg-0", "host/backup")


def test_what_failed_to_be_attached_is_nobodys() -> None:
    failed = VolumeAttachingFailed(**FAILED)
    given(*PAST, BEGAN).when(LATE).then(failed)
    given(*PAST, BEGAN, failed).when(ATTACH).then(BEGAN)
    given(*PAST, BEGAN, failed).when(DetachVolume(volume="pg")).nothing()


def test_a_volume_without_a_filesystem_is_not_mounted_and_can_be_attached_bare() -> None:
    given(*RAW).when(ATTACH).refused(Refusal.NO_FILESYSTEM, "/mnt/pg")
    bare = replace(ATTACH, mount_point=None)
    spec = replace(SPEC, mount_point=None, filesystem=Filesystem.NONE)
    given(*RAW).when(bare).then(replace(BEGAN, attachment=spec))


def test_an_attached_volume_is_not_deleted() -> None:
    delete = DeleteVolume(volume="pg")
    given(*HELD).when(delete).refused(Refusal.VOLUME_ATTACHED, "pod/shop/pg-0", "/mnt/pg")
    detached = VolumeDetached(**BUSY, consumer="pod/shop/pg-0")
    deletion = VolumeDeletionBegan(**BUSY, uid=UID, deadline=DEADLINE, node="n1", pool="fast")
    given(*HELD, DETACHING, detached).when(delete).then(deletion)


def test_an_attached_volume_grows_unless_its_filesystem_cannot_follow() -> None:
    grow = GrowVolume(volume="pg", size_bytes=2 * GIB)
    decision = given(*HELD).when(grow).decision
    assert isinstance(decision, tuple)
    assert len(decision) == 1
    frozen = VolumeAttached(**BUSY, attachment=replace(SPEC, read_only=True))
    given(*PAST, BEGAN, frozen).when(grow).refused(Refusal.VOLUME_ATTACHED, "read only")


def test_a_volume_is_taken_back_from_whoever_has_it() -> None:
    given(*HELD).when(DetachVolume(volume="pg")).then(DETACHING)
    given(*HELD).when(DetachVolume(volume="pg", consumer="pod/shop/pg-0")).then(DETACHING)
    given(*HELD).when(DetachVolume(volume="pg", consumer="host/backup")).refused(
        Refusal.VOLUME_ATTACHED, "pod/shop/pg-0"
    )
    detached = VolumeDetached(**BUSY, consumer="pod/shop/pg-0")
    given(*HELD, DETACHING).when(DONE).then(detached)
    given(*HELD, DETACHING, detached).when(DetachVolume(volume="pg")).nothing()


def test_a_volume_that_could_not_be_taken_back_stays_attached() -> None:
    failed = VolumeDetachingFailed(**FAILED)
    given(*HELD, DETACHING).when(LATE).then(failed)
    given(*HELD, DETACHING, failed).when(ATTACH).nothing()


def test_limits_of_an_unattached_volume_wait_for_the_attachment() -> None:
    limited = VolumeLimited(volume="pg", limits=SLOW)
    limit = LimitVolume(volume="pg", limits=SLOW)
    given(*PAST).when(limit).then(limited)
    given(*PAST, limited).when(limit).nothing()
    spec = replace(SPEC, limits=SLOW)
    given(*PAST, limited).when(ATTACH).then(replace(BEGAN, attachment=spec))


def test_limits_are_never_silently_without_effect() -> None:
    limited = VolumeLimited(volume="pg", limits=SLOW)
    loose = replace(ATTACH, cgroup=None)
    given(*PAST, limited).when(loose).refused(Refusal.NO_CGROUP)
    free = VolumeAttached(**BUSY, attachment=replace(SPEC, cgroup=None))
    limit = LimitVolume(volume="pg", limits=SLOW)
    given(*PAST, BEGAN, free).when(limit).refused(Refusal.NO_CGROUP, "pod/shop/pg-0")


def test_limits_of_an_attached_volume_are_changed_on_its_node() -> None:
    limiting = VolumeLimitingBegan(**BUSY, deadline=DEADLINE, node="n1", limits=SLOW)
    limit = LimitVolume(volume="pg", limits=SLOW)
    given(*HELD).when(limit).then(limiting)
    given(*HELD, limiting).when(DONE).then(VolumeLimited(**BUSY, limits=SLOW))
    failed = VolumeLimitingFailed(**FAILED)
    given(*HELD, limiting).when(LATE).then(failed)
    given(*HELD, limiting, failed).when(limit).then(limiting)
    given(*HELD, limiting, VolumeLimited(**BUSY, limits=SLOW)).when(ATTACH).nothing()


@pytest.mark.parametrize(
    "command", [ATTACH, DetachVolume(volume="pg"), LimitVolume(volume="pg", limits=SLOW)]
)
def test_it_takes_a_volume_that_is_there_and_idle_on_a_node_that_is_heard(command: Any) -> None:
    given().when(command).refused(Refusal.UNKNOWN_VOLUME, "pg")
    given(*HELD, DETACHING).when(command).refused(Refusal.VOLUME_BUSY, OPERATION)
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    given(*HELD, silent).when(command).refused(Refusal.NODE_SILENT, "n1")
