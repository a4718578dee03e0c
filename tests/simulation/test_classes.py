"""Days on which little else is done than giving volumes classes, and changing those."""

import pytest

from aggregates.attaching import behind
from schemas.attaching import AttachVolume, DetachVolume, LimitVolume
from schemas.attachment import Limits
from schemas.grammar import Request
from schemas.qos import ChangeQosClass, CreateQosClass, DeleteQosClass
from schemas.volume import ProvisionVolume
from tests.simulation.test_operations import DEADLINE_S, Day, the_laws_hold
from tests.support.given import GIB
from tests.support.virtual_time import run_virtually

SEEDS = range(20)
VOLUMES = ("v0", "v1", "v2", "v3")


class DayOfClasses(Day):
    """Pools, volumes and two classes first, then nothing but their use."""

    def _wish(self, step: int) -> Request:
        volume, qos = self.chance.choice(VOLUMES), self.chance.choice(("gold", "iron"))
        limits = Limits(write_iops=self.chance.randrange(2, 6))
        if step == 0:
            node = self.chance.choice(self.nodes)
            return node.form(2, deadline_s=DEADLINE_S)
        if step == 1:
            return CreateQosClass(qos=qos, limits=limits)
        match self.chance.randrange(3 if step < 4 else 12):
            case 0 | 1:
                given = self.chance.choice((qos, None))
                return ProvisionVolume(
                    volume=volume, size_bytes=GIB, deadline_s=DEADLINE_S, qos=given
                )
            case 2 | 3 | 4:
                return AttachVolume(
                    volume=volume, consumer="host/a", cgroup="c", deadline_s=DEADLINE_S
                )
            case 5:
                return DetachVolume(volume=volume, deadline_s=DEADLINE_S)
            case 6:
                return LimitVolume(volume=volume, limits=limits, deadline_s=DEADLINE_S)
            case 7:
                return self.chance.choice((DeleteQosClass(qos=qos), LimitVolume(volume=volume)))
            case 8 | 9:
                return LimitVolume(volume=volume, qos=qos, deadline_s=DEADLINE_S)
            case _:
                return ChangeQosClass(qos=qos, limits=limits)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_dies_every_volume_has_the_limits_of_its_class_or_its_own(seed: int) -> None:
    async def tale() -> None:
        day = DayOfClasses(seed)
        await day.play()
        await the_laws_hold(day)
        world = day.stage.world
        for name, volume in world.volumes.items():
            use = volume.use
            assert behind(volume, world) is None
            assert use.qos == "" or use.qos in world.qos
            if use.attachment is not None:
                limits = world.qos[use.qos].limits if use.qos else use.limits
                node = next(node for node in day.nodes if node.name == volume.node)
                assert node.attachments.made[name].limits == limits

    run_virtually(tale)
