"""A directory belongs to the process that holds its lock; the kernel lets go when that one dies."""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "hwbus-lab-"
_OWNER_LOCK = "owner.lock"
DAEMON_LOCK = "daemon.lock"
_VOLATILE = ("control.sock", "daemon.json", "nats.conf", "nodes", "nats", "services")
_POLL_S = 0.01


def clear(state: Path, *, logs: bool) -> None:
    """Remove what a lab had in its directory; only for who holds the directory's lock."""
    for name in (*_VOLATILE, *(("logs",) if logs else ())):
        path = state / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def lock(path: Path, *, patience_s: float = 1) -> int | None:
    """Take a lock for as long as we live; None if a living process keeps it.

    Returns a descriptor; closing it lets go. The patience is for those who only look whether
    it is held, which they do for microseconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                return None
            time.sleep(_POLL_S)
        else:
            return descriptor


def held(path: Path) -> bool:
    """Return whether a living process has this lock."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # askers do not disturb each other
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Workspace:
    """A temporary directory that the next `Workspace` removes if we die without doing it."""

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        remove_stale(parent)
        # Born under another name, so that nobody takes it for stale before it is locked.
        born = Path(tempfile.mkdtemp(prefix=f"new-{_PREFIX}", dir=parent))
        self._lock = lock(born / _OWNER_LOCK)
        self.path = parent / born.name.removeprefix("new-")
        born.rename(self.path)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_stale(parent: Path) -> None:
    """Remove the workspaces whose owner, and whose daemon if they had one, are dead."""
    for directory in parent.glob(f"{_PREFIX}*"):
        locks = (directory / _OWNER_LOCK, directory / DAEMON_LOCK)
        if locks[0].exists() and not any(held(path) for path in locks):
            shutil.rmtree(directory, ignore_errors=True)  # another process may be doing the same
