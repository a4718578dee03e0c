"""Which event begins which operation."""

from aggregates.processes import delete_volume, form_pool, grow_volume, provision, remove
from aggregates.processes.process import Process
from schemas.grammar import Event
from schemas.node import NodeRemovalBegan
from schemas.pool import PoolFormingBegan, PoolGrowthBegan, PoolRemovalBegan
from schemas.volume import VolumeDeletionBegan, VolumeGrowthBegan, VolumeProvisioningBegan


def begin(event: Event) -> Process | None:
    """Return the operation that *event* begins, or None."""
    match event:
        case VolumeProvisioningBegan():
            return provision.begin(event)
        case VolumeGrowthBegan():
            return grow_volume.begin(event)
        case VolumeDeletionBegan():
            return delete_volume.begin(event)
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
