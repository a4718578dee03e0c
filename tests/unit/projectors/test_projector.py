"""The projector follows, waits, parks, checks and makes anew."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hwbus.ports import ForbiddenError, LogFullError, NobodyThereError, OutcomeUnknownError
from projectors.comparing import differences
from projectors.projector import StreamRemadeError
from projectors.sqlite import AUDIT, EVENTS, Store
from projectors.tables import AUDIT as TABLE_OF_AUDIT
from projectors.tables import NODES, TABLES
from schemas.node import NodeCordoned
from tests.unit.projectors.stories import AuditLog, Bench, Story, put, tool, until


def _story() -> Story:
    story = Story().node().disk("d1").pool().volume("pg", 1)
    story.note("hwbus.audit.executed.n1", tool(story, "event:9"))
    return story


def test_what_is_in_the_log_is_soon_in_the_views_and_further_events_follow(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        bench, story = Bench(tmp_path / "views"), _story()
        await bench.tell(story)
        async with bench.running() as projector:
            async with asyncio.timeout(10):
                await projector.caught_up.wait()
            assert projector.seq == len(story.events)
            more = Story().node("n9").events[0]
            seq = await put(bench.events, more.subject, more.data)
            assert await projector.reached(seq, within_s=10)

    asyncio.run(run())


def test_waiting_for_what_has_not_happened_ends_in_time_and_says_no(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path / "views")
        async with bench.running() as projector:
            assert not await projector.reached(1, within_s=0.01)
            waiting = asyncio.create_task(projector.reached(1, within_s=10))
            await bench.tell(Story().node())
            assert await waiting

    asyncio.run(run())


def test_a_projector_that_starts_again_goes_on_where_it_was(tmp_path: Path) -> None:
    async def run() -> None:
        bench, story = Bench(tmp_path / "views"), _story()
        await bench.tell(story)
        for _ in range(2):
            async with bench.running() as projector:
                assert await projector.reached(len(story.events), within_s=10)
        store = await Store.open(bench.path)
        try:
            assert store.positions[EVENTS].seq == len(story.events)
        finally:
            await store.close()

    asyncio.run(run())


def test_a_stream_that_was_made_anew_is_noticed_and_the_views_begin_anew(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path / "views")
        await bench.tell(_story())
        async with bench.running() as projector:
            await projector.caught_up.wait()
        other = Bench(tmp_path / "views")
        await other.tell(Story().node("other").node("more"))
        async with other.running() as projector:
            await projector.caught_up.wait()
            assert projector.seq == 2
            assert (await projector.check()).tables == ()
        empty = Bench(tmp_path / "views")
        async with empty.running() as projector:
            assert projector.seq == 0

    asyncio.run(run())


def test_rows_of_records_that_are_archived_and_gone_outlive_a_restart_and_a_rebuild(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        bench, story = Bench(tmp_path / "views"), _story()
        story.note("hwbus.audit.executed.n1", b"no record")
        story.note("hwbus.audit.executed.n1", tool(story, "event:9"))
        await bench.tell(story)
        async with bench.running() as projector:
            # What was parked is told on the audit, too.
            told = len(story.records) + 1
            await until(lambda: projector.store.positions[AUDIT].seq == told)
            rows = await projector.store.count(["audit", "parked"])
            before = await projector.store.digest()
        bench.audit.log.purge(2)
        async with bench.running() as projector:
            await projector.caught_up.wait()
            generation = projector.generation
            for only in (None, [TABLE_OF_AUDIT]):
                await projector.rebuild(only)
                assert await projector.store.count(["audit", "parked"]) == rows
                assert (await projector.check()).tables == ()
                assert (await projector.store.digest()).tables == before.tables
            assert projector.generation > generation
            async with projector.compared() as compared:
                assert await compared.look(differences, TABLES, at_most=9) == (0, ())

    asyncio.run(run())


def test_a_stream_that_goes_back_while_it_is_followed_ends_the_projector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projectors.projector._LOOK_S", 0.01)

    async def run() -> None:
        bench = Bench(tmp_path / "views")
        await bench.tell(_story())
        async with bench.running() as projector:
            await projector.caught_up.wait()
            bench.events._messages.clear()
            async with asyncio.timeout(10):
                await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as ended:
        asyncio.run(run())
    assert ended.group_contains(StreamRemadeError)


class _ShyOutlet(AuditLog):
    """Fails the first times."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__()
        self.failures = list(failures)

    async def keep(self, subject: str, data: bytes, *, message_id: str) -> None:
        if self.failures:
            raise self.failures.pop()
        await super().keep(subject, data, message_id=message_id)


