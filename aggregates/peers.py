"""What the replicas of a volume are to each other: who has all that was written, and who may."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from aggregates import common_nodes
from aggregates.node import cannot_replicate, unheard
from aggregates.placement import rank
from aggregates.replica import ReplicaPhase
from schemas.answers import Refused, refuse
from schemas.refusals import Refusal
from schemas.replicating import head_room_bytes
from schemas.replication import LegDisk, LegSeen, Member, Sync, Tie
from schemas.volume import Candidate, Layout, Leg, ProvisionVolume

if TYPE_CHECKING:
    from aggregates.decision import Facts, World
    from aggregates.volume import Volume

_GOOD = frozenset({LegDisk.UP_TO_DATE, LegDisk.CONSISTENT})


def one_of_several_moves(volume: "Volume") -> bool:
    """Whether another replica comes and takes what the one that goes leaves."""
    return bool(volume.migrating) and volume.replicas > 1


def member_on(volume: "Volume", node: str) -> Member | None:
    """Return the replica of the volume on that node, if it has one among several."""
    return next((one for one in volume.members if one.node == node), None)


def others(volume: "Volume") -> tuple[Leg, ...]:
    """Return where the volume has replicas besides the one that is written to."""
    return tuple(
        Leg(node=one.node, pool=one.pool) for one in volume.members if one.node != volume.node
    )


def tied_by(members: tuple[Member, ...], operation: str) -> tuple[Member, ...]:
    """Return them tied anew by that operation: to what they were tied by before they are others."""
    return tuple(replace(one, link=replace(one.link, since=operation)) for one in members)


def is_all(volume: "Volume", node: str | None) -> bool:
    """Return whether with the leg on that node the volume is gone; None: with the last of all.

    A leg that it had once, and has given up, goes without it.
    """
    return node is None or (not volume.members and node == volume.node)


def not_yet(volume: "Volume", name: str, wish: str) -> Refused | None:
    """Refuse what cannot be done while the volume has several replicas."""
    if not volume.members:
        return None
    nodes = ", ".join(one.node for one in volume.members)
    return refuse(Refusal.IS_REPLICATED, f"{name} has replicas on {nodes}: it cannot {wish}")


def no_leg(volume: "Volume", name: str, node: str, world: "World") -> Refused | None:
    """Return why the leg on that node cannot become what all others are filled from, or None."""
    if not volume.members:
        here = node == volume.node
        gone = f"{name} has no leg on {node} any more: it is on {volume.node}"
        return None if here else refuse(Refusal.NO_SUCH_REPLICA, gone)
    if member_on(volume, node) is None:
        return refuse(Refusal.NO_SUCH_REPLICA, f"{name} has no replica on {node} any more")
    for one in volume.members:
        no = unheard(world.nodes.get(one.node), one.node)
        if one.node != node:
            # If that one cannot be had after its merge, the volume goes on with what is here.
            no = no or unwritable(volume, name, one.node, world)
        if no is not None:
            return no
    return None


def seen(world: "World", node: str, volume: str) -> LegSeen | None:
    """Return what that node has said last of its replica."""
    replica = world.replicas.get((node, volume))
    return None if replica is None else replica.seen


def _rolling_back(volume: "Volume", name: str, node: str, world: "World") -> Refused | None:
    """Return why what is said of that replica counts no more: it may be what it was once."""
    unsure = {ReplicaPhase.MERGING, ReplicaPhase.STAYING}
    kept = (world.replicas.get((node, snapshot)) for snapshot in volume.snapshots)
    if not any(one is not None and one.phase in unsure for one in kept):
        return None
    because = f"{node} has not said whether its replica of {name} has been rolled back"
    return refuse(Refusal.NOT_UP_TO_DATE, because)


def unwritable(volume: "Volume", name: str, node: str, world: "World") -> Refused | None:
    """Return why the volume cannot be written to on that node, while all is well, or None."""
    if member_on(volume, node) is None:
        return refuse(Refusal.NO_SUCH_REPLICA, f"{name} has no replica on {node}")
    no = unheard(world.nodes.get(node), node) or _rolling_back(volume, name, node, world)
    if no is not None:
        return no
    known = seen(world, node, name)
    whole = known is not None and known.disk is LegDisk.UP_TO_DATE
    # Whoever writes may have told first that the other has caught up.
    whole = whole or (node != volume.node and _seen_whole(volume, name, node, world))
    if node in volume.outdated or not whole:
        how = "not told yet" if known is None else known.disk.value
        how = "outdated" if node in volume.outdated else how
        return refuse(Refusal.NOT_UP_TO_DATE, f"the replica of {name} on {node} is {how}")
    return None


def _seen_whole(volume: "Volume", name: str, node: str, world: "World") -> bool:
    """Return whether the node that writes sees that one connected, with all that was written."""
    home = seen(world, volume.node, name)
    peer = None if home is None else home.peer(node)
    at_rest = peer is not None and peer.sync is Sync.NONE and peer.tie is Tie.CONNECTED
    return peer is not None and at_rest and peer.disk is LegDisk.UP_TO_DATE


def successor(volume: "Volume", name: str, wish: str | None, world: "World") -> Member | Refused:
    """Return the replica that can go on when the one that is written to is lost, or why none.

    Of several it is the one that most of the other volumes of the group can go on with as well.
    """
    against: list[Refused] = []
    fit: list[Member] = []
    for one in volume.members:
        if one.node == volume.node or wish not in {None, one.node}:
            continue
        no = _unfit(volume, name, one.node, world)
        if no is None:
            fit.append(one)
        else:
            against.append(no)
    if fit:
        return fit[0] if len(fit) == 1 else _common(fit, volume, name, world)
    if len(against) == 1:
        return against[0]
    because = "; ".join(no.because for no in against) or f"{name} has none on {wish}"
    return refuse(Refusal.NOT_UP_TO_DATE, because[:1000])


def _common(fit: list[Member], volume: "Volume", name: str, world: "World") -> Member:
    company = common_nodes.of_member(name, volume, world)
    others = {} if company is None else company.others

    def followers(one: Member) -> int:
        can_follow = (
            other.node == one.node
            or (
                other.node == volume.node
                and member_on(other, one.node) is not None
                and _unfit(other, called, one.node, world) is None
            )
            for called, other in others.items()
        )
        return sum(can_follow)

    return max(fit, key=followers)


def _unfit(volume: "Volume", name: str, node: str, world: "World") -> Refused | None:
    no = unheard(world.nodes.get(node), node) or _rolling_back(volume, name, node, world)
    if no is not None:
        return no
    known = seen(world, node, name)
    if node in volume.outdated:
        return refuse(Refusal.NOT_UP_TO_DATE, f"{node} has not all that was written to {name}")
    if known is None or known.disk not in _GOOD:
        how = "not told yet" if known is None else known.disk.value
        return refuse(Refusal.NOT_UP_TO_DATE, f"the replica of {name} on {node} is {how}")
    home = known.peer(volume.node)
    if home is not None and home.tie is Tie.CONNECTED:
        still = f"{node} is still connected to {volume.node}"
        return refuse(Refusal.STILL_CONNECTED, still)
    return None


def missed_by_peers(node: str, world: "World") -> bool:
    """Return whether the peers of a node, in volumes that it has, tell that they have lost it."""
    told: list[bool] = []
    for name, volume in world.volumes.items():
        if volume.node != node:
            continue
        for one in volume.members:
            known = None if one.node == node else seen(world, one.node, name)
            peer = None if known is None else known.peer(node)
            there = world.nodes.get(one.node)
            if peer is not None and there is not None and not there.silent:
                told.append(peer.tie is not Tie.CONNECTED)
    return bool(told) and all(told)


def device_bytes(volume: "Volume") -> int:
    """Return how large the replicated device is: what is on it may have a header."""
    return volume.size_bytes + volume.header_bytes


def rank_more(
    volume: "Volume",
    request: ProvisionVolume,
    home: str,
    members: int,
    facts: "Facts",
) -> tuple[Candidate, ...]:
    """Return the pools for one replica more, beside *home*; other zones come first.

    *members* is how many there will be. A replica that migrates may come back to where it was, also
    when nothing new is placed there: for that reason it migrates.
    """
    # The header of an encrypted one is counted where there is a key.
    room = ProvisionVolume(
        volume=request.volume,
        size_bytes=volume.size_bytes + head_room_bytes(device_bytes(volume), members),
        key_ref=volume.key_ref or None,
        layout=volume.layout,
        stripes=volume.stripes,
        pool=request.pool,
        node=request.node,
    )
    world = facts.world
    legs = ((name, world.replicas.get((name, request.volume))) for name in world.nodes)
    there = {name for name, leg in legs if leg is not None and leg.spec is not None}
    taken = {home} | {one.node for one in volume.members} | there
    near = world.nodes.get(home)
    back = volume.migrating if request.node == volume.migrating else ""
    ranked = [
        _beside(one, taken, members, "" if near is None else near.zone, world)
        for one in rank(room, world, volume.uid or facts.uid, back=back)
    ]
    ranked.sort(key=lambda c: (c.code is not None, -c.score, c.node, c.pool))
    return tuple(ranked)


def _beside(
    candidate: Candidate, taken: set[str], members: int, zone: str, world: "World"
) -> Candidate:
    node = world.nodes.get(candidate.node)
    if candidate.code is not None:
        return candidate
    no = cannot_replicate(node, candidate.node, members)
    if candidate.node in taken:
        no = refuse(Refusal.TOO_MANY_REPLICAS, f"{candidate.node} has a replica already")
    if no is not None:
        return Candidate(
            node=candidate.node,
            pool=candidate.pool,
            room_bytes=candidate.room_bytes,
            code=no.code,
            because=no.because,
        )
    if not zone or node is None or node.zone == zone:
        return candidate
    parts = candidate.parts | {"zone": world.weights.zone}
    return Candidate(
        node=candidate.node,
        pool=candidate.pool,
        room_bytes=candidate.room_bytes,
        score=sum(parts.values()),
        parts=parts,
    )


def replicable(volume: "Volume", name: str) -> Refused | None:
    """Return why the volume can have one replica only, or None."""
    if volume.layout is Layout.DISK:
        return refuse(Refusal.IS_RAW_DISK, f"{name} is a whole disk: it cannot be replicated")
    return None


def too_few(
    request: ProvisionVolume, candidates: tuple[Candidate, ...], world: "World"
) -> Refused | None:
    """Return why there are not nodes enough for so many replicas, or None.

    What the first of them may be narrowed down to does not bind the others.
    """
    if request.replicas == 1:
        return None
    first = {one.node for one in candidates if one.code is None}
    free = ProvisionVolume(
        volume=request.volume,
        size_bytes=request.size_bytes,
        layout=request.layout,
        key_ref=request.key_ref,
    )
    fit = {one.node for one in rank(free, world, "") if one.code is None}
    why: list[str] = []
    for node in sorted(fit | first):
        no = cannot_replicate(world.nodes.get(node), node, request.replicas)
        if no is not None:
            fit.discard(node)
            first.discard(node)
            why.append(no.because)
    if first and len(fit | first) >= request.replicas:
        return None
    some = f"{len(fit | first)} of {request.replicas} nodes can have a replica"
    return refuse(Refusal.NO_PLACE, "; ".join((some, *why))[:1000])
