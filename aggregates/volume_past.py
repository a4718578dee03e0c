"""How a volume became what it is: its events applied, one after another."""

from typing import assert_never

from msgspec.structs import replace

from aggregates import attaching, volume_settling
from aggregates.volume import Volume, VolumePhase
from schemas.attaching import (
    AttachingEvent,
    VolumeAttachingBegan,
    VolumeDetachingBegan,
    VolumeLimitingBegan,
)
from schemas.copying import CopyingEvent, VolumeCloneBegan, VolumeCloneFailed
from schemas.deleting import (
    VolumeDeleted,
    VolumeDeletionBegan,
    VolumeDeletionFailed,
    VolumeHeld,
    VolumeHoldBegan,
    VolumeUndeleted,
    VolumeUndeletionBegan,
    VolumeUndeletionFailed,
)
from schemas.disk import Wiping
from schemas.encrypting import (
    EncryptingEvent,
    VolumeRekeyed,
    VolumeRekeyingBegan,
    VolumeRekeyingFailed,
)
from schemas.filling import FillingEvent, VolumeFilled
from schemas.settling import VolumeSettlingEvent
from schemas.volume import (
    VolumeEvent,
    VolumeGone,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeGrowthFailed,
    VolumeLocked,
    VolumeProvisioned,
    VolumeProvisioningBegan,
    VolumeProvisioningFailed,
    VolumeSnapshotGone,
    VolumeUnlocked,
)

Happened = (
    VolumeEvent
    | AttachingEvent
    | EncryptingEvent
    | CopyingEvent
    | FillingEvent
    | VolumeSettlingEvent
)
_PHASES = {
    VolumeAttachingBegan: VolumePhase.ATTACHING,
    VolumeDetachingBegan: VolumePhase.DETACHING,
    VolumeLimitingBegan: VolumePhase.LIMITING,
}


def evolve(volume: Volume, event: Happened) -> Volume:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    if isinstance(event, VolumeSettlingEvent):
        return volume_settling.evolve(volume, event)
    if isinstance(event, CopyingEvent):
        return _copied(event)
    if isinstance(event, AttachingEvent):
        return _used(volume, event)
    if isinstance(event, EncryptingEvent):
        return _rekeyed(volume, event)
    match event:
        case VolumeProvisioningBegan():
            return _began(event)
        case VolumeProvisioned():
            there = replace(volume, node=event.node, pool=event.pool, disk=event.disk or "")
            there = replace(there, joining="")
            return _ready(there, event.size_bytes)
        case VolumeGrowthBegan():
            return replace(volume, phase=VolumePhase.GROWING, operation=event.operation)
        case VolumeGrown() | VolumeGrowthFailed():
            return _ready(volume, event.size_bytes)
        case VolumeFilled():
            return replace(volume, fill_percent=event.data_percent)
        case VolumeDeletionBegan():
            return replace(volume, phase=VolumePhase.DELETING, operation=event.operation)
        case (
            VolumeHoldBegan()
            | VolumeHeld()
            | VolumeUndeletionBegan()
            | VolumeUndeleted()
            | VolumeUndeletionFailed()
            | VolumeDeletionFailed()
        ):
            return _held(volume, event)
        case VolumeDeleted() | VolumeProvisioningFailed() | VolumeGone():
            return Volume()
        case VolumeLocked() | VolumeUnlocked() | VolumeSnapshotGone():
            return _with_snapshots(volume, event)
        case _:
            assert_never(event)


def _ready(volume: Volume, size_bytes: int) -> Volume:
    # How full it was says nothing of what it has now: that is told anew.
    same = size_bytes == volume.size_bytes
    return replace(
        volume,
        phase=VolumePhase.READY,
        operation="",
        size_bytes=size_bytes,
        fill_percent=volume.fill_percent if same else 0,
    )


