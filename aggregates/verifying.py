"""Comparing the replicas of a volume while it is in use, and evening out what differs.

Comparing takes hours, and keeps nobody from using the volume: it is attached, snapshotted, grown
and handed over meanwhile. What would take a replica away waits. Only while what differs is copied
nothing else is done.
"""

from datetime import timedelta
from typing import assert_never

from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from aggregates.peers import others, seen
from aggregates.volume import Verifying, Volume, VolumePhase
from schemas.answers import Refused, refuse
from schemas.deleting import DeleteVolume, PurgeVolume
from schemas.grammar import Message
from schemas.legs import AddReplica, MigrateVolume, RemoveReplicaOf, SettleSplitBrain
from schemas.refusals import Refusal
from schemas.replication import LegDisk, Tie
from schemas.verifying import (
    ConcludeVerification,
    RepairBegan,
    RepairReplicas,
    VerificationBegan,
    VerificationFailed,
    VerifyingCommand,
    VerifyingEvent,
    VerifyVolume,
    VolumeRepaired,
    VolumeVerified,
)

_NOT_MEANWHILE = (
    DeleteVolume | PurgeVolume | AddReplica | RemoveReplicaOf | MigrateVolume | SettleSplitBrain
)


def hindered(volume: Volume, command: Message) -> Refused | None:
    """Return why that cannot be done while the replicas are compared, or None."""
    if volume.verifying is None or not isinstance(command, _NOT_MEANWHILE):
        return None
    return _under_way(volume.verifying, command.volume)


def _under_way(verifying: Verifying, name: str) -> Refused:
    running = f"operation {verifying.operation} compares the replicas of {name}"
    return refuse(Refusal.VOLUME_BUSY, running)


def decide(volume: Volume, command: VerifyingCommand, facts: Facts) -> Decision[VerifyingEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case VerifyVolume():
            return _verify(volume, command, facts)
        case RepairReplicas():
            return _repair(volume, command, facts)
        case ConcludeVerification():
            now = volume.verifying
            mine = now is not None and now.operation == command.operation
            return _conclude(volume, command, facts) if mine else ()
        case _:
            assert_never(command)


def _unfit(volume: Volume, name: str, facts: Facts) -> Refused | None:
    """Return why the replicas cannot be compared now, or None."""
    if volume.phase is VolumePhase.ABSENT or volume.phase is VolumePhase.CLONING:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {name}")
    if volume.phase is VolumePhase.HELD:
        return refuse(Refusal.VOLUME_HELD, f"{name} is deleted, and held")
    if volume.operation:
        running = f"operation {volume.operation} ({volume.phase.value}) runs on {name}"
        return refuse(Refusal.VOLUME_BUSY, running)
    if not volume.members:
        return refuse(Refusal.NOT_REPLICATED, f"{name} has one replica, on {volume.node}")
    return _degraded(volume, name, facts)


def _degraded(volume: Volume, name: str, facts: Facts) -> Refused | None:
    home = seen(facts.world, volume.node, name)
    for one in volume.members:
        node = facts.world.nodes.get(one.node)
        if node is None or node.silent:
            return refuse(Refusal.NOT_UP_TO_DATE, f"{one.node} is not heard")
        known = seen(facts.world, one.node, name)
        peer = None if home is None else home.peer(one.node)
        there = None if peer is None else peer.disk
        disk = there if one.node != volume.node and there is not None else None
        disk = disk or (LegDisk.UNKNOWN if known is None else known.disk)
        how = "outdated" if one.node in volume.outdated else disk.value
        if how != LegDisk.UP_TO_DATE.value:
            return refuse(Refusal.NOT_UP_TO_DATE, f"the replica of {name} on {one.node} is {how}")
        if peer is not None and peer.tie is not Tie.CONNECTED:
            return refuse(Refusal.NOT_UP_TO_DATE, f"{one.node} is {peer.tie.value}")
    return None


def _verify(volume: Volume, command: VerifyVolume, facts: Facts) -> Decision[VerifyingEvent]:
    name = command.volume
    no = _unfit(volume, name, facts)
    if no is None and volume.verifying is not None:
        no = _under_way(volume.verifying, name)
    return no or (
        VerificationBegan(
            volume=name,
            uid=volume.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=volume.node,
            peers=tuple(one.node for one in others(volume)),
            size_bytes=volume.size_bytes + volume.header_bytes,
            repair=command.repair,
        ),
    )


def _repair(volume: Volume, command: RepairReplicas, facts: Facts) -> Decision[VerifyingEvent]:
    name, verifying = command.volume, volume.verifying
    if verifying is None or verifying.operation != command.operation:
        return refuse(Refusal.NOT_YOURS, f"that operation compares no replicas of {name}")
    if volume.operation == command.operation:
        return ()
    no = _unfit(volume, name, facts)
    if no is None and volume.node != verifying.node:
        moved = f"{name} is written to on {volume.node} by now, not on {verifying.node}"
        no = refuse(Refusal.VERIFY_BROKEN, moved)
    return no or (
        RepairBegan(
            volume=name,
            operation=command.operation,
            node=volume.node,
            differing_bytes=volume.differing_bytes,
        ),
    )


def _conclude(
    volume: Volume, report: ConcludeVerification, facts: Facts
) -> Decision[VerifyingEvent]:
    about = {"volume": report.volume, "operation": report.operation}
    if report.code is not None:
        failed = VerificationFailed(**about, code=report.code, because=report.because)
        return (failed,)
    if report.repaired:
        repaired = VolumeRepaired(**about, node=volume.node, differing_bytes=volume.differing_bytes)
        return (repaired,)
    return (
        VolumeVerified(
            **about,
            at=facts.at,
            differing_bytes=report.differing_bytes,
            goes_on=report.goes_on,
        ),
    )


def evolve(volume: Volume, event: VerifyingEvent) -> Volume:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case VerificationBegan():
            verifying = Verifying(operation=event.operation, node=event.node)
            return replace(volume, verifying=verifying)
        case VolumeVerified():
            return replace(
                volume,
                verifying=volume.verifying if event.goes_on else None,
                verified_at=event.at,
                differing_bytes=event.differing_bytes,
            )
        case RepairBegan():
            return replace(volume, phase=VolumePhase.REPAIRING, operation=event.operation)
        case VolumeRepaired():
            return replace(_ended(volume, event.operation), differing_bytes=0)
        case VerificationFailed():
            return _ended(volume, event.operation)
        case _:
            assert_never(event)


def _ended(volume: Volume, operation: str) -> Volume:
    """Return the volume as it is without that work; a failover has taken its place, perhaps."""
    mine = volume.phase is VolumePhase.REPAIRING and volume.operation == operation
    after = replace(volume, verifying=None)
    return replace(after, phase=VolumePhase.READY, operation="") if mine else after
