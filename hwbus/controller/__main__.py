"""Start the control plane: decide, drive, remember and watch until told to stop."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from hwbus import telemetry
from hwbus.codec import commit_codec
from hwbus.controller.care import Care
from hwbus.controller.classes import Classes
from hwbus.controller.counter import Counter
from hwbus.controller.figures import Figures
from hwbus.controller.holds import Holds
from hwbus.controller.http import application, serving
from hwbus.controller.schedules import Schedules
from hwbus.controller.storage import StorageDomain, StorageScript
from hwbus.controller.watch import Watch
from hwbus.desk import CommandDesk, taking_in_the_past
from hwbus.driver import Driver
from hwbus.identity import Mint, SystemClock
from hwbus.jetstream import Wires, connect
from hwbus.logs import configure_logs
from hwbus.streams import AUDIT
from projectors.composition import Projectors
from projectors.projector import Projector, Sources
from schemas.upcasts import UPCASTS
from schemas.words import AnyEvent

UNREACHABLE = 10
_LOG = structlog.get_logger("hwbus.controller")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the control plane is told at its start. ``http`` is ``HOST:PORT``, or empty for none."""

    nats_url: str
    state: Path
    http: str
    replicas: int


class ControlPlane:
    """Desk, driver, views, watch, holds, care, schedules and classes on one set of wires."""

    def __init__(self, wires: Wires, projector: Projector) -> None:
        clock, self._mint = SystemClock(), Mint()
        self._wires = wires
        self._projector = projector
        self.domain = StorageDomain()
        self.desk = CommandDesk(
            self.domain,
            wires.log,
            wires.outlet,
            commit_codec(AnyEvent, UPCASTS),
            clock,
            self._mint,
        )
        self.driver = Driver(
            self.desk, StorageScript(self.domain.world), clock, msgspec.json.Encoder().encode
        )
        self.watch = Watch(self.desk, self.domain.world, wires.bus, clock)
        self.holds = Holds(self.desk, self.domain.world, clock, self._mint)
        self.care = Care(self.desk, self.domain.world, clock, self._mint)
        self.schedules = Schedules(self.desk, self.domain.world, clock, self._mint)
        self.classes = Classes(self.desk, self.domain.world, clock, self._mint)
        self.counter = Counter(self.desk, wires.bus, wires.inbox(), wires.outlet, clock)
        self._caught_up = asyncio.Event()
        self._open = False

    def unready(self) -> list[str]:
        """Return why commands and questions cannot be trusted to be answered now."""
        reasons = []
        if not self._wires.connected:
            reasons.append("the broker cannot be reached")
        if not self._caught_up.is_set():
            reasons.append("the desk is still reading the past")
        elif not self._open:
            reasons.append("the desk does not take commands yet")
        if not self._projector.caught_up.is_set():
            reasons.append("the views are still reading the past")
        return reasons

    async def run(self, stop: asyncio.Event) -> None:
        """Read the past, then serve until *stop* is set or a part of it breaks."""
        head = await self._wires.log.head()
        with taking_in_the_past():
            follower = asyncio.create_task(self._follow(head))
            waiting = asyncio.create_task(self._caught_up.wait())
            await asyncio.wait({follower, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if follower.done():
            follower.result()
        self.driver.go_live()
        watcher = asyncio.create_task(self.watch.run())
        keeper = asyncio.create_task(self.holds.run())
        carer = asyncio.create_task(self.care.run())
        clockwork = asyncio.create_task(self.schedules.run())
        carrier = asyncio.create_task(self.classes.run())
        stopping = asyncio.create_task(stop.wait())
        gone = asyncio.create_task(self._wires.until_gone())
        async with self.counter.open(version("hwbus")) as queue:
            standing = {watcher, keeper, carer, clockwork, carrier}
            tasks: set[asyncio.Task[Any]] = {follower, *standing, stopping, gone, queue}
            self._open = True
            _LOG.info("serving", position=self.desk.position, open=self.driver.open_operations)
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await self.driver.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done - {stopping}:
                task.result()
            if gone in done:
                raise ConnectionError("the connection to the broker was closed for good")

    async def _follow(self, head: int) -> None:
        if head == 0:
            self._caught_up.set()
        async for seen in self.desk.follow():
            self.care.take(seen)
            await self.driver.take(seen)
            if self.desk.position >= head:
                self._caught_up.set()


@asynccontextmanager
async def control_plane(settings: Settings) -> AsyncIterator[ControlPlane]:
    """Put the control plane together, its views already following and its HTTP door open."""
    async with AsyncExitStack() as stack:
        wires = await stack.enter_async_context(connect(settings.nats_url, name="hwbus-controller"))
        await wires.ensure_streams(replicas=settings.replicas)
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        projectors = Projectors(
            settings.state / "views.sqlite",
            sources=Sources(wires.log, wires.log_of(AUDIT.name)),
            outlet=wires.outlet,
            bus=wires.bus,
            clock=SystemClock(),
        )
        projector = await stack.enter_async_context(projectors.running())
        plane = ControlPlane(wires, projector)
        if settings.http:
            host, _, port = settings.http.rpartition(":")
            registry = CollectorRegistry()
            registry.register(
                Figures(plane.domain.world, plane.desk, plane.driver, projector, version("hwbus"))
            )
            door = serving(application(registry, plane.unready), host, int(port))
            await stack.enter_async_context(door)
        yield plane


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with control_plane(settings) as plane:
        await plane.run(stop)
    _LOG.info("stopped in order")


def _settings(argv: Sequence[str]) -> Settings:
    environment = os.environ
    parser = argparse.ArgumentParser(prog="python -m hwbus.controller", description=__doc__)
    parser.add_argument(
        "--nats-url", default=environment.get("HWBUS_SERVER", "nats://127.0.0.1:4222")
    )
    parser.add_argument(
        "--state", type=Path, default=Path(environment.get("HWBUS_STATE", "/var/lib/hwbus"))
    )
    parser.add_argument("--http", default="", help="HOST:PORT for /metrics, /livez and /readyz")
    parser.add_argument("--replicas", type=int, default=1, help="copies of each stream")
    parsed = parser.parse_args(argv)
    return Settings(
        nats_url=parsed.nats_url, state=parsed.state, http=parsed.http, replicas=parsed.replicas
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; return the exit status."""
    settings = _settings(sys.argv[1:] if argv is None else argv)
    configure_logs()
    end_traces = telemetry.configure("hwbus-controller", os.environ)
    try:
        asyncio.run(_serve(settings))
    except ConnectionError as error:
        sys.stderr.write(f"{error}\n")
        return UNREACHABLE
    finally:
        end_traces()
    return 0


if __name__ == "__main__":
    sys.exit(main())
