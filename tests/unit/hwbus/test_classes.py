"""QoS classes on a control plane in memory: a class is changed, and its volumes follow."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random

import pytest

from aggregates.attaching import behind
from aggregates.world import World
from hwbus.controller.classes import AGAIN_AFTER_S, AT_ONCE
from hwbus.controller.figures import qos_behind
from schemas.attaching import (
    AttachVolume,
    FollowQosClass,
    LimitVolume,
    VolumeLimited,
    VolumeLimitingBegan,
    VolumeLimitingFailed,
)
from schemas.attachment import AttachmentLimitsWanted, Limits
from schemas.grammar import Event, Message
from schemas.node import ReportNodeHeard, ReportNodeSilent
from schemas.qos import ChangeQosClass, CreateQosClass
from schemas.refusals import Refusal
from schemas.volume import GrowVolume, ProvisionVolume
from tests.support.given import GIB, NOON
from tests.support.stage import CODEC, ScriptedNode, Stage
from tests.support.virtual_time import VirtualClock, run_virtually

FAST, SLOW = Limits(read_iops=1000), Limits(read_iops=100)
NODES = ("n1", "n2")
SLOWER = ChangeQosClass(qos="gold", limits=SLOW)
MIB = 1 << 20


class Play:
    """A stage with two nodes; on each an attached volume of the class "gold", and one without."""

    def __init__(self, chance: Random | None = None) -> None:
        self.stage = Stage(VirtualClock(), chance)
        self.trouble: Callable[[Event], Refusal | None] = lambda _: None
        self.nodes = {
            name: ScriptedNode(self.stage, name, Random(1), self._meets) for name in NODES
        }

    def _meets(self, event: Event) -> Refusal | None:
        return self.trouble(event)

    @property
    def world(self) -> World:
        return self.stage.world

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        work = [asyncio.create_task(node.work()) for node in self.nodes.values()]
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def furnish(self) -> None:
        await self.stage.accepted(CreateQosClass(qos="gold", limits=FAST))
        for name, node in self.nodes.items():
            await node.join(1)
            await self.do(node.form())
            for volume, qos in ((name, "gold"), (f"{name}-other", None)):
                wish = ProvisionVolume(volume=volume, size_bytes=GIB, node=name, qos=qos)
                await self.do(wish)
                await self.do(AttachVolume(volume=volume, consumer="host/a", cgroup="a"))

    async def do(self, wish: Message) -> None:
        await self.stage.accepted(wish)
        await self.stage.settled()

    def made(self, volume: str) -> Limits:
        """Return the limits that the node itself has for a volume."""
        return self.nodes[self.world.volumes[volume].node].attachments.made[volume].limits

    def all_carry(self, limits: Limits) -> bool:
        """Whether both volumes of the class have these limits, on the node and in the record."""
        known = (self.world.volumes[name].use.attachment for name in NODES)
        return all(one is not None and one.limits == limits for one in known) and all(
            self.made(name) == limits for name in NODES
        )

    async def follows(self, limits: Limits, within_s: float = 30) -> None:
        await self.stage.until(lambda _: self.all_carry(limits), within_s)
        await self.stage.settled()

    async def found(self, *words: type[Event]) -> list[Event]:
        return [event for event in await self.stage.events() if isinstance(event, words)]


def told(tale: Callable[[Play], Coroutine[object, object, None]]) -> None:
    async def whole() -> None:
        here = Play()
        async with here.stage.control_plane(), here.working():
            await here.furnish()
            await tale(here)

    run_virtually(whole)


def test_a_class_that_is_changed_is_carried_to_every_volume_that_has_it() -> None:
    async def tale(here: Play) -> None:
        assert here.all_carry(FAST)
        await here.stage.accepted(SLOWER)
        await here.follows(SLOW)
        assert [here.made(f"{name}-other") for name in NODES] == [Limits(), Limits()]
        began = await here.found(VolumeLimitingBegan)
        assert len(began) == 2, "one operation a volume"
        await asyncio.sleep(100)
        assert len(await here.found(VolumeLimitingBegan)) == 2, "and no more of them"
        assert await actors(here.stage) == {("volume.follow-qos.v1", "qos:gold")}

    told(tale)


async def actors(stage: Stage) -> set[tuple[str, str]]:
    found = set()
    for seq in range(1, await stage.log.head() + 1):
        stored = await stage.log.get(seq)
        assert stored is not None
        commit = CODEC.decode(stored.data)
        if any(isinstance(event, VolumeLimitingBegan) for event in commit.events):
            found.add((commit.word, commit.actor))
    return found


def test_a_volume_that_is_busy_follows_when_it_is_idle() -> None:
    async def tale(here: Play) -> None:
        here.nodes["n1"].slow_s = 40.0
        await here.stage.accepted(GrowVolume(volume="n1", size_bytes=2 * GIB))
        await here.stage.accepted(SLOWER)
        await here.stage.until(lambda _: here.made("n2") == SLOW, within_s=10)
        assert here.world.volumes["n1"].phase == "growing"
        assert here.made("n1") == FAST
        await here.follows(SLOW, within_s=200)
        assert await here.found(VolumeLimitingFailed) == []

    told(tale)


def test_a_volume_follows_the_last_of_many_changes() -> None:
    async def tale(here: Play) -> None:
        here.nodes["n1"].slow_s = 3.0
        for iops in range(10, 40):
            limits = Limits(write_iops=iops)
            await here.stage.accepted(ChangeQosClass(qos="gold", limits=limits))
            await asyncio.sleep(0.3)
        await here.follows(Limits(write_iops=39))

    told(tale)


def test_limits_of_its_own_win_over_a_class_that_is_just_being_carried() -> None:
    async def tale(here: Play) -> None:
        own = Limits(write_iops=9)
        await here.stage.accepted(SLOWER)
        await here.stage.accepted(LimitVolume(volume="n1", limits=own))
        await here.stage.until(lambda _: here.made("n2") == SLOW, within_s=10)
        await asyncio.sleep(30)
        assert here.made("n1") == own
        assert here.world.volumes["n1"].use.qos == ""
        await here.stage.refused(
            FollowQosClass(volume="none", uid="0" * 26), Refusal.UNKNOWN_VOLUME
        )

    told(tale)


def test_what_a_node_cannot_is_told_and_tried_again_ever_more_seldom() -> None:
    async def tale(here: Play) -> None:
        def no_controller(event: Event) -> Refusal | None:
            wanted = isinstance(event, AttachmentLimitsWanted) and event.limits == SLOW
            hard = wanted and getattr(event, "node") == "n1"  # noqa: B009
            return Refusal.NO_IO_CONTROLLER if hard else None

        here.trouble = no_controller
        await here.stage.accepted(SLOWER)
        await asyncio.sleep(AGAIN_AFTER_S / 2)
        assert (here.made("n1"), here.made("n2")) == (FAST, SLOW)
        assert behind(here.world.volumes["n1"], here.world) == SLOW
        assert counted(here.world) == {"gold": 1}
        (failed,) = await here.found(VolumeLimitingFailed)
        assert getattr(failed, "code") is Refusal.NO_IO_CONTROLLER  # noqa: B009
        await asyncio.sleep(20 * AGAIN_AFTER_S)
        assert len(await here.found(VolumeLimitingFailed)) == 5  # after 1, 2, 4 and 8 minutes
        here.trouble = lambda _: None
        other = Limits(read_iops=77)
        await here.stage.accepted(ChangeQosClass(qos="gold", limits=other))
        await here.follows(other, within_s=10)
        assert counted(here.world) == {"gold": 0}

    told(tale)


def counted(world: World) -> dict[str, float]:
    return {sample.labels["qos"]: sample.value for sample in qos_behind(world).samples}


def test_a_volume_of_a_silent_node_follows_when_the_node_is_heard_again() -> None:
    async def tale(here: Play) -> None:
        await here.stage.accepted(ReportNodeSilent(node="n1", last_heard=NOON))
        await here.stage.accepted(SLOWER)
        await here.stage.until(lambda _: here.made("n2") == SLOW, within_s=10)
        await asyncio.sleep(60)
        assert here.made("n1") == FAST
        assert len(await here.found(VolumeLimitingBegan)) == 1
        await here.stage.accepted(ReportNodeHeard(node="n1"))
        await here.follows(SLOW, within_s=10)

    told(tale)


def test_only_so_many_volumes_follow_at_one_time() -> None:
    async def tale(here: Play) -> None:
        for number in range(2 * AT_ONCE):
            name = f"v{number}"
            await here.do(ProvisionVolume(volume=name, size_bytes=64 * MIB, qos="gold"))
            await here.do(AttachVolume(volume=name, consumer="host/a", cgroup="a"))
        for node in here.nodes.values():
            node.slow_s = 1.0
        most = 0

        def all_follow(world: World) -> bool:
            nonlocal most
            most = max(most, sum(v.phase == "limiting" for v in world.volumes.values()))
            return not any(behind(v, world) for v in world.volumes.values())

        await here.stage.accepted(SLOWER)
        await here.stage.until(all_follow, within_s=600)
        assert most == AT_ONCE

    told(tale)


@pytest.mark.parametrize("commits", range(10))
def test_a_control_plane_that_dies_after_any_commit_leaves_the_class_to_the_next(
    commits: int,
) -> None:
    async def whole() -> None:
        here = Play()
        async with here.working():
            async with here.stage.control_plane():
                await here.furnish()
                await here.stage.accepted(SLOWER)
                head = await here.stage.log.head()
                async with asyncio.timeout(60):
                    while await here.stage.log.head() < head + commits:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
            async with here.stage.control_plane():
                await here.follows(SLOW)
        assert [event.limits for event in await here.found(VolumeLimited)] == [SLOW, SLOW]  # type: ignore[attr-defined]

    run_virtually(whole)


@pytest.mark.parametrize("iops", [0, 1, -5])
def test_what_the_kernel_does_not_take_for_a_limit_is_refused_and_named(iops: int) -> None:
    async def tale(here: Play) -> None:
        none = Limits(read_iops=iops)
        no = await here.stage.refused(ChangeQosClass(qos="gold", limits=none), Refusal.MALFORMED)
        assert "read_iops" in no.because
        await here.stage.refused(CreateQosClass(qos="zero", limits=none), Refusal.MALFORMED)
        await here.stage.refused(LimitVolume(volume="n1", limits=none), Refusal.MALFORMED)
        assert here.world.qos["gold"].limits == FAST

    told(tale)
