"""``hwbus replay``: a log from a file, under the finger."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwbus.cli.exits import Exit
from hwbus.cli.stepping import Stepper
from hwbus.replaying.player import Player
from hwbus.replaying.tape import archived
from tests.support.cli import Stage
from tests.support.replaying import a_failure

FAILED = ("--until-event", "volume.provisioning-failed", "--until-object", "volume/pg")


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(a_failure().archive(tmp_path / "log"))


def hash_at(stage: Stage, log: str, *argv: str) -> str:
    done = stage.run("replay", log, *argv)
    assert done.code == Exit.OK, done.err
    return done.out.splitlines()[-1]


def test_two_people_who_stop_at_the_same_commit_have_the_same_hash(stage: Stage, log: str) -> None:
    end = len(a_failure().log)
    whole = hash_at(stage, log)
    assert whole.startswith(f"hash {end} ")
    assert hash_at(stage, log, "--to", str(end), "--steps") == whole
    at = a_failure().log[20].at.isoformat().replace("+00:00", "Z")
    seq = max(one.seq for one in a_failure().log if one.at <= a_failure().log[20].at)
    assert hash_at(stage, log, "--to", at) == hash_at(stage, log, "--to", str(seq)) != whole


def test_it_stops_where_the_volume_failed_and_shows_why(stage: Stage, log: str) -> None:
    stopped = stage.run("replay", log, *FAILED, "--until-code", "HW-W001", "--until-actor", "hwbus")
    assert "volume/pg  volume.provisioning-failed  hwbus" in stopped.out
    operation = stage.run("replay", log, *FAILED, "--steps", "-o", "json").json["steps"][-1]
    done = stage.run(
        "replay",
        log,
        "--until-event=operation.ended.v1",
        f"--until-operation={operation['correlation']}",
        f"--show=operation/{operation['correlation']}",
        "--show=pool/n2/fast",
        "-o",
        "json",
    )
    assert done.code == Exit.OK, done.err
    ended, pool = done.json["items"]
    assert (ended["row"]["code"], ended["row"]["state"]) == ("HW-W001", "failed")
    assert (pool["object"], pool["row"]["volumes"]) == ("pool/n2/fast", 1)
    assert pool["state"]["phase"] == "ready"


def test_whoever_has_read_enough_is_told_nothing(log: str) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    argv = [sys.executable, "-m", "hwbus", "replay", log, "--steps"]
    done = subprocess.run(argv, stdout=writes, stderr=subprocess.PIPE, check=False)
    os.close(writes)
    assert (done.returncode, b"error" in done.stderr) == (0, False), done.stderr


def test_a_step_tells_what_it_changed(stage: Stage, log: str) -> None:
    done = stage.run("replay", log, *FAILED, "--steps")
    lines = done.out.splitlines()
    at = next(n for n, line in enumerate(lines) if "volume.provisioning-failed" in line)
    assert "removed volume/pg  state: provisioning -> -" in lines[at + 1]
    told = stage.run("replay", log, *FAILED, "--steps", "-o", "json").json
    assert told["steps"][-1]["events"] == ["volume.provisioning-failed.v1"]
    assert told["hash"] in done.out


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("--until-event", "volume.exploded"), Exit.USAGE, "no event is called"),
        (("--until-code", "HW-X999"), Exit.USAGE, "no refusal has the code"),
        (("--until-actor", "nobody"), Exit.NOT_FOUND, "no commit"),
        (("--to", "99999"), Exit.USAGE, "the file has the commits 1 to"),
        (("--to", "90d"), Exit.USAGE, "the file has the commits 1 to"),
        (("--show", "volume/none"), Exit.NOT_FOUND, "there is no volume/none"),
        (("--show", "nonsense"), Exit.NOT_FOUND, "KIND/NAME"),
        (("--show-call",), Exit.USAGE, "reads a file"),
    ],
)
def test_what_cannot_be_is_said(
    stage: Stage, log: str, argv: tuple[str, ...], code: Exit, said: str
) -> None:
    done = stage.run("replay", log, *argv)
    assert done.code == code
    assert said in done.err


def test_a_file_that_was_changed_is_played_up_to_there_and_no_further(
    stage: Stage, log: str
) -> None:
    path = Path(log)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:30], *lines[31:]]))  # without message 30
    done = stage.run("replay", log)
    assert done.code == Exit.FAILED
    assert "the first that is not as it was is 30" in done.err
    assert "played is what is before that: up to 29" in done.err
    assert done.out.splitlines()[-1].startswith("hash 29 ")
    path.write_bytes(b"".join(lines[:-1]))
    assert stage.run("replay", log).code == Exit.FAILED
    path.write_text("{}")
    assert stage.run("replay", log).code == Exit.USAGE


def test_on_a_terminal_it_goes_on_by_hand(stage: Stage, log: str) -> None:
    typed = "p 2\nhash\nn\n\nquit\n"
    done = stage.run("replay", log, "--to", "20", typed=typed, typed_on_tty=True, tty=True)
    hashes = [line for line in done.out.splitlines() if "hash " in line and " SEQ" not in line]
    assert done.code == Exit.OK
    assert "20/" in done.out
    assert any(
        "18/" in line and line.endswith(hash_at(stage, log, "--to", "18")) for line in hashes
    )
    assert "     20  " in done.out


def test_lines_that_are_typed_lead_forward_and_back(log: str) -> None:
    with archived(Path(log)) as (tape, _):
        player = Player(tape)
        by_hand = Stepper(player)
        assert by_hand.prompt == f"0/{tape.last}> "
        assert by_hand.do("n 3")[-1].startswith("      3  ")
        assert by_hand.do("") == by_hand.do("go 9")[:0] + by_hand.do("go 6")
        at_6 = by_hand.do("hash")
        assert by_hand.do("go 99999")[0] == f"there are 0 to {tape.last}"
        assert player.seq == tape.last
        assert "volume/before" in by_hand.do("show volume before")
        by_hand.do("p 10")
        assert any("removed" in line or "changed" in line for line in by_hand.do("diff"))
        by_hand.do("go 6")
        assert by_hand.do("hash") == at_6
        assert by_hand.do("show pool n9/fast") == ["there is no pool/n9/fast at 6"]
        for wrong in ("jump", "go", "n many", "show", "go there"):
            [said] = by_hand.do(wrong)
            assert said
        assert player.seq == 6
        assert "quit" in " ".join(by_hand.do("help"))
        assert by_hand.do("q") == []
        assert by_hand.over


def test_the_output_of_a_replay_is_one_document(stage: Stage, log: str) -> None:
    done = stage.run("replay", log, "-o", "json")
    document = json.loads(done.out)
    assert (document["kind"], document["items"], document["steps"]) == ("Replay", [], [])
