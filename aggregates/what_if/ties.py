"""Replicas that are filled at once: what their nodes would see of each other, and ask."""

from collections.abc import Collection, Iterable, Iterator

import msgspec

from aggregates.attachment import AttachmentPhase
from aggregates.replica import Replica, ReplicaPhase
from aggregates.volume import Volume
from aggregates.world import World
from schemas.grammar import Message
from schemas.handing import FencePeer
from schemas.replication import LegDisk, LegSeen, Member, PeerSeen, ReportReplication, Start, Tie

_NOT_THERE = frozenset({ReplicaPhase.ABSENT, ReplicaPhase.WANTED})


class Lost(msgspec.Struct, eq=False):
    """The ``nodes`` that do and say nothing, and the ``pools`` of which a disk has failed."""

    nodes: set[str] = msgspec.field(default_factory=set)
    pools: set[tuple[str, str]] = msgspec.field(default_factory=set)


def seen_of(volume: str, world: World, lost: Lost, also: Collection[str] = ()) -> Iterator[Message]:
    """Return what the nodes say of the replicas of a volume that they have not said yet.

    *also* are nodes that may have one of which the volume does not know yet.
    """
    known = world.volumes.get(volume)
    for node in _nodes(volume, known, also, world):
        leg = world.replicas.get((node, volume))
        spec = None if leg is None else leg.spec
        tied = None if spec is None else spec.replication
        if leg is None or spec is None or tied is None or leg.phase in _NOT_THERE:
            continue
        if node in lost.nodes:
            continue
        peers = tuple(
            _peer(volume, node, spec.uid, one, world, lost)
            for one in tied.members
            if one.node != node
        )
        primary = _in_use(node, volume, world)
        now = LegSeen(primary=primary, disk=_disk(node, leg, peers, lost), peers=peers)
        if (now, leg.epoch) != (leg.seen, leg.seen_in):
            yield ReportReplication(
                volume=volume, node=node, uid=spec.uid, epoch=leg.epoch, seen=now
            )
        if known is not None and primary and node == known.node:
            yield from _fencing(volume, known, now)


def _nodes(
    volume: str, known: Volume | None, also: Collection[str], world: World
) -> tuple[str, ...]:
    """Return where the volume has replicas, or is to have some."""
    found = dict.fromkeys(also)
    found |= {} if known is None else {known.node: None} | {m.node: None for m in known.members}
    for node in tuple(found):
        leg = world.replicas.get((node, volume))
        tied = None if leg is None or leg.spec is None else leg.spec.replication
        found |= {} if tied is None else {one.node: None for one in tied.members}
    return tuple(found)


def _peer(volume: str, node: str, uid: str, peer: Member, world: World, lost: Lost) -> PeerSeen:
    other = world.replicas.get((peer.node, volume))
    if peer.node not in lost.nodes and other is not None and _knows(other, uid, node):
        return PeerSeen(
            node=peer.node,
            tie=Tie.CONNECTED,
            primary=_in_use(peer.node, volume, world),
            disk=LegDisk.DISKLESS if (peer.node, peer.pool) in lost.pools else LegDisk.UP_TO_DATE,
        )
    known = world.volumes.get(volume)
    missed = known is not None and peer.node in known.outdated
    disk = LegDisk.OUTDATED if missed else LegDisk.UNKNOWN
    return PeerSeen(node=peer.node, tie=Tie.CONNECTING, disk=disk)


def _disk(node: str, leg: Replica, peers: Iterable[PeerSeen], lost: Lost) -> LegDisk:
    if leg.spec is not None and (node, leg.spec.pool) in lost.pools:
        return LegDisk.DISKLESS
    good = any(one.tie is Tie.CONNECTED and one.disk is LegDisk.UP_TO_DATE for one in peers)
    return LegDisk.UP_TO_DATE if good else _alone(leg)


def _knows(other: Replica, uid: str, node: str) -> bool:
    """Whether the other leg is there, of the same volume, and tied to that node, too."""
    spec = other.spec
    if spec is None or spec.uid != uid or other.phase in _NOT_THERE:
        return False
    return spec.replication is not None and any(
        one.node == node for one in spec.replication.members
    )


def _alone(leg: Replica) -> LegDisk:
    if leg.seen is not None:
        return leg.seen.disk
    tied = None if leg.spec is None else leg.spec.replication
    blank = tied is not None and tied.start is Start.NOTHING
    return LegDisk.INCONSISTENT if blank else LegDisk.UP_TO_DATE


def _in_use(node: str, volume: str, world: World) -> bool:
    attachment = world.attachments.get((node, volume))
    return attachment is not None and attachment.phase is AttachmentPhase.PRESENT


def _fencing(volume: str, known: Volume, seen: LegSeen) -> Iterator[Message]:
    for peer in seen.peers:
        lost = peer.tie is not Tie.CONNECTED or peer.disk is not LegDisk.UP_TO_DATE
        if lost and peer.node not in known.outdated and _is_member(known, peer.node):
            yield FencePeer(volume=volume, uid=known.uid, node=known.node, peer=peer.node)


def _is_member(known: Volume, node: str) -> bool:
    return any(one.node == node for one in known.members)
