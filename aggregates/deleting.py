"""How a volume goes: at once, or after a hold in which it can come back."""

from datetime import timedelta
from typing import TYPE_CHECKING

from aggregates import attaching, raw_disks
from aggregates.decision import Decision, Facts
from aggregates.peers import others
from schemas.answers import Refused, refuse
from schemas.deleting import (
    DeleteVolume,
    PurgeVolume,
    UndeleteVolume,
    VolumeDeletionBegan,
    VolumeHoldBegan,
    VolumeUndeletionBegan,
)
from schemas.disk import Wiping
from schemas.refusals import Refusal
from schemas.volume import Layout, VolumeEvent

if TYPE_CHECKING:
    from aggregates.volume import Volume


def delete(volume: "Volume", command: DeleteVolume, facts: Facts) -> Decision[VolumeEvent]:
    """Say what shall happen to a volume that is to go."""
    no = attaching.held(volume, command.volume, "be deleted") or _not_wiped(volume, command)
    if no is not None:
        return no
    if command.hold_s and command.wiping is not Wiping.LOST:
        return (
            VolumeHoldBegan(
                volume=command.volume,
                uid=volume.uid,
                operation=facts.operation,
                deadline=facts.at + timedelta(seconds=command.deadline_s),
                node=volume.node,
                pool=volume.pool,
                until=facts.at + timedelta(seconds=command.hold_s),
                wiping=command.wiping,
                others=tuple(one.node for one in others(volume)),
            ),
        )
    return (_deletion(volume, command, facts),)


def _not_wiped(volume: "Volume", command: DeleteVolume | PurgeVolume) -> Refused | None:
    if command.wiping is Wiping.DISCARD or volume.layout is Layout.DISK:
        return None
    return refuse(Refusal.NOT_RAW_DISK, f"{command.volume} is {volume.layout.value}")


def _deletion(
    volume: "Volume", command: DeleteVolume | PurgeVolume, facts: Facts
) -> VolumeDeletionBegan:
    asked = command.wiping
    wiping = volume.wiping if asked is Wiping.DISCARD else asked
    # Writing all of a disk over takes hours, also when nobody was there to set a time for it.
    more_s = volume.size_bytes // raw_disks.ZEROED_BYTES_PER_S if wiping is Wiping.ZERO else 0
    return VolumeDeletionBegan(
        volume=command.volume,
        uid=volume.uid,
        operation=facts.operation,
        deadline=facts.at + timedelta(seconds=command.deadline_s + more_s),
        node=volume.node,
        pool=volume.pool,
        held=volume.until is not None,
        wiping=wiping,
        others=tuple(one.node for one in others(volume)),
    )


def end_hold(
    volume: "Volume", command: UndeleteVolume | PurgeVolume, facts: Facts
) -> Decision[VolumeEvent]:
    """Say what shall happen to a volume whose hold is to end, in one way or the other."""
    if isinstance(command, PurgeVolume):
        return _not_wiped(volume, command) or (_deletion(volume, command, facts),)
    return (
        VolumeUndeletionBegan(
            volume=command.volume,
            uid=volume.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=volume.node,
            pool=volume.pool,
            others=tuple(one.node for one in others(volume)),
        ),
    )
