"""The lab's ear: takes requests on a unix socket, one a connection, and answers them."""

import asyncio
import contextlib
import os
import signal
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from typing import assert_never

import msgspec

from hwbus.lab import protocol
from hwbus.lab.daemon import PYTHON_ENVIRONMENT, Lab, disk_status
from hwbus.lab.protocol import (
    LINE_BYTES_MAX,
    AddDisk,
    AnyAnswer,
    AnyRequest,
    DiskStatus,
    Done,
    Exited,
    MoveDisk,
    Output,
    Refused,
    RemoveDisk,
)
from hwbus.lab.uml.disks import DiskSpec
from hwbus.lab.uml.errors import ConsoleError, LabError, NodeDownError

_BACKLOG_BYTES_MAX = 64 << 20
_REQUEST_TIMEOUT_S = 30


class ControlSocket:
    """Serves one lab to whoever may open the socket; `down` is set when somebody asks for it."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self.down = asyncio.Event()
        self._lab = lab
        self._path = path
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen from now on."""
        self._server = await asyncio.start_unix_server(
            self._accept, self._path, limit=LINE_BYTES_MAX
        )

    async def close(self) -> None:
        """Stop listening and break off what is going on."""
        if self._server:
            self._server.close()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        conversation = asyncio.create_task(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                line = await reader.readline()
            _say(writer, await self._answer(line, reader, writer))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, TimeoutError):  # the asker has gone, or never asked
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer(self, line: bytes, reader: StreamReader, writer: StreamWriter) -> AnyAnswer:
        try:
            request = msgspec.json.decode(line, type=AnyRequest)
            if isinstance(request, protocol.Exec):
                return await self._exec(request, reader, writer)
            return Done(value=msgspec.Raw(msgspec.json.encode(await self._do(request))))
        except NodeDownError as error:
            return Refused(error="NodeDownError", message=str(error))
        except ConsoleError as error:
            return Refused(error="ConsoleError", message=str(error))
        except ConnectionError:
            raise
        except (LabError, msgspec.DecodeError, OSError) as error:
            return Refused(error="LabError", message=str(error) or "it took too long")

    async def _do(self, request: AnyRequest) -> object:
        match request:
            case protocol.Status():
                return self._lab.status(os.getpid())
            case protocol.Power():
                await self._power(request)
            case protocol.Link():
                await self._link(request)
            case AddDisk() | RemoveDisk() | MoveDisk():
                return await self._disk(request)
            case protocol.DiskFault():
                return await self._disk_fault(request)
            case protocol.Service():
                await self._lab.service(request.name, request.node, request.action)
            case protocol.Console():
                return await self._lab.cluster[request.node].console(request.command)
            case protocol.Down():
                self.down.set()
            case protocol.Exec():
                raise LabError("exec is a conversation of its own")
            case _:
                assert_never(request)
        return None

    async def _disk(self, request: AddDisk | RemoveDisk | MoveDisk) -> DiskStatus | None:
        cluster = self._lab.cluster
        node = cluster[request.node]
        match request:
            case AddDisk():
                spec = DiskSpec(size=request.size, serial=request.serial)
                return disk_status(node, await node.add_disk(spec, request.letter))
            case RemoveDisk():
                await node.remove_disk(request.letter)
                return None
            case MoveDisk(letter=letter, target=target, target_letter=target_letter):
                moved = await cluster.move_disk(node.name, letter, target, target_letter)
                return disk_status(cluster[target], moved)

    async def _power(self, request: protocol.Power) -> None:
        node = self._lab.cluster[request.node]
        match request.action:
            case "boot":
                await self._lab.boot(node.name)
            case "kill":
                await node.kill()
            case "shutdown":
                await node.shutdown()
            case "freeze":
                await node.freeze()
            case "thaw":
                await node.thaw()

    async def _link(self, request: protocol.Link) -> None:
        node = self._lab.cluster[request.node]
        match request.action:
            case "connect" | "disconnect":
                await node.set_link(request.network, connected=request.action == "connect")
            case "isolate" | "join":
                await node.isolate(request.network, isolated=request.action == "isolate")

    async def _disk_fault(self, request: protocol.DiskFault) -> str | None:
        node = self._lab.cluster[request.node]
        match request.action:
            case "wrap":
                return await node.wrap_disk(request.letter)
            case "fail":
                await node.fail_disk(request.letter)
            case "mend":
                await node.mend_disk(request.letter)
        return None

    async def _exec(
        self, request: protocol.Exec, reader: StreamReader, writer: StreamWriter
    ) -> AnyAnswer:
        def on_output(stream: str, data: bytes) -> None:
            _say(writer, Output(stream="stdout" if stream == "stdout" else "stderr", data=data))
            if writer.transport.get_write_buffer_size() > _BACKLOG_BYTES_MAX:
                writer.transport.abort()  # an asker who never reads must not fill our memory

        node = self._lab.cluster[request.node]
        env = PYTHON_ENVIRONMENT | request.env
        command = node.start(*request.argv, stdin=request.stdin, env=env, on_output=on_output)
        ended = asyncio.ensure_future(command.ended())
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((ended, gone), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                raise ConnectionResetError("the asker hung up")
            return Exited(status=ended.result())
        finally:
            gone.cancel()
            if not ended.done():
                ended.cancel()
                with contextlib.suppress(NodeDownError):
                    command.signal(signal.SIGKILL)


def _say(writer: StreamWriter, answer: AnyAnswer) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")
