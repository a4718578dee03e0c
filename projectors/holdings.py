"""What each volume has, and where: the part of it that counts in every account above it."""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Altered, Rows
from projectors.tables import HOLDINGS, OWNERS, ClaimRow, HoldingRow
from schemas.account_view import AccountLevel
from schemas.grammar import Event
from schemas.labels import VolumeLabelled, with_labels
from schemas.replication import ReplicaForgotten
from schemas.settling import VolumeSettled
from schemas.views import VolumeRow
from schemas.volume import (
    VOLUMES,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeGrowthFailed,
    VolumeProvisioned,
    VolumeProvisioningBegan,
)

CLUSTER = "cluster"
Account = tuple[AccountLevel, str]
Share = dict[str, int]
Shares = dict[Account, Share]
_OF_PLACES = ("requested_bytes", "snapshot_bytes", "held_bytes")


def namespace_of(consumer: str) -> str:
    """Return the namespace of a consumer: ``shop`` of ``pod/shop/pg-0``, none of ``host/nfs``."""
    _kind, *rest = consumer.split("/")
    return rest[0] if len(rest) > 1 else ""


def holdings(rows: Rows, seen: Seen, altered: Sequence[Altered]) -> dict[str, HoldingRow]:
    """Return what volumes have after a commit, of those for which it changed anything."""
    found: dict[str, HoldingRow] = {}

    def known(name: str) -> HoldingRow | None:
        return found.get(name) or rows.get(HOLDINGS, name)

    if seen.address.kind == VOLUMES:
        name, holding = seen.address.id, known(seen.address.id)
        for event in seen.events:
            holding = _asked(holding, event)
        if holding is not None:
            found[name] = holding
    settled = any(isinstance(event, VolumeSettled) for event in seen.events)
    for event in seen.events:
        name = _owner(rows, event) if isinstance(event, ReplicaForgotten) else ""
        holding = known(name) if name else None
        if holding is not None and isinstance(event, ReplicaForgotten):
            found[name] = _without(holding, event)
    for made in altered:
        name = _about(made)
        holding = known(name) if name else None
        if holding is not None:
            found[name] = _altered(holding, made, sized=not settled)
    return {name: one for name, one in found.items() if one != rows.get(HOLDINGS, name)}


def _about(made: Altered) -> str:
    """Return the volume whose holding it changes, if it does."""
    row = made.after if made.after is not None else made.before
    if isinstance(row, ClaimRow):
        return row.snapshot_of or row.volume
    return row.name if isinstance(row, VolumeRow) else ""


def _altered(holding: HoldingRow, made: Altered, *, sized: bool) -> HoldingRow:
    there = made.after is not None
    match made.after if there else made.before:
        case ClaimRow() as claim:
            return _claimed(holding, made.key, claim, there=there)
        case VolumeRow() as row if row.uid == holding.uid:
            return _seen(holding, row, there=there, sized=sized)
        case _:
            return holding


def _asked(holding: HoldingRow | None, event: Event) -> HoldingRow | None:
    if isinstance(event, VolumeProvisioningBegan):
        return HoldingRow(uid=event.uid, asked_bytes=event.size_bytes, labels=event.labels)
    if holding is None:
        return None
    match event:
        case VolumeProvisioned():
            return replace(holding, there=True, size_bytes=event.size_bytes)
        case VolumeGrowthBegan():
            return replace(holding, asking_bytes=event.size_bytes)
        case VolumeGrown():
            asked = holding.asking_bytes or event.size_bytes
            return replace(holding, asked_bytes=asked, asking_bytes=0)
        case VolumeLabelled():
            return replace(holding, labels=with_labels(holding.labels, event))
        case VolumeGrowthFailed():
            return replace(holding, asking_bytes=0)
        case VolumeSettled() if event.size_bytes != holding.size_bytes:
            # A size that somebody made by hand and somebody has accepted is what is asked for now.
            size = event.size_bytes
            return replace(holding, asked_bytes=size, size_bytes=size)
        case _:
            return holding


def _owner(rows: Rows, event: ReplicaForgotten) -> str:
    owner = rows.get(OWNERS, event.uid) if event.snapshot else None
    return event.volume if owner is None else owner.snapshot_of


