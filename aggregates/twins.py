"""Snapshots of all replicas of a volume: that of the one that is written to, and its twins."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from aggregates import snapshot_growth
from aggregates.ledger import short_of
from aggregates.node import unheard
from schemas.answers import Refused, refuse
from schemas.pool import Reserve
from schemas.refusals import Refusal
from schemas.snapshot import Part
from schemas.volume import Layout

if TYPE_CHECKING:
    from aggregates.decision import Facts
    from aggregates.volume import Volume

_NAME_CHARACTERS_MAX = 63
_RESERVE_SHARE = 5


def part_of(name: str, of: str, volume: "Volume", reserve_bytes: int | None) -> Part:
    """Return what is to be made of the replica of the volume that is written to."""
    return Part(
        snapshot=name,
        volume=of,
        volume_uid=volume.uid,
        pool=volume.pool,
        size_bytes=volume.size_bytes,
        reserve_bytes=reserve_of(volume, reserve_bytes),
        layout=volume.layout,
        header_bytes=volume.header_bytes,
        head_room_bytes=volume.head_room_bytes,
    )


def reserve_of(volume: "Volume", asked: int | None) -> int:
    """Return the room for what changes; a thin snapshot shares, and has none."""
    if volume.layout is Layout.THIN:
        return 0
    leg_bytes = volume.size_bytes + volume.header_bytes
    most = snapshot_growth.most_bytes(leg_bytes)
    return min(asked or -(-leg_bytes // _RESERVE_SHARE), most)


def twins_of(main: Part, volume: "Volume", facts: "Facts") -> tuple[Part, ...]:
    """Return what is to be made of the other replicas.

    One whose node is silent has no twin: nobody waits for it. Which of them have all that was
    written is not known before nobody writes; then the node that writes asks only those.
    """
    nodes = facts.world.nodes
    others = [one for one in volume.members if one.node != volume.node]
    return tuple(
        replace(
            main,
            snapshot=_name(main.snapshot, one.node, one.index),
            pool=one.pool,
            node=one.node,
            twin_of=main.snapshot,
        )
        for one in others
        if unheard(nodes.get(one.node), one.node) is None
    )


def no_room(part: Part, node: str, facts: "Facts") -> Refused | None:
    """Return why the pool on that node cannot take it."""
    pool = facts.world.pools.get((node, part.pool))
    if pool is None or pool.facts is None:
        return refuse(Refusal.POOL_NOT_READY, f"{node}/{part.pool} is not there")
    wish = Reserve(
        pool=part.pool,
        node=node,
        claim=facts.operation,
        size_bytes=part.room_bytes,
        operation=facts.operation,
        thin=part.layout is Layout.THIN,
    )
    return short_of(pool.ledger, pool.facts, pool.thin_ratio_percent, pool.volumes_max, wish)


def taken(part: Part, facts: "Facts") -> Refused | None:
    """Return why there can be no snapshot of that name."""
    if part.snapshot in facts.world.snapshots:
        return refuse(Refusal.SNAPSHOT_EXISTS, f"there is a snapshot {part.snapshot}")
    if part.snapshot in facts.world.volumes:
        return refuse(Refusal.VOLUME_EXISTS, f"there is a volume {part.snapshot}")
    if part.snapshot in facts.world.volumes[part.volume].snapshots:
        left = f"the node still holds an earlier snapshot {part.snapshot}"
        return refuse(Refusal.REPLICA_BUSY, left)
    return None


def _name(snapshot: str, node: str, index: int) -> str:
    """Return what it is called; a long name gets a number instead of that of the node."""
    full = f"{snapshot}-{node}"
    if len(full) <= _NAME_CHARACTERS_MAX:
        return full
    return f"{snapshot[: _NAME_CHARACTERS_MAX - 3]}-{index}"
