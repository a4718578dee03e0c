"""Attaching, detaching and limiting, from the wish to the end, on a control plane in memory."""

from collections.abc import Awaitable, Callable

import pytest

from schemas.attaching import AttachVolume, DetachVolume, LimitVolume
from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentRemovalWanted,
    AttachmentWanted,
    Limits,
)
from schemas.deleting import DeleteVolume
from schemas.grammar import Event
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from tests.unit.hwbus.test_driver import PROVISION, Play, Troubles, fails_at, play, story, with_pool

ATTACH = AttachVolume(volume="pg", consumer="host/backup", cgroup="backup")
DETACH = DetachVolume(volume="pg")
SLOW = Limits(read_iops=100)
LIMIT = LimitVolume(volume="pg", limits=SLOW)
DONE = (Outcome.COMPLETED, None, 0)


def tell(tale: Callable[[Play], Awaitable[None]], troubles: Troubles = lambda _: None) -> None:
    async def whole() -> None:
        async with play(troubles) as here:
            await with_pool(here)
            assert await here.outcome((await here.stage.accepted(PROVISION)).operation) == DONE
            await tale(here)

    story(whole)


async def outcome(
    here: Play, wish: AttachVolume | DetachVolume | LimitVolume | DeleteVolume
) -> tuple[Outcome | None, Refusal | None, int]:
    return await here.outcome((await here.stage.accepted(wish)).operation)


def test_a_volume_is_attached_limited_detached_and_deleted() -> None:
    async def tale(here: Play) -> None:
        assert await outcome(here, ATTACH) == DONE
        assert here.node.attachments.made["pg"].consumer == "host/backup"
        again = await here.stage.accepted(ATTACH)
        assert again.operation == ""
        assert await outcome(here, LIMIT) == DONE
        assert here.node.attachments.made["pg"].limits == SLOW
        await here.stage.refused(DeleteVolume(volume="pg"), Refusal.VOLUME_ATTACHED)
        assert await outcome(here, DETACH) == DONE
        assert here.node.attachments.made == {}
        assert here.stage.world.attachments == {}
        assert await outcome(here, DeleteVolume(volume="pg")) == DONE

    tell(tale)


def test_an_attachment_that_the_node_cannot_make_leaves_no_trace() -> None:
    async def tale(here: Play) -> None:
        assert await outcome(here, ATTACH) == (Outcome.FAILED, Refusal.NO_CGROUP, 0)
        assert here.stage.world.attachments == {}
        assert here.stage.world.volumes["pg"].use.attachment is None

    tell(tale, fails_at(AttachmentWanted, code=Refusal.NO_CGROUP))


def test_a_volume_that_is_busy_stays_attached() -> None:
    async def tale(here: Play) -> None:
        assert await outcome(here, ATTACH) == DONE
        assert await outcome(here, DETACH) == (Outcome.FAILED, Refusal.IN_USE, 0)
        use = here.stage.world.volumes["pg"].use
        assert here.node.attachments.made["pg"] == use.attachment

    tell(tale, fails_at(AttachmentRemovalWanted, code=Refusal.IN_USE))


def test_limits_that_cannot_be_set_are_taken_back() -> None:
    def troubles(event: Event) -> Refusal | None:
        hard = isinstance(event, AttachmentLimitsWanted) and event.limits != SLOW
        return Refusal.NO_IO_CONTROLLER if hard else None

    async def tale(here: Play) -> None:
        assert await outcome(here, ATTACH) == DONE
        assert await outcome(here, LIMIT) == DONE
        other = LimitVolume(volume="pg", limits=Limits(write_iops=5))
        assert await outcome(here, other) == (Outcome.FAILED, Refusal.NO_IO_CONTROLLER, 0)
        assert here.stage.world.volumes["pg"].use.limits == SLOW
        assert here.node.attachments.made["pg"].limits == SLOW

    tell(tale, troubles)


def test_limits_that_cannot_even_be_taken_back_keep_nobody_waiting() -> None:
    async def tale(here: Play) -> None:
        assert await outcome(here, ATTACH) == DONE
        assert await outcome(here, LIMIT) == (Outcome.FAILED, Refusal.NO_CGROUP, 0)
        assert here.stage.world.volumes["pg"].use.limits == Limits()

    tell(tale, fails_at(AttachmentLimitsWanted, code=Refusal.NO_CGROUP))


@pytest.mark.parametrize("wish", [ATTACH, DETACH, LIMIT])
def test_what_a_silent_node_does_not_do_is_given_up_in_time_and_put_right_when_it_is_back(
    wish: AttachVolume | DetachVolume | LimitVolume,
) -> None:
    async def tale(here: Play) -> None:
        if wish != ATTACH:
            assert await outcome(here, ATTACH) == DONE
        before = here.stage.world.volumes["pg"].use
        await here.stop()
        assert await outcome(here, wish) == (Outcome.FAILED, Refusal.DEADLINE, 1)
        assert here.stage.world.volumes["pg"].use == before
        here.start()
        there = {} if before.attachment is None else {"pg": before.attachment}

        def is_right(_: object) -> bool:
            wanted = {name: one.spec for (_, name), one in here.stage.world.attachments.items()}
            return here.node.attachments.made == there == wanted

        await here.stage.until(is_right, within_s=60)

    tell(tale)


def test_a_detachment_that_is_cancelled_while_the_node_is_away_is_undone() -> None:
    async def tale(here: Play) -> None:
        assert await outcome(here, ATTACH) == DONE
        await here.stop()
        operation = (await here.stage.accepted(DETACH)).operation
        await here.stage.until(lambda world: world.attachments["n1", "pg"].phase == "going")
        await here.stage.accepted(CancelOperation(operation=operation))
        here.start()
        assert await here.outcome(operation) == (Outcome.CANCELLED, Refusal.CANCELLED, 0)
        assert here.node.attachments.made["pg"].consumer == "host/backup"

    tell(tale)


def test_a_detachment_whose_node_answers_an_earlier_one_ends_as_one() -> None:
    """It says that the attachment is gone to the first wish, when the second waits for that."""

    async def tale(here: Play) -> None:
        assert await outcome(here, ATTACH) == DONE
        await here.stop()
        assert await outcome(here, DETACH) == (Outcome.FAILED, Refusal.DEADLINE, 1)
        again = await here.stage.accepted(DETACH)
        await here.stage.until(lambda world: world.attachments["n1", "pg"].phase == "going")
        here.start()
        assert await here.outcome(again.operation) == DONE
        assert here.stage.world.volumes["pg"].use.attachment is None
        assert here.node.attachments.made == {}

    tell(tale)
