"""How a volume with several replicas is: what its nodes said last, put together."""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import LEGS, NODES, REPLICAS, VOLUMES, LegsRow
from schemas.grammar import Event
from schemas.keys import header_bytes
from schemas.node import NodeFellSilent, NodeHeard
from schemas.replica_view import VolumeHealth, VolumeLeg
from schemas.replication import LegDisk, PeerSeen, Sync, Tie
from schemas.views import ReplicaRow, VolumeRow, VolumeState

_SEVERAL = 2
_FROM_THERE = {Sync.SOURCE: Sync.TARGET, Sync.TARGET: Sync.SOURCE}
_FILLING = frozenset({Sync.TARGET, Sync.PAUSED})
_HELPLESS = frozenset({VolumeHealth.SPLIT, VolumeHealth.FAILED, VolumeHealth.UNKNOWN})


def settled(rows: Rows, before: VolumeRow | None, after: VolumeRow) -> Changes:
    """Put the row of a volume, with what follows from its replicas, and what follows from that."""
    if not after.replicas and not (before is not None and before.replicas):
        yield put(VOLUMES, after.name, after)
        return
    after = with_health(rows, after)
    yield put(VOLUMES, after.name, after)
    for leg in after.replicas:
        key = f"{leg.node}/{after.name}"
        row = rows.get(REPLICAS, key)
        if row is not None and row.outdated is not leg.outdated:
            yield put(REPLICAS, key, replace(row, outdated=leg.outdated))
    was = frozenset(leg.node for leg in before.replicas) if before is not None else frozenset()
    yield from _listed(rows, after.name, was, frozenset(leg.node for leg in after.replicas))


def forgotten(rows: Rows, row: VolumeRow) -> Changes:
    """Forget where a volume that is no more had its replicas."""
    yield from _listed(rows, row.name, frozenset(leg.node for leg in row.replicas), frozenset())


def of_node(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the rows of volumes with a replica on a node that fell silent, or is heard again."""
    if not isinstance(event, NodeFellSilent | NodeHeard):
        return
    listed = rows.get(LEGS, seen.address.id)
    for name in listed.volumes if listed is not None else ():
        row = rows.get(VOLUMES, name)
        if row is None:
            continue
        after = with_health(rows, row)
        if after != row:
            yield put(VOLUMES, name, replace(after, seq=seen.seq, changed_at=seen.at))


def _listed(rows: Rows, name: str, was: frozenset[str], now: frozenset[str]) -> Changes:
    for node in sorted(was ^ now):
        row = rows.get(LEGS, node)
        others = set(row.volumes) - {name} if row is not None else set()
        volumes = tuple(sorted(others | {name} if node in now else others))
        yield put(LEGS, node, LegsRow(volumes=volumes)) if volumes else drop(LEGS, node)


def with_health(rows: Rows, row: VolumeRow) -> VolumeRow:
    """Return the row of a volume with what is known of its replicas now."""
    known = {leg.node: rows.get(REPLICAS, f"{leg.node}/{row.name}") for leg in row.replicas}
    home = known.get(row.node)
    heard = {leg.node: _heard(rows, leg.node) for leg in row.replicas}
    legs = tuple(_seen(leg, row.node, known[leg.node], home, heard=heard) for leg in row.replicas)
    health = _health(replace(row, replicas=legs), known)
    good = sum(1 for leg in legs if leg.good and not leg.leaving)
    filling = [leg for leg in legs if leg.sync in _FILLING]
    rates = [known[leg.node] for leg in filling]
    return replace(
        row,
        replicas=legs,
        health=health,
        survives=0 if health in _HELPLESS else max(0, good - 1),
        device=home.device if home is not None and home.device else row.device,
        sync_percent=_percent(row, filling),
        sync_bytes_per_s=next(
            (r.sync_bytes_per_s for r in rates if r is not None and r.sync_bytes_per_s), None
        ),
    )


def _heard(rows: Rows, node: str) -> bool:
    row = rows.get(NODES, node)
    return row is None or not row.silent


def _seen(
    leg: VolumeLeg,
    home: str,
    own: ReplicaRow | None,
    at_home: ReplicaRow | None,
    *,
    heard: dict[str, bool],
) -> VolumeLeg:
    """Return a replica as it is known; who is written to knows best, while it is heard."""
    disk = (own.disk_state if own is not None else None) or LegDisk.UNKNOWN
    silent = not heard[leg.node]
    if leg.node == home:
        good = disk is LegDisk.UP_TO_DATE and not leg.outdated
        return replace(leg, disk=disk, silent=silent, good=good, tie=None, sync=Sync.NONE)
    there = _peer(at_home, leg.node)
    here = _peer(own, home)
    if there is not None and (heard.get(home, True) or here is None):
        sync = _FROM_THERE.get(there.sync, there.sync)
        told, tie = there, there.tie
        disk = there.disk if tie is Tie.CONNECTED else disk
    elif here is not None:
        sync, told, tie = here.sync, here, here.tie
    else:
        return replace(leg, disk=disk, silent=silent, good=False)
    return replace(
        leg,
        disk=disk,
        silent=silent,
        tie=tie,
        sync=sync,
        out_of_sync_bytes=told.out_of_sync_bytes,
        good=disk is LegDisk.UP_TO_DATE and tie is Tie.CONNECTED and not leg.outdated,
    )


def _peer(row: ReplicaRow | None, node: str) -> PeerSeen | None:
    return next((one for one in row.peers if one.node == node), None) if row is not None else None


def _health(row: VolumeRow, known: dict[str, ReplicaRow | None]) -> VolumeHealth | None:
    """Return how the volume is; None: it is being made, or shall have one replica."""
    members = [leg for leg in row.replicas if not leg.joining]
    if row.state is VolumeState.PROVISIONING:
        return None
    if len(members) < _SEVERAL:
        return _health_of_one(row)
    staying = [leg for leg in members if not leg.leaving]
    rows = [told for leg in members if (told := known[leg.node]) is not None]
    here = known.get(row.node)
    alone = not any(leg.tie is Tie.CONNECTED for leg in members)
    gone = any(leg.node == row.node and leg.silent for leg in members)
    if any(told.split for told in rows):
        return VolumeHealth.SPLIT
    if not any(told.disk_state is not None for told in rows):
        return VolumeHealth.UNKNOWN
    if here is not None and here.frozen:
        return VolumeHealth.FROZEN
    if (alone and gone) or not any(leg.good for leg in members):
        return VolumeHealth.FAILED
    if any(leg.sync in _FILLING for leg in staying):
        return VolumeHealth.SYNCING
    good = sum(1 for leg in staying if leg.good)
    all_of_them = good == len(staying) and good >= row.replicas_wanted - len(members) + len(staying)
    if not all_of_them:
        return VolumeHealth.DEGRADED
    differs = any(leg.out_of_sync_bytes and leg.sync is Sync.NONE for leg in staying)
    return VolumeHealth.DIFFERS if differs else VolumeHealth.HEALTHY


def _health_of_one(row: VolumeRow) -> VolumeHealth | None:
    if row.replicas_wanted < _SEVERAL:
        return None
    filling = any(leg.sync in _FILLING for leg in row.replicas)
    return VolumeHealth.SYNCING if filling else VolumeHealth.DEGRADED


def _percent(row: VolumeRow, filling: list[VolumeLeg]) -> int | None:
    size_bytes = row.size_bytes + header_bytes(row.key_ref)
    if not filling or not size_bytes:
        return None
    left = min(size_bytes, max(leg.out_of_sync_bytes for leg in filling))
    return 100 * (size_bytes - left) // size_bytes
