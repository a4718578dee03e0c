"""How a view is asked and what it answers: a page that says how much of the past it knows.

Asked at ``hwbus.q.<view>`` with a :class:`Query` as JSON (an empty message asks for everything),
answered by a :class:`Page`, a :class:`schemas.answers.Refused` (``HW-G001``: an unknown column, a
bad cursor) or a :class:`Behind`. All three are told apart by the field ``answer``.
"""

from typing import Annotated, Generic, TypeVar

import msgspec

from schemas.account_view import AccountRow
from schemas.answers import Refused
from schemas.approval_view import ApprovalRow, ProtectionRow
from schemas.backup_view import BackupRow, TargetRow
from schemas.group_views import GroupRow, ScheduleRow
from schemas.operation_views import AuditRow, OperationRow
from schemas.policy_view import PolicyRow
from schemas.qos_view import QosRow
from schemas.snapshot_view import SnapshotRow
from schemas.units import Moment
from schemas.upkeep import ViewRow
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
    StatusRow,
    VolumeRow,
)

LIMIT_DEFAULT = 500
LIMIT_MAX = 5000
PAGE_MAX_BYTES = 900_000
STEPS_MAX = 1000
WAIT_DEFAULT_MS = 2000
WAIT_MAX_MS = 60_000
SEQ_MAX = (1 << 63) - 1

Value = str | int | bool


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wanted of a view.

    ``where`` keeps the rows whose columns equal these values; the columns of each view that may
    stand there are in ``COLUMNS``. ``min_seq`` makes the view wait, at most ``wait_ms``, until it
    has seen that sequence of the events stream: give it the ``seq`` of an ``Accepted`` to read
    one's own writes.

    ``at`` asks for the view as it was: after that sequence of the events stream, or at that moment
    (RFC 3339, by the broker's clock). A cursor is good for the same ``at`` only.
    """

    where: dict[str, Value] = {}
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    cursor: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    min_seq: Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)] = 0
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=WAIT_MAX_MS)] = WAIT_DEFAULT_MS
    at: (
        Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]
        | Annotated[str, msgspec.Meta(max_length=64)]
        | None
    ) = None


R = TypeVar("R", bound=Row | msgspec.Raw)


class Page(msgspec.Struct, Generic[R], frozen=True, kw_only=True, tag_field="answer", tag="page"):
    """Rows of one view as it stood after ``seq``; ``next`` is the cursor of what follows.

    A page may hold fewer rows than were allowed, since it must fit into one message: as long as
    ``next`` is there, more may follow. ``at`` is there when the past was asked for: the moment that
    is shown, which is that of the commit ``seq`` if a sequence was asked for.
    """

    kind: str
    api_version: str = msgspec.field(name="apiVersion", default="v1")
    seq: int
    items: tuple[R, ...]
    next: str | None = None
    at: Moment | None = None


class Behind(msgspec.Struct, frozen=True, kw_only=True, tag_field="answer", tag="behind"):
    """The view has not reached the sequence asked for in time; it stands at ``seq``."""

    seq: int
    min_seq: int
    because: str


QueryAnswer = Page[msgspec.Raw] | Refused | Behind

# View, row and what `where` may name. `since` and `until` are RFC 3339 moments (inclusive and
# exclusive); `text` is looked for anywhere in the row; `selector` is `key=value,...`, labels that a
# volume has; `ended` of an operation is true or false.
ROWS: dict[str, type[Row]] = {
    "nodes": NodeRow,
    "disks": DiskRow,
    "pools": PoolRow,
    "volumes": VolumeRow,
    "volume": VolumeRow,
    "replicas": ReplicaRow,
    "snapshots": SnapshotRow,
    "policies": PolicyRow,
    "protections": ProtectionRow,
    "approvals": ApprovalRow,
    "groups": GroupRow,
    "schedules": ScheduleRow,
    "qos": QosRow,
    "targets": TargetRow,
    "backups": BackupRow,
    "operations": OperationRow,
    "operation": OperationRow,
    "audit": AuditRow,
    "usage": UsageRow,
    "accounts": AccountRow,
    "account-days": AccountRow,
    "closed-accounts": AccountRow,
    "drift": DriftRow,
    "drift-past": PastDriftRow,
    "parked": ParkedRow,
    "status": StatusRow,
    "views": ViewRow,
}
COLUMNS: dict[str, tuple[str, ...]] = {
    "nodes": ("name", "state", "zone", "cordoned", "operation"),
    "disks": ("id", "node", "state", "health", "media", "content", "pool", "serial", "wwn", "path"),
    "pools": ("name", "node", "state", "uid", "operation"),
    "volumes": (
        *("name", "uid", "state", "layout", "filesystem", "pool", "node", "operation", "qos"),
        "selector",
    ),
    "volume": ("name",),
    "snapshots": (
        "name",
        "uid",
        "volume",
        "state",
        "pool",
        "node",
        "operation",
        "schedule",
        "group",
    ),
    "groups": ("name", "state", "operation"),
    "schedules": ("name", "uid", "state", "volume", "group", "operation"),
    "policies": ("name", "kind", "state", "node", "pool", "volume"),
    "protections": ("name",),
    "approvals": ("id", "state", "ended", "actor"),
    "qos": ("name",),
    "targets": ("name", "url", "code"),
    "backups": ("target", "name", "state", "volume", "volume_uid", "cluster", "operation"),
    "replicas": ("volume", "node", "pool", "uid", "state", "operation"),
    "operations": ("id", "kind", "object", "state", "ended", "actor"),
    "operation": ("id",),
    "audit": (
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
        "since",
        "until",
        "text",
    ),
    "usage": ("level", "name", "node", "pool"),
    "accounts": ("level", "name"),
    "account-days": ("level", "name"),
    "closed-accounts": ("name", "uid", "since", "until"),
    "drift": ("node", "drift", "object"),
    "drift-past": ("node", "drift", "object", "by"),
    "parked": ("stream", "seq"),
    "status": ("stream",),
    "views": ("name",),
}