def _without(holding: HoldingRow, event: ReplicaForgotten) -> HoldingRow:
    """Return the holding without a leg that is given up for lost: nobody knows of its room."""
    left = {
        key: claim
        for key, claim in holding.claims.items()
        if not (key.startswith(f"{event.node}/") and key.endswith(f"/{event.uid}"))
    }
    return replace(holding, claims=left)


def _claimed(holding: HoldingRow, key: str, claim: ClaimRow, *, there: bool) -> HoldingRow:
    snapshot = bool(claim.snapshot_of)
    if not snapshot and key.rpartition("/")[2] != holding.uid:
        return holding  # of an earlier volume of that name
    settled = 0 if claim.thin else claim.settled_bytes
    promised = claim.settled_bytes + claim.reserved_bytes if claim.thin else 0
    return _with(holding, key, (settled, promised, snapshot) if there else (0, 0, snapshot))


def _with(holding: HoldingRow, key: str, claim: tuple[int, int, bool]) -> HoldingRow:
    claims = {name: one for name, one in holding.claims.items() if name != key}
    if claim[0] or claim[1]:
        claims[key] = claim
    return replace(holding, claims=claims)


def _seen(holding: HoldingRow, row: VolumeRow, *, there: bool, sized: bool) -> HoldingRow:
    """Return the holding as the row of its volume tells; *there* is whether it still has one."""
    if row.disk:
        whole = (row.size_bytes if there else 0, 0, False)
        holding = _with(holding, f"{row.node}//{row.uid}", whole)
    if not there:
        return replace(holding, there=False, held=False, gone=True, ending=row.operation)
    if row.consumer:
        holding = replace(holding, namespace=namespace_of(row.consumer))
    if sized and row.size_bytes != holding.size_bytes:
        holding = replace(holding, size_bytes=row.size_bytes)
    return replace(holding, held=row.held_until is not None)


def shares(name: str, holding: HoldingRow | None) -> Shares:
    """Return what the volume counts in each account; allocated and promised where it is all.

    Pools, nodes and the cluster know from the ledgers themselves what is allocated there. Room
    that a volume has left behind when it was gone is only theirs.
    """
    if holding is None or holding.gone:
        return {}
    asked = holding.asked_bytes if holding.there and not holding.held else 0
    whole, places = _empty(asked), dict[Account, Share]()
    for key, (settled, promised, snapshot) in holding.claims.items():
        part = "snapshot_bytes" if snapshot else "held_bytes" if holding.held else ""
        for account in _places(key):
            # Its own leg brings what was asked for to a place; what has only a snapshot does not.
            share = places.setdefault(account, dict.fromkeys(_OF_PLACES, 0))
            share["requested_bytes"] = share["requested_bytes"] if snapshot else asked
            if part:
                share[part] += settled + promised
        whole["allocated_bytes"] += settled
        whole["promised_bytes"] += promised
        if part:
            whole[part] += settled + promised
    whole["backup_bytes"] = holding.backup_bytes
    of_cluster = {field: whole[field] for field in _OF_PLACES}
    return {
        **places,
        (AccountLevel.CLUSTER, CLUSTER): of_cluster,
        **dict.fromkeys(accounts_of(name, holding), whole),
    }


def accounts_of(name: str, holding: HoldingRow | None) -> tuple[Account, ...]:
    """Return the accounts that all of a volume counts in: its own, and those of whose it is."""
    if holding is None:
        return ()
    pairs = ((AccountLevel.LABEL, f"{key}={value}") for key, value in holding.labels.items())
    return (AccountLevel.VOLUME, name), (AccountLevel.NAMESPACE, holding.namespace), *pairs


def _empty(asked: int) -> Share:
    return {
        "requested_bytes": asked,
        "allocated_bytes": 0,
        "promised_bytes": 0,
        "snapshot_bytes": 0,
        "held_bytes": 0,
        "backup_bytes": 0,
    }


def _places(key: str) -> Iterator[Account]:
    """Give the accounts of the node and the pool that a claim is in; a whole disk is in none."""
    node, pool, _claim = key.split("/")
    yield AccountLevel.NODE, node
    if pool:
        yield AccountLevel.POOL, f"{node}/{pool}"
