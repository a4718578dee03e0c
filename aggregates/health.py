"""What a failing disk means for its pool: what is there stays in use, and nothing is added."""

from collections.abc import Mapping

from aggregates.disk import Disk
from schemas.answers import Refused, refuse
from schemas.disk import Health
from schemas.refusals import Refusal


def ailing(
    node: str, pool: str, members: tuple[str, ...], disks: Mapping[str, Disk]
) -> Refused | None:
    """Return why nothing new may be put in the pool of these *members*, or None if it may."""
    for name in members:
        disk = disks.get(name)
        if disk is not None and disk.health is Health.FAILING:
            because = f"disk {name} of {node}/{pool} is failing: {', '.join(disk.reasons)}"
            return refuse(Refusal.POOL_DISK_FAILING, because)
    return None
