"""The row of a policy, as people ask about it."""

from enum import StrEnum

import msgspec

from schemas.disk import DiskClass
from schemas.policy import PolicyKind
from schemas.refusals import Refusal
from schemas.units import Moment
from schemas.views import Tracked


class PolicyState(StrEnum):
    """Whether a policy acts; ``alarm``: it does, and cannot do all that it ought to."""

    ACTIVE = "active"
    PAUSED = "paused"
    ALARM = "alarm"


class PolicyAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """Why a policy cannot act on an object, and since when."""

    object: str
    code: Refusal
    because: str
    since: Moment


class PolicyRow(Tracked, frozen=True, kw_only=True):
    """One policy: what it does to what, and what it did last.

    ``last_operation`` is empty while it is not known what came of the last act, and if that was
    refused: then ``last_code`` says why.
    """

    name: str
    uid: str
    kind: PolicyKind
    state: PolicyState
    why: str = ""
    node: str = ""
    pool: str = ""
    volume: str = ""
    threshold_percent: int = 0
    step_bytes: int = 0
    step_percent: int = 0
    ceiling_bytes: int = 0
    media: DiskClass | None = None
    cool_down_s: int = 0
    group: str = ""
    every_s: int = 0
    offset_s: int = 0
    at_once: int = 0
    repair: bool = False
    alarms: tuple[PolicyAlarm, ...] = ()
    acts: int = 0
    last_object: str = ""
    last_act_at: Moment | None = None
    last_operation: str = ""
    last_code: Refusal | None = None
