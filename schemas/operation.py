"""What is said about operations: long work with a deadline, an end, and a reason for it."""

from enum import StrEnum

from schemas.grammar import Event, Report, Request
from schemas.refusals import Refusal
from schemas.units import Bytes, Count, Id, Moment, SomeBytes, Text

OPERATIONS = "operation"


class OperationKind(StrEnum):
    """What kinds of long work there are."""

    POOL_FORM = "pool-form"
    POOL_GROW = "pool-grow"
    POOL_REMOVE = "pool-remove"
    POOL_SHRINK = "pool-shrink"
    VOLUME_PROVISION = "volume-provision"
    VOLUME_GROW = "volume-grow"
    VOLUME_DELETE = "volume-delete"
    VOLUME_UNDELETE = "volume-undelete"
    NODE_REMOVE = "node-remove"
    VOLUME_ATTACH = "volume-attach"
    VOLUME_DETACH = "volume-detach"
    VOLUME_LIMIT = "volume-limit"
    VOLUME_RESTORE = "volume-restore"
    VOLUME_CLONE = "volume-clone"
    VOLUME_REKEY = "volume-rekey"
    SNAPSHOT_CREATE = "snapshot-create"
    SNAPSHOT_DELETE = "snapshot-delete"
    SNAPSHOT_ROLL_BACK = "snapshot-roll-back"
    SNAPSHOT_GROW = "snapshot-grow"
    THIN_POOL_GROW = "thin-pool-grow"
    GROUP_SNAPSHOT = "group-snapshot"
    GROUP_MIGRATE = "group-migrate"
    GROUP_HAND_OVER = "group-hand-over"
    GROUP_ADD_REPLICA = "group-add-replica"
    BACKUP_CREATE = "backup-create"
    BACKUP_LIST = "backup-list"
    BACKUP_VERIFY = "backup-verify"
    TARGET_PROBE = "target-probe"
    TARGET_SWEEP = "target-sweep"
    DRIFT_SETTLE = "drift-settle"
    NODE_DRAIN = "node-drain"
    NODE_FORGET = "node-forget"
    VOLUME_ADD_REPLICA = "volume-add-replica"
    VOLUME_REMOVE_REPLICA = "volume-remove-replica"
    VOLUME_HAND_OVER = "volume-hand-over"
    VOLUME_FAIL_OVER = "volume-fail-over"
    VOLUME_MIGRATE = "volume-migrate"
    VOLUME_SETTLE_SPLIT = "volume-settle-split"
    VOLUME_VERIFY = "volume-verify"


class Outcome(StrEnum):
    """How an operation ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CancelOperation(Request, frozen=True, kw_only=True, tag="operation.cancel.v1"):
    """Give the operation up and undo what it has done."""

    operation: Id
    because: Text = ""


class ReportStarted(Report, frozen=True, kw_only=True, tag="operation.report-started.v1"):
    """The work has begun; ``object`` is the address it is done to, such as ``volume/pg``."""

    operation: Id
    kind: OperationKind
    object: Text
    deadline: Moment


class ReportStepRefused(Report, frozen=True, kw_only=True, tag="operation.report-step-refused.v1"):
    """A command that the operation sent was refused."""

    operation: Id
    step: Text
    code: Refusal
    because: Text
    attempt: Count = 0


class ReportExpired(Report, frozen=True, kw_only=True, tag="operation.report-expired.v1"):
    """The deadline has passed."""

    operation: Id
    at: Moment


class ReportProgressed(Report, frozen=True, kw_only=True, tag="operation.report-progressed.v1"):
    """So many of so many bytes are copied, and verified."""

    operation: Id
    done_bytes: SomeBytes
    of_bytes: Bytes


class ReportConcluded(Report, frozen=True, kw_only=True, tag="operation.report-concluded.v1"):
    """The work has ended; what could not be undone yet is in ``leftovers``."""

    operation: Id
    outcome: Outcome
    code: Refusal | None = None
    because: Text = ""
    leftovers: tuple[Text, ...] = ()


class OperationStarted(Event, frozen=True, kw_only=True, tag="operation.started.v1"):
    """The work has begun and will end by its deadline, one way or another."""

    operation: Id
    kind: OperationKind
    object: str
    deadline: Moment


class StepRefused(Event, frozen=True, kw_only=True, tag="operation.step-refused.v1"):
    """One step was refused; the operation takes another way, or goes back."""

    operation: Id
    step: str
    code: Refusal
    because: str
    attempt: int = 0


class CancelWanted(Event, frozen=True, kw_only=True, tag="operation.cancel-wanted.v1"):
    """Somebody wants the work given up."""

    operation: Id
    because: str = ""


class OperationProgressed(Event, frozen=True, kw_only=True, tag="operation.progressed.v1"):
    """So many of so many bytes are copied, and verified."""

    operation: Id
    done_bytes: SomeBytes
    of_bytes: Bytes


class OperationExpired(Event, frozen=True, kw_only=True, tag="operation.expired.v1"):
    """The deadline has passed: the work is given up."""

    operation: Id
    at: Moment


class OperationEnded(Event, frozen=True, kw_only=True, tag="operation.ended.v1"):
    """The work has ended, for the reason given; nothing follows."""

    operation: Id
    kind: OperationKind
    object: str
    outcome: Outcome
    code: Refusal | None = None
    because: str = ""
    leftovers: tuple[str, ...] = ()


OperationCommand = (
    CancelOperation
    | ReportStarted
    | ReportStepRefused
    | ReportProgressed
    | ReportExpired
    | ReportConcluded
)
OperationEvent = (
    OperationStarted
    | StepRefused
    | CancelWanted
    | OperationProgressed
    | OperationExpired
    | OperationEnded
)
