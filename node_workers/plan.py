"""The difference between what is wanted and what is, as steps: each says *shall be*, never *do*."""

from collections.abc import Mapping

from msgspec.structs import replace

from node_workers.observation import ContentKind, Observation
from node_workers.plan_attachments import attachment_step, detachment_step, pool_uid_of
from node_workers.ports import THIN_POOL_NAME
from node_workers.steps import (
    HaveErrand,
    HaveKeys,
    HaveLeft,
    HaveMended,
    HaveMerged,
    HaveNoErrand,
    HaveNoPool,
    HaveNoReplica,
    HavePool,
    HaveReplica,
    HaveReplicaAwake,
    HaveReplicaHeld,
    HaveSplitSettled,
    Leg,
    Step,
)
from node_workers.wanted import (
    Settling,
    Wanted,
    WantedAttachment,
    WantedErrand,
    WantedPool,
    WantedReplica,
)
from schemas.errand import Errand, PutAside, PutBack, Upload
from schemas.instants import Together
from schemas.pool import PoolFacts


def step_for(wanted: Wanted, everything: Mapping[str, Wanted]) -> Step | None:
    """Return what is to be ensured for one object, or None if its wish has been answered.

    This is the quick way, for an event about one object: the step itself looks first.
    """
    if not wanted.open:
        return None
    if isinstance(wanted, WantedPool):
        return _pool_step(wanted) if wanted.present else _no_pool_step(wanted)
    if isinstance(wanted, WantedAttachment):
        step = attachment_step if wanted.present else detachment_step
        return step(wanted, everything)
    if isinstance(wanted, WantedErrand):
        return _errand_step(wanted, everything)
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
    lasting = (one for one in everything.values() if isinstance(one, WantedPool | WantedReplica))
    blank = {disk.identity for disk in seen.disks if disk.content.kind is ContentKind.BLANK}

    def is_gone(one: WantedPool | WantedReplica) -> bool:
        if isinstance(one, WantedPool):
            return one.uid not in groups
        if one.spec.disk is not None:
            return one.uid not in groups and one.spec.disk in blank
        return one.uid not in volumes and one.spec.pool in names

    given_up = (one for one in lasting if not one.present and not one.open)
    return tuple(one.key for one in given_up if is_gone(one))


def volumes_at_rest(everything: Mapping[str, Wanted]) -> frozenset[str]:
    """Return the uids of the volumes that nobody shall use; only a step of their own wakes them."""
    legs = (one for one in everything.values() if isinstance(one, WantedReplica))
    return frozenset(
        leg.uid
        for leg in legs
        if leg.held or not leg.present or (leg.open and _simple_step(leg) is HaveReplicaAwake)
    )


def restless_volumes(everything: Mapping[str, Wanted], seen: Observation) -> tuple[str, ...]:
    """Return the held volumes that somebody made active again, and that nobody has open.

    It may have been ourselves, after a loss of power that took the newest wishes with it.
    """
    idle = {volume.uid for volume in seen.volumes if volume.active and not volume.open}
    legs = (one for one in everything.values() if isinstance(one, WantedReplica))
    return tuple(leg.key for leg in legs if leg.held and not leg.open and leg.uid in idle)


def sleeping_pools(everything: Mapping[str, Wanted], seen: Observation) -> dict[str, str]:
    """Return the pools (uid by name) with volumes of ours that ought to be active and are not."""
    known = {one.uid for one in everything.values() if isinstance(one, WantedReplica)}
    known -= volumes_at_rest(everything)
    asleep = {v.pool for v in seen.volumes if v.uid in known and not v.active}
    return {name: uid for name, uid in pools_to_activate(everything).items() if name in asleep}


def pools_to_activate(everything: Mapping[str, Wanted]) -> dict[str, str]:
    """Return the pools (uid by name) whose volumes shall be active when the node starts."""
    pools = (one for one in everything.values() if isinstance(one, WantedPool))
    legs = (one for one in everything.values() if isinstance(one, WantedReplica))
    disks = {leg.spec.pool: leg.uid for leg in legs if leg.present and leg.spec.disk is not None}
    return {pool.name: pool.uid for pool in pools if pool.present} | disks


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
        leaving=pool.leaving,
        kept=pool.kept,
        thin_bytes=pool.thin_bytes,
        may_create=pool.may_create,
        may_create_thin=pool.may_create_thin,
        facts=pool.facts,
        thin_growing=pool.thin_growing,
        metadata_bytes=pool.metadata_bytes,
    )


