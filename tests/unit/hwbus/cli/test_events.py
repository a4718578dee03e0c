"""The record: the last lines of it, one of it, and what comes after."""

import json
import time

import pytest

from schemas.node import NodeCordoned, NodeUncordoned
from schemas.volume import VolumeGrown
from tests.support.cli import OPERATION, Stage

GIB = 1 << 30


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def past(stage: Stage) -> None:
    stage.write("hwbus.evt.node.-.n1", NodeCordoned(node="n1", because="fan"))
    stage.write(
        "hwbus.evt.volume.-.pg",
        VolumeGrown(volume="pg", operation=OPERATION, size_bytes=GIB),
        actor="bob",
        correlation=OPERATION,
    )
    stage.write("hwbus.evt.node.-.n1", NodeUncordoned(node="n1"))


def test_tail_shows_the_last_lines_oldest_first(stage: Stage) -> None:
    past(stage)
    out = stage.run("events", "tail", "-n", "2").out.splitlines()
    assert out == [
        "       2  2026-01-01 12:00:00  volume/pg  volume grown, 1GiB",
        "       3  2026-01-01 12:00:00  node/n1  node uncordoned",
    ]


def test_tail_goes_on_behind_a_sequence_however_many_there_are(stage: Stage) -> None:
    past(stage)
    for after, seen in ((0, "1\n2\n3\n"), (1, "2\n3\n"), (3, "")):
        done = stage.run("events", "tail", "--after", str(after), "-n", "1", "-o", "name")
        assert (done.code, done.out) == (0, seen)
    narrow = ("--after", "1", "--object", "node/n1", "-o", "name")
    assert stage.run("events", "tail", *narrow).out == "3\n"
    call = stage.run("events", "tail", "--after", "1", "--show-call").out
    assert call == "nats sub --stream HWBUS_EVENTS --start-sequence 2 'hwbus.evt.>'\n"


def test_tail_behind_what_the_log_has_not_is_no_silence(stage: Stage) -> None:
    past(stage)
    done = stage.run("events", "tail", "--after", "4")
    assert done.code == 3
    assert "the log ends at 3" in done.err


def test_tail_of_an_empty_log_is_nothing(stage: Stage) -> None:
    done = stage.run("events", "tail")
    assert (done.code, done.out) == (0, "")


def test_tail_can_be_of_one_object_one_actor_or_one_operation(stage: Stage) -> None:
    past(stage)
    narrow = (
        ("--object", "volume/pg"),
        ("--by", "bob"),
        ("--correlation", OPERATION),
    )
    for option in narrow:
        assert stage.run("events", "tail", *option, "-o", "name").out == "2\n"
    assert stage.run("events", "tail", "--object", "node/n1", "-o", "name").out == "1\n3\n"


def test_tail_in_json_is_one_object_a_line(stage: Stage) -> None:
    past(stage)
    lines = stage.run("events", "tail", "-o", "json").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3]
    assert json.loads(lines[1])["events"][0]["size_bytes"] == GIB


def test_a_message_nobody_can_read_is_shown_as_such(stage: Stage) -> None:
    past(stage)
    stage.past.append(("hwbus.evt.node.-.n1", b"\xff not json"))
    done = stage.run("events", "tail")
    assert done.code == 0
    assert "4  unreadable  node/n1" in done.out


def test_one_commit_is_shown_in_full(stage: Stage) -> None:
    past(stage)
    out = stage.run("events", "show", "2").out
    assert "actor        bob" in out
    assert "event       volume.grown.v1" in out
    assert "size        1GiB" in out
    shape = stage.run("events", "show", "2", "-o", "json").json
    assert shape["items"][0]["commit"]["events"][0]["type"] == "volume.grown.v1"


def test_show_call_names_the_nats_commands(stage: Stage) -> None:
    assert "HWBUS_EVENTS" in stage.run("events", "tail", "--show-call").out
    assert stage.run("events", "show", "4", "--show-call").out == "nats stream get HWBUS_EVENTS 4\n"
