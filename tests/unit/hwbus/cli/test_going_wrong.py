"""What goes wrong is said on stderr, with what to do, and ends with a code that means it."""

import json

import pytest

from schemas.answers import refuse
from schemas.queries import Behind
from schemas.refusals import Refusal
from tests.support.cli import OPERATION, Stage
from tests.unit.hwbus.cli.rows import furnish


@pytest.mark.parametrize("argv", [("node", "ls"), ("node", "admit", "n1"), ("events", "tail")])
def test_where_nothing_answers_it_says_how_to_start_one(
    stage: Stage, argv: tuple[str, ...]
) -> None:
    stage.unreachable = True
    done = stage.run(*argv)
    assert (done.code, done.out) == (10, "")
    assert "nothing answers at nats://127.0.0.1:4222" in done.err
    assert "hwbus up" in done.err


def test_a_broker_without_a_control_plane_is_unreachable_too(stage: Stage) -> None:
    stage.empty_house = True
    done = stage.run("node", "ls")
    assert done.code == 10
    assert "no control plane" in done.err


def test_not_being_let_in_is_forbidden(stage: Stage) -> None:
    stage.forbidden = True
    assert stage.run("node", "ls").code == 6


@pytest.mark.parametrize(
    "argv",
    [
        ("node", "show", "n9"),
        ("disk", "show", "d9"),
        ("pool", "show", "n9/p"),
        ("volume", "show", "v9"),
        ("volume", "wait", "v9"),
        ("op", "show", OPERATION),
        ("op", "watch", OPERATION),
        ("events", "show", "9"),
        ("explain", "HW-X999"),
        ("context", "use", "nowhere"),
    ],
)
def test_what_is_not_there_is_not_found(stage: Stage, argv: tuple[str, ...]) -> None:
    done = stage.run(*argv)
    assert (done.code, done.out) == (3, "")
    assert len(done.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("volume",), ""),
        (("volume", "creat"), 'Did you mean "create"'),
        (("nonsense",), "hwbus --help"),
        (("volume", "create", "pg"), "SIZE"),
        (("volume", "create", "pg", "-5GiB"), "negative"),
        (("volume", "create", "pg", "0"), "negative or nothing"),
        (("volume", "create", "pg", "1ZiB"), "is no size"),
        (("volume", "create", "pg", "9EiB"), "more than 1 EiB"),
        (("volume", "create", "pg", "1GiB", "--layout", "raid9"), "linear"),
        (("pool", "create", "p", "--node", "n"), "--disk"),
        (("pool", "create", "p", "--node", "n", "--disk", "d", "--thin-ratio", "lots"), "ratio"),
        (("node", "ls", "-o", "xml"), "table"),
        (("node", "ls", "--bogus"), "--bogus"),
        (("audit", "--since", "someday"), "is no moment"),
        (("events", "tail", "--object", "volume.pg"), "no address"),
        (("up", "--nodes", "0"), "from 1 to 64"),
    ],
)
def test_what_is_not_understood_is_a_usage_error(
    stage: Stage, argv: tuple[str, ...], said: str
) -> None:
    done = stage.run(*argv)
    assert stage.heard == []
    if said:
        assert done.code == 2
        assert said in done.err
        assert done.out == ""


def test_a_refused_question_says_why(stage: Stage) -> None:
    stage.when("hwbus.q.volumes", refuse(Refusal.MALFORMED, "there is no such column"))
    done = stage.run("volume", "ls")
    assert done.code == 5
    assert "HW-G001 there is no such column" in done.err


def test_an_answer_that_is_none_is_no_traceback(stage: Stage) -> None:
    stage.when("hwbus.q.volumes", b"<html>")
    done = stage.run("volume", "ls")
    assert done.code == 1
    assert "Traceback" not in done.err


def test_a_view_that_is_behind_is_shown_and_said_to_be(stage: Stage) -> None:
    furnish(stage)
    stage.when("hwbus.cmd.node.admit", b'{"answer":"accepted","command":"c","seq":99,"version":1}')
    stage.run("node", "admit", "n1")
    stage.when("hwbus.q.nodes", Behind(seq=7, min_seq=99, because="slow"))
    done = stage.run("node", "ls")
    assert done.code == 0
    assert "n1" in done.out
    assert "have not reached seq 99" in done.err


def test_reads_wait_for_what_was_just_written(stage: Stage) -> None:
    furnish(stage)
    stage.when("hwbus.cmd.node.admit", b'{"answer":"accepted","command":"c","seq":99,"version":1}')
    stage.run("node", "admit", "n1")
    stage.run("node", "ls")
    assert json.loads(stage.heard[1].data)["min_seq"] == 99


def test_reads_of_another_control_plane_do_not_wait(stage: Stage) -> None:
    furnish(stage)
    stage.when("hwbus.cmd.node.admit", b'{"answer":"accepted","command":"c","seq":99,"version":1}')
    stage.run("node", "admit", "n1")
    stage.run("node", "ls", "--server", "nats://elsewhere:4222")
    assert "min_seq" not in json.loads(stage.heard[1].data)


def test_after_a_minute_nobody_waits_any_more(stage: Stage) -> None:
    furnish(stage)
    stage.when("hwbus.cmd.node.admit", b'{"answer":"accepted","command":"c","seq":99,"version":1}')
    stage.run("node", "admit", "n1")
    stage.clock.move(61)
    stage.run("node", "ls")
    assert "min_seq" not in json.loads(stage.heard[1].data)


def test_a_home_that_cannot_be_written_stops_nobody(stage: Stage) -> None:
    (stage.home / ".cache").write_text("a file, not a directory")
    stage.when("hwbus.cmd.node.admit", b'{"answer":"accepted","command":"c","seq":99,"version":1}')
    done = stage.run("node", "admit", "n1")
    assert done.code == 0
    assert "cannot be written" in done.err
