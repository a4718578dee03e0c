"""What an ailing disk means for its pool: what is there stays in use, and nothing is added."""

from typing import TYPE_CHECKING

from schemas.answers import Refused, refuse
from schemas.disk import Health
from schemas.node import Drift
from schemas.refusals import Refusal

if TYPE_CHECKING:
    from aggregates.decision import World


def ailing(node: str, pool: str, members: tuple[str, ...], world: "World") -> Refused | None:
    """Return why nothing new may be put in the pool of these *members*, or None if it may.

    LVM itself changes nothing in a volume group of which a disk is missing.
    """
    for name in members:
        disk = world.disks.get(name)
        if disk is not None and disk.health is Health.FAILING:
            because = f"disk {name} of {node}/{pool} is failing: {', '.join(disk.reasons)}"
            return refuse(Refusal.POOL_DISK_FAILING, because)
    home = world.nodes.get(node)
    for finding in () if home is None else home.findings:
        if finding.drift is Drift.POOL_DISK_MISSING and finding.object == f"pool/{node}/{pool}":
            because = f"{node}/{pool} is not whole: {finding.observed}"
            return refuse(Refusal.POOL_DISK_MISSING, because)
    return None
