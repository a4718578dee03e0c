"""Whole disks as volumes, from the wish to the free disk, on a control plane in memory."""

from hwbus.memory import MemoryLog
from schemas.answers import Accepted
from schemas.deleting import DeleteVolume, PurgeVolume, UndeleteVolume
from schemas.disk import DiskClass, OverrideDiskClass, Wiping
from schemas.grammar import Event
from schemas.node import CordonNode, RemoveNode
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from schemas.replica import ReplicaHoldWanted, ReplicaRemovalWanted, ReplicaWanted
from schemas.volume import Layout, ProvisionVolume, VolumeProvisioned
from tests.support.given import GIB, MIB
from tests.unit.hwbus.test_driver import Play, fails_at, play, story

WISH = ProvisionVolume(volume="pg", size_bytes=GIB, layout=Layout.DISK, deadline_s=60)
GIVEN = 20 * GIB - 4 * MIB
DONE = (Outcome.COMPLETED, None, 0)


def owners(here: Play) -> dict[str, str]:
    disks = here.stage.world.disks
    return {name: disk.owner.volume for name, disk in disks.items() if disk.owner is not None}


def is_as_before(here: Play) -> bool:
    world = here.stage.world
    nothing = world.volumes == {} == world.replicas and owners(here) == {}
    return nothing and world.nodes["n1"].pools == frozenset()


async def made(here: Play, wish: ProvisionVolume = WISH) -> None:
    began = await here.stage.accepted(wish)
    assert await here.outcome(began.operation) == DONE


async def last(here: Play, word: type[Event]) -> Event:
    return [event for event in await here.stage.events() if isinstance(event, word)][-1]


def test_a_blank_disk_becomes_a_volume_and_is_free_again_when_that_is_deleted() -> None:
    async def tale() -> None:
        async with play() as here:
            await made(here)
            volume = here.stage.world.volumes["pg"]
            assert (volume.disk, volume.size_bytes) == ("n1-d0", GIVEN)
            assert owners(here) == {"n1-d0": "pg"}
            assert here.node.volumes["pg"].disk == "n1-d0"
            assert here.stage.world.pools == {}
            gone = await here.stage.accepted(DeleteVolume(volume="pg"))
            assert await here.outcome(gone.operation) == DONE
            assert is_as_before(here)
            await made(here)

    story(tale)


def test_a_named_disk_is_that_disk_and_so_is_one_of_its_class() -> None:
    async def tale() -> None:
        async with play(disks=3) as here:
            await here.stage.accepted(OverrideDiskClass(disk="n1-d2", media=DiskClass.NVME))
            named = ProvisionVolume(volume="a", size_bytes=1, layout=Layout.DISK, disk="n1-d1")
            await made(here, named)
            of_class = ProvisionVolume(
                volume="b", size_bytes=1, layout=Layout.DISK, media=DiskClass.NVME
            )
            await made(here, of_class)
            assert owners(here) == {"n1-d1": "a", "n1-d2": "b"}
            again = ProvisionVolume(volume="c", size_bytes=1, layout=Layout.DISK, disk="n1-d1")
            no = await here.stage.refused(again, Refusal.DISK_CLAIMED)
            assert "belongs to volume a" in no.because
            claimed = await here.stage.refused(here.node.form(2), Refusal.DISK_CLAIMED)
            assert "n1-d1" in claimed.because

    story(tale)


def test_wishes_at_once_never_get_the_same_disk() -> None:
    async def tale() -> None:
        async with play(disks=3) as here:
            wishes = [
                ProvisionVolume(volume=f"v{n}", size_bytes=GIB, layout=Layout.DISK)
                for n in range(5)
            ]
            answers = [await here.stage.say(wish) for wish in wishes]
            began = [one.operation for one in answers if isinstance(one, Accepted)]
            ends = [await here.outcome(operation or "") for operation in began]
            assert ends.count(DONE) == 3
            assert len(set(owners(here).values())) == 3
            legs = here.stage.world.replicas.values()
            assert {leg.spec.disk for leg in legs if leg.spec is not None} == set(owners(here))

    story(tale)


def test_what_its_node_cannot_do_gives_the_disk_back() -> None:
    async def tale() -> None:
        async with play(fails_at(ReplicaWanted)) as here:
            began = await here.stage.accepted(WISH)
            assert await here.outcome(began.operation) == (
                Outcome.FAILED,
                Refusal.TOOL_FAILED,
                0,
            )
            assert is_as_before(here)

    story(tale)


