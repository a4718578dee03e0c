"""The storage network of simulated machines that live in processes of their own: a directory.

Each machine has a file there that says where it is kept, and touches it as long as it runs, by the
clock of ``now_s``: one whose worker was killed or stopped is off, for the others. Who does anything
holds the lock, and may then change its peer's state as well as its own, as a packet would. One that
is stopped (``SIGSTOP``) while it holds the lock holds up all the others.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from node_workers.simulated.kept import STATE_FILE, read_again, write_down
from node_workers.simulated.model import State

_LOCK = "lock"
_SUFFIX = ".node"
_SILENT_S = 2.0


class Lan:
    """One machine's view of the network in *folder*; the machine is kept at *home*."""

    def __init__(self, folder: Path, home: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._home = home.resolve()
        self._peers: dict[Path, State] | None = None

    def now_s(self) -> float:
        """Return what all processes of this computer take for the time."""
        return time.monotonic()

    def peers(self, _: State) -> Sequence[State]:
        """Return the machines that are on."""
        if self._peers is None:
            homes = (Path(file.read_text()) for file in self._on())
            kept = [home for home in homes if home != self._home and (home / STATE_FILE).exists()]
            self._peers = {
                home: msgspec.json.decode((home / STATE_FILE).read_bytes(), type=State)
                for home in kept
            }
        return list(self._peers.values())

    @contextmanager
    def held(self, state: State) -> Iterator[None]:
        """Be the only one at work, and on."""
        lock = os.open(self._folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._be_on(state)
            read_again(state, self._home)
            yield
        finally:
            for home, peer in (self._peers or {}).items():
                write_down(peer, home)
            self._peers = None
            os.close(lock)

    def _be_on(self, state: State) -> None:
        file = self._folder / f"{state.machine}{_SUFFIX}"
        if not file.exists():
            new = file.with_suffix(".new")
            new.write_text(str(self._home))
            new.replace(file)
        os.utime(file, (self.now_s(), self.now_s()))

    def _on(self) -> list[Path]:
        files = sorted(self._folder.glob(f"*{_SUFFIX}"))
        now_s = self.now_s()
        return [file for file in files if abs(now_s - file.stat().st_mtime) < _SILENT_S]
