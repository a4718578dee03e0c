"""Random days on which replicated volumes are rolled back, whoever dies in the middle of it.

A failure names its seed; ``HWBUS_ROLLBACK_SEEDS=1000`` plays so many.
"""

import os
from itertools import combinations

import pytest

from aggregates.world import World
from schemas.attaching import AttachVolume, DetachVolume
from schemas.grammar import Request
from schemas.operation import OperationEnded
from schemas.replication import tie_of
from schemas.snapshot import (
    CreateSnapshot,
    RollBackSnapshot,
)
from schemas.volume import ProvisionVolume
from tests.simulation.test_operations import commits
from tests.simulation.test_replicas import DEADLINE_S, Day, lived_through, the_laws_hold
from tests.support.fabric import Leg
from tests.support.given import GIB, MIB

SEEDS = (
    [int(os.environ["HWBUS_SEED"])]
    if "HWBUS_SEED" in os.environ
    else range(int(os.environ.get("HWBUS_ROLLBACK_SEEDS", "6")))
)


class RollingBack(Day):
    """A day of replicated volumes of which snapshots are taken, and gone back to."""

    def _wish(self, step: int) -> Request:
        for node in self.nodes:
            node.deaf = {"n1", "n2", "n3"} if self.chance.random() < 0.2 else set()
        volume = f"v{self.chance.randrange(2)}"
        snapshot = f"s-{volume}"
        if step == 0:
            return ProvisionVolume(
                volume=volume, size_bytes=GIB, replicas=2, deadline_s=4 * DEADLINE_S
            )
        if self.chance.random() < 0.15:
            return super()._wish(max(3, step))
        match step % 4:
            case 1:
                return AttachVolume(
                    volume=volume, consumer="host/a", cgroup="c", deadline_s=DEADLINE_S
                )
            case 2:
                return CreateSnapshot(
                    snapshot=snapshot, volume=volume, reserve_bytes=64 * MIB, deadline_s=DEADLINE_S
                )
            case 3:
                return DetachVolume(volume=volume, deadline_s=DEADLINE_S)
            case _:
                return RollBackSnapshot(snapshot=snapshot, deadline_s=DEADLINE_S)

    def left(self) -> set[str]:
        """Return the volumes whose legs do not find one another, but for a person.

        One that was merged when its operation had ended does not run, and one that was tied anew
        when its operation could not go on runs without the other.
        """
        legs: dict[str, dict[str, Leg]] = {}
        for (uid, node), leg in self.fabric.legs.items():
            legs.setdefault(self.fabric.names.get(uid, ""), {})[node] = leg
        return {name for name, found in legs.items() if _apart(found)}

    def wrong(self, world: World) -> list[str]:
        """Return what does not agree, but for what is left to a person."""
        left, found = self.left(), super().wrong(world)
        return [one for one in found if not any(one.startswith(f"{name}: ") for name in left)]


def _apart(legs: dict[str, Leg]) -> bool:
    """Return whether one does not run, or two do not know the same ties of both."""
    ties = (
        [[tie_of(leg.tied, at) for at in pair] for leg in map(legs.get, pair) if leg is not None]
        for pair in combinations(legs, 2)
    )
    return any(leg.spent for leg in legs.values()) or any(one != other for one, other in ties)


async def what_is_left_was_told(day: RollingBack) -> None:
    """The laws hold, and whatever is left to a person was named when its operation ended."""
    await the_laws_hold(day)
    ends = [e for _, _, _, found in await commits(day.stage) for e in found]
    told = {name for one in ends if isinstance(one, OperationEnded) for name in one.leftovers}
    named = {leg.rpartition("/")[2].removeprefix("s-") for leg in told}
    assert day.left() <= named


@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_dies_while_a_volume_is_rolled_back_no_write_is_lost(seed: int) -> None:
    lived_through(RollingBack, seed, what_is_left_was_told)
