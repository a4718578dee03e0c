"""Reading the log of hwbus with the library: following it, projecting it, looking back in it."""

import asyncio
import gc
import hashlib
import runpy
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from eventsourcing.persistence import DataError, MapperDeserialisationError, NotSupportedError
from eventsourcing.projection import ProjectionRunner

from hwbus.eventstore import (
    CommitCounts,
    CommitsPerDay,
    Count,
    ForensicReplay,
    HwbusLog,
    LoggedCommit,
)
from schemas.commit import Commit
from schemas.grammar import Event
from tests.support.eventstore_server import broker

MONDAY = datetime(2026, 1, 5, 23, 59, tzinfo=UTC)
EXAMPLE = Path(__file__).parents[3] / "docs/examples/eventsourcing_projection.py"


class Resized(Event, frozen=True, kw_only=True, tag="volume.resized.v1"):
    size: int


class Filled(Event, frozen=True, kw_only=True, tag="pool.filled.v1"):
    free: int


class Desk:
    """Writes the log as the desk does: one commit a message, chained by hashes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._prev: dict[str, tuple[int, str]] = {}

    def commit(self, aggregate: str, *events: Event, **more: Any) -> None:
        self.commits((aggregate, events, more))

    def commits(self, *all_: tuple[str, tuple[Event, ...], dict[str, Any]]) -> None:
        messages = []
        for aggregate, events, more in all_:
            version, prev = self._prev.get(aggregate, (0, ""))
            fields: dict[str, Any] = {
                "at": MONDAY,
                "actor": "alice",
                "correlation": "op-1",
                "prev": prev,
            } | more
            commit: Commit[Any] = Commit(
                id=f"c{version}",
                command=f"cmd{version}",
                word="volume.resize.v1",
                version=version + 1,
                events=events,
                **fields,
            )
            data = msgspec.json.encode(commit)
            self._prev[aggregate] = (version + 1, hashlib.sha256(data).hexdigest())
            messages.append((f"hwbus.evt.{aggregate.replace('/', '.')}", data))
        asyncio.run(self._publish(messages))

    async def _publish(self, messages: list[tuple[str, bytes]]) -> None:
        client = await nats.connect(self.url)
        jetstream = client.jetstream()
        await jetstream.add_stream(name="HWBUS_EVENTS", subjects=["hwbus.evt.>"], allow_direct=True)
        for subject, data in messages:
            await jetstream.publish(subject, data)
        await client.close()

    async def forge(self, subject: str, data: bytes) -> None:
        await self._publish([(subject, data)])


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with broker() as running:
        monkeypatch.setenv("NATS_URL", running.url)
        written = Desk(running.url)
        written.commits(
            ("volume/-/pg", (Resized(size=1), Resized(size=2)), {}),
            ("pool/node-1/fast", (Filled(free=7),), {"cause": "event:1", "actor": "bob"}),
            ("volume/-/pg", (Resized(size=3),), {"cause": "event:2", "correlation": "op-2"}),
            ("volume/-/web", (), {"at": MONDAY + timedelta(minutes=2), "cause": "command:x"}),
        )
        yield written
        gc.collect()


def test_one_commit_is_one_notification_numbered_as_the_stream_is(desk: Desk) -> None:
    with HwbusLog() as log:
        found = log.notification_log.select(1, 10)
        assert [(one.id, one.originator_id, one.originator_version) for one in found] == [
            (1, "volume/-/pg", 1),
            (2, "pool/node-1/fast", 1),
            (3, "volume/-/pg", 2),
            (4, "volume/-/web", 1),
        ]
        assert [one.id for one in log.notification_log.select(1, 10, topics=("pool",))] == [2]
        assert log.recorder.max_notification_id() == 4
        assert log.notification_log["1,3"].next_id == "4,6"


def test_words_nobody_has_heard_of_can_be_read_all_the_same(desk: Desk) -> None:
    with ForensicReplay() as log:
        first = next(log.commits())
    assert first.commit.events == (
        {"type": "volume.resized.v1", "size": 1},
        {"type": "volume.resized.v1", "size": 2},
    )


def test_known_words_are_read_as_what_they_are_and_no_others(desk: Desk) -> None:
    class VolumesOnly(ForensicReplay):
        words = Resized

    with VolumesOnly() as log:
        history = log.history("volume", "-", "pg")
        assert [event for one in history for event in one.commit.events] == [
            Resized(size=1),
            Resized(size=2),
            Resized(size=3),
        ]
        assert [one.sequence for one in history] == [1, 3]
        with pytest.raises(MapperDeserialisationError, match="pool/node-1/fast"):
            list(log.commits())


def test_nothing_can_be_written_into_the_log(desk: Desk) -> None:
    with HwbusLog() as log:
        event = log.recorder.select_events("volume/-/pg")[0]
        with pytest.raises(NotSupportedError):
            log.recorder.insert_events([event])
        with pytest.raises(NotSupportedError):
            log.mapper.to_stored_event(log.mapper.to_domain_event(event))
        with pytest.raises(DataError):
            log.recorder.select_events("volume/*/>")


def test_any_moment_of_the_past_can_be_replayed(desk: Desk) -> None:
    def _sizes(sizes: dict[str, int], logged: LoggedCommit) -> dict[str, int]:
        for event in logged.commit.events:
            if event["type"] == "volume.resized.v1":
                sizes = sizes | {logged.id: event["size"]}
        return sizes

    with ForensicReplay() as log:
        nothing: dict[str, int] = {}
        assert log.replay(_sizes, nothing, until=2) == {"pg": 2}
        assert log.replay(_sizes, nothing) == {"pg": 3}
        assert log.replay(_sizes, nothing, kinds=("pool",)) == {}


def test_why_something_is_so_can_be_followed_to_its_first_cause(desk: Desk) -> None:
    with ForensicReplay() as log:
        assert [one.sequence for one in log.causes(3)] == [3, 2, 1]
        assert [one.sequence for one in log.causes(4)] == [4]
        assert [one.sequence for one in log.belonging_to("op-1")] == [1, 2, 4]
        with pytest.raises(LookupError):
            log.causes(99)


def test_a_commit_that_does_not_fit_its_predecessor_is_found(desk: Desk) -> None:
    with ForensicReplay() as log:
        assert list(log.tampered()) == []
        desk.commit("volume/-/pg", Resized(size=9), prev="0" * 64)
        found = list(log.tampered())
        assert [(one.sequence, one.aggregate, one.claimed) for one in found] == [
            (5, "volume/-/pg", "0" * 64)
        ]
        assert list(log.tampered(until=4)) == []


def test_what_is_no_commit_stops_the_reader_and_says_where(desk: Desk) -> None:
    asyncio.run(desk.forge("hwbus.evt.volume.-.pg", b"not json"))
    with ForensicReplay() as log, pytest.raises(DataError, match="at 5"):
        list(log.commits())


def test_commits_are_counted_once_by_day_kind_and_actor(desk: Desk) -> None:
    for _ in range(2):  # the second runner finds the position of the first
        runner = ProjectionRunner(
            application_class=HwbusLog,
            projection_class=CommitsPerDay,
            view_class=CommitCounts,
            env={"PERSISTENCE_MODULE": "hwbus.eventstore"},
        )
        with runner:
            runner.wait(4, timeout=10)
            counts = runner.view.counts()
            assert counts == [
                Count(day=date(2026, 1, 5), kind="pool", actor="bob", commits=1),
                Count(day=date(2026, 1, 5), kind="volume", actor="alice", commits=2),
                Count(day=date(2026, 1, 6), kind="volume", actor="alice", commits=1),
            ]
            assert runner.view.per_actor() == {"alice": 3, "bob": 1}
            assert runner.view.per_kind_and_day()[date(2026, 1, 5), "volume"] == 2
        runner.view.close()


def test_a_projection_hears_of_new_commits_while_it_runs(desk: Desk) -> None:
    runner = ProjectionRunner(
        application_class=HwbusLog,
        projection_class=CommitsPerDay,
        view_class=CommitCounts,
        env={"PERSISTENCE_MODULE": "hwbus.eventstore"},
    )
    with runner:
        desk.commit("volume/-/pg", Resized(size=4), actor="carol")
        runner.wait(5, timeout=10)
        assert runner.view.per_actor()["carol"] == 1
    runner.view.close()


def test_the_example_in_the_documentation_works(desk: Desk, tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLE))
    with example["runner"](LASTDECIDED_SQLITE_DBNAME=str(tmp_path / "view.db")) as running:
        running.wait(4, timeout=10)
        assert running.view.last_decided() == {
            "pool/node-1/fast": (MONDAY.isoformat(), "bob"),
            "volume/-/pg": (MONDAY.isoformat(), "alice"),
            "volume/-/web": ((MONDAY + timedelta(minutes=2)).isoformat(), "alice"),
        }
    running.view.datastore.close()
