"""The volume groups and the schedules as people ask about them."""

from collections.abc import Iterator

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Change, Changes, Rows, drop, put
from projectors.tables import GROUPS, MEMBERSHIPS, SCHEDULES, VOLUMES, MembershipRow
from schemas.attaching import VolumeAttachingBegan
from schemas.grammar import Event
from schemas.group_moves import GroupMoveBegan, GroupMoveEnded
from schemas.group_views import GroupRow, GroupState, ScheduleRow, ScheduleState
from schemas.handing import FailoverBegan, VolumeHomeMoved
from schemas.legs import ReplicaAdded, VolumeReplicaRemoved
from schemas.schedule import (
    ScheduleCreated,
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleRunBegan,
    ScheduleRunDone,
    ScheduleRunFailed,
)
from schemas.views import VolumeRow, VolumeState
from schemas.volume import VolumeProvisioned
from schemas.volume_group import (
    GroupCreated,
    GroupRemoved,
    GroupSnapshotBegan,
    GroupSnapshotFailed,
    GroupSnapshotTaken,
    GroupVolumesAdded,
    GroupVolumesLeft,
)


def groups(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the volume group that *event* is about."""
    name = seen.address.id
    row = rows.get(GROUPS, name)
    match event:
        case GroupCreated():
            volumes = tuple(member.volume for member in event.members)
            row = GroupRow(
                name=name, volumes=volumes, created_at=seen.at, changed_at=seen.at, seq=seen.seq
            )
        case GroupRemoved():
            for volume in row.volumes if row is not None else ():
                yield from _left(rows, name, volume)
            yield drop(GROUPS, name)
            return
        case _ if row is not None:
            row = _changed(row, seen, event)
        case _:
            return
    yield from _memberships(rows, name, event)
    version = seen.commit.version
    placed = _placed(rows, row)
    yield put(GROUPS, name, replace(placed, seq=seen.seq, version=version, changed_at=seen.at))


def of_member(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the group whose volume is somewhere else after *event*."""
    if not isinstance(event, _MOVES):
        return
    known = rows.get(MEMBERSHIPS, seen.address.id)
    row = rows.get(GROUPS, known.group) if known is not None else None
    after = _placed(rows, row) if row is not None else None
    if row is not None and after is not None and after != row:
        yield put(GROUPS, row.name, replace(after, seq=seen.seq, changed_at=seen.at))


_MOVES = (
    VolumeProvisioned
    | VolumeAttachingBegan
    | VolumeHomeMoved
    | FailoverBegan
    | ReplicaAdded
    | VolumeReplicaRemoved
)


def _memberships(rows: Rows, name: str, event: Event) -> Iterator[Change]:
    if isinstance(event, GroupVolumesLeft):
        for volume in event.volumes:
            yield from _left(rows, name, volume)
    if not isinstance(event, GroupCreated | GroupVolumesAdded):
        return
    for one in event.members:
        known = rows.get(MEMBERSHIPS, one.volume)
        # In two groups for an instant, it stays in the one that it was in first.
        if known is None or known.uid != one.uid:
            yield put(MEMBERSHIPS, one.volume, MembershipRow(group=name, uid=one.uid))


def _left(rows: Rows, name: str, volume: str) -> Iterator[Change]:
    known = rows.get(MEMBERSHIPS, volume)
    if known is not None and known.group == name:
        yield drop(MEMBERSHIPS, volume)


def _placed(rows: Rows, row: GroupRow) -> GroupRow:
    """Return the row with where the volumes are now, and whether that is not the same."""
    known = {name: rows.get(VOLUMES, name) for name in row.volumes}
    homes: set[str] = set()
    places: dict[str, frozenset[str]] = {}
    where: list[str] = []
    for name, volume in known.items():
        if volume is None or not volume.node or volume.state is VolumeState.PROVISIONING:
            continue
        places[name] = _nodes(volume)
        homes.add(volume.node)
        others = sorted(places[name] - {volume.node})
        where.append(f"{name} is on {'+'.join((volume.node, *others))}")
    sets = set(places.values())
    together = len(homes) <= 1 and all(a <= b or b <= a for a in sets for b in sets)
    apart = "" if together else ", ".join(where)
    placed = replace(row, nodes=tuple(sorted(homes)), apart=apart)
    if row.state not in {GroupState.READY, GroupState.APART}:
        return placed
    return replace(placed, state=GroupState.READY if together else GroupState.APART)


def _nodes(volume: VolumeRow) -> frozenset[str]:
    return frozenset({volume.node, *(leg.node for leg in volume.replicas if not leg.joining)})


def _changed(row: GroupRow, seen: Seen, event: Event) -> GroupRow:
    idle = replace(row, state=GroupState.READY, operation="", deadline=None)
    match event:
        case GroupVolumesAdded():
            new = {member.volume for member in event.members}
            return replace(row, volumes=tuple(sorted({*row.volumes, *new})))
        case GroupVolumesLeft():
            return replace(row, volumes=tuple(v for v in row.volumes if v not in event.volumes))
        case GroupSnapshotBegan():
            about = {"operation": event.operation, "deadline": event.deadline}
            return replace(row, state=GroupState.SNAPSHOTTING, **about)
        case GroupSnapshotTaken():
            taken = {"last_snapshot": event.snapshot, "last_taken_at": seen.at}
            return replace(idle, **taken, why="", code=None)
        case GroupMoveBegan():
            about = {"operation": event.operation, "deadline": event.deadline}
            return replace(row, state=GroupState.MOVING, **about)
        case GroupSnapshotFailed() | GroupMoveEnded():
            return replace(idle, why=event.because, code=event.code)
        case _:
            return row


def schedules(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the schedule that *event* is about."""
    name = seen.address.id
    row = rows.get(SCHEDULES, name)
    match event:
        case ScheduleCreated():
            row = _created(seen, event)
        case ScheduleRemoved():
            yield drop(SCHEDULES, name)
            return
        case _ if row is not None:
            row = _run(row, event)
        case _:
            return
    version = seen.commit.version
    yield put(SCHEDULES, name, replace(row, seq=seen.seq, version=version, changed_at=seen.at))


def _created(seen: Seen, event: ScheduleCreated) -> ScheduleRow:
    return ScheduleRow(
        name=event.schedule,
        uid=event.uid,
        state=ScheduleState.ACTIVE,
        every_s=event.rhythm.every_s,
        offset_s=event.rhythm.offset_s,
        keep=event.keep,
        volume=event.volume or "",
        group=event.group or "",
        reserve_bytes=event.reserve_bytes or 0,
        created_at=seen.at,
        changed_at=seen.at,
        seq=seen.seq,
    )


def _run(row: ScheduleRow, event: Event) -> ScheduleRow:
    """Return the row after *event*; one that is paused stays so until it is resumed."""
    paused = row.state is ScheduleState.PAUSED
    match event:
        case SchedulePaused():
            return replace(row, state=ScheduleState.PAUSED)
        case ScheduleResumed():
            return replace(row, state=ScheduleState.FAILING if row.why else ScheduleState.ACTIVE)
        case ScheduleRunBegan():
            return replace(
                row,
                state=row.state if paused else ScheduleState.RUNNING,
                last_due=event.due,
                missed=row.missed + event.missed,
                operation=event.operation,
            )
        case ScheduleRunDone():
            return replace(
                row,
                state=row.state if paused else ScheduleState.ACTIVE,
                last_snapshot=event.snapshot,
                taken=row.taken + 1,
                why="",
                code=None,
                operation="",
            )
        case ScheduleRunFailed():
            return replace(
                row,
                state=row.state if paused else ScheduleState.FAILING,
                last_due=event.due,
                missed=row.missed + event.missed,
                failed=row.failed + 1,
                why=event.because,
                code=event.code,
                operation="",
            )
        case _:
            return row
