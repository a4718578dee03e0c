"""Standing rules: what follows from an observation whoever is waiting for it, or nobody."""

from collections.abc import Iterator, Sequence

from aggregates.decision import World
from aggregates.disk import Owner
from aggregates.errand import ErrandPhase
from aggregates.pool import PoolPhase
from aggregates.processes import comparisons, epochs, together
from aggregates.raw_disks import group_of
from aggregates.replica import ReplicaPhase
from aggregates.snapshot import SnapshotPhase
from aggregates.volume import VolumePhase
from schemas.disk import ReportDiskReleased
from schemas.draining import PoolForgotten
from schemas.errand import StopErrand
from schemas.grammar import Event, Message
from schemas.mending import ReplicaMended
from schemas.node import ConcludeNode, DetachPool
from schemas.pool import (
    ConcludePool,
    PoolDisksDropped,
    PoolRemoved,
    ReportReleased,
    ReportSettled,
)
from schemas.refusals import Refusal
from schemas.replica import ReplicaCreated, ReplicaRemoved, ReplicaResized
from schemas.replication import ReplicaForgotten
from schemas.settling import ConcludeSettling, ForeignReleased
from schemas.snapshot import (
    ConcludeSnapshot,
    DeleteSnapshot,
    ReportSnapshotLegRemoved,
    ReportSnapshotRead,
    SnapshotGone,
)
from schemas.target import ConcludeTarget
from schemas.volume import ConcludeVolume, Layout, ReportLegRemoved, ReportVolumeSnapshotGone


def follows(events: Sequence[Event], world: World) -> tuple[Message, ...]:
    """Return the reports that follow from *events*: ledger, claims, groups, schedules keep up."""
    return tuple(
        report
        for event in events
        for reports in (
            _follows(event),
            together.follows(event, world),
            epochs.follows(event, world),
        )
        for report in reports
    )


def _follows(event: Event) -> Iterator[Message]:
    match event:
        case ReplicaCreated(disk=None) | ReplicaResized(disk=None) | ReplicaMended():
            yield ReportSettled(
                pool=event.pool,
                node=event.node,
                claim=event.uid,
                size_bytes=event.size_bytes,
                thin=event.thin,
            )
        case ForeignReleased():
            yield ReportReleased(pool=event.pool, node=event.node, claim=event.claim)
        case ReplicaRemoved():
            if event.disk is None:
                yield ReportReleased(pool=event.pool, node=event.node, claim=event.uid)
            else:
                yield ReportDiskReleased(disk=event.disk, node=event.node, pool=event.pool)
                yield DetachPool(node=event.node, pool=event.pool)
            if event.snapshot:
                yield ReportSnapshotLegRemoved(snapshot=event.volume, uid=event.uid)
            else:
                yield ReportLegRemoved(volume=event.volume, uid=event.uid, node=event.node)
        case ReplicaForgotten():
            yield ReportReleased(pool=event.pool, node=event.node, claim=event.uid)
            if event.snapshot:
                yield ReportSnapshotLegRemoved(snapshot=event.volume, uid=event.uid)
        case PoolForgotten():
            for disk in event.disks:
                yield ReportDiskReleased(disk=disk, node=event.node, pool=event.pool)
            yield DetachPool(node=event.node, pool=event.pool)
        case SnapshotGone():
            yield ReportVolumeSnapshotGone(
                volume=event.volume, uid=event.volume_uid, snapshot=event.snapshot
            )
        case PoolDisksDropped():
            for disk in event.disks:
                yield ReportDiskReleased(disk=disk, node=event.node, pool=event.pool)
        case PoolRemoved():
            for disk in event.disks:
                yield ReportDiskReleased(disk=disk, node=event.node, pool=event.pool)
            yield DetachPool(node=event.node, pool=event.pool)
        case _:
            return