def _no_pool_step(pool: WantedPool) -> HaveNoPool:
    return HaveNoPool(
        key=pool.key,
        group=pool.name,
        uid=pool.uid,
        origin=pool.origin,
        disks=(*pool.disks, *pool.dropped, *pool.leaving),
    )


def _errand_step(
    errand: WantedErrand, everything: Mapping[str, Wanted]
) -> HaveErrand | HaveNoErrand:
    wish = errand.errand
    pool = _pool_of(wish)
    if not errand.present:
        return HaveNoErrand(
            key=errand.key,
            group=pool,
            uid=errand.uid,
            origin=errand.origin,
            pool_uid=pool_uid_of(pool, everything),
            errand=wish,
        )
    return HaveErrand(
        key=errand.key,
        group=pool,
        uid=errand.uid,
        origin=errand.origin,
        pool_uid=pool_uid_of(pool, everything),
        errand=wish,
    )


def _pool_of(errand: Errand) -> str:
    match errand:
        case Upload():
            return errand.pool
        case PutAside() | PutBack():
            return errand.seen.pool
        case _:
            return ""


def companions(key: str, everything: Mapping[str, Wanted]) -> tuple[str, ...]:
    """Return the objects whose turn may have come with news of this one, itself included."""
    one = everything.get(key)
    together = one.spec.together if isinstance(one, WantedReplica) else None
    return (key,) if together is None else tuple(f"replica/{s}" for s in together.snapshots)


def _legs(together: Together, everything: Mapping[str, Wanted]) -> tuple[WantedReplica, ...] | None:
    """Return all snapshots of one instant; None while, or once, not all of them are wanted."""
    legs: list[WantedReplica] = []
    for name in together.snapshots:
        one = everything.get(f"replica/{name}")
        mine = isinstance(one, WantedReplica) and one.spec.together == together
        if not isinstance(one, WantedReplica) or not mine:
            return None
        if not one.present or one.withdrawn or one.origin.seq == one.given_up_seq:
            return None
        legs.append(one)
    return tuple(legs)


def followed_by(instant: str, leader: str, everything: Mapping[str, Wanted]) -> tuple[Leg, ...]:
    """Return the snapshots that this node takes when *leader* says so; none until all are wanted.

    Nor any once it is settled in what turn they were taken.
    """
    mine = (
        one
        for one in everything.values()
        if isinstance(one, WantedReplica) and _follows(one) and one.spec.together is not None
    )
    asked = [
        one.spec.together
        for one in mine
        if one.spec.together is not None
        and (one.spec.together.instant, one.spec.together.leader) == (instant, leader)
    ]
    legs = _legs(asked[0], everything) if asked else None
    if legs is None or any(leg.spec.together != asked[0] or not leg.may_create for leg in legs):
        return ()
    return tuple(_leg(leg, everything) for leg in legs)


def _follows(replica: WantedReplica) -> bool:
    """Return whether another node says when it is taken, and has not yet."""
    together = replica.spec.together
    return together is not None and together.follows and replica.may_create


def _leg(leg: WantedReplica, everything: Mapping[str, Wanted]) -> Leg:
    return Leg(
        volume=leg.volume,
        pool_uid=pool_uid_of(leg.spec.pool, everything),
        spec=leg.spec,
        cause=leg.origin.cause,
        correlation=leg.origin.correlation,
    )


def _replica_step(replica: WantedReplica, everything: Mapping[str, Wanted]) -> Step | None:
    whole = replica.spec.disk is not None
    pool_uid = replica.uid if whole else pool_uid_of(replica.spec.pool, everything)
    keys = _keys_step(replica, pool_uid)
    if keys is not None:
        return keys
    if replica.settling is not Settling.NONE:
        return HaveSplitSettled(
            key=replica.key,
            group=replica.spec.pool,
            uid=replica.uid,
            origin=replica.origin,
            volume=replica.volume,
            pool_uid=pool_uid,
            spec=replica.spec,
            loses=replica.settling is Settling.LOSES,
        )
    mending = _mending_step(replica, pool_uid)
    if mending is not None:
        return mending
    simple = _simple_step(replica)
    if simple is not None:
        step = simple(
            key=replica.key,
            group=replica.spec.pool,
            uid=replica.uid,
            origin=replica.origin,
            volume=replica.volume,
            pool_uid=pool_uid,
            spec=replica.spec,
        )
        return _with_ties(step, replica, everything)
    return _have_replica(replica, pool_uid, everything)


