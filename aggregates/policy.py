"""What is done by itself: one decision of the policy before each act, so never two at once."""

from datetime import datetime, timedelta
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from schemas.answers import Refused, refuse
from schemas.growing import GrowSnapshot, GrowThinPool
from schemas.policy import (
    THRESHOLD_MAX,
    THRESHOLD_MIN,
    PausePolicy,
    PolicyActed,
    PolicyAlarmed,
    PolicyAnswered,
    PolicyCalmed,
    PolicyChanged,
    PolicyCommand,
    PolicyEvent,
    PolicyKind,
    PolicyPaused,
    PolicyRemoved,
    PolicyResumed,
    PolicySpec,
    PolicyWish,
    RemovePolicy,
    ReportPolicyAlarm,
    ReportPolicyAnswered,
    ReportPolicyCalm,
    ReportPolicyDue,
    ResumePolicy,
    SetPolicy,
)
from schemas.pool import GrowPool
from schemas.refusals import Refusal
from schemas.shrinking import ShrinkPool
from schemas.units import readable
from schemas.verifying import VerifyVolume
from schemas.volume import GrowVolume

STEP_PERCENT_MAX = 1000
REFUSED_AGAIN_S = 30
_WISHES: dict[PolicyKind, type[PolicyWish]] = {
    PolicyKind.GROW_VOLUMES: GrowVolume,
    PolicyKind.GROW_THIN_POOLS: GrowThinPool,
    PolicyKind.GROW_SNAPSHOTS: GrowSnapshot,
    PolicyKind.ADD_DISKS: GrowPool,
    PolicyKind.DRAIN_DISKS: ShrinkPool,
    PolicyKind.VERIFY_REPLICAS: VerifyVolume,
}
_OF_DISKS = frozenset({PolicyKind.ADD_DISKS, PolicyKind.DRAIN_DISKS})
_OF_VOLUMES = frozenset({PolicyKind.GROW_VOLUMES, PolicyKind.GROW_SNAPSHOTS})


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """The last act of a policy on one object; ``answered``: it is known what came of it.

    One that was ``refused`` changed nothing, and is tried again soon.
    """

    number: int
    wish: PolicyWish
    at: datetime
    seq: int = 0
    answered: bool = False
    refused: bool = False
    operation: str = ""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One policy: its last act and its alarm, by the address of the object they were about.

    An act is forgotten when it was answered and its object has cooled down; ``acts_made`` counts.
    What the clock says is due after ``since``.
    """

    uid: str = ""
    spec: PolicySpec | None = None
    since: datetime | None = None
    paused: bool = False
    acts_made: int = 0
    acts: dict[str, Act] = {}
    alarms: dict[str, Refusal] = {}

    def cool(self, object_: str, at: datetime) -> bool:
        """Whether the policy may act on the object at that time."""
        act = self.acts.get(object_)
        if act is None or self.spec is None:
            return self.spec is not None
        cool_down_s = self.spec.cool_down_s
        wait_s = min(cool_down_s, REFUSED_AGAIN_S) if act.refused else cool_down_s
        return act.answered and at >= act.at + timedelta(seconds=wait_s)


def decide(policy: Policy, command: PolicyCommand, facts: Facts) -> Decision[PolicyEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case SetPolicy():
            return _set(policy, command, facts)
        case PausePolicy() | ResumePolicy() | RemovePolicy():
            return _mark(policy, command)
        case ReportPolicyDue() | ReportPolicyAnswered() | ReportPolicyAlarm() | ReportPolicyCalm():
            return _note(policy, command, facts) if policy.uid == command.uid else ()
        case _:
            assert_never(command)


def _set(policy: Policy, command: SetPolicy, facts: Facts) -> Decision[PolicyEvent]:
    spec, name = command.spec, command.policy
    if policy.spec == spec:
        return ()
    if policy.spec is not None and policy.spec.kind is not spec.kind:
        was = policy.spec.kind.value
        return refuse(Refusal.OTHER_KIND, f"{name} is a policy of the kind {was}")
    no = unusable(spec) or _same_selection(spec, name, facts)
    if no is not None:
        return no
    # A change to anything but the rhythm makes nothing due anew, and puts nothing off.
    rhythm = None if policy.spec is None else policy.spec.rhythm
    since = policy.since if rhythm == spec.rhythm else facts.at
    at = None if spec.rhythm is None else since
    return (PolicyChanged(policy=name, uid=policy.uid or facts.uid, spec=spec, at=at),)


def _same_selection(spec: PolicySpec, name: str, facts: Facts) -> Refused | None:
    for other, policy in facts.world.policies.items():
        there = policy.spec
        if there is None or other == name or there.kind is not spec.kind:
            continue
        if (there.selector, there.media) == (spec.selector, spec.media):
            same = f"{other} is of the kind {spec.kind.value} and looks after the same"
            return refuse(Refusal.SAME_SELECTION, same)
    return None


def unusable(spec: PolicySpec) -> Refused | None:
    """Return why nothing could be done by such a policy, or None."""
    if spec.kind is PolicyKind.VERIFY_REPLICAS:
        return _unusable_by_the_clock(spec)
    if spec.rhythm is not None or spec.at_once or spec.repair or spec.selector.group is not None:
        what = "a rhythm, a number at once, a repair or a group"
        return refuse(Refusal.UNFIT_FIELD, f"{spec.kind.value} makes no use of {what}")
    if spec.kind in _OF_DISKS:
        return _unusable_for_disks(spec)
    odd = "a class of disks" if spec.media is not None else ""
    if spec.selector.volume is not None and spec.kind not in _OF_VOLUMES:
        odd = "a volume"
    if odd:
        return refuse(Refusal.UNFIT_FIELD, f"{spec.kind.value} makes no use of {odd}")
    if not THRESHOLD_MIN <= spec.threshold_percent <= THRESHOLD_MAX:
        bounds = f"not from {THRESHOLD_MIN} to {THRESHOLD_MAX}"
        return refuse(Refusal.BAD_THRESHOLD, f"{spec.threshold_percent} per cent is {bounds}")
    if bool(spec.step_bytes) is bool(spec.step_percent):
        both = "both bytes and per cent" if spec.step_bytes else "nothing"
        return refuse(Refusal.BAD_STEP, f"the step is {both}")
    if spec.step_percent > STEP_PERCENT_MAX:
        return refuse(Refusal.BAD_STEP, f"the step is {spec.step_percent} per cent")
    if spec.ceiling_bytes and spec.ceiling_bytes < max(spec.step_bytes, 1):
        low, step = readable(spec.ceiling_bytes), readable(spec.step_bytes)
        return refuse(Refusal.BAD_CEILING, f"the ceiling is {low}, a step is {step}")
    return None


def _unusable_for_disks(spec: PolicySpec) -> Refused | None:
    adding = spec.kind is PolicyKind.ADD_DISKS
    unused = {
        "a volume": spec.selector.volume is not None,
        "a threshold": bool(spec.threshold_percent),
        "a step": bool(spec.step_bytes or spec.step_percent),
        "a ceiling": bool(spec.ceiling_bytes) and not adding,
        "a class of disks": spec.media is not None and not adding,
    }
    odd = next((what for what, given in unused.items() if given), "")
    if odd:
        return refuse(Refusal.UNFIT_FIELD, f"{spec.kind.value} makes no use of {odd}")
    if adding and (spec.media is None or spec.selector.pool is None):
        lacks = "the pool they join" if spec.media is not None else "the class of the disks"
        return refuse(Refusal.UNFIT_FIELD, f"{spec.kind.value} needs {lacks}")
    return None


def _unusable_by_the_clock(spec: PolicySpec) -> Refused | None:
    kind, rhythm = spec.kind.value, spec.rhythm
    unused = {
        "a threshold": bool(spec.threshold_percent),
        "a step": bool(spec.step_bytes or spec.step_percent),
        "a ceiling": bool(spec.ceiling_bytes),
        "a class of disks": spec.media is not None,
    }
    odd = next((what for what, given in unused.items() if given), "")
    if odd:
        return refuse(Refusal.UNFIT_FIELD, f"{kind} makes no use of {odd}")
    if rhythm is None or not spec.at_once:
        lacks = "a rhythm" if rhythm is None else "how many at once, at least one"
        return refuse(Refusal.UNFIT_FIELD, f"{kind} needs {lacks}")
    if rhythm.offset_s >= rhythm.every_s:
        late = f"an offset of {rhythm.offset_s} s in {rhythm.every_s} s"
        return refuse(Refusal.UNFIT_FIELD, f"{kind}: {late}")
    return None


def _mark(
    policy: Policy, command: PausePolicy | ResumePolicy | RemovePolicy
) -> Decision[PolicyEvent]:
    if policy.spec is None:
        return refuse(Refusal.UNKNOWN_POLICY, f"there is no policy {command.policy}")
    match command:
        case PausePolicy():
            paused = PolicyPaused(policy=command.policy, because=command.because)
            return () if policy.paused else (paused,)
        case ResumePolicy():
            return (PolicyResumed(policy=command.policy),) if policy.paused else ()
        case RemovePolicy():
            return (PolicyRemoved(policy=command.policy, uid=policy.uid),)
        case _:
            assert_never(command)


def _note(
    policy: Policy,
    report: ReportPolicyDue | ReportPolicyAnswered | ReportPolicyAlarm | ReportPolicyCalm,
    facts: Facts,
) -> Decision[PolicyEvent]:
    about = {"policy": report.policy, "uid": report.uid, "object": report.object}
    match report:
        case ReportPolicyDue():
            # Whoever says that something is due, a policy does nothing but what is its own.
            own = policy.spec is not None and _is_own(policy.spec, report)
            if policy.paused or not own or not policy.cool(report.object, facts.at):
                return ()
            number = policy.acts_made + 1
            acted = PolicyActed(
                **about, number=number, wish=report.wish, at=facts.at, seq=report.seq
            )
            return (acted,)
        case ReportPolicyAnswered():
            act = policy.acts.get(report.object)
            if act is None or act.answered or act.number != report.number:
                return ()
            answered = PolicyAnswered(
                **about,
                number=report.number,
                operation=report.operation or "",
                code=report.code,
                because=report.because,
            )
            return (answered,)
        case ReportPolicyAlarm():
            known = policy.alarms.get(report.object) is report.code
            alarmed = PolicyAlarmed(**about, code=report.code, because=report.because, at=facts.at)
            return () if known else (alarmed,)
        case ReportPolicyCalm():
            return (PolicyCalmed(**about),) if report.object in policy.alarms else ()
        case _:
            assert_never(report)


def _is_own(spec: PolicySpec, report: ReportPolicyDue) -> bool:
    """Whether such a policy may wish that, of the object which is to cool down afterwards.

    The policy may have been changed since the need was seen. What a pool comes to is not written
    in the wish: that it is below the ceiling was seen to by who looked.
    """
    wish, ceiling = report.wish, spec.ceiling_bytes
    if not isinstance(wish, _WISHES[spec.kind]) or report.object != _object(wish):
        return False
    match wish:
        case VerifyVolume():
            return spec.repair or not wish.repair
        case GrowVolume():
            return not 0 < ceiling < wish.size_bytes
        case GrowSnapshot():
            return not 0 < ceiling < wish.reserve_bytes
        case GrowThinPool() | GrowPool() | ShrinkPool():
            return True
        case _:
            assert_never(wish)


def _object(wish: PolicyWish) -> str:
    """Return the address of what a wish is for: of disks it is one at a time."""
    match wish:
        case GrowVolume() | VerifyVolume():
            return f"volume/{wish.volume}"
        case GrowSnapshot():
            return f"snapshot/{wish.snapshot}"
        case GrowThinPool():
            return f"pool/{wish.node}/{wish.pool}"
        case GrowPool() | ShrinkPool():
            return f"disk/{','.join(wish.disks)}"
        case _:
            assert_never(wish)


def evolve(policy: Policy, event: PolicyEvent) -> Policy:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case PolicyChanged():
            return replace(policy, uid=event.uid, spec=event.spec, since=event.at)
        case PolicyPaused() | PolicyResumed():
            return replace(policy, paused=isinstance(event, PolicyPaused))
        case PolicyRemoved():
            return Policy()
        case PolicyActed():
            act = Act(number=event.number, wish=event.wish, at=event.at, seq=event.seq)
            acts = {**_recent(policy, event.at), event.object: act}
            return replace(policy, acts=acts, acts_made=event.number)
        case PolicyAnswered():
            return _answered(policy, event)
        case PolicyAlarmed():
            return replace(policy, alarms={**policy.alarms, event.object: event.code})
        case PolicyCalmed():
            left = {name: code for name, code in policy.alarms.items() if name != event.object}
            return replace(policy, alarms=left)
        case _:
            assert_never(event)


def _recent(policy: Policy, at: datetime) -> dict[str, Act]:
    """Return the acts that still count: of what has cooled down there is nothing to remember."""
    kept = policy.alarms  # an alarm may be about what came of the last act
    return {
        name: act for name, act in policy.acts.items() if name in kept or not policy.cool(name, at)
    }


def _answered(policy: Policy, event: PolicyAnswered) -> Policy:
    act = policy.acts.get(event.object)
    if act is None or act.number != event.number:
        return policy
    refused = event.code is not None
    answered = replace(act, answered=True, refused=refused, operation=event.operation)
    return replace(policy, acts={**policy.acts, event.object: answered})
