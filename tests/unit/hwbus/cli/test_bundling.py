"""``hwbus support-bundle``: what somebody else needs, and nothing of who and where."""

import json
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import msgspec.inspect as mi
import pytest

from hwbus.cli.exits import Exit
from hwbus.ports import Stored
from hwbus.replaying.redaction import Redactor
from schemas.audit import ExecutedRecord
from schemas.words import every_command, every_event
from tests.support.cli import Stage
from tests.support.clock import NOON
from tests.support.replaying import a_failure

FAILED = ("--until-event", "volume.provisioning-failed", "--steps", "-o", "json")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return a_failure().archive(tmp_path / "log")


@pytest.fixture
def operation(stage: Stage, log: Path) -> str:
    step = stage.run("replay", str(log), *FAILED).json["steps"][-1]
    return str(step["correlation"])


def test_a_bundle_replays_elsewhere_to_the_same_failing_transition_and_hash(
    stage: Stage, log: Path, operation: str, tmp_path: Path
) -> None:
    plain, other = str(tmp_path / "plain"), str(tmp_path / "other")
    given = ("support-bundle", "--around", operation, "--from-archive", str(log), "--to")
    assert stage.run(*given, plain, "--plain").code == Exit.OK
    assert stage.run("replay", plain, *FAILED).json == {
        **stage.run("replay", str(log), *FAILED).json,
        "steps": stage.run("replay", plain, *FAILED).json["steps"],
    }
    written = stage.run(*given, other, "--names-to", str(tmp_path / "names"))
    assert written.code == Exit.OK, written.err
    assert "person: 2" in written.err
    played = stage.run("replay", other)
    assert played.out.splitlines()[-1] + "\n" == written.out
    assert "that is what its writer had" in played.err
    there = stage.run("replay", str(log), *FAILED).json["steps"][-1]
    here = stage.run("replay", other, *FAILED).json["steps"][-1]
    names = json.loads((tmp_path / "names").read_text())
    assert stat.S_IMODE((tmp_path / "names").stat().st_mode) == 0o600
    text = json.dumps(here)
    for new, name in names.items():
        text = re.sub(rf"\b{new}\b", name, text)
    assert json.loads(text) == there
    assert not re.search(r"\b(ada|n1|n2)\b", Path(other).read_text())
    assert not re.search(r"\bada\b", played.out + played.err)


def test_from_a_cluster_it_brings_the_tools_and_refusals_of_the_operation(
    stage: Stage, operation: str, tmp_path: Path
) -> None:
    stage.past = [(one.subject, one.data) for one in a_failure().log]
    stage.kept = [(one.subject, one.data) for one in a_failure().kept]
    for correlation, cause in ((operation, "event:36"), ("another", "scan:1")):
        ran = ExecutedRecord(
            at=NOON,
            node="n2",
            argv=("lvcreate", "--name", "pg"),
            exit_status=5,
            duration_ms=2.0,
            cause=cause,
            correlation=correlation,
            stderr="n2 is full",
        )
        stage.kept.append(("hwbus.audit.executed.n2", msgspec.json.encode(ran)))
    to = str(tmp_path / "bundle")
    done = stage.run("support-bundle", "--around", f"operation/{operation}", "--to", to)
    assert done.code == Exit.OK, done.err
    assert ", 1 records of the audit" in done.err
    played = stage.run("replay", to, "--steps")
    assert re.search(r"ran on node-2-\w+: lvcreate --name pg: exit 5", played.out)
    told = stage.run("support-bundle", "--around", operation, "--to", f"{to}2", "-o", "json").json
    assert told["items"][0]["redacted"]["node"] == 2


@pytest.mark.parametrize("how", ["a byte", "a line", "the end"])
def test_a_bundle_that_is_not_as_it_was_is_not_played(
    stage: Stage, log: Path, operation: str, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "bundle"
    given = ("support-bundle", "--around", operation, "--from-archive", str(log), "--to", str(path))
    assert stage.run(*given).code == Exit.OK
    lines = path.read_bytes().splitlines(keepends=True)
    match how:
        case "a byte":
            lines[3] = lines[3].replace(b"2", b"3")
        case "a line":
            del lines[4]
        case _:
            del lines[-1]
    path.write_bytes(b"".join(lines))
    done = stage.run("replay", str(path))
    assert (done.code, done.out) == (Exit.USAGE, "")
    assert "cannot be played" in done.err


def test_a_redaction_that_loses_something_writes_nothing(
    stage: Stage, log: Path, operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Redactor.messages

    def forgetful(self: Redactor, messages: Iterable[Stored]) -> Iterator[Stored]:
        *most, last = right(self, messages)
        yield from most
        yield msgspec.structs.replace(most[0], seq=last.seq)

    monkeypatch.setattr(Redactor, "messages", forgetful)
    path = tmp_path / "bundle"
    given = ("support-bundle", "--around", operation, "--from-archive", str(log), "--to", str(path))
    done = stage.run(*given)
    assert done.code == Exit.FAILED
    assert "nothing is written" in done.err
    assert not path.exists()


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ((), Exit.NOT_FOUND, "hwbus op ls --all"),
        (("--plain", "--hide-names"), Exit.USAGE, "there is none to hide"),
        (("--show-call",), Exit.USAGE, "reads the log"),
    ],
)
def test_what_cannot_be_bundled_is_said(
    stage: Stage, log: Path, tmp_path: Path, argv: tuple[str, ...], code: Exit, said: str
) -> None:
    given = ("--around", "x", "--from-archive", str(log), "--to", str(tmp_path / "b"))
    done = stage.run("support-bundle", *given, *argv)
    assert done.code == code
    assert said in done.err
    assert not (tmp_path / "b").exists()


def fields_of(type_: mi.Type, seen: frozenset[type]) -> Iterator[tuple[str, str]]:
    match type_:
        case mi.StructType() if type_.cls not in seen:
            for field in type_.fields:
                yield field.name, type_.cls.__name__
                yield from fields_of(field.type, seen | {type_.cls})
        case mi.UnionType():
            for one in type_.types:
                yield from fields_of(one, seen)
        case mi.Metadata():
            yield from fields_of(type_.type, seen)
        case mi.VarTupleType():
            yield from fields_of(type_.item_type, seen)
        case mi.DictType():
            yield from fields_of(type_.value_type, seen)
        case _:
            return


def test_no_word_has_a_field_for_a_secret() -> None:
    """What is called a key is a reference to one, or public; a new one has to be looked at."""
    secret = re.compile(r"secret|passw|passphrase|token|private|credential|key")
    words = (*every_event(), *every_command())
    found = {one for word in words for one in fields_of(mi.type_info(word), frozenset())}
    assert {name for name, _ in found if secret.search(name)} == {
        *("public_key", "credentials", "key_ref", "from_key_ref", "key", "keys")
    }
    assert {of for name, of in found if name == "key"} == {"Link"}
