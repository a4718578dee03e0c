"""What an answer makes of a replicated leg: the same at once and when it comes back as an event."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from node_workers.figures import Figures
from node_workers.folding import fold
from node_workers.outbox import Outbox
from node_workers.plan import step_for
from node_workers.state import State
from node_workers.store import Change, open_store
from node_workers.wanted import Origin, Settling, WantedReplica
from schemas.grammar import Event
from schemas.replica import ReplicaKept, ReportReplicaPresent
from tests.simulation.node.lives import at_once
from tests.support.clock import ManualClock
from tests.support.virtual_time import run_virtually
from tests.unit.node_workers.test_tied_wishes import (
    BORN_TIED,
    LOSES,
    MINE,
    RESIZE,
    THERE,
    TIE,
    UID,
    UNTIE,
    WANTED,
    leg,
)

PLAIN_PAST, TIED_PAST = (WANTED, (THERE, 1)), (BORN_TIED, (THERE, 1))
KNOWN = ReplicaKept(**MINE, size_bytes=208)
PRESENT = ReportReplicaPresent(
    volume="pg", node="n1", uid=UID, size_bytes=208, device="/dev/fast/pg"
)


def answered(folder: Path, wish: WantedReplica, now: WantedReplica) -> WantedReplica:
    """Answer *wish* when *now* is what is wanted; return what is known then, and kept."""

    async def run() -> WantedReplica:
        how: dict[str, Any] = {"node": "n1", "clock": ManualClock(), "figures": Figures()}
        async with open_store(
            folder / "s", node="n1", identity="i", syncing=False, connect=at_once
        ) as store:
            await store.commit(Change(wanted={now.key: now}))
            outbox = Outbox(store, identity="i", rng=Random(1), **how)
            state = State(await store.load(), store, outbox, **how)
            step = step_for(wish, {wish.key: wish})
            assert step is not None
            await state.answered(step, PRESENT, traceparent="")
            known = state.wanted[now.key]
            assert (await store.load()).wanted[now.key] == known
        assert isinstance(known, WantedReplica)
        return known

    return run_virtually(run)


def echoed(now: WantedReplica, cause: str) -> WantedReplica:
    after = fold(now, (KNOWN,), Origin(seq=9), cause)
    assert isinstance(after, WantedReplica)
    return replace(after, folded_seq=now.folded_seq)


@pytest.mark.parametrize(
    ("past", "tied"),
    [
        ((*PLAIN_PAST, TIE), True),
        ((*TIED_PAST, UNTIE), False),
        ((*TIED_PAST, RESIZE), True),
        ((*TIED_PAST, LOSES), True),
    ],
    ids=["tie", "untie", "resize", "settle"],
)
def test_the_answer_to_the_very_wish_says_whether_the_leg_is_tied(
    tmp_path: Path, past: tuple[Event | tuple[Event, int], ...], tied: bool
) -> None:
    now = leg(*past)
    known = answered(tmp_path, now, now)
    assert (known.tied, known.untie, known.settling, known.open) == (
        tied,
        False,
        Settling.NONE,
        False,
    )
    assert known == echoed(now, now.origin.cause)
    assert echoed(known, now.origin.cause) == known, "hearing of it again changes nothing"


@pytest.mark.parametrize(
    ("past", "wish"),
    [
        (PLAIN_PAST[:1], TIE),
        (TIED_PAST[:1], UNTIE),
        ((*TIED_PAST, UNTIE), TIE),
        ((*PLAIN_PAST, TIE), UNTIE),
        ((*TIED_PAST, RESIZE), LOSES),
    ],
    ids=["made, then tied", "made, then freed", "freed, then tied", "tied, then freed", "split"],
)
def test_an_answer_that_comes_late_says_only_that_the_leg_is_there(
    tmp_path: Path, past: tuple[Event | tuple[Event, int], ...], wish: Event
) -> None:
    before, now = leg(*past), leg(*past, wish)
    known = answered(tmp_path, before, now)
    assert (known.tied, known.untie, known.settling) == (now.tied, now.untie, now.settling)
    assert (known.open, known.size_bytes, known.may_create) == (True, 208, False)
    late = echoed(now, before.origin.cause)
    assert late == replace(known, answered_seq=now.answered_seq)