def owed(world: World) -> tuple[Message, ...]:
    """Return what *world* as it is still owes to the rules.

    It is what ``follows`` would have said of commits that nobody lived to act on.
    """
    return (
        *_owed_to_ledgers(world),
        *_owed_by_claims(world),
        *_owed_to_volumes(world),
        *_owed_to_snapshots(world),
        *_held_for_nobody(world),
        *_settled_by_nobody(world),
        *_outlived(world),
        *together.owed(world),
        *epochs.owed(world),
        *comparisons.owed(world),
    )


def _owed_to_ledgers(world: World) -> Iterator[Message]:
    present = {
        (key[0], r.spec.uid): (key, r) for key, r in world.replicas.items() if r.spec is not None
    }
    waiting = {v.uid for v in world.volumes.values() if v.operation}
    waiting |= {s.uid for s in world.snapshots.values() if s.operation}
    # What is in quarantine, or on its way there or to become a volume, has a claim, and no leg.
    waiting |= {q.claim for node in world.nodes.values() for q in node.quarantined}
    waiting |= {s.uid for node in world.nodes.values() for s in node.settling}
    for (node, name), pool in world.pools.items():
        for claim in sorted(pool.ledger.settled.keys() | pool.ledger.reserved.keys()):
            if (node, claim) not in present and claim not in waiting:
                yield ReportReleased(pool=name, node=node, claim=claim)
    for (node, _volume), replica in present.values():
        if replica.spec is None or replica.phase is not ReplicaPhase.PRESENT:
            continue
        thin = replica.spec.layout is Layout.THIN
        home = world.pools.get((node, replica.spec.pool))
        if home is None:
            continue
        booked = home.ledger.settled.get(replica.spec.uid)
        if booked is None or booked.size_bytes != replica.size_bytes:
            yield ReportSettled(
                pool=replica.spec.pool,
                node=node,
                claim=replica.spec.uid,
                size_bytes=replica.size_bytes,
                thin=thin,
            )


def _owed_by_claims(world: World) -> Iterator[Message]:
    for name, disk in world.disks.items():
        if disk.owner is None:
            continue
        pool = world.pools.get((disk.owner.node, disk.owner.pool))
        mine = pool is not None and name in (*pool.disks, *pool.adding, *pool.dropping)
        if not mine and not _is_volume(name, disk.owner, world):
            yield ReportDiskReleased(disk=name, node=disk.owner.node, pool=disk.owner.pool)
    owners = (disk.owner for disk in world.disks.values())
    whole = {(one.node, one.pool) for one in owners if one is not None and one.volume}
    for name, node in world.nodes.items():
        for carried in sorted(node.pools):
            pool = world.pools.get((name, carried))
            gone = pool is None or pool.phase is PoolPhase.ABSENT
            if gone and (name, carried) not in whole:
                yield DetachPool(node=name, pool=carried)


def _is_volume(name: str, owner: Owner, world: World) -> bool:
    """Whether a disk is a volume, or is becoming one."""
    volume = world.volumes.get(owner.volume)
    coming = volume is not None and volume.phase is VolumePhase.PROVISIONING
    if volume is not None and coming and group_of(volume.uid) == owner.pool:
        return True
    leg = world.replicas.get((owner.node, owner.volume))
    spec = None if leg is None else leg.spec
    return spec is not None and (spec.disk, spec.pool) == (name, owner.pool)


def _owed_to_volumes(world: World) -> Iterator[Message]:
    legs = {r.spec.uid for r in world.replicas.values() if r.spec is not None}
    for name, volume in world.volumes.items():
        at_rest = volume.phase in {VolumePhase.READY, VolumePhase.HELD}
        if at_rest and volume.uid not in legs:
            yield ReportLegRemoved(volume=name, uid=volume.uid)


def _outlived(world: World) -> Iterator[Message]:
    """What was taken for a larger operation goes with it, whatever kept it from that."""
    running = {name for name, o in world.operations.items() if o.outcome is None}
    for name, snapshot in world.snapshots.items():
        free = snapshot.phase is SnapshotPhase.READY and not snapshot.readers
        volume = world.volumes.get(snapshot.volume)
        busy = volume is not None and bool(volume.operation)
        if free and not busy and snapshot.of_operation and snapshot.of_operation not in running:
            yield DeleteSnapshot(snapshot=name)


