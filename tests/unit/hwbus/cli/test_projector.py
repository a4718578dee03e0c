"""The views on the command line: how far they are, made anew, compared with the log."""

from typing import Any

import msgspec
import pytest

from schemas.answers import refuse
from schemas.queries import Page
from schemas.refusals import Refusal
from schemas.upkeep import Job, JobState, RowDiffers, ViewRow, WorkKind
from schemas.views import StatusRow
from tests.support.cli import Stage
from tests.support.clock import NOON

ASK = "hwbus.views.job.me"


def job(kind: WorkKind, **about: Any) -> bytes:
    given = {"views": ("nodes", "volumes"), "state": JobState.DONE, "seq": 7, "rows": 40, **about}
    told = Job(job="me-1", ask=ASK, kind=kind, began=NOON, **given)
    return msgspec.json.encode(Page(kind="job", seq=7, items=(told,)))


WRONG = (
    RowDiffers(
        view="volumes",
        key="pg",
        kept='{"name":"pg","size_bytes":1073741824}',
        made='{"name":"pg","size_bytes":2147483648}',
    ),
    RowDiffers(view="nodes", key="n9", kept='{"name":"n9"}'),
    RowDiffers(view="pools", key="n1/fast", past=1000, made="{}"),
    RowDiffers(view="volumes", key="x", kept="x", made='{"name":"x"}'),
    RowDiffers(view="volumes", key="y", kept="{}", made="{}"),
)


def test_work_that_takes_long_is_asked_for_until_it_has_ended(stage: Stage) -> None:
    stage.when("hwbus.views.fsck", job(WorkKind.FSCK, state=JobState.RUNNING))
    stage.when(ASK, job(WorkKind.FSCK))
    done = stage.run("projector", "fsck", "nodes", "volumes")
    assert (done.code, done.out) == (0, "")
    assert "2 views, 40 rows, compared up to seq 7: all are as the log says" in done.err
    assert stage.said(0) == {"views": ["nodes", "volumes"]}
    assert stage.said(1)["job"] == "me-1"


def test_what_differs_is_named_by_view_key_and_both_sides_and_fails(stage: Stage) -> None:
    stage.when("hwbus.views.fsck", job(WorkKind.FSCK, differing=9, found=WRONG))
    done = stage.run("projector", "fsck")
    assert done.code == 1
    lines = [line.split("  ") for line in done.out.splitlines()]
    cells = [[cell.strip() for cell in line if cell] for line in lines]
    assert cells == [
        ["VIEW", "KEY", "FIELD", "KEPT", "LOG"],
        ["volumes", "pg", "size_bytes", "1GiB", "2GiB"],
        ["nodes", "n9", "-", "there", "missing"],
        ["pools", "n1/fast at 1000", "-", "missing", "there"],
        ["volumes", "x", "(what cannot be read)", "x", "-"],
        ["volumes", "x", "name", "-", "x"],
        ["volumes", "y", "(a column to find it by)", "differs", "-"],
    ]
    assert "9 differ, of which 5 are shown" in done.err
    assert "hwbus projector rebuild volumes nodes pools" in done.err


def test_json_of_a_check_holds_both_sides_as_they_are(stage: Stage) -> None:
    stage.when("hwbus.views.fsck", job(WorkKind.FSCK, differing=5, found=WRONG))
    done = stage.run("projector", "fsck", "-o", "json")
    assert done.code == 1
    (told,) = done.json["items"]
    assert told["found"][0]["made"] == '{"name":"pg","size_bytes":2147483648}'
    named = stage.run("projector", "fsck", "-o", "name").out.splitlines()
    assert named[0] == "volumes/pg"


def test_views_made_anew_are_waited_for(stage: Stage) -> None:
    stage.when("hwbus.views.rebuild", job(WorkKind.REBUILD))
    done = stage.run("projector", "rebuild")
    assert (done.code, stage.said(0)) == (0, {"views": []})
    assert "made anew up to seq 7: 2 views, 40 rows" in done.err
    assert stage.run("projector", "rebuild", "-o", "name").out == "view/nodes\nview/volumes\n"


@pytest.mark.parametrize("verb", ["fsck", "rebuild"])
def test_work_that_fails_or_takes_too_long_is_no_success(stage: Stage, verb: str) -> None:
    kind = WorkKind(verb)
    failed = job(kind, state=JobState.FAILED, because="no such disk")
    stage.when(f"hwbus.views.{verb}", failed)
    done = stage.run("projector", verb)
    assert (done.code, f"{verb} failed: no such disk" in done.err) == (1, True)

    def slow(*_: object) -> Any:
        stage.clock.move(10)
        return job(kind, state=JobState.RUNNING)

    stage.when(f"hwbus.views.{verb}", slow)
    stage.when(ASK, slow)
    done = stage.run("projector", verb, "--timeout", "30s")
    assert (done.code, "still going on" in done.err) == (4, True)


def test_work_that_is_going_on_already_is_refused_with_its_code(stage: Stage) -> None:
    stage.when("hwbus.views.fsck", refuse(Refusal.VIEWS_BUSY, "rebuild is going on"))
    done = stage.run("projector", "fsck")
    assert (done.code, "HW-H006 rebuild is going on" in done.err) == (7, True)


def test_the_call_can_be_shown(stage: Stage) -> None:
    done = stage.run("projector", "fsck", "nodes", "--show-call")
    assert "request hwbus.views.fsck" in done.out
    assert not stage.heard


def test_views_and_their_lag_are_listed(stage: Stage) -> None:
    stage.rows = {
        "views": (ViewRow(name="volumes", rows=3, versions=9, position=7, lag_events=2),),
        "status": (
            StatusRow(stream="events", position=7, head=9, lag_events=2, lag_s=0.5, parked=0),
        ),
    }
    listed = [line.split() for line in stage.run("projector", "ls").out.splitlines()]
    assert listed[0] == ["VIEW", "ROWS", "VERSIONS", "POSITION", "LAG", "LAG-S", "INNER"]
    assert listed[1][:5] == ["volumes", "3", "9", "7", "2"]
    lag = stage.run("projector", "lag").out.splitlines()
    assert lag[1].split()[:4] == ["events", "7", "9", "2"]
