"""A machine of its own for ``hwbus up``: real processes, a home directory that is thrown away."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.frozen import stands_still

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 120.0
_XDG = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")


class Machine:
    """Runs ``hwbus`` for a user with this home directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / ".local" / "state" / "hwbus"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HWBUS_") and k not in _XDG}
        self.env = kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)}

    def run(self, *argv: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end and check its exit code (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "hwbus", *argv],
            env=self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, f"{argv}\n{done.stdout}\n{done.stderr}{self.logs()}"
        return done

    def items(self, *argv: str) -> list[dict[str, Any]]:
        """Return what a command lists."""
        items: list[dict[str, Any]] = json.loads(self.run(*argv, "-o", "json").stdout)["items"]
        return items

    def names(self, *argv: str) -> list[str]:
        """Return the addresses of what a command lists."""
        return self.run(*argv, "-o", "name").stdout.split()

    def report(self) -> dict[str, Any]:
        """Return what the supervisor says of itself."""
        report: dict[str, Any] = json.loads((self.state / "supervisor.json").read_text())
        return report

    def pids(self) -> dict[str, int]:
        """Return the processes by name, the supervisor too."""
        report = self.report()
        return {p["name"]: p["pid"] for p in report["processes"]} | {"supervisor": report["pid"]}

    def stop(self, name: str) -> int:
        """Have a process stand still, and return its pid; not while it has the simulated network.

        All simulated nodes would stand still with it, as real ones do not.
        """
        pid = self.pids()[name]
        with (self.state / "network" / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.kill(pid, signal.SIGSTOP)
            until(lambda: stands_still(pid))
        return pid

    def logs(self) -> str:
        """Return the ends of all logs, for the message of a failure."""
        files = sorted(self.state.glob("logs/*.log"))
        return "".join(f"\n== {f.name}\n{f.read_text(errors='replace')[-2000:]}" for f in files)


def until(done: Callable[[], bool], *, within_s: float = 60.0) -> None:
    """Wait until *done*; fail when it takes too long."""
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Say whether a process runs; one that is dead and not yet waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@contextmanager
def machine(home: Path) -> Iterator[Machine]:
    """Give a machine on which nothing runs yet, and leave nothing running on it."""
    home.mkdir(exist_ok=True)
    box = Machine(home)
    try:
        yield box
    finally:
        pids = list(box.pids().values()) if (box.state / "supervisor.json").exists() else []
        box.run("down", "--purge", "--yes", code=None)
        for pid in (pid for pid in pids if pid and alive(pid)):
            os.kill(pid, signal.SIGKILL)
