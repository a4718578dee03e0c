"""Protections and approvals as people ask about them: what takes two, and what waits for one."""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import APPROVALS, PROTECTIONS
from schemas.approval import (
    ApprovalExpired,
    ApprovalGiven,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalUsed,
)
from schemas.approval_view import ApprovalRow, ApprovalState, ProtectionRow
from schemas.grammar import Event
from schemas.protection import ProtectionChanged, ProtectionRemoved


def protections(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the protection that *event* is about."""
    name = seen.address.id
    match event:
        case ProtectionChanged():
            before = rows.get(PROTECTIONS, name)
            row = ProtectionRow(
                name=name,
                uid=event.uid,
                kinds=event.spec.kinds,
                names=event.spec.names,
                acts=event.spec.acts,
                hold_s=event.spec.hold_s,
                waits_s=event.spec.waits_s,
                good_for_s=event.spec.good_for_s,
                created_at=seen.at if before is None else before.created_at,
                changed_at=seen.at,
                seq=seen.seq,
                version=seen.commit.version,
            )
            yield put(PROTECTIONS, name, row)
        case ProtectionRemoved():
            yield drop(PROTECTIONS, name)
        case _:
            return


def approvals(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the request that *event* is about."""
    id_ = seen.address.id
    row = rows.get(APPROVALS, id_)
    if isinstance(event, ApprovalRequested):
        row = _asked(seen, event, row)
    elif row is not None:
        row = _became(row, event)
    else:
        return
    version = seen.commit.version
    yield put(APPROVALS, id_, replace(row, seq=seen.seq, version=version, changed_at=seen.at))


def _asked(seen: Seen, event: ApprovalRequested, before: ApprovalRow | None) -> ApprovalRow:
    return ApprovalRow(
        id=event.approval,
        state=ApprovalState.WAITING,
        ended=False,
        actor=event.actor,
        word=event.word,
        objects=event.objects,
        protections=event.protections,
        request=event.request,
        round=event.round,
        good_until=event.until,
        created_at=seen.at if before is None else before.created_at,
        changed_at=seen.at,
        seq=seen.seq,
    )


def _became(row: ApprovalRow, event: Event) -> ApprovalRow:
    match event:
        case ApprovalGiven():
            return replace(
                row,
                state=ApprovalState.APPROVED,
                good_until=event.until,
                by=event.by,
                because=event.because,
            )
        case ApprovalRejected():
            return replace(
                row,
                state=ApprovalState.REJECTED,
                ended=True,
                good_until=None,
                by=event.by,
                because=event.because,
            )
        case ApprovalExpired():
            return replace(row, state=ApprovalState.EXPIRED, ended=True, good_until=None)
        case ApprovalUsed():
            return replace(
                row, state=ApprovalState.USED, ended=True, good_until=None, command=event.command
            )
        case _:
            return row
