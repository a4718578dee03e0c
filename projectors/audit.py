"""Who did what, when and why: one row for each commit, refusal, tool, login and unreadable message.

The order is that of the clocks of those who did it, and of the sequence where clocks agree. Each
row comes from one message alone, so it does not matter which of the two streams was read first.
"""

import functools
import operator
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, assert_never

import msgspec

from hwbus.ports import Stored
from projectors.reading import Seen
from projectors.rows import Change, put
from projectors.tables import AUDIT
from schemas.audit import (
    AuditRecord,
    DecidedRecord,
    ExecutedRecord,
    HeadRecord,
    Hearing,
    HearingRecord,
    LoginRecord,
    ParkedRecord,
    RefusedRecord,
)
from schemas.grammar import type_name
from schemas.operation_views import AuditKind, AuditRow, FieldChange
from schemas.refusals import Refusal
from schemas.views import Row

HEARER = "hwbus"
_ENCODE = msgspec.json.Encoder().encode
_NULL = msgspec.Raw(b"null")
# These change with every commit and tell nothing that the audit row does not.
_UNTOLD = frozenset({"created_at", "changed_at", "seq", "version"})


def moment(at: datetime) -> str:
    """Return *at* as text that sorts like time."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def of_commit(seen: Seen, before: Row | None, after: Row | None) -> Change:
    """Return the row for a commit that changed its object's row from *before* to *after*."""
    commit = seen.commit
    code, because = _trouble(seen)
    words = (type_name(event) for event in seen.events)
    row = AuditRow(
        kind=AuditKind.UNKNOWN if seen.unknown else AuditKind.ACCEPTED,
        seq=seen.seq,
        at=commit.at,
        actor=commit.actor,
        command=commit.command,
        word=commit.word,
        object=str(seen.address),
        correlation=commit.correlation,
        cause=commit.cause,
        traceparent=commit.traceparent,
        events=(*words, *(unknown.word for unknown in seen.unknown)),
        changes=changes(before, after),
        code=code,
        because=because or "\n".join(unknown.text for unknown in seen.unknown),
        request=_text(commit.request),
    )
    return put(AUDIT, f"{moment(commit.at)}/e/{seen.seq:020}", row)


def _trouble(seen: Seen) -> tuple[Refusal | None, str]:
    """Return the code and reason that an event of the commit gives, if one does."""
    for event in reversed(seen.events):
        because = getattr(event, "because", "")
        if because:
            return getattr(event, "code", None), because
    return None, ""


def _text(raw: msgspec.Raw) -> str:
    text = bytes(raw).decode("utf-8", "replace")
    return "" if text == "null" else text


def changes(before: Row | None, after: Row | None) -> tuple[FieldChange, ...]:
    """Return the fields in which two rows of one kind differ, in their order.

    Where one of them is missing, only fields that say something are told.
    """
    either = after if after is not None else before
    if before is after or either is None:
        return ()
    fields, values, empty = _told(type(either))
    was = empty if before is None else values(before)
    now = empty if after is None else values(after)
    return tuple(
        FieldChange(
            field=field,
            before=_NULL if before is None else _raw(was[i]),
            after=_NULL if after is None else _raw(now[i]),
        )
        for i, field in enumerate(fields)
        if was[i] != now[i]
    )


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(_ENCODE(value))


@functools.cache
def _told(row: type[Row]) -> tuple[tuple[str, ...], Callable[[Row], Any], tuple[object, ...]]:
    """Return the fields of a kind of row that are told, how to get them, and their defaults."""
    fields = [field for field in msgspec.structs.fields(row) if field.name not in _UNTOLD]
    names = tuple(field.name for field in fields)
    return names, operator.attrgetter(*names), tuple(field.default for field in fields)


