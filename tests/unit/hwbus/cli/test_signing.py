"""Proof on the command line: heads to keep elsewhere, a verdict, proofs and archives that hold."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hwbus import proof as offline
from tests.support.cli import Done, Stage
from tests.support.signing import signed
from tests.unit.hwbus.cli.rows import furnish

COUNT, SIGNED = 12, (4, 9)
PAST, HEADS = signed(COUNT, *SIGNED)
KEY = HEADS[0].key


@pytest.fixture
def kept(stage: Stage) -> Stage:
    stage.past = [(one.subject, one.data) for one in PAST]
    subject = f"hwbus.audit.head.{KEY[:16]}"
    stage.kept = [(subject, msgspec.json.encode(head)) for head in HEADS]
    return stage


def lie(stage: Stage, seq: int) -> None:
    subject, data = stage.past[seq - 1]
    stage.past[seq - 1] = (subject, data.replace(b"text", b"lies"))


def test_heads_are_lines_that_can_be_kept_elsewhere(kept: Stage) -> None:
    lines = [json.loads(line) for line in kept.run("audit", "heads").out.splitlines()]
    assert [line["seq"] for line in lines] == list(SIGNED)
    for line in lines:
        offline.check_head(line)
        assert "leaves" not in line
    assert json.loads(kept.run("audit", "heads", "--last").out) == lines[-1]


def test_the_key_is_shown_and_where_to_compare_it_is_said(
    kept: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kept.run("audit", "key").out == f"{KEY}\n"
    [shown] = kept.run("audit", "key", "-o", "json").json["items"]
    assert (shown["key"], shown["heads"]) == (KEY, 2)
    kept.run("audit", "key", "--help")
    assert "notary.pub" in capsys.readouterr().out


def test_before_anything_is_signed_that_is_said(stage: Stage) -> None:
    for verb in ("heads", "key"):
        done = stage.run("audit", verb)
        assert (done.code, done.out) == (0, "")
        assert "no head is signed yet" in done.err


def test_a_log_that_is_as_it_was_is_said_to_be(kept: Stage) -> None:
    done = kept.run("audit", "verify", "--key", KEY)
    assert done.code == 0
    assert done.out.splitlines()[:2] == [
        "HWBUS_EVENTS: the first 9 of 12 messages are as they were signed",
        "2 heads, the last one of 9 messages, signed 2026-01-01T12:00:00Z",
    ]


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_verdict_is_printed_as_was_agreed(
    kept: Stage, agreed: Callable[[str, str], None], form: str
) -> None:
    lie(kept, 3)
    del kept.past[8:]
    agreed(f"audit-verify.{form}", kept.run("audit", "verify", "-o", form).out)


def test_the_first_that_was_changed_is_named_and_the_exit_code_tells(kept: Stage) -> None:
    lie(kept, 7)
    lie(kept, 3)
    done = kept.run("audit", "verify")
    assert done.code == 1
    assert done.out.startswith("HWBUS_EVENTS: the first that is not as it was is 3\n")
    verdict, _ = kept.run("audit", "verify", "-o", "json").json["items"]
    assert [(one["seq"], one["what"]) for one in verdict["findings"]][:2] == [
        (3, "changed"),
        (7, "changed"),
    ]
    assert kept.run("audit", "verify", "--key", "ab" * 32).code == 1


def test_without_any_head_that_counts_nothing_is_well_for_who_wants_one(kept: Stage) -> None:
    kept.kept = []
    done = kept.run("audit", "verify")
    assert (done.code, done.out.splitlines()[0]) == (
        0,
        "HWBUS_EVENTS: 12 messages, and no head is signed",
    )
    done = kept.run("audit", "verify", "--key", KEY)
    assert (done.code, done.err) == (1, "there is no head of HWBUS_EVENTS that counts\n")


def test_heads_that_were_kept_elsewhere_find_a_log_that_was_signed_anew(
    kept: Stage, tmp_path: Path
) -> None:
    outside = tmp_path / "heads.jsonl"
    outside.write_text(kept.run("audit", "heads").out)
    assert kept.run("audit", "verify", "--heads", str(outside)).code == 0
    subject = kept.kept[0][0]
    _, heads = signed(5, 5)
    kept.kept = [(subject, msgspec.json.encode(head)) for head in heads]
    kept.past = kept.past[:5]
    assert kept.run("audit", "verify").code == 0
    found = kept.run("audit", "verify", "--heads", str(outside))
    assert (found.code, "6-9  missing" in found.out) == (1, True)
    outside.write_text("nonsense\n")
    assert kept.run("audit", "verify", "--heads", str(outside)).code == 2


def offline_check(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run the checker alone, from a copy of its one file, where sockets cannot be made."""
    return subprocess.run(
        [sys.executable, "-I", "-c", _NO_NETWORK, *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={},
    )


_NO_NETWORK = """
import runpy, socket, sys
def no(*_, **__): raise OSError("no network here")
socket.socket = socket.create_connection = no
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
ours = {"hwbus", "schemas", "nats", "msgspec"}
assert not [name for name in sys.modules if name.split(".")[0] in ours]
"""


def test_a_proof_holds_offline_with_nothing_but_the_one_file(kept: Stage, tmp_path: Path) -> None:
    checker, file = tmp_path / "check.py", tmp_path / "proof.json"
    checker.write_bytes(Path(str(offline.__file__)).read_bytes())
    done = kept.run("audit", "prove", "3", "--with-head", "4", "--to", str(file))
    assert done.code == 0
    first_head = tmp_path / "head.json"
    first_head.write_text(kept.run("audit", "heads").out.splitlines()[0] + "\n\n")
    holds = offline_check(str(checker), str(file), "--key", KEY, "--head", str(first_head))
    assert (holds.returncode, holds.stderr) == (0, "")
    assert holds.stdout.startswith(f"holds: message 3 on {PAST[2].subject} stood in the log of 9")
    proof = json.loads(file.read_text())
    proof["message"]["seq"] = 2
    file.write_text(json.dumps(proof))
    refused = offline_check(str(checker), str(file))
    assert (refused.returncode, refused.stdout) == (1, "")
    file.write_text("{")
    assert offline_check(str(checker), str(file)).returncode == 2


def proven(stage: Stage, *argv: str) -> Done:
    return stage.run("audit", "prove", *argv)


def test_every_commit_that_is_signed_can_be_proven(kept: Stage) -> None:
    for seq in range(1, SIGNED[-1] + 1):
        proof = proven(kept, str(seq), "--with-head", "4", "--with-head", "9").json
        offline.check(proof, [KEY])
        for head in HEADS:
            offline.check_kept(proof, [{"seq": 1}, msgspec.to_builtins(head)])
        with pytest.raises(offline.ProofError):
            offline.check(proof, ["ab" * 32])
        with pytest.raises(offline.ProofError):
            offline.check_kept(proof, [{"stream": "HWBUS_EVENTS", "seq": 9, "root": "00"}])
        with pytest.raises(offline.ProofError):
            offline.check_kept(proof, [])


def test_a_proof_of_which_anything_was_changed_does_not_hold(kept: Stage) -> None:
    proof = proven(kept, "3", "--with-head", "4").json
    changes = {
        "message": proof["message"] | {"subject": "hwbus.evt.node.-.n9"},
        "head": proof["head"] | {"seq": 8},
        "inclusion": proof["inclusion"][:-1],
        "earlier": [proof["earlier"][0] | {"consistency": proof["inclusion"]}],
        "format": "hwbus-proof.v0",
    }
    for field, wrong in changes.items():
        with pytest.raises(offline.ProofError):
            offline.check(proof | {field: wrong})
        with pytest.raises(offline.ProofError):
            offline.check({name: value for name, value in proof.items() if name != "head"})


def test_what_cannot_be_proven_is_said(kept: Stage, tmp_path: Path) -> None:
    assert proven(kept, "99").code == 3
    kept.pruned = 1
    gone = proven(kept, "2", "--record")
    assert (gone.code, "HWBUS_AUDIT begins at 2" in gone.err) == (1, True)
    assert proven(kept, "3").code == 0
    kept.pruned = 0
    assert proven(kept, "11").code == 1
    assert proven(kept, "3", "--with-head", "5").code == 3
    there = tmp_path / "there"
    there.touch()
    assert proven(kept, "3", "--to", str(there)).code == 2
    lie(kept, 3)
    done = proven(kept, "3")
    assert (done.code, "audit verify" in done.err) == (1, True)


def archived(stage: Stage, tmp_path: Path, before: str) -> Path:
    file = tmp_path / "log.jsonl"
    done = stage.run("audit", "archive", "--before", before, "--to", str(file))
    assert done.code == 0, done.err + done.out
    return file


EVENTS_WELL = {
    6: "HWBUS_EVENTS: all 6 messages are as they were signed",
    9: "HWBUS_EVENTS: all 9 messages are as they were signed",
    12: "HWBUS_EVENTS: the first 9 of 12 messages are as they were signed",
}


@pytest.mark.parametrize(
    ("before", "count"), [("7", 6), ("10", 9), ("100", 12), ("2026-01-02", 12)]
)
def test_an_archive_can_be_verified_by_itself(
    kept: Stage, tmp_path: Path, before: str, count: int
) -> None:
    file = archived(kept, tmp_path, before)
    kept.unreachable = True
    done = kept.run("audit", "verify", "--export", str(file), "--key", KEY)
    assert (done.code, done.out.splitlines()[0]) == (0, EVENTS_WELL[count])


# Lines of an archive: the beginning, two heads, a message each from line 3 on, and the end.
DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int]] = {
    "flipped": (
        lambda all_: [*all_[:5], all_[5].replace(b'"data":"e', b'"data":"f'), *all_[6:]],
        3,
    ),
    "dropped": (lambda all_: [*all_[:5], *all_[6:]], 3),
    "reordered": (lambda all_: [*all_[:4], all_[5], all_[4], *all_[6:]], 2),
    "inserted": (lambda all_: [*all_[:6], all_[4], *all_[6:]], 2),
    "broken": (lambda all_: [*all_[:5], all_[5][:30] + b"\n", *all_[6:]], 3),
    "cut off": (lambda all_: all_[:8], 6),
    "without its last line": (lambda all_: all_[:-1], 10),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_found_out(kept: Stage, tmp_path: Path, damage: str) -> None:
    file = archived(kept, tmp_path, "10")
    change, first_bad = DAMAGES[damage]
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 2 + 9 + 1
    changed = change(lines)
    assert changed != lines
    file.write_bytes(b"".join(changed))
    done = kept.run("audit", "verify", "--from-archive", str(file), "-o", "json")
    assert done.code == 1
    assert done.json["items"][0]["first_bad"] == first_bad


def test_what_is_no_archive_and_what_is_no_store_is_said(kept: Stage, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text('{"line":"message"}\n')
    for argv in (
        ("--from-archive", str(other)),
        ("--from-archive", str(tmp_path / "none")),
        ("--from-store", str(tmp_path)),
        ("--from-store", str(tmp_path), "--from-archive", str(other)),
    ):
        done = kept.run("audit", "verify", *argv)
        assert (done.code, done.out) == (2, "")


def test_records_are_exported_as_lines_or_as_cells(stage: Stage, tmp_path: Path) -> None:
    furnish(stage)
    rows = [json.loads(line) for line in stage.run("audit", "export").out.splitlines()]
    assert rows == stage.run("audit", "-o", "json").json["items"]
    cells = list(csv.DictReader(io.StringIO(stage.run("audit", "export", "--format", "csv").out)))
    assert [row["kind"] for row in cells] == [row["kind"] for row in rows]
    assert json.loads(cells[-1]["argv"] or "[]") == list(rows[-1].get("argv", ()))
    file = tmp_path / "audit.jsonl"
    done = stage.run("audit", "export", "--kind", "refused", "--to", str(file))
    assert done.err == f"1 records written to {file}\n"
    assert [json.loads(line)["kind"] for line in file.read_text().splitlines()] == ["refused"]
    assert stage.run("audit", "export", "--to", str(file)).code == 2


def test_searching_is_the_audit_itself_and_options_may_stand_before_it(stage: Stage) -> None:
    furnish(stage)
    whole = stage.run("audit", "-o", "json").out
    assert stage.run("audit", "search", "-o", "json").out == whole
    assert stage.run("-o", "json", "audit").out == whole
    assert stage.run("-o", "json", "audit", "--kind", "tool").json["items"][0]["kind"] == "tool"


def test_show_call_names_what_would_be_read(kept: Stage, tmp_path: Path) -> None:
    for argv in (("verify",), ("prove", "3"), ("archive", "--before", "3", "--to", "x")):
        assert "HWBUS_EVENTS" in kept.run("audit", *argv, "--show-call").out
    for argv in (("heads",), ("key",)):
        assert "HWBUS_AUDIT" in kept.run("audit", *argv, "--show-call").out
    assert "hwbus.q.audit" in kept.run("audit", "export", "--show-call").out
    assert kept.servers == []
