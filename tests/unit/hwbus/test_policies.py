"""Policies at work on a control plane in memory: each act once, whoever dies."""

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from aggregates.volume import VolumePhase
from aggregates.world import World
from hwbus.controller.storage import StorageScript
from schemas.answers import Accepted
from schemas.disk import Content, DiskClass, Health, ReportDiskHealth, ReportDiskSeen, Sighting
from schemas.filling import ReportVolumeFill
from schemas.grammar import Event, Message
from schemas.growing import GrowSnapshot, GrowThinPool, SnapshotGrown, ThinPoolGrown
from schemas.operation import OperationEnded, OperationKind, Outcome
from schemas.policy import (
    PausePolicy,
    PolicyActed,
    PolicyAlarmed,
    PolicyAnswered,
    PolicyCalmed,
    PolicyKind,
    PolicySpec,
    ReportPolicyDue,
    ResumePolicy,
    Selector,
    SetPolicy,
)
from schemas.pool import ReportThinFill
from schemas.refusals import Refusal
from schemas.replica import ReplicaResizeWanted
from schemas.shrinking import ShrinkPool
from schemas.snapshot import CreateSnapshot, ReportSnapshotFill
from schemas.volume import GrowVolume, ProvisionVolume, VolumeGrowthBegan
from tests.support.given import GIB, MIB
from tests.support.stage import CODEC, ScriptedNode, Stage
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.unit.hwbus.test_driver import Play, play

COOL_S = 60
SPEC = PolicySpec(
    kind=PolicyKind.GROW_VOLUMES, threshold_percent=80, step_bytes=GIB, cool_down_s=COOL_S
)


async def furnish(here: Play, *policies: PolicySpec, **pool: Any) -> None:
    """Have a pool of one disk, a volume of 1 GiB, and policies p0, p1, ..."""
    await here.stage.accepted(here.node.form(**pool))
    await here.stage.settled()
    await here.stage.accepted(ProvisionVolume(volume="pg", size_bytes=GIB))
    await here.stage.settled()
    for number, spec in enumerate(policies):
        await here.stage.accepted(SetPolicy(policy=f"p{number}", spec=spec))


async def fill(here: Play, percent: int) -> None:
    """Tell how full the volume is, as it is now."""
    pg = here.stage.world.volumes["pg"]
    word = ReportVolumeFill(
        volume="pg",
        uid=pg.uid,
        data_percent=percent,
        used_bytes=percent * pg.size_bytes // 100,
        filesystem_bytes=pg.size_bytes,
        size_bytes=pg.size_bytes,
    )
    await here.stage.accepted(word)


async def of(here: Play, word: type[Event]) -> list[Any]:
    return [event for event in await here.stage.events() if isinstance(event, word)]


def size(world: World) -> int:
    return world.volumes["pg"].size_bytes


def has_size(size_bytes: int, world: World) -> bool:
    return size(world) == size_bytes


def tale(told: Callable[[], Any]) -> None:
    run_virtually(told)


def test_a_volume_grows_once_a_cool_down_to_its_ceiling_and_then_there_is_one_alarm() -> None:
    async def told() -> None:
        async with play() as here:
            await furnish(here, replace(SPEC, ceiling_bytes=2 * GIB + 512 * MIB))
            for expected in (2 * GIB, 2 * GIB + 512 * MIB):
                await fill(here, 85)
                began = here.stage.clock.now()
                await here.stage.until(partial(has_size, expected), 2 * COOL_S)
                if expected > 2 * GIB:
                    assert (here.stage.clock.now() - began).total_seconds() > COOL_S - 10
            await fill(here, 85)
            await asyncio.sleep(10 * COOL_S)
            assert size(here.stage.world) == 2 * GIB + 512 * MIB
            (alarm,) = await of(here, PolicyAlarmed)
            assert (alarm.code, alarm.object) == (Refusal.CEILING_REACHED, "volume/pg")
            await fill(here, 60)
            await here.stage.until(lambda world: not world.policies["p0"].alarms, 10)
            assert len(await of(here, PolicyCalmed)) == 1
            assert len(await of(here, PolicyActed)) == 2

    tale(told)


def test_the_growth_is_recorded_with_the_policy_as_actor_and_the_level_as_cause() -> None:
    async def told() -> None:
        async with play() as here:
            await furnish(here, SPEC)
            await fill(here, 85)
            level = await here.stage.log.head()
            await here.stage.until(lambda world: size(world) == 2 * GIB, 30)
            commits = [
                CODEC.decode(stored.data)
                for seq in range(1, await here.stage.log.head() + 1)
                if (stored := await here.stage.log.get(seq)) is not None
            ]
            (began,) = [
                one for one in commits if any(isinstance(e, VolumeGrowthBegan) for e in one.events)
            ]
            assert (began.actor, began.cause) == ("policy:p0", f"event:{level}")
            (answered,) = await of(here, PolicyAnswered)
            assert answered.operation == began.correlation

    tale(told)


