"""Nodes with much to do are kept apart, and nobody is moved for nothing."""

import os
from collections.abc import Iterator
from random import Random

import pytest

from hwbus.lab.uml.processors import Load, better, first_home


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


def test_the_nodes_of_a_lab_begin_on_different_processors() -> None:
    assert first_home(1) != first_home(2)
    assert first_home(1) == first_home(3)