def _owed_to_snapshots(world: World) -> Iterator[Message]:
    legs = {r.spec.uid for r in world.replicas.values() if r.spec is not None}
    for name, snapshot in world.snapshots.items():
        if snapshot.phase is SnapshotPhase.READY and snapshot.uid not in legs:
            yield ReportSnapshotLegRemoved(snapshot=name, uid=snapshot.uid)
    for name, volume in world.volumes.items():
        for kept in sorted(volume.snapshots):
            nodes = {volume.node, *(one.node for one in volume.members)}
            left = kept in world.snapshots or any((n, kept) in world.replicas for n in nodes)
            if not left and not volume.operation:
                yield ReportVolumeSnapshotGone(volume=name, uid=volume.uid, snapshot=kept)


def busy_with(world: World) -> set[str]:
    """Return the operations that something is busy with, whether they have ended or not.

    As long as it is, their end must be known: of one that is not known nobody can say whether it
    has ended, or has only just begun.
    """
    busy = {pool.operation for pool in world.pools.values()}
    busy |= {group.operation for group in world.groups.values()}
    busy |= {schedule.running for schedule in world.schedules.values()}
    busy |= {key[1] for key, one in world.errands.items() if one.phase is ErrandPhase.WANTED}
    for volume in world.volumes.values():
        busy.add(volume.operation)
        if volume.verifying is not None:
            busy.add(volume.verifying.operation)
    for snapshot in world.snapshots.values():
        busy |= {snapshot.operation, *snapshot.readers}
    for target in world.targets.values():
        busy |= target.running.keys()
    for member in world.nodes.values():
        busy |= {member.operation, *(one.operation for one in member.settling)}
    return busy - {""}


def _held_for_nobody(world: World) -> Iterator[Message]:
    """Nothing stays busy for an operation that has ended."""
    ended = {name for name, o in world.operations.items() if o.outcome is not None}
    for (node, name), pool in world.pools.items():
        if pool.operation in ended:
            yield ConcludePool(pool=name, node=node, operation=pool.operation)
    for name, volume in world.volumes.items():
        if volume.operation in ended:
            yield ConcludeVolume(
                volume=name,
                operation=volume.operation,
                code=Refusal.DEADLINE,
                because="its operation ended without a word",
            )
    for name, snapshot in world.snapshots.items():
        if snapshot.operation in ended:
            yield ConcludeSnapshot(
                snapshot=name,
                operation=snapshot.operation,
                code=Refusal.DEADLINE,
                because="its operation ended without a word",
            )
    for name, snapshot in world.snapshots.items():
        for reader in sorted(snapshot.readers & ended):
            yield ReportSnapshotRead(snapshot=name, uid=snapshot.uid, operation=reader)
    for (node, operation), errand in world.errands.items():
        if operation in ended and errand.phase is ErrandPhase.WANTED:
            yield StopErrand(operation=operation, node=node)
    for name, target in world.targets.items():
        for operation in sorted(target.running.keys() & ended):
            yield ConcludeTarget(
                target=name,
                operation=operation,
                code=Refusal.DEADLINE,
                because="its operation ended without a word",
            )
    for name, member in world.nodes.items():
        if member.operation in ended:
            yield ConcludeNode(node=name, operation=member.operation, removed=False)


def _settled_by_nobody(world: World) -> Iterator[Message]:
    for name, member in world.nodes.items():
        for settling in member.settling:
            operation = world.operations.get(settling.operation)
            if operation is not None and operation.outcome is not None:
                yield ConcludeSettling(
                    node=name,
                    operation=settling.operation,
                    code=Refusal.DEADLINE,
                    because="its operation ended without a word",
                )
