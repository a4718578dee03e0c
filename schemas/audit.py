"""What is kept beside the log: refusals, tools run, logins, unreadable messages, signed heads."""

from enum import StrEnum

import msgspec

from schemas.refusals import Refusal
from schemas.units import Moment


class RefusedRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="refused"):
    """A command that was refused. ``request`` is its text, cut after 4 KiB."""

    at: Moment
    actor: str
    command: str
    word: str
    object: str
    code: Refusal
    because: str
    correlation: str = ""
    cause: str = ""
    traceparent: str = ""
    request: str = ""


class DecidedRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="decided"):
    """The outcome of a command nobody waited for: accepted, with where it stands in the log."""

    at: Moment
    actor: str
    command: str
    word: str
    object: str
    seq: int
    operation: str = ""


class ExecutedRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="executed"):
    """One execution of a tool on a node; ``exit_status`` is negative for a signal.

    ``stderr`` is cut after 4 KiB. ``cause`` is what it was run for (``event:<seq>``,
    ``scan:<number>``, ``health:<number>``) and ``correlation`` the operation it belongs to, if any.
    """

    at: Moment
    node: str
    argv: tuple[str, ...]
    exit_status: int
    duration_ms: float
    cause: str
    correlation: str = ""
    traceparent: str = ""
    stderr: str = ""


class ParkedRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="parked"):
    """A message that a consumer could not read. It was set aside, and stopped nobody else.

    ``data`` is its beginning, at most 1 KiB, undecodable bytes replaced.
    """

    at: Moment
    consumer: str
    subject: str
    seq: int
    because: str
    data: str = ""


class HeadRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="head"):
    """A signed head of a stream: the Merkle root over its first ``seq`` messages (RFC 9162).

    ``root``, ``key`` (Ed25519, public) and ``signature`` are hex; what is signed, and how leaves
    and nodes are hashed, is written in ``hwbus/proof.py``. The rest is not signed and need not be:
    ``leaves`` are the hashes, 32 bytes each, of the leaves since the head before, the last one that
    of message ``seq``, and ``frontier`` the roots of the full subtrees, the largest first. Both
    lead to the root, or they are not genuine.
    """

    at: Moment
    stream: str
    seq: int
    root: str
    key: str
    signature: str
    leaves: bytes = b""
    frontier: tuple[bytes, ...] = ()


class LoginOutcome(StrEnum):
    """What became of a connection to the broker.

    ``let-in`` and ``turned-away`` are about its beginning, ``left`` about the end of one that was
    let in. A session that was over at once is one record, ``let-in`` with both its ends.
    """

    LET_IN = "let-in"
    LEFT = "left"
    TURNED_AWAY = "turned-away"


class LoginRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="login"):
    """Whom the broker let in, let go or turned away, as it told the system account.

    ``user`` is the broker's, or for one turned away the name that was given; ``client`` is what the
    program calls itself. ``address`` has no port, since the broker does not tell it. ``server_id``
    changes with each start of a broker, and ``number`` counts its connections. Times are of the
    broker's clock. There is no password, token or key in it.

    ``times`` above 1: so many between ``at`` and ``until`` from this address, which were too many
    to be told one by one; what differed among them is left out, and so is ``address`` if they came
    from too many.
    """

    at: Moment
    outcome: LoginOutcome
    server: str
    server_id: str
    number: int = 0
    user: str = ""
    client: str = ""
    account: str = ""
    address: str = ""
    connection: str = ""
    because: str = ""
    since: Moment | None = None
    until: Moment | None = None
    times: int = 1


class Hearing(StrEnum):
    """Whether logins are heard from then on: ``began`` and ``again`` say yes.

    ``off``: nobody said how to hear them. ``lost``: they cannot be heard at the moment.
    ``missed``: they are heard, and some were lost on the way. ``stopped``: the control plane ended.
    """

    OFF = "off"
    BEGAN = "began"
    LOST = "lost"
    AGAIN = "again"
    MISSED = "missed"
    STOPPED = "stopped"


class HearingRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="hearing"):
    """Whether a control plane hears of logins: what came while it did not is on no record.

    ``listener`` is that control plane, ``since`` when it was last known to hear, ``missed`` how
    many notices of the broker were lost.
    """

    at: Moment
    listener: str
    state: Hearing
    since: Moment | None = None
    missed: int = 0
    because: str = ""


AuditRecord = (
    RefusedRecord
    | DecidedRecord
    | ExecutedRecord
    | ParkedRecord
    | HeadRecord
    | LoginRecord
    | HearingRecord
)
