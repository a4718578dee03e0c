"""What is kept beside the log: refusals, tools run, unreadable messages, signed heads."""

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


AuditRecord = RefusedRecord | DecidedRecord | ExecutedRecord | ParkedRecord | HeadRecord
