"""Views are compared with the log and made anew while they are used."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import projectors.fold
import projectors.sqlite
from hwbus.ports import Call
from projectors import past, tables
from projectors.projector import Projector
from projectors.reading import Seen
from projectors.rows import Changes, Rows, put
from projectors.service import Views
from projectors.tables import Table
from projectors.upkeep import Upkeep, listed
from schemas.answers import Refused
from schemas.grammar import Event
from schemas.queries import Page
from schemas.refusals import Refusal
from schemas.upkeep import Job, JobState
from schemas.views import Row
from tests.support.clock import NOON
from tests.unit.projectors.stories import Bench, Story
from tests.unit.projectors.stories import put as append

ANSWER: msgspec.json.Decoder[Page[Job] | Refused] = msgspec.json.Decoder(Page[Job] | Refused)


class House:
    """A projector at work, its upkeep, and its file to be meddled with."""

    def __init__(self, bench: Bench, projector: Projector, upkeep: Upkeep) -> None:
        self.bench = bench
        self.projector = projector
        self._upkeep = upkeep
        self.views = Views(projector)

    async def ask(self, subject: str, **asked: Any) -> Job | Refused:
        answer = ANSWER.decode(await self._upkeep(Call(subject, msgspec.json.encode(asked), {})))
        return answer if isinstance(answer, Refused) else answer.items[0]

    async def begin(self, kind: str, *views: str) -> Job:
        job = await self.ask(f"hwbus.views.{kind}", views=views)
        assert isinstance(job, Job), job
        return job

    async def done(self, job: Job) -> Job:
        ended = await self.ask(job.ask, job=job.job, wait_ms=20_000)
        assert isinstance(ended, Job), ended
        assert ended.ended == NOON
        return ended

    async def work(self, kind: str, *views: str) -> Job:
        return await self.done(await self.begin(kind, *views))

    def meddle(self, sql: str, *values: object) -> None:
        db = sqlite3.connect(self.bench.path, timeout=10)
        with db:
            assert db.execute(sql, values).rowcount > 0
        db.close()


@asynccontextmanager
async def a_house(path: Path, story: Story) -> AsyncIterator[House]:
    bench = Bench(path)
    await bench.tell(story)
    async with asyncio.timeout(60), bench.running() as projector:
        await projector.caught_up.wait()
        async with Upkeep(projector, "me", bench.clock.now).working() as upkeep:
            yield House(bench, projector, upkeep)


def on(path: Path, story: Story, scene: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        async with a_house(path, story) as house:
            await scene(house)

    asyncio.run(run())


def _story() -> Story:
    story = Story().node().disk("d1").pool()
    for number, name in enumerate(("a", "b", "c"), 1):
        story.volume(name, number)
    return story


def test_views_that_are_right_are_found_right(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        job = await house.work("fsck")
        assert (job.state, job.differing, job.found) == (JobState.DONE, 0, ())
        assert (job.seq, job.rows > 30) == (29, True)
        assert len(job.views) == len(tables.TABLES)

    on(tmp_path / "views", _story(), scene)


@pytest.mark.parametrize(
    ("sql", "view", "key", "at", "sides"),
    [
        (
            "UPDATE volumes SET body = replace(body, 'ready', 'gone') WHERE key = 'b'",
            "volumes",
            "b",
            0,
            ('"gone"', '"ready"'),
        ),
        ("UPDATE volumes SET state = 'gone' WHERE key = 'b'", "volumes", "b", 0, ("{", "{")),
        ("DELETE FROM volumes WHERE key = 'b'", "volumes", "b", 0, (None, "{")),
        ("INSERT INTO nodes (key, body) VALUES ('n9', '{}')", "nodes", "n9", 0, ("{}", None)),
        ("UPDATE audit SET body = 'x' WHERE seq = 3", "audit", None, 0, ("x", "{")),
        ("DELETE FROM past_pools WHERE mark = 10", "pools", "n1/fast", 10, (None, "{")),
    ],
)
def test_a_row_corrupted_by_hand_is_named_with_both_sides(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sql: str,
    view: str,
    key: str | None,
    at: int,
    sides: tuple[str | None, str | None],
) -> None:
    monkeypatch.setattr(past, "EVERY", 10)

    async def scene(house: House) -> None:
        house.meddle(sql)
        job = await house.work("fsck")
        (found,) = job.found
        assert (job.state, job.differing) == (JobState.DONE, 1)
        assert (found.view, key or found.key, found.past) == (view, found.key, at)
        for side, part in zip((found.kept, found.made), sides, strict=True):
            assert (side is None) is (part is None)
            assert side is None or str(part) in side
        # What is wrong is put right by making that view anew.
        assert (await house.work("rebuild", view)).state is JobState.DONE
        assert (await house.work("fsck", view)).differing == 0

    on(tmp_path / "views", _story(), scene)


def test_one_view_is_made_anew_and_the_others_are_left_as_they_are(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        house.meddle("DELETE FROM volumes WHERE key = 'b'")
        house.meddle("DELETE FROM nodes")
        await house.work("rebuild", "volumes")
        job = await house.work("fsck")
        assert [row.view for row in job.found] == ["nodes"]
        await house.work("rebuild")
        assert (await house.work("fsck")).differing == 0

    on(tmp_path / "views", _story(), scene)


@pytest.mark.parametrize("view", [None, "volumes"])
def test_views_made_anew_under_load_come_back_whole_and_questions_go_on(
    tmp_path: Path, view: str | None
) -> None:
    async def scene(house: House) -> None:
        over = asyncio.Event()
        told = _story()
        told.events.clear()

        async def load() -> None:
            number = 0
            while not over.is_set():
                number += 1
                cut = len(told.events)
                told.volume(f"w{number}", 100 + number)
                for stored in told.events[cut:]:
                    seq = await append(house.bench.events, stored.subject, stored.data)
                    assert await house.projector.reached(seq, within_s=20)

        async def look() -> int:
            known, looks = 0, 0
            while not over.is_set():
                call = Call("hwbus.q.volumes", b'{"limit": 5000}', {})
                page = msgspec.json.decode(await house.views(call))
                # Never fewer than before, and never fewer than the log had at that sequence.
                assert len(page["items"]) >= max(known, 3)
                known, looks = len(page["items"]), looks + 1
            return looks

        loading, looking = asyncio.create_task(load()), asyncio.create_task(look())
        for _ in range(2):
            assert (await house.work("rebuild", *([view] if view else []))).state is JobState.DONE
        over.set()
        await loading
        assert await looking > 3
        head = await house.bench.events.head()
        assert head > 40
        assert await house.projector.reached(head, within_s=20)
        job = await house.work("fsck")
        assert (job.seq, job.differing) == (head, 0)

    on(tmp_path / "views", _story(), scene)


def test_one_work_at_a_time_and_only_on_views_that_there_are(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        job = await house.begin("fsck")
        assert (job.state, job.ask) == (JobState.RUNNING, "hwbus.views.job.me")
        busy = await house.ask("hwbus.views.rebuild")
        assert isinstance(busy, Refused)
        assert busy.code is Refusal.VIEWS_BUSY
        await house.done(job)
        for subject, asked in (
            ("hwbus.views.fsck", {"views": ["moods"]}),
            ("hwbus.views.rebuild", {"colour": "red"}),
            (job.ask, {"job": "you-1"}),
        ):
            refused = await house.ask(subject, **asked)
            assert isinstance(refused, Refused)
            assert refused.code is Refusal.MALFORMED

    on(tmp_path / "views", _story(), scene)


def test_work_that_breaks_says_so_and_leaves_the_views_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(house: House) -> None:
        def broken(**_: Any) -> None:
            raise OSError("no such disk")

        monkeypatch.setattr(house.bench.events, "follow", broken)
        for kind in ("fsck", "rebuild"):
            job = await house.work(kind)
            assert (job.state, "no such disk" in job.because) == (JobState.FAILED, True)
        monkeypatch.undo()
        assert (await house.work("fsck")).differing == 0

    on(tmp_path / "views", _story(), scene)
    assert {path.name for path in tmp_path.iterdir()} <= {"views", "views-shm", "views-wal"}


def test_the_list_of_views_says_how_many_rows_each_has_and_how_far_it_is(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        rows = {row.name: row for row in await listed(house.projector)}
        assert (rows["volumes"].rows, rows["volumes"].position, rows["volumes"].inner) == (
            3,
            29,
            False,
        )
        assert rows["claims"].inner
        assert rows["drift-past"].rows == 0
        call = Call("hwbus.q.views", b'{"where": {"name": "audit"}}', {})
        (told,) = msgspec.json.decode(await house.views(call))["items"]
        assert (told["rows"], told["lag_events"]) == (29, 0)

    on(tmp_path / "views", _story(), scene)


class _TallyRow(Row, frozen=True, kw_only=True):
    """How many commits there were about an object."""

    commits: int


def test_a_view_that_is_added_later_covers_the_whole_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally: Table[_TallyRow] = Table("tally", _TallyRow)

    def counted(rows: Rows, seen: Seen, _event: Event) -> Changes:
        row = rows.get(tally, str(seen.address))
        commits = 1 if row is None else row.commits + 1
        yield put(tally, str(seen.address), _TallyRow(commits=commits))

    async def scene(_: House) -> None:
        return

    async def later(house: House) -> None:
        async with house.projector.reading() as store:
            base = await store.base_of(15)
            log = [await house.bench.events.get(seq) for seq in range(base + 1, 16)]
            then = await store.make(base, [stored for stored in log if stored is not None])
            assert then.changed["tally"]["volume/a"] == b'{"commits":2}'
        db = sqlite3.connect(house.bench.path)
        told = dict(db.execute("SELECT key, CAST(body AS TEXT) FROM tally").fetchall())
        db.close()
        assert told["volume/a"] == '{"commits":2}'
        assert sum(msgspec.json.decode(row)["commits"] for row in told.values()) == 29
        assert (await house.work("fsck", "tally")).differing == 0

    on(tmp_path / "views", _story(), scene)
    every = (*tables.TABLES, tally)
    monkeypatch.setattr(tables, "TABLES", every)
    monkeypatch.setattr(projectors.sqlite, "TABLES", every)
    views = {kind: (*each, counted) for kind, each in projectors.fold._VIEWS.items()}
    monkeypatch.setattr(projectors.fold, "_VIEWS", views)
    on(tmp_path / "views", _story(), later)
