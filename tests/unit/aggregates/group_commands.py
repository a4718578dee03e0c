"""What may be said about groups and schedules, for the laws that hold in every order."""

from hypothesis import strategies as st

from schemas.operation import Outcome
from schemas.rhythm import BySchedule, Keep, Rhythm
from schemas.schedule import (
    CreateSchedule,
    PauseSchedule,
    RemoveSchedule,
    ReportScheduleRun,
    ReportScheduleRunEnded,
    ResumeSchedule,
)
from schemas.snapshot import DeleteSnapshot, PrepareSnapshot
from schemas.volume_group import (
    AddToGroup,
    ConcludeGroup,
    CreateGroup,
    RemoveGroup,
    ReportVolumeLeft,
    SnapshotGroup,
    TakeOutOfGroup,
)
from tests.support.given import GIB, NOON

GROUPS = st.sampled_from(["g", "h"])
VOLUMES = st.sampled_from(["a", "b"])
SOME_VOLUMES = st.lists(VOLUMES, max_size=2).map(tuple)
SNAPSHOTS = st.sampled_from(["a", "s", "s-a"])
SCHEDULES = st.sampled_from(["c", "d"])
IDS = st.sampled_from([f"{n:026d}" for n in range(1, 7)])
MOMENTS = st.sampled_from([NOON, NOON.replace(hour=13), NOON.replace(hour=14)])
RHYTHMS = st.builds(Rhythm, every_s=st.sampled_from([60, 3600]), offset_s=st.sampled_from([0, 90]))
BY = st.none() | st.builds(BySchedule, schedule=SCHEDULES, uid=IDS, due=MOMENTS)
COMMANDS = st.one_of(
    st.builds(CreateGroup, group=GROUPS, volumes=SOME_VOLUMES),
    st.builds(AddToGroup, group=GROUPS, volumes=SOME_VOLUMES),
    st.builds(TakeOutOfGroup, group=GROUPS, volumes=SOME_VOLUMES),
    st.builds(RemoveGroup, group=GROUPS),
    st.builds(SnapshotGroup, group=GROUPS, snapshot=st.just("s"), by=BY),
    st.builds(ConcludeGroup, group=GROUPS, operation=IDS),
    st.builds(
        ReportVolumeLeft, group=GROUPS, volume=VOLUMES, uid=IDS, because=st.just("it is gone")
    ),
    st.builds(
        PrepareSnapshot,
        snapshot=SNAPSHOTS,
        operation=IDS,
        group=GROUPS,
        together=st.just("s"),
        volume=VOLUMES,
        volume_uid=IDS,
        node=st.just("n1"),
        pool=st.just("fast"),
        size_bytes=st.just(GIB),
        by=BY,
    ),
    st.builds(DeleteSnapshot, snapshot=SNAPSHOTS, uid=IDS),
    st.builds(
        CreateSchedule,
        schedule=SCHEDULES,
        volume=st.none() | VOLUMES,
        group=st.none() | GROUPS,
        rhythm=RHYTHMS,
        keep=st.builds(Keep, hourly=st.integers(0, 2)),
    ),
    st.builds(PauseSchedule, schedule=SCHEDULES),
    st.builds(ResumeSchedule, schedule=SCHEDULES),
    st.builds(RemoveSchedule, schedule=SCHEDULES),
    st.builds(
        ReportScheduleRun,
        schedule=SCHEDULES,
        uid=IDS,
        due=MOMENTS,
        snapshot=SNAPSHOTS,
        operation=st.none() | IDS,
    ),
    st.builds(
        ReportScheduleRunEnded,
        schedule=SCHEDULES,
        uid=IDS,
        operation=IDS,
        outcome=st.sampled_from(Outcome),
    ),
)
