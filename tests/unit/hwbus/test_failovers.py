"""Who is called silent, whose volumes go on elsewhere, and when a lost replica is made anew."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import pytest
from msgspec.structs import replace

from aggregates.operation import EXPIRIES_MAX
from aggregates.peers import missed_by_peers
from aggregates.volume import VolumePhase
from aggregates.world import World
from hwbus.asking import Asked
from hwbus.controller import failovers, rebuilds
from hwbus.controller.failovers import Failovers
from hwbus.controller.figures import compared
from hwbus.controller.rebuilds import Rebuilds
from hwbus.controller.watch import MISSED_AFTER_S, SILENT_AFTER_S, Watch
from hwbus.desk import CommandDesk
from hwbus.memory import MemoryBus
from hwbus.subjects import CLUSTER
from schemas.answers import Accepted, Answer, Refused, Undecided, refuse
from schemas.grammar import Event, Message
from schemas.handing import FailoverBegan, FailVolumeOver, HandOverBegan, VolumeFailoverSet
from schemas.legs import AddReplica
from schemas.node import NodeHeard, ReportNodeHeard, ReportNodeSilent
from schemas.operation import (
    CancelOperation,
    CancelWanted,
    OperationExpired,
    OperationKind,
    OperationStarted,
    ReportExpired,
)
from schemas.place import place_of
from schemas.refusals import Refusal
from schemas.replication import LegDisk, PeerSeen, Tie
from schemas.verifying import VolumeVerified
from tests.support.clock import ManualClock
from tests.support.given import NOON, OPERATION, UID, given
from tests.support.legs_words import fenced, good, nodes, replicated, silent, tells
from tests.support.stage import Counting
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.support.words import DEADLINE

PAST = (*nodes("n1", "n2"), *replicated("n1", "n2"))
YES = Accepted(command="c", seq=1, version=1)
MISSES = PeerSeen(node="n1", tie=Tie.CONNECTING)
LOST = tells("n2", peers=(MISSES,))
DUE = (*PAST, LOST, silent("n1"))
BEGUN = HandOverBegan(
    volume="pg", uid=UID, operation=OPERATION, deadline=DEADLINE, from_node="n1", node="n2"
)
STARTED = OperationStarted(
    operation=OPERATION, kind=OperationKind.VOLUME_HAND_OVER, object="volume/pg", deadline=DEADLINE
)
FAIL_OVER, ADD = FailVolumeOver(volume="pg"), AddReplica(volume="pg")


class NotingDesk:
    """Notes what it is asked, and answers as it was told to."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[Message] = []
        self.ids: list[str] = []
        self._answers = list(answers)

    async def settle(self, wish: Asked, command: Message) -> Answer:
        self.asked.append(command)
        self.ids.append(wish.id)
        return self._answers.pop(0) if self._answers else YES


class Looks:
    """One of those that look, over a world, with a clock that is moved by hand."""

    def __init__(self, kind: type[Failovers | Rebuilds], world: World, *answers: Answer) -> None:
        self.desk, self.clock, self.world = NotingDesk(*answers), ManualClock(), world
        desk = cast("CommandDesk", self.desk)
        self._looking = kind(desk, world, self.clock, Counting())

    def look(self, after_s: float = 0) -> list[Message]:
        """Look, and return what was asked this time."""
        self.clock.move(after_s)
        before = len(self.desk.asked)
        asyncio.run(self._looking.look())
        return self.desk.asked[before:]


def failing(*past: Event, answers: tuple[Answer, ...] = ()) -> Looks:
    return Looks(Failovers, given(*past).world, *answers)


def test_a_volume_goes_on_where_it_is_good_when_its_node_is_silent_and_lost() -> None:
    assert failing(*DUE).look() == [FAIL_OVER]


def test_what_is_known_to_differ_is_a_figure() -> None:
    differs = replace(good("n2"), out_of_sync_bytes=4096)
    verified = VolumeVerified(volume="pg", operation=OPERATION, at=NOON, differing_bytes=4096)
    world = given(*PAST, tells("n1", peers=(differs,)), verified).world
    found = {one.name: [sample.value for sample in one.samples] for one in compared(world)}
    assert found == {
        "hwbus_volume_differing_bytes": [4096],
        "hwbus_volume_verified_timestamp_seconds": [NOON.timestamp()],
    }


