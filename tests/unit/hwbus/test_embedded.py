"""The one-machine mode, piece by piece: its directory, its children, its questions over HTTP."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwbus.embedded.child import Child
from hwbus.embedded.health import get
from hwbus.embedded.layout import Layout, Report, Settings
from tests.support.machine import alive, until

REPORT = Report(
    pid=1,
    version="0",
    started_at="2026-01-01T12:00:00+00:00",
    nats_url="nats://127.0.0.1:1",
    http_url="http://127.0.0.1:2",
    nodes=("laptop",),
    processes=(),
)


PARENT = """
import os, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
leash = [sys.executable, "-m", "hwbus.embedded.leash", str(os.getpid()), *sleeper]
print(subprocess.Popen(leash).pid, flush=True)
time.sleep(60)
"""


def test_the_directory_is_the_users_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    layout.prepare()
    assert layout.root.stat().st_mode & 0o777 == 0o700


def test_a_place_that_is_taken_is_not_given_twice(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert not layout.running()
    held = layout.lock()
    assert held is not None
    assert layout.lock() is None
    assert layout.running()
    os.close(held)
    assert not layout.running()


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.settings() is None
    assert layout.report() is None
    layout.keep_settings(Settings(nodes=2, port=4))
    layout.keep_report(REPORT)
    assert layout.settings() == Settings(nodes=2, port=4)
    assert layout.report() == REPORT
    layout.withdraw_report()
    assert layout.report() is None


def test_purging_leaves_what_is_not_ours(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    layout.prepare()
    layout.keep_settings(Settings())
    (layout.root / "theirs").write_text("x")
    layout.purge()
    assert [path.name for path in layout.root.iterdir()] == ["theirs"]
    (layout.root / "theirs").unlink()
    layout.purge()
    assert not layout.root.exists()


def test_nodes_have_names_a_person_would_give_them() -> None:
    assert Settings(nodes=3).node_names == ("laptop", "laptop-2", "laptop-3")


def test_a_child_that_dies_is_started_again_and_stays_down_when_stopped(tmp_path: Path) -> None:
    async def scene() -> None:
        changed = asyncio.Event()
        argv = (sys.executable, "-c", "import time; time.sleep(60)")
        child = Child("sleeper", argv, tmp_path / "log", changed.set)
        await child.start()
        first = child.process.pid
        assert first is not None
        os.kill(first, 9)
        async with asyncio.timeout(20):
            while child.process.pid in {first, None}:
                changed.clear()
                await changed.wait()
        assert (child.process.starts, child.process.last_exit) == (2, -9)
        second = child.process.pid
        await child.stop()
        assert second is not None
        assert not alive(second)
        assert child.process.pid is None

    asyncio.run(scene())


def test_a_child_dies_with_the_one_who_started_it(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    said = Path(f"/proc/{child}/cmdline")
    until(lambda: b"sleep" in said.read_bytes() and b"leash" not in said.read_bytes())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not alive(child))


async def ask_one_who_says(answer: str) -> int:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer.encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        status, _ = await get(f"http://127.0.0.1:{port}/readyz")
        return status


@pytest.mark.parametrize(
    ("answer", "status"), [("HTTP/1.1 200 OK\r\n\r\nready", 200), ("HTTP/1.1 503 No\r\n\r\n", 503)]
)
def test_a_service_is_asked_over_http(answer: str, status: int) -> None:
    assert asyncio.run(ask_one_who_says(answer)) == status


@pytest.mark.parametrize("answer", ["", "SSH-2.0\r\n", "HTTP/1.1 huh\r\n\r\n"])
def test_what_is_no_http_is_no_answer(answer: str) -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(ask_one_who_says(answer))
