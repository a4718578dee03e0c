"""What a QoS class allows is carried to the volumes that have it, by ordinary operations."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import msgspec
import structlog

from aggregates.attaching import behind
from aggregates.node import unheard
from aggregates.volume import Volume, VolumePhase
from aggregates.world import World
from hwbus.controller.looking import Looking
from hwbus.desk import CommandDesk
from hwbus.ports import Clock
from schemas.answers import Accepted, Answer, Undecided
from schemas.attaching import FollowQosClass
from schemas.attachment import Limits

AT_ONCE = 16
AGAIN_AFTER_S = 60.0
AGAIN_AFTER_MAX_S = 3600.0

_LOG = structlog.get_logger("hwbus.classes")


class _Asked(msgspec.Struct, frozen=True):
    """What a volume was asked to carry last, when, and how long to wait should it not."""

    limits: Limits
    at: datetime
    wait_s: float


class Classes(Looking):
    """Looks for attached volumes that do not carry the limits of their class, and has them follow.

    Which do not is read from the log alone, so whoever starts anew goes on where it was. A volume
    that is busy, or whose node is not heard, waits; at most ``AT_ONCE`` follow at one time. One
    that could not follow is asked again after ``AGAIN_AFTER_S``, then after twice that and so on,
    but at once when its class is changed again.
    """

    def __init__(
        self, desk: CommandDesk, world: World, clock: Clock, mint: Callable[[], str]
    ) -> None:
        super().__init__(desk, world, clock, mint)
        self._asked: dict[str, _Asked] = {}

    async def look(self) -> None:
        """Have those follow that can, and are not to wait."""
        if not self._world.qos:
            return
        found = list(self._behind())
        uids = {volume.uid for _, volume, _ in found}
        self._asked = {uid: asked for uid, asked in self._asked.items() if uid in uids}
        now, room = self._clock.now(), AT_ONCE - self._under_way()
        due = [one for one in found if self._may(one[1], one[2], now)]
        for name, volume, limits in due[: max(0, room)]:
            answer = await self._follow(name, volume)
            if not isinstance(answer, Undecided):
                self._asked[volume.uid] = self._again(volume.uid, limits, now)

    def _behind(self) -> Iterator[tuple[str, Volume, Limits]]:
        for name, volume in self._world.volumes.items():
            limits = behind(volume, self._world) if volume.use.qos else None
            if limits is not None:
                yield name, volume, limits

    def _under_way(self) -> int:
        volumes = self._world.volumes.values()
        return sum(volume.phase is VolumePhase.LIMITING for volume in volumes)

    def _may(self, volume: Volume, limits: Limits, now: datetime) -> bool:
        if volume.operation or unheard(self._world.nodes.get(volume.node), volume.node) is not None:
            return False
        asked = self._asked.get(volume.uid)
        if asked is None or asked.limits != limits:
            return True
        return now - asked.at >= timedelta(seconds=asked.wait_s)

    def _again(self, uid: str, limits: Limits, now: datetime) -> _Asked:
        asked = self._asked.get(uid)
        if asked is None or asked.limits != limits:
            return _Asked(limits, now, AGAIN_AFTER_S)
        return _Asked(limits, now, min(2 * asked.wait_s, AGAIN_AFTER_MAX_S))

    async def _follow(self, name: str, volume: Volume) -> Answer:
        command = FollowQosClass(volume=name, uid=volume.uid)
        answer = await self.ask(command, cause="class-changed", actor=f"qos:{volume.use.qos}")
        because = "" if isinstance(answer, Accepted) else answer.because
        _LOG.info("a volume follows", qos=volume.use.qos, volume=name, because=because)
        return answer
