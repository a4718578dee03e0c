"""A volume as it was at one moment: how that is kept, fills up, and goes or comes back."""

from datetime import timedelta
from enum import StrEnum
from itertools import chain
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates import attaching, snapshot_growth, twins
from aggregates.decision import Decision, Facts
from aggregates.node import unheard
from aggregates.peers import device_bytes, no_leg
from aggregates.raw_disks import no_whole_disk
from aggregates.volume import Volume, VolumePhase
from schemas.answers import Refused, refuse
from schemas.growing import (
    GrowSnapshot,
    SnapshotGrowthCommand,
    SnapshotGrowthEvent,
)
from schemas.pool import Reserve
from schemas.refusals import Refusal
from schemas.replica import Consistency
from schemas.rhythm import BySchedule
from schemas.snapshot import (
    ConcludeSnapshot,
    CreateSnapshot,
    DeleteSnapshot,
    Part,
    PrepareSnapshot,
    ReadSnapshot,
    ReportSnapshotFill,
    ReportSnapshotLegRemoved,
    ReportSnapshotRead,
    RollBackSnapshot,
    SnapshotCommand,
    SnapshotCreated,
    SnapshotCreationBegan,
    SnapshotCreationFailed,
    SnapshotDeleted,
    SnapshotDeletionBegan,
    SnapshotDeletionFailed,
    SnapshotEvent,
    SnapshotFailed,
    SnapshotFilled,
    SnapshotGone,
    SnapshotPrepared,
    SnapshotReadingBegan,
    SnapshotReadingEnded,
    SnapshotRollbackBegan,
    SnapshotRollbackFailed,
    SnapshotRolledBack,
)
from schemas.units import readable
from schemas.volume import Layout


