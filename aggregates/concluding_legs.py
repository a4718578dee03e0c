"""How work on the replicas of a volume has ended: the event that its report amounts to."""

from typing import TYPE_CHECKING

from aggregates.volume import Volume, VolumePhase
from schemas.handing import (
    HandOverFailed,
    VolumeHandedOver,
)
from schemas.legs import (
    ConcludeReplicas,
    LegsEvent,
    MigrationFailed,
    ReplicaAdded,
    ReplicaAdditionFailed,
    ReplicaRemovalFailed,
    SplitSettled,
    SplitSettlingFailed,
    VolumeMigrated,
    VolumeReplicaRemoved,
)
from schemas.refusals import Refusal
from schemas.verifying import VerificationFailed

if TYPE_CHECKING:
    from collections.abc import Callable

_Failed = ReplicaRemovalFailed | MigrationFailed | SplitSettlingFailed | VerificationFailed
_FAILED: dict[VolumePhase, type[_Failed]] = {
    VolumePhase.REMOVING_REPLICA: ReplicaRemovalFailed,
    VolumePhase.MIGRATING: MigrationFailed,
    VolumePhase.SETTLING_SPLIT: SplitSettlingFailed,
    VolumePhase.REPAIRING: VerificationFailed,
}


def conclude(volume: Volume, report: ConcludeReplicas) -> tuple[LegsEvent, ...]:
    """Return how it has ended."""
    phase = volume.phase
    if report.code is None:
        done = _DONE.get(phase)
        return () if done is None else (done(volume, report),)
    code, because = report.code, report.because
    if phase in {VolumePhase.HANDING_OVER, VolumePhase.FAILING_OVER}:
        failed = HandOverFailed(
            volume=report.volume,
            operation=report.operation,
            code=code,
            because=because,
            attachment=report.attachment,
            kept=report.kept,
        )
        return (failed,)
    if phase in {VolumePhase.PROVISIONING, VolumePhase.ADDING_REPLICA}:
        return (_not_added(report, code),)
    word = _FAILED.get(phase)
    about = {"volume": report.volume, "operation": report.operation}
    return () if word is None else (word(**about, code=code, because=because),)


def _added(volume: Volume, report: ConcludeReplicas) -> LegsEvent:
    del volume
    return ReplicaAdded(volume=report.volume, operation=report.operation, members=report.members)


def _not_added(report: ConcludeReplicas, code: Refusal) -> LegsEvent:
    return ReplicaAdditionFailed(
        volume=report.volume,
        operation=report.operation,
        code=code,
        because=report.because,
        size_bytes=report.size_bytes,
    )


def _removed(volume: Volume, report: ConcludeReplicas) -> LegsEvent:
    return VolumeReplicaRemoved(
        volume=report.volume,
        operation=report.operation,
        node=report.node or volume.node,
        members=report.members,
        size_bytes=report.size_bytes or volume.size_bytes,
        lost=report.lost,
    )


def _handed_over(volume: Volume, report: ConcludeReplicas) -> LegsEvent:
    return VolumeHandedOver(
        volume=report.volume,
        operation=report.operation,
        node=volume.node,
        attachment=report.attachment,
    )


def _migrated(volume: Volume, report: ConcludeReplicas) -> LegsEvent:
    return VolumeMigrated(volume=report.volume, operation=report.operation, source=volume.migrating)


def _settled(volume: Volume, report: ConcludeReplicas) -> LegsEvent:
    del volume
    return SplitSettled(volume=report.volume, operation=report.operation)


_DONE: "dict[VolumePhase, Callable[[Volume, ConcludeReplicas], LegsEvent]]" = {
    VolumePhase.PROVISIONING: _added,
    VolumePhase.ADDING_REPLICA: _added,
    VolumePhase.REMOVING_REPLICA: _removed,
    VolumePhase.HANDING_OVER: _handed_over,
    VolumePhase.FAILING_OVER: _handed_over,
    VolumePhase.MIGRATING: _migrated,
    VolumePhase.SETTLING_SPLIT: _settled,
}