CALM: dict[str, tuple[Event, ...]] = {
    "all is well": (tells("n2", peers=(good("n1"),)),),
    "lost, not silent": (LOST,),
    "silent, not lost": (tells("n2", peers=(good("n1"),)), silent("n1")),
    "silent, and heard again": (LOST, silent("n1"), NodeHeard(node="n1")),
    "both are silent": (LOST, silent("n1"), silent("n2")),
    "only the other is silent": (LOST, silent("n2")),
    "the other has missed something": (LOST, fenced("n2"), silent("n1")),
    "the other has not all": (tells("n2", LegDisk.INCONSISTENT, peers=(MISSES,)), silent("n1")),
    "the other is outdated": (tells("n2", LegDisk.OUTDATED, peers=(MISSES,)), silent("n1")),
    "the other does not run": (tells("n2", LegDisk.UNKNOWN), silent("n1")),
    "it is switched off": (LOST, silent("n1"), VolumeFailoverSet(volume="pg", auto=False)),
    "something else has just begun": (LOST, silent("n1"), BEGUN),
    "it is under way": (
        LOST,
        silent("n1"),
        FailoverBegan(
            volume="pg",
            uid=UID,
            operation=OPERATION,
            deadline=DEADLINE,
            from_node="n1",
            node="n2",
            epoch=1,
        ),
    ),
}


@pytest.mark.parametrize("more", CALM.values(), ids=CALM)
def test_nothing_goes_on_elsewhere_while(more: tuple[Event, ...]) -> None:
    assert failing(*PAST, *more).look() == []


def test_a_failover_is_not_asked_for_twice_within_seconds() -> None:
    no = refuse(Refusal.VOLUME_BUSY, "so")
    looks = failing(*DUE, answers=(no, YES))
    assert looks.look() == [FAIL_OVER]
    assert looks.look(failovers.AGAIN_AFTER_S - 1) == []
    assert looks.look(1) == [FAIL_OVER]
    assert len(set(looks.desk.ids)) == 2


def test_what_is_in_the_way_of_a_failover_is_cancelled_and_waited_for_no_longer() -> None:
    looks = failing(*DUE, BEGUN, STARTED)
    because = "n1 is silent, and the volume goes on elsewhere"
    assert looks.look() == [CancelOperation(operation=OPERATION, because=because)]
    happens(looks, CancelWanted(operation=OPERATION, because=because))
    assert looks.look(failovers.WAY_BACK_S - 1) == []
    for _ in range(EXPIRIES_MAX):
        (word,) = looks.look(1)
        assert word == ReportExpired(operation=OPERATION, at=looks.clock.now())
        happens(looks, OperationExpired(operation=OPERATION, at=looks.clock.now()))
    assert looks.look(1) == []


@pytest.mark.parametrize(
    ("phase", "gives_way"), [(one, one in failovers.MAY_END) for one in VolumePhase]
)
def test_what_takes_a_replica_away_or_says_which_counts_gives_no_way(
    phase: VolumePhase, gives_way: bool
) -> None:
    looks = failing(*DUE, BEGUN, STARTED)
    looks.world.volumes["pg"] = replace(looks.world.volumes["pg"], phase=phase)
    assert [type(word) for word in looks.look()] == [CancelOperation] * gives_way


def test_an_operation_in_the_way_of_several_volumes_is_cancelled_once() -> None:
    looks = failing(*DUE, BEGUN, STARTED)
    volumes, legs = looks.world.volumes, looks.world.replicas
    volumes["wal"] = replace(volumes["pg"], uid=f"{1:026d}", phase=VolumePhase.LOCKED)
    legs["n2", "wal"] = legs["n2", "pg"]
    assert [type(word) for word in looks.look()] == [CancelOperation]


def test_nothing_gives_way_where_nobody_can_go_on() -> None:
    assert failing(*PAST, fenced("n2"), silent("n1"), BEGUN, STARTED).look() == []


def happens(looks: Looks, event: Event) -> None:
    looks.world.evolve("operation", CLUSTER, OPERATION, [event])


def test_a_failover_that_nobody_decided_is_asked_for_again() -> None:
    looks = failing(*DUE, answers=(Undecided(command="c", because="the log is away"),))
    assert looks.look() == [FAIL_OVER]
    assert looks.look(1) == [FAIL_OVER]
    assert looks.look(1) == []


def test_a_node_with_many_volumes_is_failed_over_in_parts() -> None:
    looks = failing(*DUE)
    volumes, legs = looks.world.volumes, looks.world.replicas
    number = failovers.AT_ONCE + 6
    for n in range(1, number):
        volumes[f"v{n}"] = replace(volumes["pg"], uid=f"{n:026d}")
        legs["n2", f"v{n}"] = legs["n2", "pg"]
    first, second = looks.look(), looks.look(1)
    assert (len(first), len(second)) == (failovers.AT_ONCE, 6)
    assert len({cast("FailVolumeOver", one).volume for one in (*first, *second)}) == number


