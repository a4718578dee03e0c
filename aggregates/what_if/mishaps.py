"""What happens to nodes and disks in a scenario, as those would tell it who notice."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from aggregates.node import NodePhase
from aggregates.what_if.hands import IdealHands
from aggregates.what_if.ties import seen_of
from aggregates.world import World
from schemas.answers import Refused, refuse
from schemas.disk import ReportDiskGone
from schemas.grammar import Message
from schemas.node import Drift, Finding, ReportDrift, ReportNodeSilent
from schemas.refusals import Refusal


def node_dies(
    node: str, world: World, hands: IdealHands, at: datetime
) -> tuple[Message, ...] | Refused:
    """Return what is said of a node that is gone from now on: first by its peers."""
    known = world.nodes.get(node)
    if known is None or known.phase is NodePhase.UNKNOWN:
        return refuse(Refusal.UNKNOWN_NODE, f"there is no node {node}")
    hands.lost.nodes.add(node)
    return (*_missed(node, world, hands), ReportNodeSilent(node=node, last_heard=at))


def _missed(node: str, world: World, hands: IdealHands) -> Iterator[Message]:
    for name, volume in world.volumes.items():
        if any(one.node == node for one in volume.members):
            yield from seen_of(name, world, hands.lost)


def disk_fails(disk: str, world: World, hands: IdealHands) -> tuple[Message, ...] | Refused:
    """Return what is said of a disk that cannot be read from now on."""
    known = world.disks.get(disk)
    if known is None or not known.known:
        return refuse(Refusal.UNKNOWN_DISK, f"there is no disk {disk}")
    if known.owner is not None:
        # Which legs lie on which disk of a pool is not in the log: all of them count as hit.
        hands.lost.pools.add((known.owner.node, known.owner.pool))
    return tuple(_told(disk, world, hands))


def _told(disk: str, world: World, hands: IdealHands) -> Iterator[Message]:
    known = world.disks[disk]
    yield from (ReportDiskGone(disk=disk, node=node) for node in known.sightings)
    owner = known.owner
    home = None if owner is None else world.nodes.get(owner.node)
    if owner is None or home is None or owner.node in hands.lost.nodes:
        return
    about: dict[str, Any]
    if owner.volume:
        about = {
            "drift": Drift.VOLUME_DISK_MISSING,
            "object": f"replica/{owner.node}/{owner.volume}",
        }
    else:
        about = {"drift": Drift.POOL_DISK_MISSING, "object": f"pool/{owner.node}/{owner.pool}"}
    finding = Finding(**about, observed=f"{disk} is missing")
    yield ReportDrift(node=owner.node, findings=(*home.findings, finding))
    for (node, name), leg in world.replicas.items():
        if leg.spec is not None and (node, leg.spec.pool) == (owner.node, owner.pool):
            yield from seen_of(name, world, hands.lost)
