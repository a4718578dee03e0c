"""A way into the lab's network for programs outside of it.

A socket belongs to the network namespace in which it was made. So the daemon listens first, then
moves into its own namespace, and what it accepts outside it connects to inside.
"""

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter

_CHUNK_BYTES = 1 << 16


def listen(port: int = 0) -> socket.socket:
    """Return a socket that listens on 127.0.0.1, in the namespace of the caller; 0: any port."""
    return socket.create_server(("127.0.0.1", port), backlog=128)


class Relay:
    """Passes what it accepts on `listener` on to an address that only its own thread can reach.

    Each end may close its half first; a slow reader slows the other end's writer down; if one end
    breaks off, the other is broken off too.
    """

    def __init__(self, listener: socket.socket, address: str, port: int) -> None:
        host, outside = listener.getsockname()
        self.outside = f"{host}:{outside}"
        self._listener = listener
        self._target = (address, port)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Accept from now on."""
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def close(self) -> None:
        """Stop accepting and break off what is open."""
        if self._server:
            self._server.close()
        self._listener.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        connection = asyncio.create_task(self._pass_on(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _pass_on(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(*self._target)
        except OSError:  # nobody is there, and the caller sees as much
            _break_off(writer)
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, inner_writer))
                group.create_task(_pump(inner_reader, writer))
        except* ConnectionError:  # an end broke off, which ended the other's pump
            _break_off(writer)
            _break_off(inner_writer)
        finally:
            writer.transport.abort()
            inner_writer.transport.abort()


async def _pump(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await _flushed(writer)


async def _flushed(writer: StreamWriter) -> None:
    # drain() is content below the high-water mark; the end must not cut off what is still waiting.
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()


def _break_off(writer: StreamWriter) -> None:
    # A reset, so that nobody takes what has arrived so far for all there was.
    if not writer.transport.is_closing():
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
