"""All views at once: one message in, all rows it changes, in an order that the views agree on."""

from collections.abc import Callable

from hwbus.ports import Stored
from hwbus.subjects import Address
from projectors import audit
from projectors.accounts import accounts
from projectors.approvals import approvals, protections
from projectors.attaching import of_attachment
from projectors.backups import backups, targets
from projectors.disks import disks
from projectors.drift import drift
from projectors.groups import groups, of_member, schedules
from projectors.health import of_node
from projectors.nodes import nodes
from projectors.operations import operations
from projectors.policies import policies
from projectors.pools import pools
from projectors.qos import qos
from projectors.reading import DATA_MAX, Seen, UnreadableError, read_commit, read_record
from projectors.replicas import replicas
from projectors.rows import Altered, Changes, Rows, put
from projectors.snapshots import of_snapshot_leg, snapshots
from projectors.tables import (
    APPROVALS,
    DISKS,
    GROUPS,
    NODES,
    OPERATIONS,
    PARKED,
    POLICIES,
    POOLS,
    PROTECTIONS,
    QOS,
    REPLICAS,
    SCHEDULES,
    SNAPSHOTS,
    TARGETS,
    VOLUMES,
    Table,
)
from projectors.usage import usage
from projectors.volumes import of_leg, volumes
from schemas.approval import APPROVALS as APPROVAL
from schemas.attachment import ATTACHMENTS as ATTACHMENT
from schemas.disk import DISKS as DISK
from schemas.errand import ERRANDS as ERRAND
from schemas.grammar import Event
from schemas.node import NODES as NODE
from schemas.operation import OPERATIONS as OPERATION
from schemas.policy import POLICIES as POLICY
from schemas.pool import POOLS as POOL
from schemas.protection import PROTECTIONS as PROTECTION
from schemas.qos import QOS as QOS_CLASS
from schemas.replica import REPLICAS as REPLICA
from schemas.schedule import SCHEDULES as SCHEDULE
from schemas.snapshot import SNAPSHOTS as SNAPSHOT
from schemas.target import TARGETS as TARGET
from schemas.views import ParkedRow, Row
from schemas.volume import VOLUMES as VOLUME
from schemas.volume_group import GROUPS as GROUP

View = Callable[[Rows, Seen, Event], Changes]

_VIEWS: dict[str, tuple[View, ...]] = {
    NODE: (nodes, of_node, drift, operations),
    DISK: (disks, operations),
    POOL: (pools, operations),
    VOLUME: (volumes, of_member, operations),
    REPLICA: (replicas, of_leg, of_snapshot_leg, operations),
    ATTACHMENT: (of_attachment, operations),
    SNAPSHOT: (snapshots, operations),
    POLICY: (policies,),
    QOS_CLASS: (qos,),
    PROTECTION: (protections,),
    APPROVAL: (approvals,),
    GROUP: (groups, operations),
    SCHEDULE: (schedules, operations),
    TARGET: (targets, backups, operations),
    ERRAND: (operations,),
    OPERATION: (operations,),
}
_OWN: dict[str, Table[Row]] = {
    NODE: NODES,
    DISK: DISKS,
    POOL: POOLS,
    VOLUME: VOLUMES,
    REPLICA: REPLICAS,
    SNAPSHOT: SNAPSHOTS,
    POLICY: POLICIES,
    QOS_CLASS: QOS,
    PROTECTION: PROTECTIONS,
    APPROVAL: APPROVALS,
    GROUP: GROUPS,
    SCHEDULE: SCHEDULES,
    TARGET: TARGETS,
    OPERATION: OPERATIONS,
}
_USED = frozenset({"nodes", "pools", "volumes", "snapshots", "claims", "backups"})


class Folded:
    """What became of messages so far: how many were parked, how many had an unknown word."""

    def __init__(self) -> None:
        self.parked = 0
        self.unknown = 0


def fold_event(rows: Rows, stored: Stored, stream: str, folded: Folded) -> None:
    """Apply one message of the events stream to *rows*. One that cannot be read is parked."""
    try:
        seen = read_commit(stored)
    except UnreadableError as error:
        _park(rows, stored, stream, str(error), folded)
        return
    folded.unknown += len(seen.unknown)
    own = _OWN.get(seen.address.kind)
    key = own_key(seen.address)
    before = rows.get(own, key) if own is not None else None
    altered: list[Altered] = []
    for event in seen.events:
        for view in _VIEWS.get(seen.address.kind, ()):
            for change in view(rows, seen, event):
                made = rows.apply(change)
                if made is not None and made.table.name in _USED:
                    altered.append(made)
    summed = [rows.apply(change) for change in usage(rows, seen, altered)]
    altered += [made for made in summed if made is not None]
    for change in accounts(rows, seen, altered):
        rows.apply(change)
    after = rows.get(own, key) if own is not None else None
    rows.apply(audit.of_commit(seen, before, after))


def own_table(kind: str) -> Table[Row] | None:
    """Return where objects of that kind have their row; None: they have none of their own."""
    return _OWN.get(kind)


def own_key(address: Address) -> str:
    """Return under which key the object at *address* has its row."""
    on_a_node = address.kind in {POOL, REPLICA}
    return f"{address.place}/{address.id}" if on_a_node else address.id


def fold_record(rows: Rows, stored: Stored, stream: str, folded: Folded) -> None:
    """Apply one message of the audit stream to *rows*. One that cannot be read is parked."""
    try:
        record = read_record(stored)
    except UnreadableError as error:
        _park(rows, stored, stream, str(error), folded)
        return
    change = audit.of_record(stored, record)
    if change is not None:
        rows.apply(change)


def _park(rows: Rows, stored: Stored, stream: str, because: str, folded: Folded) -> None:
    folded.parked += 1
    row = ParkedRow(
        stream=stream,
        seq=stored.seq,
        subject=stored.subject,
        at=stored.at,
        because=because,
        data=stored.data[:DATA_MAX].decode("utf-8", "replace"),
    )
    rows.apply(put(PARKED, f"{stream}/{stored.seq:020}", row))
