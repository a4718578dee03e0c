"""Figures for alarms are what log, views and broker say, and are gone when nothing is known."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from aggregates.limbo_ledgers import books_of
from aggregates.pool import Pool, PoolPhase
from aggregates.snapshot import Snapshot, SnapshotPhase
from aggregates.target import Target
from aggregates.volume import Volume
from aggregates.world import World
from hwbus.codec import commit_codec
from hwbus.controller.alarm_figures import AlarmFigures
from hwbus.controller.limbo import LimboWatch
from hwbus.controller.storage import StorageDomain
from hwbus.controller.wellbeing import Wellbeing
from hwbus.desk import CommandDesk
from hwbus.memory import MemoryBus, MemoryLog, MemoryOutlet
from hwbus.ports import Call, Endpoint
from projectors.asking import Found, Plan
from schemas.limbo import Limbo
from schemas.replica_view import VolumeHealth
from schemas.target import BackupMade
from schemas.views import StatusRow, VolumeRow, VolumeState
from schemas.words import AnyEvent
from tests.support.clock import NOON, ManualClock
from tests.support.given import GIB
from tests.support.limbo import FACTS, Told, a_tool, story

_SAMPLE = Path(__file__).parents[3] / "schemas" / "samples" / "target.backup-made.v1.json"


class Views:
    """What figures ask of the projector."""

    def __init__(self) -> None:
        self.rows: dict[str, VolumeRow] = {}
        self.lag_s = 0.0

    def status(self) -> list[StatusRow]:
        return [
            StatusRow(stream="events", position=3, head=8, lag_events=5, lag_s=self.lag_s, parked=0)
        ]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator["Views"]:
        yield self

    async def find(self, plan: Plan, *, limit: int, bytes_max: int) -> Found:  # noqa: ARG002
        assert plan.table == "volumes"
        health = dict(plan.equal)["health"]
        rows = (row for row in self.rows.values() if row.health == health)
        return Found(0, [msgspec.json.encode(row) for row in rows], None)


class House:
    """A watch over a log that is played to it, and the figures of both."""

    def __init__(self, state: Path) -> None:
        self.clock = ManualClock(NOON)
        self.log, self.audit = MemoryLog(self.clock), MemoryLog(self.clock)
        self.domain, self.views, self.bus = StorageDomain(), Views(), MemoryBus()
        codec = commit_codec(AnyEvent)
        self.desk = CommandDesk(
            self.domain, self.log, MemoryOutlet(), codec, self.clock, lambda: "minted"
        )
        views: Any = self.views
        self.limbo = LimboWatch(self.desk, self.world, views, self.audit, self.clock)
        self.wellbeing = Wellbeing(views, self.bus, state)
        self.registry = CollectorRegistry()
        self.registry.register(AlarmFigures(self.world, self.limbo, self.wellbeing))

    @property
    def world(self) -> World:
        return self.domain.world

    def figure(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"hwbus_{name}", labels)

    async def play(self, told: list[Told], *, judge: bool = True) -> None:
        """Write *told* into the log, and let the desk and the watch follow it."""
        codec = commit_codec(AnyEvent)
        for seq, one in enumerate(told, start=1):
            last = await self.log.last(one.subject)
            data = codec.encode(one.commit(seq))
            await self.log.append(
                one.subject, data, after=last.seq if last else 0, message_id=str(seq)
            )
        async for seen in self.desk.follow():
            self.limbo.take(seen, judge=judge)
            if self.desk.position == len(told):
                break


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def play(tale: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20):
            await tale()

    asyncio.run(whole())


def test_where_all_is_well_every_check_has_the_figure_0(house: House) -> None:
    async def tale() -> None:
        await house.play(story())
        house.clock.move(3600)
        assert house.limbo.look().findings == ()
        for check in ("operations", "causes", "ledgers", "projectors"):
            assert house.figure("limbo_findings", check=check) == 0

    play(tale)


def test_a_desk_that_books_otherwise_than_the_log_is_found(house: House) -> None:
    async def tale() -> None:
        await house.play(story())
        key = ("n1", "fast")
        was = house.world.pools[key]
        assert books_of(was).settled_bytes == GIB
        house.world.pools[key] = msgspec.structs.replace(was, ledger=Pool().ledger)
        [one] = house.limbo.look().findings
        assert (one.code, one.subject) == (Limbo.BOOKS_DIFFER, "pool/n1/fast")
        assert house.figure("limbo_findings", check="ledgers") == 1
        house.world.pools[key] = was
        assert house.limbo.look().findings == ()

    play(tale)


def test_causes_of_the_past_are_left_to_those_who_read_it(house: House) -> None:
    async def tale() -> None:
        told = story()
        told[6].cause = "event:77"
        await house.play(told, judge=False)
        house.clock.move(3600)
        assert house.limbo.look().findings == ()

    play(tale)


def test_views_are_behind_only_when_they_have_been_for_long(house: House) -> None:
    house.views.lag_s = 119.0
    assert house.limbo.look().findings == ()
    house.views.lag_s = 121.0
    [one] = house.limbo.look().findings
    assert (one.code, one.seq) == (Limbo.BEHIND, 4)


def test_tools_are_looked_at_as_they_come_along_the_audit(house: House) -> None:
    async def tale() -> None:
        await house.play(story())
        watching = asyncio.create_task(house.limbo.run())
        await asyncio.sleep(0)
        subject = "hwbus.audit.executed.n1"
        while not house.limbo.look().tools:
            data = msgspec.json.encode(a_tool("event:99", ""))
            last = await house.audit.last(subject)
            after = last.seq if last else 0
            await house.audit.append(subject, data, after=after, message_id=str(after))
            await asyncio.sleep(0.01)
        house.clock.move(3600)
        codes = {one.code for one in house.limbo.look().findings}
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert codes == {Limbo.TOOL_WITHOUT_CAUSE}

    play(tale)


def test_how_full_thin_pools_and_snapshots_are_is_told(house: House) -> None:
    facts = msgspec.structs.replace(FACTS, thin_bytes=4 * GIB)
    house.world.pools["n1", "fast"] = Pool(
        phase=PoolPhase.READY, facts=facts, thin_percent=80, thin_metadata_percent=15
    )
    thick = Snapshot(phase=SnapshotPhase.READY, volume="pg", reserve_bytes=GIB, fill_percent=95)
    house.world.snapshots["s1"] = thick
    house.world.snapshots["s2"] = msgspec.structs.replace(thick, lost="overflowed")
    on = {"pool": "fast", "node": "n1"}
    assert house.figure("pool_thin_bytes", **on) == 4 * GIB
    assert house.figure("pool_thin_promised_bytes", **on) == 0
    assert house.figure("pool_thin_used_ratio", **on) == 0.8
    assert house.figure("pool_thin_metadata_used_ratio", **on) == 0.15
    assert house.figure("snapshot_used_ratio", snapshot="s1", volume="pg") == 0.95
    assert house.figure("snapshot_lost", snapshot="s1", volume="pg") == 0
    assert house.figure("snapshot_lost", snapshot="s2", volume="pg") == 1


def test_a_pool_without_a_thin_pool_has_no_figure_of_one(house: House) -> None:
    house.world.pools["n1", "fast"] = Pool(phase=PoolPhase.READY, facts=FACTS)
    assert house.figure("pool_thin_used_ratio", pool="fast", node="n1") is None


def test_replicated_volumes_are_as_the_views_say_and_others_have_no_health(house: House) -> None:
    def row(name: str, health: VolumeHealth | None) -> VolumeRow:
        return VolumeRow(
            name=name,
            uid="u",
            state=VolumeState.READY,
            health=health,
            seq=1,
            version=1,
            created_at=NOON,
            changed_at=NOON,
        )

    async def tale() -> None:
        house.views.rows = {
            "pg": row("pg", VolumeHealth.SPLIT),
            "plain": row("plain", None),
            "lonely": row("lonely", VolumeHealth.DEGRADED),
        }
        await house.wellbeing.look()
        assert house.figure("volume_health", volume="pg", health="split") == 1
        assert house.figure("volume_health", volume="lonely", health="degraded") == 1
        assert {name for name in ("pg", "plain", "lonely") if name in house.wellbeing.health} == {
            "pg",
            "lonely",
        }

    play(tale)


@pytest.mark.parametrize(
    ("of_stream", "of_account", "limit"),
    [(-1, -1, None), (500, -1, 500), (-1, 1000, 800), (500, 1000, 500)],
)
def test_the_log_has_a_limit_where_the_broker_tells_one(
    house: House, of_stream: int, of_account: int, limit: float | None
) -> None:
    async def answer(call: Call) -> bytes:
        if call.subject == "$JS.API.INFO":
            return msgspec.json.encode({"limits": {"max_storage": of_account}})
        told = {"config": {"max_bytes": of_stream}, "state": {"bytes": 100}}
        return msgspec.json.encode(told)

    async def tale() -> None:
        async with house.bus.serve("js", "0", [Endpoint("js", "$JS.API.>", {})], answer):
            await house.wellbeing.look()
        assert house.figure("log_bytes", stream="HWBUS_EVENTS") == 100
        assert house.figure("log_limit_bytes", stream="HWBUS_EVENTS") == limit
        free = house.figure("state_free_bytes")
        assert free is not None
        assert free > 0
        await house.wellbeing.look()
        assert house.figure("log_bytes", stream="HWBUS_EVENTS") is None

    play(tale)


def test_the_latest_backup_is_told_while_volume_and_target_are_there(house: House) -> None:
    sample = msgspec.json.decode(_SAMPLE.read_bytes(), type=BackupMade)
    made = msgspec.structs.replace(sample, volume="pg", volume_uid="u1", target="s3")
    at = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
    told = Told(("target", "-", "s3"), (made,))
    seen: Any = type("Seen", (), {"commit": told.commit(1)})
    house.wellbeing.take([seen])
    about = {"volume": "pg", "target": "s3"}
    name = "backup_last_success_timestamp_seconds"
    assert house.figure(name, **about) is None
    house.world.targets["s3"] = Target()
    house.world.volumes["pg"] = Volume(uid="u1")
    assert house.figure(name, **about) == at.timestamp()
    house.world.volumes["pg"] = Volume(uid="u2")
    assert house.figure(name, **about) is None
