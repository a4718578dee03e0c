"""Which event begins which operation."""

from aggregates.decision import World
from aggregates.processes import delete_volume, form_pool, grow_volume, provision, remove
from aggregates.processes.process import Process
from schemas.grammar import Event
from schemas.node import NodeRemovalBegan
from schemas.pool import PoolFormingBegan, PoolGrowthBegan, PoolRemovalBegan
from schemas.volume import VolumeDeletionBegan, VolumeGrowthBegan, VolumeProvisioningBegan


def begin(event: Event, world: World) -> Process | None:
    """Return the operation that *event* begins in *world* as it is then, or None."""
    match event:
        case VolumeProvisioningBegan():
            return provision.begin(event)
        case VolumeGrowthBegan():
            return grow_volume.begin(event, world)
        case VolumeDeletionBegan():
            return delete_volume.begin(event, world)
        case PoolFormingBegan():
            return form_pool.begin_forming(event)
        case PoolGrowthBegan():
            return form_pool.begin_growing(event)
        case PoolRemovalBegan():
            return remove.begin_pool(event)
        case NodeRemovalBegan():
            return remove.begin_node(event)
        case _:
            return None
