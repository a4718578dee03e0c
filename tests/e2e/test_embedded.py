"""One machine survives what may happen to it, and leaves nothing behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import Machine, alive, machine, until

pytestmark = pytest.mark.slow


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path / "home") as box:
        yield box


def make_volume(box: Machine) -> None:
    disks = box.names("disk", "ls", "--free", "--node", "laptop")
    box.run("pool", "create", "fast", "--node", "laptop", "--disk", *disks, "--wait")
    box.run("volume", "create", "kept", "1GiB", "--wait")


def test_a_killed_supervisor_leaves_no_orphan_and_all_data(box: Machine) -> None:
    box.run("up")
    make_volume(box)
    before = box.pids()
    os.kill(before["supervisor"], signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in before.values()))
    assert "nothing runs" in box.run("status", code=10).stderr
    box.run("volume", "ls", code=10)

    box.run("up")
    [volume] = box.items("volume", "ls")
    assert (volume["name"], volume["state"]) == ("kept", "ready")
    box.run("volume", "grow", "kept", "2GiB", "--wait")
    assert box.items("drift") == []


def test_up_right_after_a_kill_waits_until_the_dead_have_let_go(box: Machine) -> None:
    box.run("up")
    for _ in range(2):
        dead = box.pids()
        os.kill(dead["supervisor"], signal.SIGKILL)
        box.run("up")
        assert not set(dead.values()) & set(box.pids().values())
    assert box.names("node", "ls") == ["node/laptop"]


def test_whoever_dies_is_started_again(box: Machine) -> None:
    box.run("up")
    make_volume(box)
    for name in ("node worker laptop", "control plane", "nats-server"):
        old = box.pids()[name]
        os.kill(old, signal.SIGKILL)
        until(lambda name=name, old=old: (box.pids()[name] or old) != old)  # type: ignore[misc]
    until(lambda: box.run("status", code=None).returncode == 0)
    box.run("volume", "grow", "kept", "2GiB", "--wait")
    assert box.items("volume", "ls")[0]["size_bytes"] == 2 << 30


def test_down_stops_everything_and_keeps_everything(box: Machine) -> None:
    box.run("up", "--nodes", "2", "--disks", "1", "--disk-size", "4GiB")
    assert [row["name"] for row in box.items("node", "ls")] == ["laptop", "laptop-2"]
    make_volume(box)
    disks = box.names("disk", "ls", "--free", "--node", "laptop-2")
    box.run("pool", "create", "fast", "--node", "laptop-2", "--disk", *disks, "--wait")
    box.run("volume", "clone", "kept", "far", "--node", "laptop-2", "--wait")
    assert box.items("volume", "show", "far")[0]["node"] == "laptop-2"
    box.run("volume", "create", "pair", "64MiB", "--replicas", "2", "--fs", "ext4", "--wait")
    box.run("volume", "attach", "pair", "host/a", "--mount", "/mnt/p", "--node", "laptop", "--wait")
    box.run("volume", "hand-over", "pair", "laptop-2", "--wait")
    assert pair(box) == ("laptop-2", "healthy")
    pids = box.pids()
    assert box.run("down").stdout == "stopped\n"
    assert not any(alive(pid) for pid in pids.values())
    assert box.run("down").stdout == "nothing was running\n"

    box.run("up")
    assert len(box.items("node", "ls")) == 2
    assert sorted(box.names("volume", "ls")) == ["volume/far", "volume/kept", "volume/pair"]
    until(lambda: pair(box) == ("laptop-2", "healthy"))
    stopped = box.stop("node worker laptop-2")  # to the others, its node is dead
    until(lambda: pair(box) == ("laptop", "degraded"))
    os.kill(stopped, signal.SIGCONT)
    until(lambda: pair(box) == ("laptop", "healthy"))


def pair(box: Machine) -> tuple[str, str]:
    """Return where the replicated volume is written to, and how it is."""
    [row] = box.items("volume", "show", "pair")
    return row["node"], row["health"]


def test_purge_deletes_what_is_ours_and_nothing_else(box: Machine) -> None:
    box.run("up")
    (box.state / "notes.txt").write_text("mine")
    box.run("down", "--purge", code=2)
    assert box.run("status").returncode == 0
    box.run("down", "--purge", "--yes")
    assert [path.name for path in box.state.iterdir()] == ["notes.txt"]
    assert box.items("context", "ls") == []


def test_a_control_plane_that_cannot_start_is_told_and_leaves_nothing(box: Machine) -> None:
    box.state.mkdir(parents=True)
    (box.state / "control").write_text("in the way")
    done = box.run("up", code=1)
    assert "control.log" in done.stderr
    box.run("status", code=10)
