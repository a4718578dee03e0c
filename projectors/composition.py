"""Views and their door together, to be run in the control plane or in a process of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hwbus.identity import Mint
from hwbus.ports import Bus, Clock, Outlet
from projectors.projector import Projector, Sources
from projectors.service import Views, endpoints
from projectors.upkeep import Upkeep

SERVICE = "hwbus-views"
UPKEEP = "hwbus-views-upkeep"
VERSION = "0.1.0"


class Projectors:
    """Everything that remembers: made of wires, running as long as its context."""

    def __init__(
        self, path: Path, *, sources: Sources, outlet: Outlet, bus: Bus, clock: Clock
    ) -> None:
        self.projector = Projector(path, sources, outlet, clock)
        self._bus = bus
        self._upkeep = Upkeep(self.projector, Mint(clock)(), clock.now)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Projector]:
        """Keep the views up to date and answer questions. Raises as ``Projector.running``."""
        async with (
            self.projector.running() as projector,
            self._bus.serve(SERVICE, VERSION, endpoints(), Views(projector)),
            self._upkeep.working() as upkeep,
            self._bus.serve(UPKEEP, VERSION, upkeep.endpoints(), upkeep),
        ):
            yield projector
