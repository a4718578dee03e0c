"""Start the control plane: decide, drive, remember and watch until told to stop."""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from hwbus import telemetry
from hwbus.addresses import without_login
from hwbus.archiving import Archiver
from hwbus.codec import commit_codec
from hwbus.controller.alarm_figures import AlarmFigures
from hwbus.controller.approvals import Approvals
from hwbus.controller.archivist import ARCHIVE_EVERY_S, ArchiveFigures, Archivist
from hwbus.controller.care import Care
from hwbus.controller.classes import Classes
from hwbus.controller.counter import Counter
from hwbus.controller.doorkeeper import Dial, Doorkeeper, LoginFigures
from hwbus.controller.failovers import Failovers
from hwbus.controller.figures import Figures
from hwbus.controller.holds import Holds
from hwbus.controller.http import application, serving
from hwbus.controller.limbo import LimboWatch
from hwbus.controller.notary import SIGN_EVERY_S, Notary
from hwbus.controller.notary_key import NotaryKey
from hwbus.controller.plans import AT_ONCE_MAX, Plans
from hwbus.controller.rebuilds import Rebuilds
from hwbus.controller.schedules import Schedules
from hwbus.controller.storage import StorageDomain, StorageScript
from hwbus.controller.system_login import SystemLoginError, system_login
from hwbus.controller.watch import Watch
from hwbus.controller.wellbeing import Wellbeing
from hwbus.desk import CommandDesk, taking_in_the_past
from hwbus.driver import Driver
from hwbus.identity import Mint, SystemClock
from hwbus.jetstream import Wires, connect
from hwbus.logs import configure_logs
from hwbus.places import Place, PlaceError, place_of
from hwbus.streams import AUDIT, EVENTS
from projectors.composition import Projectors
from projectors.projector import Projector, Sources
from schemas.upcasts import UPCASTS
from schemas.words import AnyEvent

