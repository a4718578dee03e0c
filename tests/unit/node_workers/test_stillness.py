"""The script that holds devices still, run by a real shell with tools that only talk."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from node_workers.stillness import HOLD, LET_GO, LET_GO_EARLY, STILL

TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >>"$HERE/said"
case "$*" in
    "info -c --noheadings -o suspended "*) [ -e "$HERE/awake" ] && echo Active || echo Suspended ;;
    resume*) ;;
    *slow*) echo $$ >"$HERE/slow"; sleep 60 & wait ;;
    *"suspend late"*) sleep 1.5 ;;
    *"suspend busy"*) echo "Device or resource busy" >&2; exit 1 ;;
    *fail*) echo "Insufficient free space" >&2; exit 5 ;;
esac
"""
LOOKS = [
    "dmsetup info -c --noheadings -o suspended a",
    "dmsetup info -c --noheadings -o suspended b",
]
# What was loaded by somebody who died must not be put in place by the resume.
SUSPENDED = ["dmsetup clear a", "dmsetup suspend a", "dmsetup clear b", "dmsetup suspend b"]
RESUMED = ["dmsetup resume a", "dmsetup resume b"]


class Place:
    """A folder with tools, and what they said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("dmsetup", "lvcreate"):
            tool = folder / name
            tool.write_text(TOOL)
            tool.chmod(0o755)

    @property
    def said(self) -> list[str]:
        said = self.folder / "said"
        return said.read_text().splitlines() if said.exists() else []

    def begin(
        self, *commands: Sequence[str], devices: str = "a b", bound: str = "10"
    ) -> subprocess.Popen[bytes]:
        words = [word for command in commands for word in (str(len(command)), *command)]
        return self.start(*STILL, bound, devices, *words)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        path = f"{self.folder}:{os.environ['PATH']}"
        out, err = self.folder / "stdout", self.folder / "stderr"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            return subprocess.Popen(
                argv,
                env={"PATH": path, "HERE": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                process_group=0,
            )

    def hold(self, devices: str = "a b", bound: str = "10") -> tuple[int, str]:
        """Return how the first of two scripts ended, and what it printed: the keeper."""
        status = self.start(*HOLD, bound, devices).wait(timeout=30)
        return status, (self.folder / "stdout").read_text().strip()

    def let_go(self, keeper: str, devices: str = "a b") -> int:
        return self.start(*LET_GO, keeper, devices).wait(timeout=30)

    def run(self, *commands: Sequence[str], devices: str = "a b") -> tuple[int, str]:
        status = self.begin(*commands, devices=devices).wait(timeout=30)
        return status, (self.folder / "stderr").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_all_stand_still_before_the_first_command_and_go_on_after_the_last(place: Place) -> None:
    commands = (("lvcreate", "one", "with space", "$HOME"), ("lvcreate", "two"))
    assert place.run(*commands) == (0, "")
    made = ["lvcreate one with space $HOME", "lvcreate two"]
    assert place.said == [*SUSPENDED, *made, *LOOKS, *RESUMED]


def test_after_the_first_that_fails_nothing_more_is_done_and_all_go_on(place: Place) -> None:
    status, said = place.run(("lvcreate", "fail"), ("lvcreate", "two"))
    assert (status, "Insufficient free space" in said) == (5, True)
    assert place.said == [*SUSPENDED, "lvcreate fail", *LOOKS, *RESUMED]


def test_what_cannot_be_held_still_stops_all_of_it(place: Place) -> None:
    status, said = place.run(("lvcreate", "one"), devices="a busy")
    assert (status, "busy" in said) == (1, True)
    assert not [line for line in place.said if line.startswith("lvcreate")]
    assert place.said[-2:] == ["dmsetup resume a", "dmsetup resume busy"]


def test_what_went_on_before_the_end_is_told(place: Place) -> None:
    (place.folder / "awake").touch()
    status, said = place.run(("lvcreate", "one"))
    assert (status, "let go" in said) == (LET_GO_EARLY, True)
    assert place.said[-2:] == RESUMED


def test_without_devices_only_the_commands_run(place: Place) -> None:
    assert place.run(("lvcreate", "one"), devices="") == (0, "")
    assert place.said == ["lvcreate one"]


def test_whoever_ends_the_script_politely_lets_all_go_on(place: Place) -> None:
    process = place.begin(("lvcreate", "slow"))
    until((place.folder / "slow").exists)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=20) != 0
    assert place.said[-2:] == RESUMED


def test_whoever_kills_the_script_cannot_keep_all_from_going_on(place: Place) -> None:
    process = place.begin(("lvcreate", "slow"), bound="1")
    until((place.folder / "slow").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
    until(lambda: sorted(place.said[-2:]) == RESUMED)


def test_whoever_waits_for_a_command_that_hangs_waits_with_all_going_on(place: Place) -> None:
    process = place.begin(("lvcreate", "slow"), bound="1")
    until(lambda: sorted(place.said[-2:]) == RESUMED)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)


def lives(keeper: str) -> bool:
    try:
        os.kill(int(keeper), 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{keeper}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_what_one_script_holds_the_other_lets_go_and_the_keeper_with_it(place: Place) -> None:
    status, keeper = place.hold()
    assert (status, place.said, lives(keeper)) == (0, SUSPENDED, True)
    assert place.let_go(keeper) == 0
    assert place.said == [*SUSPENDED, *LOOKS, *RESUMED]
    until(lambda: not lives(keeper))


def test_what_went_on_before_it_was_let_go_is_told(place: Place) -> None:
    _, keeper = place.hold()
    (place.folder / "awake").touch()
    assert place.let_go(keeper) == LET_GO_EARLY
    assert place.said[-2:] == RESUMED
    until(lambda: not lives(keeper))


def test_if_nobody_lets_go_the_keeper_does(place: Place) -> None:
    status, keeper = place.hold(bound="1")
    assert (status, place.said) == (0, SUSPENDED)
    until(lambda: sorted(place.said[len(SUSPENDED) :]) == RESUMED)
    until(lambda: not lives(keeper))


def test_whoever_ends_a_service_politely_does_not_end_the_keeper(place: Place) -> None:
    _, keeper = place.hold(bound="1")
    os.killpg(int(keeper), signal.SIGTERM)
    until(lambda: sorted(place.said[len(SUSPENDED) :]) == RESUMED)


def test_if_one_cannot_be_held_all_go_on_and_nobody_keeps_them(place: Place) -> None:
    status, keeper = place.hold("a busy")
    assert (status, keeper) == (1, "")
    assert place.said[-2:] == ["dmsetup resume a", "dmsetup resume busy"]


def test_whoever_ends_the_first_script_politely_lets_all_go_on(place: Place) -> None:
    process = place.start(*HOLD, "10", "a slow")
    until((place.folder / "slow").exists)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=20) != 0
    assert "dmsetup resume a" in place.said


def test_what_comes_to_rest_after_the_keeper_let_go_is_not_held(place: Place) -> None:
    """Nobody would let it go if the worker died."""
    status, keeper = place.hold("late", bound="1")
    assert (status, keeper) == (LET_GO_EARLY, "")
    held, let_go = ["dmsetup clear late", "dmsetup suspend late"], ["dmsetup resume late"]
    assert place.said == [*held, *let_go, *let_go]
