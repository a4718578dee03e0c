"""What is planned is what happens: a forecast, then the same command, on random clusters.

A failure names its seed; ``HWBUS_SEED=n`` plays that day alone, ``HWBUS_PLANS=1000`` plans so many
commands, each in a state of its own.
"""

import asyncio
import os
from random import Random
from typing import Any

import pytest

from aggregates.placement import Weights
from aggregates.what_if import measures
from aggregates.what_if.ties import Lost
from aggregates.world import World
from hwbus.controller.backtesting import differences, history, replayed
from hwbus.controller.forecasting import forecast
from schemas.answers import Accepted, Refused
from schemas.attaching import AttachVolume, DetachVolume
from schemas.copying import CloneVolume
from schemas.deleting import DeleteVolume, PurgeVolume, UndeleteVolume
from schemas.draining import DrainNode
from schemas.grammar import Request
from schemas.handing import HandOverVolume
from schemas.legs import AddReplica, MigrateVolume, RemoveReplicaOf
from schemas.node import CordonNode, UncordonNode
from schemas.operation import Outcome
from schemas.plan import Forecast
from schemas.snapshot import CreateSnapshot, DeleteSnapshot
from schemas.volume import GrowVolume, Layout, ProvisionVolume
from tests.support.fabric import Fabric
from tests.support.given import GIB
from tests.support.replicating import ReplicatingNode
from tests.support.stage import CODEC, Stage
from tests.support.virtual_time import VirtualClock, run_virtually

PLANS_A_DAY = 40
SEEDS = (
    [int(os.environ["HWBUS_SEED"])]
    if "HWBUS_SEED" in os.environ
    else range(-(-int(os.environ.get("HWBUS_PLANS", "400")) // PLANS_A_DAY))
)
DEADLINE_S = 60
NODES = ("n1", "n2", "n3", "n4")
VOLUMES = 12


class Day:
    """A calm cluster, and somebody who plans each step before it is taken."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(f"plans{seed}")
        self.stage = Stage(VirtualClock())
        self.fabric = Fabric(Random(f"fabric{seed}"))
        many = self.chance.random() < 0.5
        self.nodes = [
            ReplicatingNode(self.stage, self.fabric, name, Random(f"{seed}{name}"), many=many)
            for name in NODES
        ]

    async def play(self) -> None:
        async with self.stage.control_plane():
            for node in self.nodes:
                await node.join(3)
            tasks = [asyncio.create_task(one.work()) for one in self.nodes]
            tasks.append(asyncio.create_task(self._nature()))
            for node in self.nodes:
                disks = self.chance.randrange(1, 4)
                await self.stage.accepted(node.form(disks, thin_bytes=4 * GIB))
            await self.stage.settled()
            for _ in range(PLANS_A_DAY):
                await self._plan_and_do(self._wish())
            for task in tasks:
                if task.done():
                    task.result()
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _nature(self) -> None:
        while True:
            self.fabric.tick()
            await asyncio.sleep(0.5)

    async def _plan_and_do(self, wish: Request) -> None:
        before = self.stage.world.forked()
        planned = forecast(before, (wish,), seq=0, at=self.stage.clock.now())
        assert not planned.cut_off
        answer = await self.stage.say(wish)
        assert (answer.code if isinstance(answer, Refused) else None) == planned.steps[0].code, wish
        await self.stage.settled()
        try:
            await self.stage.until(lambda w: differing(before, w, planned) == [], within_s=60)
        except TimeoutError:
            found = differing(before, self.stage.world, planned)
            pytest.fail(f"{wish}: {found}, {planned.operations}")
        if isinstance(answer, Accepted) and answer.operation:
            outcome = self.stage.world.operations[answer.operation].outcome
            assert [one.outcome for one in planned.operations] == [outcome], wish
            assert outcome is Outcome.COMPLETED or planned.operations[0].code, wish

    def _wish(self) -> Request:
        fresh, node = f"v{self.chance.randrange(VOLUMES)}", self.chance.choice(NODES)
        volume = self.chance.choice((fresh, *sorted(self.stage.world.volumes)))
        some = self.chance.choice((None, node))
        size_bytes = self.chance.randrange(1, 5) * GIB
        about: dict[str, Any] = {"volume": volume, "deadline_s": DEADLINE_S}
        layout = self.chance.choice((Layout.LINEAR, Layout.LINEAR, Layout.THIN))
        new = ProvisionVolume(
            volume=fresh,
            deadline_s=DEADLINE_S,
            size_bytes=size_bytes,
            replicas=self.chance.choice((1, 1, 2, 2, 3)),
            layout=layout,
            node=self.chance.choice((None, None, some)),
        )
        others: tuple[Request, ...] = (
            AddReplica(**about, node=some),
            RemoveReplicaOf(**about, node=node),
            MigrateVolume(**about, node=some),
            HandOverVolume(**about, node=node),
            GrowVolume(**about, size_bytes=size_bytes + GIB),
            DeleteVolume(**about, hold_s=self.chance.choice((0, 0, 86_400))),
            self.chance.choice((UndeleteVolume(**about), PurgeVolume(**about))),
            AttachVolume(**about, consumer="host/a"),
            DetachVolume(**about),
            CreateSnapshot(
                snapshot=f"s{self.chance.randrange(3)}", volume=volume, deadline_s=DEADLINE_S
            ),
            DeleteSnapshot(snapshot=f"s{self.chance.randrange(3)}", deadline_s=DEADLINE_S),
            CloneVolume(volume=fresh, source=volume, deadline_s=DEADLINE_S),
            # Volumes that move side by side race for places; one after another they do not.
            DrainNode(node=node, at_once=1),
            self.chance.choice((UncordonNode(node=node), CordonNode(node=node))),
        )
        # Drained nodes are used again soon, or there would be nowhere to go.
        again = (UncordonNode(node=node),)
        return self.chance.choice((*(new,) * 6, *others, *again, *again))


def differing(before: World, after: World, planned: Forecast) -> list[object]:
    """Return where the cluster is not as it was planned, as pairs."""
    lost = Lost()
    volumes = measures.volumes(measures.State(before, lost), measures.State(after, lost))
    pairs = (
        (planned.moves, tuple(measures.moves(before, after))),
        (planned.pools, tuple(measures.pools(before, after))),
        (planned.volumes, tuple(volumes)),
    )
    return [pair for pair in pairs if set(pair[0]) != set(pair[1])]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_planned_is_what_happens(seed: int) -> None:
    async def tale() -> None:
        day = Day(seed)
        await day.play()
        await the_same_weights_give_what_was(day.stage)

    run_virtually(tale)


async def the_same_weights_give_what_was(stage: Stage) -> None:
    """Decide all of the day again, from its log alone."""
    commits = []
    for seq in range(1, await stage.log.head() + 1):
        stored = await stage.log.get(seq)
        assert stored is not None
        commits.append(CODEC.decode(stored.data))
    past = history(commits)
    again = replayed(past, Weights())
    assert differences(past.places, again.places) == ([], [])
    assert (again.failed, again.moves) == (past.failed, past.moves)
    assert len(past.places) > PLANS_A_DAY // 10
