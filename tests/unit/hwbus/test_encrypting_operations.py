"""Encrypted volumes and their keys, from the wish to the end, on a control plane in memory."""

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from schemas.deleting import DeleteVolume
from schemas.encrypting import RekeyVolume
from schemas.grammar import Event
from schemas.keys import HEADER_BYTES
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from schemas.replica import ReplicaRekeyWanted
from schemas.volume import GrowVolume
from tests.support.given import GIB
from tests.unit.hwbus.test_driver import PROVISION, Play, Troubles, fails_at, play, story, with_pool

OLD, NEW = "file:old", "file:new"
ENCRYPTED = replace(PROVISION, key_ref=OLD)
REKEY = RekeyVolume(volume="pg", key_ref=NEW)
DONE = (Outcome.COMPLETED, None, 0)


def tell(tale: Callable[[Play], Awaitable[None]], troubles: Troubles = lambda _: None) -> None:
    async def whole() -> None:
        async with play(troubles) as here:
            await with_pool(here)
            assert await here.outcome((await here.stage.accepted(ENCRYPTED)).operation) == DONE
            await tale(here)

    story(whole)


async def rekeying(here: Play) -> tuple[Outcome | None, Refusal | None, int]:
    return await here.outcome((await here.stage.accepted(REKEY)).operation)


def keys(here: Play) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What opens the leg on the node, and what the log knows of."""
    spec = here.node.volumes["pg"].encryption
    leg = here.stage.world.replicas[here.node.name, "pg"].spec
    assert spec is not None
    assert leg is not None
    assert leg.encryption is not None
    return spec.keys, leg.encryption.known


def asked(*keys: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, ReplicaRekeyWanted) and event.encryption.keys == keys


def test_a_leg_is_larger_than_its_volume_by_the_header_whatever_becomes_of_it() -> None:
    async def tale(here: Play) -> None:
        before = here.stage.world.volumes["pg"].size_bytes
        assert here.node.volumes["pg"].size_bytes == ENCRYPTED.size_bytes + HEADER_BYTES
        assert before == ENCRYPTED.size_bytes
        word = GrowVolume(volume="pg", size_bytes=before + GIB)
        assert await here.outcome((await here.stage.accepted(word)).operation) == DONE
        assert here.node.volumes["pg"].size_bytes == before + GIB + HEADER_BYTES
        assert here.stage.world.volumes["pg"].size_bytes == before + GIB
        ledger = here.stage.world.pools[here.node.name, "fast"].ledger
        assert ledger.thick_settled_bytes == before + GIB + HEADER_BYTES
        gone = await here.stage.accepted(DeleteVolume(volume="pg"))
        assert await here.outcome(gone.operation) == DONE
        ledger = here.stage.world.pools[here.node.name, "fast"].ledger
        assert ledger.empty

    tell(tale)


def test_the_new_key_is_there_before_the_old_one_goes() -> None:
    wishes: list[tuple[str, ...]] = []

    def note(event: Event) -> Refusal | None:
        if isinstance(event, ReplicaRekeyWanted):
            wishes.append(event.encryption.keys)
        return None

    async def tale(here: Play) -> None:
        assert await rekeying(here) == DONE
        assert wishes == [(NEW, OLD), (NEW,)]
        assert keys(here) == ((NEW,), (NEW,))
        assert here.stage.world.volumes["pg"].key_ref == NEW

    tell(tale, note)


def test_a_key_that_is_not_there_changes_nothing() -> None:
    def troubles(event: Event) -> Refusal | None:
        return Refusal.KEY_MISSING if asked(NEW, OLD)(event) else None

    async def tale(here: Play) -> None:
        assert await rekeying(here) == (Outcome.FAILED, Refusal.KEY_MISSING, 0)
        assert keys(here) == ((OLD,), (OLD,))
        assert here.stage.world.volumes["pg"].key_ref == OLD

    tell(tale, troubles)


def test_an_old_key_that_cannot_be_taken_away_stays_and_the_new_one_goes() -> None:
    def troubles(event: Event) -> Refusal | None:
        return Refusal.KEY_DENIED if asked(NEW)(event) else None

    async def tale(here: Play) -> None:
        assert await rekeying(here) == (Outcome.FAILED, Refusal.KEY_DENIED, 0)
        assert keys(here) == ((OLD,), (OLD,))
        assert here.stage.world.volumes["pg"].key_ref == OLD

    tell(tale, troubles)


def test_what_cannot_even_be_undone_is_told_and_no_key_is_forgotten() -> None:
    async def tale(here: Play) -> None:
        assert await rekeying(here) == (Outcome.FAILED, Refusal.KEY_MISSING, 1)
        assert keys(here) == ((OLD,), (OLD, NEW))
        assert here.stage.world.volumes["pg"].key_ref == OLD

    tell(tale, fails_at(ReplicaRekeyWanted, code=Refusal.KEY_MISSING))


def test_a_rekeying_that_is_cancelled_leaves_the_key_that_was() -> None:
    async def tale(here: Play) -> None:
        here.node.slow_s = 30.0
        begun = await here.stage.accepted(REKEY)
        await here.stage.until(lambda world: begun.operation in world.operations)
        await here.stage.accepted(CancelOperation(operation=begun.operation))
        outcome, code, left = await here.outcome(begun.operation)
        assert (outcome, code, left) == (Outcome.CANCELLED, Refusal.CANCELLED, 0)
        assert keys(here)[0] == (OLD,)
        assert here.stage.world.volumes["pg"].key_ref == OLD

    tell(tale)
