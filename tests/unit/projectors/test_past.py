"""What was shown live at any sequence can be shown for ever."""

import asyncio
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwbus.ports import Stored
from projectors import past
from projectors.asking import Plan
from projectors.past import ThinnedError
from projectors.points import Looking
from projectors.service import Readable
from projectors.sqlite import AUDIT, EVENTS, Store
from projectors.tables import TABLES, VOLUMES
from schemas.node import NodeCordoned, NodeUncordoned
from tests.unit.projectors.stories import Story, any_story, batches, tool

Hashes = dict[str, str]


@pytest.fixture
def close_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "EVERY", 3)
    monkeypatch.setattr(past, "MARKS_MAX", 4)


async def hashes(rows: Readable, *, page: int = 1000) -> Hashes:
    """Return a fingerprint of each table, read page after page."""
    told: Hashes = {}
    for table in TABLES:
        sha, behind = hashlib.sha256(), ""
        while True:
            plan = Plan(table=table.name, newest_first=table.newest_first, behind=behind)
            found = await rows.find(plan, limit=page, bytes_max=1 << 20)
            for body in found.bodies:
                sha.update(body + b"\n")
            if found.next_key is None:
                break
            behind = found.next_key
        told[table.name] = sha.hexdigest()
    return told


async def then(store: Store, events: Sequence[Stored], seq: int) -> Looking:
    """Return the rows as they were at *seq*, the log being *events*."""
    base = await store.base_of(seq)
    return Looking(store, await store.make(base, events[base:seq]))


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(any_story(), st.lists(st.integers(0, 200), max_size=6), st.integers(1, 5))
def test_any_point_shows_what_was_shown_then_in_whatever_batches_it_was_read(
    close_marks: None, story: Story, cuts: list[int], page: int
) -> None:
    async def run(folder: Path) -> None:
        live: list[Hashes] = []
        one_by_one = await Store.open(folder / "live")
        at_once = await Store.open(folder / "views")
        try:
            for stored in story.events:
                await one_by_one.apply(EVENTS, [stored])
                live.append(await hashes(one_by_one))
            for piece in batches(story.events, cuts):
                await at_once.apply(EVENTS, piece)
            for store in (one_by_one, at_once):
                for seq in range(1, len(live) + 1):
                    looking = await then(store, story.events, seq)
                    assert await hashes(looking, page=page) == live[seq - 1], seq
        finally:
            await one_by_one.close()
            await at_once.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(Path(directory)))


def _long(events: int) -> Story:
    story = Story().node().pool()
    while len(story.events) < events:
        word = NodeCordoned if len(story.events) % 2 else NodeUncordoned
        story.say(word(node="n1"))
        if len(story.events) % 10 == 0:
            story.volume(f"v{len(story.events)}", len(story.events))
    return story


def test_marks_stay_few_however_long_the_log_is(tmp_path: Path, close_marks: None) -> None:
    story = _long(200)

    async def run() -> None:
        store = await Store.open(tmp_path / "views")
        try:
            for piece in batches(story.events, [17, 90, 91, 150]):
                await store.apply(EVENTS, piece)
            bases = {await store.base_of(seq) for seq in range(1, len(story.events) + 1)}
            assert 2 < len(bases) <= past.MARKS_MAX + 1
        finally:
            await store.close()

    asyncio.run(run())


def test_a_point_whose_mark_was_taken_away_is_never_shown_from_what_is_left(
    tmp_path: Path, close_marks: None
) -> None:
    story = _long(60)

    async def run() -> None:
        store = await Store.open(tmp_path / "views")
        try:
            await store.apply(EVENTS, story.events[:12])
            looking = await then(store, story.events, 11)
            await store.apply(EVENTS, story.events[12:])
            with pytest.raises(ThinnedError):
                await hashes(looking)
            with pytest.raises(ThinnedError):
                await store.make(9, story.events[9:11])
        finally:
            await store.close()

    asyncio.run(run())


def test_a_point_is_asked_by_columns_as_the_present_is(tmp_path: Path, close_marks: None) -> None:
    story = Story().node().pool().volume("a", 1).volume("b", 2)

    async def run() -> list[str]:
        store = await Store.open(tmp_path / "views")
        try:
            await store.apply(EVENTS, story.events)
            looking = await then(store, story.events, len(story.events) - 1)
            plan = Plan(table="volumes", newest_first=False, equal=(("state", "ready"),))
            found = await looking.find(plan, limit=9, bytes_max=1 << 20)
            return [VOLUMES.decode(body).name for body in found.bodies]
        finally:
            await store.close()

    assert asyncio.run(run()) == ["a", "b"]


def test_records_of_the_audit_stream_are_shown_up_to_the_moment(tmp_path: Path) -> None:
    story = Story().node()
    for _ in range(3):
        story.note("hwbus.audit.executed.n1", tool(story, "event:1"))
        story.say(NodeCordoned(node="n1"))
        story.note("hwbus.audit.executed.n1", b"\xff")

    async def run(seq: int) -> tuple[int, int]:
        store = await Store.open(tmp_path / f"views{seq}")
        try:
            await store.apply(EVENTS, story.events)
            await store.apply(AUDIT, story.records)
            looking = await then(store, story.events, seq)
            audit = await looking.find(
                Plan(table="audit", newest_first=True), limit=99, bytes_max=1 << 20
            )
            parked = await looking.find(
                Plan(table="parked", newest_first=False), limit=99, bytes_max=1 << 20
            )
            return len(audit.bodies), len(parked.bodies)
        finally:
            await store.close()

    # Commit 3 is preceded by two tools that ran and by one record that nobody could read.
    assert asyncio.run(run(3)) == (3 + 2, 1)
