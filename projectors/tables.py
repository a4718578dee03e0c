"""Tables as data: which rows are kept, under which key, and by what they can be found."""

from typing import Generic, TypeVar

import msgspec

from schemas.account_view import AccountRow
from schemas.approval_view import ApprovalRow, ProtectionRow
from schemas.backup_view import BackupRow, TargetRow
from schemas.disk import Health, Sighting
from schemas.group_views import GroupRow, ScheduleRow
from schemas.operation_views import AuditRow, OperationRow
from schemas.policy_view import PolicyRow
from schemas.qos_view import QosRow
from schemas.snapshot_view import SnapshotRow
from schemas.units import Moment
from schemas.usage_view import UsageRow
from schemas.views import (
    DiskRow,
    DriftRow,
    NodeRow,
    ParkedRow,
    PastDriftRow,
    PoolRow,
    ReplicaRow,
    Row,
    VolumeRow,
)
from schemas.volume import Candidate

R_co = TypeVar("R_co", bound=Row, covariant=True)

# Part of what a database is compared with: raise it when a view computes something else from the
# same events, and every database is made anew from the log.
FOLD_VERSION = 9


class ClaimRow(Row, frozen=True, kw_only=True):
    """What one volume or snapshot has in the ledger of one pool, until its next posting."""

    pool_uid: str
    volume: str = ""
    thin: bool = False
    reserved_bytes: int = 0
    settled_bytes: int = 0
    snapshot_of: str = ""


class OwnerRow(Row, frozen=True, kw_only=True):
    """The volume or snapshot that a uid belongs to, and the volume that the snapshot is of."""

    volume: str
    snapshot_of: str = ""


class OriginRow(Row, frozen=True, kw_only=True):
    """Who wanted an operation, known before the operation itself has started."""

    actor: str
    at: Moment


class PlacementRow(Row, frozen=True, kw_only=True):
    """The pools that were looked at for a volume: too long for a list of volumes."""

    candidates: tuple[Candidate, ...]


class SightingsRow(Row, frozen=True, kw_only=True):
    """How each node that sees a disk sees it, and what the disk says of its own health.

    ``owner`` is the node of the pool or volume that it belongs to.
    """

    seen: dict[str, Sighting]
    owner: str = ""
    health: Health = Health.UNKNOWN
    reasons: tuple[str, ...] = ()


class FindingsRow(Row, frozen=True, kw_only=True):
    """The keys of the drift rows of a node: the open ones, or those of the past, oldest first."""

    keys: tuple[str, ...]


class LegsRow(Row, frozen=True, kw_only=True):
    """The volumes that have one of several replicas on a node."""

    volumes: tuple[str, ...]


class MembershipRow(Row, frozen=True, kw_only=True):
    """The group that a volume belongs to; the uid tells it from a later one of the same name."""

    group: str
    uid: str


class HoldingRow(Row, frozen=True, kw_only=True):
    """What a volume has, and where: what its account and those above it are moved by.

    ``asked_bytes`` is what was asked for, ``asking_bytes`` what it is growing to; ``there``: it may
    be used. ``claims`` are those of it and its snapshots by their keys: bytes settled, bytes that
    are promised by a thin pool, and whether a snapshot has them. ``gone``: it is no more, and its
    account is closed when ``ending``, the operation that removed it, has ended.
    """

    uid: str
    namespace: str = ""
    there: bool = False
    held: bool = False
    gone: bool = False
    ending: str = ""
    asked_bytes: int = 0
    asking_bytes: int = 0
    size_bytes: int = 0
    backup_bytes: int = 0
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    claims: dict[str, tuple[int, int, bool]] = msgspec.field(default_factory=dict)


class HourRow(Row, frozen=True, kw_only=True):
    """What time it is in the accounts: the latest moment at which the broker stored anything."""

    at: Moment


class Table(Generic[R_co]):
    """A table of one kind of row, with the columns beside the row by which it can be found.

    ``kept`` says that a row read or written stays at hand for the next event. ``newest_first``
    is the order in which pages are given out.
    """

    def __init__(
        self,
        name: str,
        row: type[R_co],
        columns: tuple[str, ...] = (),
        *,
        kept: bool = True,
        newest_first: bool = False,
    ) -> None:
        self.name = name
        self.row = row
        self.columns = columns
        self.kept = kept
        self.newest_first = newest_first
        self._decoder = msgspec.json.Decoder(row)

    def decode(self, body: bytes) -> R_co:
        """Return the row that was written as *body*."""
        return self._decoder.decode(body)

    def values(self, row: Row) -> tuple[object, ...]:
        """Return what stands in the columns for *row*."""
        return tuple([getattr(row, column) for column in self.columns])


