"""The audit says who did what, when, why, what it changed, what was refused and what was run."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from projectors.audit import changes
from projectors.fold import Folded, fold_event
from projectors.rows import Rows
from projectors.tables import AUDIT, PARKED, VOLUMES
from schemas.audit import (
    DecidedRecord,
    HeadRecord,
    Hearing,
    HearingRecord,
    LoginOutcome,
    LoginRecord,
    ParkedRecord,
    RefusedRecord,
)
from schemas.node import NodeCordoned, NodeHeard
from schemas.operation_views import AuditKind, AuditRow
from schemas.refusals import Refusal
from tests.support.clock import NOON
from tests.unit.projectors.stories import GIB, Story, tool, uid


def _changed(row: AuditRow) -> dict[str, tuple[object, object]]:
    return {
        change.field: (msgspec.json.decode(change.before), msgspec.json.decode(change.after))
        for change in row.changes
    }


def test_an_accepted_command_has_one_row_with_its_actor_cause_and_events() -> None:
    story = Story().node().pool()
    operation = story.begin("pg", 1, GIB)
    row = story.all(AUDIT)[-2]
    assert (row.kind, row.actor, row.word) == (AuditKind.ACCEPTED, "alice", "volume.provision.v1")
    assert (row.object, row.correlation) == ("volume/pg", operation)
    assert row.events == ("volume.provisioning-began.v1",)


def test_a_row_tells_what_the_commit_changed_and_nothing_else() -> None:
    story = Story().node()
    story.say(NodeCordoned(node="n1", because="new fans"))
    assert _changed(story.all(AUDIT)[-1]) == {
        "state": ("ready", "cordoned"),
        "why": ("", "new fans"),
        "cordoned": (False, True),
    }


def test_what_was_not_there_before_has_null_before_and_what_is_gone_null_after() -> None:
    row = Story().node().pool().volume("pg", 1).row(VOLUMES, "pg")
    made = {change.field: change for change in changes(None, row)}
    gone = {change.field: change for change in changes(row, None)}
    assert set(made) == set(gone) >= {"name", "uid", "state", "size_bytes", "device"}
    assert "why" not in made
    assert bytes(made["name"].before) == bytes(gone["name"].after) == b"null"
    assert bytes(made["name"].after) == bytes(gone["name"].before) == b'"pg"'


def test_a_refused_command_is_told_with_its_code_and_its_text() -> None:
    story = Story()
    record = RefusedRecord(
        at=story.at,
        actor="bob",
        command="c1",
        word="volume.provision.v1",
        object="volume/pg",
        code=Refusal.CAPACITY,
        because="full",
        request='{"volume":"pg"}',
    )
    story.note("hwbus.audit.refused.volume", record)
    (row,) = story.all(AUDIT)
    assert (row.kind, row.actor, row.code) == (AuditKind.REFUSED, "bob", Refusal.CAPACITY)
    assert (row.because, row.request) == ("full", '{"volume":"pg"}')


def test_a_signed_head_is_nobodys_deed_and_no_row() -> None:
    story = Story()
    head = HeadRecord(
        at=NOON, stream="HWBUS_EVENTS", seq=1, root="00", key="00", signature="00", leaves=b"x"
    )
    story.note("hwbus.audit.head.0123456789abcdef", head)
    assert story.all(AUDIT) == []
    assert story.all(PARKED) == []


def a_login(outcome: LoginOutcome, **fields: Any) -> LoginRecord:
    about: dict[str, Any] = {
        "server": "one",
        "server_id": "NABC",
        "number": 8,
        "address": "10.0.0.5",
    }
    return LoginRecord(**{**about, "at": NOON, "outcome": outcome, "user": "ada", **fields})


def test_a_login_is_told_by_its_user_and_what_several_heard_of_it_once() -> None:
    story = Story()
    record = a_login(LoginOutcome.LEFT, since=NOON - timedelta(seconds=9), until=NOON)
    for _ in range(2):
        story.note("hwbus.audit.login.left", record)
    (row,) = story.all(AUDIT)
    assert (row.kind, row.word, row.actor) == (AuditKind.LOGIN, "login.left", "ada")
    assert (row.address, row.duration_ms) == ("10.0.0.5", 9000)


def test_logins_that_were_counted_say_how_many_they_were() -> None:
    story = Story()
    for times in (7, 9):
        later = NOON + timedelta(seconds=times)
        record = a_login(LoginOutcome.TURNED_AWAY, times=times, until=later, because="wrong")
        story.note("hwbus.audit.login.turned-away", record)
    first, second = sorted(story.all(AUDIT), key=lambda row: row.times)
    assert (first.times, second.times) == (7, 9)
    assert first.because == "7 times until 2026-01-01T12:00:07.000000+00:00: wrong"


@pytest.mark.parametrize("state", Hearing)
def test_whether_logins_are_heard_is_a_row_in_words(state: Hearing) -> None:
    story = Story()
    record = HearingRecord(at=NOON, listener="ctl-1", state=state, missed=3, because="why so")
    story.note("hwbus.audit.hearing.logins", record)
    (row,) = story.all(AUDIT)
    assert (row.kind, row.word, row.client) == (AuditKind.LOGIN, f"logins.{state}", "ctl-1")
    assert "logins" in row.because


def test_a_tool_is_told_with_its_arguments_status_and_cause() -> None:
    story = Story()
    story.note("hwbus.audit.executed.n1", tool(story, "event:7", uid(1), status=5))
    (row,) = story.all(AUDIT)
    assert (row.kind, row.word, row.exit_status) == (AuditKind.TOOL, "lvcreate", 5)
    assert (row.cause, row.correlation, row.node) == ("event:7", uid(1), "n1")


def test_the_outcome_of_a_submitted_command_points_to_its_commit() -> None:
    story = Story()
    record = DecidedRecord(
        at=story.at, actor="bob", command="c1", word="w", object="node/n1", seq=4, operation=uid(3)
    )
    story.note("hwbus.audit.decided.node", record)
    (row,) = story.all(AUDIT)
    assert (row.kind, row.cause, row.correlation) == (AuditKind.DECIDED, "event:4", uid(3))


def test_a_parked_message_told_twice_is_one_row() -> None:
    story = Story()
    record = ParkedRecord(
        at=story.at, consumer="projectors", subject="hwbus.evt.x", seq=3, because="no JSON"
    )
    for _ in range(2):
        story.note("hwbus.audit.parked.projectors", record)
    (row,) = story.all(AUDIT)
    assert (row.kind, row.cause, row.because) == (AuditKind.PARKED, "message:3", "no JSON")


def test_what_a_queue_set_aside_as_it_came_is_a_row_and_not_parked_again() -> None:
    story = Story()
    story.note("hwbus.audit.parked.desk", b"\xff not json")
    (row,) = story.all(AUDIT)
    assert (row.kind, row.actor) == (AuditKind.PARKED, "desk")
    assert story.all(PARKED) == []


def test_an_event_without_a_word_here_is_kept_as_text_and_the_others_still_count() -> None:
    story = Story().node()
    story.say(NodeCordoned(node="n1"), NodeHeard(node="n1"))
    old = story.events.pop()
    newer = old.data.replace(b'"node.heard.v1"', b'"node.sang.v1","song":"la"')
    story.write(old.subject, newer)
    rows, folded = Rows(lambda _t, _k: None), Folded()
    for stored in story.events:
        fold_event(rows, stored, "events", folded)
    row = story.all(AUDIT)[-1]
    assert row.kind is AuditKind.UNKNOWN
    assert row.events == ("node.cordoned.v1", "node.sang.v1")
    assert '"song":"la"' in row.because
    assert "cordoned" in _changed(row)
    assert (folded.unknown, folded.parked) == (1, 0)
