"""Rows and their position are one: whatever happens between and within batches, nothing is lost."""

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import projectors.sqlite
from hwbus.ports import Stored
from projectors.asking import Plan
from projectors.projector import differing
from projectors.rows import Rows
from projectors.sqlite import AUDIT, EVENTS, Digest, SharedError, Store, schema_hash
from projectors.tables import PARKED, TABLES
from tests.unit.projectors.stories import Story, any_story, batches

VOLUMES = Plan(table="volumes", newest_first=False)


async def _digest(path: Path, events: list[Stored], records: list[Stored]) -> Digest:
    store = await Store.open(path)
    try:
        await store.apply(EVENTS, events)
        await store.apply(AUDIT, records)
        return await store.digest()
    finally:
        await store.close()


class _KilledError(Exception):
    """The process is no more."""


async def _crashing(path: Path, pieces: Sequence[tuple[str, list[Stored]]], dies: int) -> None:
    """Apply all pieces; three bits of *dies* for each say whether the process ends before it,
    whether the transaction breaks in it, and whether the process ends of that.
    """
    store = await Store.open(path)
    try:
        for i, (stream, piece) in enumerate(pieces):
            if dies >> (3 * i) & 1:
                await store.close()
                store = await Store.open(path)
            if dies >> (3 * i + 1) & 1:
                await _break_within(store, stream, piece)
            if dies >> (3 * i + 2) & 1:
                await store.close()
                store = await Store.open(path)
            # A consumer that starts again may see again what it saw last.
            again = pieces[i - 1] if i else (stream, [])
            await store.apply(*again)
            await store.apply(stream, piece)
    finally:
        await store.close()


async def _break_within(store: Store, stream: str, piece: list[Stored]) -> None:
    """Apply *piece* so that everything is written and nothing committed."""
    real = store._write

    def write(db: sqlite3.Connection, mark: int) -> None:
        real(db, mark)
        raise _KilledError

    store._write = write  # type: ignore[method-assign]
    try:
        await store.apply(stream, piece)
    except _KilledError:
        pass
    finally:
        store._write = real  # type: ignore[method-assign]


@settings(deadline=None, max_examples=40)
@given(any_story(), st.lists(st.integers(0, 200), max_size=5), st.integers(0, 2**36), st.booleans())
def test_crashes_repetitions_and_the_order_of_the_streams_leave_no_trace(
    story: Story, cuts: list[int], dies: int, audit_first: bool
) -> None:
    pieces = [(EVENTS, piece) for piece in batches(story.events, cuts)]
    records = [(AUDIT, piece) for piece in batches(story.records, cuts)]
    mixed = [*records, *pieces] if audit_first else [*pieces, *records]
    with tempfile.TemporaryDirectory() as directory:
        straight = asyncio.run(_digest(Path(directory, "straight"), story.events, story.records))
        asyncio.run(_crashing(Path(directory, "crashing"), mixed, dies))
        crashed = asyncio.run(_digest(Path(directory, "crashing"), [], []))
    assert crashed == straight


def test_rows_read_back_from_disk_go_on_as_rows_in_memory_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story().node().pool()
    for number in range(1, 30):
        story.volume(f"v{number}", number)

    async def digest(name: str) -> Digest:
        store = await Store.open(tmp_path / name)
        try:
            for i in range(0, len(story.events), 7):
                await store.apply(EVENTS, story.events[i : i + 7])
            return await store.digest()
        finally:
            await store.close()

    kept = asyncio.run(digest("kept"))
    monkeypatch.setattr("projectors.rows._KEPT_MAX", 3)
    assert asyncio.run(digest("forgetful")) == kept


def test_a_batch_that_breaks_changes_neither_rows_nor_position(tmp_path: Path) -> None:
    story = Story().node().pool().volume("pg", 1)

    async def run() -> tuple[Digest, Digest, int]:
        store = await Store.open(tmp_path / "views")
        try:
            await store.apply(EVENTS, story.events[:4])
            before = await store.digest()
            await _break_within(store, EVENTS, story.events[4:])
            return before, await store.digest(), store.positions[EVENTS].seq
        finally:
            await store.close()

    before, after, seq = asyncio.run(run())
    assert (after, seq) == (before, 4)


