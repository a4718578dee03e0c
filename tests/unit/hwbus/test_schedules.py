"""Schedules on a control plane in memory, with a clock that is turned by hours."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random

from aggregates.snapshot import SnapshotPhase
from aggregates.world import World
from hwbus.controller.schedules import AGAIN_AFTER_S, snapshot_name
from hwbus.subjects import parse_event
from schemas.grammar import Event, Message
from schemas.node import ReportNodeHeard, ReportNodeSilent
from schemas.refusals import Refusal
from schemas.replica import ReplicaRemovalWanted, ReplicaWanted
from schemas.rhythm import Keep, Rhythm
from schemas.schedule import (
    CreateSchedule,
    PauseSchedule,
    RemoveSchedule,
    ResumeSchedule,
    ScheduleRunBegan,
    ScheduleRunDone,
    ScheduleRunFailed,
)
from schemas.snapshot import (
    CreateSnapshot,
    ReportSnapshotFill,
    SnapshotCreationBegan,
    SnapshotDeletionBegan,
)
from schemas.volume import GrowVolume, ProvisionVolume
from schemas.volume_group import CreateGroup
from tests.support.given import GIB, MIB
from tests.support.stage import CODEC, ScriptedNode, Stage
from tests.support.virtual_time import EPOCH, VirtualClock, run_virtually

MINUTE_S, HOUR_S = 60, 3600
TAKEN = (SnapshotPhase.READY, "")


def hourly(keep: int = 24, **more: object) -> CreateSchedule:
    about = {"volume": "pg", "reserve_bytes": 40 * MIB, **more}
    rhythm = Rhythm(every_s=HOUR_S, offset_s=30 * MINUTE_S)  # the stage begins at twelve
    return CreateSchedule(schedule="s", rhythm=rhythm, keep=Keep(hourly=keep), **about)  # type: ignore[arg-type]


def due(hour: float) -> str:
    """Return the name of the snapshot that is due so many hours after the beginning."""
    return snapshot_name("s", EPOCH + timedelta(hours=hour))


class Play:
    """A stage with one node at work and two volumes. ``trouble`` is what the node meets."""

    def __init__(self, chance: Random | None = None) -> None:
        self.stage = Stage(VirtualClock(), chance)
        self.trouble: Callable[[Event], Refusal | None] = lambda _: None
        self.node = ScriptedNode(self.stage, "n1", Random(1), self._meets)

    def _meets(self, event: Event) -> Refusal | None:
        return self.trouble(event)

    @property
    def world(self) -> World:
        return self.stage.world

    @property
    def kept(self) -> list[str]:
        return sorted(self.world.snapshots)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        work = asyncio.create_task(self.node.work())
        try:
            yield
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def furnish(self) -> None:
        await self.node.join(1)
        await self.do(self.node.form())
        for volume in ("pg", "wal"):
            await self.do(ProvisionVolume(volume=volume, size_bytes=GIB))

    async def do(self, wish: Message) -> None:
        await self.stage.accepted(wish)
        await self.stage.settled()

    async def at(self, hour: float) -> None:
        """Wait until so many hours have passed since the beginning, and a little more."""
        now_s = asyncio.get_running_loop().time()
        await asyncio.sleep(hour * HOUR_S + 5 - now_s)

    async def found(self, *words: type[Event]) -> list[Event]:
        return [event for event in await self.stage.events() if isinstance(event, words)]


def told(tale: Callable[[Play], Coroutine[object, object, None]]) -> None:
    async def whole() -> None:
        here = Play()
        async with here.stage.control_plane(), here.working():
            await here.furnish()
            await tale(here)

    run_virtually(whole)


def test_what_is_due_is_taken_and_only_so_many_are_kept() -> None:
    async def tale(here: Play) -> None:
        await here.stage.accepted(hourly(keep=2))
        await here.at(0.6)
        assert here.kept == [due(0.5)]
        await here.at(2.6)
        assert here.kept == [due(1.5), due(2.5)]
        assert {(s.phase, s.operation) for s in here.world.snapshots.values()} == {TAKEN}
        assert here.world.volumes["pg"].snapshots == set(here.kept)
        assert len(await here.found(ScheduleRunDone)) == 3
        assert await here.found(ScheduleRunFailed) == []
        words = ("snapshot.create.v1", "snapshot.delete.v1")
        assert {(word, "schedule:s") for word in words} <= set(await commanded(here.stage))

    told(tale)


async def commanded(stage: Stage) -> list[tuple[str, str]]:
    found = []
    for seq in range(1, await stage.log.head() + 1):
        stored = await stage.log.get(seq)
        assert stored is not None
        if parse_event(stored.subject).kind == "snapshot":
            commit = CODEC.decode(stored.data)
            found.append((commit.word, commit.actor))
    return found


def test_what_was_missed_while_nobody_was_there_is_taken_once_and_told() -> None:
    async def whole() -> None:
        here = Play()
        async with here.working():
            async with here.stage.control_plane():
                await here.furnish()
                await here.stage.accepted(hourly())
                await here.at(1)
            await here.at(5)
            async with here.stage.control_plane():
                await here.at(5.1)
                assert here.kept == [due(0.5), due(4.5)]
                began = await here.found(ScheduleRunBegan)
                assert [getattr(event, "missed", None) for event in began] == [0, 3]

    run_virtually(whole)


def test_whoever_dies_and_whenever_nothing_is_taken_twice() -> None:
    async def whole() -> None:
        chance = Random(7)
        here = Play(Random("log"))
        async with here.working():
            async with here.stage.control_plane():
                await here.furnish()
                await here.stage.accepted(_minutely())
            end_s = asyncio.get_running_loop().time() + HOUR_S / 2
            while asyncio.get_running_loop().time() < end_s:
                async with here.stage.control_plane():
                    await asyncio.sleep(chance.expovariate(1 / 15))
                await asyncio.sleep(chance.random() * 20)
            async with here.stage.control_plane():
                await here.stage.settled()
                await asyncio.sleep(3 * MINUTE_S)
        begun = Counter(names(await here.found(SnapshotCreationBegan)))
        assert len(begun) > 10
        assert set(begun.values()) == {1}
        told_of = Counter(names(await here.found(ScheduleRunBegan)))
        assert set(told_of) == set(begun)
        assert set(told_of.values()) == {1}

    run_virtually(whole)


def names(events: Sequence[Event]) -> list[str]:
    return [getattr(event, "snapshot", "") for event in events]


def _minutely() -> CreateSchedule:
    return CreateSchedule(
        schedule="s",
        volume="pg",
        rhythm=Rhythm(every_s=MINUTE_S),
        keep=Keep(hourly=2),
        reserve_bytes=40 * MIB,
    )


def test_a_busy_volume_is_waited_for() -> None:
    async def tale(here: Play) -> None:
        await here.stage.accepted(hourly())
        await here.at(0.49)
        here.node.slow_s = 20 * MINUTE_S
        grow = GrowVolume(volume="wal", size_bytes=2 * GIB, deadline_s=HOUR_S)
        await here.stage.accepted(grow)
        await here.stage.accepted(GrowVolume(volume="pg", size_bytes=2 * GIB, deadline_s=HOUR_S))
        here.node.slow_s = 1
        await here.stage.until(lambda w: not w.volumes["pg"].operation, within_s=HOUR_S)
        await here.at(1)
        assert due(0.5) in here.kept
        assert await here.found(ScheduleRunFailed) == []

    told(tale)


def test_a_volume_that_stays_busy_is_not_kept_that_time_and_the_log_says_why() -> None:
    async def tale(here: Play) -> None:
        await here.stage.accepted(hourly())
        await here.at(0.49)
        here.node.slow_s = 100 * MINUTE_S
        grow = GrowVolume(volume="pg", size_bytes=2 * GIB, deadline_s=50 * MINUTE_S)
        await here.stage.accepted(grow)
        await here.at(1.49)
        (failed,) = await here.found(ScheduleRunFailed)
        assert isinstance(failed, ScheduleRunFailed)
        assert (failed.code, failed.snapshot) == (Refusal.VOLUME_BUSY, due(0.5))
        assert here.kept == []

    told(tale)


def test_a_node_that_is_not_heard_fails_the_run_and_the_next_one_goes_on() -> None:
    async def tale(here: Play) -> None:
        await here.stage.accepted(hourly())
        heard = here.stage.clock.now()
        await here.stage.accepted(ReportNodeSilent(node="n1", last_heard=heard))
        await here.at(1)
        (failed,) = await here.found(ScheduleRunFailed)
        assert isinstance(failed, ScheduleRunFailed)
        assert failed.code is Refusal.NODE_SILENT
        await here.stage.accepted(ReportNodeHeard(node="n1"))
        await here.at(1.6)
        assert here.kept == [due(1.5)]

    told(tale)


def test_what_the_node_could_not_take_is_an_event_with_its_code_and_counts_for_nothing() -> None:
    async def tale(here: Play) -> None:
        await here.stage.accepted(hourly(keep=2))
        await here.at(1.6)
        no = Refusal.NO_SPACE_ON_NODE
        here.trouble = lambda e: no if isinstance(e, ReplicaWanted) else None
        await here.at(2.6)
        here.trouble = lambda _: None
        (failed,) = await here.found(ScheduleRunFailed)
        assert isinstance(failed, ScheduleRunFailed)
        assert (failed.code, failed.snapshot) == (no, due(2.5))
        assert here.kept == [due(0.5), due(1.5)]
        await here.at(3.6)
        assert here.kept == [due(1.5), due(3.5)]

    told(tale)


def test_what_people_took_is_never_deleted_and_a_lost_one_keeps_nobodys_place() -> None:
    async def tale(here: Play) -> None:
        by_hand = CreateSnapshot(snapshot="s-by-hand", volume="pg", reserve_bytes=40 * MIB)
        await here.do(by_hand)
        await here.stage.accepted(hourly(keep=2))
        await here.at(1.6)
        lost = here.world.snapshots[due(1.5)]
        report = ReportSnapshotFill(
            snapshot=due(1.5), uid=lost.uid, data_percent=100, overflowed=True
        )
        await here.stage.accepted(report)
        await here.at(2.4)
        assert here.kept == sorted((due(0.5), due(1.5), "s-by-hand"))
        await here.at(3.6)
        assert here.kept == sorted((due(2.5), due(3.5), "s-by-hand"))

    told(tale)


def test_one_that_is_in_use_stays_and_is_asked_for_again_only_later() -> None:
    async def tale(here: Play) -> None:
        await here.stage.accepted(hourly(keep=1))
        await here.at(0.6)
        used = due(0.5)

        def trouble(event: Event) -> Refusal | None:
            mine = isinstance(event, ReplicaRemovalWanted) and event.volume == used
            return Refusal.IN_USE if mine else None

        here.trouble = trouble
        await here.at(3.4)
        assert here.kept == [used, due(2.5)]
        begun = await here.found(SnapshotDeletionBegan)
        asked = sum(getattr(event, "snapshot", "") == used for event in begun)
        assert 1 <= asked <= 1 + 2 * HOUR_S // AGAIN_AFTER_S
        here.trouble = lambda _: None
        await here.at(4.9)
        assert used not in here.kept

    told(tale)


def test_a_paused_schedule_takes_and_deletes_nothing_and_makes_up_for_nothing() -> None:
    async def tale(here: Play) -> None:
        await here.stage.accepted(hourly(keep=1))
        await here.at(0.6)
        await here.stage.accepted(PauseSchedule(schedule="s"))
        await here.at(2.1)
        assert here.kept == [due(0.5)]
        await here.stage.accepted(ResumeSchedule(schedule="s"))
        await here.at(2.4)
        assert here.kept == [due(0.5)]
        await here.at(2.6)
        assert here.kept == [due(2.5)]
        began = await here.found(ScheduleRunBegan)
        assert [getattr(event, "missed", None) for event in began] == [0, 0]

    told(tale)


def test_the_snapshots_of_a_schedule_outlive_it() -> None:
    async def tale(here: Play) -> None:
        await here.stage.accepted(hourly(keep=1))
        await here.at(0.6)
        await here.stage.accepted(RemoveSchedule(schedule="s"))
        await here.stage.accepted(hourly(keep=1))
        await here.at(2.6)
        assert here.kept == [due(0.5), due(2.5)]

    told(tale)


def test_a_group_is_kept_whole_and_let_go_whole() -> None:
    async def tale(here: Play) -> None:
        await here.stage.accepted(CreateGroup(group="shop", volumes=("pg", "wal")))
        await here.stage.accepted(hourly(keep=1, volume=None, group="shop"))
        await here.at(1.6)
        pairs = [f"{due(hour)}-{volume}" for hour in (1.5,) for volume in ("pg", "wal")]
        assert here.kept == pairs

    told(tale)
