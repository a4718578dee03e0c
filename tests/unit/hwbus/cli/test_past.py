"""The past on the command line: how a point is written, and what differs between two."""

from datetime import timedelta

import msgspec
import pytest

from schemas.answers import refuse
from schemas.refusals import Refusal
from schemas.views import VolumeState
from tests.support.cli import Stage
from tests.support.clock import NOON
from tests.unit.hwbus.cli.rows import furnish
from tests.unit.hwbus.cli.test_lists import LISTS

HERE_AND_NOW = {"explain"}
GOING_BACK = sorted(set(LISTS) - HERE_AND_NOW)


@pytest.fixture(autouse=True)
def _utc(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    furnish(stage)


@pytest.mark.parametrize("name", GOING_BACK)
def test_every_list_and_show_asks_for_the_past_and_says_which_it_shows(
    stage: Stage, name: str
) -> None:
    done = stage.run(*LISTS[name], "--at", "5")
    assert done.code == 0, done.err
    assert "as of seq 5, 2026-01-01 11:58:00" in done.err
    views = [msgspec.json.decode(call.data) for call in stage.heard]
    assert views
    assert all(asked["at"] == 5 and "min_seq" not in asked for asked in views)


@pytest.mark.parametrize("name", GOING_BACK)
def test_json_says_which_point_it_shows(stage: Stage, name: str) -> None:
    document = stage.run(*LISTS[name], "--at", "5", "-o", "json").json
    assert (document["seq"], document["at"]) == (5, "2026-01-01T11:58:00Z")
    assert "at" not in stage.run(*LISTS[name], "-o", "json").json


def test_ages_are_what_they_were_then(stage: Stage) -> None:
    now = stage.run("volume", "ls").out.splitlines()[1].split()
    then = stage.run("volume", "ls", "--at", "1").out.splitlines()[1].split()
    differing = [(a, b) for a, b in zip(now, then, strict=True) if a != b]
    assert len(differing) <= 1
    assert stage.run("node", "ls", "--at", "1").out != stage.run("node", "ls").out


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("4711", 4711),
        ("0", 0),
        ("15m", (NOON - timedelta(minutes=15)).isoformat().replace("+00:00", "Z")),
        ("-15m", "2026-01-01T11:45:00Z"),
        ("1.5h", "2026-01-01T10:30:00Z"),
        ("3d", "2025-12-29T12:00:00Z"),
        ("2026-01-01T02:13:00Z", "2026-01-01T02:13:00Z"),
        ("2026-01-01t02:13:00.25+01:00", "2026-01-01T01:13:00.250000Z"),
    ],
)
def test_a_point_is_a_sequence_so_long_ago_or_a_moment(
    stage: Stage, written: str, asked: int | str
) -> None:
    assert stage.run("pool", "ls", "--at", written).code == 0
    assert stage.said(0)["at"] == asked


@pytest.mark.parametrize(
    "written",
    [
        "yesterday",
        "2h ago",
        "1h30m",
        "-5",
        "2026-01-01",
        "2026-01-01T02:13:00",
        "2026-13-01T00:00:00Z",
        "20260101T021300Z",
        "99999999999w",
        "",
        "1" * 19,
    ],
)
def test_what_is_no_point_is_refused_before_anything_is_asked(stage: Stage, written: str) -> None:
    done = stage.run("volume", "ls", "--at", written)
    assert (done.code, stage.heard) == (2, [])
    assert "is no point in time: write a sequence number (4711)" in done.err


def test_what_the_views_cannot_show_is_told_with_its_code(stage: Stage) -> None:
    stage.when("hwbus.q.volumes", refuse(Refusal.NOT_YET, "the log ends at 7, before 99"))
    done = stage.run("volume", "ls", "--at", "99")
    assert done.code == 5
    assert "HW-H001 the log ends at 7, before 99" in done.err
    assert "hwbus events tail" in done.err


def test_the_call_of_a_point_in_the_past_can_be_shown(stage: Stage) -> None:
    done = stage.run("volume", "show", "pg", "--at", "5", "--show-call")
    assert '"at":5' in done.out
    assert not stage.heard


def test_what_lies_in_a_target_is_never_looked_up_in_the_past(stage: Stage) -> None:
    done = stage.run("backup", "ls", "s3", "--at", "5")
    assert (done.code, stage.heard) == (2, [])


def test_what_only_was_is_not_offered_for_completion(stage: Stage) -> None:
    stage.run("volume", "ls", "--at", "5")
    assert not list(stage.home.rglob("*.json"))


def _then(stage: Stage) -> None:
    """Let the stage have had, at sequence 3, a smaller volume, another one and no snapshot."""
    volume = stage.rows["volumes"][0]
    smaller = msgspec.structs.replace(volume, size_bytes=1 << 29, seq=1)
    other = msgspec.structs.replace(volume, name="old", state=VolumeState.DELETING)
    stage.rows_then[3] = {**stage.rows, "volumes": (smaller, other), "snapshots": ()}


def test_a_difference_names_what_came_what_went_and_each_field_that_changed(stage: Stage) -> None:
    _then(stage)
    done = stage.run("diff", "--from", "3", "--to", "6")
    assert done.code == 0, done.err
    assert "from seq 3, 2026-01-01 11:56:00 to seq 6, 2026-01-01 11:59:00" in done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["CHANGE", "OBJECT", "FIELD", "BEFORE", "AFTER"]
    assert ["removed", "volume/old", "state", "deleting", "-"] in lines
    assert ["changed", "volume/pg", "size_bytes", "512MiB", "5GiB"] in lines
    assert ["added", "snapshot/monday", "state", "-", "failed"] in lines
    assert len(lines) == 4


def test_a_difference_as_json_holds_both_sides(stage: Stage) -> None:
    _then(stage)
    document = stage.run("diff", "--from", "3", "--to", "6", "--kind", "volume", "-o", "json").json
    assert document["from"] == {"seq": 3, "at": "2026-01-01T11:56:00Z"}
    assert document["to"] == {"seq": 6, "at": "2026-01-01T11:59:00Z"}
    told = {item["object"]: item for item in document["items"]}
    assert set(told) == {"volume/old", "volume/pg"}
    assert told["volume/old"]["change"] == "removed"
    assert told["volume/pg"]["fields"] == [
        {"field": "size_bytes", "before": 1 << 29, "after": 5 << 30}
    ]


def test_without_an_end_the_difference_is_that_to_now(stage: Stage) -> None:
    _then(stage)
    document = stage.run("diff", "--from", "3", "-o", "json").json
    assert document["to"] == {"seq": stage.seq, "at": "2026-01-01T12:00:00Z"}


def test_where_nothing_differs_that_is_said(stage: Stage) -> None:
    done = stage.run("diff", "--from", "3", "--to", "4", "--kind", "node", "--kind", "pool")
    assert (done.code, done.out) == (0, "")
    assert "nothing is different" in done.err
