"""Two worlds side by side: which legs are elsewhere, how full the pools are, how safe the data."""

from collections.abc import Iterator

import msgspec

from aggregates.ledger import room_bytes, thin_room_bytes
from aggregates.pool import Pool
from aggregates.raw_disks import group_of
from aggregates.volume import Volume, VolumePhase
from aggregates.what_if.ties import Lost
from aggregates.world import World
from schemas.plan import Move, PoolChange, VolumeChange
from schemas.replication import LegDisk
from schemas.volume import Layout

_NOT_YET = frozenset({VolumePhase.ABSENT, VolumePhase.PROVISIONING, VolumePhase.CLONING})


class State(msgspec.Struct, frozen=True):
    """A world, and what of it is lost."""

    world: World
    lost: Lost


def moves(before: World, after: World) -> Iterator[Move]:
    """Return which legs would be elsewhere, new, or gone, volume by volume."""
    for name in dict.fromkeys((*before.volumes, *after.volumes)):
        was, then = before.volumes.get(name), after.volumes.get(name)
        if was is then:
            continue
        had, has = _legs(was), _legs(then)
        same = was is not None and then is not None and was.uid == then.uid
        gone = [leg for leg in had if not same or leg not in has]
        new = [leg for leg in has if not same or leg not in had]
        size_bytes = (was or then or Volume()).size_bytes
        for number in range(max(len(gone), len(new))):
            yield Move(
                volume=name,
                source=gone[number] if number < len(gone) else "",
                target=new[number] if number < len(new) else "",
                size_bytes=size_bytes,
            )


def _legs(volume: Volume | None) -> list[str]:
    """Return where a volume is, the one that is written to first."""
    if volume is None or not volume.node or volume.phase in _NOT_YET:
        return []
    legs = [(volume.node, volume.pool), *((one.node, one.pool) for one in volume.members)]
    whole = volume.layout is Layout.DISK
    return list(dict.fromkeys(node if whole else f"{node}/{pool}" for node, pool in legs))


def pools(before: World, after: World) -> Iterator[PoolChange]:
    """Return the pools of which the room would be another."""
    for key in dict.fromkeys((*before.pools, *after.pools)):
        was, then = before.pools.get(key), after.pools.get(key)
        if was is then:
            continue
        facts = (then and then.facts) or (was and was.facts)
        change = PoolChange(
            node=key[0],
            pool=key[1],
            size_bytes=facts.size_bytes if facts else 0,
            free_bytes=_free(was),
            free_after_bytes=_free(then),
            thin_free_bytes=_thin_free(was),
            thin_free_after_bytes=_thin_free(then),
            claims=was.ledger.claims if was else 0,
            claims_after=then.ledger.claims if then else 0,
        )
        if _differs(change):
            yield change


def _differs(change: PoolChange) -> bool:
    was = (change.free_bytes, change.thin_free_bytes, change.claims)
    return was != (change.free_after_bytes, change.thin_free_after_bytes, change.claims_after)


def _free(pool: Pool | None) -> int | None:
    usable = None if pool is None else pool.usable
    return None if pool is None or usable is None else room_bytes(pool.ledger, usable)


def _thin_free(pool: Pool | None) -> int | None:
    usable = None if pool is None else pool.usable
    if pool is None or usable is None or not usable.thin_bytes:
        return None
    return thin_room_bytes(pool.ledger, usable, pool.thin_ratio_percent)


def volumes(before: State, after: State) -> Iterator[VolumeChange]:
    """Return the volumes that would be more or less safe, or written to elsewhere."""
    for name in dict.fromkeys((*before.world.volumes, *after.world.volumes)):
        was, then = _copies(name, before), _copies(name, after)
        home, there = _home(name, before), _home(name, after)
        if (was, home) != (then, there):
            yield VolumeChange(
                volume=name,
                node=home,
                node_after=there,
                copies=was,
                copies_after=then,
                survives=None if was is None else max(0, was - 1),
                survives_after=None if then is None else max(0, then - 1),
            )


def _home(name: str, state: State) -> str:
    volume = state.world.volumes.get(name)
    return "" if volume is None or volume.phase in _NOT_YET else volume.node


def _copies(name: str, state: State) -> int | None:
    """Return how many whole replicas of a volume can be reached, or None if there is none of it."""
    volume = state.world.volumes.get(name)
    if volume is None or volume.phase in _NOT_YET:
        return None
    if not volume.members:
        lost = volume.node in state.lost.nodes or (volume.node, _group(volume)) in state.lost.pools
        return 0 if lost else 1
    return sum(
        one.node not in state.lost.nodes
        and one.node not in volume.outdated
        and (one.node, one.pool) not in state.lost.pools
        and _whole(name, one.node, volume, state.world)
        for one in volume.members
    )


def _group(volume: Volume) -> str:
    return group_of(volume.uid) if volume.layout is Layout.DISK else volume.pool


def _whole(name: str, node: str, volume: Volume, world: World) -> bool:
    leg = world.replicas.get((node, name))
    seen = None if leg is None else leg.seen
    if seen is not None and seen.disk is LegDisk.UP_TO_DATE:
        return True
    home = world.replicas.get((volume.node, name))
    told = None if home is None or home.seen is None else home.seen.peer(node)
    return told is not None and told.disk is LegDisk.UP_TO_DATE
