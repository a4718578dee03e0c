"""Snapshots by the clock: what is due, what became of it, and that nothing is taken twice."""

from datetime import datetime
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from aggregates.raw_disks import no_whole_disk
from schemas.answers import Refused, refuse
from schemas.operation import Outcome
from schemas.refusals import Refusal
from schemas.rhythm import EVERY_MIN_S, Keep, Rhythm
from schemas.schedule import (
    CreateSchedule,
    PauseSchedule,
    RemoveSchedule,
    ReportScheduleRun,
    ReportScheduleRunEnded,
    ResumeSchedule,
    ScheduleCommand,
    ScheduleCreated,
    ScheduleEvent,
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleRunBegan,
    ScheduleRunDone,
    ScheduleRunFailed,
)

_NEVER = Rhythm(every_s=EVERY_MIN_S)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule. What was due until ``after`` is settled, or being taken.

    Then ``running`` is the operation that takes ``snapshot``.
    """

    uid: str = ""
    volume: str = ""
    group: str = ""
    rhythm: Rhythm = _NEVER
    keep: Keep = Keep()
    reserve_bytes: int | None = None
    paused: bool = False
    after: datetime | None = None
    running: str = ""
    snapshot: str = ""


class Due(msgspec.Struct, frozen=True):
    """The newest moment that is due, and how many before it went by."""

    at: datetime
    missed: int


def due(schedule: Schedule, now: datetime) -> Due | None:
    """Return what is to be taken *now*: once, however many times went by."""
    if schedule.after is None or schedule.paused or schedule.running:
        return None
    newest, settled = schedule.rhythm.number(now), schedule.rhythm.number(schedule.after)
    if newest <= settled:
        return None
    return Due(schedule.rhythm.due(newest), newest - settled - 1)


def decide(schedule: Schedule, command: ScheduleCommand, facts: Facts) -> Decision[ScheduleEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case CreateSchedule():
            return _create(schedule, command, facts)
        case PauseSchedule() | ResumeSchedule() | RemoveSchedule():
            if not schedule.uid:
                return refuse(Refusal.UNKNOWN_SCHEDULE, f"there is no schedule {command.schedule}")
            return _change(schedule, command, facts)
        case ReportScheduleRun():
            return _note_run(schedule, command) if schedule.uid == command.uid else ()
        case ReportScheduleRunEnded():
            known = schedule.uid == command.uid and schedule.running == command.operation
            return _ended(schedule, command) if known else ()
        case _:
            assert_never(command)


def _create(schedule: Schedule, command: CreateSchedule, facts: Facts) -> Decision[ScheduleEvent]:
    if schedule.uid:
        return refuse(Refusal.SCHEDULE_EXISTS, f"there is a schedule {command.schedule}")
    return _unclear(command, facts) or (
        ScheduleCreated(
            schedule=command.schedule,
            uid=facts.uid,
            at=facts.at,
            rhythm=command.rhythm,
            keep=command.keep,
            volume=command.volume,
            group=command.group,
            reserve_bytes=command.reserve_bytes,
        ),
    )


def _unclear(command: CreateSchedule, facts: Facts) -> Refused | None:
    if (command.volume is None) is (command.group is None):
        return refuse(Refusal.SCHEDULE_UNCLEAR, "name a volume or a group, and not both")
    if command.rhythm.offset_s >= command.rhythm.every_s:
        late = f"an offset of {command.rhythm.offset_s} s in {command.rhythm.every_s} s"
        return refuse(Refusal.SCHEDULE_UNCLEAR, late)
    if not command.keep.most:
        return refuse(Refusal.KEEPS_NOTHING, f"{command.schedule} would keep nothing")
    if command.volume is not None and command.volume not in facts.world.volumes:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {command.volume}")
    if command.volume is not None:
        layout = facts.world.volumes[command.volume].layout
        no = no_whole_disk(layout, command.volume, "be snapshotted")
        if no is not None:
            return no
    if command.group is not None and command.group not in facts.world.groups:
        return refuse(Refusal.UNKNOWN_GROUP, f"there is no group {command.group}")
    return None


def _change(
    schedule: Schedule, command: PauseSchedule | ResumeSchedule | RemoveSchedule, facts: Facts
) -> Decision[ScheduleEvent]:
    match command:
        case PauseSchedule():
            return () if schedule.paused else (SchedulePaused(schedule=command.schedule),)
        case ResumeSchedule():
            resumed = ScheduleResumed(schedule=command.schedule, at=facts.at)
            return (resumed,) if schedule.paused else ()
        case RemoveSchedule():
            return (ScheduleRemoved(schedule=command.schedule, uid=schedule.uid),)
        case _:
            assert_never(command)


def _note_run(schedule: Schedule, report: ReportScheduleRun) -> Decision[ScheduleEvent]:
    if schedule.running or (schedule.after is not None and report.due <= schedule.after):
        return ()  # said before, by another control plane or in an earlier life
    if report.operation is not None:
        began = ScheduleRunBegan(
            schedule=report.schedule,
            due=report.due,
            snapshot=report.snapshot,
            missed=report.missed,
            operation=report.operation,
        )
        return (began,)
    return (
        ScheduleRunFailed(
            schedule=report.schedule,
            due=report.due,
            snapshot=report.snapshot,
            missed=report.missed,
            code=report.code or Refusal.TOOL_FAILED,
            because=report.because,
        ),
    )


def _ended(schedule: Schedule, report: ReportScheduleRunEnded) -> tuple[ScheduleEvent, ...]:
    if schedule.after is None:
        return ()
    if report.outcome is Outcome.COMPLETED:
        done = ScheduleRunDone(
            schedule=report.schedule, due=schedule.after, snapshot=schedule.snapshot
        )
        return (done,)
    return (
        ScheduleRunFailed(
            schedule=report.schedule,
            due=schedule.after,
            snapshot=schedule.snapshot,
            code=report.code or Refusal.TOOL_FAILED,
            because=report.because,
        ),
    )


def evolve(schedule: Schedule, event: ScheduleEvent) -> Schedule:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case ScheduleCreated():
            return Schedule(
                uid=event.uid,
                volume=event.volume or "",
                group=event.group or "",
                rhythm=event.rhythm,
                keep=event.keep,
                reserve_bytes=event.reserve_bytes,
                after=event.at,
            )
        case SchedulePaused():
            return replace(schedule, paused=True)
        case ScheduleResumed():
            return replace(schedule, paused=False, after=event.at)
        case ScheduleRemoved():
            return Schedule()
        case ScheduleRunBegan():
            return replace(
                schedule, after=event.due, running=event.operation, snapshot=event.snapshot
            )
        case ScheduleRunDone() | ScheduleRunFailed():
            after = max(event.due, schedule.after or event.due)
            return replace(schedule, after=after, running="", snapshot="")
        case _:
            assert_never(event)
