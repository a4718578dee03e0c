"""Where the machine is not as decided: both sides and a way out, and never a repair by deleting."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

import msgspec
from msgspec.structs import replace

from node_workers.lvm_report import PARTIAL
from node_workers.observation import Observation, ObservedPool, ObservedVolume, as_seen
from node_workers.wanted import Wanted, WantedPool, WantedReplica
from schemas.mending import SeenVolume, no_volume, taken_bytes
from schemas.node import Drift, Finding
from schemas.settling import Verb, line
from schemas.units import readable

FINDINGS_MAX = 256
FINDINGS_BYTES_MAX = 48_000  # a command has at most 64 KiB
_TEXT_CHARACTERS_MAX = 1000


def drift(node: str, everything: Mapping[str, Wanted], seen: Observation) -> tuple[Finding, ...]:
    """Return all differences, in a stable order, but no more than one report holds.

    Volumes of others come last. Objects whose wish is still being worked on are left out: they
    differ by nature.
    """
    pools = {one.name: one for one in everything.values() if isinstance(one, WantedPool)}
    replicas = [one for one in everything.values() if isinstance(one, WantedReplica)]
    by_uid = {pool.uid: pool for pool in seen.pools if pool.uid}
    findings = [
        *(f for pool in pools.values() for f in _of_pool(node, pool, by_uid.get(pool.uid))),
        *(f for one in replicas for f in _of_replica(node, one, pools, by_uid, seen)),
    ]
    disks = {one.uid for one in replicas if one.spec.disk is not None}
    strangers = _strangers(node, pools, disks, {one.uid for one in replicas}, seen)
    return _bounded((*findings, *strangers))


def merge(
    before: tuple[Finding, ...], now: tuple[Finding, ...], unsure: AbstractSet[str], node: str
) -> tuple[Finding, ...]:
    """Return *now*, but for the *unsure* lanes what was known *before*.

    A scan takes a while; what was worked on meanwhile was seen half before and half after.
    """
    kept = [f for f in before if _lane(f, node) in unsure]
    fresh = [f for f in now if _lane(f, node) not in unsure]
    return _bounded((*kept, *fresh))


def _bounded(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return as many as one report holds, in their order."""
    told: list[Finding] = []
    left_bytes = FINDINGS_BYTES_MAX
    for finding in sorted(findings, key=_order)[:FINDINGS_MAX]:
        left_bytes -= len(msgspec.json.encode(finding))
        if left_bytes < 0:
            break
        told.append(finding)
    return tuple(told)


def _lane(finding: Finding, node: str) -> str:
    """Return the lane of the object: a stranger counts as the volume whose name it bears."""
    kind, _, rest = finding.object.partition(f"/{node}/")
    return f"replica/{rest.partition('/')[2]}" if kind == "lv" else f"{kind}/{rest}"


def _order(finding: Finding) -> tuple[bool, str, str]:
    """Sort what is ours before what is not: if something must be left out, let it be that."""
    return finding.object.startswith("lv/"), finding.drift.value, finding.object


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
        yield _missing(node, replica, where)
        return
    if (found.pool, found.name) != (group.name, replica.volume):
        renamed = Finding(
            drift=Drift.VOLUME_RENAMED,
            object=where,
            wanted=lv,
            observed=_cut(f"{found.pool}/{found.name}"),
            lv=as_seen(found, seen.volumes),
        )
        by_hand = f"on {node}: lvrename {found.pool} {found.name} {replica.volume}"
        ours = _settled_by_us(replica) and found.pool == group.name
        yield _settled_by(renamed, *((Verb.UNDO,) if ours else ()), else_=by_hand)
    if found.health == PARTIAL:
        yield _torn(node, replica, where)
    if replica.size_bytes and found.size_bytes != replica.size_bytes:
        yield _resized(node, replica, found, as_seen(found, seen.volumes))


def _settled_by_us(replica: WantedReplica) -> bool:
    """Whether a command of ours puts it right: snapshots and held volumes are only let go.

    A whole disk is made anew, or wiped, when its volume is.
    """
    return replica.spec.snapshot_of is None and replica.spec.disk is None and not replica.held


def _torn(node: str, replica: WantedReplica, where: str) -> Finding:
    return Finding(
        drift=Drift.VOLUME_DISK_MISSING,
        object=where,
        wanted=f"{replica.spec.pool}/{replica.volume}, whole",
        observed="a disk that it lies on is missing or cannot be read",
        settle=(f"plug the disk in at {node} again", _let_go(replica)),
    )