def short(*past: Event, members: int = 0, replicas: int = 2) -> World:
    """Return a world in which pg has fewer replicas than it shall."""
    world = given(*past).world
    pg = world.volumes["pg"]
    world.volumes["pg"] = replace(pg, members=pg.members[:members], replicas=replicas)
    return world


def test_a_replica_that_is_missing_for_good_is_made_anew() -> None:
    assert Looks(Rebuilds, short(*PAST)).look() == [ADD]
    assert Looks(Rebuilds, short(*PAST, members=2, replicas=3)).look() == [ADD]


def test_what_a_volume_shall_have_is_what_it_was_made_with() -> None:
    assert given(*PAST).world.volumes["pg"].replicas == 2


def test_a_node_that_is_only_away_is_waited_for() -> None:
    for node in ("n1", "n2"):
        world = given(*PAST, silent(node), LOST, fenced("n2")).world
        assert Looks(Rebuilds, world).look() == []
    assert Looks(Rebuilds, short(*PAST, silent("n1"))).look() == []


def test_a_volume_with_what_it_shall_have_gets_no_more() -> None:
    assert Looks(Rebuilds, short(*PAST, replicas=1)).look() == []
    assert Looks(Rebuilds, short(*PAST, members=2)).look() == []


@pytest.mark.parametrize("phase", [one for one in VolumePhase if one is not VolumePhase.READY])
def test_a_volume_that_is_worked_on_is_left_to_whoever_does(phase: VolumePhase) -> None:
    world = short(*PAST)
    world.volumes["pg"] = replace(world.volumes["pg"], phase=phase)
    assert Looks(Rebuilds, world).look() == []


def test_a_few_replicas_are_made_anew_at_a_time() -> None:
    world = short(*PAST)
    pg = world.volumes["pg"]
    for n in range(1, 10):
        world.volumes[f"v{n}"] = replace(pg, uid=f"{n:026d}")
    looks = Looks(Rebuilds, world)
    first = cast("list[AddReplica]", looks.look())
    assert len(first) == rebuilds.AT_ONCE
    for one in first:
        busy = replace(world.volumes[one.volume], phase=VolumePhase.ADDING_REPLICA)
        world.volumes[one.volume] = busy
    assert looks.look(1) == []
    world.volumes[first[0].volume] = replace(pg, uid="0" * 26, replicas=1)
    [another] = cast("list[AddReplica]", looks.look(1))
    assert another.volume not in {one.volume for one in first}


def test_a_replica_for_which_there_is_no_place_is_asked_for_again_later() -> None:
    no: Refused = refuse(Refusal.NO_PLACE, "none")
    looks = Looks(Rebuilds, short(*PAST), no)
    assert looks.look() == [ADD]
    assert looks.look(rebuilds.AGAIN_AFTER_S - 1) == []
    assert looks.look(1) == [ADD]


def test_a_replica_that_nobody_decided_on_is_asked_for_again() -> None:
    looks = Looks(Rebuilds, short(*PAST), Undecided(command="c", because="the log is away"))
    assert looks.look() == [ADD]
    assert looks.look(1) == [ADD]


def test_a_node_is_missed_when_all_who_can_tell_have_lost_it() -> None:
    def missed(*more: Event, node: str = "n1") -> bool:
        return missed_by_peers(node, given(*PAST, *more).world)

    assert missed(LOST)
    assert missed(tells("n2", peers=(replace(MISSES, tie=Tie.STANDALONE),)))
    assert not missed()
    assert not missed(tells("n2", peers=(good("n1"),)))
    assert not missed(LOST, silent("n2")), "whoever is silent says nothing of others"
    assert not missed(tells("n1", peers=(PeerSeen(node="n2"),)), node="n2"), "not its volume"
    assert not missed(LOST, node="n3")


def test_a_node_that_one_of_two_peers_still_reaches_is_not_missed() -> None:
    past = (*nodes("n1", "n2", "n3"), *replicated("n1", "n2", "n3"))
    both = (LOST, tells("n3", peers=(MISSES,)))
    assert missed_by_peers("n1", given(*past, *both).world)
    assert not missed_by_peers("n1", given(*past, LOST, tells("n3", peers=(good("n1"),))).world)


