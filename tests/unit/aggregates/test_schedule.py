"""Schedules: when they are due, and that what is due is taken once and never twice."""

from datetime import UTC, datetime, timedelta

import hypothesis
import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregates.schedule import Due, Schedule, due
from schemas.grammar import Event, Message
from schemas.operation import Outcome
from schemas.refusals import Refusal
from schemas.rhythm import DAY_S, EVERY_MIN_S, WEEK_S, Keep, Rhythm
from schemas.schedule import (
    CreateSchedule,
    PauseSchedule,
    RemoveSchedule,
    ReportScheduleRun,
    ReportScheduleRunEnded,
    ResumeSchedule,
    ScheduleCreated,
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleRunBegan,
    ScheduleRunDone,
    ScheduleRunFailed,
)
from schemas.volume_group import GroupCreated
from tests.support.given import NOON, OPERATION, OTHER, UID, given
from tests.support.words import pool_ready, volume_ready

HOURLY, KEEP = Rhythm(every_s=3600), Keep(hourly=24)
PAST = (*pool_ready("n1"), *volume_ready("n1"))
WISH = CreateSchedule(schedule="hourly", volume="pg", rhythm=HOURLY, keep=KEEP)
CREATED = ScheduleCreated(
    schedule="hourly", uid=UID, at=NOON, volume="pg", rhythm=HOURLY, keep=KEEP
)
ONE = NOON + timedelta(hours=1)
RUN = ReportScheduleRun(
    schedule="hourly", uid=UID, due=ONE, snapshot="s", operation=OPERATION, missed=2
)
BEGAN = ScheduleRunBegan(schedule="hourly", due=ONE, snapshot="s", operation=OPERATION, missed=2)
ENDED = ReportScheduleRunEnded(
    schedule="hourly", uid=UID, operation=OPERATION, outcome=Outcome.COMPLETED
)


def test_a_schedule_of_a_volume_begins_now() -> None:
    given(*PAST).when(WISH).then(CREATED)


def test_a_schedule_of_a_group_names_no_volume() -> None:
    wish = replace(WISH, volume=None, group="shop")
    created = replace(CREATED, volume=None, group="shop")
    given(*PAST, GroupCreated(group="shop", at=NOON)).when(wish).then(created)


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (replace(WISH, volume="nobody"), Refusal.UNKNOWN_VOLUME),
        (replace(WISH, volume=None, group="nobody"), Refusal.UNKNOWN_GROUP),
        (replace(WISH, volume=None), Refusal.SCHEDULE_UNCLEAR),
        (replace(WISH, group="shop"), Refusal.SCHEDULE_UNCLEAR),
        (replace(WISH, keep=Keep()), Refusal.KEEPS_NOTHING),
        (replace(WISH, rhythm=Rhythm(every_s=60, offset_s=60)), Refusal.SCHEDULE_UNCLEAR),
    ],
)
def test_what_nobody_could_do_is_no_schedule(wish: CreateSchedule, code: Refusal) -> None:
    given(*PAST).when(wish).refused(code)


def test_names_are_taken_once() -> None:
    given(*PAST, CREATED).when(WISH).refused(Refusal.SCHEDULE_EXISTS)


@pytest.mark.parametrize("word", [PauseSchedule, ResumeSchedule, RemoveSchedule])
def test_what_is_not_there_is_not_changed(
    word: type[PauseSchedule | ResumeSchedule | RemoveSchedule],
) -> None:
    given(*PAST).when(word(schedule="hourly")).refused(Refusal.UNKNOWN_SCHEDULE)


@pytest.mark.parametrize(
    ("past", "word", "events"),
    [
        ((), PauseSchedule(schedule="hourly"), (SchedulePaused(schedule="hourly"),)),
        ((), ResumeSchedule(schedule="hourly"), ()),
        ((SchedulePaused(schedule="hourly"),), PauseSchedule(schedule="hourly"), ()),
        (
            (SchedulePaused(schedule="hourly"),),
            ResumeSchedule(schedule="hourly"),
            (ScheduleResumed(schedule="hourly", at=NOON),),
        ),
        ((), RemoveSchedule(schedule="hourly"), (ScheduleRemoved(schedule="hourly", uid=UID),)),
    ],
)
def test_it_is_paused_resumed_and_removed(
    past: tuple[Event, ...], word: Message, events: tuple[Event, ...]
) -> None:
    given(*PAST, CREATED, *past).when(word).then(*events)


