"""How a volume came to the replicas it has: its events applied, one after another."""

from typing import assert_never

from msgspec.structs import replace

from aggregates import counting, labelling, verifying, volume_past
from aggregates.peers import member_on, one_of_several_moves
from aggregates.volume import Volume, VolumePhase
from schemas.attaching import VolumeAttachingBegan
from schemas.counting import CountingEvent, VolumeIoCounted
from schemas.handing import (
    FailoverBegan,
    HandOverBegan,
    HandOverFailed,
    PeerFenced,
    PeerReturned,
    VolumeFailoverSet,
    VolumeHandedOver,
    VolumeHomeMoved,
    VolumeTiedAnew,
)
from schemas.labels import LabellingEvent, VolumeLabelled
from schemas.legs import (
    LegsEvent,
    MigrationBegan,
    MigrationFailed,
    ReplicaAdded,
    ReplicaAdditionBegan,
    ReplicaAdditionFailed,
    ReplicaRemovalBegan,
    ReplicaRemovalFailed,
    SplitSettled,
    SplitSettlingBegan,
    SplitSettlingFailed,
    VolumeMigrated,
    VolumeReplicaRemoved,
)
from schemas.replication import Member
from schemas.verifying import VerifyingEvent

_Happened = volume_past.Happened | LegsEvent | LabellingEvent | CountingEvent
_Began = ReplicaAdditionBegan | ReplicaRemovalBegan | SplitSettlingBegan
_Ended = (
    ReplicaAdded
    | ReplicaAdditionFailed
    | VolumeReplicaRemoved
    | ReplicaRemovalFailed
    | VolumeHandedOver
    | HandOverFailed
    | VolumeMigrated
    | MigrationFailed
    | SplitSettled
    | SplitSettlingFailed
)
_PHASES: dict[type[_Began], VolumePhase] = {
    ReplicaAdditionBegan: VolumePhase.ADDING_REPLICA,
    ReplicaRemovalBegan: VolumePhase.REMOVING_REPLICA,
    SplitSettlingBegan: VolumePhase.SETTLING_SPLIT,
}


def evolve(volume: Volume, event: _Happened) -> Volume:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    if isinstance(event, VolumeAttachingBegan):
        return _home(volume_past.evolve(volume, event), event.node)
    if isinstance(event, VolumeLabelled):
        return labelling.evolve(volume, event)
    if isinstance(event, VolumeIoCounted):
        return counting.evolve(volume, event)
    if isinstance(event, VerifyingEvent):
        return verifying.evolve(volume, event)
    if not isinstance(event, LegsEvent):
        return volume_past.evolve(volume, event)
    match event:
        case ReplicaAdditionBegan():
            coming = replace(volume, coming=_heading(event))
            if volume.phase is VolumePhase.PROVISIONING:
                return coming
            # It may have been seen larger than it was made: see where that is decided.
            coming = replace(coming, size_bytes=event.size_bytes)
            return replace(coming, phase=_PHASES[type(event)], operation=event.operation)
        case ReplicaRemovalBegan() | SplitSettlingBegan():
            left = event.node if isinstance(event, ReplicaRemovalBegan) else event.loses
            behind = _behind(volume, left)
            return replace(behind, phase=_PHASES[type(event)], operation=event.operation)
        case HandOverBegan():
            use = replace(volume.use, attaching=event.attachment)
            return replace(
                volume, phase=VolumePhase.HANDING_OVER, operation=event.operation, use=use
            )
        case FailoverBegan():
            return _failing_over(volume, event)
        case MigrationBegan():
            migrating = replace(volume, migrating=event.source)
            return replace(migrating, phase=VolumePhase.MIGRATING, operation=event.operation)
        case VolumeHomeMoved():
            return replace(_home(volume, event.node), epoch=event.epoch)
        case VolumeTiedAnew():
            return _tied_anew(volume, event)
        case PeerFenced():
            return replace(volume, epoch=event.epoch, outdated=volume.outdated | {event.peer})
        case PeerReturned():
            return replace(volume, outdated=volume.outdated - {event.peer})
        case VolumeFailoverSet():
            return replace(volume, failover=event.auto)
        case _:
            return _ended(volume, event)


def _heading(event: ReplicaAdditionBegan) -> str:
    """Return the node that the new replica is going to be on, if it can be on one only."""
    nodes = {one.node for one in event.candidates if one.code is None}
    return nodes.pop() if len(nodes) == 1 else ""


