"""How work on a volume has ended: the event that its report amounts to."""

from typing import TYPE_CHECKING

from schemas.copying import VolumeCloneFailed
from schemas.deleting import (
    VolumeDeleted,
    VolumeDeletionFailed,
    VolumeHeld,
    VolumeUndeleted,
    VolumeUndeletionFailed,
)
from schemas.refusals import Refusal
from schemas.volume import (
    ConcludeVolume,
    VolumeEvent,
    VolumeGrown,
    VolumeGrowthFailed,
    VolumeProvisioned,
    VolumeProvisioningFailed,
    VolumeUnlocked,
)

if TYPE_CHECKING:
    from aggregates.volume import Volume


def not_cloned(report: ConcludeVolume) -> VolumeCloneFailed:
    """Return how cloning ended before the volume was begun to be made."""
    return VolumeCloneFailed(
        volume=report.volume,
        operation=report.operation,
        code=report.code or Refusal.DEADLINE,
        because=report.because,
    )


def provisioned(volume: "Volume", report: ConcludeVolume) -> VolumeEvent:
    """Return how making the volume has ended."""
    if report.code is None and report.node is not None and report.pool is not None:
        return VolumeProvisioned(
            volume=report.volume,
            uid=volume.uid,
            operation=report.operation,
            node=report.node,
            pool=report.pool,
            size_bytes=report.size_bytes or volume.size_bytes,
            disk=report.disk,
        )
    return VolumeProvisioningFailed(
        volume=report.volume,
        uid=volume.uid,
        operation=report.operation,
        code=report.code or Refusal.NO_PLACE,
        because=report.because,
    )


def grown(volume: "Volume", report: ConcludeVolume) -> VolumeEvent:
    """Return how growing it has ended."""
    size_bytes = report.size_bytes or volume.size_bytes
    if report.code is None:
        return VolumeGrown(volume=report.volume, operation=report.operation, size_bytes=size_bytes)
    return VolumeGrowthFailed(
        volume=report.volume,
        operation=report.operation,
        size_bytes=size_bytes,
        code=report.code,
        because=report.because,
    )


def deleted(volume: "Volume", report: ConcludeVolume) -> VolumeEvent:
    """Return how deleting it has ended."""
    if report.gone or report.code is None:
        return VolumeDeleted(volume=report.volume, uid=volume.uid, operation=report.operation)
    return VolumeDeletionFailed(
        volume=report.volume,
        operation=report.operation,
        code=report.code,
        because=report.because,
    )


def unlocked(volume: "Volume", report: ConcludeVolume) -> VolumeEvent:
    """Return that the work on a snapshot of it has ended."""
    return VolumeUnlocked(
        volume=report.volume,
        operation=report.operation,
        snapshot=volume.locked_for,
        gone=report.gone,
        gone_twins=report.gone_twins,
    )


def put_on_hold(volume: "Volume", report: ConcludeVolume) -> VolumeEvent:
    """Return how putting it on hold has ended."""
    if report.code is not None or report.gone or volume.until is None:
        return deleted(volume, report)
    return VolumeHeld(
        volume=report.volume,
        uid=volume.uid,
        operation=report.operation,
        until=volume.until,
    )


def undeleted(volume: "Volume", report: ConcludeVolume) -> VolumeEvent:
    """Return how bringing it back has ended."""
    about = {"volume": report.volume, "uid": volume.uid, "operation": report.operation}
    if report.gone:
        return VolumeDeleted(**about)
    if report.code is None:
        return VolumeUndeleted(**about)
    return VolumeUndeletionFailed(
        volume=report.volume,
        operation=report.operation,
        code=report.code,
        because=report.because,
    )
