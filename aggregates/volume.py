"""What people asked for: one volume, one running operation, and where it was put and why."""

from datetime import timedelta
from enum import StrEnum
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from aggregates.ledger import short_of
from aggregates.node import unheard
from aggregates.placement import nowhere, rank
from schemas.answers import Refused, refuse
from schemas.pool import Reserve
from schemas.refusals import Refusal
from schemas.units import readable
from schemas.volume import (
    Candidate,
    ConcludeVolume,
    DeleteVolume,
    Filesystem,
    GrowVolume,
    Layout,
    LockVolume,
    ProvisionVolume,
    ReportLegRemoved,
    ReportVolumeSnapshotGone,
    VolumeCommand,
    VolumeDeleted,
    VolumeDeletionBegan,
    VolumeDeletionFailed,
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

STRIPES_MIN = 2


class VolumePhase(StrEnum):
    """Where a volume is in its life."""

    ABSENT = "absent"
    PROVISIONING = "provisioning"
    READY = "ready"
    GROWING = "growing"
    DELETING = "deleting"
    LOCKED = "locked"


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """One volume. ``size_bytes`` is what was asked for until the node says what it is.

    ``locked_for`` is the snapshot that is worked on, ``snapshots`` are those that may be there.
    """

    phase: VolumePhase = VolumePhase.ABSENT
    uid: str = ""
    operation: str = ""
    size_bytes: int = 0
    layout: Layout = Layout.LINEAR
    stripes: int = 1
    filesystem: Filesystem = Filesystem.NONE
    node: str = ""
    pool: str = ""
    candidates: tuple[Candidate, ...] = ()
    locked_for: str = ""
    snapshots: frozenset[str] = frozenset()


def decide(volume: Volume, command: VolumeCommand, facts: Facts) -> Decision[VolumeEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case ProvisionVolume():
            return _provision(volume, command, facts)
        case GrowVolume():
            return _unready(volume, command, facts) or _grow(volume, command, facts)
        case DeleteVolume():
            return _unready(volume, command, facts) or _delete(volume, command, facts)
        case LockVolume():
            return _lock(volume, command)
        case ConcludeVolume():
            return _conclude(volume, command) if volume.operation == command.operation else ()
        case ReportLegRemoved():
            gone = volume.phase is VolumePhase.READY and volume.uid == command.uid
            return (VolumeGone(volume=command.volume, uid=command.uid),) if gone else ()
        case ReportVolumeSnapshotGone():
            known = volume.uid == command.uid and command.snapshot in volume.snapshots
            gone_one = VolumeSnapshotGone(volume=command.volume, snapshot=command.snapshot)
            return (gone_one,) if known else ()
        case _:
            assert_never(command)


def _provision(volume: Volume, command: ProvisionVolume, facts: Facts) -> Decision[VolumeEvent]:
    if volume.phase is not VolumePhase.ABSENT:
        there = f"there is a volume {command.volume} ({volume.phase.value})"
        return refuse(Refusal.VOLUME_EXISTS, there)
    if command.volume in facts.world.snapshots:
        return refuse(Refusal.SNAPSHOT_EXISTS, f"there is a snapshot {command.volume}")
    striped = command.layout is Layout.STRIPED
    if striped is (command.stripes < STRIPES_MIN):
        odd = f"layout {command.layout.value} with {command.stripes} stripes"
        return refuse(Refusal.BAD_LAYOUT, odd)
    candidates = rank(command, facts.world, facts.uid)
    return nowhere(command, candidates) or (
        VolumeProvisioningBegan(
            volume=command.volume,
            uid=facts.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            size_bytes=command.size_bytes,
            candidates=candidates,
            layout=command.layout,
            stripes=command.stripes,
            filesystem=command.filesystem,
        ),
    )


def _unready(volume: Volume, command: GrowVolume | DeleteVolume, facts: Facts) -> Refused | None:
    no = _taken(volume, command.volume)
    if no is not None:
        return no
    if volume.snapshots and not (isinstance(command, GrowVolume) and volume.layout is Layout.THIN):
        kept = f"{command.volume} has the snapshots {', '.join(sorted(volume.snapshots))}"
        return refuse(Refusal.HAS_SNAPSHOTS, kept[:1000])
    return unheard(facts.world.nodes.get(volume.node), volume.node)


def _taken(volume: Volume, name: str) -> Refused | None:
    """Return why nothing can be begun with the volume."""
    if volume.phase is VolumePhase.ABSENT:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {name}")
    if volume.operation:
        running = f"operation {volume.operation} ({volume.phase.value}) runs on {name}"
        return refuse(Refusal.VOLUME_BUSY, running)
    return None


def _lock(volume: Volume, command: LockVolume) -> Decision[VolumeEvent]:
    if volume.operation == command.operation:
        return ()
    if volume.uid != command.uid:
        return refuse(Refusal.UNKNOWN_VOLUME, f"that volume {command.volume} is no more")
    return _taken(volume, command.volume) or (
        VolumeLocked(
            volume=command.volume,
            uid=command.uid,
            operation=command.operation,
            snapshot=command.snapshot,
        ),
    )


def _grow(volume: Volume, command: GrowVolume, facts: Facts) -> Decision[VolumeEvent]:
    if command.size_bytes <= volume.size_bytes:
        has, asked = readable(volume.size_bytes), readable(command.size_bytes)
        same = f"{command.volume} has {has}, {asked} are asked for"
        return refuse(Refusal.NOT_LARGER, same)
    no = _no_room_to_grow(volume, command, facts)
    return no or (
        VolumeGrowthBegan(
            volume=command.volume,
            uid=volume.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=volume.node,
            pool=volume.pool,
            from_bytes=volume.size_bytes,
            size_bytes=command.size_bytes,
            layout=volume.layout,
            stripes=volume.stripes,
        ),
    )


def _no_room_to_grow(volume: Volume, command: GrowVolume, facts: Facts) -> Refused | None:
    pool = facts.world.pools.get((volume.node, volume.pool))
    if pool is None or pool.facts is None:
        return refuse(Refusal.POOL_NOT_READY, f"{volume.node}/{volume.pool} is not there")
    wish = Reserve(
        pool=volume.pool,
        node=volume.node,
        claim=volume.uid,
        size_bytes=command.size_bytes - volume.size_bytes,
        operation=facts.operation,
        thin=volume.layout is Layout.THIN,
        stripes=volume.stripes,
        first=False,
    )
    return short_of(pool.ledger, pool.facts, pool.thin_ratio_percent, pool.volumes_max, wish)


def _delete(volume: Volume, command: DeleteVolume, facts: Facts) -> Decision[VolumeEvent]:
    return (
        VolumeDeletionBegan(
            volume=command.volume,
            uid=volume.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=volume.node,
            pool=volume.pool,
        ),
    )


def _conclude(volume: Volume, report: ConcludeVolume) -> Decision[VolumeEvent]:
    match volume.phase:
        case VolumePhase.PROVISIONING:
            return (_provisioned(volume, report),)
        case VolumePhase.GROWING:
            return (_grown(volume, report),)
        case VolumePhase.DELETING:
            return (_deleted(volume, report),)
        case VolumePhase.LOCKED:
            return (_unlocked(volume, report),)
        case VolumePhase.ABSENT | VolumePhase.READY:
            return ()
        case _:
            assert_never(volume.phase)


def _provisioned(volume: Volume, report: ConcludeVolume) -> VolumeEvent:
    if report.code is None and report.node is not None and report.pool is not None:
        return VolumeProvisioned(
            volume=report.volume,
            uid=volume.uid,
            operation=report.operation,
            node=report.node,
            pool=report.pool,
            size_bytes=report.size_bytes or volume.size_bytes,
        )
    return VolumeProvisioningFailed(
        volume=report.volume,
        uid=volume.uid,
        operation=report.operation,
        code=report.code or Refusal.NO_PLACE,
        because=report.because,
    )


def _grown(volume: Volume, report: ConcludeVolume) -> VolumeEvent:
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


def _deleted(volume: Volume, report: ConcludeVolume) -> VolumeEvent:
    if report.gone or report.code is None:
        return VolumeDeleted(volume=report.volume, uid=volume.uid, operation=report.operation)
    return VolumeDeletionFailed(
        volume=report.volume,
        operation=report.operation,
        code=report.code,
        because=report.because,
    )


def _unlocked(volume: Volume, report: ConcludeVolume) -> VolumeEvent:
    return VolumeUnlocked(
        volume=report.volume,
        operation=report.operation,
        snapshot=volume.locked_for,
        gone=report.gone,
    )


def evolve(volume: Volume, event: VolumeEvent) -> Volume:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case VolumeProvisioningBegan():
            return _began(event)
        case VolumeProvisioned():
            return replace(
                volume,
                phase=VolumePhase.READY,
                operation="",
                node=event.node,
                pool=event.pool,
                size_bytes=event.size_bytes,
            )
        case VolumeGrowthBegan():
            return replace(volume, phase=VolumePhase.GROWING, operation=event.operation)
        case VolumeGrown() | VolumeGrowthFailed():
            return replace(
                volume, phase=VolumePhase.READY, operation="", size_bytes=event.size_bytes
            )
        case VolumeDeletionBegan():
            return replace(volume, phase=VolumePhase.DELETING, operation=event.operation)
        case VolumeDeletionFailed():
            return replace(volume, phase=VolumePhase.READY, operation="")
        case VolumeDeleted() | VolumeProvisioningFailed() | VolumeGone():
            return Volume()
        case VolumeLocked() | VolumeUnlocked() | VolumeSnapshotGone():
            return _with_snapshots(volume, event)
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
                snapshots=volume.snapshots | {event.snapshot},
            )
        case VolumeUnlocked():
            left = volume.snapshots - ({event.snapshot} if event.gone else frozenset())
            ready = VolumePhase.READY
            return replace(volume, phase=ready, operation="", locked_for="", snapshots=left)
        case VolumeSnapshotGone():
            return replace(volume, snapshots=volume.snapshots - {event.snapshot})
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
    )
