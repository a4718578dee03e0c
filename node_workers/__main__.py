"""Start the hands of one node: remember, look, follow and do until told to stop."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import SystemRandom
from urllib.parse import urlsplit

import structlog
from msgspec.structs import replace

from hwbus import telemetry
from hwbus.addresses import without_login
from hwbus.identity import Mint, SystemClock
from hwbus.jetstream import connect
from hwbus.logs import configure_logs
from node_workers import fence_peer, hints, monitor
from node_workers.assembly import SIMULATED, Peering, Place, assemble
from node_workers.fencing import SOCKET, FenceServer, Promised, Promises
from node_workers.figures import Figures
from node_workers.keys import EnvironmentKeys, FileKeys, Keyring, without_keys
from node_workers.keys import Place as KeyPlace
from node_workers.node_key import FILE, node_keys
from node_workers.outbox import Link
from node_workers.ports import Execution, StorageError
from node_workers.runner import RealRunner, RecordingRunner
from node_workers.scans import Rhythm
from node_workers.settings import Settings, read
from node_workers.stillness import ensure_moving
from node_workers.store import NotOursError, open_store
from node_workers.sysfs import RealSysfs
from node_workers.vault import VaultKeys
from schemas.keys import KeySourceKind
from schemas.node import Capability

STORE_FILE = "worker.sqlite"
_NOT_OURS = 2
_NATS_PORT = 4222
_LOG = structlog.get_logger("node_workers")


def main() -> int:
    """Run the worker; return its exit status."""
    settings = read(sys.argv[1:])
    configure_logs()
    structlog.contextvars.bind_contextvars(node=settings.node)
    end_traces = telemetry.configure("hwbus-worker", os.environ)
    try:
        asyncio.run(_live(settings))
    except NotOursError as error:
        _LOG.critical("cannot start", because=str(error))
        return _NOT_OURS
    finally:
        end_traces()
    return 0


async def _live(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    figures, clock = Figures(), SystemClock()
    place = await _moving(_place(settings, clock), clock)
    settings.state.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            open_store(settings.state / STORE_FILE, node=settings.node, identity=Mint()())
        )
        if settings.http_port:
            window = monitor.serving(figures, settings.node, settings.http_host, settings.http_port)
            await stack.enter_async_context(window)
        worker = await assemble(
            place,
            store,
            clock=clock,
            rng=SystemRandom(),
            figures=figures,
            rhythm=Rhythm(every_s=settings.scan_every_s, health_every_s=settings.health_every_s),
        )
        if place.replicating is not None:
            promises = place.replicating.promises
            if place.kernel is None:
                ear = FenceServer(settings.state / SOCKET, worker.referee, promises)
                await stack.enter_async_context(ear.serving())
            else:
                kernel = place.kernel(Promised(worker.referee, promises))
                await stack.enter_async_context(_beside(kernel, stop))
        await stack.enter_async_context(_beside(_hints(settings, worker.scans.hint), stop))
        _LOG.info("working", nats_url=without_login(settings.nats_url), state=str(settings.state))
        await worker.run(lambda: _link(settings), stop)
    _LOG.info("stopped")


async def _moving(place: Place, clock: SystemClock) -> Place:
    """Have all stable devices take I/O before anything else: our own files may lie on one.

    Returns *place* with the tools that ran for that, which are recorded as soon as it can be.
    """
    ran: list[Execution] = []
    try:
        await ensure_moving(
            RecordingRunner(place.runner, ran.append, clock.now), cause="start:resume"
        )
    except StorageError as error:
        _LOG.error("devices could not be resumed", because=error.sentence)
    return replace(place, earlier=tuple(ran))


def _place(settings: Settings, clock: SystemClock) -> Place:
    if settings.simulated is None:
        return Place(
            node=settings.node,
            address=settings.address,
            zone=settings.zone,
            runner=RealRunner(clock.now, without_keys(os.environ)),
            sysfs=RealSysfs(),
            counters=RealSysfs(),
            copies_folder=str(settings.state / "copies"),
            keys=_keys(settings),
            lend_at=lambda: _lend_at(settings),
            lend_port=settings.lend_port,
            replicating=_peering(settings),
        )
    # Late: on a real node nobody needs to pay for a machine made of rules.
    from node_workers.simulated.lan import Lan  # noqa: PLC0415
    from node_workers.simulated.machine import SimulatedMachine  # noqa: PLC0415
    from node_workers.simulated.runner import SimulatedRunner  # noqa: PLC0415

    lan = None if settings.network is None else Lan(settings.network, settings.simulated)
    sizes_bytes = [settings.disk_bytes] * settings.disks
    machine = SimulatedMachine.in_folder(settings.simulated, settings.node, sizes_bytes, lan)
    peering = None if lan is None else replace(_peering(settings), changes=machine.handler.changes)
    return Place(
        node=settings.node,
        address=settings.address,
        zone=settings.zone,
        runner=SimulatedRunner(machine, clock.now, latency_s=settings.latency_ms / 1000),
        sysfs=machine,
        counters=machine,
        capabilities=SIMULATED if lan is None else (*SIMULATED, Capability.REPLICATION),
        keys=_keys(settings),
        contents=machine.lent,
        replicating=peering,
        kernel=None if lan is None else machine.handler.serve,
    )


def _peering(settings: Settings) -> Peering:
    settings.state.mkdir(parents=True, exist_ok=True)
    state = settings.state.resolve()
    program = Path(fence_peer.__file__).resolve()
    # Without site packages: the kernel waits for it, and so does whoever writes.
    handler = (sys.executable, "-I", "-S", str(program), str(state / SOCKET))
    return Peering(keys=node_keys(state / FILE), handler=handler, promises=Promises())


def _lend_at(settings: Settings) -> str:
    """Return where other nodes reach this one. Raises ``OSError`` while that cannot be known."""
    told = settings.lend_host or settings.address
    if told:
        return told
    bus = urlsplit(settings.nats_url.partition(",")[0])
    # Nothing is sent by this: the kernel says which address it would send from.
    [(family, _, _, _, there), *_] = socket.getaddrinfo(
        bus.hostname, bus.port or _NATS_PORT, type=socket.SOCK_DGRAM
    )
    with socket.socket(family, socket.SOCK_DGRAM) as towards:
        towards.connect(there)
        return str(towards.getsockname()[0])


def _keys(settings: Settings) -> Keyring:
    places: dict[KeySourceKind, KeyPlace] = {
        KeySourceKind.FILE: FileKeys(settings.keys),
        KeySourceKind.ENV: EnvironmentKeys(os.environ),
    }
    if settings.vault_token is not None:
        places[KeySourceKind.VAULT] = VaultKeys(settings.vault, settings.vault_token)
    return Keyring(places)


def _hints(settings: Settings, hint: Callable[[], None]) -> Awaitable[None]:
    if settings.simulated is not None:
        return hints.watch(settings.simulated, hint, suffix=".img")
    return hints.listen(hint)


@asynccontextmanager
async def _link(settings: Settings) -> AsyncIterator[Link]:
    name = f"worker-{settings.node}"
    async with connect(settings.nats_url, name=name) as wires:
        yield wires


@asynccontextmanager
async def _beside(work: Awaitable[None], stop: asyncio.Event) -> AsyncIterator[None]:
    """Have it done meanwhile. If it breaks, all is stopped, and that is raised."""

    def ended(done: asyncio.Future[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            stop.set()

    task = asyncio.ensure_future(work)
    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()


if __name__ == "__main__":
    sys.exit(main())