def test_a_run_is_told_once_and_its_end_once() -> None:
    given(*PAST, CREATED).when(RUN).then(BEGAN)
    given(*PAST, CREATED, BEGAN).when(RUN).nothing()
    done = ScheduleRunDone(schedule="hourly", due=ONE, snapshot="s")
    given(*PAST, CREATED, BEGAN).when(ENDED).then(done)
    given(*PAST, CREATED, BEGAN, done).when(ENDED).nothing()
    given(*PAST, CREATED, BEGAN, done).when(RUN).nothing()


def test_a_run_that_was_refused_or_failed_is_an_event_with_its_code() -> None:
    no = {"code": Refusal.VOLUME_BUSY, "because": "it grows"}
    refused = replace(RUN, operation=None, **no)
    failed = ScheduleRunFailed(schedule="hourly", due=ONE, snapshot="s", missed=2, **no)  # type: ignore[arg-type]
    given(*PAST, CREATED).when(refused).then(failed)
    ended = replace(ENDED, outcome=Outcome.FAILED, **no)
    given(*PAST, CREATED, BEGAN).when(ended).then(replace(failed, missed=0))


def test_reports_about_an_earlier_schedule_of_the_name_count_for_nothing() -> None:
    for word in (RUN, ENDED):
        given(*PAST, CREATED, BEGAN).when(replace(word, uid=OTHER)).nothing()


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)  # the 23rd is a Monday


@pytest.mark.parametrize(
    ("rhythm", "after", "now", "expected"),
    [
        (HOURLY, at(23, 12), at(23, 12, 59), None),
        (HOURLY, at(23, 12), at(23, 13), Due(at(23, 13), 0)),
        (HOURLY, at(23, 12, 30), at(23, 13), Due(at(23, 13), 0)),
        (HOURLY, at(23, 12), at(23, 18, 20), Due(at(23, 18), 5)),
        (Rhythm(every_s=DAY_S, offset_s=7200), at(23, 3), at(24, 1, 59), None),
        (Rhythm(every_s=DAY_S, offset_s=7200), at(23, 1), at(23, 2), Due(at(23, 2), 0)),
        (Rhythm(every_s=DAY_S, offset_s=7200), at(23, 3), at(26, 9), Due(at(26, 2), 2)),
        (Rhythm(every_s=WEEK_S, offset_s=6 * DAY_S), at(23, 0), at(28, 23), None),
        (Rhythm(every_s=WEEK_S, offset_s=6 * DAY_S), at(23, 0), at(29, 1), Due(at(29, 0), 0)),
    ],
)
def test_it_is_due_at_its_hour_and_once_for_all_that_was_missed(
    rhythm: Rhythm, after: datetime, now: datetime, expected: Due | None
) -> None:
    assert due(Schedule(uid=UID, rhythm=rhythm, after=after), now) == expected


def test_nothing_is_due_while_it_is_paused_or_taking_or_not_there() -> None:
    now, schedule = at(23, 18), Schedule(uid=UID, rhythm=HOURLY, after=at(23, 12))
    assert due(replace(schedule, paused=True), now) is None
    assert due(replace(schedule, running=OPERATION), now) is None
    assert due(Schedule(), now) is None


rhythms = st.integers(EVERY_MIN_S, WEEK_S).flatmap(
    lambda every_s: st.integers(0, every_s - 1).map(
        lambda offset_s: Rhythm(every_s=every_s, offset_s=offset_s)
    )
)
looks = st.lists(st.integers(0, 3 * WEEK_S), min_size=1, max_size=20).map(sorted)


@hypothesis.given(rhythms, looks)
def test_however_often_one_looks_each_time_is_taken_or_missed_exactly_once(
    rhythm: Rhythm, seconds: list[int]
) -> None:
    schedule = Schedule(uid=UID, rhythm=rhythm, after=NOON)
    taken: list[datetime] = []
    missed = 0
    for later_s in seconds:
        now = NOON + timedelta(seconds=later_s)
        found = due(schedule, now)
        if found is not None:
            assert NOON < found.at <= now
            assert now - found.at < timedelta(seconds=rhythm.every_s)
            taken.append(found.at)
            missed += found.missed
            schedule = replace(schedule, after=found.at)
    assert taken == sorted(set(taken))
    end = NOON + timedelta(seconds=seconds[-1])
    assert len(taken) + missed == rhythm.number(end) - rhythm.number(NOON)


@hypothesis.given(rhythms, st.integers(0, 10**5))
def test_the_number_of_a_moment_and_the_moment_of_a_number_agree(
    rhythm: Rhythm, number: int
) -> None:
    assert rhythm.number(rhythm.due(number)) == number
    assert rhythm.number(rhythm.due(number) - timedelta(microseconds=1)) == number - 1