USAGE = 2
UNREACHABLE = 10
_LOG = structlog.get_logger("hwbus.controller")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the control plane is told at its start. ``http`` is ``HOST:PORT``, or empty for none.

    Every ``sign_every_s`` the head of each stream is signed, if it has grown; every
    ``archive_every_s`` what is signed is archived to ``archive_to``, or never if that is empty.
    ``system_login`` is a file with a login of the broker's system account, by which logins are
    heard; without it they are not.
    """

    nats_url: str
    state: Path
    http: str
    replicas: int
    sign_every_s: float = SIGN_EVERY_S
    archive_to: str = ""
    archive_endpoint: str = ""
    archive_every_s: float = ARCHIVE_EVERY_S
    system_login: Path | None = None


class ControlPlane:
    """Desk, driver, views, notary and all that acts by itself, on one set of wires."""

    def __init__(
        self,
        wires: Wires,
        projector: Projector,
        state: Path,
        notaries: Sequence[Notary],
        archivist: Archivist | None,
        doorkeeper: Doorkeeper,
    ) -> None:
        clock, self._mint = SystemClock(), Mint()
        self._wires = wires
        self._projector = projector
        self.notaries = tuple(notaries)
        self.archivist = archivist
        self.doorkeeper = doorkeeper
        self.domain = StorageDomain()
        codec = commit_codec(AnyEvent, UPCASTS)
        self.desk = CommandDesk(self.domain, wires.log, wires.outlet, codec, clock, self._mint)
        self.driver = Driver(
            self.desk, StorageScript(self.domain.world), clock, msgspec.json.Encoder().encode
        )
        self.watch = Watch(self.desk, self.domain.world, wires.bus, clock)
        about = (self.desk, self.domain.world, clock, self._mint)
        self.care = Care(*about)
        self.looking = (
            self.care,
            Holds(*about),
            Schedules(*about),
            Classes(*about),
            Failovers(*about),
            Rebuilds(*about),
            Approvals(*about),
        )
        audit_log = wires.log_of(AUDIT.name)
        self.limbo = LimboWatch(self.desk, self.domain.world, projector, audit_log, clock)
        self.wellbeing = Wellbeing(projector, wires.bus, state)
        self.counter = Counter(self.desk, wires.bus, wires.inbox(), wires.outlet, clock)
        self.plans = Plans(self.domain.world, lambda: self.desk.position, wires.log, clock)
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
        looking = [one.run() for one in self.looking]
        keeping = [one.run() for one in self.notaries]
        if self.archivist is not None:
            keeping.append(self.archivist.run())
        minding = (self.watch.run(), self.limbo.run(), self.wellbeing.run(), self.doorkeeper.run())
        standing = {asyncio.create_task(run) for run in (*minding, *looking, *keeping)}
        stopping = asyncio.create_task(stop.wait())
        gone = asyncio.create_task(self._wires.until_gone())
        plans = self._wires.bus.serve(
            "hwbus-plans",
            version("hwbus"),
            [self.plans.endpoint()],
            self.plans,
            at_once_max=AT_ONCE_MAX,
        )
        doctor = self.limbo.serving(self._wires.bus, version("hwbus"))
        async with plans, doctor, self.counter.open(version("hwbus")) as queue:
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
            if stopping in done:
                await self.doorkeeper.close()
                for notary in self.notaries:
                    await notary.close()
            for task in done - {stopping}:
                task.result()
            if gone in done:
                raise ConnectionError("the connection to the broker was closed for good")

    async def _follow(self, head: int) -> None:
        if head == 0:
            self._caught_up.set()
        async for seen in self.desk.follow():
            self.care.take(seen)
            self.limbo.take(seen, judge=self._caught_up.is_set())
            self.wellbeing.take(seen)
            await self.driver.take(seen)
            if self.desk.position >= head:
                self._caught_up.set()


@asynccontextmanager
async def control_plane(settings: Settings) -> AsyncIterator[ControlPlane]:
    """Put the control plane together, its views already following and its HTTP door open."""
    # Before anything is begun: who cannot be let into the archive shall know it at once.
    place = None
    if settings.archive_to:
        place = place_of(settings.archive_to, settings.archive_endpoint, os.environ)
    dial = None if settings.system_login is None else _dial(settings, settings.system_login)
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
        notaries = _notaries(wires, settings)
        archivist = None if place is None else _archivist(wires, place, settings)
        clock, who = SystemClock(), socket.gethostname()
        doorkeeper = Doorkeeper(wires.outlet, clock, dial=dial, listener=who, once=Mint()())
        plane = ControlPlane(wires, projector, settings.state, notaries, archivist, doorkeeper)
        if settings.http:
            host, _, port = settings.http.rpartition(":")
            registry = CollectorRegistry()
            registry.register(
                Figures(
                    plane.domain.world,
                    plane.desk,
                    plane.driver,
                    projector,
                    notaries,
                    version("hwbus"),
                )
            )
            registry.register(ArchiveFigures(archivist))
            registry.register(LoginFigures(doorkeeper))
            registry.register(AlarmFigures(plane.domain.world, plane.limbo, plane.wellbeing))
            door = serving(application(registry, plane.unready), host, int(port))
            await stack.enter_async_context(door)
        yield plane


def _dial(settings: Settings, file: Path) -> Dial:
    """Return how to reach the system account. Raises ``SystemLoginError`` if that cannot be."""
    server = without_login(settings.nats_url)
    system_login(file)

    def dial() -> AbstractAsyncContextManager[Wires]:
        login = system_login(file)  # read anew each time: it may have been changed
        return connect(server, name="hwbus-doorkeeper", login=login)

    return dial


def _notaries(wires: Wires, settings: Settings) -> tuple[Notary, ...]:
    """Return one for each stream that is kept for ever, with one key."""
    key, audit_log = NotaryKey.at_home(settings.state), wires.log_of(AUDIT.name)
    return tuple(
        Notary(
            wires.log_of(stream.name),
            audit_log,
            wires.outlet,
            SystemClock(),
            key,
            stream=stream,
            every_s=settings.sign_every_s,
        )
        for stream in (EVENTS, AUDIT)
    )


def _archivist(wires: Wires, place: Place, settings: Settings) -> Archivist:
    audit_log = wires.log_of(AUDIT.name)
    archivers = [
        Archiver(wires.log_of(stream.name), audit_log, place, stream) for stream in (EVENTS, AUDIT)
    ]
    return Archivist(archivers, SystemClock(), every_s=settings.archive_every_s)


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with control_plane(settings) as plane:
        await plane.run(stop)
    _LOG.info("stopped in order")


def _settings(argv: Sequence[str]) -> Settings:
    parser = _parser()
    parsed = parser.parse_args(argv)
    if parsed.archive_every <= 0:
        parser.error("--archive-every is a time in seconds, and more than none")
    return Settings(
        nats_url=parsed.nats_url,
        state=parsed.state,
        http=parsed.http,
        replicas=parsed.replicas,
        sign_every_s=parsed.sign_every,
        archive_to=parsed.archive_to,
        archive_endpoint=parsed.archive_endpoint,
        archive_every_s=parsed.archive_every,
        system_login=parsed.system_login,
    )


def _parser() -> argparse.ArgumentParser:
    environment = os.environ
    parser = argparse.ArgumentParser(prog="python -m hwbus.controller", description=__doc__)
    add = parser.add_argument
    url = environment.get("HWBUS_SERVER", "nats://127.0.0.1:4222")
    add("--nats-url", default=url, help="one broker or several: nats://HOST:PORT,...")
    add("--state", type=Path, default=Path(environment.get("HWBUS_STATE", "/var/lib/hwbus")))
    add("--http", default="", help="HOST:PORT for /metrics, /livez and /readyz")
    add("--replicas", type=int, default=1, help="copies of each stream")
    add("--sign-every", type=float, default=SIGN_EVERY_S, help="seconds between signed heads")
    add("--archive-to", default="", help="FOLDER or s3://BUCKET/PREFIX to archive to by itself")
    add("--archive-endpoint", default="", help="https://HOST:PORT of the store, if not of AWS")
    add("--archive-every", type=float, default=ARCHIVE_EVERY_S, help="seconds between segments")
    add(
        "--system-login",
        type=Path,
        default=environment.get("HWBUS_SYSTEM_LOGIN") or None,
        metavar="FILE",
        help="USER:PASSWORD of the broker's system account, or NATS credentials: to hear of logins",
    )
    return parser


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
    except (PlaceError, SystemLoginError) as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    finally:
        end_traces()
    return 0


if __name__ == "__main__":
    sys.exit(main())