_VICTIM = """
import asyncio, os, pathlib, sys
from projectors.sqlite import EVENTS, Store
from tests.unit.projectors.stories import Story
async def main():
    story = Story().node().pool().volume("pg", 1)
    store = await Store.open(pathlib.Path(sys.argv[1]))
    await store.apply(EVENTS, story.events[:5])
    real = store._write
    def write(db, mark):
        real(db, mark)
        os._exit(9)
    store._write = write
    await store.apply(EVENTS, story.events[5:])
asyncio.run(main())
"""


def test_a_process_killed_within_a_batch_leaves_the_batch_before(tmp_path: Path) -> None:
    path = tmp_path / "views"
    ended = subprocess.run([sys.executable, "-c", _VICTIM, str(path)], check=False)
    assert ended.returncode == 9
    story = Story().node().pool().volume("pg", 1)
    straight = asyncio.run(_digest(tmp_path / "straight", story.events[:5], []))
    assert asyncio.run(_digest(path, [], [])) == straight
    assert asyncio.run(_digest(path, story.events, [])).positions[EVENTS] == len(story.events)


def test_a_database_of_another_schema_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story().node()
    asyncio.run(_digest(tmp_path / "views", story.events, []))
    now = schema_hash()
    monkeypatch.setattr(projectors.sqlite, "FOLD_VERSION", 4711)
    assert schema_hash() != now
    assert asyncio.run(_digest(tmp_path / "views", [], [])).positions == {EVENTS: 0, AUDIT: 0}


@pytest.mark.parametrize("damage", [b"this is no database", b"SQLite format 3\x00garbage" * 99])
def test_a_damaged_database_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "views").write_bytes(damage)
    story = Story().node()
    digest = asyncio.run(_digest(tmp_path / "views", story.events, []))
    assert digest.positions[EVENTS] == 1


def test_a_place_where_nothing_can_be_written_is_an_error_and_nothing_is_removed(
    tmp_path: Path,
) -> None:
    (tmp_path / "views").mkdir()
    with pytest.raises(sqlite3.OperationalError):
        asyncio.run(_digest(tmp_path / "views", [], []))
    assert (tmp_path / "views").is_dir()


def test_the_rows_of_one_answer_are_of_one_moment_and_say_of_which(tmp_path: Path) -> None:
    story = Story().node().pool().volume("a", 1).volume("b", 2)

    async def run() -> tuple[int, int]:
        store = await Store.open(tmp_path / "views")
        try:
            await store.apply(EVENTS, story.events[:12])
            found = await store.find(VOLUMES, limit=10, bytes_max=10_000)
            return found.seq, len(found.bodies)
        finally:
            await store.close()

    assert asyncio.run(run()) == (12, 1 + (story.events[11].subject.endswith(".b")))


def test_digests_name_the_tables_that_differ() -> None:
    kept = Digest({}, {"nodes": "a", "disks": "b"})
    assert differing(kept, Digest({}, {"nodes": "a", "disks": "c"})) == ("disks",)


def test_a_row_is_asked_for_on_disk_once_and_then_at_hand() -> None:
    asked: list[str] = []

    def load(table: str, key: str) -> bytes | None:
        asked.append(f"{table}/{key}")
        return None

    rows = Rows(load)
    for _ in range(3):
        assert rows.get(PARKED, "x") is None
    assert asked == ["parked/x"] * 3
    asked.clear()
    for table in (t for t in TABLES if t.kept):
        assert rows.get(table, "x") is rows.get(table, "x")
        assert asked == [f"{table.name}/x"]
        asked.clear()


def test_two_who_write_the_same_views_are_noticed_before_anything_is_counted_twice(
    tmp_path: Path,
) -> None:
    story = Story().node().pool().volume("pg", 1)

    async def run() -> tuple[Digest, Digest]:
        one, other = await Store.open(tmp_path / "views"), await Store.open(tmp_path / "views")
        try:
            await one.apply(EVENTS, story.events)
            before = await one.digest()
            with pytest.raises(SharedError):
                await other.apply(EVENTS, story.events)
            return before, await other.digest()
        finally:
            await one.close()
            await other.close()

    before, after = asyncio.run(run())
    assert after == before
