"""What policies would do now: from the world and the hour alone, so any control plane agrees.

Each object is looked after by one policy of a kind: the narrowest that selects it, then the first
by name, paused or not. What would be refused is not begun: the deciders themselves are asked first.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import assert_never

import msgspec

from aggregates.care_needs import Need, ReplicasNeed, needs
from aggregates.decision import Facts
from aggregates.policy import Act, Policy
from aggregates.world import World
from schemas.answers import Accepted, Refused
from schemas.growing import GrowSnapshot, GrowThinPool
from schemas.operation import Outcome
from schemas.policy import (
    PolicyKind,
    PolicySpec,
    PolicyWish,
    ReportPolicyAlarm,
    ReportPolicyAnswered,
    ReportPolicyCalm,
    ReportPolicyDue,
    Selector,
)
from schemas.pool import GrowPool
from schemas.refusals import Refusal
from schemas.shrinking import ShrinkPool
from schemas.verifying import VerifyVolume
from schemas.volume import GrowVolume

Told = ReportPolicyDue | ReportPolicyAlarm | ReportPolicyCalm

_BECAUSE_CHARACTERS_MAX = 1000
_NOBODY = "0" * 26
# It will not be so for long, and is nothing that the policy could complain of.
_WAIT = frozenset(
    {
        Refusal.VOLUME_BUSY,
        Refusal.VOLUME_NOT_READY,
        Refusal.VOLUME_HELD,
        Refusal.SNAPSHOT_BUSY,
        Refusal.POOL_BUSY,
        Refusal.POOL_NOT_READY,
        Refusal.NODE_BUSY,
        Refusal.NODE_SILENT,
        Refusal.NODE_CORDONED,
    }
)
# What is done by the clock and does not come about is told, and why: at once for what is broken,
# after a while for what is only busy.
_PATIENCE = timedelta(minutes=15)
_SKIPPED = frozenset({Refusal.NODE_SILENT, Refusal.VOLUME_BUSY})
# There is nothing to be done, ever.
_ENOUGH = frozenset({Refusal.RESERVE_ENOUGH})


class Pending(msgspec.Struct, frozen=True):
    """A wish that a policy has decided on, and of which it is not known what came of it."""

    policy: str
    uid: str
    object: str
    act: Act

    @property
    def id(self) -> str:
        """The id of the wish: the same whoever says it, and however often."""
        return f"policy.{self.uid}.{self.act.number}"

    @property
    def actor(self) -> str:
        """In whose name it is said."""
        return f"policy:{self.policy}"

    @property
    def cause(self) -> str:
        """The event that showed the need."""
        return f"event:{self.act.seq}" if self.act.seq else "policy"

    def answered(self, answer: Accepted | Refused) -> ReportPolicyAnswered:
        """Return how the policy is told what came of it."""
        refused = answer if isinstance(answer, Refused) else None
        begun = answer.operation if isinstance(answer, Accepted) else ""
        return ReportPolicyAnswered(
            policy=self.policy,
            uid=self.uid,
            number=self.act.number,
            object=self.object,
            operation=begun or None,
            code=None if refused is None else refused.code,
            because="" if refused is None else refused.because[:_BECAUSE_CHARACTERS_MAX],
        )


def pending(world: World) -> tuple[Pending, ...]:
    """Return the wishes that are to be said, now or again: nobody knows whether they were."""
    return tuple(
        Pending(name, policy.uid, object_, act)
        for name, policy in world.policies.items()
        for object_, act in policy.acts.items()
        if not act.answered
    )


def due(world: World, now: datetime, seqs: Mapping[str, int]) -> tuple[Told, ...]:
    """Return what the policies are to be told: needs, alarms, and that an alarm is over.

    *seqs* are the sequences of the events that told of each object last, by its address. What would
    only stand in the way of something that is about to be done, waits.
    """
    policies = {
        kind: [(n, p) for n, p in world.policies.items() if p.spec and p.spec.kind is kind]
        for kind in PolicyKind
    }
    taken = {_works_on(one.act.wish, world) for one in pending(world)}
    reports: list[Told] = []
    for kind, some in policies.items():
        for report in _of_kind(kind, _narrowest_first(some), world, now, seqs) if some else ():
            place = _works_on(report.wish, world) if isinstance(report, ReportPolicyDue) else ""
            if place not in taken:
                reports.append(report)
            if place:
                taken.add(place)
    return tuple(reports)


def _works_on(wish: PolicyWish, world: World) -> str:
    """Return the address of what can have one operation at a time, and has it for that wish."""
    match wish:
        case GrowPool() | ShrinkPool() | GrowThinPool():
            return f"pool/{wish.node}/{wish.pool}"
        case GrowSnapshot():
            snapshot = world.snapshots.get(wish.snapshot)
            return "volume/" if snapshot is None else f"volume/{snapshot.volume}"
        case GrowVolume() | VerifyVolume():
            return f"volume/{wish.volume}"
        case _:
            assert_never(wish)


def _narrowest_first(policies: list[tuple[str, Policy]]) -> list[tuple[str, Policy]]:
    def width(one: tuple[str, Policy]) -> tuple[bool, ...]:
        chosen = one[1].spec.selector if one[1].spec else Selector()
        wide = (chosen.volume, chosen.group, chosen.pool, chosen.node)
        return tuple(each is None for each in wide)

    return sorted(policies, key=lambda one: (width(one), one[0]))


def _of_kind(
    kind: PolicyKind,
    policies: Sequence[tuple[str, Policy]],
    world: World,
    now: datetime,
    seqs: Mapping[str, int],
) -> Iterator[Told]:
    wanting: dict[str, set[str]] = {name: set() for name, _ in policies}
    comparing = _comparing(world)
    for need in needs(kind, world):
        for name, policy in policies:
            if policy.spec is None or not need.is_for(policy.spec):
                continue
            if not policy.paused and _wants(need, policy, policy.spec, world, now):
                wanting[name].add(need.object)
                for report in _judged(name, policy, policy.spec, need, world, now, seqs):
                    if isinstance(report, ReportPolicyDue) and policy.spec.at_once:
                        if comparing >= policy.spec.at_once:
                            continue
                        comparing += 1
                    yield report
            break
    for name, policy in policies:
        for object_ in policy.alarms.keys() - wanting[name]:
            yield ReportPolicyCalm(policy=name, uid=policy.uid, object=object_)


def _comparing(world: World) -> int:
    """Return how many volumes are compared now, or are about to be, whoever asked for it."""
    asked = sum(isinstance(one.act.wish, VerifyVolume) for one in pending(world))
    return asked + sum(one.verifying is not None for one in world.volumes.values())


def _wants(need: Need, policy: Policy, spec: PolicySpec, world: World, now: datetime) -> bool:
    if isinstance(need, ReplicasNeed):
        return need.due_since(spec, policy.since, now) is not None
    if need.once and not _failed(policy.acts.get(need.object), world):
        return False
    return need.level_percent >= spec.threshold_percent


def _judged(
    name: str,
    policy: Policy,
    spec: PolicySpec,
    need: Need,
    world: World,
    now: datetime,
    seqs: Mapping[str, int],
) -> Iterator[Told]:
    about = {"policy": name, "uid": policy.uid, "object": need.object}
    wish = need.wish(spec)
    facts = Facts(at=now, operation=_NOBODY, uid=_NOBODY, world=world)
    no = wish if isinstance(wish, Refused) else world.decide(wish, facts)
    alarm = policy.alarms.get(need.object)
    if (
        isinstance(no, Refused)
        and no.code in _WAIT
        and not _is_skipped(no, policy, spec, need, now)
    ):
        return
    if isinstance(no, Refused) and no.code not in _ENOUGH:
        if alarm is not no.code:
            because = no.because[:_BECAUSE_CHARACTERS_MAX]
            yield ReportPolicyAlarm(**about, code=no.code, because=because)
        return
    act = policy.acts.get(need.object)
    failed = _failed(act, world)
    if act is not None and failed and alarm is not Refusal.ACTION_FAILED:
        because = f"operation {act.operation} has failed"
        yield ReportPolicyAlarm(**about, code=Refusal.ACTION_FAILED, because=because)
    elif alarm is not None and not failed:
        yield ReportPolicyCalm(**about)
    if isinstance(wish, Refused) or isinstance(no, Refused) or not policy.cool(need.object, now):
        return
    yield ReportPolicyDue(**about, wish=wish, seq=seqs.get(need.object, 0))


def _is_skipped(no: Refused, policy: Policy, spec: PolicySpec, need: Need, now: datetime) -> bool:
    """Whether it is told that something is only busy, since the clock said that it was its turn."""
    if not isinstance(need, ReplicasNeed) or no.code not in _SKIPPED:
        return False
    due = need.due_since(spec, policy.since, now)
    return due is not None and (no.code is not Refusal.VOLUME_BUSY or now - due >= _PATIENCE)


def _failed(act: Act | None, world: World) -> bool:
    """Whether what the act began has ended otherwise than it should."""
    if act is None:
        return False
    operation = world.operations.get(act.operation)
    return operation is not None and operation.outcome in {Outcome.FAILED, Outcome.CANCELLED}
