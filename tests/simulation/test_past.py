"""After a random day of a small cluster, any point of it can be shown as it was shown then."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from hwbus.ports import Stored
from projectors import past
from projectors.sqlite import EVENTS, Store
from tests.simulation.test_operations import Day
from tests.support.virtual_time import run_virtually
from tests.unit.projectors.test_past import Hashes, hashes, then

POINTS = 100


def _lived(seed: int) -> list[Stored]:
    """Return the log of one seeded day: commands race, workers and control planes die."""
    log: list[Stored] = []

    async def tale() -> None:
        day = Day(seed)
        await day.play()
        for seq in range(1, await day.stage.log.head() + 1):
            stored = await day.stage.log.get(seq)
            assert stored is not None
            log.append(stored)

    run_virtually(tale)
    return log


@pytest.mark.parametrize(("seed", "marks"), [(1, 256), (2, 4)])
def test_a_hundred_random_points_of_a_random_day_are_as_they_were_live(
    seed: int, marks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "EVERY", 6)
    monkeypatch.setattr(past, "MARKS_MAX", marks)
    events, chance = _lived(seed), Random(seed)
    points = set(chance.sample(range(1, len(events) + 1), POINTS))

    async def run() -> None:
        store = await Store.open(tmp_path / "views")
        try:
            live: dict[int, Hashes] = {}
            while (seq := store.positions[EVENTS].seq) < len(events):
                end = min(seq + chance.randint(1, 9), *(p for p in points if p > seq), len(events))
                await store.apply(EVENTS, events[seq:end])
                if end in points:
                    live[end] = await hashes(store)
            assert len(live) == POINTS
            for point in sorted(points, key=lambda _: chance.random()):
                assert await hashes(await then(store, events, point)) == live[point], point
        finally:
            await store.close()

    asyncio.run(run())
