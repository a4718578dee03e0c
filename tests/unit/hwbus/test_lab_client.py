"""What a person hears who asks a lab that is not there."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from hwbus.lab.client import LabClient, LabNotRunningError, LabRunningError, up
from hwbus.lab.protocol import SOCKET
from hwbus.lab.spec import uniform
from hwbus.lab.uml.errors import LabError
from hwbus.lab.workspace import DAEMON_LOCK, lock


def test_a_directory_without_a_lab_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabNotRunningError, match="no lab is running in"):
        asyncio.run(LabClient(tmp_path).status())
    with pytest.raises(LabNotRunningError, match="no lab is running in"):
        _ = LabClient(tmp_path).nats_url


def test_bringing_down_a_lab_that_is_not_there_is_fine(tmp_path: Path) -> None:
    asyncio.run(LabClient(tmp_path).down())


def test_a_lab_whose_daemon_has_died_says_so(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ear:
        ear.bind(str(tmp_path / SOCKET))
        ear.listen()
    with pytest.raises(LabNotRunningError, match="its daemon has died; bring it up again"):
        asyncio.run(LabClient(tmp_path).status())


def test_a_lab_that_is_coming_up_says_so(tmp_path: Path) -> None:
    holder = lock(tmp_path / DAEMON_LOCK)
    assert holder is not None
    with pytest.raises(LabNotRunningError, match="just coming up or going down"):
        asyncio.run(LabClient(tmp_path).status())
    os.close(holder)


def test_a_second_lab_in_the_same_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwbus.lab.client.why_not", lambda: None)
    holder = lock(tmp_path / DAEMON_LOCK)
    assert holder is not None
    with pytest.raises(LabRunningError, match="running already"):
        asyncio.run(up(uniform(1, 0), tmp_path))
    os.close(holder)


def test_a_machine_that_cannot_run_the_lab_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwbus.lab.client.why_not", lambda: "the lab needs root")
    with pytest.raises(LabError, match="the lab needs root"):
        asyncio.run(up(uniform(1, 0), tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_that_dies_at_once_leaves_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("hwbus.lab.client.why_not", lambda: None)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(LabError, match=r"(?s)daemon died; its log ends:.*no such luck"):
        asyncio.run(up(uniform(1, 0), tmp_path / "lab"))
