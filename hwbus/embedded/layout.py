"""Where the one-machine mode keeps what it has, and what it says of itself."""

import fcntl
import os
import shutil
from pathlib import Path

import msgspec

_LOCK = "supervisor.lock"
_REPORT = "supervisor.json"
_SETTINGS = "settings.json"
_SYSTEM_LOGIN = "system.login"
_PARTS = ("nats", "control", "nodes", "network", "logs", _LOCK, _REPORT, _SETTINGS, _SYSTEM_LOGIN)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is run: so many simulated nodes with so many disks; ``port`` is where NATS was last."""

    nodes: int = 1
    disks: int = 3
    disk_size_bytes: int = 10 << 30
    port: int = 0

    @property
    def node_names(self) -> tuple[str, ...]:
        """The nodes, by name."""
        return tuple("laptop" if n == 1 else f"laptop-{n}" for n in range(1, self.nodes + 1))


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One child: ``pid`` is None while it is down, ``starts`` counts how often it was started."""

    name: str
    pid: int | None
    starts: int
    log: str
    last_exit: int | None = None


class Said(msgspec.Struct, frozen=True):
    """One line to whoever started the supervisor: ``step``, ``ready`` or ``failed``, and words."""

    what: str
    words: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor says of itself."""

    pid: int
    version: str
    started_at: str
    nats_url: str
    http_url: str
    nodes: tuple[str, ...]
    processes: tuple[Process, ...]


class Layout:
    """The directory of one machine's control plane; it is the user's own, and nobody else's."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the directory, for the user only. Raises ``OSError``."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.chmod(0o700)
        self.logs.mkdir(exist_ok=True, mode=0o700)

    @property
    def nats(self) -> Path:
        """The broker's store."""
        return self.root / "nats"

    @property
    def control(self) -> Path:
        """What the control plane keeps: its views."""
        return self.root / "control"

    @property
    def system_login(self) -> Path:
        """By what the control plane hears of logins; made anew at each start."""
        return self.root / _SYSTEM_LOGIN

    @property
    def keys(self) -> Path:
        """Where the user may put key files; being theirs, they are neither made nor deleted."""
        return self.root / "keys"

    @property
    def logs(self) -> Path:
        """What the processes write."""
        return self.root / "logs"

    def node(self, name: str) -> Path:
        """What the worker of a node keeps."""
        return self.root / "nodes" / name

    @property
    def network(self) -> Path:
        """By what the simulated machines of the nodes reach each other."""
        return self.root / "network"

    def lock(self) -> int | None:
        """Take the place of the supervisor; returns what holds it, or None if it is taken."""
        descriptor = os.open(self.root / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def running(self) -> bool:
        """Say whether a supervisor is at work here."""
        if not (self.root / _LOCK).exists():
            return False
        held = self.lock()
        if held is None:
            return True
        os.close(held)
        return False

    def settings(self) -> Settings | None:
        """Return what was run here last, or None. Raises ``msgspec.DecodeError``."""
        try:
            return msgspec.json.decode((self.root / _SETTINGS).read_bytes(), type=Settings)
        except FileNotFoundError:
            return None

    def keep_settings(self, settings: Settings) -> None:
        """Remember what is run."""
        self._write(_SETTINGS, msgspec.json.encode(settings))

    def report(self) -> Report | None:
        """Return what the supervisor said last; it may be dead since."""
        try:
            return msgspec.json.decode((self.root / _REPORT).read_bytes(), type=Report)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def keep_report(self, report: Report) -> None:
        """Say how it is."""
        self._write(_REPORT, msgspec.json.format(msgspec.json.encode(report)))

    def withdraw_report(self) -> None:
        """Nothing runs any more."""
        (self.root / _REPORT).unlink(missing_ok=True)

    def purge(self) -> None:
        """Delete all that is ours in the directory, and the directory if nothing else is in it.

        Raises ``OSError`` for what cannot be deleted.
        """
        for part in _PARTS:
            path = self.root / part
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if self.root.is_dir() and not any(self.root.iterdir()):
            self.root.rmdir()

    def _write(self, name: str, data: bytes) -> None:
        new = self.root / f"{name}.new"
        new.write_bytes(data)
        new.replace(self.root / name)