def of_record(stored: Stored, record: AuditRecord) -> Change | None:
    """Return the row for a record of the audit stream; None: it tells of nobody's deed."""
    key = f"{moment(record.at)}/a/{stored.seq:020}"
    match record:
        case RefusedRecord():
            return put(AUDIT, key, _refused(stored.seq, record))
        case DecidedRecord():
            return put(AUDIT, key, _decided(stored.seq, record))
        case ExecutedRecord():
            return put(AUDIT, key, _tool(stored.seq, record))
        case ParkedRecord():
            # Views made anew tell of it again; it is still one message that could not be read.
            which = f"{record.consumer}/{record.subject}/{record.seq}"
            key = f"{moment(record.at)}/p/{which}"
            return put(AUDIT, key, _parked(stored.seq, record))
        case LoginRecord():
            # Several control planes tell of one login; the broker keeps one, unless one is late.
            which = f"{record.server_id}/{record.number}/{record.outcome}"
            if record.times > 1:
                which += f"/{record.address}/{record.times}"
            return put(AUDIT, f"{moment(record.at)}/l/{which}", _login(stored.seq, record))
        case HearingRecord():
            return put(AUDIT, key, _hearing(stored.seq, record))
        case HeadRecord():
            return None
        case _:
            assert_never(record)


def _refused(seq: int, record: RefusedRecord) -> AuditRow:
    return AuditRow(
        kind=AuditKind.REFUSED,
        seq=seq,
        at=record.at,
        actor=record.actor,
        command=record.command,
        word=record.word,
        object=record.object,
        correlation=record.correlation,
        cause=record.cause,
        traceparent=record.traceparent,
        code=record.code,
        because=record.because,
        request=record.request,
    )


def _decided(seq: int, record: DecidedRecord) -> AuditRow:
    return AuditRow(
        kind=AuditKind.DECIDED,
        seq=seq,
        at=record.at,
        actor=record.actor,
        command=record.command,
        word=record.word,
        object=record.object,
        correlation=record.operation,
        cause=f"event:{record.seq}" if record.seq else "",
    )


def _tool(seq: int, record: ExecutedRecord) -> AuditRow:
    return AuditRow(
        kind=AuditKind.TOOL,
        seq=seq,
        at=record.at,
        actor=f"worker:{record.node}",
        word=record.argv[0] if record.argv else "",
        correlation=record.correlation,
        cause=record.cause,
        traceparent=record.traceparent,
        node=record.node,
        argv=record.argv,
        exit_status=record.exit_status,
        duration_ms=record.duration_ms,
        stderr=record.stderr,
    )


def _parked(seq: int, record: ParkedRecord) -> AuditRow:
    return AuditRow(
        kind=AuditKind.PARKED,
        seq=seq,
        at=record.at,
        actor=record.consumer,
        object=record.subject,
        cause=f"message:{record.seq}",
        because=record.because,
        request=record.data,
    )


def _login(seq: int, record: LoginRecord) -> AuditRow:
    lasted_ms = 0.0
    if record.since is not None and record.until is not None:
        lasted_ms = (record.until - record.since).total_seconds() * 1000
    return AuditRow(
        kind=AuditKind.LOGIN,
        seq=seq,
        at=record.at,
        actor=record.user,
        word=f"login.{record.outcome}",
        because=_counted(record) if record.times > 1 else record.because,
        duration_ms=lasted_ms,
        address=record.address,
        client=record.client,
        account=record.account,
        connection=record.connection,
        server=record.server,
        times=record.times,
    )


def _counted(record: LoginRecord) -> str:
    until = "" if record.until is None else f" until {moment(record.until)}"
    said = f": {record.because}" if record.because else ""
    return f"{record.times} times{until}{said}"


def _hearing(seq: int, record: HearingRecord) -> AuditRow:
    return AuditRow(
        kind=AuditKind.LOGIN,
        seq=seq,
        at=record.at,
        actor=HEARER,
        word=f"logins.{record.state}",
        because=_heard(record),
        client=record.listener,
    )


def _heard(record: HearingRecord) -> str:
    since = "" if record.since is None else f" since {moment(record.since)}"
    match record.state:
        case Hearing.BEGAN:
            return "logins are heard from here on; of what was before, only what is on record"
        case Hearing.AGAIN:
            return f"logins are heard again; they were not{since}: {record.because}"
        case Hearing.LOST:
            return f"logins are not heard{since}: {record.because}"
        case Hearing.MISSED:
            return f"{record.missed} notices of logins were lost{since}: {record.because}"
        case Hearing.OFF:
            return f"logins are not heard: {record.because}"
        case Hearing.STOPPED:
            return "logins are not heard from here on: the control plane was stopped"
        case _:
            assert_never(record.state)
