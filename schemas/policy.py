"""What is said about policies: what is to be done by itself, to what, how much, and how often."""

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.disk import DiskClass
from schemas.grammar import Event, Report, Request
from schemas.growing import GrowSnapshot, GrowThinPool
from schemas.pool import GrowPool
from schemas.refusals import Refusal
from schemas.rhythm import Rhythm
from schemas.shrinking import ShrinkPool
from schemas.units import Count, Id, Moment, Name, Seconds, SomeBytes, Text
from schemas.verifying import VerifyVolume
from schemas.volume import GrowVolume

POLICIES = "policy"
THRESHOLD_MIN, THRESHOLD_MAX = 50, 99


class PolicyKind(StrEnum):
    """What a policy does.

    ``grow-volumes`` when their filesystems, ``grow-thin-pools`` when their data or metadata,
    ``grow-snapshots`` when their reserves are full to the threshold; ``add-disks``: blank disks of
    a class join a pool; ``drain-disks``: failing disks leave theirs; ``verify-replicas``: those of
    replicated volumes are compared, again and again.
    """

    GROW_VOLUMES = "grow-volumes"
    GROW_THIN_POOLS = "grow-thin-pools"
    GROW_SNAPSHOTS = "grow-snapshots"
    ADD_DISKS = "add-disks"
    DRAIN_DISKS = "drain-disks"
    VERIFY_REPLICAS = "verify-replicas"


class Selector(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a policy looks after: all that is in the node, pool and volume named; none: everything.

    ``volume`` of a policy for snapshots is the volume that they are of. ``group``: the volumes that
    are in it at the time.
    """

    node: Name | None = None
    pool: Name | None = None
    volume: Name | None = None
    group: Name | None = None


class PolicySpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a policy shall do.

    At ``threshold_percent`` the object grows by ``step_bytes``, or by ``step_percent`` of what it
    has, never above ``ceiling_bytes`` (0: no ceiling); then not again for ``cool_down_s``.
    ``media`` is the class of the disks that are added. What is done by the clock is due once in
    each round of ``rhythm``, to ``at_once`` objects at a time; ``repair``: what differs is copied.
    """

    kind: PolicyKind
    selector: Selector = Selector()
    threshold_percent: Count = 0
    step_bytes: SomeBytes = 0
    step_percent: Count = 0
    ceiling_bytes: SomeBytes = 0
    media: DiskClass | None = None
    cool_down_s: Seconds = 600
    rhythm: Rhythm | None = None
    at_once: Count = 0
    repair: bool = False


PolicyWish = GrowVolume | GrowSnapshot | GrowThinPool | GrowPool | ShrinkPool | VerifyVolume
Sequence = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class SetPolicy(Request, frozen=True, kw_only=True, tag="policy.set.v1"):
    """From now on, do this by itself; of a policy that there is, say all of it anew."""

    policy: Name
    spec: PolicySpec


class PausePolicy(Request, frozen=True, kw_only=True, tag="policy.pause.v1"):
    """Do nothing for the time being. What the policy looks after is nobody else's meanwhile."""

    policy: Name
    because: Text = ""


class ResumePolicy(Request, frozen=True, kw_only=True, tag="policy.resume.v1"):
    """Go on."""

    policy: Name


class RemovePolicy(Request, frozen=True, kw_only=True, tag="policy.remove.v1"):
    """Do this no more. What was begun is ended."""

    policy: Name


class ReportPolicyDue(Report, frozen=True, kw_only=True, tag="policy.report-due.v1"):
    """``object`` needs what ``wish`` says; the event at sequence ``seq`` showed it (0: not known).

    ``uid`` is the policy that was meant. It acts if the object has cooled down.
    """

    policy: Name
    uid: Id
    object: Text
    wish: PolicyWish
    seq: Sequence = 0


class ReportPolicyAnswered(Report, frozen=True, kw_only=True, tag="policy.report-answered.v1"):
    """The wish with that number began an operation, or was refused."""

    policy: Name
    uid: Id
    number: Count
    object: Text
    operation: Id | None = None
    code: Refusal | None = None
    because: Text = ""


class ReportPolicyAlarm(Report, frozen=True, kw_only=True, tag="policy.report-alarm.v1"):
    """The policy ought to act on the object and cannot, for that reason."""

    policy: Name
    uid: Id
    object: Text
    code: Refusal
    because: Text


class ReportPolicyCalm(Report, frozen=True, kw_only=True, tag="policy.report-calm.v1"):
    """What there was an alarm for is no longer so."""

    policy: Name
    uid: Id
    object: Text


class PolicyChanged(Event, frozen=True, kw_only=True, omit_defaults=True, tag="policy.changed.v1"):
    """This is done by itself from now on; ``at`` is told where the clock says when."""

    policy: Name
    uid: Id
    spec: PolicySpec
    at: Moment | None = None


class PolicyPaused(Event, frozen=True, kw_only=True, tag="policy.paused.v1"):
    """The policy does nothing until it is resumed."""

    policy: Name
    because: str = ""


class PolicyResumed(Event, frozen=True, kw_only=True, tag="policy.resumed.v1"):
    """The policy goes on."""

    policy: Name


class PolicyRemoved(Event, frozen=True, kw_only=True, tag="policy.removed.v1"):
    """There is no such policy any longer."""

    policy: Name
    uid: Id


class PolicyActed(Event, frozen=True, kw_only=True, tag="policy.acted.v1"):
    """The policy acts: ``wish`` is said in its name, under an id made of ``uid`` and ``number``.

    ``seq`` is the event that showed the need; the object cools down from ``at`` on.
    """

    policy: Name
    uid: Id
    number: Count
    object: Text
    wish: PolicyWish
    at: Moment
    seq: Sequence = 0


class PolicyAnswered(Event, frozen=True, kw_only=True, tag="policy.answered.v1"):
    """What the policy wished began ``operation``, or was refused."""

    policy: Name
    uid: Id
    number: Count
    object: Text
    operation: str = ""
    code: Refusal | None = None
    because: str = ""


class PolicyAlarmed(Event, frozen=True, kw_only=True, tag="policy.alarmed.v1"):
    """An alarm: the policy ought to act on the object and cannot. Told once for each reason."""

    policy: Name
    uid: Id
    object: Text
    code: Refusal
    because: str
    at: Moment


class PolicyCalmed(Event, frozen=True, kw_only=True, tag="policy.calmed.v1"):
    """The alarm for the object is over."""

    policy: Name
    uid: Id
    object: Text


PolicyCommand = (
    SetPolicy
    | PausePolicy
    | ResumePolicy
    | RemovePolicy
    | ReportPolicyDue
    | ReportPolicyAnswered
    | ReportPolicyAlarm
    | ReportPolicyCalm
)
PolicyEvent = (
    PolicyChanged
    | PolicyPaused
    | PolicyResumed
    | PolicyRemoved
    | PolicyActed
    | PolicyAnswered
    | PolicyAlarmed
    | PolicyCalmed
)
