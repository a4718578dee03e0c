"""Replicas are compared from the wish to the end, on a control plane in memory."""

from typing import Any

import pytest

from schemas.errand import Compare, ErrandWanted
from schemas.grammar import Event
from schemas.handing import FailVolumeOver
from schemas.operation import CancelOperation, OperationEnded, Outcome
from schemas.refusals import Refusal
from schemas.verifying import (
    RepairBegan,
    VerificationFailed,
    VerifyVolume,
    VolumeRepaired,
    VolumeVerified,
)
from tests.unit.hwbus.test_replica_operations import (
    ATTACH,
    DONE,
    MADE,
    House,
    fails_at,
    tell,
)

VERIFY = VerifyVolume(volume="pg", deadline_s=3600)
REPAIR = VerifyVolume(volume="pg", repair=True, deadline_s=3600)


async def happened(here: House, *words: type[Event]) -> list[Any]:
    return [event for event in await here.stage.events() if isinstance(event, words)]


def told_of_nothing_else(here: House) -> None:
    assert here.volume.verifying is None
    assert here.volume.operation == ""
    assert not here.stage.world.errands


def test_replicas_that_are_the_same_are_found_so() -> None:
    async def tale(here: House) -> None:
        here.nodes["n1"].differing_bytes = 0
        assert await here.ran(REPAIR) == DONE
        (found,) = await happened(here, VolumeVerified, VolumeRepaired)
        assert (found.differing_bytes, found.goes_on) == (0, False)
        assert here.volume.verified_at == found.at
        told_of_nothing_else(here)

    tell(tale, MADE, ATTACH)


def test_what_differs_fails_who_only_looks_and_is_copied_for_who_wants_that() -> None:
    async def tale(here: House) -> None:
        here.nodes["n1"].differing_bytes = 4096
        assert await here.ran(VERIFY) == (Outcome.FAILED, Refusal.REPLICAS_DIFFER, ())
        assert here.volume.differing_bytes == 4096
        told_of_nothing_else(here)
        assert await here.ran(REPAIR) == DONE
        found, again, repaired = await happened(here, VolumeVerified, VolumeRepaired)
        assert [one.differing_bytes for one in (found, again, repaired)] == [4096] * 3
        assert repaired.node == "n1"
        assert here.volume.differing_bytes == 0
        end = (await happened(here, OperationEnded))[-1]
        assert end.because == "4 KiB (4096 bytes) were not the same, and were copied from n1"
        told_of_nothing_else(here)

    tell(tale, MADE, ATTACH)


def test_two_comparisons_of_one_volume_are_never_at_a_time() -> None:
    async def tale(here: House) -> None:
        here.nodes["n1"].slow_s, here.nodes["n1"].differing_bytes = 60.0, 4096
        began = await here.stage.accepted(REPAIR)
        await here.stage.refused(VERIFY, Refusal.VOLUME_BUSY)
        await here.stage.until(lambda world: bool(world.errands))
        await here.stage.accepted(CancelOperation(operation=began.operation))
        ended = await here.ended(began.operation)
        assert ended == (Outcome.CANCELLED, Refusal.CANCELLED, ())
        assert await happened(here, RepairBegan) == []
        told_of_nothing_else(here)

    tell(tale, MADE)


@pytest.mark.parametrize("repairing", [False, True])
def test_a_node_that_dies_meanwhile_ends_it_and_the_volume_goes_on_elsewhere(
    *, repairing: bool
) -> None:
    async def tale(here: House) -> None:
        here.nodes["n1"].differing_bytes = 4096

        def slow(event: Event) -> None:
            if isinstance(event, ErrandWanted) and isinstance(event.errand, Compare):
                here.nodes["n1"].slow_s = 36_000.0

        if repairing:
            here.troubles = slow
        else:
            here.nodes["n1"].slow_s = 36_000.0
        began = await here.stage.accepted(REPAIR)
        await here.stage.until(lambda world: bool(world.errands), 60)
        if repairing:
            await here.stage.until(lambda world: bool(world.volumes["pg"].operation), 60)
        await here.lose("n1")
        if repairing:  # it would be cancelled for a failover, and in any case within a minute
            await here.stage.until(lambda world: world.volumes["pg"].verifying is None, 70)
        await here.stage.accepted(FailVolumeOver(volume="pg", deadline_s=60))
        await here.stage.until(lambda world: not world.volumes["pg"].operation, 60)
        assert here.volume.node == "n2"
        await here.stage.until(lambda world: world.volumes["pg"].verifying is None, 70)
        assert len(await happened(here, VerificationFailed)) == 1
        here.nodes["n1"].slow_s = 0.01
        here.troubles = lambda _: None
        await here.find("n1")
        await here.in_sync()
        left = (f"errand/n1/{began.operation}",)
        ended = (Outcome.FAILED, Refusal.VERIFY_BROKEN, left)
        assert await here.ended(began.operation) == ended
        told_of_nothing_else(here)

    tell(tale, MADE, ATTACH)


def test_what_the_node_cannot_do_is_said_with_its_reason() -> None:
    async def tale(here: House) -> None:
        ended = await here.ran(VERIFY)
        assert ended == (Outcome.FAILED, Refusal.VERIFY_BROKEN, ())
        (failed,) = await happened(here, VerificationFailed)
        assert failed.because == "as the script has it"
        told_of_nothing_else(here)

    tell(tale, MADE, troubles=fails_at(ErrandWanted, code=Refusal.VERIFY_BROKEN))
