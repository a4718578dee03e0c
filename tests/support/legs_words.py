"""A replicated volume in words: what its nodes, its legs and the volume itself have told."""

from typing import Any

from msgspec.structs import replace

from schemas.grammar import Event
from schemas.handing import PeerFenced
from schemas.legs import ReplicaAdded
from schemas.linking import LinkTaken
from schemas.node import Capability, NodeFellSilent, NodeJoined
from schemas.pool import RoomSettled
from schemas.replica import ReplicaCreated, ReplicaSpec, ReplicaWanted
from schemas.replicating import head_room_bytes
from schemas.replication import (
    LegDisk,
    LegSeen,
    Link,
    Member,
    PeerSeen,
    Replication,
    ReplicationChanged,
    Tie,
)
from schemas.volume import Candidate, VolumeProvisioned, VolumeProvisioningBegan
from tests.support.given import GIB, NOON, OPERATION, UID
from tests.support.words import DEADLINE, pool_ready

ONE_PEER = (Capability.LVM, Capability.REPLICATION)
MANY_PEERS = (*ONE_PEER, Capability.REPLICATION_MANY)
LEG_BYTES = GIB + head_room_bytes(GIB, 2)


def joined(
    node: str, capabilities: tuple[Capability, ...] = ONE_PEER, zone: str = ""
) -> NodeJoined:
    """A node has told that it can replicate, and where it is reached."""
    return NodeJoined(
        node=node,
        address=f"{node}.storage",
        zone=zone,
        capabilities=capabilities,
        public_key=f"key of {node}",
    )


def nodes(*names: str, capabilities: tuple[Capability, ...] = ONE_PEER) -> tuple[Event, ...]:
    """Nodes that can replicate, each with a pool."""
    return tuple(
        event for name in names for event in (*pool_ready(name), joined(name, capabilities))
    )


def link(node: str, number: int = 0) -> Link:
    """Return where a node replicates the volume of that number."""
    return Link(
        minor=1000 + number,
        port=7800 + number,
        address=f"{node}.storage",
        key=f"key of {node}",
        since=OPERATION,
    )


def member(node: str, index: int, number: int = 0) -> Member:
    """Return one replica."""
    return Member(node=node, pool="fast", index=index, link=link(node, number))


def members(*names: str) -> tuple[Member, ...]:
    """Return the replicas on those nodes."""
    return tuple(member(name, index) for index, name in enumerate(names))


def tied_by(legs: tuple[Member, ...], operation: str) -> tuple[Member, ...]:
    """Return the replicas as they are when that operation has tied them anew."""
    return tuple(replace(one, link=replace(one.link, since=operation)) for one in legs)


def tells(
    node: str,
    disk: LegDisk = LegDisk.UP_TO_DATE,
    *,
    peers: tuple[PeerSeen, ...] = (),
    epoch: int = 0,
    split: bool = False,
    uid: str = UID,
) -> ReplicationChanged:
    """A node has told how its leg is."""
    seen = LegSeen(primary=False, disk=disk, peers=peers, split=split)
    return ReplicationChanged(volume="pg", node=node, uid=uid, epoch=epoch, seen=seen)


def good(node: str) -> PeerSeen:
    """A peer that is connected and has everything."""
    return PeerSeen(node=node, tie=Tie.CONNECTED, disk=LegDisk.UP_TO_DATE)


def leg(node: str, *names: str, size_bytes: int = LEG_BYTES) -> tuple[Event, ...]:
    """The leg on *node* of a volume with replicas on *names* is there, and linked."""
    tied = Replication(members=members(*names), size_bytes=GIB)
    spec = ReplicaSpec(uid=UID, pool="fast", size_bytes=size_bytes, replication=tied)
    about: dict[str, Any] = {"volume": "pg", "node": node}
    return (
        LinkTaken(node=node, volume="pg", uid=UID, operation=OPERATION, link=link(node)),
        ReplicaWanted(**about, operation=OPERATION, spec=spec),
        ReplicaCreated(**about, uid=UID, pool="fast", size_bytes=size_bytes, device="/dev/fast/pg"),
        RoomSettled(pool="fast", node=node, claim=UID, size_bytes=size_bytes),
        tells(node),
    )


def began(*names: str) -> VolumeProvisioningBegan:
    """A volume with a replica on each of *names* is being made."""
    return VolumeProvisioningBegan(
        volume="pg",
        uid=UID,
        operation=OPERATION,
        deadline=DEADLINE,
        size_bytes=GIB,
        candidates=(Candidate(node=names[0], pool="fast"),),
        replicas=len(names),
    )


def replicated(*names: str) -> tuple[Event, ...]:
    """A volume of 1 GiB with a replica on each of *names*, written to on the first."""
    legs = (event for name in names for event in leg(name, *names))
    return (
        began(*names),
        *legs,
        ReplicaAdded(volume="pg", operation=OPERATION, members=members(*names)),
        VolumeProvisioned(
            volume="pg",
            uid=UID,
            operation=OPERATION,
            node=names[0],
            pool="fast",
            size_bytes=GIB,
        ),
    )


def silent(node: str) -> NodeFellSilent:
    """Nobody hears the node any more."""
    return NodeFellSilent(node=node, last_heard=NOON)


def fenced(peer: str, epoch: int = 1, node: str = "n1") -> PeerFenced:
    """The node goes on without *peer*."""
    return PeerFenced(volume="pg", node=node, peer=peer, epoch=epoch)
