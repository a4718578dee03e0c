"""New volumes out of backups: where they may be put, and what they must hold to be there."""

from datetime import timedelta

from aggregates.decision import Decision, Facts
from aggregates.labelling import bad_labels
from aggregates.placement import nowhere, rank
from aggregates.volume import bad_layout
from schemas.answers import refuse
from schemas.backups import FromBackup
from schemas.copying import RestoreBackup
from schemas.refusals import Refusal
from schemas.units import readable
from schemas.volume import ProvisionVolume, VolumeProvisioningBegan


def restore(command: RestoreBackup, facts: Facts) -> Decision[VolumeProvisioningBegan]:
    """Say how a volume shall be made out of a backup; its name is free."""
    target = facts.world.targets.get(command.target)
    if target is None or target.place is None:
        return refuse(Refusal.UNKNOWN_TARGET, f"there is no backup target {command.target}")
    size_bytes = command.size_bytes or command.backup_bytes
    if size_bytes < command.backup_bytes:
        has, asked = readable(command.backup_bytes), readable(size_bytes)
        less = f"{command.backup} has {has}, {asked} are asked for"
        return refuse(Refusal.SMALLER_THAN_SOURCE, less)
    odd = bad_layout(command.layout, command.stripes) or bad_labels(command.labels)
    if odd is not None:
        return odd
    wish = ProvisionVolume(
        volume=command.volume,
        size_bytes=size_bytes,
        layout=command.layout,
        stripes=command.stripes,
        filesystem=command.filesystem,
        pool=command.pool,
        node=command.node,
    )
    candidates = rank(wish, facts.world, facts.uid)
    return nowhere(wish, candidates) or (
        VolumeProvisioningBegan(
            volume=command.volume,
            uid=facts.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            size_bytes=size_bytes,
            candidates=candidates,
            layout=command.layout,
            stripes=command.stripes,
            filesystem=command.filesystem,
            labels=command.labels,
            backup=FromBackup(
                place=target.place,
                target=command.target,
                backup=command.backup,
                manifest=command.manifest,
                size_bytes=command.backup_bytes,
                rate_bytes_per_s=command.rate_bytes_per_s,
            ),
        ),
    )