def test_parked_messages_get_on_the_audit_stream_once_even_if_it_fails_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projectors.projector._LOOK_S", 0.01)

    async def run() -> None:
        outlet = _ShyOutlet(
            OutcomeUnknownError("not now"), LogFullError("full"), ForbiddenError("no")
        )
        bench = Bench(tmp_path / "views", outlet=outlet)
        story = Story().node()
        story.write("hwbus.evt.node.-.n1x", b"{oops")
        story.say(NodeCordoned(node="n1"))
        await bench.tell(story)
        async with bench.running() as projector:
            assert await projector.reached(3, within_s=10)
            async with asyncio.timeout(10):
                while await outlet.log.head() == 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
            assert {row.stream: row.parked for row in projector.status()} == {EVENTS: 1, AUDIT: 0}
        async with bench.running() as projector:
            await projector.caught_up.wait()
            assert {row.stream: row.parked for row in projector.status()} == {EVENTS: 1, AUDIT: 0}
            async with projector.reading() as store:
                assert await store.untold(10) == []
        kept = await outlet.log.history("hwbus.audit.parked.projectors")
        assert len(kept) == 1
        assert b'"seq":2' in kept[0].data

    asyncio.run(run())


def test_rows_made_anew_are_the_same_and_take_the_place_of_the_old(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path / "views")
        await bench.tell(_story())
        async with bench.running() as projector:
            await projector.caught_up.wait()
            async with projector.reading() as store:
                before = await store.digest()
            await projector.rebuild()
            async with projector.reading() as store:
                assert await store.digest() == before
            assert (await projector.check()).tables == ()
            more = Story().node("n9").events[0]
            seq = await put(bench.events, more.subject, more.data)
            assert await projector.reached(seq, within_s=10)

    asyncio.run(run())
    assert [path.name for path in tmp_path.iterdir()] == ["views"]


def test_a_check_names_the_tables_that_somebody_tampered_with(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path / "views")
        await bench.tell(_story())
        async with bench.running() as projector:
            await projector.caught_up.wait()
            async with projector.reading() as store:
                await store._writer.execute("UPDATE nodes SET body = replace(body, 'n1', 'n2')")
            assert (await projector.check()).tables == (NODES.name,)
            await projector.rebuild()
            assert (await projector.check()).tables == ()

    asyncio.run(run())


def test_the_lag_counts_events_and_seconds_since_the_last_one_that_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projectors.projector._LOOK_S", 0.01)

    async def run() -> None:
        bench = Bench(tmp_path / "views")
        await bench.tell(Story().node())
        async with bench.running() as projector:
            await projector.caught_up.wait()
            assert [row.lag_events for row in projector.status()] == [0, 0]
            async with projector._turn:
                await bench.tell(Story().node("n2").node("n3"))
                bench.clock.move(seconds=5)
                await until(lambda: projector.status()[0].lag_events == 2)
                assert projector.status()[0].lag_s == 5
            assert await projector.reached(3, within_s=10)
            assert projector.status()[0].lag_s == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    "trouble", [OutcomeUnknownError("nobody leads"), NobodyThereError("there is no stream")]
)
def test_a_head_that_is_not_known_is_told_once_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    monkeypatch.setattr("projectors.projector._LOOK_S", 0.01)
    asked = 0

    async def nobody() -> int:
        nonlocal asked
        asked += 1
        raise trouble

    async def run() -> None:
        bench = Bench(tmp_path / "views")
        async with bench.running() as projector:
            await projector.caught_up.wait()
            with monkeypatch.context() as broken, capture_logs() as logs:
                broken.setattr(bench.events, "head", nobody)
                await until(lambda: asked > 3)
            assert [o["log_level"] for o in logs if "head" in o["event"]].count("warning") == 1
            await bench.tell(Story().node())
            await until(lambda: projector.status()[0].head == 1)

    asyncio.run(run())
