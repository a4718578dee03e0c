"""A volume's row tells who has it, where it is mounted, and how fast it may be used."""

from datetime import timedelta
from typing import Any

from projectors.tables import OPERATIONS, VOLUMES
from schemas.attaching import (
    VolumeAttached,
    VolumeAttachingBegan,
    VolumeDetached,
    VolumeDetachingBegan,
    VolumeDetachingFailed,
    VolumeLimited,
    VolumeLimitingBegan,
)
from schemas.attachment import (
    AttachmentMade,
    AttachmentSpec,
    AttachmentTroubled,
    AttachmentWanted,
    Limits,
)
from schemas.operation import OperationKind, OperationStarted
from schemas.refusals import Refusal
from schemas.views import VolumeRow, VolumeState
from tests.support.clock import NOON
from tests.unit.projectors.stories import GIB, Story, uid

LATER = NOON + timedelta(hours=1)
WORK: dict[str, Any] = {"volume": "pg", "operation": uid(8), "deadline": LATER, "node": "n1"}
SPEC = AttachmentSpec(
    uid=uid(7),
    volume_uid=uid(1),
    pool="fast",
    consumer="pod/shop/pg-0",
    mount_point="/mnt/pg",
    cgroup="shop/pg-0",
)
TROUBLE = AttachmentTroubled(
    volume="pg", node="n1", uid=uid(7), code=Refusal.IN_USE, because="target is busy"
)


def _row(story: Story) -> VolumeRow:
    row = story.row(VOLUMES, "pg")
    assert row is not None
    return row


def _attached() -> Story:
    story = Story().node().pool().volume("pg", 1, 2 * GIB)
    story.say(VolumeAttachingBegan(**WORK, attachment=SPEC))
    story.say(VolumeAttached(volume="pg", operation=uid(8), attachment=SPEC))
    return story


def test_a_volume_on_its_way_to_a_consumer_shows_its_operation() -> None:
    story = Story().node().pool().volume("pg", 1, 2 * GIB)
    story.say(VolumeAttachingBegan(**WORK, attachment=SPEC))
    row = _row(story)
    assert (row.state, row.operation, row.deadline) == (VolumeState.ATTACHING, uid(8), LATER)
    assert row.consumer == ""


def test_an_attached_volume_shows_consumer_device_and_mount_point() -> None:
    row = _row(_attached())
    assert (row.state, row.operation, row.deadline) == (VolumeState.READY, "", None)
    assert (row.consumer, row.cgroup) == ("pod/shop/pg-0", "shop/pg-0")
    assert (row.attached_device, row.mount_point) == ("/dev/hwbus/pg", "/mnt/pg")
    assert row.device == "/dev/fast/pg"


def test_a_detached_volume_shows_nothing_of_its_consumer() -> None:
    story = _attached()
    story.say(VolumeDetachingBegan(**WORK, consumer="pod/shop/pg-0"))
    assert _row(story).state is VolumeState.DETACHING
    story.say(VolumeDetached(volume="pg", operation=uid(8), consumer="pod/shop/pg-0"))
    row = _row(story)
    assert (row.consumer, row.attached_device, row.mount_point, row.cgroup) == ("", "", "", "")


def test_a_volume_that_could_not_be_taken_back_shows_why_and_who_has_it() -> None:
    story = _attached()
    story.say(VolumeDetachingBegan(**WORK, consumer="pod/shop/pg-0"))
    story.say(TROUBLE)
    assert (_row(story).code, _row(story).why) == (Refusal.IN_USE, "target is busy")
    story.say(AttachmentMade(volume="pg", node="n1", uid=uid(7), device="/dev/hwbus/pg"))
    assert _row(story).why == ""
    story.say(
        VolumeDetachingFailed(
            volume="pg", operation=uid(8), code=Refusal.IN_USE, because="target is busy"
        )
    )
    row = _row(story)
    assert (row.state, row.why, row.consumer) == (
        VolumeState.READY,
        "target is busy",
        "pod/shop/pg-0",
    )


def test_limits_are_shown_when_they_hold() -> None:
    story, slow = _attached(), Limits(write_iops=5)
    story.say(VolumeLimitingBegan(**WORK, limits=slow))
    assert (_row(story).state, _row(story).limits) == (VolumeState.LIMITING, Limits())
    story.say(VolumeLimited(volume="pg", operation=uid(8), limits=slow))
    assert (_row(story).state, _row(story).limits) == (VolumeState.READY, slow)


def test_an_operation_tells_of_the_trouble_that_its_node_has() -> None:
    story = _attached()
    story.say(
        OperationStarted(
            operation=uid(8),
            kind=OperationKind.VOLUME_DETACH,
            object="volume/pg",
            deadline=LATER,
        ),
        correlation=uid(8),
    )
    story.say(TROUBLE, correlation=uid(8))
    row = story.row(OPERATIONS, uid(8))
    assert row is not None
    assert (row.attempts, row.why) == (1, "HW-W003 target is busy")


def test_an_attachment_of_a_volume_that_is_gone_changes_no_row() -> None:
    story = Story().node().pool()
    story.say(AttachmentWanted(volume="pg", node="n1", operation=uid(8), spec=SPEC))
    story.say(TROUBLE)
    assert story.row(VOLUMES, "pg") is None
