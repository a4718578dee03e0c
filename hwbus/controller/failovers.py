"""When the node that has a volume falls silent, another replica goes on, if it may and can.

What somebody else began with the volume must not keep it from that until a deadline in minutes or
hours: it is cancelled, and when its way back waits for the silent node, its time is up. It ends as
it would have ended then, with what it leaves behind.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import structlog

from aggregates.operation import EXPIRIES_MAX
from aggregates.recovering import to_go_on_elsewhere
from aggregates.volume import Volume, VolumePhase
from aggregates.world import World
from hwbus.controller.looking import Looking
from hwbus.desk import CommandDesk
from hwbus.ports import Clock
from schemas.answers import Accepted, Undecided
from schemas.grammar import Message
from schemas.handing import FailVolumeOver
from schemas.operation import CancelOperation, ReportExpired

AGAIN_AFTER_S = 10.0
WAY_BACK_S = 5.0
AT_ONCE = 64
MAY_END = frozenset(
    {
        *(VolumePhase.GROWING, VolumePhase.LOCKED, VolumePhase.ATTACHING, VolumePhase.DETACHING),
        *(VolumePhase.LIMITING, VolumePhase.REKEYING, VolumePhase.HANDING_OVER),
        VolumePhase.REPAIRING,
    }
)
"""What gives way to a failover: nothing that takes a replica away, or says which of them counts."""

_LOG = structlog.get_logger("hwbus.failovers")


class Failovers(Looking):
    """Looks for volumes whose node is silent, and of which another replica is known to be good.

    A volume of which the other replica still sees the silent node is left alone: it works, and it
    is the way to the broker that is cut. At most ``AT_ONCE`` are begun in one look.
    """

    def __init__(
        self, desk: CommandDesk, world: World, clock: Clock, mint: Callable[[], str]
    ) -> None:
        super().__init__(desk, world, clock, mint)
        self._asked: dict[str, datetime] = {}
        self._in_the_way: dict[str, datetime] = {}

    async def look(self) -> None:
        """Ask for each failover that is due, and for the end of what is in the way of one."""
        now = self._clock.now()
        lost = list(to_go_on_elsewhere(self._world))
        await self._clear_the_way(lost, now)
        due = [one for one in lost if self._is_due(one[1], now)][:AT_ONCE]
        self._asked = {u: at for u, at in self._asked.items() if now - at < _AGAIN}
        for name, volume in due:
            answer = await self.ask(
                FailVolumeOver(volume=name), cause=f"silent:{volume.node}", actor="hwbus"
            )
            if isinstance(answer, Undecided):
                continue
            self._asked[volume.uid] = now
            because = "" if isinstance(answer, Accepted) else answer.because
            _LOG.warning("a node is silent", volume=name, node=volume.node, because=because)

    async def _clear_the_way(self, lost: Iterable[tuple[str, Volume]], now: datetime) -> None:
        # One operation may be in the way of several volumes.
        found = {one.operation: one.node for _, one in lost if one.phase in MAY_END}
        self._in_the_way = {one: self._in_the_way.get(one, now) for one in found}
        for operation, node in found.items():
            word = self._end_of(operation, node, now)
            if word is None:
                continue
            answer = await self.ask(word, cause=f"silent:{node}")
            because = "" if isinstance(answer, Accepted) else answer.because
            about = {"operation": operation, "node": node, "because": because}
            _LOG.warning("an operation is to give way", **about)

    def _end_of(self, operation: str, node: str, now: datetime) -> Message | None:
        known = self._world.operations.get(operation)
        if known is None or known.outcome is not None:
            return None
        if not known.cancel_wanted:
            because = f"{node} is silent, and the volume goes on elsewhere"
            return CancelOperation(operation=operation, because=because)
        late = now - self._in_the_way[operation] >= _WAY_BACK and known.expiries < EXPIRIES_MAX
        return ReportExpired(operation=operation, at=now) if late else None

    def _is_due(self, volume: Volume, now: datetime) -> bool:
        asked = self._asked.get(volume.uid)
        return not volume.operation and (asked is None or now - asked >= _AGAIN)


_WAY_BACK = timedelta(seconds=WAY_BACK_S)
_AGAIN = timedelta(seconds=AGAIN_AFTER_S)
