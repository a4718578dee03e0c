"""A command running in a node, and the line over which the node's agent is told to run it."""

import asyncio
import contextlib
import itertools
import json
import shlex
import signal
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hwbus.lab.uml.errors import CommandFailedError, NodeDownError

Output = Callable[[str, bytes], None]  # called with "stdout" or "stderr" and what was written

_KEPT_BYTES_MAX = 64 << 20
_LINE_BYTES_MAX = 1 << 20


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a command left: its exit status (negative: a signal) and the start of its output."""

    status: int
    stdout: str
    stderr: str

    def checked(self, node: str, argv: tuple[str, ...]) -> "Result":
        """Return this result. Raises `CommandFailedError` if the status is not zero."""
        if self.status:
            words = f"{self.stdout}{self.stderr}".strip()
            raise CommandFailedError(f"{node}: {shlex.join(argv)}: exit {self.status}\n{words}")
        return self


class Command:
    """A command running in a node."""

    def __init__(self, link: "AgentLink", identity: int, on_output: Output | None) -> None:
        self.pid: int | None = None  # in the node; known once it has started
        self._link = link
        self._identity = identity
        self._on_output = on_output
        self._kept: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def ended(self) -> int:
        """Return the exit status when it has ended. Raises `NodeDownError` if the node goes."""
        return await asyncio.shield(self._exit)

    async def wait(self, timeout_s: float | None = None) -> Result:
        """Return the result when it has ended; the output is kept only without `on_output`."""
        async with asyncio.timeout(timeout_s):
            status = await self.ended()
        stdout, stderr = (kept.decode(errors="replace") for kept in self._kept.values())
        return Result(status=status, stdout=stdout, stderr=stderr)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Signal the command and all it started. Raises `NodeDownError` if its node is down."""
        self._link.send({"id": self._identity, "signal": int(number)})

    def received(self, message: Mapping[str, Any]) -> bool:
        """Take what the agent says about the command; true if that was the last of it."""
        if "exit" in message:
            self._exit.set_result(message["exit"])
            return True
        if "pid" in message:
            self.pid = message["pid"]
            return False
        data = message["data"].encode("latin-1")
        if self._on_output:
            self._on_output(message["stream"], data)
        else:
            kept = self._kept[message["stream"]]
            kept += data[: _KEPT_BYTES_MAX - len(kept)]
        return False

    def lost(self, error: NodeDownError) -> None:
        """End it because its node is gone."""
        _fail(self._exit, error)


class AgentLink:
    """The host's end of the line to one node's agent; it outlives the agents of many boots."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._server: asyncio.Server | None = None
        self._agent: asyncio.Future[StreamWriter] | None = None
        self._commands: dict[int, Command] = {}
        self._identities = itertools.count(1)

    async def listen(self, address: str) -> int:
        """Wait for agents at an address of the host; returns the port."""
        self._server = await asyncio.start_server(self._serve, address, limit=_LINE_BYTES_MAX)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Stop waiting for agents."""
        if self._server:
            self._server.close()

    def expect(self) -> None:
        """Get ready for the agent of the boot that is about to begin."""
        self._agent = asyncio.get_running_loop().create_future()

    async def connected(self, timeout_s: float) -> None:
        """Wait for the agent. Raises `NodeDownError` if the node dies first, or `TimeoutError`."""
        if self._agent:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._agent)

    @property
    def up(self) -> bool:
        """Whether an agent is there to be told something."""
        agent = self._agent
        return agent is not None and agent.done() and agent.exception() is None

    def hang_up(self) -> None:
        """Close the line, at which the agent ends and the node powers itself off."""
        self._writer().close()

    def lost(self, why: str) -> None:
        """The node has gone: tell everybody who waits for it."""
        agent, self._agent = self._agent, None
        if agent and agent.done() and not agent.exception():
            agent.result().transport.abort()
        elif agent:
            _fail(agent, NodeDownError(why))
        for command in self._commands.values():
            command.lost(NodeDownError(why))
        self._commands.clear()

    def start(
        self,
        argv: tuple[str, ...],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        on_output: Output | None = None,
    ) -> Command:
        """Start a command in the node; `env` is added to what programs there have anyway."""
        identity = next(self._identities)
        text = stdin.decode("latin-1")
        self.send({"id": identity, "argv": argv, "env": dict(env or {}), "input": text})
        command = self._commands[identity] = Command(self, identity, on_output)
        return command

    def send(self, message: Mapping[str, object]) -> None:
        """Say something to the agent. Raises `NodeDownError` if there is none."""
        self._writer().write(json.dumps(message).encode() + b"\n")

    def _writer(self) -> StreamWriter:
        if not self.up or self._agent is None:
            raise NodeDownError(f"{self._node} is down")
        return self._agent.result()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._agent is None or self._agent.done():
            writer.transport.abort()  # nobody of ours: one agent a boot
            return
        self._agent.set_result(writer)
        with contextlib.suppress(ConnectionError):  # the node's end is seen by its kernel's end
            async for line in reader:
                message = json.loads(line)
                command = self._commands.get(message["id"])
                if command and command.received(message):
                    del self._commands[message["id"]]
        writer.close()


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # it is no fault if nobody waits for it
