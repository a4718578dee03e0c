"""Who has a volume, where, and how fast it may be used: a part of the volume's row."""

from datetime import datetime

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, put
from projectors.tables import VOLUMES
from schemas.attaching import (
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
from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentMade,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentRemoved,
    AttachmentSpec,
    AttachmentTroubled,
    Limits,
    stable_device,
)
from schemas.grammar import Event
from schemas.views import VolumeRow, VolumeState


def used(row: VolumeRow, event: Event) -> VolumeRow:
    """Return the row of a volume after an event of it that is about its use."""
    match event:
        case VolumeAttachingBegan():
            return _working(row, VolumeState.ATTACHING, event.operation, event.deadline)
        case VolumeDetachingBegan():
            return _working(row, VolumeState.DETACHING, event.operation, event.deadline)
        case VolumeLimitingBegan():
            return _working(row, VolumeState.LIMITING, event.operation, event.deadline)
        case VolumeAttached():
            return had(_idle(row), event.attachment)
        case VolumeDetached():
            return had(_idle(row), None)
        case VolumeLimited():
            loose = event.qos is not None and not row.consumer
            limits = Limits() if loose else event.limits
            return replace(_idle(row), limits=limits, qos=event.qos or "")
        case VolumeAttachingFailed() | VolumeDetachingFailed() | VolumeLimitingFailed():
            return replace(_idle(row), why=event.because, code=event.code)
        case _:
            return row


def had(row: VolumeRow, attachment: AttachmentSpec | None) -> VolumeRow:
    """Return the row of a volume that its consumer has in that way; None: nobody has it."""
    if attachment is None:
        return replace(
            row,
            consumer="",
            attached_device="",
            mount_point="",
            read_only=False,
            cgroup="",
            limits=Limits() if row.qos else row.limits,
            kernel_limits=None,
            kernel_since=None,
        )
    return replace(
        row,
        consumer=attachment.consumer,
        attached_device=stable_device(row.name),
        mount_point=attachment.mount_point or "",
        read_only=attachment.read_only,
        cgroup=attachment.cgroup or "",
        limits=attachment.limits,
    )


def of_attachment(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the volume whose attachment *event* is about: its trouble, its limits.

    What is left of one on a node that the volume is no more written to on tells nothing of it.
    """
    row = rows.get(VOLUMES, seen.address.id)
    if row is None or (row.replicas and seen.address.place != row.node):
        return
    match event:
        case AttachmentTroubled():
            row = replace(row, why=event.because, code=event.code)
        case AttachmentMade():
            kept = row.kernel_since if event.limits == row.kernel_limits else None
            row = replace(row, kernel_limits=event.limits, kernel_since=kept or seen.at)
            row = replace(row, why="", code=None)
        case AttachmentRemoved():
            row = replace(row, kernel_limits=None, kernel_since=None)
        case AttachmentLimitsWanted() | AttachmentRemovalWanted() | AttachmentRemovalWithdrawn():
            row = replace(row, why="", code=None)
        case _:
            return
    yield put(VOLUMES, seen.address.id, replace(row, seq=seen.seq, changed_at=seen.at))


def _working(row: VolumeRow, state: VolumeState, operation: str, deadline: datetime) -> VolumeRow:
    return replace(row, state=state, operation=operation, deadline=deadline, why="", code=None)


def _idle(row: VolumeRow) -> VolumeRow:
    return replace(row, state=VolumeState.READY, operation="", deadline=None, why="", code=None)