def test_two_levels_in_a_row_are_no_two_growths() -> None:
    async def told() -> None:
        async with play() as here:
            await furnish(here, SPEC)
            await fill(here, 85)
            await fill(here, 90)
            await here.stage.until(lambda world: size(world) == 2 * GIB, 30)
            await asyncio.sleep(5 * COOL_S)  # nothing was told of the volume as it is now
            assert size(here.stage.world) == 2 * GIB

    tale(told)


def test_a_control_plane_that_dies_between_the_act_and_the_wish_does_it_once() -> None:
    async def told() -> None:
        async with play() as here:
            await furnish(here, SPEC, deadline_s=60)
            here.node.slow_s = 5
            policy = here.stage.world.policies["p0"]
            wish = GrowVolume(volume="pg", size_bytes=2 * GIB)
            about: dict[str, Any] = {"policy": "p0", "uid": policy.uid, "object": "volume/pg"}
            due: Message = ReportPolicyDue(**about, wish=wish, seq=3)
            assert here.stage.desk is not None
            await here.stage.say(due, within=True)
            # Whoever came before said the wish, and did not live to tell what came of it.
            said = await here.stage.say(wish, id_=f"policy.{policy.uid}.1", actor="policy:p0")
            assert isinstance(said, Accepted)
            async with here.stage.control_plane():
                await here.stage.until(
                    lambda world: world.policies["p0"].acts["volume/pg"].answered, 30
                )
                await here.stage.until(lambda world: size(world) == 2 * GIB, 60)
            assert len(await of(here, VolumeGrowthBegan)) == 1
            (answered,) = await of(here, PolicyAnswered)
            assert answered.operation == said.operation

    tale(told)


def test_a_cool_down_outlives_the_control_plane() -> None:
    async def told() -> None:
        async with play() as here:
            await furnish(here, SPEC)
            await fill(here, 85)
            await here.stage.until(lambda world: size(world) == 2 * GIB, 30)
            began = here.stage.clock.now()
            await fill(here, 85)
            async with here.stage.control_plane():
                await asyncio.sleep(COOL_S / 2)
                assert size(here.stage.world) == 2 * GIB
                await here.stage.until(lambda world: size(world) == 3 * GIB, COOL_S)
                waited_s = (here.stage.clock.now() - began).total_seconds()
                assert COOL_S - 10 < waited_s < COOL_S + 10

    tale(told)


def test_a_paused_policy_does_nothing_until_it_is_resumed() -> None:
    async def told() -> None:
        async with play() as here:
            await furnish(here, SPEC)
            await here.stage.accepted(PausePolicy(policy="p0"))
            await fill(here, 85)
            await asyncio.sleep(5 * COOL_S)
            assert size(here.stage.world) == GIB
            await here.stage.accepted(ResumePolicy(policy="p0"))
            await here.stage.until(lambda world: size(world) == 2 * GIB, 30)

    tale(told)


def test_a_growth_that_fails_is_an_alarm_and_is_tried_again_after_the_cool_down() -> None:
    async def told() -> None:
        async with play() as here:
            await furnish(here, SPEC)
            fails = True
            here.node._troubles = lambda event: (
                Refusal.TOOL_FAILED
                if fails and isinstance(event, ReplicaResizeWanted) and event.size_bytes > GIB
                else None
            )
            await fill(here, 85)
            await here.stage.until(lambda world: bool(world.policies["p0"].alarms), 30)
            (alarm,) = await of(here, PolicyAlarmed)
            assert alarm.code is Refusal.ACTION_FAILED
            fails = False
            await here.stage.until(lambda world: size(world) == 2 * GIB, 2 * COOL_S)
            await here.stage.until(lambda world: not world.policies["p0"].alarms, 10)

    tale(told)


def test_a_snapshot_grows_with_its_ledger_and_frees_its_volume() -> None:
    async def told() -> None:
        async with play() as here:
            await furnish(here)
            take = CreateSnapshot(snapshot="s", volume="pg", reserve_bytes=40 * MIB)
            await here.stage.accepted(take)
            await here.stage.settled()
            spec = replace(SPEC, kind=PolicyKind.GROW_SNAPSHOTS, step_bytes=20 * MIB)
            await here.stage.accepted(SetPolicy(policy="p", spec=spec))
            uid = here.stage.world.snapshots["s"].uid
            word = ReportSnapshotFill(
                snapshot="s", uid=uid, data_percent=80, reserve_bytes=40 * MIB
            )
            await here.stage.accepted(word)
            await here.stage.until(lambda w: w.snapshots["s"].reserve_bytes == 60 * MIB, 30)
            await here.stage.settled()
            ledger = here.stage.world.pools["n1", "fast"].ledger
            assert ledger.thick_settled_bytes == GIB + 60 * MIB
            assert not ledger.reserved
            assert here.stage.world.volumes["pg"].phase is VolumePhase.READY
            assert [e.reserve_bytes for e in await of(here, SnapshotGrown)] == [60 * MIB]

    tale(told)


