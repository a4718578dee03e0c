"""The past, decided again with other weights of placement; with the same it must be what it was."""

import asyncio
from random import Random

import pytest

from aggregates.placement import Weights
from schemas.volume import ProvisionVolume
from tests.support.cli import Stage
from tests.support.given import GIB
from tests.support.stage import ScriptedNode
from tests.support.stage import Stage as ControlPlane
from tests.support.virtual_time import VirtualClock, run_virtually


def a_past(stage: Stage, weights: Weights, *wishes: ProvisionVolume) -> None:
    """Let *wishes* be done one after another on two nodes, and put the log before the stage."""

    async def tale() -> None:
        house = ControlPlane(VirtualClock())
        nodes = [ScriptedNode(house, name, Random(name)) for name in ("n1", "n2")]
        async with house.control_plane():
            house.world.weights = weights
            tasks = [asyncio.create_task(node.work()) for node in nodes]
            for node in nodes:
                await node.join()
                await house.accepted(node.form(2))
            await house.settled()
            for wish in wishes:
                await house.accepted(wish)
                await house.settled()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for seq in range(1, await house.log.head() + 1):
            stored = await house.log.get(seq)
            assert stored is not None
            stage.past.append((stored.subject, stored.data))

    run_virtually(tale)


def new(name: str, size_gib: int, node: str | None = None) -> ProvisionVolume:
    return ProvisionVolume(volume=name, size_bytes=size_gib * GIB, node=node)


PAST = (new("a", 10), new("b", 1), new("c", 1), new("d", 1))


def test_what_would_be_elsewhere_is_told_beside_what_was(stage: Stage) -> None:
    a_past(stage, Weights(), *PAST)
    done = stage.run("policy", "backtest", "--crowd", "100000")
    assert done.code == 0, done.err
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert lines == [
        "WEIGHTS LEGS FAILED MOVES IMBALANCE WORST",
        "now 4 0 0 17.5% 25.0%",
        "tried 4 0 0 22.5% 25.0%",
        "",
        "Differences",
        "VOLUME WAS WOULD-BE",
        "d n2/fast n1/fast",
    ]
    assert "the weights of now give what was; nothing was changed" in done.err
    assert stage.heard == []
    shape = stage.run("policy", "backtest", "--crowd", "100000", "-o", "json").json
    assert shape["kind"] == "Backtest"
    [told] = shape["items"]
    assert told["weights"]["crowd"] == 100_000
    assert told["weights"]["room"] == Weights().room
    assert told["differences"] == [{"volume": "d", "was": ["n2/fast"], "would_be": ["n1/fast"]}]
    assert stage.run("policy", "backtest", "--crowd", "100000", "-o", "name").out == "volume/d\n"


def test_the_weights_of_now_change_nothing(stage: Stage) -> None:
    a_past(stage, Weights(), *PAST)
    done = stage.run("policy", "backtest", "--room", str(Weights().room))
    assert done.code == 0
    assert "every leg would be where it was" in done.err


def test_what_would_have_found_no_place_is_named(stage: Stage) -> None:
    a_past(stage, Weights(), new("a", 10), new("b", 20), new("c", 25, "n1"))
    done = stage.run("policy", "backtest", "--room", "0", "--crowd", "0")
    assert done.code == 0, done.err
    assert "would fail: ProvisionVolume c" in done.err


def test_a_past_that_was_decided_otherwise_is_compared_with_nothing(stage: Stage) -> None:
    a_past(stage, Weights(room=0, crowd=0), *PAST)
    done = stage.run("policy", "backtest", "--crowd", "100000")
    assert (done.code, done.out) == (1, "")
    assert "the weights of now do not give what was: 3 of 4 legs" in done.err


@pytest.mark.parametrize("more", [(), ("--room", "-1"), ("--zone", "1000000001")])
def test_weights_that_make_no_sense_are_refused(stage: Stage, more: tuple[str, ...]) -> None:
    done = stage.run("policy", "backtest", *more)
    assert done.code == 2
    assert "--room" in done.err


def test_of_an_empty_log_there_is_nothing_to_tell(stage: Stage) -> None:
    done = stage.run("policy", "backtest", "--room", "5")
    assert done.code == 0
    assert "every leg would be where it was" in done.err
