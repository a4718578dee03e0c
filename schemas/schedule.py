"""What is said about schedules: snapshots taken by the clock, of which some are kept."""

from schemas.grammar import Event, Report, Request
from schemas.operation import Outcome
from schemas.refusals import Refusal
from schemas.rhythm import Keep, Rhythm, ScheduleName
from schemas.units import Bytes, Count, Id, Moment, Name, Text

SCHEDULES = "schedule"


class CreateSchedule(Request, frozen=True, kw_only=True, tag="schedule.create.v1"):
    """Have snapshots of a volume, or of a group, taken from now on.

    ``reserve_bytes`` is the room of each snapshot of a thick volume, as for one by hand.
    """

    schedule: ScheduleName
    volume: Name | None = None
    group: Name | None = None
    rhythm: Rhythm
    keep: Keep
    reserve_bytes: Bytes | None = None


class PauseSchedule(Request, frozen=True, kw_only=True, tag="schedule.pause.v1"):
    """Take nothing and delete nothing until it is resumed."""

    schedule: ScheduleName


class ResumeSchedule(Request, frozen=True, kw_only=True, tag="schedule.resume.v1"):
    """Go on from now; what was due while it was paused is not made up for."""

    schedule: ScheduleName


class RemoveSchedule(Request, frozen=True, kw_only=True, tag="schedule.remove.v1"):
    """Forget the schedule. Its snapshots stay, and are nobody's but people's from then on."""

    schedule: ScheduleName


class ReportScheduleRun(Report, frozen=True, kw_only=True, tag="schedule.report-run.v1"):
    """What was due then has been asked for, or was refused, which the ``code`` tells.

    ``missed`` is how many earlier times went by while nobody was there to act.
    """

    schedule: ScheduleName
    uid: Id
    due: Moment
    snapshot: Name
    missed: Count = 0
    operation: Id | None = None
    code: Refusal | None = None
    because: Text = ""


class ReportScheduleRunEnded(Report, frozen=True, kw_only=True, tag="schedule.report-run-ended.v1"):
    """The operation of a run has ended."""

    schedule: ScheduleName
    uid: Id
    operation: Id
    outcome: Outcome
    code: Refusal | None = None
    because: Text = ""


class ScheduleCreated(Event, frozen=True, kw_only=True, tag="schedule.created.v1"):
    """From ``at`` on snapshots are taken of a volume or of a group."""

    schedule: ScheduleName
    uid: Id
    at: Moment
    rhythm: Rhythm
    keep: Keep
    volume: Name | None = None
    group: Name | None = None
    reserve_bytes: Bytes | None = None


class SchedulePaused(Event, frozen=True, kw_only=True, tag="schedule.paused.v1"):
    """Nothing is taken and nothing deleted."""

    schedule: ScheduleName


class ScheduleResumed(Event, frozen=True, kw_only=True, tag="schedule.resumed.v1"):
    """What is due after ``at`` is taken again."""

    schedule: ScheduleName
    at: Moment


class ScheduleRemoved(Event, frozen=True, kw_only=True, tag="schedule.removed.v1"):
    """There is no such schedule any more; its snapshots stay."""

    schedule: ScheduleName
    uid: Id


class ScheduleRunBegan(Event, frozen=True, kw_only=True, tag="schedule.run-began.v1"):
    """What was due then is being taken by that operation; ``missed`` times before were not."""

    schedule: ScheduleName
    due: Moment
    snapshot: Name
    operation: Id
    missed: Count = 0


class ScheduleRunDone(Event, frozen=True, kw_only=True, tag="schedule.run-done.v1"):
    """What was due has been taken."""

    schedule: ScheduleName
    due: Moment
    snapshot: Name


class ScheduleRunFailed(Event, frozen=True, kw_only=True, tag="schedule.run-failed.v1"):
    """What was due could not be taken; the schedule goes on with the next time."""

    schedule: ScheduleName
    due: Moment
    snapshot: Name
    code: Refusal
    because: str
    missed: Count = 0


ScheduleCommand = (
    CreateSchedule
    | PauseSchedule
    | ResumeSchedule
    | RemoveSchedule
    | ReportScheduleRun
    | ReportScheduleRunEnded
)
ScheduleEvent = (
    ScheduleCreated
    | SchedulePaused
    | ScheduleResumed
    | ScheduleRemoved
    | ScheduleRunBegan
    | ScheduleRunDone
    | ScheduleRunFailed
)
