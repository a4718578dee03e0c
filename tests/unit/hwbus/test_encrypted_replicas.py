"""Encrypted volumes with several replicas: whichever of them is written to, the log has its key."""

import asyncio

import pytest
from msgspec.structs import replace

from schemas.deleting import DeleteVolume
from schemas.encrypting import RekeyVolume
from schemas.grammar import Event
from schemas.handing import FailVolumeOver
from schemas.keys import HEADER_BYTES, Encryption
from schemas.legs import AddReplica, MigrateVolume, RemoveReplicaOf
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaRekeyed,
    ReplicaRekeyWanted,
    ReplicaResizeWanted,
    ReplicaWanted,
)
from schemas.replicating import head_room_bytes
from schemas.replication import ReplicaTieWanted
from schemas.volume import Filesystem, GrowVolume
from tests.support.given import GIB
from tests.unit.hwbus.test_driver import Troubles
from tests.unit.hwbus.test_replica_operations import ATTACH, DONE, MADE, PLAIN, House, tell

OLD, NEW = "file:old", "file:new"
MADE_ENCRYPTED = replace(MADE, key_ref=OLD, filesystem=Filesystem.XFS)
PLAIN_ENCRYPTED = replace(PLAIN, key_ref=OLD)
ADD = AddReplica(volume="pg", node="n2", deadline_s=60)
REKEY = RekeyVolume(volume="pg", key_ref=NEW, deadline_s=60)


def known(here: House) -> dict[str, tuple[str, ...]]:
    """By which keys each leg may open, as far as the log knows."""
    legs = {node: leg.spec for (node, _), leg in here.stage.world.replicas.items()}
    return {
        node: spec.encryption.known if spec.encryption is not None else ()
        for node, spec in legs.items()
        if spec is not None
    }


def asked(*keys: str, on: str, code: Refusal = Refusal.KEY_MISSING) -> Troubles:
    def troubles(event: Event) -> Refusal | None:
        if not isinstance(event, ReplicaRekeyWanted) or event.node != on:
            return None
        return code if event.encryption.keys == keys else None

    return troubles


def test_nothing_is_made_on_a_leg_and_one_header_above_all_of_them() -> None:
    async def tale(here: House) -> None:
        assert await here.ran(MADE_ENCRYPTED) == DONE
        events = await here.stage.events()
        legs = [e.spec for e in events if isinstance(e, ReplicaWanted)]
        assert [one.encryption for one in legs] == [Encryption(keys=(OLD,))] * 2
        assert [one.bare or one.replication is not None for one in legs] == [True, True]
        assert {one.filesystem for one in legs} == {Filesystem.NONE}
        (tied,) = [e for e in events if isinstance(e, ReplicaTieWanted)]
        assert tied.node == "n1"
        assert tied.replication is not None
        assert (tied.replication.header, tied.replication.filesystem) == (True, Filesystem.XFS)
        device_bytes = GIB + HEADER_BYTES
        assert tied.replication.size_bytes == device_bytes
        assert here.volume.size_bytes == GIB
        leg_bytes = device_bytes + head_room_bytes(device_bytes)
        assert min(here.legs().values()) >= leg_bytes
        world = here.stage.world
        assert not any(leg.spec.bare for leg in world.replicas.values() if leg.spec is not None)
        here.is_clean()
        assert await here.ran(DeleteVolume(volume="pg", deadline_s=60)) == DONE
        assert here.legs() == {}

    tell(tale)


def test_no_header_is_asked_for_where_data_may_be() -> None:
    async def tale(here: House) -> None:
        assert await here.ran(ADD) == DONE
        assert known(here) == {"n1": (OLD,), "n2": (OLD,)}
        assert await here.ran(MigrateVolume(volume="pg", node="n3", deadline_s=60)) == DONE
        assert known(here) == {"n2": (OLD,), "n3": (OLD,)}
        assert await here.ran(RemoveReplicaOf(volume="pg", node="n3", deadline_s=60)) == DONE
        ties = [e.replication for e in await here.stage.events() if isinstance(e, ReplicaTieWanted)]
        assert not any(one.header for one in ties if one is not None)
        device_bytes = GIB + HEADER_BYTES
        assert here.volume.size_bytes >= GIB + head_room_bytes(device_bytes)

    tell(tale, PLAIN_ENCRYPTED, ATTACH)


def test_what_is_replicated_grows_with_its_header_counted() -> None:
    async def tale(here: House) -> None:
        assert await here.ran(GrowVolume(volume="pg", size_bytes=2 * GIB, deadline_s=60)) == DONE
        grown = [e for e in await here.stage.events() if isinstance(e, ReplicaResizeWanted)]
        device_bytes = 2 * GIB + HEADER_BYTES
        assert [one.device_bytes for one in grown] == [device_bytes] * 2
        assert {one.size_bytes for one in grown} == {device_bytes + head_room_bytes(device_bytes)}
        assert here.volume.size_bytes == 2 * GIB

    tell(tale, MADE_ENCRYPTED)


