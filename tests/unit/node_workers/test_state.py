"""What a node knows is changed by one at a time, whoever is cancelled, and told under fit ids."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hwbus.codec import commit_codec
from hwbus.ports import Stored
from node_workers.figures import Figures
from node_workers.plan import step_for
from node_workers.reports import Trouble
from node_workers.state import State
from node_workers.steps import Step
from node_workers.store import Change, Store, open_store
from node_workers.wanted import Wanted
from schemas.commit import Commit
from schemas.refusals import Refusal
from schemas.replica import ReplicaEvent, ReportReplicaPresent
from tests.simulation.node.lives import at_once
from tests.support.clock import NOON, ManualClock
from tests.support.virtual_time import run_virtually
from tests.unit.node_workers.test_tied_wishes import RESIZE, UID, WANTED, leg
from tests.unit.node_workers.test_watching import Letters

CODEC = commit_codec(ReplicaEvent)
WISH = leg(WANTED)
PRESENT = ReportReplicaPresent(
    volume="pg", node="n1", uid=UID, size_bytes=104, device="/dev/fast/pg"
)
PASSING = Trouble(code=Refusal.TOOL_FAILED, because="lvcreate said no", permanent=False)
LASTING = Trouble(code=Refusal.NO_SPACE_ON_NODE, because="it is full", permanent=True)


class Slow(Store):
    """What it has written it says only when it may."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner._connection)
        self.written = asyncio.Event()
        self.may_say = asyncio.Event()

    async def commit(self, change: Change) -> tuple[int, ...]:
        numbers = await super().commit(change)
        self.written.set()
        await self.may_say.wait()
        return numbers


class Life:
    """One life of a node's memory over its file."""

    def __init__(self, store: Slow, state: State, letters: Letters) -> None:
        self.store = store
        self.state = state
        self.letters = letters

    async def hears_of_a_newer_wish(self) -> None:
        commit: Commit[Any] = Commit(
            id="c99",
            at=NOON,
            actor="tester",
            command="c99",
            word="",
            correlation="",
            version=1,
            events=(RESIZE,),
        )
        await self.state.take([Stored(99, "hwbus.evt.replica.n1.pg", CODEC.encode(commit), NOON)])

    async def kept(self) -> dict[str, Wanted]:
        return (await self.store.load()).wanted


def lived(folder: Path, tale: Callable[[Life], Awaitable[None]]) -> None:
    async def run() -> None:
        how: dict[str, Any] = {"node": "n1", "clock": ManualClock(), "figures": Figures()}
        async with open_store(
            folder / "s", node="n1", identity="i", syncing=False, connect=at_once
        ) as opened:
            await opened.commit(Change(wanted={WISH.key: WISH}))
            store, letters = Slow(opened), Letters(opened)
            state = State(await store.load(), store, letters, **how)
            async with asyncio.timeout(60):
                await tale(Life(store, state, letters))

    run_virtually(run)


def step() -> Step:
    found = step_for(WISH, {WISH.key: WISH})
    assert found is not None
    return found


def test_a_newer_wish_is_kept_though_who_heard_of_it_was_cancelled(tmp_path: Path) -> None:
    async def tale(life: Life) -> None:
        hearing = asyncio.create_task(life.hears_of_a_newer_wish())
        await life.store.written.wait()
        hearing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hearing
        answering = asyncio.create_task(life.state.answered(step(), PRESENT, traceparent=""))
        await asyncio.sleep(1)
        life.store.may_say.set()
        await answering
        newest = life.state.wanted[WISH.key]
        assert newest.origin.seq == 99
        assert await life.kept() == {WISH.key: newest}
        assert life.state.position == 99

    lived(tmp_path, tale)


def test_who_is_cancelled_before_his_turn_changes_nothing(tmp_path: Path) -> None:
    async def tale(life: Life) -> None:
        hearing = asyncio.create_task(life.hears_of_a_newer_wish())
        await life.store.written.wait()
        late = asyncio.create_task(life.state.say((), {"drift": b"late"}))
        await asyncio.sleep(1)
        late.cancel()
        life.store.may_say.set()
        await hearing
        with pytest.raises(asyncio.CancelledError):
            await late
        await life.state.say((), {"drift": b"next"})
        assert life.state.said == {"drift": b"next"}

    lived(tmp_path, tale)


def test_a_trouble_has_the_id_of_what_is_said_of_it_also_after_a_restart(tmp_path: Path) -> None:
    others = (
        LASTING,
        replace(PASSING, because="lvcreate said no, once more"),
        replace(PASSING, code=Refusal.TOOL_TIMED_OUT),
        replace(PASSING, permanent=True),
    )

    async def tale(life: Life) -> None:
        life.store.may_say.set()
        # Attempts begin at 0 in each life.
        for trouble in (PASSING, *others, PASSING):
            await life.state.troubled(step(), trouble, attempt=0, traceparent="")
        ids = [letter.headers["Hwbus-Command-Id"] for letter in life.letters.posted]
        assert ids[0] == ids[-1]
        assert len(set(ids)) == 1 + len(others)
        assert all(re.fullmatch(r"n1:\d+:report-trouble:0:[0-9a-f]{16}", id_) for id_ in ids)

    lived(tmp_path, tale)