class Watched:
    """A watch over a world in which what it tells comes true."""

    def __init__(self, *past: Event) -> None:
        self.given = given(*past)
        self.bus = MemoryBus()
        self.told: list[tuple[float, Message]] = []
        self.talking = {"n1", "n2"}

    async def settle(self, _: Asked, report: Message) -> Answer:
        self.told.append((asyncio.get_running_loop().time(), report))
        events = self.given.decide(report)
        assert not isinstance(events, Refused)
        for event in events:
            self.given.world.evolve(*place_of(event), [event])
        return YES

    def happens(self, event: Event) -> None:
        self.given.world.evolve(*place_of(event), [event])

    def words(self) -> list[tuple[str, str]]:
        """Return who was told to be silent, or heard."""
        found: list[tuple[str, str]] = []
        for _, one in self.told:
            assert isinstance(one, ReportNodeSilent | ReportNodeHeard)
            found.append(("silent" if isinstance(one, ReportNodeSilent) else "heard", one.node))
        return found

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Watch]:
        desk = cast("CommandDesk", self)
        watch = Watch(desk, self.given.world, self.bus, VirtualClock())
        tasks = [asyncio.create_task(one) for one in (watch.run(), self._talk())]
        try:
            yield watch
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _talk(self) -> None:
        while True:
            for node in sorted(self.talking):
                await self.bus.publish(f"hwbus.live.heartbeat.{node}", b"")
            await asyncio.sleep(2)


def watched(tale: Callable[[Watched, Watch], Awaitable[None]], *past: Event) -> Watched:
    async def run() -> Watched:
        here = Watched(*past)
        async with here.watching() as watch:
            await tale(here, watch)
        return here

    return run_virtually(run)


def test_nodes_that_are_heard_are_not_told_of() -> None:
    async def tale(here: Watched, watch: Watch) -> None:
        await asyncio.sleep(60)
        assert set(watch.last_heard()) == {"n1", "n2"}
        assert here.told == []

    watched(tale, *PAST)


@pytest.mark.parametrize(
    ("more", "patience_s"),
    [((), SILENT_AFTER_S), ((LOST,), MISSED_AFTER_S)],
    ids=["alone", "missed"],
)
def test_a_node_is_called_silent_sooner_when_its_peers_have_lost_it(
    more: tuple[Event, ...], patience_s: float
) -> None:
    async def tale(here: Watched, watch: Watch) -> None:
        await asyncio.sleep(11)
        here.talking = {"n2"}
        last = watch.last_heard()["n1"]
        await asyncio.sleep(20)
        assert here.words() == [("silent", "n1")]
        [(at_s, report)] = here.told
        assert report == ReportNodeSilent(node="n1", last_heard=last)
        quiet = VirtualClock().now() - timedelta(seconds=31 - at_s) - last
        assert patience_s < quiet.total_seconds() <= patience_s + 1

    watched(tale, *PAST, *more)


def test_a_node_is_heard_again_only_by_what_it_says() -> None:
    """Its volume has moved on: nobody misses it any more, and it is as silent as before."""

    async def tale(here: Watched, watch: Watch) -> None:
        await asyncio.sleep(3)
        here.talking = {"n2"}
        assert "n1" in watch.last_heard()
        await asyncio.sleep(6)
        assert here.words() == [("silent", "n1")]
        here.happens(tells("n2", peers=(good("n1"),)))
        await asyncio.sleep(10)
        assert here.words() == [("silent", "n1")]
        here.talking = {"n1", "n2"}
        await asyncio.sleep(4)
        assert here.words() == [("silent", "n1"), ("heard", "n1")]

    watched(tale, *PAST, LOST)


def test_whoever_was_silent_before_a_watch_began_stays_so_until_it_is_heard() -> None:
    async def run() -> None:
        here = Watched(*PAST, silent("n1"))
        here.talking = {"n2"}
        async with here.watching():
            await asyncio.sleep(60)
            assert here.words() == []
            here.talking = {"n1", "n2"}
            await asyncio.sleep(4)
            assert here.words() == [("heard", "n1")]

    run_virtually(run)


def test_nobody_is_called_silent_because_the_watch_has_just_begun() -> None:
    async def run() -> None:
        here = Watched(*PAST, LOST)
        here.talking = set()
        async with here.watching():
            await asyncio.sleep(MISSED_AFTER_S)
            assert here.told == []
            await asyncio.sleep(SILENT_AFTER_S)
            assert here.words() == [("silent", "n1"), ("silent", "n2")]

    run_virtually(run)
