"""Random days with policies: things fill up, disks fail, control planes die, and laws hold.

A failure names its seed; ``HWBUS_SEED=n`` plays that day alone.
"""

import asyncio
import os
from datetime import datetime, timedelta

import pytest

from aggregates.care import pending
from aggregates.policy import Policy
from aggregates.world import World
from hwbus.subjects import parse_event
from schemas.disk import DiskClass, Health, ReportDiskHealth
from schemas.filling import ReportVolumeFill
from schemas.grammar import Report, Request
from schemas.growing import GrowSnapshot, GrowThinPool
from schemas.policy import (
    PausePolicy,
    PolicyActed,
    PolicyAnswered,
    PolicyChanged,
    PolicyKind,
    PolicySpec,
    RemovePolicy,
    ResumePolicy,
    Selector,
    SetPolicy,
)
from schemas.pool import ReportThinFill
from schemas.snapshot import ReportSnapshotFill
from schemas.volume import GrowVolume
from tests.simulation.test_operations import DEADLINE_S, Day, the_laws_hold
from tests.support.given import GIB, MIB
from tests.support.stage import CODEC
from tests.support.virtual_time import run_virtually

SEEDS = (
    [int(os.environ["HWBUS_SEED"])]
    if "HWBUS_SEED" in os.environ
    else range(int(os.environ.get("HWBUS_SEEDS", "60")) // 2)
)
KINDS = tuple(PolicyKind)
CEILING = 6 * GIB


class PolicyDay(Day):
    """A day on which much is done by itself."""

    async def play(self) -> None:
        levels = asyncio.create_task(self._fill_up())
        await super().play()
        levels.cancel()
        await asyncio.gather(levels, return_exceptions=True)

    async def _fill_up(self) -> None:
        """Things fill up as long as there are people, and disks fail and recover."""
        while not self.calm:
            report = self._level()
            if report is not None:
                await self.stage.say(report)
            await asyncio.sleep(self.chance.random() * 2)
        for node in self.nodes:
            for number in range(3):
                disk = f"{node.name}-d{number}"
                well = ReportDiskHealth(disk=disk, node=node.name, health=Health.HEALTHY)
                await self.stage.say(well)

    def _books_are_right(self, world: World) -> bool:
        done = not pending(world) and all(o.outcome is not None for o in world.operations.values())
        return done and super()._books_are_right(world)

    def _level(self) -> Report | None:
        world, percent = self.stage.world, self.chance.randrange(40, 101)
        match self.chance.randrange(5):
            case 0 | 1 if world.volumes:
                name, volume = self.chance.choice(sorted(world.volumes.items(), key=_name))
                return ReportVolumeFill(
                    volume=name,
                    uid=volume.uid,
                    data_percent=percent,
                    used_bytes=percent,
                    filesystem_bytes=100,
                    size_bytes=max(1, volume.size_bytes),
                )
            case 2 if world.snapshots:
                name, snapshot = self.chance.choice(sorted(world.snapshots.items(), key=_name))
                return ReportSnapshotFill(
                    snapshot=name,
                    uid=snapshot.uid,
                    data_percent=min(percent, 99),
                    reserve_bytes=snapshot.reserve_bytes,
                )
            case 3:
                node = self.chance.choice(self.nodes).name
                return ReportThinFill(pool="fast", node=node, data_percent=percent)
            case 4 if self.chance.random() < 0.3:
                node, disk = self.chance.choice(self.nodes).name, self.chance.randrange(3)
                health = self.chance.choice((Health.FAILING, Health.HEALTHY))
                return ReportDiskHealth(disk=f"{node}-d{disk}", node=node, health=health)
            case _:
                return None

    def _wish(self, step: int) -> Request:
        if step < 2:
            node, disks = self.chance.choice(self.nodes), self.chance.choice((1, 2))
            thin_bytes = self.chance.choice((0, 2 * GIB))
            return node.form(disks, thin_bytes=thin_bytes, deadline_s=DEADLINE_S)
        if self.chance.random() < 0.3:
            return self._policy_wish()
        if self.chance.random() < 0.15:
            return self._growth_wish()
        return super()._wish(step)

    def _growth_wish(self) -> Request:
        if self.chance.random() < 0.5:
            reserve_bytes = self.chance.randrange(1, 9) * 200 * MIB
            snapshot = f"s{self.chance.randrange(4)}"
            return GrowSnapshot(
                snapshot=snapshot, reserve_bytes=reserve_bytes, deadline_s=DEADLINE_S
            )
        node = self.chance.choice(self.nodes).name
        thin_bytes = self.chance.randrange(2, 9) * GIB
        return GrowThinPool(pool="fast", node=node, thin_bytes=thin_bytes, deadline_s=DEADLINE_S)

    def _policy_wish(self) -> Request:
        kind = self.chance.choice(KINDS)
        narrow = self.chance.random() < 0.4
        name = f"{kind.value}{'-narrow' if narrow else ''}"
        match self.chance.randrange(8):
            case 0:
                return PausePolicy(policy=name)
            case 1:
                return ResumePolicy(policy=name)
            case 2:
                return RemovePolicy(policy=name)
            case _:
                return SetPolicy(policy=name, spec=self._spec(kind, narrow=narrow))

    def _spec(self, kind: PolicyKind, *, narrow: bool) -> PolicySpec:
        cool_down_s = self.chance.randrange(2, DEADLINE_S)
        node = self.chance.choice(self.nodes).name if narrow else None
        if kind is PolicyKind.ADD_DISKS:
            pool = Selector(node=node, pool="fast")
            return PolicySpec(
                kind=kind, selector=pool, media=DiskClass.SSD, cool_down_s=cool_down_s
            )
        if kind is PolicyKind.DRAIN_DISKS:
            return PolicySpec(kind=kind, selector=Selector(node=node), cool_down_s=cool_down_s)
        relative = self.chance.random() < 0.5
        return PolicySpec(
            kind=kind,
            selector=Selector(node=node),
            threshold_percent=self.chance.randrange(50, 100),
            step_percent=self.chance.randrange(1, 101) if relative else 0,
            step_bytes=0 if relative else self.chance.randrange(1, 3 * GIB),
            ceiling_bytes=CEILING,
            cool_down_s=cool_down_s,
        )


def _name(item: tuple[str, object]) -> str:
    return item[0]


async def policies_keep_to_their_bounds(day: PolicyDay) -> int:
    """Return how many acts there were, each within ceiling and cool-down, and done at most once."""
    world, said, begun = World(), set[str](), 0
    last: dict[tuple[str, str], datetime] = {}
    for seq in range(1, await day.stage.log.head() + 1):
        stored = await day.stage.log.get(seq)
        assert stored is not None
        at, commit = parse_event(stored.subject), CODEC.decode(stored.data)
        if commit.actor.startswith("policy:"):
            assert commit.command not in said, "said twice"
            said.add(commit.command)
        for event in commit.events:
            if isinstance(event, PolicyActed):
                begun += 1
                within_bounds(world, event, last)
            if isinstance(event, PolicyChanged):
                # What has cooled down by then has, however long it would take from now on.
                for key in [key for key in last if key[0] == event.uid]:
                    if cooled(world.policies[event.policy], last[key], commit.at):
                        del last[key]
            refused = isinstance(event, PolicyAnswered) and event.code is not None
            if refused:
                last.pop((event.uid, event.object), None)
        world.evolve(at.kind, at.place, at.id, commit.events)
    assert world.policies == day.stage.world.policies
    return begun


def cooled(policy: Policy, acted: datetime, at: datetime) -> bool:
    return policy.spec is not None and at >= acted + timedelta(seconds=policy.spec.cool_down_s)


def within_bounds(world: World, event: PolicyActed, last: dict[tuple[str, str], datetime]) -> None:
    policy, key = world.policies[event.policy], (event.uid, event.object)
    assert policy.spec is not None
    assert not policy.paused
    assert key not in last or cooled(policy, last[key], event.at), "twice within a cool-down"
    last[key] = event.at
    if isinstance(event.wish, GrowVolume):
        assert event.wish.size_bytes <= CEILING
        assert event.wish.size_bytes > world.volumes[event.wish.volume].size_bytes
    if isinstance(event.wish, GrowSnapshot):
        assert event.wish.reserve_bytes <= CEILING
    if isinstance(event.wish, GrowThinPool):
        assert event.wish.thin_bytes <= CEILING


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_dies_policies_keep_to_their_bounds(seed: int) -> None:
    async def tale() -> None:
        day = PolicyDay(seed)
        await day.play()
        await the_laws_hold(day)
        await policies_keep_to_their_bounds(day)
        assert pending(day.stage.world) == ()

    run_virtually(tale)


def test_policies_have_something_to_do_on_such_days() -> None:
    acts: list[int] = []

    async def tale() -> None:
        day = PolicyDay(len(acts))
        await day.play()
        acts.append(await policies_keep_to_their_bounds(day))

    for _ in range(8):
        run_virtually(tale)
    assert sum(acts) > 2 * len(acts)
