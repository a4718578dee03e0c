"""Nodes with much to do are kept apart, and nobody is moved for nothing."""

import asyncio
import os
from collections.abc import Iterator
from random import Random
from typing import ClassVar

import pytest

from hwbus.lab.uml import processors
from hwbus.lab.uml.processors import Kernel, Load, better, first_home, keep_spread
from tests.support.virtual_time import run_virtually


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.mark.parametrize(
    ("loads", "mine", "move"),
    [
        pytest.param({1: (0.5, 0), 2: (0.5, 0)}, (1, 2), (1, 1), id="two on one"),
        pytest.param({1: (0.5, 0), 2: (0.5, 0)}, (2,), (2, 1), id="one of them is another's"),
        pytest.param({1: (0.5, 0), 2: (0.5, 1)}, (1, 2), None, id="apart already"),
        pytest.param({1: (1.0, 0)}, (1,), None, id="alone"),
        pytest.param({1: (0.5, 0), 2: (0.5, 0), 3: (0.4, 1)}, (1, 2), None, id="no room"),
        pytest.param({1: (0.9, 0), 2: (0.1, 0)}, (1, 2), None, id="not worth it"),
        pytest.param({1: (0.3, 0), 2: (0.6, 0), 3: (0.1, 1)}, (1, 2), (1, 1), id="the fitting one"),
        pytest.param({1: (0.5, 0), 2: (0.5, 0)}, (), None, id="all are others'"),
        pytest.param({1: (0.5, 0), 2: (0.5, 0)}, (3, 2), (2, 1), id="one is new"),
        pytest.param({1: (0.9, 7), 2: (0.2, 0)}, (1,), None, id="on a processor that is not ours"),
        pytest.param(
            {1: (0.5, 0), 2: (0.5, 0), 3: (0.3, 1), 4: (0.1, 7)}, (1,), (1, 1), id="none but ours"
        ),
        pytest.param({}, (), None, id="nobody"),
    ],
)
def test_who_is_moved(
    loads: dict[int, tuple[float, int]], mine: tuple[int, ...], move: tuple[int, int] | None
) -> None:
    assert better({pid: Load(*load) for pid, load in loads.items()}, mine) == move


def test_however_nodes_are_it_ends_and_no_processor_is_fuller_than_before() -> None:
    for seed in range(300):
        loads = dict(_anyhow(Random(seed)))
        fullest = [_fullest(loads)]
        while (move := better(loads, list(loads))) is not None:
            loads[move[0]] = Load(loads[move[0]].share, move[1])
            fullest.append(_fullest(loads))
            assert len(fullest) <= 20
        assert fullest == sorted(fullest, reverse=True)


def _anyhow(chance: Random) -> Iterator[tuple[int, Load]]:
    for pid in range(chance.randint(1, 9)):
        yield pid, Load(chance.random() / 3, chance.randint(0, 1))


def _fullest(loads: dict[int, Load]) -> float:
    return max(sum(one.share for one in loads.values() if one.home == cpu) for cpu in (0, 1))


class Host:
    """Four nodes of two labs, how much they have to do, and where they are kept."""

    LAUNCHERS: ClassVar = {1: 10, 2: 20, 3: 30, 4: 40}
    SHARES: ClassVar = {1: 0.4, 2: 0.4, 3: 0.0, 4: 0.1}

    def __init__(self) -> None:
        self.homes = {1: 0, 2: 0, 3: 0, 4: 1}
        self.moved: list[tuple[int, int]] = []

    def kernels(self) -> dict[int, Kernel]:
        worked_s = asyncio.get_running_loop().time()
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        return {
            pid: Kernel(parent=self.LAUNCHERS[pid], ticks=int(share * worked_s / tick_s))
            for pid, share in self.SHARES.items()
        }

    def move(self, pid: int, cpu: int) -> None:
        self.moved.append((pid, cpu))
        self.homes[pid] = cpu


@pytest.mark.parametrize(("ours", "moved"), [({10, 20}, [(1, 1)]), ({30, 40}, []), (set(), [])])
def test_a_lab_moves_its_own_nodes_and_only_until_they_are_spread(
    ours: set[int], moved: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tale() -> None:
        host = Host()
        monkeypatch.setattr(processors, "_kernels", host.kernels)
        monkeypatch.setattr(processors, "_home", lambda pid: {host.homes[pid]})
        monkeypatch.setattr(processors, "move", host.move)
        task = asyncio.create_task(keep_spread(lambda: ours))
        await asyncio.sleep(60)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert host.moved == moved

    run_virtually(tale)


def test_the_nodes_of_a_lab_begin_on_different_processors() -> None:
    assert first_home(1) != first_home(2)
    assert first_home(1) == first_home(3)
