"""The difference between what is wanted and what is, as steps: each says *shall be*, never *do*."""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from node_workers.observation import Observation
from node_workers.ports import THIN_POOL_NAME
from node_workers.wanted import Origin, Wanted, WantedPool, WantedReplica
from schemas.pool import PoolFacts
from schemas.replica import ReplicaSpec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to ensure for one object; ``key`` is its lane, ``group`` the volume group."""

    key: str
    group: str
    uid: str
    origin: Origin

    @property
    def alone(self) -> bool:
        """Whether nothing else may happen in the group meanwhile."""
        return isinstance(self, HavePool | HaveNoPool)

    @property
    def destructive(self) -> bool:
        """Whether it takes data away, so that the log is asked once more before."""
        return isinstance(self, HaveNoPool | HaveNoReplica | HaveMerged)


class HavePool(Step, frozen=True, kw_only=True):
    """The group shall be there, on exactly these disks besides ``dropped``, with its thin pool.

    ``may_create`` is false for a group that was there once: it is not made anew; the same holds
    for its thin pool, of which ``facts`` tell the figures then.
    """

    disks: tuple[str, ...]
    dropped: tuple[str, ...]
    thin_bytes: int
    may_create: bool
    may_create_thin: bool
    facts: PoolFacts | None


class HaveNoPool(Step, frozen=True, kw_only=True):
    """Nothing of the group shall be left, and its disks shall be blank."""

    disks: tuple[str, ...]


class HaveReplica(Step, frozen=True, kw_only=True):
    """The logical volume shall be there with all that its spec asks for.

    ``may_create`` is false for one that was there once; ``withdrawn``: it may be gone already.
    """

    volume: str
    pool_uid: str
    spec: ReplicaSpec
    may_create: bool
    withdrawn: bool = False


class HaveMerged(Step, frozen=True, kw_only=True):
    """The volume shall be what the snapshot kept of it, and the snapshot used up."""

    volume: str
    pool_uid: str
    spec: ReplicaSpec


class HaveNoReplica(Step, frozen=True, kw_only=True):
    """Nothing of the logical volume shall be left."""

    volume: str
    pool_uid: str
    spec: ReplicaSpec


def step_for(wanted: Wanted, everything: Mapping[str, Wanted]) -> Step | None:
    """Return what is to be ensured for one object, or None if its wish has been answered.

    This is the quick way, for an event about one object: the step itself looks first.
    """
    if not wanted.open:
        return None
    if isinstance(wanted, WantedPool):
        return _pool_step(wanted) if wanted.present else _no_pool_step(wanted)
    return _replica_step(wanted, everything)


def plan(everything: Mapping[str, Wanted]) -> tuple[Step, ...]:
    """Return all that is to be ensured, in the order in which it was wished."""
    due = sorted((one for one in everything.values() if one.open), key=lambda one: one.origin.seq)
    return tuple(step for one in due if (step := step_for(one, everything)) is not None)


def changed_pools(
    everything: Mapping[str, Wanted], seen: Observation
) -> tuple[tuple[WantedPool, PoolFacts], ...]:
    """Return the settled pools whose figures are not those that the log has, with the new ones."""
    pools = (one for one in everything.values() if isinstance(one, WantedPool))
    settled = sorted((one for one in pools if one.present and not one.open), key=lambda p: p.name)
    looked_at = ((pool, _facts(pool, seen)) for pool in settled)
    return tuple((pool, now) for pool, now in looked_at if now is not None and now != pool.facts)


def settled_by_hand(everything: Mapping[str, Wanted], seen: Observation) -> tuple[str, ...]:
    """Return the objects that could not be removed, and of which nothing is left by now.

    Somebody has settled what stood in the way: it only remains to be said.
    """
    groups = {pool.uid for pool in seen.pools}
    names = {pool.name for pool in seen.pools}
    volumes = {volume.uid for volume in seen.volumes}
    given_up = (one for one in everything.values() if not one.present and not one.open)
    return tuple(
        one.key
        for one in given_up
        if (
            one.uid not in groups
            if isinstance(one, WantedPool)
            else one.uid not in volumes and one.spec.pool in names
        )
    )


def sleeping_pools(everything: Mapping[str, Wanted], seen: Observation) -> dict[str, str]:
    """Return the pools (uid by name) with volumes of ours that ought to be active and are not."""
    known = {one.uid for one in everything.values() if isinstance(one, WantedReplica)}
    asleep = {v.pool for v in seen.volumes if v.uid in known and not v.active}
    return {name: uid for name, uid in pools_to_activate(everything).items() if name in asleep}


def pools_to_activate(everything: Mapping[str, Wanted]) -> dict[str, str]:
    """Return the pools (uid by name) whose volumes shall be active when the node starts."""
    pools = (one for one in everything.values() if isinstance(one, WantedPool))
    return {pool.name: pool.uid for pool in pools if pool.present}


def _facts(pool: WantedPool, seen: Observation) -> PoolFacts | None:
    found = next((one for one in seen.pools if one.uid == pool.uid and one.name == pool.name), None)
    if found is None or pool.facts is None:
        return None
    # A member without our stamp was added by hand; it has no name in the log.
    disks = tuple(member.disk for member in found.members if member.disk)
    thin = (v.size_bytes for v in seen.volumes if (v.pool, v.name) == (pool.name, THIN_POOL_NAME))
    return replace(
        pool.facts,
        size_bytes=found.size_bytes or pool.facts.size_bytes,
        disks=pool.facts.disks if set(disks) == set(pool.facts.disks) else disks,
        thin_bytes=next(thin, 0),
    )


def _pool_step(pool: WantedPool) -> HavePool:
    return HavePool(
        key=pool.key,
        group=pool.name,
        uid=pool.uid,
        origin=pool.origin,
        disks=pool.disks,
        dropped=pool.dropped,
        thin_bytes=pool.thin_bytes,
        may_create=pool.may_create,
        may_create_thin=pool.may_create_thin,
        facts=pool.facts,
    )


def _no_pool_step(pool: WantedPool) -> HaveNoPool:
    return HaveNoPool(
        key=pool.key,
        group=pool.name,
        uid=pool.uid,
        origin=pool.origin,
        disks=(*pool.disks, *pool.dropped),
    )


def _replica_step(replica: WantedReplica, everything: Mapping[str, Wanted]) -> Step:
    pool = everything.get(f"pool/{replica.spec.pool}")
    pool_uid = pool.uid if isinstance(pool, WantedPool) else ""
    if replica.merging or not replica.present:
        word = HaveMerged if replica.merging else HaveNoReplica
        return word(
            key=replica.key,
            group=replica.spec.pool,
            uid=replica.uid,
            origin=replica.origin,
            volume=replica.volume,
            pool_uid=pool_uid,
            spec=replica.spec,
        )
    return HaveReplica(
        key=replica.key,
        group=replica.spec.pool,
        uid=replica.uid,
        origin=replica.origin,
        volume=replica.volume,
        pool_uid=pool_uid,
        spec=replica.spec,
        may_create=replica.may_create,
        withdrawn=replica.withdrawn,
    )
