"""Where nobody answers, the command line says so soon, and says what to do."""

import socket
import time
from pathlib import Path

import pytest

from tests.support.machine import Machine
from tests.support.nats import a_broker

# The promise is two seconds of waiting. Starting and ending comes on top, as long as it takes on
# this machine just now, and some more for what is loaded only then.
_PROMISED_S = 2.0
_STARTS = 4
COMMANDS = [
    ("node", "ls"),
    ("volume", "create", "pg", "1GiB", "--wait"),
    ("events", "tail"),
    ("events", "show", "1"),
    ("op", "watch", "01j00000000000000000000000"),
]


def ends_with_10(home: Path, server: str, argv: tuple[str, ...]) -> str:
    began = time.monotonic()
    Machine(home).run("version")
    started = time.monotonic()
    done = Machine(home).run(*argv, "--server", server, code=10)
    took_s = time.monotonic() - started
    assert took_s < _PROMISED_S + max(_PROMISED_S, _STARTS * (started - began))
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("argv", COMMANDS)
def test_nobody_listens(tmp_path: Path, argv: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "hwbus up" in ends_with_10(tmp_path, f"nats://127.0.0.1:{port}", argv)


def test_somebody_listens_and_says_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = f"nats://127.0.0.1:{listener.getsockname()[1]}"
        assert "nothing answers" in ends_with_10(tmp_path, server, COMMANDS[0])


@pytest.mark.parametrize("argv", COMMANDS)
def test_a_broker_without_a_control_plane(tmp_path: Path, argv: tuple[str, ...]) -> None:
    with a_broker() as broker:
        assert "no control plane" in ends_with_10(tmp_path, broker.url, argv)


@pytest.mark.parametrize("server", ["nats://", "127.0.0.1:notaport", "", "http://x y"])
def test_an_address_that_is_none(tmp_path: Path, server: str) -> None:
    done = Machine(tmp_path).run("node", "ls", "--server", server, code=10)
    assert "Traceback" not in done.stderr


def test_a_reader_who_has_had_enough_is_no_error(tmp_path: Path) -> None:
    import subprocess
    import sys

    box = Machine(tmp_path)
    line = f"{sys.executable} -m hwbus api asyncapi | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], env=box.env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")