def _with_ties(
    step: HaveNoReplica | HaveReplicaHeld | HaveReplicaAwake | HaveMerged,
    replica: WantedReplica,
    everything: Mapping[str, Wanted],
) -> Step:
    tied = replica.tied or replica.untie or replica.spec.replication is not None
    if isinstance(step, HaveNoReplica):
        new = replica.may_create
        return replace(step, never_ready=new, wiping=replica.wiping, tied=tied)
    if isinstance(step, HaveMerged):
        return replace(step, of_tied=_is_of_tied(replica, everything))
    return replace(step, tied=tied) if isinstance(step, HaveReplicaHeld) else step


def _is_of_tied(replica: WantedReplica, everything: Mapping[str, Wanted]) -> bool:
    """Return whether it is the snapshot of a volume that is tied to peers."""
    of = replica.spec.snapshot_of
    volume = None if of is None else everything.get(f"replica/{of.volume}")
    return isinstance(volume, WantedReplica) and volume.spec.replication is not None


def _keys_step(replica: WantedReplica, pool_uid: str) -> HaveKeys | None:
    encryption = replica.spec.encryption
    if not replica.rekeying or encryption is None:
        return None
    return HaveKeys(
        key=replica.key,
        group=replica.spec.pool,
        uid=replica.uid,
        origin=replica.origin,
        volume=replica.volume,
        pool_uid=pool_uid,
        spec=replica.spec,
        encryption=encryption,
        elsewhere=replica.elsewhere,
    )


def _mending_step(replica: WantedReplica, pool_uid: str) -> HaveMended | HaveLeft | None:
    if not replica.present or not (replica.leaving or replica.mend is not None):
        return None
    # What is made anew is empty, whatever it was made of the first time.
    size_bytes = max(replica.spec.size_bytes, replica.size_bytes)
    empty = replace(replica.spec, size_bytes=size_bytes, copy_of=None, from_backup=None)
    if replica.mend is None or replica.leaving:
        return HaveLeft(
            key=replica.key,
            group=replica.spec.pool,
            uid=replica.uid,
            origin=replica.origin,
            volume=replica.volume,
            pool_uid=pool_uid,
            spec=empty,
            mend=replica.mend,
            give_back=replica.give_back,
        )
    return HaveMended(
        key=replica.key,
        group=replica.spec.pool,
        uid=replica.uid,
        origin=replica.origin,
        volume=replica.volume,
        pool_uid=pool_uid,
        spec=empty,
        mend=replica.mend,
        seen=replica.seen,
    )


def _have_replica(
    replica: WantedReplica, pool_uid: str, everything: Mapping[str, Wanted]
) -> HaveReplica | None:
    """Return the step; None while not all are known that are to be of the same instant.

    Nor while another node has still to say when that is.
    """
    copy_of = replica.spec.copy_of
    together = replica.spec.together
    legs: tuple[WantedReplica, ...] = ()
    if together is not None and replica.may_create and not replica.withdrawn:
        if _follows(replica):
            return None
        found = (replica,) if together.turn is not None else _legs(together, everything)
        if found is None:
            return None
        legs = found
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
        tied=replica.tied,
        untie=replica.untie,
        of_tied=_is_of_tied(replica, everything),
        source_pool_uid=pool_uid_of(copy_of.pool, everything) if copy_of is not None else "",
        together=tuple(_leg(leg, everything) for leg in legs),
        may_take=all(leg.may_create for leg in legs),
    )


def _simple_step(
    replica: WantedReplica,
) -> type[HaveNoReplica | HaveReplicaHeld | HaveReplicaAwake | HaveMerged] | None:
    """Return the step that needs no more than the leg itself, if one of those is due."""
    if not replica.present:
        return HaveNoReplica
    if replica.merging:
        return HaveMerged
    if replica.held:
        return HaveReplicaHeld
    # A snapshot may be amid its merge, and a leg be tied still: their own step sees to that.
    other = replica.spoilt or replica.untie or replica.spec.snapshot_of is not None
    return HaveReplicaAwake if replica.withdrawn and not other else None