def test_a_cordoned_node_gives_no_disk() -> None:
    async def tale() -> None:
        async with play(disks=1) as here:
            await here.stage.accepted(CordonNode(node="n1", because="repair"))
            no = await here.stage.refused(WISH, Refusal.NODE_CORDONED)
            assert "takes nothing new" in no.because
            assert is_as_before(here)

    story(tale)


def test_cancelled_while_its_node_is_away_it_leaves_nothing_behind() -> None:
    async def tale() -> None:
        async with play() as here:
            await here.stop()
            began = await here.stage.accepted(WISH)
            await here.stage.until(lambda world: ("n1", "pg") in world.replicas)
            await here.stage.accepted(CancelOperation(operation=began.operation or ""))
            here.start()
            assert (await here.outcome(began.operation or ""))[0] is Outcome.CANCELLED
            assert is_as_before(here)

    story(tale)


def test_a_held_one_keeps_its_disk_until_it_is_purged_or_comes_back() -> None:
    async def tale() -> None:
        async with play() as here:
            await made(here)
            held = await here.stage.accepted(DeleteVolume(volume="pg", hold_s=3600))
            assert await here.outcome(held.operation) == DONE
            assert owners(here) == {"n1-d0": "pg"}
            back = await here.stage.accepted(UndeleteVolume(volume="pg"))
            assert await here.outcome(back.operation) == DONE
            held = await here.stage.accepted(
                DeleteVolume(volume="pg", hold_s=3600, wiping=Wiping.ZERO)
            )
            assert await here.outcome(held.operation) == DONE
            purged = await here.stage.accepted(PurgeVolume(volume="pg"))
            assert await here.outcome(purged.operation) == DONE
            removal = await last(here, ReplicaRemovalWanted)
            assert isinstance(removal, ReplicaRemovalWanted)
            assert removal.wiping is Wiping.ZERO
            assert is_as_before(here)

    story(tale)


def test_a_lost_one_is_not_held_first() -> None:
    async def tale() -> None:
        async with play() as here:
            await made(here)
            wish = DeleteVolume(volume="pg", hold_s=3600, wiping=Wiping.LOST)
            gone = await here.stage.accepted(wish)
            assert await here.outcome(gone.operation) == DONE
            assert not any(isinstance(e, ReplicaHoldWanted) for e in await here.stage.events())
            assert is_as_before(here)

    story(tale)


def test_what_cannot_be_wiped_stays_a_volume_with_its_disk() -> None:
    async def tale() -> None:
        async with play(fails_at(ReplicaRemovalWanted, code=Refusal.IN_USE)) as here:
            await made(here)
            kept = await here.stage.accepted(DeleteVolume(volume="pg"))
            assert await here.outcome(kept.operation) == (Outcome.FAILED, Refusal.IN_USE, 0)
            assert owners(here) == {"n1-d0": "pg"}
            assert here.stage.world.volumes["pg"].operation == ""

    story(tale)


def test_a_node_with_a_raw_disk_volume_is_not_removed() -> None:
    async def tale() -> None:
        async with play() as here:
            await made(here)
            no = await here.stage.refused(RemoveNode(node="n1"), Refusal.NODE_HAS_RAW_DISKS)
            assert "pg" in no.because
            gone = await here.stage.accepted(DeleteVolume(volume="pg"))
            assert await here.outcome(gone.operation) == DONE
            removed = await here.stage.accepted(RemoveNode(node="n1"))
            assert await here.outcome(removed.operation) == DONE

    story(tale)


def test_whoever_takes_over_knows_the_claim_and_gives_nothing_back() -> None:
    async def tale() -> None:
        async with play() as here:
            await made(here)
            head = await here.stage.log.head()
            assert isinstance(here.stage.log, MemoryLog)
            async with here.stage.control_plane():
                await here.stage.until(lambda world: "pg" in world.volumes)
                assert owners(here) == {"n1-d0": "pg"}
                assert here.stage.world.nodes["n1"].pools != frozenset()
            assert await here.stage.log.head() == head
            there = await last(here, VolumeProvisioned)
            assert isinstance(there, VolumeProvisioned)
            assert there.disk == "n1-d0"

    story(tale)