def test_every_node_has_the_new_key_before_the_header_does() -> None:
    async def tale(here: House) -> None:
        assert await here.ran(REKEY) == DONE
        wishes = [
            (e.node, e.encryption.keys, e.elsewhere)
            for e in await here.stage.events()
            if isinstance(e, ReplicaRekeyWanted)
        ]
        assert wishes == [
            ("n2", (NEW, OLD), True),
            ("n1", (NEW, OLD), False),
            ("n1", (NEW,), False),
            ("n2", (NEW,), True),
        ]
        assert known(here) == {"n1": (NEW,), "n2": (NEW,)}
        assert here.volume.key_ref == NEW

    tell(tale, MADE_ENCRYPTED)


@pytest.mark.parametrize(
    ("troubles", "end", "left"),
    [
        # The other node lacks it: the header is not touched.
        (asked(NEW, OLD, on="n2"), Refusal.KEY_MISSING, {"n1": (OLD,), "n2": (OLD,)}),
        (asked(NEW, OLD, on="n1"), Refusal.KEY_MISSING, {"n1": (OLD,), "n2": (OLD,)}),
        (asked(NEW, on="n1"), Refusal.KEY_MISSING, {"n1": (OLD,), "n2": (OLD,)}),
        # What it keeps besides does no harm, and the next rekeying clears it up.
        (asked(NEW, on="n2"), None, {"n1": (NEW,), "n2": (NEW, OLD)}),
    ],
)
def test_a_key_that_is_missing_somewhere(
    troubles: Troubles, end: Refusal | None, left: dict[str, tuple[str, ...]]
) -> None:
    async def tale(here: House) -> None:
        _, code, leftovers = await here.ran(REKEY)
        assert (code, leftovers) == (end, ())
        assert known(here) == left
        assert here.volume.key_ref == (OLD if end else NEW)

    tell(tale, MADE_ENCRYPTED, troubles=troubles)


def test_as_long_as_it_is_not_known_which_key_opens_the_header_all_nodes_know_both() -> None:
    def troubles(event: Event) -> Refusal | None:
        at_home = isinstance(event, ReplicaRekeyWanted) and event.node == "n1"
        return Refusal.KEY_DENIED if at_home else None

    async def tale(here: House) -> None:
        outcome, code, leftovers = await here.ran(REKEY)
        assert (outcome, code) == (Outcome.FAILED, Refusal.KEY_DENIED)
        assert leftovers == ("replica/n1/pg",)
        assert all(set(keys) == {OLD, NEW} for keys in known(here).values())
        here.troubles = lambda _: None
        assert await here.ran(replace(REKEY, key_ref="file:third")) == DONE
        assert known(here) == {"n1": ("file:third",), "n2": ("file:third",)}

    tell(tale, MADE_ENCRYPTED, troubles=troubles)


@pytest.mark.parametrize("wishes", [1, 2, 3, 4])
def test_wherever_a_rekeying_is_cancelled_each_leg_opens_by_a_key_that_is_known(
    wishes: int,
) -> None:
    async def tale(here: House) -> None:
        begun = await here.stage.accepted(REKEY)
        while True:
            events = await here.stage.events()
            if sum(isinstance(e, ReplicaRekeyWanted) for e in events) >= wishes:
                break
            await asyncio.sleep(0.05)
        await here.stage.say(CancelOperation(operation=begun.operation))
        outcome, _, leftovers = await here.ended(begun.operation)
        events = await here.stage.events()
        # What n1 has said last is what opens the header, wherever that is read.
        said = [e.keys for e in events if isinstance(e, ReplicaRekeyed) and e.node == "n1"]
        header = set(said[-1]) if said else {OLD}
        assert all(header <= set(keys) for keys in known(here).values())
        assert here.volume.key_ref in header
        assert leftovers == ()
        assert outcome in {Outcome.COMPLETED, Outcome.CANCELLED}

    tell(tale, MADE_ENCRYPTED)


def test_one_that_is_behind_would_keep_the_old_header() -> None:
    async def tale(here: House) -> None:
        await here.lose("n2")
        refused = await here.stage.say(REKEY)
        assert getattr(refused, "code", None) is Refusal.NODE_SILENT
        await here.find("n2")
        await here.in_sync()

    tell(tale, MADE_ENCRYPTED)


def test_a_key_that_was_not_changed_in_the_end_can_be_changed_to_after_a_failover() -> None:
    """The volume has moved to a node that has been told of both, and never that one is gone."""

    def troubles(event: Event) -> Refusal | None:
        at_home = isinstance(event, ReplicaRekeyWanted) and event.node == "n1"
        return Refusal.KEY_DENIED if at_home else None

    async def tale(here: House) -> None:
        assert (await here.ran(REKEY))[0] is Outcome.FAILED
        here.troubles = lambda _: None
        await here.lose("n1")
        assert await here.ran(FailVolumeOver(volume="pg", deadline_s=60)) == DONE
        await here.find("n1")
        await here.in_sync()
        assert here.volume.node == "n2"
        assert await here.ran(REKEY) == DONE
        assert known(here) == {"n1": (NEW,), "n2": (NEW,)}

    tell(tale, MADE_ENCRYPTED, troubles=troubles)
