"""Replicas come, go, move and take over, from the wish to the end, on a control plane in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from aggregates.processes.epochs import owed
from aggregates.volume import Volume
from schemas.answers import Accepted
from schemas.attaching import AttachVolume
from schemas.attachment import AttachmentRemovalWanted, AttachmentWanted
from schemas.deleting import DeleteVolume, PurgeVolume, UndeleteVolume
from schemas.grammar import Event, Request
from schemas.handing import FailVolumeOver, HandOverVolume
from schemas.legs import (
    AddReplica,
    MigrateVolume,
    RemoveReplicaOf,
)
from schemas.node import ReportNodeSilent
from schemas.operation import CancelOperation, OperationEnded, Outcome
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaHoldWanted,
    ReplicaRemovalWanted,
    ReplicaResizeWanted,
    ReplicaWanted,
)
from schemas.replication import (
    ForgetReplica,
    LegDisk,
    ReplicaTieWanted,
    ReplicationChanged,
)
from schemas.volume import Filesystem, GrowVolume, ProvisionVolume
from tests.support.fabric import Fabric, locked_out, losses
from tests.support.given import GIB, NOON
from tests.support.replicating import ReplicatingNode
from tests.support.stage import Stage, taken_bytes
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.unit.hwbus.test_driver import Troubles

MADE = ProvisionVolume(volume="pg", size_bytes=GIB, node="n1", replicas=2, deadline_s=60)
MADE_THREE = ProvisionVolume(volume="pg", size_bytes=GIB, node="n1", replicas=3, deadline_s=60)
PLAIN = ProvisionVolume(volume="pg", size_bytes=GIB, node="n1", deadline_s=60)
ATTACH = AttachVolume(volume="pg", consumer="host/a", cgroup="c", deadline_s=60)
MIGRATE = MigrateVolume(volume="pg", node="n3", deadline_s=60)
DONE = (Outcome.COMPLETED, None, ())


class House:
    """Three nodes that replicate, a control plane, and the fabric between them."""

    def __init__(self, troubles: Troubles, *, many: bool) -> None:
        self.stage = Stage(VirtualClock())
        self.fabric = Fabric(Random(1))
        self.nodes = {
            name: ReplicatingNode(
                self.stage, self.fabric, name, Random(name), self._asked, many=many
            )
            for name in ("n1", "n2", "n3")
        }
        self.troubles: Troubles = lambda _: None
        self.meant = troubles
        self.work: dict[str, asyncio.Task[None]] = {}

    def _asked(self, event: Event) -> Refusal | None:
        return self.troubles(event)

    @property
    def volume(self) -> Volume:
        return self.stage.world.volumes["pg"]

    def legs(self) -> dict[str, int]:
        """How large the legs are, by their nodes."""
        spec = {name: node.volumes.get("pg") for name, node in self.nodes.items()}
        return {name: taken_bytes(one) for name, one in spec.items() if one is not None}

    async def ran(self, wish: Request) -> tuple[Outcome | None, Refusal | None, tuple[str, ...]]:
        """Have *wish* run to its end, and return how it ended."""
        return await self.ended((await self.stage.accepted(wish)).operation)

    async def begun(self, wish: Request, word: type[Event]) -> str:
        """Have *wish* begin, and return its operation as soon as such an event has followed."""
        seen = len(await self.stage.events())
        begun = await self.stage.accepted(wish)
        while not any(  # noqa: ASYNC110
            isinstance(e, word) for e in (await self.stage.events())[seen:]
        ):
            await asyncio.sleep(0.01)
        return begun.operation

    async def ended(self, operation: str) -> tuple[Outcome | None, Refusal | None, tuple[str, ...]]:
        await self.stage.settled()
        ends = [e for e in await self.stage.events() if isinstance(e, OperationEnded)]
        (end,) = [e for e in ends if e.operation == operation]
        return end.outcome, end.code, end.leftovers

    async def lose(self, name: str) -> None:
        """Have the node lose its power, and be known to be silent."""
        self.work.pop(name).cancel()
        self.fabric.crash(name)
        await self.stage.accepted(ReportNodeSilent(node=name, last_heard=NOON))
        await asyncio.sleep(2)

    async def find(self, name: str) -> None:
        """Have the node come back."""
        self.fabric.down.discard(name)
        await self.stage.accepted(self.nodes[name].joined())
        self.start(name)

    def start(self, name: str) -> None:
        self.work[name] = asyncio.create_task(self.nodes[name].work())

    async def in_sync(self) -> None:
        """Wait until every replica is known to have everything."""
        await self.stage.until(
            lambda world: not world.volumes["pg"].outdated and not list(owed(world)), 60
        )
        await asyncio.sleep(3)

    def is_clean(self) -> None:
        """Check that ledgers, links and attachments say what the nodes have, and no more."""
        world = self.stage.world
        for name, node in self.nodes.items():
            ledger = world.pools[name, "fast"].ledger
            booked = {c: p.size_bytes for c, p in (ledger.settled | ledger.reserved).items()}
            assert booked == {s.uid: taken_bytes(s) for s in node.volumes.values()}, name
            tied = {
                volume
                for volume, one in world.volumes.items()
                if name in {member.node for member in one.members}
            }
            assert {one.volume for one in world.nodes[name].links} == tied, name
        has = self.volume.use.attachment if "pg" in world.volumes else None
        made = {name: node.attachments.made.get("pg") for name, node in self.nodes.items()}
        expected = dict.fromkeys(made) | ({self.volume.node: has} if has else {})
        assert made == expected
        assert losses(self.fabric, world) == []
        assert locked_out(self.fabric, world) == []


@asynccontextmanager
async def house(troubles: Troubles, *, many: bool) -> AsyncIterator[House]:
    here = House(troubles, many=many)

    async def nature() -> None:
        while True:
            here.fabric.tick()
            await asyncio.sleep(0.2)

    async with here.stage.control_plane():
        for name, node in here.nodes.items():
            await node.join(2)
            here.start(name)
            await here.stage.accepted(node.form())
        await here.stage.settled()
        passing = asyncio.create_task(nature())
        try:
            yield here
        finally:
            tasks = (passing, *here.work.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def tell(
    tale: Callable[[House], Awaitable[None]],
    *first: Request,
    troubles: Troubles = lambda _: None,
    many: bool = False,
) -> None:
    """Play *tale* once *first* is done; *troubles* begin after that."""

    async def whole() -> None:
        async with house(troubles, many=many) as here:
            for wish in first:
                assert await here.ran(wish) == DONE
            if "pg" in here.stage.world.volumes:
                await here.in_sync()
            here.troubles = here.meant
            await tale(here)
            await asyncio.sleep(130)
            here.is_clean()

    run_virtually(whole)


def fails_at(*words: type[Event], on: str = "", code: Refusal = Refusal.TOOL_FAILED) -> Troubles:
    def troubles(event: Event) -> Refusal | None:
        here = not on or getattr(event, "node", "") == on
        return code if isinstance(event, words) and here else None

    return troubles


@pytest.mark.parametrize("filesystem", [Filesystem.NONE, Filesystem.XFS])
def test_a_volume_is_made_with_two_replicas_and_goes_with_both(filesystem: Filesystem) -> None:
    async def tale(here: House) -> None:
        made = ProvisionVolume(
            volume="pg", size_bytes=GIB, node="n1", replicas=2, filesystem=filesystem, deadline_s=60
        )
        assert await here.ran(made) == DONE
        assert here.volume.size_bytes == GIB
        assert here.volume.node == "n1"
        legs = here.legs()
        assert len(legs) == 2
        assert min(legs.values()) > GIB
        specs = [
            e.replication for e in await here.stage.events() if isinstance(e, ReplicaTieWanted)
        ]
        assert [one and one.filesystem for one in specs] == [filesystem]
        here.is_clean()
        assert await here.ran(DeleteVolume(volume="pg", deadline_s=60)) == DONE
        assert here.legs() == {}

    tell(tale)


@pytest.mark.parametrize("word", [ReplicaWanted, ReplicaTieWanted])
@pytest.mark.parametrize("replicas", [2, 3])
def test_what_cannot_have_all_its_replicas_leaves_nothing(word: type[Event], replicas: int) -> None:
    last = {2: 1, 3: 2}[replicas]
    count = 0

    def troubles(event: Event) -> Refusal | None:
        nonlocal count
        if not isinstance(event, word) or getattr(event, "replication", True) is None:
            return None
        count += 1
        at = last + 1 if word is ReplicaWanted else last
        return Refusal.TOOL_FAILED if count == at else None

    async def tale(here: House) -> None:
        made = ProvisionVolume(
            volume="pg", size_bytes=GIB, node="n1", replicas=replicas, deadline_s=60
        )
        assert await here.ran(made) == (Outcome.FAILED, Refusal.TOOL_FAILED, ())
        assert here.legs() == {}
        assert "pg" not in here.stage.world.volumes

    tell(tale, troubles=troubles, many=True)


def test_a_replica_comes_and_goes_while_the_volume_is_written_to() -> None:
    async def tale(here: House) -> None:
        assert await here.ran(AddReplica(volume="pg", node="n2", deadline_s=60)) == DONE
        await here.in_sync()
        uid = here.volume.uid
        assert here.fabric.legs[uid, "n2"].have == here.fabric.legs[uid, "n1"].have != set()
        assert await here.ran(RemoveReplicaOf(volume="pg", node="n2")) == DONE
        assert list(here.legs()) == ["n1"]
        assert here.volume.members == ()

    tell(tale, PLAIN, ATTACH)


def test_a_removal_is_seen_through_once_the_volume_may_be_written_to_without_the_replica() -> None:
    async def tale(here: House) -> None:
        here.nodes["n1"].slow_s = 5.0
        begun = await here.begun(RemoveReplicaOf(volume="pg", node="n2"), ReplicaTieWanted)
        await here.stage.say(CancelOperation(operation=begun))
        assert await here.ended(begun) == DONE
        assert list(here.legs()) == ["n1"]
        assert here.volume.members == ()

    tell(tale, PLAIN, AddReplica(volume="pg", node="n2", deadline_s=60), ATTACH)


def test_a_replica_goes_though_the_other_node_cannot_do_without_it_yet() -> None:
    async def tale(here: House) -> None:
        left = ("replica/n1/pg",)
        outcome = await here.ran(RemoveReplicaOf(volume="pg", node="n2", deadline_s=60))
        assert outcome == (Outcome.COMPLETED, None, left)
        here.troubles = lambda _: None
        here.work.pop("n1").cancel()
        here.start("n1")
        await here.stage.until(lambda _: here.fabric.legs[here.volume.uid, "n1"].tied is None, 60)

    add = AddReplica(volume="pg", node="n2", deadline_s=60)
    tell(tale, PLAIN, add, ATTACH, troubles=fails_at(ReplicaTieWanted, on="n1"))


@pytest.mark.parametrize("word", [ReplicaWanted, ReplicaTieWanted])
def test_a_replica_that_cannot_be_added_is_undone(word: type[Event]) -> None:
    async def tale(here: House) -> None:
        outcome = await here.ran(AddReplica(volume="pg", node="n2", deadline_s=60))
        assert outcome[:2] == (Outcome.FAILED, Refusal.TOOL_FAILED)
        assert (list(here.legs()), here.volume.members) == (["n1"], ())
        assert here.volume.size_bytes == here.legs()["n1"]

    tell(tale, PLAIN, ATTACH, troubles=once(fails_at(word)))


def test_what_was_taken_at_home_is_given_back_though_the_new_leg_will_not_go() -> None:
    def troubles(event: Event) -> Refusal | None:
        tied = isinstance(event, ReplicaTieWanted) and event.replication is not None
        return Refusal.TOOL_FAILED if tied or isinstance(event, ReplicaRemovalWanted) else None

    async def tale(here: House) -> None:
        outcome = await here.ran(AddReplica(volume="pg", node="n2", deadline_s=60))
        assert outcome == (Outcome.FAILED, Refusal.TOOL_FAILED, ("replica/n2/pg",))
        assert here.volume.members == ()
        nodes = here.stage.world.nodes
        assert ([one.volume for one in nodes["n2"].links], nodes["n1"].links) == (["pg"], ())
        here.troubles = lambda _: None
        here.work.pop("n2").cancel()
        here.start("n2")
        await here.stage.until(lambda world: world.nodes["n2"].links == (), 60)
        assert ("n2", "pg") not in here.stage.world.replicas

    tell(tale, PLAIN, ATTACH, troubles=troubles)


def once(troubles: Troubles) -> Troubles:
    """Return troubles that pass."""
    met = False

    def first(event: Event) -> Refusal | None:
        nonlocal met
        code = None if met else troubles(event)
        met = met or code is not None
        return code

    return first


def test_a_replica_that_will_not_go_is_named_and_the_volume_does_without() -> None:
    async def tale(here: House) -> None:
        outcome = await here.ran(RemoveReplicaOf(volume="pg", node="n2", deadline_s=60))
        assert outcome == (Outcome.COMPLETED, None, ("replica/n2/pg",))
        assert here.volume.members == ()
        here.troubles = lambda _: None
        here.work.pop("n2").cancel()
        here.start("n2")
        await here.stage.until(lambda world: ("n2", "pg") not in world.replicas, 60)
        assert "pg" in here.stage.world.volumes

    tell(tale, MADE, ATTACH, troubles=fails_at(ReplicaRemovalWanted))


def test_a_replica_that_is_there_no_more_can_be_removed_all_the_same() -> None:
    async def tale(here: House) -> None:
        await here.lose("n2")
        assert await here.ran(RemoveReplicaOf(volume="pg", node="n2", lost=True)) == DONE
        assert here.volume.members == ()
        await here.find("n2")
        await here.stage.until(lambda _: "pg" not in here.nodes["n2"].volumes, 60)

    tell(tale, MADE, ATTACH)


@pytest.mark.parametrize("attached", [True, False])
def test_a_volume_is_handed_over_there_and_back(*, attached: bool) -> None:
    async def tale(here: House) -> None:
        for node in ("n2", "n1"):
            assert await here.ran(HandOverVolume(volume="pg", node=node)) == DONE
            assert here.volume.node == node
            assert here.fabric.legs[here.volume.uid, node].primary is attached
            await here.in_sync()

    tell(tale, MADE, *((ATTACH,) if attached else ()))


@pytest.mark.parametrize(
    ("word", "on"),
    [(AttachmentRemovalWanted, "n1"), (AttachmentWanted, "n2")],
)
def test_a_hand_over_that_fails_leaves_the_consumer_where_it_was(
    word: type[Event], on: str
) -> None:
    async def tale(here: House) -> None:
        outcome = await here.ran(HandOverVolume(volume="pg", node="n2", deadline_s=60))
        assert outcome == (Outcome.FAILED, Refusal.TOOL_FAILED, ())
        assert here.volume.node == "n1"
        assert here.volume.use.attachment is not None
        assert here.fabric.legs[here.volume.uid, "n1"].primary

    tell(tale, MADE, ATTACH, troubles=fails_at(word, on=on))


def test_a_consumer_that_can_be_had_neither_there_nor_here_is_told_of() -> None:
    async def tale(here: House) -> None:
        outcome = await here.ran(HandOverVolume(volume="pg", node="n2", deadline_s=60))
        assert outcome == (Outcome.FAILED, Refusal.TOOL_FAILED, ("attachment/n1/pg",))
        assert here.volume.use.attachment is not None
        here.troubles = lambda _: None
        here.work.pop("n1").cancel()
        here.start("n1")
        await here.stage.until(lambda _: bool(here.nodes["n1"].attachments.made), 60)

    tell(tale, MADE, ATTACH, troubles=fails_at(AttachmentWanted))


@pytest.mark.parametrize("attached", [True, False])
def test_a_volume_fails_over_without_losing_a_write_and_the_node_comes_back_as_a_replica(
    *, attached: bool
) -> None:
    async def tale(here: House) -> None:
        uid = here.volume.uid
        written = set(here.fabric.acknowledged.get(uid, set()))
        assert bool(written) is attached
        await here.lose("n1")
        assert await here.ran(FailVolumeOver(volume="pg", deadline_s=60)) == DONE
        leg = here.fabric.legs[uid, "n2"]
        assert (here.volume.node, leg.primary, leg.frozen) == ("n2", attached, False)
        assert written <= leg.have
        await asyncio.sleep(5)
        assert here.volume.outdated == {"n1"}
        await here.find("n1")
        await here.in_sync()
        assert not here.fabric.legs[uid, "n1"].primary
        assert here.fabric.legs[uid, "n1"].have == leg.have

    tell(tale, MADE, *((ATTACH,) if attached else ()))


def test_who_is_cut_off_from_log_and_peer_stays_frozen_and_loses_what_nobody_was_promised() -> None:
    async def tale(here: House) -> None:
        uid, old = here.volume.uid, here.nodes["n1"]
        here.fabric.apart.add(frozenset({"n1", "n2"}))
        old.cut = True
        await asyncio.sleep(3)
        assert here.fabric.legs[uid, "n1"].frozen
        await here.stage.accepted(ReportNodeSilent(node="n1", last_heard=NOON))
        assert await here.ran(FailVolumeOver(volume="pg", deadline_s=60)) == DONE
        old.cut = False
        await asyncio.sleep(5)
        assert not here.fabric.legs[uid, "n1"].primary
        here.fabric.apart.clear()
        await here.in_sync()

    tell(tale, MADE, ATTACH)


def test_who_reaches_the_log_goes_on_without_its_peer_and_nobody_fails_over_to_that() -> None:
    async def tale(here: House) -> None:
        uid = here.volume.uid
        here.fabric.apart.add(frozenset({"n1", "n2"}))
        await here.stage.until(lambda world: bool(world.volumes["pg"].outdated), 60)
        await asyncio.sleep(2)
        assert not here.fabric.legs[uid, "n1"].frozen
        await here.stage.accepted(ReportNodeSilent(node="n1", last_heard=NOON))
        await here.stage.refused(FailVolumeOver(volume="pg"), Refusal.NOT_UP_TO_DATE)
        await here.stage.accepted(here.nodes["n1"].joined())
        here.fabric.apart.clear()
        await here.in_sync()
        assert here.volume.outdated == set()

    tell(tale, MADE, ATTACH)


@pytest.mark.parametrize("fails_on", ["", "n1", "n2"])
def test_two_legs_grow_together_or_the_volume_does_not(fails_on: str) -> None:
    async def tale(here: House) -> None:
        outcome = await here.ran(GrowVolume(volume="pg", size_bytes=2 * GIB, deadline_s=60))
        if not fails_on:
            assert outcome == DONE
            assert here.volume.size_bytes == 2 * GIB
            assert min(here.legs().values()) > 2 * GIB
            return
        assert outcome[:2] == (Outcome.FAILED, Refusal.TOOL_FAILED)
        assert here.volume.size_bytes == GIB
        again = GrowVolume(volume="pg", size_bytes=2 * GIB, deadline_s=60)
        assert await here.ran(again) == DONE

    add = AddReplica(volume="pg", node="n2", deadline_s=60)
    troubles = once(fails_at(ReplicaResizeWanted, on=fails_on)) if fails_on else lambda _: None
    tell(tale, PLAIN, add, ATTACH, troubles=troubles)


def test_two_legs_are_held_brought_back_and_purged() -> None:
    async def tale(here: House) -> None:
        held = DeleteVolume(volume="pg", hold_s=86_400, deadline_s=60)
        assert await here.ran(held) == DONE
        assert await here.ran(UndeleteVolume(volume="pg", deadline_s=60)) == DONE
        assert len(here.legs()) == 2
        assert await here.ran(held) == DONE
        assert await here.ran(PurgeVolume(volume="pg", deadline_s=60)) == DONE
        assert here.legs() == {}

    tell(tale, MADE)


@pytest.mark.parametrize("word", [ReplicaHoldWanted, ReplicaRemovalWanted])
def test_one_leg_that_cannot_be_put_out_of_use_or_removed(word: type[Event]) -> None:
    async def tale(here: House) -> None:
        hold_s = 3600 if word is ReplicaHoldWanted else 0
        here.nodes["n2"].slow_s = 5.0  # the other leg has gone by then
        outcome = await here.ran(DeleteVolume(volume="pg", hold_s=hold_s, deadline_s=60))
        if hold_s:
            assert outcome == (Outcome.FAILED, Refusal.TOOL_FAILED, ())
            assert len(here.legs()) == 2
            return
        assert outcome == (Outcome.COMPLETED, None, ("replica/n2/pg",))
        here.troubles = lambda _: None
        here.work.pop("n2").cancel()
        here.start("n2")
        await here.stage.until(lambda world: ("n2", "pg") not in world.replicas, 60)

    add = AddReplica(volume="pg", node="n2", deadline_s=60)
    tell(tale, PLAIN, add, troubles=fails_at(word, on="n2"))


def test_three_replicas_are_made_and_two_of_them_can_go() -> None:
    async def tale(here: House) -> None:
        assert await here.ran(MADE_THREE) == DONE
        assert sorted(here.legs()) == ["n1", "n2", "n3"]
        await here.in_sync()
        assert await here.ran(RemoveReplicaOf(volume="pg", node="n3", deadline_s=60)) == DONE
        assert [one.node for one in here.volume.members] == ["n1", "n2"]
        await here.in_sync()
        assert await here.ran(RemoveReplicaOf(volume="pg", node="n2", deadline_s=60)) == DONE

    tell(tale, many=True)


def test_a_replica_is_not_there_before_the_node_that_writes_sees_it_whole() -> None:
    """A third is filled from the second, and misses what is written meanwhile."""

    async def tale(here: House) -> None:
        here.fabric.apart.add(frozenset({"n1", "n3"}))
        begun = await here.stage.accepted(AddReplica(volume="pg", node="n3", deadline_s=60))
        await asyncio.sleep(20)
        said = [e for e in await here.stage.events() if isinstance(e, ReplicationChanged)]
        assert any(e.node == "n3" and e.seen.disk is LegDisk.UP_TO_DATE for e in said)
        assert len(here.volume.members) == 2
        here.fabric.apart.clear()
        assert await here.ended(begun.operation) == DONE
        assert len(here.volume.members) == 3

    tell(tale, PLAIN, AddReplica(volume="pg", node="n2", deadline_s=60), ATTACH, many=True)


@pytest.mark.parametrize(
    "wish",
    [
        RemoveReplicaOf(volume="pg", node="n2", deadline_s=60),
        DeleteVolume(volume="pg", deadline_s=60),
    ],
)
def test_a_replica_without_a_leg_stands_in_nobodys_way(wish: Request) -> None:
    async def tale(here: House) -> None:
        gone = ForgetReplica(volume="pg", node="n2", operation="0" * 26)
        assert isinstance(await here.stage.say(gone, within=True), Accepted)
        await here.stage.until(lambda _: "pg" not in here.nodes["n2"].volumes, 60)
        assert await here.ran(wish) == DONE

    tell(tale, MADE)
