"""Archives on the command line: one segment more each time, and one chain to verify."""

from pathlib import Path

import msgspec
import pytest

from hwbus.streams import EVENTS
from tests.support.archives import spans
from tests.support.cli import Stage
from tests.support.signing import signed

PAST, HEADS = signed(12, 4, 9)
KEY = HEADS[0].key


@pytest.fixture
def kept(stage: Stage) -> Stage:
    """A log of which the first head is signed."""
    stage.past = [(one.subject, one.data) for one in PAST]
    sign(stage, 1)
    return stage


def sign(stage: Stage, heads: int) -> None:
    subject = f"hwbus.audit.head.{KEY[:16]}"
    stage.kept = [(subject, msgspec.json.encode(head)) for head in HEADS[:heads]]


def segments(place: Path) -> list[Path]:
    return sorted((place / EVENTS.name).glob("0*.jsonl"))


def test_each_time_what_was_signed_since_is_one_more_segment(kept: Stage, tmp_path: Path) -> None:
    to = f"{tmp_path}/worm/"
    done = kept.run("audit", "archive", "--to", to)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "HWBUS_EVENTS: 1 segment of 4 messages written, archived up to 4",
        "HWBUS_AUDIT: no head is signed yet, so there is nothing to archive",
    ]
    sign(kept, 2)
    [events, audit] = kept.run("audit", "archive", "--to", to, "-o", "json").json["items"]
    assert (events["until"], events["messages"], len(events["segments"])) == (9, 5, 1)
    assert audit["until"] == 0
    again = kept.run("audit", "archive", "--to", to).out.splitlines()[0]
    assert again == "HWBUS_EVENTS: nothing new, archived up to 9"
    assert spans(path.name for path in segments(tmp_path / "worm")) == [(1, 4), (5, 9)]


def test_a_place_with_segments_can_be_verified_by_itself(kept: Stage, tmp_path: Path) -> None:
    for heads in (1, 2):
        sign(kept, heads)
        assert kept.run("audit", "archive", "--to", f"{tmp_path}/").code == 0
    outside = tmp_path / "heads.jsonl"
    outside.write_text(kept.run("audit", "heads").out)
    kept.unreachable = True
    given = ("audit", "verify", "--from-archive", str(tmp_path), "--key", KEY)
    done = kept.run(*given, "--heads", str(outside))
    assert done.code == 0, done.err + done.out
    assert done.out.splitlines()[0] == "HWBUS_EVENTS: all 9 messages are as they were signed"
    (tmp_path / EVENTS.name / "notes").touch()
    assert "1 names" in kept.run(*given).err
    path = segments(tmp_path)[1]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"seq":7', b'"seq":8'))
    found = kept.run(*given, "-o", "json")
    assert (found.code, found.json["items"][0]["first_bad"]) == (1, 7)
    path.unlink()
    assert kept.run(*given).code == 0
    found = kept.run(*given, "--heads", str(outside), "-o", "json")
    assert (found.code, found.json["items"][0]["first_bad"]) == (1, 5)


def test_what_cannot_be_archived_is_said_and_how_it_is_written(kept: Stage, tmp_path: Path) -> None:
    file = tmp_path / "file.jsonl"
    for argv in (
        ("--to", str(file)),
        ("--to", f"{tmp_path}/", "--before", "9"),
        ("--to", "s3://b/p", "--before", "9"),
    ):
        done = kept.run("audit", "archive", *argv)
        assert (done.code, "--to s3://BUCKET/PREFIX" in done.err) == (2, True)
    done = kept.run("audit", "archive", "--to", "s3://b/p")
    assert (done.code, "AWS_ACCESS_KEY_ID" in done.err) == (1, True)
    file.touch()
    done = kept.run("audit", "archive", "--to", f"{file}/")
    assert (done.code, "cannot be listed" in done.err) == (1, True)
    assert kept.run("audit", "verify", "--from-archive", f"{tmp_path}/none/").code == 2
    assert kept.run("audit", "verify", "--from-archive", "s3://b/p").code == 2


def test_a_log_that_was_changed_is_not_archived(kept: Stage, tmp_path: Path) -> None:
    subject, data = kept.past[2]
    kept.past[2] = (subject, data.replace(b"text", b"lies"))
    done = kept.run("audit", "archive", "--to", f"{tmp_path}/")
    assert (done.code, segments(tmp_path)) == (1, [])
    assert "messages 1 to 4 of HWBUS_EVENTS are not what was signed" in done.err
    assert "hwbus audit verify" in done.err


def test_show_call_names_both_streams_and_reads_neither(kept: Stage, tmp_path: Path) -> None:
    shown = kept.run("audit", "archive", "--to", f"{tmp_path}/", "--show-call").out
    assert "hwbus.evt.>" in shown
    assert "hwbus.audit.>" in shown
    assert kept.servers == []
