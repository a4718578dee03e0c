"""The volume groups and the schedules as people ask about them."""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import GROUPS, SCHEDULES
from schemas.grammar import Event
from schemas.group_views import GroupRow, GroupState, ScheduleRow, ScheduleState
from schemas.schedule import (
    ScheduleCreated,
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleRunBegan,
    ScheduleRunDone,
    ScheduleRunFailed,
)
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
            yield drop(GROUPS, name)
            return
        case _ if row is not None:
            row = _changed(row, seen, event)
        case _:
            return
    version = seen.commit.version
    yield put(GROUPS, name, replace(row, seq=seen.seq, version=version, changed_at=seen.at))


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
        case GroupSnapshotFailed():
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
