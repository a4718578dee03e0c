"""A volume that has lost a replica for good gets another one, on another node, a few at a time."""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from aggregates.recovering import lacking
from aggregates.volume import VolumePhase
from aggregates.world import World
from hwbus.controller.looking import Looking
from hwbus.desk import CommandDesk
from hwbus.ports import Clock
from schemas.answers import Accepted, Undecided
from schemas.legs import AddReplica

AT_ONCE = 4
AGAIN_AFTER_S = 60.0
_AGAIN = timedelta(seconds=AGAIN_AFTER_S)

_LOG = structlog.get_logger("hwbus.rebuilds")


class Rebuilds(Looking):
    """Looks for volumes with fewer replicas than they shall have, and asks for what is missing.

    A node that is only away is waited for: it is not before its replica was given up (``node
    forget``, ``volume remove-replica --lost``) that one is missing. At most ``AT_ONCE`` are filled
    at one time, so that a lost node does not become a storm.
    """

    def __init__(
        self, desk: CommandDesk, world: World, clock: Clock, mint: Callable[[], str]
    ) -> None:
        super().__init__(desk, world, clock, mint)
        self._asked: dict[str, datetime] = {}

    async def look(self) -> None:
        """Ask for as many as there is room for."""
        now = self._clock.now()
        self._asked = {u: at for u, at in self._asked.items() if now - at < _AGAIN}
        volumes = self._world.volumes.values()
        under_way = sum(volume.phase is VolumePhase.ADDING_REPLICA for volume in volumes)
        missing = [one for one in lacking(self._world) if one[1].uid not in self._asked]
        for name, volume in missing[: max(0, AT_ONCE - under_way)]:
            answer = await self.ask(AddReplica(volume=name), cause="replica-lost")
            if isinstance(answer, Undecided):
                continue
            self._asked[volume.uid] = now
            because = "" if isinstance(answer, Accepted) else answer.because
            _LOG.info("a replica is missing", volume=name, because=because)
