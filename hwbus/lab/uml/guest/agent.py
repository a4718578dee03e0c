"""Runs inside a node: executes the commands that the host sends.

It connects to the host and speaks one JSON object per line, both ways. Bytes travel as latin-1.
  to the node:   {"id": 1, "argv": [...], "input": "...", "env": {...}}    start a command
                 {"id": 1, "signal": 15}                                   signal its group
  from the node: {"id": 1, "pid": 123}
                 {"id": 1, "stream": "stdout", "data": "..."}
                 {"id": 1, "exit": 0}                     negative: killed by that signal
When the connection closes the agent ends, and init then halts the node.
"""

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
from typing import IO, Any

_CHUNK_BYTES = 16384
_NO_SUCH_PROGRAM = 127


class Command:
    """One running command and the pipes it writes to."""

    def __init__(self, agent: "Agent", request: dict[str, Any]) -> None:
        self.agent = agent
        self.id: int = request["id"]
        stdin = os.memfd_create("stdin")
        try:
            with os.fdopen(os.dup(stdin), "wb") as file:
                file.write(request.get("input", "").encode("latin-1"))
            os.lseek(stdin, 0, os.SEEK_SET)
            self.process = subprocess.Popen(
                request["argv"],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, **request.get("env", {})},
            )
        finally:
            os.close(stdin)
        agent.send({"id": self.id, "pid": self.process.pid})
        self.streams: dict[IO[bytes], str] = {}
        for pipe, name in ((self.process.stdout, "stdout"), (self.process.stderr, "stderr")):
            if pipe:
                self.streams[pipe] = name
                os.set_blocking(pipe.fileno(), False)
                agent.selector.register(pipe, selectors.EVENT_READ, self.forward)
        self.pidfd = os.pidfd_open(self.process.pid)
        agent.selector.register(self.pidfd, selectors.EVENT_READ, self.finish)

    def forward(self, pipe: IO[bytes]) -> bool:
        """Send on what the command wrote; true while there may be more."""
        try:
            data = os.read(pipe.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if data:
            text = data.decode("latin-1")
            self.agent.send({"id": self.id, "stream": self.streams[pipe], "data": text})
            return True
        self.close(pipe)
        return False

    def finish(self, pidfd: int) -> None:
        """The command exited: drain what it left in its pipes and report its status."""
        for pipe in list(self.streams):
            while self.forward(pipe):
                pass
            if pipe in self.streams:  # a daemon it left behind still holds the pipe
                self.close(pipe)
        self.agent.selector.unregister(pidfd)
        os.close(pidfd)
        del self.agent.commands[self.id]
        self.agent.send({"id": self.id, "exit": self.process.wait()})

    def close(self, pipe: IO[bytes]) -> None:
        """Stop listening to a pipe."""
        self.agent.selector.unregister(pipe)
        pipe.close()
        del self.streams[pipe]


class Agent:
    """The node's end of the line: one selector for the host and for all running commands."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.selector = selectors.DefaultSelector()
        self.commands: dict[int, Command] = {}
        self.received: list[bytes] = []  # the pieces of a line that is not whole yet

    def send(self, message: dict[str, object]) -> None:
        """Say something to the host."""
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, connection: socket.socket) -> None:
        """Take what the host has sent; end when it has hung up."""
        data = connection.recv(65536)
        if not data:
            sys.exit()
        self.received.append(data)
        if b"\n" not in data:
            return
        *requests, rest = b"".join(self.received).split(b"\n")
        self.received = [rest]
        for request in requests:
            self.handle(json.loads(request))

    def handle(self, request: dict[str, Any]) -> None:
        """Start a command, or signal a running one and all that it started."""
        command = self.commands.get(request["id"])
        if "signal" in request:
            if command:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(command.process.pid, request["signal"])
            return
        try:
            self.commands[request["id"]] = Command(self, request)
        except (OSError, ValueError, IndexError) as error:  # no such program, or no program at all
            words = f"{error}\n".encode(errors="replace").decode("latin-1")
            self.send({"id": request["id"], "stream": "stderr", "data": words})
            self.send({"id": request["id"], "exit": _NO_SUCH_PROGRAM})

    def serve(self) -> None:
        """Do what the host says until it hangs up."""
        self.selector.register(self.connection, selectors.EVENT_READ, self.receive)
        while True:
            for key, _ in self.selector.select():
                if self.selector.get_map().get(key.fd) is key:  # not closed by an earlier one
                    key.data(key.fileobj)


if __name__ == "__main__":
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    # Else what a command leaves waits until the host has acknowledged that it began: 40 ms.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    Agent(connection).serve()