def _disk_missing(node: str, replica: WantedReplica) -> Finding:
    """Return what there is to say of a volume that is a disk which is not here."""
    return Finding(
        drift=Drift.VOLUME_MISSING,
        object=f"replica/{node}/{replica.volume}",
        wanted=f"disk {replica.spec.disk}, {readable(replica.size_bytes)}",
        observed="no disk with its label",
        settle=(
            f"plug the disk in at {node} again",
            f"if it is gone for good: {_let_go(replica)} --wipe lost",
        ),
    )


def _let_go(replica: WantedReplica) -> str:
    kind = "volume" if replica.spec.snapshot_of is None else "snapshot"
    return f"hwbus {kind} {'purge' if replica.held else 'delete'} {replica.volume}"


def _settled_by(finding: Finding, *verbs: Verb, else_: str = "", more: str = "") -> Finding:
    lines = [line(finding, verb, more if verb is Verb.RECREATE else "") for verb in verbs]
    return replace(finding, settle=tuple(lines) or (_cut(else_),))


def _missing(node: str, replica: WantedReplica, where: str) -> Finding:
    pool, name = replica.spec.pool, replica.volume
    finding = Finding(
        drift=Drift.VOLUME_MISSING,
        object=where,
        wanted=f"{pool}/{name}, {readable(replica.size_bytes)}",
        observed="no logical volume with its tag",
    )
    verbs = (Verb.ACCEPT, Verb.RECREATE) if _settled_by_us(replica) else ()
    settled = _settled_by(finding, *verbs, else_=_let_go(replica), more=f"--volume {name}")
    # What was removed by mistake may come back, while nothing else has been made in its place.
    return replace(settled, settle=(f"on {node}: vgcfgrestore --list {pool}", *settled.settle))


def _resized(node: str, replica: WantedReplica, found: ObservedVolume, seen: SeenVolume) -> Finding:
    lv = f"{found.pool}/{found.name}"
    larger = found.size_bytes > replica.size_bytes
    by_hand = f"on {node}: lv{'reduce' if larger else 'extend'} --size {replica.size_bytes}b {lv}"
    finding = Finding(
        drift=Drift.VOLUME_RESIZED,
        object=f"replica/{node}/{replica.volume}",
        wanted=readable(replica.size_bytes),
        observed=readable(found.size_bytes),
        lv=seen,
    )
    verb = Verb.ACCEPT if larger else Verb.UNDO
    return _settled_by(finding, *((verb,) if _settled_by_us(replica) else ()), else_=by_hand)


def _strangers(
    node: str,
    pools: Mapping[str, WantedPool],
    disks: AbstractSet[str],
    uids: AbstractSet[str],
    seen: Observation,
) -> Iterator[Finding]:
    """Yield volumes in our pools, or on our whole *disks*, that nobody asked for."""
    by_name = {pool.name: pool.uid for pool in seen.pools}
    ours = {pool.uid for pool in pools.values()}
    for volume in seen.volumes:
        uid = by_name.get(volume.pool, "")
        known = volume.is_thin_pool or (volume.uid and volume.uid in uids)
        if not known and (uid in ours or uid in disks):
            lv = as_seen(volume, seen.volumes)
            yield _stranger(node, volume, lv, in_pool=uid in ours)


def _stranger(node: str, volume: ObservedVolume, seen: SeenVolume, *, in_pool: bool) -> Finding:
    lv, aside = f"{volume.pool}/{volume.name}", bool(seen.claim)
    whose = f"tagged as volume {volume.uid}" if volume.uid else "without a tag of ours"
    finding = Finding(
        drift=Drift.VOLUME_QUARANTINED if aside else Drift.VOLUME_FOREIGN,
        object=_cut(f"lv/{node}/{lv}"),
        wanted="left alone, in quarantine" if aside else "nothing",
        observed=_cut(f"{volume.layout} volume, {readable(volume.size_bytes)}, {whose}"),
        lv=seen,
    )
    if aside:
        return _settled_by(finding, Verb.RELEASE)
    can = [
        *((Verb.ADOPT,) if in_pool and no_volume(seen) is None else ()),
        *((Verb.QUARANTINE,) if in_pool and taken_bytes(seen) is not None else ()),
    ]
    by_hand = _cut(f"on {node}, if nobody needs it: lvremove {lv}")
    settled = _settled_by(finding, *can, else_=by_hand)
    return replace(settled, settle=(*settled.settle, by_hand)) if can else settled


def _cut(text: str) -> str:
    return text[:_TEXT_CHARACTERS_MAX]
