"""An approval: one actor asks, another allows, and what is allowed is done once or not at all."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from schemas.answers import Refused, refuse
from schemas.approval import (
    ApprovalCommand,
    ApprovalEvent,
    ApprovalExpired,
    ApprovalGiven,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalUsed,
    Approve,
    ClaimApproval,
    Reject,
    ReportApprovalExpired,
)
from schemas.refusals import Refusal

# Those in whose name nobody in particular speaks.
_NOBODY = frozenset({"", "anonymous", "hwbus"})
_OF_ITSELF = ("policy:", "schedule:")


class ApprovalPhase(StrEnum):
    """Where a request is."""

    NONE = "none"
    WAITING = "waiting"
    APPROVED = "approved"
    USED = "used"
    REJECTED = "rejected"
    EXPIRED = "expired"


OPEN = frozenset({ApprovalPhase.WAITING, ApprovalPhase.APPROVED})


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """One request, in its newest round. ``until`` is when that expires, while it is open.

    ``used_by`` is the command that the last approval was spent on. It may be said ``used_until``
    then, so that one whose desk died in the middle of it can be repeated under the same id.
    """

    phase: ApprovalPhase = ApprovalPhase.NONE
    round: int = 0
    actor: str = ""
    until: datetime | None = None
    good_for_s: int = 0
    used_by: str = ""
    used_until: datetime | None = None

    def is_open(self, at: datetime) -> bool:
        """Whether somebody can still act on the request."""
        return self.phase in OPEN and self.until is not None and at < self.until

    def lets(self, command: str, at: datetime) -> bool:
        """Whether the command of that id may be decided."""
        in_time = self.used_until is not None and at < self.used_until
        return in_time and self.used_by == command


def decide(approval: Approval, command: ApprovalCommand, facts: Facts) -> Decision[ApprovalEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case ClaimApproval():
            return _claim(approval, command, facts)
        case Approve():
            return _approve(approval, command, facts)
        case Reject():
            no = _over(approval, command.approval, facts.at)
            rejected = ApprovalRejected(
                approval=command.approval,
                round=approval.round,
                by=facts.actor,
                because=command.because,
            )
            return no or (rejected,)
        case ReportApprovalExpired():
            late = approval.phase in OPEN and not approval.is_open(facts.at)
            expired = ApprovalExpired(approval=command.approval, round=approval.round)
            return (expired,) if late and command.round == approval.round else ()
        case _:
            assert_never(command)


def _claim(approval: Approval, command: ClaimApproval, facts: Facts) -> Decision[ApprovalEvent]:
    name, number = command.approval, approval.round
    if approval.lets(command.command, facts.at):
        return ()
    if approval.is_open(facts.at):
        if approval.phase is ApprovalPhase.WAITING or approval.until is None:
            return ()
        used = ApprovalUsed(
            approval=name, round=number, command=command.command, until=approval.until
        )
        return (used,)
    expired = (ApprovalExpired(approval=name, round=number),) if approval.phase in OPEN else ()
    return (
        *expired,
        ApprovalRequested(
            approval=name,
            round=number + 1,
            actor=facts.actor,
            word=command.word,
            request=command.request,
            objects=command.objects,
            protections=command.protections,
            until=facts.at + timedelta(seconds=command.waits_s),
            good_for_s=command.good_for_s,
        ),
    )


def _approve(approval: Approval, command: Approve, facts: Facts) -> Decision[ApprovalEvent]:
    no = _over(approval, command.approval, facts.at)
    if no is not None:
        return no
    if facts.actor in _NOBODY or facts.actor.startswith(_OF_ITSELF):
        unnamed = f"{facts.actor or 'anonymous'} is nobody who can approve"
        return refuse(Refusal.APPROVER_UNNAMED, unnamed)
    if facts.actor.casefold() == approval.actor.casefold():
        return refuse(Refusal.SAME_ACTOR, f"{facts.actor} asks for it, and cannot approve it")
    if approval.phase is ApprovalPhase.APPROVED:
        return ()
    return (
        ApprovalGiven(
            approval=command.approval,
            round=approval.round,
            by=facts.actor,
            until=facts.at + timedelta(seconds=approval.good_for_s),
            because=command.because,
        ),
    )


def _over(approval: Approval, name: str, at: datetime) -> Refused | None:
    if approval.phase is ApprovalPhase.NONE:
        return refuse(Refusal.UNKNOWN_APPROVAL, f"there is no request {name}")
    if approval.is_open(at):
        return None
    late = approval.phase in OPEN
    became = ApprovalPhase.EXPIRED.value if late else approval.phase.value
    return refuse(Refusal.APPROVAL_OVER, f"request {name} is {became}")


def evolve(approval: Approval, event: ApprovalEvent) -> Approval:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case ApprovalRequested():
            return replace(
                approval,
                phase=ApprovalPhase.WAITING,
                round=event.round,
                actor=event.actor,
                until=event.until,
                good_for_s=event.good_for_s,
            )
        case ApprovalGiven():
            return replace(approval, phase=ApprovalPhase.APPROVED, until=event.until)
        case ApprovalRejected():
            return replace(approval, phase=ApprovalPhase.REJECTED, until=None)
        case ApprovalExpired():
            return replace(approval, phase=ApprovalPhase.EXPIRED, until=None)
        case ApprovalUsed():
            return replace(
                approval,
                phase=ApprovalPhase.USED,
                until=None,
                used_by=event.command,
                used_until=event.until,
            )
        case _:
            assert_never(event)