def test_a_snapshot_that_the_node_cannot_extend_gives_its_room_back() -> None:
    async def told() -> None:
        async with play() as here:
            await furnish(here)
            await here.stage.accepted(
                CreateSnapshot(snapshot="s", volume="pg", reserve_bytes=40 * MIB)
            )
            await here.stage.settled()
            here.node._troubles = lambda event: (
                Refusal.SNAPSHOT_LOST
                if isinstance(event, ReplicaResizeWanted) and event.size_bytes > 40 * MIB
                else None
            )
            grow = GrowSnapshot(snapshot="s", reserve_bytes=80 * MIB, deadline_s=60)
            begun = await here.stage.accepted(grow)
            end = await here.outcome(begun.operation)
            assert end == (Outcome.FAILED, Refusal.SNAPSHOT_LOST, 0)
            world = here.stage.world
            assert world.snapshots["s"].reserve_bytes == 40 * MIB
            assert world.pools["n1", "fast"].ledger.thick_settled_bytes == GIB + 40 * MIB
            assert not world.pools["n1", "fast"].ledger.reserved

    tale(told)


def test_a_thin_pool_grows_and_its_pool_has_so_much_less_room() -> None:
    async def told() -> None:
        async with play() as here:
            thin = replace(SPEC, kind=PolicyKind.GROW_THIN_POOLS)
            await furnish(here, thin, thin_bytes=2 * GIB)
            about: dict[str, Any] = {"pool": "fast", "node": "n1"}
            await here.stage.accepted(ReportThinFill(**about, data_percent=85, thin_bytes=2 * GIB))
            await here.stage.until(
                lambda w: (f := w.pools["n1", "fast"].facts) is not None and f.thin_bytes > 2 * GIB,
                30,
            )
            await here.stage.settled()
            (grown,) = await of(here, ThinPoolGrown)
            assert grown.facts.thin_bytes == 3 * GIB
            pool = here.stage.world.pools["n1", "fast"]
            assert (pool.thin_growth, pool.operation) == (None, "")

    tale(told)


def test_a_thin_growth_that_nobody_answers_ends_and_keeps_its_room_until_somebody_does() -> None:
    async def told() -> None:
        async with play() as here:
            await furnish(here, thin_bytes=2 * GIB)
            await here.stop()
            grow = GrowThinPool(pool="fast", node="n1", thin_bytes=3 * GIB, deadline_s=60)
            begun = await here.stage.accepted(grow)
            end = await here.outcome(begun.operation)
            assert end == (Outcome.FAILED, Refusal.DEADLINE, 1)
            pool = here.stage.world.pools["n1", "fast"]
            assert pool.thin_growth is not None
            await here.stage.refused(grow, Refusal.POOL_NOT_READY)
            here.start()
            await here.stage.until(lambda w: w.pools["n1", "fast"].thin_growth is None, 60)

    tale(told)


def test_a_blank_disk_joins_and_a_failing_one_leaves_by_policy() -> None:
    async def told() -> None:
        async with play(disks=1) as here:
            add = PolicySpec(
                kind=PolicyKind.ADD_DISKS, selector=Selector(pool="fast"), media=DiskClass.SSD
            )
            await furnish(here, add, PolicySpec(kind=PolicyKind.DRAIN_DISKS))
            for disk, content in (("strange", Content.FILESYSTEM), ("new", Content.BLANK)):
                seen = Sighting(
                    path="/dev/sdx", size_bytes=20 * GIB, media=DiskClass.SSD, content=content
                )
                await here.stage.accepted(ReportDiskSeen(disk=disk, node="n1", sighting=seen))
            began = here.stage.clock.now()
            both = {"n1-d0", "new"}
            await here.stage.until(lambda w: set(w.pools["n1", "fast"].disks) == both, 60)
            assert (here.stage.clock.now() - began).total_seconds() < 10
            word = ReportDiskHealth(
                disk="n1-d0", node="n1", health=Health.FAILING, reasons=("it is old",)
            )
            await here.stage.accepted(word)
            await here.stage.until(lambda w: w.pools["n1", "fast"].disks == ("new",), 60)
            await here.stage.until(lambda w: w.disks["n1-d0"].owner is None, 60)
            await asyncio.sleep(20)
            ends = [(e.kind, e.outcome) for e in await of(here, OperationEnded)][2:]
            done = Outcome.COMPLETED
            assert ends == [(OperationKind.POOL_GROW, done), (OperationKind.POOL_SHRINK, done)]
            assert here.stage.world.disks["strange"].owner is None

    tale(told)


def test_a_drain_ends_though_the_word_it_waits_for_died_with_a_control_plane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def told() -> None:
        stage = Stage(VirtualClock())
        node = ScriptedNode(stage, "n1", Random(1))
        worker = asyncio.create_task(node.work())
        shrink = ShrinkPool(pool="fast", node="n1", disks=("n1-d0",))
        async with stage.control_plane():
            await node.join(2)
            await stage.accepted(node.form(2))
            await stage.settled()
            with monkeypatch.context() as patched:
                patched.setattr(StorageScript, "follows", lambda _, __: ())
                begun = await stage.accepted(shrink)
                await stage.until(lambda w: w.pools["n1", "fast"].disks == ("n1-d1",), 60)
        async with stage.control_plane():
            await stage.settled(within_s=60)
            assert stage.world.operations[begun.operation].outcome is Outcome.COMPLETED
            assert stage.world.disks["n1-d0"].owner is None
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    tale(told)
