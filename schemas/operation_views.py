"""What views say of what was done: the audit, and operations with their steps."""

from enum import StrEnum

import msgspec

from schemas.operation import OperationKind
from schemas.refusals import Refusal
from schemas.units import Moment
from schemas.views import Row, Tracked


class AuditKind(StrEnum):
    """What an audit row tells of.

    ``accepted`` is a commit; ``decided`` the outcome of a submitted command (which may have
    needed no commit); ``unknown`` a commit with an event that this version has no word for.
    ``login`` is what the broker did about a connection, and whether that is heard of at all.
    """

    ACCEPTED = "accepted"
    DECIDED = "decided"
    REFUSED = "refused"
    TOOL = "tool"
    PARKED = "parked"
    UNKNOWN = "unknown"
    LOGIN = "login"


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """One field of the object's row before and after; JSON values, null where there was no row."""

    field: str
    before: msgspec.Raw
    after: msgspec.Raw


class AuditRow(Row, frozen=True, kw_only=True, omit_defaults=True):
    """Who did, asked or ran what, to which object, why, and what became of it.

    ``seq`` counts in the events stream for ``accepted`` and ``unknown``, else in the audit stream.
    ``changes`` is what the commit changed in the row of its object. ``object`` is an address such
    as ``volume/pg`` or ``pool/n1/fast``. ``argv`` to ``stderr`` are of tools,
    what follows of logins; those that took their time have a ``duration_ms``, too. ``times`` above
    1: so many were counted in one.
    """

    kind: AuditKind
    seq: int
    at: Moment
    actor: str = ""
    command: str = ""
    word: str = ""
    object: str = ""
    correlation: str = ""
    cause: str = ""
    traceparent: str = ""
    events: tuple[str, ...] = ()
    changes: tuple[FieldChange, ...] = ()
    code: Refusal | None = None
    because: str = ""
    request: str = ""
    node: str = ""
    argv: tuple[str, ...] = ()
    exit_status: int | None = None
    duration_ms: float = 0.0
    stderr: str = ""
    address: str = ""
    client: str = ""
    account: str = ""
    connection: str = ""
    server: str = ""
    times: int = 1


class OperationState(StrEnum):
    """Where an operation stands; the last three are its ends."""

    RUNNING = "running"
    CANCELLING = "cancelling"
    EXPIRED = "expired"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class OperationRow(Tracked, frozen=True, kw_only=True):
    """One operation. ``step`` is the last thing that happened in it, ``why`` the last trouble.

    ``attempts`` counts the refused steps and reported troubles so far, ``actor`` is who wanted it.
    The view ``operation`` alone fills ``tools`` (how many were run) and ``steps``: commits,
    refusals and tools in the order of their causes, at most 1000 of them.

    A copy, and a replica that is filled, has ``of_bytes``, and between its last two reports went at
    ``bytes_per_s``.
    """

    id: str
    kind: OperationKind
    object: str
    state: OperationState
    step: str = ""
    why: str = ""
    attempts: int = 0
    tools: int = 0
    deadline: Moment
    ended_at: Moment | None = None
    actor: str = ""
    code: Refusal | None = None
    because: str = ""
    leftovers: tuple[str, ...] = ()
    copied_bytes: int | None = None
    of_bytes: int | None = None
    bytes_per_s: int | None = None
    progressed_at: Moment | None = None
    steps: tuple[AuditRow, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self.ended_at is not None
