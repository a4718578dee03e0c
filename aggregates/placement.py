"""Where a volume goes: every pool looked at, with its score or the reason against it."""

from collections.abc import Iterable

import msgspec

from aggregates.decision import World
from aggregates.health import ailing
from aggregates.ledger import room_bytes, rounded_bytes, short_of, thin_room_bytes
from aggregates.node import unfit, unheard
from aggregates.pool import Pool, PoolPhase
from schemas.answers import Refused, refuse
from schemas.keys import header_bytes
from schemas.node import Capability
from schemas.pool import Reserve
from schemas.refusals import Refusal
from schemas.volume import Candidate, Layout, ProvisionVolume

CANDIDATES_MAX = 64
"""How many pools a decision records; beyond that only the best and the first refusals."""


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """How much counts for or against a pool, in points.

    ``room`` is for the share of it that stays free, ``crowd`` against each volume it holds,
    ``near`` for the node of the source and ``shared`` for its pool, ``zone`` for another zone than
    that of the first replica.
    """

    room: int = 1000
    crowd: int = 1
    near: int = 1_000_000
    shared: int = 1_000_000
    zone: int = 10_000


class Near(msgspec.Struct, frozen=True):
    """Where a copy would rather be: on the ``node`` of its source, and in the ``pool`` of it.

    ``pool`` is empty where nothing could be shared with the source there.
    """

    node: str
    pool: str


def rank(
    request: ProvisionVolume, world: World, uid: str, near: Near | None = None, back: str = ""
) -> tuple[Candidate, ...]:
    """Return the pools in the order in which they are to be tried; those that cannot come last.

    A pool scores points for the share of it that stays free, and loses some for each volume it
    holds, as the weights of the world have it. Room that volumes on their way have not reserved yet
    counts as used for the score, but not against the pool: only the ledger may refuse. ``near``
    counts for more than all else, and nodes that cannot reach it cannot take the volume. What comes
    ``back`` to a node that it has just left is nothing new there.
    """
    underway = _underway(world)
    looked_at = [
        _candidate(request, world, key, pool, underway.get(key, 0), uid, near, back)
        for key, pool in world.pools.items()
        if pool.phase is not PoolPhase.ABSENT and _asked_for(request, key)
    ]
    looked_at.sort(key=lambda c: (c.code is not None, -c.score, c.node, c.pool))
    return tuple(looked_at[:CANDIDATES_MAX])


def nowhere(request: ProvisionVolume, candidates: Iterable[Candidate]) -> Refused | None:
    """Return the refusal if no candidate can take the volume, or None if one can."""
    against = list(candidates)
    if any(candidate.code is None for candidate in against):
        return None
    codes = {candidate.code for candidate in against if candidate.code is not None}
    code = codes.pop() if len(codes) == 1 else Refusal.NO_PLACE
    if not against:
        wish = f"pool {request.pool}" if request.pool else "pool"
        where = f" on {request.node}" if request.node else ""
        return refuse(Refusal.NO_PLACE, f"there is no {wish}{where}")
    return refuse(code, "; ".join(candidate.because for candidate in against)[:1000])


def _asked_for(request: ProvisionVolume, key: tuple[str, str]) -> bool:
    node, pool = key
    return request.node in {None, node} and request.pool in {None, pool}


def _candidate(
    request: ProvisionVolume,
    world: World,
    key: tuple[str, str],
    pool: Pool,
    underway_bytes: int,
    uid: str,
    near: Near | None,
    back: str,
) -> Candidate:
    node, name = key
    no = (unheard if node == back else unfit)(world.nodes.get(node), node)
    no = no or ailing(node, name, pool.staying, world)
    no = no or _cannot_encrypt(request, world, node) or cannot_reach(near, world, node)
    no = no or _cannot(request, pool, key, uid)
    room = _room(request, pool)
    usable = pool.usable
    if no is not None or usable is None:
        code = no.code if no is not None else Refusal.POOL_NOT_READY
        because = no.because if no is not None else f"{node}/{name} is not formed yet"
        return Candidate(node=node, pool=name, room_bytes=room, code=code, because=because)
    whole = usable.thin_bytes if request.layout is Layout.THIN else usable.size_bytes
    wanted = rounded_bytes(_leg_bytes(request), usable.extent_bytes, request.stripes)
    left = room - wanted - underway_bytes
    parts = {
        "room": world.weights.room * left // max(1, whole),
        "crowd": -world.weights.crowd * pool.ledger.claims,
    } | _nearness(near, key, world.weights)
    return Candidate(node=node, pool=name, room_bytes=room, score=sum(parts.values()), parts=parts)


def _cannot_encrypt(request: ProvisionVolume, world: World, name: str) -> Refused | None:
    node = world.nodes.get(name)
    if request.key_ref is None or node is None or Capability.ENCRYPTION in node.capabilities:
        return None
    return refuse(Refusal.CANNOT_ENCRYPT, f"{name} has no cryptsetup, or no dm-crypt")


def cannot_reach(near: Near | None, world: World, name: str) -> Refused | None:
    """Return why the source cannot be read from that node, if it is another one."""
    if near is None or near.node == name:
        return None
    for one in (name, near.node):
        node = world.nodes.get(one)
        if node is None or Capability.LENDING not in node.capabilities:
            between = f"from {near.node} to {name}"
            return refuse(Refusal.SOURCE_ELSEWHERE, f"{one} cannot copy {between}")
    return None


def _nearness(near: Near | None, key: tuple[str, str], weights: Weights) -> dict[str, int]:
    node, pool = key
    if near is None or near.node != node:
        return {}
    return {"near": weights.near} | ({"shared": weights.shared} if near.pool == pool else {})


def _cannot(request: ProvisionVolume, pool: Pool, key: tuple[str, str], uid: str) -> Refused | None:
    node, name = key
    usable = pool.usable
    if pool.phase is not PoolPhase.READY or usable is None:
        return refuse(Refusal.POOL_NOT_READY, f"{node}/{name} is {pool.phase.value}")
    wish = Reserve(
        pool=name,
        node=node,
        claim=uid,
        size_bytes=_leg_bytes(request),
        operation=uid,
        thin=request.layout is Layout.THIN,
        stripes=request.stripes,
    )
    return short_of(pool.ledger, usable, pool.thin_ratio_percent, pool.volumes_max, wish)


def _leg_bytes(request: ProvisionVolume) -> int:
    return request.size_bytes + header_bytes(request.key_ref)


def _room(request: ProvisionVolume, pool: Pool) -> int:
    usable = pool.usable
    if usable is None:
        return 0
    if request.layout is Layout.THIN:
        return thin_room_bytes(pool.ledger, usable, pool.thin_ratio_percent)
    return room_bytes(pool.ledger, usable)


def _underway(world: World) -> dict[tuple[str, str], int]:
    """Return what volumes that are being provisioned will ask of the pools they try first."""
    asked: dict[tuple[str, str], int] = {}
    for name in world.provisioning:
        volume = world.volumes[name]
        first = next((c for c in volume.candidates if c.code is None), None)
        if first is None:
            continue
        pool = world.pools.get((first.node, first.pool))
        if pool is None or volume.uid in pool.ledger.reserved or volume.uid in pool.ledger.settled:
            continue
        key = (first.node, first.pool)
        asked[key] = asked.get(key, 0) + volume.size_bytes + volume.header_bytes
    return asked
