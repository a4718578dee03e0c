"""The demo is the acceptance test: all that it shows is so, and if something is not, it says so."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.machine import until

DEMO = (sys.executable, "-P", "-m", "hwbus.demo")
SIMULATED = (*DEMO, "--simulated")
CHAPTERS = 16
TOLD_S_MAX = 360
WITHIN_S = 480
# vgs that takes one extent more for free than there is; everything else is as it was.
LIAR = """
import sys
from hwbus.demo.hands import Hands
from hwbus.demo.__main__ import main
truth = Hands._vgs
Hands._vgs = lambda self, argv: truth(self, argv).replace("21453864960", "21453864961")
sys.exit(main(["--simulated"]))
"""
# A machine that cannot run the lab.
ELSEWHERE = """
import sys
from hwbus.demo import __main__
__main__.why_not = lambda: "the lab needs root"
sys.exit(__main__.main([]))
"""


def told(argv: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd="/",
        env=surroundings(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def surroundings(folder: Path) -> dict[str, str]:
    # The path must be short: the lab keeps a socket there.
    return {**os.environ, "TMPDIR": str(folder), "HOME": "/nonexistent", "CI": "true"}


@contextmanager
def running(argv: tuple[str, ...], folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        argv, cwd="/", env=surroundings(folder), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        if words in line:
            return
        said += line
    raise AssertionError(f"it ended and never said {words!r}, but this:\n{said}")


def at_work_in(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        if entry.name.isdigit() and str(folder) in command:
            found.append(command)
    return found


def seconds_told(out: str) -> int:
    match = re.search(rf"All of it is so: {CHAPTERS} chapters, \d+ checks, (\d+) s", out)
    assert match is not None, out
    return int(match[1])


def chapters(out: str) -> list[int]:
    return [int(number) for number in re.findall(r"^(\d+)\. ", out, flags=re.MULTILINE)]


def test_the_whole_story_is_so_on_simulated_nodes_and_leaves_nothing(tmp_path: Path) -> None:
    done = told(SIMULATED, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert chapters(done.stdout) == list(range(1, CHAPTERS + 1))
    assert seconds_told(done.stdout) < TOLD_S_MAX
    assert "\033" not in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
    assert at_work_in(tmp_path) == []


def test_what_is_not_so_is_named_and_the_demo_fails(tmp_path: Path) -> None:
    done = told((sys.executable, "-P", "-c", LIAR), tmp_path)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("NOT SO, chapter 2: with the disks, the bytes and the tag")
    assert list(tmp_path.iterdir()) == []
    assert at_work_in(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_has_seen_enough_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running(SIMULATED, tmp_path) as demo:
        read_until(demo, "2. ")
        demo.send_signal(number)
        assert demo.wait(WITHIN_S) == 130
    assert list(tmp_path.iterdir()) == []
    assert at_work_in(tmp_path) == []


def test_where_the_lab_cannot_run_it_says_why_and_goes_on_simulated(tmp_path: Path) -> None:
    with running((sys.executable, "-P", "-c", ELSEWHERE), tmp_path) as demo:
        assert demo.stdout is not None
        first = demo.stdout.readline().strip()
        assert first == "The story is told on simulated nodes: the lab needs root."
        read_until(demo, "1. ")
        demo.send_signal(signal.SIGTERM)
        demo.wait(WITHIN_S)
    assert at_work_in(tmp_path) == []


def test_nothing_outlives_a_demo_that_was_killed(tmp_path: Path) -> None:
    with running(SIMULATED, tmp_path) as demo:
        read_until(demo, "1. ")
        assert at_work_in(tmp_path) != []
        demo.kill()
        demo.wait(WITHIN_S)
    until(lambda: at_work_in(tmp_path) == [])


@pytest.mark.lab
@pytest.mark.slow
def test_the_whole_story_is_so_on_real_kernels(lab_folder: Path) -> None:
    done = told(DEMO, lab_folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "User Mode Linux" in done.stdout
    assert chapters(done.stdout) == list(range(1, CHAPTERS + 1))
    assert seconds_told(done.stdout) < TOLD_S_MAX
    assert list(lab_folder.iterdir()) == []
    assert at_work_in(lab_folder) == []


@pytest.fixture
def lab_folder() -> Iterator[Path]:
    """A folder with a short path, as the lab needs one."""
    folder = Path("/tmp") / f"hwbus-demo-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    subprocess.run(("rm", "-rf", folder), check=True)