class SnapshotPhase(StrEnum):
    """Where a snapshot is in its life."""

    ABSENT = "absent"
    CREATING = "creating"
    READY = "ready"
    DELETING = "deleting"
    ROLLING_BACK = "rolling-back"
    GROWING = "growing"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot; ``size_bytes`` is how large its volume was, ``lost`` why it is of no use.

    ``readers`` are the operations that copy it, ``of_operation`` the one it is taken for, ``by``
    the schedule that took it. ``reserve_bytes`` is what a thick one has for what changes, as LVM
    counts.
    """

    phase: SnapshotPhase = SnapshotPhase.ABSENT
    uid: str = ""
    operation: str = ""
    volume: str = ""
    volume_uid: str = ""
    node: str = ""
    pool: str = ""
    size_bytes: int = 0
    reserve_bytes: int = 0
    layout: Layout = Layout.LINEAR
    fill_percent: int = 0
    lost: str = ""
    readers: frozenset[str] = frozenset()
    of_operation: str = ""
    header_bytes: int = 0
    head_room_bytes: int = 0
    by: BySchedule | None = None


def decide(
    snapshot: Snapshot, command: SnapshotCommand | SnapshotGrowthCommand, facts: Facts
) -> Decision[SnapshotEvent | SnapshotGrowthEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case CreateSnapshot():
            return _create(snapshot, command, facts)
        case PrepareSnapshot():
            return _prepare(snapshot, command, facts)
        case DeleteSnapshot():
            return _unready(snapshot, command, facts) or _delete(snapshot, command, facts)
        case RollBackSnapshot():
            return _unready(snapshot, command, facts) or _roll_back(snapshot, command, facts)
        case ReadSnapshot():
            return _read(snapshot, command)
        case ReportSnapshotRead():
            known = snapshot.uid == command.uid and command.operation in snapshot.readers
            return (_reading(SnapshotReadingEnded, command),) if known else ()
        case GrowSnapshot():
            no = _unready(snapshot, command, facts)
            return no or snapshot_growth.begin(snapshot, command, facts)
        case ConcludeSnapshot():
            return _conclude(snapshot, command) if snapshot.operation == command.operation else ()
        case ReportSnapshotLegRemoved():
            gone = snapshot.phase is SnapshotPhase.READY and snapshot.uid == command.uid
            return (_gone(snapshot, command.snapshot),) if gone else ()
        case ReportSnapshotFill():
            return _note_fill(snapshot, command) if snapshot.uid == command.uid else ()
        case _:
            assert_never(command)


def _create(snapshot: Snapshot, command: CreateSnapshot, facts: Facts) -> Decision[SnapshotEvent]:
    name, volume = command.snapshot, facts.world.volumes.get(command.volume)
    if snapshot.phase is not SnapshotPhase.ABSENT:
        there = f"there is a snapshot {name} ({snapshot.phase.value})"
        return refuse(Refusal.SNAPSHOT_EXISTS, there)
    if name in facts.world.volumes:
        return refuse(Refusal.VOLUME_EXISTS, f"there is a volume {name}")
    if volume is None:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {command.volume}")
    no = no_whole_disk(volume.layout, command.volume, "be snapshotted")
    if no is not None:
        return no
    if name in volume.snapshots and not volume.operation:
        left = f"{volume.node} still holds an earlier snapshot {name} of {command.volume}"
        return refuse(Refusal.REPLICA_BUSY, left)
    if volume.phase is VolumePhase.HELD:
        return refuse(Refusal.VOLUME_HELD, f"{command.volume} is deleted, and held")
    no = busy(volume, command.volume) or unheard(facts.world.nodes.get(volume.node), volume.node)
    if no is not None:
        return no
    thin = volume.layout is Layout.THIN
    if thin and command.reserve_bytes is not None:
        return refuse(Refusal.NO_RESERVE, f"{command.volume} is thin")
    part = twins.part_of(name, command.volume, volume, command.reserve_bytes)
    alone = command.single or command.operation is not None
    several = () if alone else twins.twins_of(part, volume, facts)
    began = SnapshotCreationBegan(
        snapshot=name,
        uid=facts.uid,
        operation=command.operation or facts.operation,
        deadline=facts.at + timedelta(seconds=command.deadline_s),
        volume=command.volume,
        volume_uid=volume.uid,
        node=volume.node,
        pool=volume.pool,
        size_bytes=volume.size_bytes,
        reserve_bytes=part.reserve_bytes,
        layout=volume.layout,
        of_operation=None if command.keep else command.operation,
        header_bytes=volume.header_bytes,
        by=command.by,
        head_room_bytes=volume.head_room_bytes,
        twins=several,
    )
    return _hindered(part, several, facts) or (began,)


def _prepare(snapshot: Snapshot, command: PrepareSnapshot, facts: Facts) -> Decision[SnapshotEvent]:
    name = command.snapshot
    if snapshot.phase is not SnapshotPhase.ABSENT:
        there = f"there is a snapshot {name} ({snapshot.phase.value})"
        return refuse(Refusal.SNAPSHOT_EXISTS, there)
    if name in facts.world.volumes:
        return refuse(Refusal.VOLUME_EXISTS, f"there is a volume {name}")
    about = {field: getattr(command, field) for field in command.__struct_fields__}
    return (SnapshotPrepared(uid=facts.uid, **about),)


def _hindered(part: Part, several: tuple[Part, ...], facts: Facts) -> Refused | None:
    home = facts.world.volumes[part.volume].node
    reasons = chain(
        (twins.taken(twin, facts) for twin in several),
        (twins.no_room(one, one.node or home, facts) for one in (part, *several)),
    )
    return next((no for no in reasons if no is not None), None)


def room_for(began: SnapshotCreationBegan) -> Reserve:
    """Return what its pool is to set aside for a snapshot."""
    thin = began.layout is Layout.THIN
    return Reserve(
        pool=began.pool,
        node=began.node,
        claim=began.uid,
        size_bytes=began.size_bytes + began.header_bytes if thin else began.reserve_bytes,
        operation=began.operation,
        thin=thin,
    )


def busy(volume: Volume, name: str) -> Refused | None:
    """Return why nothing can be begun with the volume now."""
    if not volume.operation:
        return None
    running = f"operation {volume.operation} ({volume.phase.value}) runs on {name}"
    return refuse(Refusal.VOLUME_BUSY, running)


def _unready(
    snapshot: Snapshot, command: DeleteSnapshot | RollBackSnapshot | GrowSnapshot, facts: Facts
) -> Refused | None:
    name = command.snapshot
    if snapshot.phase is SnapshotPhase.ABSENT:
        return refuse(Refusal.UNKNOWN_SNAPSHOT, f"there is no snapshot {name}")
    if isinstance(command, DeleteSnapshot) and command.uid not in {None, snapshot.uid}:
        return refuse(Refusal.UNKNOWN_SNAPSHOT, f"that snapshot {name} is no more")
    if snapshot.operation:
        running = f"operation {snapshot.operation} ({snapshot.phase.value}) runs on {name}"
        return refuse(Refusal.SNAPSHOT_BUSY, running)
    if snapshot.readers:
        readers = ", ".join(sorted(snapshot.readers))
        return refuse(Refusal.SNAPSHOT_BUSY, f"{name} is being copied by operation {readers}")
    volume = facts.world.volumes.get(snapshot.volume)
    no = None if volume is None else busy(volume, snapshot.volume)
    return no or unheard(facts.world.nodes.get(snapshot.node), snapshot.node)


def unreadable(snapshot: Snapshot | None, name: str) -> Refused | None:
    """Return why a snapshot cannot be copied, or None."""
    if snapshot is None or snapshot.phase in {SnapshotPhase.ABSENT, SnapshotPhase.CREATING}:
        return refuse(Refusal.UNKNOWN_SNAPSHOT, f"there is no snapshot {name}")
    if snapshot.operation:
        running = f"operation {snapshot.operation} ({snapshot.phase.value}) runs on {name}"
        return refuse(Refusal.SNAPSHOT_BUSY, running)
    if snapshot.lost:
        return refuse(Refusal.SNAPSHOT_LOST, f"{name}: {snapshot.lost}")
    return None


def _read(snapshot: Snapshot, command: ReadSnapshot) -> Decision[SnapshotEvent]:
    if command.operation in snapshot.readers:
        return ()
    if snapshot.uid != command.uid:
        return refuse(Refusal.UNKNOWN_SNAPSHOT, f"that snapshot {command.snapshot} is no more")
    no = unreadable(snapshot, command.snapshot)
    return no or (_reading(SnapshotReadingBegan, command),)


def _reading(
    word: type[SnapshotReadingBegan] | type[SnapshotReadingEnded],
    command: ReadSnapshot | ReportSnapshotRead,
) -> SnapshotReadingBegan | SnapshotReadingEnded:
    return word(snapshot=command.snapshot, uid=command.uid, operation=command.operation)


def _delete(snapshot: Snapshot, command: DeleteSnapshot, facts: Facts) -> Decision[SnapshotEvent]:
    return (_began(SnapshotDeletionBegan, snapshot, command, facts),)


def _roll_back(
    snapshot: Snapshot, command: RollBackSnapshot, facts: Facts
) -> Decision[SnapshotEvent]:
    if snapshot.lost:
        return refuse(Refusal.SNAPSHOT_LOST, f"{command.snapshot}: {snapshot.lost}")
    volume = facts.world.volumes.get(snapshot.volume)
    if volume is None or volume.uid != snapshot.volume_uid:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {snapshot.volume} any more")
    # A volume that is plain again has what its replication took of the leg: that is no larger.
    kept_bytes = snapshot.size_bytes + (0 if volume.members else snapshot.head_room_bytes)
    if volume.size_bytes > kept_bytes:
        now, then = readable(volume.size_bytes), readable(snapshot.size_bytes)
        return refuse(Refusal.GROWN_SINCE, f"{snapshot.volume} has {now}, then it had {then}")
    no = no_leg(volume, snapshot.volume, snapshot.node, facts.world)
    no = no or attaching.held(volume, snapshot.volume, "be rolled back")
    began = _began(SnapshotRollbackBegan, snapshot, command, facts)
    if no is None and volume.members:
        return (replace(began, members=volume.members, device_bytes=device_bytes(volume)),)
    return no or (began,)


def _began(
    word: type[SnapshotDeletionBegan] | type[SnapshotRollbackBegan],
    snapshot: Snapshot,
    command: DeleteSnapshot | RollBackSnapshot,
    facts: Facts,
) -> SnapshotDeletionBegan | SnapshotRollbackBegan:
    larger = command.operation if isinstance(command, DeleteSnapshot) else None
    return word(
        snapshot=command.snapshot,
        uid=snapshot.uid,
        operation=larger or facts.operation,
        deadline=facts.at + timedelta(seconds=command.deadline_s),
        volume=snapshot.volume,
        volume_uid=snapshot.volume_uid,
        node=snapshot.node,
        pool=snapshot.pool,
    )


def _conclude(
    snapshot: Snapshot, report: ConcludeSnapshot
) -> Decision[SnapshotEvent | SnapshotGrowthEvent]:
    match snapshot.phase:
        case SnapshotPhase.CREATING:
            return (_created(snapshot, report),)
        case SnapshotPhase.DELETING:
            return (_deleted(snapshot, report),)
        case SnapshotPhase.ROLLING_BACK:
            return _rolled_back(snapshot, report)
        case SnapshotPhase.GROWING:
            return (snapshot_growth.conclude(report),)
        case SnapshotPhase.ABSENT | SnapshotPhase.READY:
            return ()
        case _:
            assert_never(snapshot.phase)


def _created(snapshot: Snapshot, report: ConcludeSnapshot) -> SnapshotEvent:
    if report.code is None:
        return SnapshotCreated(
            snapshot=report.snapshot,
            uid=snapshot.uid,
            operation=report.operation,
            reserve_bytes=report.reserve_bytes,
            consistency=report.consistency or Consistency.CRASH,
        )
    return SnapshotCreationFailed(
        snapshot=report.snapshot,
        uid=snapshot.uid,
        operation=report.operation,
        code=report.code,
        because=report.because,
    )


def _deleted(snapshot: Snapshot, report: ConcludeSnapshot) -> SnapshotEvent:
    if report.gone or report.code is None:
        return SnapshotDeleted(
            snapshot=report.snapshot, uid=snapshot.uid, operation=report.operation
        )
    return SnapshotDeletionFailed(
        snapshot=report.snapshot,
        operation=report.operation,
        code=report.code,
        because=report.because,
    )


def _rolled_back(snapshot: Snapshot, report: ConcludeSnapshot) -> Decision[SnapshotEvent]:
    if report.code is None:
        return (
            SnapshotRolledBack(
                snapshot=report.snapshot,
                uid=snapshot.uid,
                operation=report.operation,
                volume=snapshot.volume,
            ),
        )
    failed = SnapshotRollbackFailed(
        snapshot=report.snapshot,
        operation=report.operation,
        code=report.code,
        because=report.because,
    )
    return (failed, _gone(snapshot, report.snapshot)) if report.gone else (failed,)


def _gone(snapshot: Snapshot, name: str) -> SnapshotGone:
    return SnapshotGone(
        snapshot=name,
        uid=snapshot.uid,
        volume=snapshot.volume,
        volume_uid=snapshot.volume_uid,
    )


def _note_fill(snapshot: Snapshot, report: ReportSnapshotFill) -> Decision[SnapshotEvent]:
    events: list[SnapshotEvent] = []
    late = 0 < report.reserve_bytes < snapshot.reserve_bytes  # from before it has grown
    if snapshot.fill_percent != report.data_percent and not late:
        events.append(SnapshotFilled(snapshot=report.snapshot, data_percent=report.data_percent))
    if report.overflowed and not snapshot.lost:
        full = f"more has changed in {snapshot.volume} than the snapshot had room for"
        events.append(
            SnapshotFailed(
                snapshot=report.snapshot,
                uid=snapshot.uid,
                code=Refusal.SNAPSHOT_LOST,
                because=full,
            )
        )
    return tuple(events)
