"""The rows of protections and approvals, as people ask about them."""

from enum import StrEnum

from schemas.protection import Act, ProtectedKind
from schemas.units import Moment
from schemas.views import Tracked


class ApprovalState(StrEnum):
    """What became of a request."""

    WAITING = "waiting"
    APPROVED = "approved"
    USED = "used"
    REJECTED = "rejected"
    EXPIRED = "expired"


class ProtectionRow(Tracked, frozen=True, kw_only=True):
    """One protection: what it covers, and how long requests and approvals are good."""

    name: str
    uid: str
    kinds: tuple[ProtectedKind, ...] = ()
    names: tuple[str, ...] = ()
    acts: tuple[Act, ...] = ()
    hold_s: int = 0
    waits_s: int = 0
    good_for_s: int = 0


class ApprovalRow(Tracked, frozen=True, kw_only=True):
    """The newest round of one request. ``good_until`` is when it expires, while it can.

    ``by`` has approved or rejected it, ``command`` is the id of the command that used it.
    """

    id: str
    state: ApprovalState
    ended: bool
    actor: str
    word: str
    objects: tuple[str, ...]
    protections: tuple[str, ...]
    request: str
    round: int
    good_until: Moment | None = None
    by: str = ""
    because: str = ""
    command: str = ""