NODES = Table("nodes", NodeRow, ("name", "state", "zone", "cordoned", "operation"))
DISKS = Table(
    "disks",
    DiskRow,
    ("id", "node", "state", "health", "media", "content", "pool", "serial", "wwn", "path"),
)
POOLS = Table("pools", PoolRow, ("name", "node", "state", "uid", "operation"))
VOLUMES = Table(
    "volumes",
    VolumeRow,
    ("name", "uid", "state", "layout", "filesystem", "pool", "node", "operation", "qos", "health"),
)
REPLICAS = Table("replicas", ReplicaRow, ("volume", "node", "pool", "uid", "state", "operation"))
SNAPSHOTS = Table(
    "snapshots",
    SnapshotRow,
    ("name", "uid", "volume", "state", "pool", "node", "operation", "schedule", "group"),
)
GROUPS = Table("groups", GroupRow, ("name", "state", "operation"))
SCHEDULES = Table(
    "schedules", ScheduleRow, ("name", "uid", "state", "volume", "group", "operation")
)
POLICIES = Table("policies", PolicyRow, ("name", "kind", "state", "node", "pool", "volume"))
QOS = Table("qos", QosRow, ("name",))
PROTECTIONS = Table("protections", ProtectionRow, ("name",))
APPROVALS = Table("approvals", ApprovalRow, ("id", "state", "ended", "actor"))
TARGETS = Table("targets", TargetRow, ("name", "url", "code"))
BACKUPS = Table(
    "backups",
    BackupRow,
    ("target", "name", "state", "volume", "volume_uid", "cluster", "operation"),
)
OPERATIONS = Table(
    "operations",
    OperationRow,
    ("id", "kind", "object", "state", "ended", "actor"),
    newest_first=True,
)
AUDIT = Table(
    "audit",
    AuditRow,
    (
        "kind",
        "actor",
        "object",
        "word",
        "code",
        "command",
        "correlation",
        "cause",
        "node",
        "seq",
    ),
    kept=False,
    newest_first=True,
)
USAGE = Table("usage", UsageRow, ("level", "name", "node", "pool"))
ACCOUNTS = Table("accounts", AccountRow, ("level", "name"))
ACCOUNT_DAYS = Table("account_days", AccountRow, ("level", "name"))
CLOSED_ACCOUNTS = Table("closed_accounts", AccountRow, ("name", "uid"))
DRIFT = Table("drift", DriftRow, ("node", "drift", "object"))
DRIFT_PAST = Table(
    "drift_past", PastDriftRow, ("node", "drift", "object", "by"), kept=False, newest_first=True
)
PARKED = Table("parked", ParkedRow, ("stream", "seq"), kept=False)

CLAIMS = Table("claims", ClaimRow)
OWNERS = Table("owners", OwnerRow)
ORIGINS = Table("origins", OriginRow)
PLACEMENTS = Table("placements", PlacementRow)
SIGHTINGS = Table("sightings", SightingsRow)
FINDINGS = Table("findings", FindingsRow)
LEGS = Table("legs", LegsRow)
MEMBERSHIPS = Table("memberships", MembershipRow)
HOLDINGS = Table("holdings", HoldingRow)
HOURS = Table("hours", HourRow)

TABLES: tuple[Table[Row], ...] = (
    NODES,
    DISKS,
    POOLS,
    VOLUMES,
    REPLICAS,
    SNAPSHOTS,
    POLICIES,
    GROUPS,
    SCHEDULES,
    QOS,
    PROTECTIONS,
    APPROVALS,
    TARGETS,
    BACKUPS,
    OPERATIONS,
    AUDIT,
    USAGE,
    ACCOUNTS,
    ACCOUNT_DAYS,
    CLOSED_ACCOUNTS,
    DRIFT,
    DRIFT_PAST,
    PARKED,
    CLAIMS,
    OWNERS,
    ORIGINS,
    PLACEMENTS,
    SIGHTINGS,
    FINDINGS,
    LEGS,
    MEMBERSHIPS,
    HOLDINGS,
    HOURS,
)
# A row of these is written once and never changed, so what they were is told by how far they went.
WRITTEN_ONCE = frozenset({AUDIT.name, PARKED.name})
# Found by a search in a large table, so worth an index; the rest is small enough to be read.
INDEXED: dict[str, tuple[str, ...]] = {
    "volumes": ("pool", "node", "state", "qos", "health"),
    "replicas": ("node",),
    "snapshots": ("volume",),
    "backups": ("target", "volume"),
    "approvals": ("ended",),
    "operations": ("object", "ended"),
    "audit": ("object", "correlation", "actor", "command", "code"),
    "usage": ("level",),
    "accounts": ("level",),
    "account_days": ("level",),
}
