"""What cannot be run is named; and where CI looks on, it is a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SCENE = """
import pytest

def test_that_runs() -> None:
    assert True

@pytest.mark.skip(reason="no disks here")
def test_that_cannot() -> None:
    assert False

@pytest.mark.xfail(reason="known")
def test_known_to_fail() -> None:
    assert False

@pytest.mark.lab
def test_on_a_real_kernel() -> None:
    assert True
"""
NO_LAB = """
import hwbus.lab.requirements
hwbus.lab.requirements.why_not = lambda: "the lab needs a moon"
"""


def run(tmp_path: Path, *arguments: str, ci: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "conftest.py").write_text(NO_LAB + CONFTEST.read_text())
    (tmp_path / "test_scene.py").write_text(SCENE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    lab: needs a lab\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=tmp_path,
        env={**os.environ, "CI": ci, "PYTHONPATH": str(CONFTEST.parents[1]), "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_at_home_what_could_not_be_run_is_named_and_no_failure(tmp_path: Path) -> None:
    done = run(tmp_path, ci="")
    assert done.returncode == 0
    assert "1 not run: no disks here\n    test_scene.py::test_that_cannot" in done.stdout
    assert "1 not run: the lab needs a moon\n" in done.stdout
    assert "1 passed, 2 skipped, 1 xfailed" in done.stdout.splitlines()[-1]


def test_in_ci_a_test_that_was_skipped_is_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, "test_scene.py::test_that_runs", "test_scene.py::test_that_cannot", ci="1")
    assert done.returncode == 1
    assert "CI is set, so everything must be run" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]


def test_in_ci_a_lab_test_fails_where_there_is_no_lab(tmp_path: Path) -> None:
    done = run(tmp_path, "test_scene.py::test_on_a_real_kernel", ci="true")
    assert done.returncode == 1
    assert "CI runs everything, but the lab needs a moon" in done.stdout


@pytest.mark.parametrize(
    "left_out", [["-k", "runs"], ["--deselect", "test_scene.py::test_that_cannot"]]
)
def test_in_ci_a_test_that_was_left_out_is_a_failure(tmp_path: Path, left_out: list[str]) -> None:
    assert run(tmp_path, *left_out, ci="true").returncode == 1


def test_in_ci_all_is_well_when_everything_was_run(tmp_path: Path) -> None:
    done = run(tmp_path, "test_scene.py::test_that_runs", ci="true")
    assert done.returncode == 0, done.stdout
    assert "not run" not in done.stdout
