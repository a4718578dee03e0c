"""The way into the lab's network passes on every byte, both ends' closings, and nothing else."""

import asyncio
import contextlib
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from hwbus.lab.relay import Relay, listen

Serve = Callable[[StreamReader, StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def relayed(serve: Serve) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """A connection through a relay to a server that does `serve`."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    relay = Relay(listen(), *server.sockets[0].getsockname())
    await relay.start()
    host, port = relay.outside.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await relay.close()
        server.close()
        await server.wait_closed()


async def close(writer: StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def test_an_end_that_has_said_everything_still_hears_the_answer() -> None:
    async def count(reader: StreamReader, writer: StreamWriter) -> None:
        heard = await reader.read()  # to the end
        writer.write(str(len(heard)).encode())
        await close(writer)

    async def scene() -> None:
        async with relayed(count) as (reader, writer):
            writer.write(b"x" * 3_000_000)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 10) == b"3000000"

    asyncio.run(scene())


def test_the_last_bytes_arrive_even_if_the_reader_is_slow() -> None:
    async def flood(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(b"y" * 20_000_000)
        await writer.drain()
        await close(writer)

    async def scene() -> None:
        async with relayed(flood) as (reader, _):
            received = 0
            while data := await asyncio.wait_for(reader.read(100_000), 10):
                received += len(data)
            assert received == 20_000_000

    asyncio.run(scene())


def test_a_reader_that_does_not_read_slows_the_writer_down() -> None:
    written = 0

    async def flood(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal written
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                writer.write(b"z" * 100_000)
                await writer.drain()
                written += 100_000
        await close(writer)

    async def scene() -> None:
        async with relayed(flood):
            seen = -1
            while seen != written:  # until the flood stands still
                seen = written
                await asyncio.sleep(0.2)

    asyncio.run(scene())
    assert 0 < written < 50_000_000


def test_an_end_that_breaks_off_breaks_off_the_other() -> None:
    ended: asyncio.Queue[bytes] = asyncio.Queue()

    async def listening(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            ended.put_nowait(await reader.read())
        except ConnectionError:
            ended.put_nowait(b"reset")
        await close(writer)

    async def scene() -> None:
        async with relayed(listening) as (_, writer):
            writer.write(b"half a")
            await writer.drain()
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            writer.transport.abort()
            assert await asyncio.wait_for(ended.get(), 10) == b"reset"

    asyncio.run(scene())


def test_a_caller_is_turned_away_when_nobody_is_inside() -> None:
    async def scene() -> None:
        with listen() as unused:
            nobody = unused.getsockname()
        relay = Relay(listen(), *nobody)
        await relay.start()
        host, port = relay.outside.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        await close(writer)
        await relay.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))

    asyncio.run(scene())
