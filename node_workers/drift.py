"""Where the machine is not as decided: both sides and a way out, and never a repair by deleting."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from node_workers.lvm_report import PARTIAL
from node_workers.observation import Observation, ObservedPool, ObservedVolume
from node_workers.wanted import Wanted, WantedPool, WantedReplica
from schemas.node import Drift, Finding
from schemas.units import readable

FINDINGS_MAX = 256
_TEXT_CHARACTERS_MAX = 1000


def drift(node: str, everything: Mapping[str, Wanted], seen: Observation) -> tuple[Finding, ...]:
    """Return all differences, in a stable order; at most ``FINDINGS_MAX``, volumes of others last.

    Objects whose wish is still being worked on are left out: they differ by nature.
    """
    pools = {one.name: one for one in everything.values() if isinstance(one, WantedPool)}
    replicas = [one for one in everything.values() if isinstance(one, WantedReplica)]
    by_uid = {pool.uid: pool for pool in seen.pools if pool.uid}
    findings = [
        *(f for pool in pools.values() for f in _of_pool(node, pool, by_uid.get(pool.uid))),
        *(f for one in replicas for f in _of_replica(node, one, pools, by_uid, seen)),
    ]
    own = {pool.uid for pool in pools.values()}
    own |= {one.uid for one in replicas if one.spec.disk is not None}
    strangers = _strangers(node, own, {one.uid for one in replicas}, seen)
    return tuple(sorted((*findings, *strangers), key=_order))[:FINDINGS_MAX]


def merge(
    before: tuple[Finding, ...], now: tuple[Finding, ...], unsure: AbstractSet[str], node: str
) -> tuple[Finding, ...]:
    """Return *now*, but for the *unsure* lanes what was known *before*.

    A scan takes a while; what was worked on meanwhile was seen half before and half after.
    """
    kept = [f for f in before if _lane(f, node) in unsure]
    fresh = [f for f in now if _lane(f, node) not in unsure]
    return tuple(sorted((*kept, *fresh), key=_order))[:FINDINGS_MAX]


def _lane(finding: Finding, node: str) -> str:
    """Return the lane of the object: a stranger counts as the volume whose name it bears."""
    kind, _, rest = finding.object.partition(f"/{node}/")
    return f"replica/{rest.partition('/')[2]}" if kind == "lv" else f"{kind}/{rest}"


def _order(finding: Finding) -> tuple[bool, str, str]:
    """Sort what is ours before what is not: if something must be left out, let it be that."""
    return finding.drift is Drift.VOLUME_FOREIGN, finding.drift.value, finding.object


def _of_pool(node: str, pool: WantedPool, found: ObservedPool | None) -> Iterator[Finding]:
    if pool.open or not pool.present or pool.may_create:
        return
    where = f"pool/{node}/{pool.name}"
    if found is None:
        yield Finding(
            drift=Drift.POOL_MISSING,
            object=where,
            wanted=_cut(f"volume group {pool.name} on {', '.join(pool.disks)}"),
            observed="no volume group with its tag",
            settle=(f"hwbus disk ls --node {node}", f"hwbus pool rm {pool.name} --node {node}"),
        )
        return
    if found.name != pool.name:
        yield Finding(
            drift=Drift.POOL_MISSING,
            object=where,
            wanted=f"volume group {pool.name}",
            observed=_cut(f"it is called {found.name} now"),
            settle=(_cut(f"on {node}: vgrename {found.name} {pool.name}"),),
        )
    missing = sorted(member.disk or member.pv_uuid for member in found.members if member.missing)
    if missing:
        yield Finding(
            drift=Drift.POOL_DISK_MISSING,
            object=where,
            wanted=_cut(f"disks {', '.join(sorted(pool.disks))}"),
            observed=_cut(f"missing: {', '.join(missing)}"),
            settle=(f"plug the disk in at {node} again", f"hwbus disk ls --node {node}"),
        )


def _of_replica(
    node: str,
    replica: WantedReplica,
    pools: Mapping[str, WantedPool],
    by_uid: Mapping[str, ObservedPool],
    seen: Observation,
) -> Iterator[Finding]:
    if replica.open or not replica.present or replica.may_create or replica.merging:
        return
    pool = pools.get(replica.spec.pool)
    whole = replica.spec.disk is not None
    uid = replica.uid if whole else "" if pool is None else pool.uid
    group = by_uid.get(uid)
    if whole and (group is None or group.missing_disks):
        yield _disk_missing(node, replica)
        return
    if group is None:
        return  # the finding about the pool says it for all its volumes
    found = next((v for v in seen.volumes if v.uid == replica.uid), None)
    where = f"replica/{node}/{replica.volume}"
    lv = f"{replica.spec.pool}/{replica.volume}"
    if found is None:
        yield Finding(
            drift=Drift.VOLUME_MISSING,
            object=where,
            wanted=f"{lv}, {readable(replica.size_bytes)}",
            observed="no logical volume with its tag",
            settle=(
                f"on {node}: vgcfgrestore --list {replica.spec.pool}",
                f"hwbus {_kind(replica)} {'purge' if replica.held else 'delete'} {replica.volume}",
            ),
        )
        return
    if (found.pool, found.name) != (group.name, replica.volume):
        yield Finding(
            drift=Drift.VOLUME_RENAMED,
            object=where,
            wanted=lv,
            observed=_cut(f"{found.pool}/{found.name}"),
            settle=(_cut(f"on {node}: lvrename {found.pool} {found.name} {replica.volume}"),),
        )
    if found.health == PARTIAL:
        yield _torn(node, replica, where)
    if replica.size_bytes and found.size_bytes != replica.size_bytes:
        yield _resized(node, replica, found, where)


def _torn(node: str, replica: WantedReplica, where: str) -> Finding:
    ending = "purge" if replica.held else "delete"
    return Finding(
        drift=Drift.VOLUME_DISK_MISSING,
        object=where,
        wanted=f"{replica.spec.pool}/{replica.volume}, whole",
        observed="a disk that it lies on is missing or cannot be read",
        settle=(
            f"plug the disk in at {node} again",
            f"hwbus {_kind(replica)} {ending} {replica.volume}",
        ),
    )


def _disk_missing(node: str, replica: WantedReplica) -> Finding:
    """Return what there is to say of a volume that is a disk which is not here."""
    away = "purge" if replica.held else "delete"
    return Finding(
        drift=Drift.VOLUME_MISSING,
        object=f"replica/{node}/{replica.volume}",
        wanted=f"disk {replica.spec.disk}, {readable(replica.size_bytes)}",
        observed="no disk with its label",
        settle=(
            f"plug the disk in at {node} again",
            f"if it is gone for good: hwbus volume {away} {replica.volume} --wipe lost",
        ),
    )


def _kind(replica: WantedReplica) -> str:
    return "volume" if replica.spec.snapshot_of is None else "snapshot"


def _resized(node: str, replica: WantedReplica, found: ObservedVolume, where: str) -> Finding:
    lv = f"{found.pool}/{found.name}"
    larger = found.size_bytes > replica.size_bytes
    settle = (
        f"hwbus volume grow {replica.volume} {found.size_bytes}"
        if larger and replica.spec.snapshot_of is None
        else f"on {node}: lv{'reduce' if larger else 'extend'} --size {replica.size_bytes}b {lv}"
    )
    return Finding(
        drift=Drift.VOLUME_RESIZED,
        object=where,
        wanted=readable(replica.size_bytes),
        observed=readable(found.size_bytes),
        settle=(_cut(settle),),
    )


def _strangers(
    node: str, own: AbstractSet[str], uids: AbstractSet[str], seen: Observation
) -> Iterator[Finding]:
    """Yield volumes in our pools, or on our whole disks, that nobody asked for."""
    ours = {pool.name for pool in seen.pools if pool.uid in own}
    for volume in seen.volumes:
        if volume.pool not in ours or volume.is_thin_pool or (volume.uid and volume.uid in uids):
            continue
        lv = f"{volume.pool}/{volume.name}"
        whose = f"tagged as volume {volume.uid}" if volume.uid else "without a tag of ours"
        yield Finding(
            drift=Drift.VOLUME_FOREIGN,
            object=_cut(f"lv/{node}/{lv}"),
            wanted="nothing",
            observed=_cut(f"{volume.layout} volume, {readable(volume.size_bytes)}, {whose}"),
            settle=(_cut(f"on {node}, if nobody needs it: lvremove {lv}"),),
        )


def _cut(text: str) -> str:
    return text[:_TEXT_CHARACTERS_MAX]