def _copied(event: CopyingEvent) -> Volume:
    match event:
        case VolumeCloneBegan():
            phase, operation = VolumePhase.CLONING, event.operation
            return Volume(phase=phase, operation=operation, size_bytes=event.size_bytes)
        case VolumeCloneFailed():
            return Volume()
        case _:
            assert_never(event)


def _began(event: VolumeProvisioningBegan) -> Volume:
    return Volume(
        phase=VolumePhase.PROVISIONING,
        uid=event.uid,
        operation=event.operation,
        size_bytes=event.size_bytes,
        layout=event.layout,
        stripes=event.stripes,
        filesystem=event.filesystem,
        candidates=event.candidates,
        key_ref=event.key_ref or "",
        replicas=event.replicas,
        failover=event.failover,
        joining=event.group or "",
        labels=event.labels,
        use=attaching.Use(qos=event.qos or ""),
    )


def _rekeyed(volume: Volume, event: EncryptingEvent) -> Volume:
    match event:
        case VolumeRekeyingBegan():
            began = replace(volume, phase=VolumePhase.REKEYING, operation=event.operation)
            return replace(began, rekeying=event.key_ref)
        case VolumeRekeyed():
            ready = replace(volume, phase=VolumePhase.READY, operation="", rekeying="")
            return replace(ready, key_ref=event.key_ref)
        case VolumeRekeyingFailed():
            return replace(volume, phase=VolumePhase.READY, operation="", rekeying="")
        case _:
            assert_never(event)


def _with_snapshots(
    volume: Volume, event: VolumeLocked | VolumeUnlocked | VolumeSnapshotGone
) -> Volume:
    match event:
        case VolumeLocked():
            return replace(
                volume,
                phase=VolumePhase.LOCKED,
                operation=event.operation,
                locked_for=event.snapshot,
                snapshots=volume.snapshots | {event.snapshot, *event.twins},
            )
        case VolumeUnlocked():
            gone = {*event.gone_twins, *((event.snapshot,) if event.gone else ())}
            left = volume.snapshots - gone
            ready = VolumePhase.READY
            return replace(volume, phase=ready, operation="", locked_for="", snapshots=left)
        case VolumeSnapshotGone():
            return replace(volume, snapshots=volume.snapshots - {event.snapshot})
        case _:
            assert_never(event)


def _used(volume: Volume, event: AttachingEvent) -> Volume:
    use = attaching.evolve(volume.use, event)
    match event:
        case VolumeAttachingBegan() | VolumeDetachingBegan() | VolumeLimitingBegan():
            phase = _PHASES[type(event)]
            return replace(volume, phase=phase, operation=event.operation, use=use)
        case _:
            return replace(volume, phase=VolumePhase.READY, operation="", use=use)


_Hold = (
    VolumeHoldBegan
    | VolumeHeld
    | VolumeUndeletionBegan
    | VolumeUndeleted
    | VolumeUndeletionFailed
    | VolumeDeletionFailed
)


def _held(volume: Volume, event: _Hold) -> Volume:
    match event:
        case VolumeHoldBegan():
            began = replace(volume, phase=VolumePhase.HOLDING, operation=event.operation)
            return replace(began, until=event.until, wiping=event.wiping)
        case VolumeHeld():
            return replace(volume, phase=VolumePhase.HELD, operation="", until=event.until)
        case VolumeUndeletionBegan():
            return replace(volume, phase=VolumePhase.UNDELETING, operation=event.operation)
        case VolumeUndeletionFailed():
            return replace(volume, phase=VolumePhase.HELD, operation="")
        case VolumeDeletionFailed() if volume.phase is VolumePhase.DELETING and volume.until:
            return replace(volume, phase=VolumePhase.HELD, operation="")
        case VolumeUndeleted() | VolumeDeletionFailed():
            calm = replace(volume, operation="", until=None, wiping=Wiping.DISCARD)
            return replace(calm, phase=VolumePhase.READY)
        case _:
            assert_never(event)
