"""A real broker for tests: a fresh server takes 15 ms, so every test has its own.

with a_broker() as broker:                      # a server, no event loop needed
async with fresh_wires() as wires:              # a server, a connection, our streams
async with fresh_wires(stock=True) as wires:    # the same on nats-py's own paths
"""

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from hwbus.jetstream import ApiError, Login, Wires, connect
from hwbus.ports import NobodyThereError, OutcomeUnknownError
from hwbus.server import Broker, ServerSettings
from hwbus.streams import STREAMS, Stream

_MEMBERS = 3


@contextmanager
def a_store() -> Iterator[Path]:
    """A directory for a server, gone afterwards."""
    store = Path(tempfile.mkdtemp(prefix="hwbus-nats-"))
    try:
        yield store
    finally:
        shutil.rmtree(store)


@asynccontextmanager
async def fresh_broker(settings: ServerSettings | None = None) -> AsyncIterator[Broker]:
    """A running server with an empty store; *settings*.store is replaced. Syncs lazily."""
    with a_store() as store:
        base = settings or ServerSettings(store=store, sync_always=False)
        broker = Broker(msgspec.structs.replace(base, store=store))
        await broker.start()
        try:
            yield broker
        finally:
            await broker.stop()


@contextmanager
def a_broker(settings: ServerSettings | None = None) -> Iterator[Broker]:
    """The same for synchronous tests and for whoever starts processes against it."""
    with a_store() as store:
        base = settings or ServerSettings(store=store, sync_always=False)
        broker = Broker(msgspec.structs.replace(base, store=store))
        asyncio.run(broker.start())
        try:
            yield broker
        finally:
            asyncio.run(broker.stop())


class _Member(msgspec.Struct, frozen=True):
    """How a follower of a stream is, as the API of JetStream tells (``PeerInfo``)."""

    current: bool = False


class _Members(msgspec.Struct, frozen=True):
    leader: str = ""
    replicas: tuple[_Member, ...] = ()


class _About(msgspec.Struct, frozen=True):
    cluster: _Members = _Members()


@asynccontextmanager
async def fresh_cluster() -> AsyncIterator[list[Broker]]:
    """Three running servers with empty stores that know each other; takes some seconds to agree."""
    with a_store() as store:
        ports = _free_ports(_MEMBERS)
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
        brokers = [
            Broker(
                ServerSettings(
                    store=store / f"n{i}",
                    name=f"n{i}",
                    sync_always=False,
                    extra=(f"cluster {{ name: c, listen: 127.0.0.1:{port}, routes: [{routes}] }}",),
                )
            )
            for i, port in enumerate(ports)
        ]
        try:
            await asyncio.gather(*(broker.start() for broker in brokers))
            yield brokers
        finally:
            await asyncio.gather(*(broker.stop() for broker in brokers))


async def replicated(wires: Wires) -> bool:
    """Have the streams on three brokers; returns whether these have agreed to that."""
    try:
        await wires.ensure_streams(replicas=_MEMBERS)
    except (ApiError, OutcomeUnknownError, NobodyThereError):
        return False
    return True


async def current(wires: Wires, followers: int = _MEMBERS - 1) -> bool:
    """Return whether every stream has a leader, and so many brokers follow all that it has."""
    try:
        for stream in STREAMS:
            about = await wires._core.api(f"STREAM.INFO.{stream.name}", {}, _About)
            following = sum(one.current for one in about.cluster.replicas)
            if not about.cluster.leader or following < followers:
                return False
    except (ApiError, OutcomeUnknownError, NobodyThereError):
        return False
    return True


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for taken in sockets:
            taken.bind(("127.0.0.1", 0))
        return [int(taken.getsockname()[1]) for taken in sockets]


@asynccontextmanager
async def wires_to(
    broker: Broker,
    *,
    name: str = "test",
    stock: bool | None = None,
    login: Login | None = None,
    answer_within_s: float = 5.0,
) -> AsyncIterator[Wires]:
    """A connection to *broker*."""
    async with connect(
        broker.url,
        name=name,
        login=login,
        stock=stock,
        answer_within_s=answer_within_s,
    ) as wires:
        yield wires


@asynccontextmanager
async def fresh_wires(
    *,
    stock: bool | None = None,
    streams: Sequence[Stream] = STREAMS,
    settings: ServerSettings | None = None,
    answer_within_s: float = 5.0,
) -> AsyncIterator[Wires]:
    """A connection to a server of one's own on which *streams* exist and are empty."""
    async with (
        fresh_broker(settings) as broker,
        wires_to(broker, stock=stock, answer_within_s=answer_within_s) as wires,
    ):
        await wires.ensure_streams(streams)
        yield wires


async def until(true: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait for a condition; looks often, gives up loudly."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def until_async(true: Callable[[], Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Wait for a condition that has to be asked for."""
    async with asyncio.timeout(within_s):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
