"""Standing rules of replicas: each knows the epoch, is known to be back, leaves no link behind."""

from collections.abc import Iterator

from aggregates.decision import World
from aggregates.node import Node, NodeLink
from aggregates.replica import ReplicaPhase
from aggregates.volume import Volume
from schemas.attaching import VolumeAttachingBegan
from schemas.grammar import Event, Message
from schemas.handing import (
    FailoverBegan,
    PeerFenced,
    ReportPeerBack,
    VolumeHomeMoved,
    VolumeTiedAnew,
)
from schemas.legs import (
    ReplicaAdded,
    ReplicaRemovalBegan,
    ReplicaRemovalFailed,
    SplitSettlingBegan,
)
from schemas.linking import ReportLinkReturned
from schemas.replica import ReplicaHeld, ReplicaRemoved, ReplicaResized
from schemas.replication import (
    LegDisk,
    LegSeen,
    NoteEpoch,
    ReplicaForgotten,
    ReplicationChanged,
    Sync,
    Tie,
)

_AT_REST = frozenset({ReplicaPhase.PRESENT, ReplicaPhase.HELD})
_NEW_EPOCH = (
    FailoverBegan
    | PeerFenced
    | VolumeHomeMoved
    | VolumeTiedAnew
    | VolumeAttachingBegan
    | ReplicaAdded
    | ReplicaRemovalBegan
    | ReplicaRemovalFailed
    | SplitSettlingBegan
)


def follows(event: Event, world: World) -> Iterator[Message]:
    """Return what follows from *event* for the replicas of a volume."""
    if isinstance(event, ReplicationChanged):
        volume = world.volumes.get(event.volume)
        if volume is not None and volume.uid == event.uid and volume.node == event.node:
            yield from _back(event.volume, volume, event.seen, event.epoch)
    elif isinstance(event, ReplicaRemoved | ReplicaForgotten | ReplicaResized | ReplicaHeld):
        # One that is there still may have been untied, too late for the operation that wanted that.
        gone = isinstance(event, ReplicaRemoved | ReplicaForgotten)
        links = world.nodes.get(event.node, Node()).links
        mine = (one for one in links if one.uid == event.uid)
        yield from (
            _returned(event.node, one) for one in mine if gone or _unused(event.node, one, world)
        )
    elif isinstance(event, _NEW_EPOCH):
        volume = world.volumes.get(event.volume)
        if volume is not None:
            yield from _told(event.volume, volume)


def owed(world: World) -> Iterator[Message]:
    """Return what commits of the past still owe to replicas."""
    for name, volume in world.volumes.items():
        for one in volume.members:
            replica = world.replicas.get((one.node, name))
            if replica is not None and replica.spec is not None and replica.epoch < volume.epoch:
                yield NoteEpoch(volume=name, node=one.node, uid=volume.uid, epoch=volume.epoch)
        home = world.replicas.get((volume.node, name))
        if volume.outdated and home is not None and home.seen is not None:
            yield from _back(name, volume, home.seen, home.seen_in)
    for name, node in world.nodes.items():
        yield from (_returned(name, one) for one in node.links if _unused(name, one, world))


def _unused(node: str, link: NodeLink, world: World) -> bool:
    """Whether nothing is there, or coming, that has the device and port of *link*."""
    volume = world.volumes.get(link.volume)
    busy = volume is not None and volume.uid == link.uid and bool(volume.operation)
    leg = world.replicas.get((node, link.volume))
    spec = None if leg is None else leg.spec
    if leg is None or spec is None or spec.uid != link.uid:
        return not busy
    return not busy and spec.replication is None and leg.phase in _AT_REST


def _returned(node: str, link: NodeLink) -> ReportLinkReturned:
    return ReportLinkReturned(node=node, uid=link.uid, taken_by=link.operation or None)


def _told(name: str, volume: Volume) -> Iterator[Message]:
    for one in volume.members:
        yield NoteEpoch(volume=name, node=one.node, uid=volume.uid, epoch=volume.epoch)


def _back(name: str, volume: Volume, seen: LegSeen, epoch: int) -> Iterator[Message]:
    """Return which peers have all that was written again; what is older than the epoch is not."""
    if seen.disk is not LegDisk.UP_TO_DATE or epoch != volume.epoch:
        return
    for peer in seen.peers:
        whole = peer.disk is LegDisk.UP_TO_DATE and peer.sync is Sync.NONE
        if peer.node in volume.outdated and peer.tie is Tie.CONNECTED and whole:
            yield ReportPeerBack(
                volume=name, uid=volume.uid, node=volume.node, peer=peer.node, epoch=epoch
            )
