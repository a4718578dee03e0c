"""Who is heard and who is not: heartbeats in, reports of silence out."""

import asyncio
from datetime import datetime, timedelta

import msgspec
import structlog

from aggregates.node import NodePhase
from aggregates.peers import missed_by_peers
from aggregates.world import World
from hwbus.asking import Asked
from hwbus.desk import CommandDesk
from hwbus.identity import Mint
from hwbus.ports import Bus, Clock
from hwbus.subjects import live
from schemas.grammar import Report, kind_and_verb
from schemas.node import ReportNodeHeard, ReportNodeSilent

SILENT_AFTER_S = 10.0
MISSED_AFTER_S = 5.0
"""For a node that its peers in replicated volumes do not reach either."""

LOOK_EVERY_S = 1.0

_LOG = structlog.get_logger("hwbus.watch")


_MISSED_AFTER = timedelta(seconds=MISSED_AFTER_S)


class Watch:
    """Listens for heartbeats and tells the desk when a node falls silent or is heard again.

    A node that was never heard since the watch began counts from that moment, so that a control
    plane that comes back does not call everybody silent. One that is silent is heard again only by
    what it says: not because its peers do not miss it any more, as when its volumes have moved.
    """

    def __init__(self, desk: CommandDesk, world: World, bus: Bus, clock: Clock) -> None:
        self._desk = desk
        self._world = world
        self._bus = bus
        self._clock = clock
        self._mint = Mint()
        self._began = clock.now()
        self._heard: dict[str, datetime] = {}

    def last_heard(self) -> dict[str, datetime]:
        """Return when each node was last heard."""
        return dict(self._heard)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._look())

    async def _listen(self) -> None:
        subject = f"{live('heartbeat')}.*"
        async with self._bus.listen(subject) as calls:
            async for call in calls:
                self._heard[call.subject.rpartition(".")[2]] = self._clock.now()

    async def _look(self) -> None:
        while True:
            now = self._clock.now()
            for name, node in list(self._world.nodes.items()):
                if node.phase not in {NodePhase.MEMBER, NodePhase.REMOVING}:
                    continue
                last = self._heard.get(name, self._began)
                quiet = now - last > timedelta(seconds=self._patience_s(name, now - last))
                if quiet and not node.silent:
                    _LOG.warning("node is silent", node=name, last_heard=last.isoformat())
                    await self._report(ReportNodeSilent(node=name, last_heard=last))
                elif node.silent and name in self._heard and now - last <= _MISSED_AFTER:
                    await self._report(ReportNodeHeard(node=name))
            await asyncio.sleep(LOOK_EVERY_S)

    def _patience_s(self, name: str, quiet: timedelta) -> float:
        """Return how long a node may be quiet: less, where others have lost it too."""
        if quiet <= _MISSED_AFTER:
            return SILENT_AFTER_S
        return MISSED_AFTER_S if missed_by_peers(name, self._world) else SILENT_AFTER_S

    async def _report(self, report: Report) -> None:
        kind, verb = kind_and_verb(report)
        wish = Asked(
            id=self._mint(),
            actor="hwbus",
            kind=kind,
            verb=verb,
            data=msgspec.json.encode(report),
            cause="watch",
            within=True,
        )
        await self._desk.settle(wish, report)
