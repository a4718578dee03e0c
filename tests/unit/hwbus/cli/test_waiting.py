"""Waiting for what was begun earlier, perhaps by somebody else."""

import asyncio
import os
import signal

import msgspec
import pytest

from hwbus.memory import MemoryLog
from hwbus.ports import Call
from schemas.answers import Answer
from schemas.node import NodeCordoned
from schemas.operation import OperationEnded, OperationKind, Outcome
from schemas.queries import Page
from schemas.refusals import Refusal
from schemas.views import VolumeState
from schemas.volume import VolumeGrown
from tests.support.cli import OPERATION, Stage, accepted
from tests.unit.hwbus.cli.rows import furnish

GIB = 1 << 30


def history(stage: Stage, outcome: Outcome, code: Refusal | None = None) -> None:
    """Let the operation that furnish() shows as running have ended in the log."""
    furnish(stage)
    grown = VolumeGrown(volume="pg", operation=OPERATION, size_bytes=6 * GIB)
    end = OperationEnded(
        operation=OPERATION,
        kind=OperationKind.VOLUME_GROW,
        object="volume/pg",
        outcome=outcome,
        code=code,
    )
    stage.write("hwbus.evt.volume.-.pg", grown, correlation=OPERATION)
    stage.write(f"hwbus.evt.operation.-.{OPERATION}", end, correlation=OPERATION)


def test_watching_an_operation_that_has_ended_tells_its_story_again(stage: Stage) -> None:
    history(stage, Outcome.COMPLETED)
    done = stage.run("op", "watch", OPERATION)
    assert done.code == 0
    assert done.out == f"volume/pg volume-grow completed  seq 2  op {OPERATION}\n"
    assert done.err.splitlines() == [
        "  volume grown, 6GiB  volume/pg  seq 1",
        "  operation ended, completed  seq 2",
    ]


def test_watching_an_operation_that_failed_for_want_of_room_is_a_refusal(stage: Stage) -> None:
    history(stage, Outcome.FAILED, Refusal.CAPACITY)
    assert stage.run("op", "watch", OPERATION).code == 5


def test_watching_has_a_bound_even_if_nothing_ever_happens(stage: Stage) -> None:
    furnish(stage)
    done = stage.run("op", "watch", OPERATION, "--timeout", "0.05")
    assert done.code == 4


def test_cancelling_and_waiting_ends_well_when_it_was_cancelled(stage: Stage) -> None:
    history(stage, Outcome.CANCELLED, Refusal.CANCELLED)
    stage.when("hwbus.cmd.operation.cancel", accepted(operation=""))
    done = stage.run("op", "cancel", OPERATION, "--wait")
    assert done.code == 0
    assert "cancelled" in done.err


def test_waiting_for_a_volume_follows_what_runs_on_it(stage: Stage) -> None:
    history(stage, Outcome.COMPLETED)
    [volume] = stage.rows["volumes"]
    asked = 0

    def show(call: Call, log: MemoryLog) -> Answer:
        nonlocal asked
        asked += 1
        ready = {"state": "ready", "operation": ""} if asked > 1 else {}
        row = msgspec.to_builtins(volume) | ready
        return Page(kind="volumes", seq=7, items=(row,))  # type: ignore[return-value]

    stage.when("hwbus.q.volumes", show)
    done = stage.run("volume", "wait", "pg")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "volume/pg ready"


def test_a_volume_that_is_there_is_not_gone(stage: Stage) -> None:
    history(stage, Outcome.COMPLETED)
    done = stage.run("volume", "wait", "pg", "--for", "gone")
    assert done.code == 1
    assert "no operation runs on it" in done.err


@pytest.mark.parametrize("what", ["ready", "gone"])
def test_a_held_volume_is_neither_ready_nor_gone(stage: Stage, what: str) -> None:
    history(stage, Outcome.COMPLETED)
    [volume] = stage.rows["volumes"]
    stage.rows["volumes"] = (msgspec.structs.replace(volume, state=VolumeState.HELD, operation=""),)
    done = stage.run("volume", "wait", "pg", "--for", what)
    assert done.code == 1
    assert "is held" in done.err


def test_a_volume_that_never_was_is_gone(stage: Stage) -> None:
    assert stage.run("volume", "wait", "pg", "--for", "gone").out == "volume/pg gone\n"


def test_following_events_goes_on_until_ctrl_c(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.write("hwbus.evt.node.-.n1", NodeCordoned(node="n1"))
    followed = MemoryLog.follow

    def follow(self: MemoryLog, **options: int) -> object:
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
        return followed(self, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryLog, "follow", follow)
    done = stage.run("events", "tail", "-f", "-n", "0", "-o", "name")
    assert (done.code, done.err) == (130, "")
