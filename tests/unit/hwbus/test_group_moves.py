"""Groups stay together, from the wish to the end, on a control plane in memory."""

import asyncio
from collections.abc import Awaitable, Callable

from aggregates.common_nodes import place
from aggregates.processes.epochs import owed
from schemas.draining import DrainNode
from schemas.grammar import Event
from schemas.group_moves import AddGroupReplica, GroupMoveEnded, HandGroupOver, MigrateGroup
from schemas.handing import FailVolumeOver
from schemas.operation import (
    CancelOperation,
    OperationEnded,
    OperationKind,
    OperationProgressed,
    Outcome,
)
from schemas.refusals import Refusal
from schemas.replica import ReplicaWanted
from schemas.replication import ReplicationChanged
from schemas.volume import ProvisionVolume
from schemas.volume_group import CreateGroup, RemoveGroup
from tests.support.given import GIB
from tests.support.virtual_time import run_virtually
from tests.unit.hwbus.test_driver import Troubles
from tests.unit.hwbus.test_replica_operations import DONE, House, house

VOLUMES = ("a", "b")


def where(here: House) -> set[str]:
    """Return where the volumes are, the node that they are written to on first."""
    return {str(place(here.stage.world.volumes[name])) for name in VOLUMES}


async def in_sync(here: House) -> None:
    await here.stage.until(
        lambda w: not any(w.volumes[v].outdated for v in VOLUMES) and not list(owed(w)), 60
    )
    await asyncio.sleep(3)


async def make(here: House, replicas: int) -> str:
    """Make both at the same time, and return where they are."""
    await here.stage.accepted(CreateGroup(group="shop"))
    begun = [
        await here.stage.accepted(
            ProvisionVolume(
                volume=name, size_bytes=GIB, replicas=replicas, group="shop", deadline_s=60
            )
        )
        for name in VOLUMES
    ]
    for one in begun:
        assert await here.ended(one.operation) == DONE
    await in_sync(here)
    assert set(here.stage.world.groups["shop"].members) == set(VOLUMES)
    (common,) = where(here)
    return common


def tell(tale: Callable[[House], Awaitable[None]], troubles: Troubles = lambda _: None) -> None:
    async def whole() -> None:
        async with house(troubles, many=False) as here:
            await tale(here)
            await asyncio.sleep(130)
            here.is_clean()

    run_virtually(whole)


async def end_of(here: House, operation: str) -> OperationEnded:
    await here.ended(operation)
    ends = [e for e in await here.stage.events() if isinstance(e, OperationEnded)]
    return next(e for e in ends if e.operation == operation)


def test_two_volumes_of_a_group_are_made_handed_over_moved_and_failed_over_together() -> None:
    async def tale(here: House) -> None:
        first, second = (await make(here, 2)).split("+")
        (third,) = {"n1", "n2", "n3"} - {first, second}
        assert await here.ran(HandGroupOver(group="shop", node=second, deadline_s=60)) == DONE
        assert where(here) == {f"{second}+{first}"}
        await in_sync(here)
        migrate = MigrateGroup(group="shop", source=first, node=third, deadline_s=120)
        moved = await here.stage.accepted(migrate)
        assert (await end_of(here, moved.operation)).outcome is Outcome.COMPLETED
        assert where(here) == {f"{second}+{third}"}
        told = [e for e in await here.stage.events() if isinstance(e, OperationProgressed)]
        mine = [e.done_bytes for e in told if e.operation == moved.operation]
        assert mine == [GIB, 2 * GIB]
        await in_sync(here)
        await here.lose(second)
        for name in VOLUMES:
            await here.stage.accepted(FailVolumeOver(volume=name))
        await here.stage.settled()
        assert where(here) == {f"{third}+{second}"}
        await here.find(second)
        await in_sync(here)

    tell(tale)


def test_plain_volumes_get_their_replicas_on_one_node_and_leave_a_drained_one_for_one() -> None:
    async def tale(here: House) -> None:
        home = await make(here, 1)
        drained = await here.stage.accepted(DrainNode(node=home, deadline_s=120))
        assert (await end_of(here, drained.operation)).outcome is Outcome.COMPLETED
        (after,) = where(here)
        assert after != home
        assert await here.ran(AddGroupReplica(group="shop", deadline_s=120)) == DONE
        (both,) = where(here)
        assert both.startswith(f"{after}+")
        assert here.stage.world.groups["shop"].operation == ""
        await in_sync(here)

    tell(tale)


def test_what_is_in_the_way_of_one_is_told_with_where_the_others_are() -> None:
    def no_b(event: Event) -> Refusal | None:
        mine = isinstance(event, ReplicaWanted) and event.volume == "b"
        return Refusal.TOOL_FAILED if mine else None

    async def tale(here: House) -> None:
        home = await make(here, 1)
        target = next(iter({"n1", "n2", "n3"} - {home}))
        here.troubles = here.meant
        moved = await here.stage.accepted(MigrateGroup(group="shop", node=target, deadline_s=60))
        end = await end_of(here, moved.operation)
        assert (end.outcome, end.code) == (Outcome.FAILED, Refusal.GROUP_NOT_MOVED)
        assert end.kind is OperationKind.GROUP_MIGRATE
        assert end.because.startswith(f"on {target}: a; as before: b; b: HW-W001")
        assert end.leftovers == ("volume/b",)
        assert where(here) == {target, home}
        (ended,) = [e for e in await here.stage.events() if isinstance(e, GroupMoveEnded)]
        assert ended.code is Refusal.GROUP_NOT_MOVED
        here.troubles = lambda _: None
        again = MigrateGroup(group="shop", node=target, deadline_s=60)
        assert await here.ran(again) == DONE
        assert where(here) == {target}
        await here.stage.accepted(RemoveGroup(group="shop"))

    tell(tale, no_b)


def test_a_cancelled_move_leaves_each_volume_whole_and_says_where() -> None:
    async def tale(here: House) -> None:
        home = await make(here, 1)
        target = next(iter({"n1", "n2", "n3"} - {home}))
        wish = MigrateGroup(group="shop", node=target, at_once=1, deadline_s=60)
        moved = await here.stage.accepted(wish)
        await here.stage.until(lambda w: w.volumes["a"].node == target)
        assert any(isinstance(e, ReplicationChanged) for e in await here.stage.events())
        await here.stage.accepted(CancelOperation(operation=moved.operation))
        end = await end_of(here, moved.operation)
        assert (end.outcome, end.code) == (Outcome.CANCELLED, Refusal.CANCELLED)
        assert end.because.endswith(f"on {target}: a; as before: b")
        volumes = here.stage.world.volumes
        assert (volumes["a"].node, volumes["a"].members) == (target, ())
        assert (volumes["b"].node, volumes["b"].members) == (home, ())
        assert here.stage.world.groups["shop"].operation == ""

    tell(tale)
