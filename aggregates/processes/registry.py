"""Which event begins which operation."""

from collections.abc import Callable
from typing import Any

from aggregates.processes import (
    attach_volume,
    back_up,
    clone_volume,
    delete_volume,
    detach_volume,
    end_snapshot,
    errand,
    form_pool,
    grow_snapshot,
    grow_thin_pool,
    grow_volume,
    hold_volume,
    limit_volume,
    provision_disk,
    rekey_volume,
    remove,
    settle_drift,
    shrink_pool,
    snapshot,
    snapshot_group,
)
from aggregates.processes.process import Process
from schemas.attaching import VolumeAttachingBegan, VolumeDetachingBegan, VolumeLimitingBegan
from schemas.copying import VolumeCloneBegan
from schemas.encrypting import VolumeRekeyingBegan
from schemas.grammar import Event
from schemas.growing import SnapshotGrowthBegan, ThinPoolGrowthBegan
from schemas.node import NodeRemovalBegan
from schemas.pool import PoolFormingBegan, PoolGrowthBegan, PoolRemovalBegan
from schemas.settling import DriftSettlingBegan
from schemas.shrinking import PoolShrinkBegan
from schemas.snapshot import SnapshotCreationBegan, SnapshotDeletionBegan, SnapshotRollbackBegan
from schemas.target import BackupBegan, TargetWorkBegan
from schemas.volume import (
    VolumeDeletionBegan,
    VolumeGrowthBegan,
    VolumeHoldBegan,
    VolumeProvisioningBegan,
    VolumeUndeletionBegan,
)
from schemas.volume_group import GroupSnapshotBegan

_BEGINNINGS: dict[type[Event], Callable[[Any], Process]] = {
    VolumeProvisioningBegan: provision_disk.begin,
    VolumeCloneBegan: clone_volume.begin,
    VolumeGrowthBegan: grow_volume.begin,
    VolumeHoldBegan: hold_volume.begin_holding,
    VolumeUndeletionBegan: hold_volume.begin_undeleting,
    VolumeDeletionBegan: delete_volume.begin,
    VolumeAttachingBegan: attach_volume.begin,
    VolumeDetachingBegan: detach_volume.begin,
    VolumeLimitingBegan: limit_volume.begin,
    VolumeRekeyingBegan: rekey_volume.begin,
    PoolFormingBegan: form_pool.begin_forming,
    PoolGrowthBegan: form_pool.begin_growing,
    PoolRemovalBegan: remove.begin_pool,
    PoolShrinkBegan: shrink_pool.begin,
    NodeRemovalBegan: remove.begin_node,
    SnapshotCreationBegan: snapshot.begin,
    SnapshotDeletionBegan: end_snapshot.begin_deletion,
    SnapshotRollbackBegan: end_snapshot.begin_rollback,
    SnapshotGrowthBegan: grow_snapshot.begin,
    ThinPoolGrowthBegan: grow_thin_pool.begin,
    GroupSnapshotBegan: snapshot_group.begin,
    BackupBegan: back_up.begin,
    TargetWorkBegan: errand.begin,
    DriftSettlingBegan: settle_drift.begin,
}


def begin(event: Event) -> Process | None:
    """Return the operation that *event* begins, or None."""
    # A look into a table: every event of the past comes by here, and hardly any begins anything.
    beginning = _BEGINNINGS.get(type(event))
    return None if beginning is None else beginning(event)
