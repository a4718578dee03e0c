"""A workspace of the dead is removed, one of the living is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwbus.lab.workspace import DAEMON_LOCK, Workspace, held, lock, remove_stale

DIE = """
import os
from hwbus.lab.workspace import Workspace
print(Workspace().path, flush=True)
os._exit(9)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def leave_one_behind() -> Path:
    left = subprocess.run([sys.executable, "-c", DIE], capture_output=True, text=True, check=False)
    assert left.returncode == 9, left.stderr
    return Path(left.stdout.strip())


def test_a_workspace_is_gone_when_it_is_closed(temporary: Path) -> None:
    workspace = Workspace()
    assert workspace.path.parent == temporary
    workspace.close()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(temporary: Path) -> None:
    left = leave_one_behind()
    assert left.exists()
    workspace = Workspace()
    assert list(temporary.iterdir()) == [workspace.path]
    workspace.close()


def test_what_a_living_process_or_daemon_uses_is_not_removed(temporary: Path) -> None:
    mine, left = Workspace(), leave_one_behind()
    daemon = lock(left / DAEMON_LOCK)
    assert daemon is not None
    remove_stale(temporary)
    assert mine.path.exists()
    assert left.exists()
    os.close(daemon)
    remove_stale(temporary)
    assert not left.exists()
    mine.close()


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not held(path)
    first = lock(path)
    assert first is not None
    assert held(path)
    assert lock(path, patience_s=0.02) is None
    os.close(first)
    assert not held(path)
