"""Which event begins which operation."""

from collections.abc import Callable
from typing import Any

from aggregates.processes import (
    add_replica,
    attach_volume,
    back_up,
    clone_volume,
    delete_volume,
    detach_volume,
    drain_node,
    end_snapshot,
    errand,
    forget_node,
    form_pool,
    grow_replicated,
    grow_snapshot,
    grow_thin_pool,
    hand_over,
    hold_volume,
    limit_volume,
    migrate,
    move_group,
    provision_disk,
    rekey_replicated,
    remove,
    remove_replica,
    roll_back,
    settle_drift,
    settle_split,
    shrink_pool,
    snapshot,
    snapshot_group,
    verify_volume,
)
from aggregates.processes.process import Process
from schemas.attaching import VolumeAttachingBegan, VolumeDetachingBegan, VolumeLimitingBegan
from schemas.copying import VolumeCloneBegan
from schemas.deleting import VolumeDeletionBegan, VolumeHoldBegan, VolumeUndeletionBegan
from schemas.draining import DrainBegan, ForgettingBegan
from schemas.encrypting import VolumeRekeyingBegan
from schemas.grammar import Event
from schemas.group_moves import GroupMoveBegan
from schemas.growing import SnapshotGrowthBegan, ThinPoolGrowthBegan
from schemas.handing import FailoverBegan, HandOverBegan
from schemas.legs import (
    MigrationBegan,
    ReplicaAdditionBegan,
    ReplicaRemovalBegan,
    SplitSettlingBegan,
)
from schemas.node import NodeRemovalBegan
from schemas.pool import PoolFormingBegan, PoolGrowthBegan, PoolRemovalBegan
from schemas.settling import DriftSettlingBegan
from schemas.shrinking import PoolShrinkBegan
from schemas.snapshot import SnapshotCreationBegan, SnapshotDeletionBegan, SnapshotRollbackBegan
from schemas.target import BackupBegan, TargetWorkBegan
from schemas.verifying import VerificationBegan
from schemas.volume import VolumeGrowthBegan, VolumeProvisioningBegan
from schemas.volume_group import GroupSnapshotBegan

_BEGINNINGS: dict[type[Event], Callable[[Any], Process]] = {
    VolumeProvisioningBegan: provision_disk.begin,
    VolumeCloneBegan: clone_volume.begin,
    VolumeGrowthBegan: grow_replicated.begin,
    VolumeHoldBegan: hold_volume.begin_holding,
    VolumeUndeletionBegan: hold_volume.begin_undeleting,
    VolumeDeletionBegan: delete_volume.begin,
    VolumeAttachingBegan: attach_volume.begin,
    VolumeDetachingBegan: detach_volume.begin,
    VolumeLimitingBegan: limit_volume.begin,
    VolumeRekeyingBegan: rekey_replicated.begin,
    PoolFormingBegan: form_pool.begin_forming,
    PoolGrowthBegan: form_pool.begin_growing,
    PoolRemovalBegan: remove.begin_pool,
    PoolShrinkBegan: shrink_pool.begin,
    NodeRemovalBegan: remove.begin_node,
    SnapshotCreationBegan: snapshot.begin,
    SnapshotDeletionBegan: end_snapshot.begin_deletion,
    SnapshotRollbackBegan: roll_back.begin,
    SnapshotGrowthBegan: grow_snapshot.begin,
    ThinPoolGrowthBegan: grow_thin_pool.begin,
    GroupSnapshotBegan: snapshot_group.begin,
    GroupMoveBegan: move_group.begin,
    BackupBegan: back_up.begin,
    TargetWorkBegan: errand.begin,
    DriftSettlingBegan: settle_drift.begin,
    ReplicaAdditionBegan: add_replica.begin,
    ReplicaRemovalBegan: remove_replica.begin,
    HandOverBegan: hand_over.begin,
    FailoverBegan: hand_over.begin_failover,
    MigrationBegan: migrate.begin,
    SplitSettlingBegan: settle_split.begin,
    VerificationBegan: verify_volume.begin,
    DrainBegan: drain_node.begin,
    ForgettingBegan: forget_node.begin,
}


def begin(event: Event) -> Process | None:
    """Return the operation that *event* begins, or None."""
    # A look into a table: every event of the past comes by here, and hardly any begins anything.
    beginning = _BEGINNINGS.get(type(event))
    return None if beginning is None else beginning(event)
