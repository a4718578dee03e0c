"""Snapshots of one instant with a lead, on a machine whose replicas a test makes up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest
from msgspec.structs import replace

from node_workers.lvm_instants import Instants, Wish
from node_workers.ports import (
    Consistency,
    Filesystem,
    NoSpaceError,
    SnapshotState,
    UnsuitableError,
)
from node_workers.replication import Connection, DiskState, Peer, ReplicationState, Role, Sync
from tests.contract.test_storage_contract import SimulatedBench
from tests.support.attachment_contract import attach, mounted
from tests.support.instant_contract import furnish
from tests.support.snapshot_contract import snapshot
from tests.support.storage_bench import CAUSE, UID, Story, spec

TURN = "t" * 26
WHOLE = Peer(
    node="n2", connection=Connection.CONNECTED, role=Role.SECONDARY, disk=DiskState.UP_TO_DATE
)
LEG = ReplicationState(
    volume="v1", role=Role.PRIMARY, disk=DiskState.UP_TO_DATE, peers=(WHOLE,), device="/dev/drbd1"
)
FAR = replace(WHOLE, role=Role.PRIMARY)


class House:
    """A machine with an attached volume v1 of which n2 has a replica, and v2; it leads."""

    turn = TURN

    def __init__(self) -> None:
        self.bench = SimulatedBench()
        self.on = Story(self.bench)
        self.leg = LEG
        self.follows: tuple[str, ...] = ("n2",)
        self.asked: list[tuple[str, ...]] = []
        self.on_take: Callable[[], None] = lambda: None
        self.instants = Instants(self.bench.runner, self.replicated)

    async def replicated(self, _cause: str) -> Mapping[str, ReplicationState]:
        return {"v1": self.leg, "v2": replace(LEG, volume="v2")}

    async def ready(self) -> tuple[str, ...]:
        assert not self.stands_still()
        self.asked.append(("ready",))
        return self.follows

    async def take(
        self, nodes: tuple[str, ...], caught: Mapping[str, Consistency]
    ) -> tuple[str, ...]:
        assert set(caught) >= {"uid-v1"}
        assert self.stands_still() or self.bench.machine.state.let_go
        self.asked.append(("take", *nodes))
        self.on_take()
        return nodes

    def stands_still(self) -> bool:
        return any(one.suspended for one in self.bench.machine.state.mapped)

    def tags(self, name: str) -> list[str]:
        return list(self.bench.machine.volume(f"fast/{name}").tags)

    async def led(self, *names: str) -> tuple[SnapshotState, ...]:
        of = {"s1": "v1", "s2": "v2"}
        wishes = [Wish(UID, snapshot(name, 20, volume=of[name])) for name in names]
        return await self.instants.ensure(wishes, may_take=True, cause=CAUSE, lead=self)


def play(story: Callable[[House], Awaitable[None]]) -> None:
    async def whole() -> None:
        house = House()
        await furnish(house.on, filesystem=Filesystem.EXT4)
        await attach(house.on, mounted())
        await story(house)
        assert not house.stands_still()
        assert house.instants.still == set()

    asyncio.run(whole())


def test_who_has_followed_is_told_now_and_after_a_crash() -> None:
    async def story(house: House) -> None:
        (made,) = await house.led("s1")
        assert (made.turn, made.followed, made.changed) == (TURN, ("n2",), True)
        assert house.asked == [("ready",), ("take", "n2")]
        (again,) = await house.led("s1")
        assert again == replace(made, changed=False)
        assert len(house.asked) == 2

    play(story)


def test_who_dies_while_marking_has_all_say_the_same_when_asked_again() -> None:
    async def story(house: House) -> None:
        made = await house.led("s1", "s2")
        for tag in [one for one in house.tags("s2") if "consistency" in one or "followed" in one]:
            await house.bench.console("lvchange", "--deltag", tag, "fast/s2")
        again = await house.led("s1", "s2")
        assert [one.followed for one in again] == [("n2",), ("n2",)]
        assert [one.consistency for one in again] == [one.consistency for one in made]
        assert "hwbus.followed=n2" in house.tags("s2")

    play(story)


@pytest.mark.parametrize(
    "peer",
    [
        replace(WHOLE, disk=DiskState.INCONSISTENT, sync=Sync.SOURCE),
        replace(WHOLE, disk=DiskState.OUTDATED),
        replace(WHOLE, connection=Connection.CONNECTING),
        replace(WHOLE, node="n3"),
    ],
)
def test_one_that_catches_up_while_it_takes_its_own_was_behind_and_has_not_followed(
    peer: Peer,
) -> None:
    async def story(house: House) -> None:
        def catch_up() -> None:
            house.leg = LEG

        house.leg, house.on_take = replace(LEG, peers=(peer,)), catch_up
        (made,) = await house.led("s1")
        assert (made.followed, house.asked[1:]) == ((), [("take",)])

    play(story)


def test_what_another_node_writes_to_is_held_still_by_nobody_here() -> None:
    async def story(house: House) -> None:
        house.leg = replace(LEG, role=Role.SECONDARY, peers=(FAR,))
        (made,) = await house.led("s1")
        assert (made.consistency, made.turn, made.followed) == (Consistency.CRASH, "", ())
        assert house.asked == []

    play(story)


def test_without_anybody_who_is_ready_it_is_a_snapshot_as_any_other() -> None:
    async def story(house: House) -> None:
        house.follows = ()
        (made,) = await house.led("s1")
        assert (made.turn, made.followed) == ("", ())
        assert house.asked == [("ready",)]

    play(story)


def test_if_all_went_on_too_early_nothing_counts_and_it_is_taken_anew() -> None:
    async def story(house: House) -> None:
        house.bench.machine.state.let_go = True
        with pytest.raises(UnsuitableError) as caught:
            await house.led("s1")
        assert caught.value.reason == "not-still"
        assert not any("consistency" in one or "followed" in one for one in house.tags("s1"))
        house.bench.machine.state.let_go = False
        house.turn = "u" * 26
        (made,) = await house.led("s1")
        assert (made.turn, made.followed) == (house.turn, ("n2",))

    play(story)


def test_without_room_all_goes_on_though_others_have_followed() -> None:
    async def story(house: House) -> None:
        free_mib = (await house.on.look()).pools[0].free_bytes // (1 << 20)
        await house.on.volume(spec("rest", free_mib - 8))
        with pytest.raises(NoSpaceError):
            await house.led("s1")
        assert house.asked == [("ready",), ("take", "n2")]

    play(story)


def test_whoever_breaks_off_while_others_take_theirs_lets_all_go_on() -> None:
    async def story(house: House) -> None:
        leading = asyncio.create_task(house.led("s1"))

        def break_off() -> None:
            leading.cancel()

        house.on_take = break_off
        with pytest.raises(asyncio.CancelledError):
            await leading
        assert not house.stands_still()
        house.on_take = lambda: None
        (made,) = await house.led("s1")
        assert (made.changed, made.followed) == (True, ("n2",))

    play(story)


def test_a_turn_takes_nothing_that_was_removed_since_it_was_prepared() -> None:
    async def story(house: House) -> None:
        storage, wish = house.on.storage, (UID, snapshot("s2", 20, volume="v2"))
        await storage.prepare_turn([wish], TURN, cause=CAUSE)
        await house.on.remove("s2")
        with pytest.raises(UnsuitableError):
            await storage.follow(TURN, {}, cause=CAUSE)
        assert await house.on.seen("s2") is None
        await storage.prepare_turn([wish], TURN, cause=CAUSE)
        taking = asyncio.create_task(storage.follow(TURN, {}, cause=CAUSE))
        await asyncio.sleep(0)
        await house.on.remove("s2")
        await taking
        assert await house.on.seen("s2") is None

    play(story)


def test_a_later_turn_leaves_an_earlier_one_nothing_to_take() -> None:
    async def story(house: House) -> None:
        storage, wish = house.on.storage, (UID, snapshot("s2", 20, volume="v2"))
        for turn in (TURN, "u" * 26):
            await storage.prepare_turn([wish], turn, cause=CAUSE)
        with pytest.raises(UnsuitableError):
            await storage.follow(TURN, {}, cause=CAUSE)
        await storage.follow("u" * 26, {}, cause=CAUSE)
        with pytest.raises(UnsuitableError):
            await storage.follow("u" * 26, {}, cause=CAUSE)
        state = await storage.ensure_followed(wish, "u" * 26, cause=CAUSE)
        assert (state.turn, state.consistency) == ("u" * 26, Consistency.CRASH)

    play(story)
