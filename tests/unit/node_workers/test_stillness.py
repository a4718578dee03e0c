"""The script that holds devices still, run by a real shell with tools that only talk."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from node_workers.stillness import LET_GO_EARLY, STILL

TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >>"$HERE/said"
case "$*" in
    "info -c --noheadings -o suspended "*) [ -e "$HERE/awake" ] && echo Active || echo Suspended ;;
    *slow*) echo $$ >"$HERE/slow"; sleep 60 & wait ;;
    *"suspend busy"*) echo "Device or resource busy" >&2; exit 1 ;;
    *fail*) echo "Insufficient free space" >&2; exit 5 ;;
esac
"""
LOOKS = [
    "dmsetup info -c --noheadings -o suspended a",
    "dmsetup info -c --noheadings -o suspended b",
]
SUSPENDED = ["dmsetup suspend a", "dmsetup suspend b"]
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
        path = f"{self.folder}:{os.environ['PATH']}"
        with (self.folder / "stderr").open("wb") as stderr:
            return subprocess.Popen(
                (*STILL, bound, devices, *words),
                env={"PATH": path, "HERE": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                process_group=0,
            )

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
