"""Turns as they are asked for over the bus: by whom, for which instant, and what is answered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
import pytest
from msgspec.structs import replace

from hwbus import subjects
from hwbus.memory import MemoryBus, MemoryLog, MemoryOutlet
from node_workers import turns
from node_workers.keeping import CORRELATION
from node_workers.plan import followed_by, step_for
from node_workers.ports import Consistency, SnapshotSpec, StorageError, UnsuitableError
from node_workers.steps import HaveNoReplica, HaveReplica
from node_workers.turns import Follower, Leader, No
from node_workers.wanted import Origin, Wanted, WantedReplica
from schemas.instants import Together
from schemas.replica import ReplicaSpec, SnapshotOf
from tests.support.clock import ManualClock
from tests.support.virtual_time import run_virtually

MIB = 1 << 20
INSTANT, TURN, VOLUME_UID = "i" * 26, "t" * 26, "v" * 26
NAMES = ("s1-n2", "s2-n2")


def leg(name: str) -> WantedReplica:
    """A snapshot that n2 takes when n1 says so."""
    return WantedReplica(
        uid=name.ljust(26, "0"),
        origin=Origin(seq=7, correlation="operation"),
        folded_seq=7,
        volume=name,
        spec=ReplicaSpec(
            uid=name.ljust(26, "0"),
            pool="fast",
            size_bytes=MIB,
            snapshot_of=SnapshotOf(volume="pg", uid=VOLUME_UID),
            together=Together(instant=INSTANT, snapshots=NAMES, leader="n1"),
        ),
    )


BOTH: Mapping[str, Wanted] = {f"replica/{name}": leg(name) for name in NAMES}


def settled(one: WantedReplica) -> WantedReplica:
    assert one.spec.together is not None
    return replace(one, spec=replace(one.spec, together=replace(one.spec.together, turn=TURN)))


class House:
    """A bus, the node n1 that leads, and n2 that follows."""

    def __init__(self) -> None:
        self.bus, self.log, self.outlet = MemoryBus(), MemoryLog(ManualClock()), MemoryOutlet()
        self.connected = True
        self.wanted = BOTH
        self.caught_up = True
        self.trouble: StorageError | None = None
        self.hang = False
        self.done: list[tuple[str, ...]] = []
        self.correlations: set[str] = set()
        self.leader = Leader("n1")
        self.leader.link = self
        self.follower = Follower("n2", lambda: self.wanted, self)

    async def prepare_turn(
        self, wishes: list[tuple[str, SnapshotSpec]], turn: str, *, cause: str
    ) -> None:
        if self.trouble is not None:
            raise self.trouble
        if self.hang:
            await asyncio.sleep(60)
        self.correlations.add(CORRELATION.get())
        self.done.append(("prepare", turn, cause, *(spec.name for _, spec in wishes)))

    async def follow(self, turn: str, caught: Mapping[str, Consistency], *, cause: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.correlations.add(CORRELATION.get())
        self.done.append(("follow", turn, cause, *(one.value for one in caught.values())))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.follower.serve(self, lambda: self.caught_up))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def ready(self, followers: tuple[str, ...] = ("n2",)) -> tuple[str, ...]:
        return await self.leader.lead(INSTANT, followers).ready()


def play(story: Callable[[House], Awaitable[None]]) -> None:
    async def whole() -> None:
        house = House()
        async with house.serving():
            await story(house)

    run_virtually(whole)


def test_who_is_asked_is_ready_and_takes_all_of_the_instant_by_the_cause_of_the_wish() -> None:
    async def story(house: House) -> None:
        turn = house.leader.lead(INSTANT, ("n2",))
        assert await turn.ready() == ("n2",)
        assert await turn.take(("n2",), {VOLUME_UID: Consistency.FILESYSTEM}) == ("n2",)
        assert house.done == [
            ("prepare", turn.turn, "event:7", *NAMES),
            ("follow", turn.turn, "event:7", "filesystem"),
        ]
        assert house.correlations == {"operation"}
        assert house.leader.lead(INSTANT, ("n2",)).turn != turn.turn

    play(story)


def test_a_node_whose_news_are_behind_is_asked_again_for_a_while() -> None:
    async def story(house: House) -> None:
        house.caught_up, house.wanted = False, {}
        asking = asyncio.create_task(house.ready())
        await asyncio.sleep(1)
        house.caught_up = True
        await asyncio.sleep(1)
        assert not asking.done()
        house.wanted = {"replica/s1-n2": BOTH["replica/s1-n2"]}
        await asyncio.sleep(1)
        assert not asking.done()  # the other one of that instant is not known yet
        house.wanted = BOTH
        assert await asking == ("n2",)
        house.wanted = {}
        began_s = asyncio.get_running_loop().time()
        assert await house.ready() == ()
        assert asyncio.get_running_loop().time() - began_s <= turns._READY_S

    play(story)


def test_nobody_follows_whom_the_log_does_not_name_or_what_it_has_settled() -> None:
    assert len(followed_by(INSTANT, "n1", BOTH)) == 2
    assert followed_by(INSTANT, "n3", BOTH) == ()
    assert followed_by(TURN, "n1", BOTH) == ()
    one, two = (leg(name) for name in NAMES)
    for other in (settled(one), replace(one, present=False), replace(one, may_create=False)):
        assert followed_by(INSTANT, "n1", {other.key: other, two.key: two}) == ()


def test_silence_nonsense_and_trouble_are_a_no() -> None:
    async def story(house: House) -> None:
        assert await house.ready(("n3",)) == ()
        said = await house.bus.request(subjects.turn("n2"), b"{", headers={}, timeout_s=2)
        assert b"no question" in said
        house.trouble = UnsuitableError("not-still", "nothing was prepared for that turn")
        assert await house.ready() == ()
        assert await house.leader.lead(INSTANT, ("n2",)).take(("n2",), {}) == ()
        house.leader.link = None
        assert await house.ready() == ()
        assert house.done == []
        question = turns.Ready(instant=INSTANT, turn=TURN, leader="n1")
        answer = await house.leader.ask("n2", question, within_s=1)
        assert isinstance(answer, No)

    play(story)


def test_a_follower_does_nothing_before_it_is_settled_in_what_turn_it_was() -> None:
    one = leg("s1-n2")
    assert step_for(one, BOTH) is None
    after = settled(one)
    step = step_for(after, {**BOTH, one.key: after})
    assert isinstance(step, HaveReplica)
    assert [(each.volume, each.cause) for each in step.together] == [("s1-n2", "event:7")]
    assert step.instant == ""  # another one is not hopeless because this one is
    assert isinstance(step_for(replace(one, present=False), BOTH), HaveNoReplica)


@pytest.mark.parametrize("known", [True, False])
def test_who_leads_has_a_step_when_all_of_its_own_are_known(*, known: bool) -> None:
    together = Together(instant=INSTANT, snapshots=NAMES, leader="n1", followers=("n2",))
    legs = [replace(one, spec=replace(one.spec, together=together)) for one in map(leg, NAMES)]
    step = step_for(legs[0], {one.key: one for one in (legs if known else legs[:1])})
    assert (step is not None) is known
    if isinstance(step, HaveReplica):
        assert step.instant == INSTANT
        assert step.spec.together == together


def test_a_node_that_is_silent_after_a_no_is_not_waited_for_any_longer() -> None:
    async def story(house: House) -> None:
        house.caught_up = False
        asking = asyncio.create_task(house.ready())
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.sleep(turns._READY_S - 1)
        house.hang, house.caught_up = True, True
        assert await asking == ()
        assert loop.time() - began_s <= turns._READY_S + 0.01

    play(story)


@pytest.mark.parametrize("word", ["instant", "turn", "leader"])
def test_what_no_name_can_be_is_nonsense(word: str) -> None:
    async def story(house: House) -> None:
        asked = {"type": "ready", "instant": INSTANT, "turn": TURN, "leader": "n1", word: "a b"}
        data = msgspec.json.encode(asked)
        said = await house.bus.request(subjects.turn("n2"), data, headers={}, timeout_s=2)
        assert b"no question" in said
        assert house.done == []

    play(story)
