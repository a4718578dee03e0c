"""How the command line ends: a few codes that scripts may rely on, and why."""

from enum import IntEnum

from schemas.refusals import Refusal


class Exit(IntEnum):
    """Exit codes; they are permanent."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMED_OUT = 4
    REJECTED = 5
    FORBIDDEN = 6
    CONFLICT = 7
    UNREACHABLE = 10
    NODE_UNREACHABLE = 11
    INTERRUPTED = 130


class FailureError(Exception):
    """The command ends here: with a code, what went wrong, and what to do about it."""

    def __init__(self, code: Exit, what: str, *, fix: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.fix = fix


_NOT_FOUND = frozenset(
    {
        Refusal.UNKNOWN_NODE,
        Refusal.UNKNOWN_DISK,
        Refusal.UNKNOWN_POOL,
        Refusal.UNKNOWN_VOLUME,
        Refusal.UNKNOWN_REPLICA,
        Refusal.UNKNOWN_SNAPSHOT,
        Refusal.UNKNOWN_GROUP,
        Refusal.UNKNOWN_SCHEDULE,
        Refusal.UNKNOWN_TARGET,
        Refusal.UNKNOWN_BACKUP,
        Refusal.UNKNOWN_QOS,
        Refusal.UNKNOWN_OPERATION,
        Refusal.UNKNOWN_APPROVAL,
        Refusal.UNKNOWN_PROTECTION,
    }
)
_CONFLICT = frozenset(
    {
        Refusal.STALE_VERSION,
        Refusal.CONTENDED,
        Refusal.NODE_BUSY,
        Refusal.POOL_BUSY,
        Refusal.VOLUME_BUSY,
        Refusal.REPLICA_BUSY,
        Refusal.VOLUME_ATTACHED,
        Refusal.STILL_ATTACHED,
        Refusal.SNAPSHOT_BUSY,
        Refusal.GROUP_BUSY,
        Refusal.TARGET_BUSY,
        Refusal.VIEWS_BUSY,
    }
)
# What a rule said no to, although only after the operation had begun.
_NO_ROOM = frozenset(
    {
        Refusal.CAPACITY,
        Refusal.METADATA,
        Refusal.VOLUME_LIMIT,
        Refusal.THIN_RATIO,
        Refusal.NO_THIN_POOL,
        Refusal.TOO_FEW_DISKS,
        Refusal.NO_PLACE,
        Refusal.NO_SPACE_ON_NODE,
    }
)


def for_refusal(code: Refusal) -> Exit:
    """Return how a refused command ends."""
    if code in _NOT_FOUND:
        return Exit.NOT_FOUND
    if code in _CONFLICT:
        return Exit.CONFLICT
    if code is Refusal.NODE_SILENT:
        return Exit.NODE_UNREACHABLE
    return Exit.REJECTED


def for_failed_operation(code: Refusal | None) -> Exit:
    """Return how waiting for an operation ends that did not complete."""
    if code in _NO_ROOM:
        return Exit.REJECTED
    if code is Refusal.NODE_SILENT:
        return Exit.NODE_UNREACHABLE
    return Exit.FAILED