def _behind(volume: Volume, node: str) -> Volume:
    """Return the volume in an epoch in which that node may not become the one that writes."""
    return replace(volume, epoch=volume.epoch + 1, outdated=volume.outdated | {node})


def _home(volume: Volume, node: str) -> Volume:
    there = member_on(volume, node)
    if there is None or node == volume.node:
        return volume
    # It may take a third for outdated that is so no more, and then goes on without it and asks
    # nobody: until it has seen it whole, the third may not become the one that writes.
    third = frozenset(one.node for one in volume.members) - {node, volume.node}
    return replace(
        volume,
        node=node,
        pool=there.pool,
        epoch=volume.epoch + 1,
        outdated=volume.outdated | third,
    )


def _tied_anew(volume: Volume, event: VolumeTiedAnew) -> Volume:
    home = next((one for one in event.members if one.node == event.node), None)
    return replace(
        volume,
        node=event.node,
        pool=volume.pool if home is None else home.pool,
        members=event.members,
        epoch=event.epoch,
        outdated=frozenset(one.node for one in event.members) - {event.node},
    )


def _failing_over(volume: Volume, event: FailoverBegan) -> Volume:
    use = replace(volume.use, attachment=None, attaching=event.attachment)
    outdated = frozenset(one.node for one in volume.members) - {event.node}
    began = replace(_home(volume, event.node), outdated=outdated, epoch=event.epoch, use=use)
    return replace(began, phase=VolumePhase.FAILING_OVER, operation=event.operation)


def _ended(volume: Volume, event: _Ended) -> Volume:
    match event:
        case ReplicaAdded() if volume.phase is VolumePhase.PROVISIONING:
            return replace(volume, members=event.members, coming="")
        case ReplicaAdded():
            replicas = volume.replicas
            if not volume.migrating:
                replicas = max(replicas, len(event.members))
            volume = replace(volume, replicas=replicas, coming="")
            return _at_rest(replace(volume, members=event.members))
        case VolumeReplicaRemoved():
            same = bool(event.members) or one_of_several_moves(volume)
            size_bytes = volume.size_bytes if same else event.size_bytes
            kept = event.lost or bool(volume.migrating)
            replicas = volume.replicas if kept else max(1, len(event.members))
            return _at_rest(
                replace(
                    volume,
                    members=event.members,
                    outdated=_among(event.members, volume.outdated),
                    size_bytes=size_bytes,
                    replicas=replicas,
                )
            )
        case VolumeHandedOver() | HandOverFailed():
            kept = isinstance(event, HandOverFailed) and event.kept
            has = volume.use.attachment if kept else event.attachment
            use = replace(volume.use, attachment=has, attaching=None)
            return _at_rest(replace(volume, use=use))
        case VolumeMigrated() | MigrationFailed():
            return replace(volume, phase=VolumePhase.READY, operation="", migrating="")
        case ReplicaAdditionFailed():
            # One that was being filled when it was fenced is none of them.
            as_before = replace(volume, coming="", size_bytes=_left_bytes(volume, event))
            if volume.phase is VolumePhase.PROVISIONING:
                return as_before
            return _at_rest(replace(as_before, outdated=_among(volume.members, volume.outdated)))
        case ReplicaRemovalFailed():
            # What was seen before the others let it go must not bring it back after that.
            return _at_rest(replace(volume, epoch=volume.epoch + 1))
        case SplitSettled() | SplitSettlingFailed():
            return _at_rest(volume)
        case _:
            assert_never(event)


def _among(members: tuple[Member, ...], outdated: frozenset[str]) -> frozenset[str]:
    return outdated & frozenset(one.node for one in members)


def _at_rest(volume: Volume) -> Volume:
    """Return the volume as it is after one step of a migration, or with nothing running."""
    if volume.migrating:
        return replace(volume, phase=VolumePhase.MIGRATING)
    return replace(volume, phase=VolumePhase.READY, operation="")


def _left_bytes(volume: Volume, event: ReplicaAdditionFailed) -> int:
    """Return how large the volume is after its only leg has grown for another that has not come."""
    seen_bytes = 0 if one_of_several_moves(volume) else event.size_bytes
    return seen_bytes or volume.size_bytes
