"""What reads an archive takes it as it is: one file, a folder or a bucket of segments."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hwbus.archive import NoArchiveError
from hwbus.archives import BrokenChainError, opened
from hwbus.cli.exits import Exit
from hwbus.memory import Kept
from hwbus.places import FolderPlace
from hwbus.replaying.tape import archived
from hwbus.streams import AUDIT, EVENTS
from schemas.audit import ExecutedRecord
from tests.support.archives import Shelf, in_segments
from tests.support.cli import Stage
from tests.support.clock import NOON
from tests.support.replaying import a_failure

END = len(a_failure().log)
CUTS = (10, 25, END)
[OPERATION] = {
    commit["correlation"]
    for commit in (msgspec.json.decode(one.data) for one in a_failure().log)
    if any(event["type"] == "volume.provisioning-failed.v1" for event in commit["events"])
}


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    """The failure in three segments, and its audit in one, with a tool that ran for it."""
    shelf = Shelf()
    in_segments(a_failure().log, (*a_failure().kept, a_tool_of(OPERATION)), shelf, *CUTS)
    return shelf


def a_tool_of(operation: str, cause: str = "event:36") -> Kept:
    ran = ExecutedRecord(
        at=NOON,
        node="n2",
        argv=("lvcreate", "--name", "pg"),
        exit_status=5,
        duration_ms=2.0,
        cause=cause,
        correlation=operation,
    )
    return Kept("hwbus.audit.executed.n2", msgspec.json.encode(ran), {})


@pytest.fixture
def folder(shelf: Shelf, tmp_path: Path) -> Path:
    place = FolderPlace(tmp_path / "worm")
    for name, data in shelf.kept.items():
        place.put(name, data)
    return tmp_path / "worm"


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(a_failure().archive(tmp_path / "log"))


class Fetched(Shelf):
    """A place that counts how often each name is fetched from it."""

    def __init__(self, kept: dict[str, bytes]) -> None:
        super().__init__(kept)
        self.times: dict[str, int] = {}

    def get(self, name: str) -> bytes:
        self.times[name] = self.times.get(name, 0) + 1
        return super().get(name)


def test_a_tape_of_segments_is_the_tape_of_the_file(shelf: Shelf, file: str) -> None:
    place = Fetched(shelf.kept)
    with archived(place) as (tape, verdict), archived(Path(file)) as (other, _):
        assert (tape.last, other.last, verdict.first_bad) == (END, END, None)
        for seq in (END, 1, *CUTS, 26, 2):
            assert tape.message(seq).data == other.message(seq).data
    assert place.times == dict.fromkeys(place.segments(), 1)


def test_both_streams_are_opened_and_of_the_audit_there_may_be_none(shelf: Shelf) -> None:
    with opened(shelf, stream=AUDIT.name) as audit:
        said = {one.subject for one in audit.messages()}
        assert {"hwbus.audit.executed.n2", "hwbus.audit.refused.volume"} <= said
    bare = Shelf({n: data for n, data in shelf.kept.items() if not n.startswith(AUDIT.name)})
    with opened(bare, stream=AUDIT.name) as audit:
        assert (list(audit.messages()), audit.last()) == ([], None)
    with pytest.raises(NoArchiveError), opened(Shelf()):
        pass


@pytest.fixture(params=["replay", "rehearse", "doctor", "support-bundle"])
def reads(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """How an archive is named to each of those that read one; it comes last."""
    match request.param:
        case "doctor":
            yield ("doctor", "--log", "--from-archive")
        case "support-bundle":
            to = str(tmp_path / "bundle")
            yield ("support-bundle", "--around", "x", "--to", to, "--from-archive")
        case word:
            yield (word,)


BREAKS = {
    "a gap": (1, 11),
    "no beginning": (0, 1),
    "a byte": (1, 11),
    "a byte of the last": (2, 26),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_chain_that_does_not_verify_is_refused_as_verify_says_it(
    stage: Stage, folder: Path, reads: tuple[str, ...], how: str
) -> None:
    at, first_bad = BREAKS[how]
    path = sorted((folder / EVENTS.name).iterdir())[at]
    if "byte" in how:
        text = path.read_bytes()
        line = text.index(b'"data":"', text.index(b'"seq":%d' % first_bad)) + 20
        path.chmod(0o600)
        path.write_bytes(text[:line] + bytes([text[line] ^ 1]) + text[line + 1 :])
    else:
        path.unlink()
    verify = stage.run("audit", "verify", "--from-archive", str(folder), "-o", "json")
    assert verify.json["items"][0]["first_bad"] == first_bad
    done = stage.run(*reads, str(folder))
    assert (done.code, done.out) == (Exit.FAILED, "")
    assert f"the first that is not as it was is {first_bad}" in done.err
    assert "hwbus audit verify --from-archive" in done.err


def test_a_replay_and_a_rehearsal_of_segments_are_those_of_the_file(
    stage: Stage, folder: Path, file: str
) -> None:
    whole = stage.run("replay", str(folder))
    assert whole.code == Exit.OK, whole.err
    assert whole.out == stage.run("replay", file).out
    assert f"all {END} messages are as they were signed" in whole.err
    rehearsed = stage.run("rehearse", f"{folder}/")
    assert rehearsed.code == Exit.OK, rehearsed.err
    assert f"{END} commits read and folded" in rehearsed.err


def test_the_doctor_looks_up_refusals_and_tools_of_segments(stage: Stage, folder: Path) -> None:
    done = stage.run("doctor", "--log", "--from-archive", str(folder), "-o", "json")
    [verdict] = done.json["items"]
    assert (done.code, verdict["commits"], verdict["findings"]) == (Exit.OK, END, [])
    assert verdict["tools"] == 1


def test_a_tool_that_nobody_caused_is_found_in_segments(stage: Stage, tmp_path: Path) -> None:
    kept = (*a_failure().kept, a_tool_of(OPERATION, cause="event:9999"))
    in_segments(a_failure().log, kept, FolderPlace(tmp_path), END)
    done = stage.run("doctor", "--log", "--from-archive", str(tmp_path), "-o", "name")
    assert (done.code, done.out.split("/")[0]) == (Exit.FAILED, "HW-L006")


def test_a_bundle_of_segments_has_the_refusals_that_a_file_has_not(
    stage: Stage, folder: Path, file: str, tmp_path: Path
) -> None:
    given = ("support-bundle", "--around", OPERATION, "--plain", "-o", "json")
    told = []
    for number, where in enumerate((file, str(folder))):
        to = ("--to", str(tmp_path / f"bundle-{number}"))
        done = stage.run(*given, "--from-archive", where, *to)
        assert done.code == Exit.OK, done.err
        told.append(done.json["items"][0])
    assert told[0]["hash"] == told[1]["hash"]
    assert [one["records"] for one in told] == [0, 1]


def test_what_is_no_place_is_said(stage: Stage, file: str, reads: tuple[str, ...]) -> None:
    bucket = stage.run(*reads, "s3://b/p")
    assert (bucket.code, "AWS_ACCESS_KEY_ID" in bucket.err) == (Exit.USAGE, True)
    assert stage.run(*reads, f"{file}/none/").code == Exit.USAGE
    wrong = stage.run(*reads, file, "--endpoint", "http://127.0.0.1:9")
    assert (wrong.code, "is a file" in wrong.err) == (Exit.USAGE, True)


def test_what_was_fetched_is_gone_when_the_archive_is_closed(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with opened(shelf) as archive:
        assert len(list(archive.messages())) == END
    assert archive.file.closed
    broken = Shelf(shelf.kept)
    broken.kept.pop(broken.name_of(11))
    with pytest.raises(BrokenChainError), opened(broken):
        pass
    assert list(tmp_path.iterdir()) == []
