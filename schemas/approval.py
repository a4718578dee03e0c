"""What is said about approvals: one actor asks by trying, another allows it, and it is done once.

The id of an approval is made of what it is for: who asks, the exact command, and the objects that
it meets. Asked for again when it is over, it begins its next round.
"""

from typing import Annotated

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.units import Count, Id, Moment, Name, Seconds, Text

APPROVALS = "approval"
REQUEST_CHARACTERS_MAX = 1 << 16
OBJECTS_MAX = 64
PROTECTIONS_MAX = 64

ActorName = Annotated[str, msgspec.Meta(max_length=128)]
RequestText = Annotated[
    str,
    msgspec.Meta(max_length=REQUEST_CHARACTERS_MAX, description="The command, as canonical JSON."),
]
Objects = Annotated[tuple[Text, ...], msgspec.Meta(max_length=OBJECTS_MAX)]
Protections = Annotated[tuple[Name, ...], msgspec.Meta(max_length=PROTECTIONS_MAX)]


class ClaimApproval(Request, frozen=True, kw_only=True, tag="approval.claim.v1"):
    """Said by the desk only: ``command`` wants to be decided. Use the approval, or ask for one.

    ``word`` and ``request`` are the command itself, ``objects`` what it meets, each with its uid
    behind an @ where it has one, ``protections`` those that cover it; of many the first.
    """

    approval: Id
    command: Text
    word: Text
    request: RequestText
    objects: Objects
    protections: Protections
    waits_s: Seconds
    good_for_s: Seconds


class Approve(Request, frozen=True, kw_only=True, tag="approval.approve.v1"):
    """Let the one who asks do this, once. Refused to whoever asks."""

    approval: Id
    because: Text = ""


class Reject(Request, frozen=True, kw_only=True, tag="approval.reject.v1"):
    """Do not let it be done; also takes an approval back, or a wish of one's own."""

    approval: Id
    because: Text = ""


class ReportApprovalExpired(Report, frozen=True, kw_only=True, tag="approval.report-expired.v1"):
    """The time of that round is over. It is noted only if it is."""

    approval: Id
    round: Count


class ApprovalRequested(Event, frozen=True, kw_only=True, tag="approval.requested.v1"):
    """``actor`` wants to do this, and may not without somebody else; the wish waits ``until``."""

    approval: Id
    round: Count
    actor: ActorName
    word: Text
    request: RequestText
    objects: Objects
    protections: Protections
    until: Moment
    good_for_s: Seconds


class ApprovalGiven(Event, frozen=True, kw_only=True, tag="approval.given.v1"):
    """``by`` allows it: the command may be said once, ``until`` then."""

    approval: Id
    round: Count
    by: ActorName
    until: Moment
    because: str = ""


class ApprovalRejected(Event, frozen=True, kw_only=True, tag="approval.rejected.v1"):
    """``by`` does not allow it, or not any more."""

    approval: Id
    round: Count
    by: ActorName
    because: str = ""


class ApprovalExpired(Event, frozen=True, kw_only=True, tag="approval.expired.v1"):
    """Nobody allowed it in time, or nobody did in time what was allowed."""

    approval: Id
    round: Count


class ApprovalUsed(Event, frozen=True, kw_only=True, tag="approval.used.v1"):
    """The approval is spent on ``command``: only under that id may it be said, ``until`` then."""

    approval: Id
    round: Count
    command: Text
    until: Moment


ApprovalCommand = ClaimApproval | Approve | Reject | ReportApprovalExpired
ApprovalEvent = (
    ApprovalRequested | ApprovalGiven | ApprovalRejected | ApprovalExpired | ApprovalUsed
)
