"""Logs of real runs as files to be replayed: a random day, and a volume that could not be made."""

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import msgspec

from aggregates.world import World
from hwbus import archive
from hwbus.memory import Kept
from hwbus.ports import Stored
from hwbus.streams import EVENTS
from schemas.grammar import Event
from schemas.refusals import Refusal
from schemas.replica import ReplicaWanted
from schemas.volume import GrowVolume, ProvisionVolume
from tests.simulation.test_operations import Day
from tests.support.given import GIB
from tests.support.stage import ScriptedNode, Stage
from tests.support.virtual_time import VirtualClock, run_virtually


class Lived(msgspec.Struct, frozen=True):
    """What a run has left: the log, what was kept beside it, and the world that the desk had."""

    log: Sequence[Stored]
    kept: Sequence[Kept]
    world: World

    def archive(self, path: Path, until: int | None = None) -> Path:
        """Write the log to *path*, as ``hwbus audit archive`` does, but that nobody signed it."""
        messages = self.log[:until]

        async def each() -> AsyncIterator[Stored]:
            for one in messages:
                yield one

        async def write() -> None:
            with path.open("wb") as file:
                await archive.write(file, EVENTS.name, len(messages), [], each())

        asyncio.run(write())
        return path


async def _left(stage: Stage) -> Lived:
    log = [await stage.log.get(seq) for seq in range(1, await stage.log.head() + 1)]
    return Lived([one for one in log if one is not None], stage.outlet.kept, stage.world)


@functools.cache
def a_day(seed: int) -> Lived:
    """Return one seeded day of a small cluster: commands race, workers and control planes die."""
    lived: list[Lived] = []

    async def tale() -> None:
        day = Day(seed)
        await day.play()
        lived.append(await _left(day.stage))

    run_virtually(tale)
    return lived[0]


@functools.cache
def a_failure() -> Lived:
    """Return a log in which ada's volume ``pg`` could not be made, among others that could."""
    lived: list[Lived] = []

    def troubles(event: Event) -> Refusal | None:
        wanted = isinstance(event, ReplicaWanted) and event.volume == "pg"
        return Refusal.TOOL_FAILED if wanted else None

    async def tale() -> None:
        stage = Stage(VirtualClock())
        nodes = [ScriptedNode(stage, name, Random(name), troubles) for name in ("n1", "n2")]
        async with stage.control_plane():
            for node in nodes:
                await node.join(2)
            work = [asyncio.create_task(node.work()) for node in nodes]
            for node in nodes:
                await stage.accepted(node.form(2))
            await stage.settled()
            for name in ("before", "pg", "after"):
                wish = ProvisionVolume(volume=name, size_bytes=GIB, node="n2")
                await stage.say(wish, actor="ada")
                await stage.settled()
            await stage.say(GrowVolume(volume="nothing", size_bytes=GIB), actor="ada")
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            lived.append(await _left(stage))

    run_virtually(tale)
    return lived[0]
