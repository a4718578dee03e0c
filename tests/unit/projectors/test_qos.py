"""What is told of a class: which volumes carry its limits; and of a volume: what the kernel has."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hwbus.ports import Call
from projectors.qos import BEHIND_MAX, told
from projectors.service import Views
from projectors.tables import QOS, VOLUMES
from schemas.attaching import VolumeAttached, VolumeDetached, VolumeLimited, VolumeLimitingBegan
from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentMade,
    AttachmentRemoved,
    AttachmentSpec,
    Limits,
)
from schemas.node import Drift, DriftFound, Finding
from schemas.qos import QosClassChanged, QosClassCreated, QosClassDeleted
from schemas.qos_view import QosBehind, QosRow, QosState
from schemas.queries import Page
from schemas.refusals import Refusal
from schemas.views import VolumeRow, VolumeState
from tests.support.clock import NOON
from tests.unit.projectors.stories import Bench, Story, uid

FAST, SLOW = Limits(read_iops=1000), Limits(read_iops=100)
LATER = NOON + timedelta(hours=1)


def _spec(limits: Limits = FAST) -> AttachmentSpec:
    return AttachmentSpec(
        uid=uid(7), volume_uid=uid(1), pool="fast", consumer="host/a", cgroup="a", limits=limits
    )


def _story() -> Story:
    """Two volumes of a class; the first is attached with its limits."""
    story = Story().node().pool().volume("pg", 1).volume("wal", 2)
    story.say(QosClassCreated(qos="gold", uid=uid(5), at=NOON, limits=FAST))
    for name in ("pg", "wal"):
        story.say(VolumeLimited(volume=name, limits=FAST, qos="gold"))
    _made(story, FAST)
    story.say(VolumeAttached(volume="pg", operation=uid(8), attachment=_spec()))
    return story


def _made(story: Story, limits: Limits) -> None:
    about: dict[str, Any] = {"volume": "pg", "node": "n1", "uid": uid(7)}
    story.say(AttachmentMade(**about, device="/dev/hwbus/pg", limits=limits))


def _volume(story: Story, name: str = "pg") -> VolumeRow:
    row = story.row(VOLUMES, name)
    assert row is not None
    return row


def _changed(story: Story) -> None:
    story.say(QosClassChanged(qos="gold", at=LATER, limits=SLOW))


def test_a_class_is_shown_with_its_limits_and_since_when() -> None:
    story = _story()
    _changed(story)
    row = story.row(QOS, "gold")
    assert row is not None
    assert (row.name, row.limits, row.limits_since) == ("gold", SLOW, LATER)
    story.say(QosClassDeleted(qos="gold", uid=uid(5)))
    assert story.row(QOS, "gold") is None


def test_a_volume_shows_its_class_and_what_the_kernel_was_said_to_have_since_when() -> None:
    story = _story()
    row = _volume(story)
    since = row.kernel_since
    assert (row.qos, row.limits, row.kernel_limits) == ("gold", FAST, FAST)
    about: dict[str, Any] = {"volume": "pg", "node": "n1", "operation": uid(8)}
    story.say(VolumeLimitingBegan(**about, deadline=LATER, limits=SLOW, before=FAST, qos="gold"))
    story.say(AttachmentLimitsWanted(**about, uid=uid(7), limits=SLOW))
    row = _volume(story)
    assert (row.limits, row.kernel_limits, row.kernel_since) == (FAST, FAST, since)
    _made(story, SLOW)
    row = _volume(story)
    assert (row.limits, row.kernel_limits) == (FAST, SLOW)
    assert row.kernel_since is not None
    assert since is not None
    assert row.kernel_since > since
    story.say(VolumeLimited(volume="pg", operation=uid(8), limits=SLOW, qos="gold"))
    assert _volume(story).limits == SLOW


def test_what_nobody_has_carries_no_limits_of_a_class_but_keeps_its_own() -> None:
    story = _story()
    assert (_volume(story, "wal").qos, _volume(story, "wal").limits) == ("gold", Limits())
    story.say(AttachmentRemoved(volume="pg", node="n1", uid=uid(7)))
    assert (_volume(story).kernel_limits, _volume(story).kernel_since) == (None, None)
    story.say(VolumeDetached(volume="pg", operation=uid(8), consumer="host/a"))
    assert (_volume(story).qos, _volume(story).limits) == ("gold", Limits())
    story.say(VolumeLimited(volume="pg", limits=SLOW))
    assert (_volume(story).qos, _volume(story).limits) == ("", SLOW)


ROW = QosRow(
    name="gold",
    uid=uid(5),
    limits=SLOW,
    limits_since=NOON,
    created_at=NOON,
    changed_at=NOON,
    seq=1,
)
MEMBER = VolumeRow(
    name="pg",
    uid=uid(1),
    state=VolumeState.READY,
    node="n1",
    consumer="host/a",
    limits=SLOW,
    qos="gold",
    created_at=NOON,
    changed_at=NOON,
    seq=1,
)
OLD = replace(MEMBER, name="wal", limits=FAST)
LOOSE = replace(MEMBER, name="log", consumer="", limits=Limits())
BUSY = replace(OLD, state=VolumeState.LIMITING, operation=uid(8))
HARD = replace(OLD, code=Refusal.NO_IO_CONTROLLER, why="not on")
LOST = {"attachment/n1/pg": "there is no control group a"}


@pytest.mark.parametrize(
    ("members", "lost", "state", "counts", "behind"),
    [
        ((), {}, QosState.APPLIED, (0, 0, 0), ()),
        ((MEMBER, LOOSE), {}, QosState.APPLIED, (2, 1, 1), ()),
        ((MEMBER, OLD), {}, QosState.CHANGING, (2, 2, 1), ("wal",)),
        ((MEMBER, BUSY), {}, QosState.CHANGING, (2, 2, 1), ("wal",)),
        ((MEMBER, HARD), {}, QosState.ALARM, (2, 2, 1), ("wal",)),
        ((MEMBER, LOOSE), LOST, QosState.ALARM, (2, 1, 0), ("pg",)),
    ],
)
def test_a_class_is_applied_when_every_attached_volume_carries_its_limits(
    members: tuple[VolumeRow, ...],
    lost: dict[str, str],
    state: QosState,
    counts: tuple[int, int, int],
    behind: tuple[str, ...],
) -> None:
    row = told(ROW, members, lost)
    assert row.state is state
    assert (row.volumes, row.attached, row.carrying) == counts
    assert tuple(one.volume for one in row.behind) == behind


def test_what_is_behind_is_named_with_the_reason_and_not_without_end() -> None:
    (one,) = told(ROW, (HARD,), {}).behind
    assert one == QosBehind(
        volume="wal", node="n1", limits=FAST, code=Refusal.NO_IO_CONTROLLER, why="not on"
    )
    many = [replace(OLD, name=f"v{number:04}") for number in range(3 * BEHIND_MAX)]
    row = told(ROW, many, {})
    assert (row.volumes, row.carrying, len(row.behind)) == (3 * BEHIND_MAX, 0, BEHIND_MAX)


def test_the_views_tell_of_a_class_what_is_true_of_its_volumes(tmp_path: Path) -> None:
    story = _story()
    _changed(story)
    lost = Finding(
        drift=Drift.ATTACHMENT_MISSING,
        object="attachment/n1/pg",
        wanted="/dev/hwbus/pg",
        observed="there is no control group a",
    )

    async def run() -> None:
        late = await _asked(tmp_path / "late", story, "qos", QosRow)
        assert (late.state, late.attached, late.carrying) == (QosState.CHANGING, 1, 0)
        volume = await _asked(tmp_path / "volume", story, "volume", VolumeRow, name="pg")
        assert (volume.wanted_limits, volume.limits) == (SLOW, FAST)
        _made(story, SLOW)
        story.say(VolumeLimited(volume="pg", operation=uid(8), limits=SLOW, qos="gold"))
        done = await _asked(tmp_path / "done", story, "qos", QosRow)
        assert (done.state, done.volumes, done.carrying) == (QosState.APPLIED, 2, 1)
        story.say(DriftFound(node="n1", finding=lost))
        gone = await _asked(tmp_path / "gone", story, "qos", QosRow, name="gold")
        assert (gone.state, gone.carrying) == (QosState.ALARM, 0)
        assert gone.behind[0].why == "there is no control group a"

    asyncio.run(run())


async def _asked(folder: Path, story: Story, view: str, row: type[Any], **where: str) -> Any:
    bench = Bench(folder)
    await bench.tell(story)
    async with bench.running() as projector:
        await projector.caught_up.wait()
        call = Call(f"hwbus.q.{view}", msgspec.json.encode({"where": where}), {})
        answer = msgspec.json.decode(await Views(projector)(call), type=Page[msgspec.Raw])
    (item,) = answer.items
    return msgspec.json.decode(item, type=row)
