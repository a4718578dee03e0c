"""How programs outside of a lab start it, look at it, and make things happen in it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from asyncio import StreamReader
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Self

import msgspec

from hwbus.lab import protocol
from hwbus.lab.line import LabNotRunningError, Line
from hwbus.lab.protocol import (
    DAEMON_LOG,
    ENDPOINTS,
    AnyAnswer,
    DiskStatus,
    Done,
    Endpoints,
    Exited,
    LabStatus,
    Output,
    Refused,
    ServiceStatus,
    Step,
)
from hwbus.lab.requirements import why_not
from hwbus.lab.spec import LabSpec
from hwbus.lab.uml.cluster import check_layout
from hwbus.lab.uml.command import Output as OnOutput
from hwbus.lab.uml.command import Result
from hwbus.lab.uml.errors import LabError
from hwbus.lab.workspace import DAEMON_LOCK, clear, held, lock

__all__ = ["LabClient", "LabNotRunningError", "LabRunningError", "Network", "up"]

Network = Literal["control", "storage"]

_ROOT = Path(__file__).resolve().parents[2]
_SPEC = "spec.json"
_LOG_TAIL_BYTES = 3000
_POLL_S = 0.02
_DOWN_TIMEOUT_S = 60


class LabRunningError(LabError):
    """There is a lab in that directory already: use it, or bring it down first."""


async def up(
    spec: LabSpec,
    state: Path,
    *,
    progress: Callable[[str], None] = lambda _: None,
    owner_pid: int | None = None,
    timeout_s: float = 300,
) -> "LabClient":
    """Start a lab in the background and return when it is ready: nodes, NATS, services.

    `state` is the lab's directory; it is made if need be. `progress` gets short sentences. The lab
    stays until somebody brings it down, or until the process `owner_pid` ends.

    Raises `LabRunningError` if there is one already, `LabError` with the reason (or the end of
    the daemon's log) if it does not come up; then nothing is left running.
    """
    reason = why_not()
    if reason:
        raise LabError(reason)
    state = _prepare(spec, state)
    receiver, sender = os.pipe()
    try:
        daemon = _start_daemon(state, owner_pid, sender)
    except BaseException:
        os.close(receiver)
        raise
    finally:
        os.close(sender)
    try:
        async with asyncio.timeout(timeout_s):
            await _ready(receiver, state, progress)
    except BaseException as error:
        await asyncio.shield(asyncio.to_thread(_end, daemon))
        if isinstance(error, TimeoutError):
            raise LabError(
                f"the lab was not up within {timeout_s:.0f} s; its log ends:\n{_log_tail(state)}"
            ) from None
        raise
    # It is our child for as long as we live: see to it that it does not stay a zombie.
    threading.Thread(target=daemon.wait, daemon=True).start()
    return LabClient(state)


class LabClient:
    """A lab that was brought up in `state`; making one does nothing.

    It keeps no connection, so it can be used from any event loop and by several tasks at once.
    Every method raises `LabNotRunningError` if the lab is gone, and `NodeDownError`,
    `ConsoleError` or `LabError` with a sentence if the lab refuses, `TimeoutError` if it does not
    answer. `async with` brings the lab down at the end.
    """

    def __init__(self, state: Path) -> None:
        self.state = state.resolve()
        self._line = Line(self.state)

    async def __aenter__(self) -> Self:
        """Do nothing: the lab is up."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Bring the lab down."""
        await self.down()

    @property
    def nats_url(self) -> str:
        """Where the lab's NATS server is for programs outside of the lab."""
        return self.endpoints().nats_url

    @property
    def ports(self) -> dict[str, str]:
        """What else is reached from outside: name -> host:port."""
        return self.endpoints().ports

    def endpoints(self) -> Endpoints:
        """Return where the lab is."""
        if not held(self.state / DAEMON_LOCK):
            raise self._line.not_running()
        try:
            return msgspec.json.decode((self.state / ENDPOINTS).read_bytes(), type=Endpoints)
        except FileNotFoundError:
            raise self._line.not_running() from None

    async def status(self) -> LabStatus:
        """Return everything there is: nodes, disks, services, addresses."""
        return await self._line.ask(protocol.Status(), LabStatus)

    async def exec(
        self,
        node: str,
        *argv: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60,
        check: bool = True,
        on_output: OnOutput | None = None,
    ) -> Result:
        """Run a command in a node to its end; it is killed if it is not waited for any more.

        With `on_output` ("stdout" or "stderr", bytes) what it writes is handed on as it comes, and
        not kept in the result. Raises `CommandFailedError` unless `check` is false, `TimeoutError`.
        """
        kept = {"stdout": bytearray(), "stderr": bytearray()}
        request = protocol.Exec(node=node, argv=argv, stdin=stdin, env=dict(env or {}))
        async with asyncio.timeout(timeout_s), self._line.converse(request) as answers:
            async for answer in answers:
                match answer:
                    case Output() if on_output:
                        on_output(answer.stream, answer.data)
                    case Output():
                        kept[answer.stream] += answer.data
                    case Exited():
                        stdout, stderr = (data.decode(errors="replace") for data in kept.values())
                        result = Result(status=answer.status, stdout=stdout, stderr=stderr)
                        return result.checked(node, argv) if check else result
                    case Done() | Refused() | Step():
                        raise LabError(f"the lab said {answer} while a command ran")
        raise self._line.not_running()

    async def shell(self, node: str, script: str, *, timeout_s: float = 60) -> str:
        """Run a shell script (`set -e`) in a node; returns what it writes to its stdout."""
        return (await self.exec(node, "sh", "-ec", script, timeout_s=timeout_s)).stdout

    async def kill(self, node: str) -> None:
        """Cut a node's power."""
        await self._line.tell(protocol.Power(node=node, action="kill"))

    async def boot(self, node: str) -> None:
        """Switch a node on; returns when it is up and its services have started again."""
        await self._line.tell(protocol.Power(node=node, action="boot"), timeout_s=300)

    async def shutdown(self, node: str) -> None:
        """Stop a node in good order."""
        await self._line.tell(protocol.Power(node=node, action="shutdown"))

    async def freeze(self, node: str) -> None:
        """Stop a node in its tracks, as a hypervisor that hangs would."""
        await self._line.tell(protocol.Power(node=node, action="freeze"))

    async def thaw(self, node: str) -> None:
        """Let a frozen node go on."""
        await self._line.tell(protocol.Power(node=node, action="thaw"))

    async def set_link(self, node: str, network: Network, *, connected: bool) -> None:
        """Plug a node's cable to a network in or out."""
        action: Literal["connect", "disconnect"] = "connect" if connected else "disconnect"
        await self._line.tell(protocol.Link(node=node, network=network, action=action))

    async def isolate(self, node: str, network: Network, *, isolated: bool) -> None:
        """Keep the nodes so marked apart from one another, not from the others and the host."""
        action: Literal["isolate", "join"] = "isolate" if isolated else "join"
        await self._line.tell(protocol.Link(node=node, network=network, action=action))

    async def add_disk(
        self, node: str, size: str, *, serial: str | None = None, letter: str | None = None
    ) -> DiskStatus:
        """Plug a new, blank disk into a node, running or not."""
        request = protocol.AddDisk(node=node, size=size, serial=serial, letter=letter)
        return await self._line.ask(request, DiskStatus)

    async def remove_disk(self, node: str, letter: str) -> None:
        """Pull a disk out and throw it away. Raises `ConsoleError` while the node has it open."""
        await self._line.tell(protocol.RemoveDisk(node=node, letter=letter))

    async def move_disk(
        self, node: str, letter: str, target: str, target_letter: str | None = None
    ) -> DiskStatus:
        """Pull a disk out and plug it into another node, with its content and its serial.

        Raises `ConsoleError` while the node has it open, and leaves it where it was.
        """
        request = protocol.MoveDisk(
            node=node, letter=letter, target=target, target_letter=target_letter
        )
        return await self._line.ask(request, DiskStatus)

    async def wrap_disk(self, node: str, letter: str) -> str:
        """Lay a device that can be broken over a disk, before it is used; returns its path."""
        return await self._line.ask(
            protocol.DiskFault(node=node, letter=letter, action="wrap"), str
        )

    async def fail_disk(self, node: str, letter: str) -> None:
        """From now on every access to the wrapped disk is an error."""
        await self._line.tell(protocol.DiskFault(node=node, letter=letter, action="fail"))

    async def mend_disk(self, node: str, letter: str) -> None:
        """From now on the wrapped disk works again."""
        await self._line.tell(protocol.DiskFault(node=node, letter=letter, action="mend"))

    async def service_start(self, name: str, node: str = "") -> None:
        """Start a service: on the host or, for one in nodes, in that node, in all if empty."""
        await self._line.tell(protocol.Service(name=name, node=node, action="start"))

    async def service_stop(self, name: str, node: str = "") -> None:
        """Stop a service in order (SIGTERM) and wait until it has ended."""
        await self._line.tell(protocol.Service(name=name, node=node, action="stop"))

    async def service_kill(self, name: str, node: str = "") -> None:
        """Kill a service and all it started (SIGKILL) and wait until it has ended."""
        await self._line.tell(protocol.Service(name=name, node=node, action="kill"))

    async def service(self, name: str, node: str = "") -> ServiceStatus:
        """Return how a service is. Raises `LabError` if there is none of that name there."""
        for service in (await self.status()).services:
            if (service.name, service.node) == (name, node):
                return service
        raise LabError(f"there is no service {name!r} in {node or 'the host'}")

    async def console(self, node: str, command: str) -> str:
        """Ask a node's kernel itself: "sysrq t", "config ubdb" ..."""
        return await self._line.ask(protocol.Console(node=node, command=command), str)

    async def down(self) -> None:
        """Stop everything; returns when nothing runs any more and only logs are left.

        Where no lab runs, what a dead one has left is removed.
        """
        with contextlib.suppress(LabNotRunningError):
            await self._line.tell(protocol.Down())
        deadline = time.monotonic() + _DOWN_TIMEOUT_S
        while held(self.state / DAEMON_LOCK):
            if time.monotonic() > deadline:
                raise LabError(f"the lab did not end within {_DOWN_TIMEOUT_S} s")
            await asyncio.sleep(_POLL_S)
        if (self.state / DAEMON_LOCK).exists():
            _tidy(self.state)


def _tidy(state: Path) -> None:
    ours = lock(state / DAEMON_LOCK)
    if ours is not None:  # else somebody is bringing up the next lab, and it tidies up itself
        clear(state, logs=False)
        os.close(ours)


def _prepare(spec: LabSpec, state: Path) -> Path:
    state = state.resolve()
    check_layout(state / "nodes", {node.name: node.disks for node in spec.nodes})
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if held(state / DAEMON_LOCK):
        raise LabRunningError(f"a lab is running already in {state}; bring it down first")
    (state / _SPEC).write_bytes(msgspec.json.format(msgspec.json.encode(spec)))
    return state


def _start_daemon(state: Path, owner_pid: int | None, report: int) -> subprocess.Popen[bytes]:
    # -P: what happens to lie in a working directory is not to be imported.
    argv = [sys.executable, "-P", "-m", "hwbus.lab", "--report-fd", str(report)]
    argv += ["--state", str(state), "--spec", str(state / _SPEC)]
    argv += ["--owner-pid", str(owner_pid)] if owner_pid else []
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with (state / DAEMON_LOG).open("wb") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(report,),
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": path},
        )


async def _ready(receiver: int, state: Path, progress: Callable[[str], None]) -> None:
    reader = StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(receiver, "rb")
    )
    try:
        async for line in reader:
            answer = msgspec.json.decode(line, type=AnyAnswer)
            if isinstance(answer, Step):
                progress(answer.words)
            elif isinstance(answer, Refused):
                raise LabError(answer.message)
            elif isinstance(answer, Done):
                return
    finally:
        transport.close()
    raise LabError(f"the lab's daemon died; its log ends:\n{_log_tail(state)}")


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(_DOWN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _log_tail(state: Path) -> str:
    return (state / DAEMON_LOG).read_text(errors="replace")[-_LOG_TAIL_BYTES:].strip()
