"""What is held and whose time is over is purged, by the operation that anybody could ask for."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import structlog

from aggregates.node import unheard
from aggregates.volume import Volume, VolumePhase
from aggregates.world import World
from hwbus.controller.looking import Looking
from hwbus.desk import CommandDesk
from hwbus.ports import Clock
from schemas.answers import Accepted, Answer, Undecided
from schemas.deleting import PurgeVolume

AGAIN_AFTER_S = 600.0

_LOG = structlog.get_logger("hwbus.holds")


class Holds(Looking):
    """Looks at the clock, and asks the desk to purge each volume whose hold is over.

    Until when a volume is held stands in the log, so nothing is forgotten while no control plane
    is there. A purge that failed, or was refused, is asked for again after ``AGAIN_AFTER_S``; while
    the node of a volume is not heard, it waits.
    """

    def __init__(
        self, desk: CommandDesk, world: World, clock: Clock, mint: Callable[[], str]
    ) -> None:
        super().__init__(desk, world, clock, mint)
        self._asked: dict[str, datetime] = {}

    async def look(self) -> None:
        """Ask for what is due now."""
        now = self._clock.now()
        known = {volume.uid for volume in self._world.volumes.values() if volume.until is not None}
        self._asked = {uid: at for uid, at in self._asked.items() if uid in known}
        for name, volume in list(self._over(now)):
            answer = await self._purge(name, volume)
            if isinstance(answer, Undecided):
                continue
            self._asked[volume.uid] = now

    def _over(self, now: datetime) -> Iterator[tuple[str, Volume]]:
        for name, volume in self._world.volumes.items():
            if volume.phase is not VolumePhase.HELD or volume.until is None or now < volume.until:
                continue
            asked = self._asked.get(volume.uid)
            if asked is not None and now - asked < timedelta(seconds=AGAIN_AFTER_S):
                continue
            if unheard(self._world.nodes.get(volume.node), volume.node) is None:
                yield name, volume

    async def _purge(self, name: str, volume: Volume) -> Answer:
        command = PurgeVolume(volume=name, until=volume.until)
        answer = await self.ask(command, cause="hold-over")
        because = "" if isinstance(answer, Accepted) else answer.because
        _LOG.info("a hold is over", volume=name, until=str(volume.until), because=because)
        return answer
