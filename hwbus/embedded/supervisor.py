"""The one process behind everything on one machine: starts, watches, stops in order."""

import asyncio
import contextlib
import importlib.metadata
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from hwbus.embedded.child import Child, python
from hwbus.embedded.health import get
from hwbus.embedded.layout import Layout, Process, Report, Settings
from hwbus.ports import Clock
from hwbus.server import Broker, BrokerError, ServerSettings

_LOG = structlog.get_logger("hwbus.embedded")
_READY_S = 60.0
_POLL_S = 0.05
_WATCH_S = 0.5
_LET_GO_S = 15.0
_TRIES_MAX = 2
_CONTROL = "control plane"
_EVERYBODY = "local"
_LISTENER = "listener"
_SECRET_BYTES = 24


class NotReadyError(Exception):
    """Something did not come up; the message says what, and where its log is."""


class Supervisor:
    """Runs a broker, a control plane and simulated nodes for as long as it lives."""

    def __init__(
        self, layout: Layout, settings: Settings, clock: Clock, progress: Callable[[str], None]
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._progress = progress
        self._started_at = clock.now().isoformat()
        self._down = asyncio.Event()
        self._control: Child | None = None
        self._workers: list[Child] = []
        self._http = f"127.0.0.1:{_free_port()}"
        self._system_login = f"{_LISTENER}:{secrets.token_urlsafe(_SECRET_BYTES)}"
        self._broker = Broker(
            ServerSettings(
                store=layout.nats,
                name="hwbus-local",
                port=settings.port if _is_free(settings.port) else 0,
                extra=_accounts(self._system_login),
            )
        )
        self._broker_starts = 0

    async def run(self, ready: Callable[[], None]) -> None:
        """Start everything, call *ready*, and serve until SIGTERM or SIGINT.

        Raises:
            BrokerError, NotReadyError: it did not come up; nothing is left running.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._down.set)
        try:
            await self._start()
            ready()
            await self._watch()
        finally:
            await self._stop()

    async def _start(self) -> None:
        await self._start_first_broker()
        self._keep_port()
        self._progress(f"nats-server on {self._broker.url}")
        url = self._broker.url
        self._control = self._child(
            _CONTROL,
            "control",
            "hwbus.controller",
            "--nats-url",
            url,
            "--state",
            str(self._layout.control),
            "--http",
            self._http,
            "--system-login",
            str(self._keep_system_login()),
        )
        await self._control.start()
        await self._until_ready()
        self._progress(f"control plane on http://{self._http}")
        for number, node in enumerate(self._settings.node_names, start=1):
            await self._start_worker(node, url, address=_address(number))

    def _keep_system_login(self) -> Path:
        """Leave the control plane by what it hears of logins, for nobody else to read."""
        path = self._layout.system_login
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(self._system_login + "\n", encoding="ascii")
        new.replace(path)
        return path

    async def _start_worker(self, node: str, url: str, *, address: str) -> None:
        state = self._layout.node(node)
        worker = self._child(
            f"node worker {node}",
            f"node-{node}",
            "node_workers",
            "--node",
            node,
            "--nats-url",
            url,
            "--state",
            str(state),
            "--keys",
            str(self._layout.keys),
            "--simulated",
            str(state / "disks"),
            "--disks",
            str(self._settings.disks),
            "--disk-size",
            str(self._settings.disk_size_bytes),
            "--network",
            str(self._layout.network),
            "--address",
            address,
        )
        self._workers.append(worker)
        await worker.start()

    def _child(self, name: str, log: str, *module: str) -> Child:
        return Child(name, python(*module), self._layout.logs / f"{log}.log", self._tell)

    async def _start_first_broker(self) -> None:
        """Start the broker, once that of a supervisor killed a moment ago has let go."""
        deadline = time.monotonic() + _LET_GO_S
        while True:
            try:
                return await self._start_broker()
            except BrokerError as error:
                if "is locked" not in str(error) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_POLL_S)

    async def _start_broker(self) -> None:
        await self._broker.start()
        self._broker_starts += 1
        self._tell()

    def _keep_port(self) -> None:
        port = int(self._broker.url.rpartition(":")[2])
        self._layout.keep_settings(
            Settings(
                nodes=self._settings.nodes,
                disks=self._settings.disks,
                disk_size_bytes=self._settings.disk_size_bytes,
                port=port,
            )
        )

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        said = ""
        while time.monotonic() < deadline and not self._down.is_set():
            if self._control is not None and self._control.process.starts > _TRIES_MAX:
                said = f"it ended {_TRIES_MAX} times"
                break
            try:
                status, said = await get(f"http://{self._http}/readyz")
            except ConnectionError as error:
                said = str(error)
            else:
                if status == 200:  # noqa: PLR2004
                    return
            await asyncio.sleep(_POLL_S)
        raise NotReadyError(
            f"the control plane does not become ready ({said.strip()[:200]}); "
            f"its log: {self._layout.logs / 'control.log'}"
        )

    async def _watch(self) -> None:
        """Start the broker again when it dies; the children have keepers of their own."""
        while not self._down.is_set():
            if self._broker.pid is None:
                _LOG.error("the broker ended by itself and is started again")
                try:
                    self._broker.kill()  # what is left of it: its lock on the store
                    await self._start_broker()
                except BrokerError as error:
                    _LOG.error("the broker does not start", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_S):
                    await self._down.wait()

    async def _stop(self) -> None:
        """Hands first, then the head, then the wires: nobody is left talking to nobody."""
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        if self._control is not None:
            await self._control.stop()
        await self._broker.stop()
        self._layout.withdraw_report()

    def _tell(self) -> None:
        broker = Process(
            name="nats-server",
            pid=self._broker.pid,
            starts=self._broker_starts,
            log=str(self._broker.log_path),
        )
        children = [child for child in (self._control, *self._workers) if child is not None]
        self._layout.keep_report(
            Report(
                pid=os.getpid(),
                version=_version(),
                started_at=self._started_at,
                nats_url=self._broker.url,
                http_url=f"http://{self._http}",
                nodes=self._settings.node_names,
                processes=(broker, *(child.process for child in children)),
            )
        )


def _accounts(system_login: str) -> tuple[str, ...]:
    """Return the broker's users: everybody on this machine is one, in the account that always was.

    That one needs no password, but the broker must know users to tell of them.
    """
    user, _, password = system_login.partition(":")
    nobody_types_it = secrets.token_urlsafe(_SECRET_BYTES)
    return (
        f"authorization {{ users: [ {{ user: {_EVERYBODY}, password: {nobody_types_it!r} }} ] }}",
        f"accounts {{ SYS {{ users: [ {{ user: {user}, password: {password!r} }} ] }} }}",
        "system_account: SYS",
        f"no_auth_user: {_EVERYBODY}",
    )


def _address(number: int) -> str:
    """Return where a simulated node is in the simulated network; nothing real is ever there."""
    return f"198.51.100.{number}"  # for documentation: RFC 5737


def _version() -> str:
    try:
        return importlib.metadata.version("hwbus")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    if port == 0:
        return False
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
