"""A small cluster in words: two nodes, their disks, a pool each."""

from datetime import timedelta

from schemas.disk import Content, DiskClaimed, DiskClass, DiskFound, Sighting
from schemas.grammar import Event
from schemas.node import NodeJoined, PoolAttached
from schemas.pool import (
    PoolBuildWanted,
    PoolFacts,
    PoolFormed,
    PoolFormingBegan,
    PoolOperationEnded,
    RoomReserved,
    RoomSettled,
)
from schemas.replica import ReplicaCreated, ReplicaSpec, ReplicaWanted
from schemas.volume import Candidate, VolumeProvisioned, VolumeProvisioningBegan
from tests.support.given import GIB, MIB, NOON, OPERATION, UID

DEADLINE = NOON + timedelta(seconds=600)
POOL_UID = "0" * 25 + "p"


def disk(node: str, number: int) -> str:
    """Return the id of a disk."""
    return f"{node}-d{number}"


def sighting(content: Content = Content.BLANK, size_bytes: int = 20 * GIB) -> Sighting:
    """Return a disk as a node sees it."""
    return Sighting(path="/dev/sdb", size_bytes=size_bytes, media=DiskClass.SSD, content=content)


def node_with_disks(node: str, disks: int = 2) -> tuple[Event, ...]:
    """A node has joined and sees blank disks."""
    found = (DiskFound(disk=disk(node, n), node=node, sighting=sighting()) for n in range(disks))
    return (NodeJoined(node=node), *found)


def pool_facts(
    node: str, disks: int = 2, size_bytes: int = 20 * GIB, thin_bytes: int = 0
) -> PoolFacts:
    """Return a volume group of 4 MiB extents."""
    return PoolFacts(
        size_bytes=size_bytes,
        extent_bytes=4 * MIB,
        metadata_bytes=8 * MIB,
        disks=tuple(disk(node, n) for n in range(disks)),
        thin_bytes=thin_bytes,
        thin_overhead_bytes=8 * MIB if thin_bytes else 0,
    )


def pool_ready(
    node: str,
    pool: str = "fast",
    *,
    disks: int = 2,
    size_bytes: int = 20 * GIB,
    thin_bytes: int = 0,
    thin_ratio_percent: int = 100,
    volumes_max: int = 4000,
) -> tuple[Event, ...]:
    """A node has joined, and carries a pool of all its disks."""
    names = tuple(disk(node, n) for n in range(disks))
    return (
        *node_with_disks(node, disks),
        PoolFormingBegan(
            pool=pool,
            node=node,
            uid=POOL_UID,
            operation=OPERATION,
            deadline=DEADLINE,
            disks=names,
            thin_bytes=thin_bytes,
            thin_ratio_percent=thin_ratio_percent,
            volumes_max=volumes_max,
        ),
        PoolAttached(node=node, pool=pool),
        *(DiskClaimed(disk=d, node=node, pool=pool, operation=OPERATION) for d in names),
        PoolBuildWanted(pool=pool, node=node, uid=POOL_UID, disks=names, thin_bytes=thin_bytes),
        PoolFormed(
            pool=pool,
            node=node,
            uid=POOL_UID,
            facts=pool_facts(node, disks, size_bytes, thin_bytes),
        ),
        PoolOperationEnded(pool=pool, node=node, operation=OPERATION),
    )


def volume_ready(
    node: str = "n1", volume: str = "pg", *, pool: str = "fast", size_bytes: int = GIB
) -> tuple[Event, ...]:
    """A thick volume is there, on a pool that is ready."""
    spec = ReplicaSpec(uid=UID, pool=pool, size_bytes=size_bytes)
    return (
        VolumeProvisioningBegan(
            volume=volume,
            uid=UID,
            operation=OPERATION,
            deadline=DEADLINE,
            size_bytes=size_bytes,
            candidates=(Candidate(node=node, pool=pool),),
        ),
        RoomReserved(pool=pool, node=node, claim=UID, size_bytes=size_bytes, operation=OPERATION),
        ReplicaWanted(volume=volume, node=node, operation=OPERATION, spec=spec),
        ReplicaCreated(
            volume=volume,
            node=node,
            uid=UID,
            pool=pool,
            size_bytes=size_bytes,
            device=f"/dev/{pool}/{volume}",
        ),
        RoomSettled(pool=pool, node=node, claim=UID, size_bytes=size_bytes),
        VolumeProvisioned(
            volume=volume,
            uid=UID,
            operation=OPERATION,
            node=node,
            pool=pool,
            size_bytes=size_bytes,
        ),
    )
