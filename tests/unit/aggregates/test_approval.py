"""Four eyes: what is covered, who may say yes, for how long, and that it is good once."""

import inspect
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from aggregates.decision import Facts
from aggregates.guarding import condition, is_step, unmet
from aggregates.perils import ACTS, meets
from aggregates.world import World
from hwbus.codec import command_codec
from schemas.answers import Refused
from schemas.approval import (
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
from schemas.deleting import DeleteVolume, PurgeVolume
from schemas.disk import Wiping
from schemas.draining import ForgetNode
from schemas.grammar import Event, Message, Request, type_name
from schemas.legs import RemoveReplicaOf
from schemas.node import Drift
from schemas.policy import PolicyChanged, PolicyKind, PolicySpec, SetPolicy
from schemas.pool import RemovePool
from schemas.protection import (
    Act,
    ProtectedKind,
    ProtectionChanged,
    ProtectionRemoved,
    ProtectionSpec,
    RemoveProtection,
    SetProtection,
)
from schemas.refusals import Refusal
from schemas.settling import SettleDrift, Verb
from schemas.snapshot import DeleteSnapshot
from schemas.target import SweepTarget
from schemas.verifying import VerifyVolume
from schemas.volume import GrowVolume
from schemas.words import every_command
from tests.support.given import GIB, NOON, OPERATION, UID, When, given
from tests.support.words import pool_ready, volume_ready

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SPEC = ProtectionSpec()
GUARD = ProtectionChanged(protection="guard", uid=UID, spec=SPEC)
PAST = (*pool_ready("n1"), *volume_ready("n1"))
DELETE = DeleteVolume(volume="pg")

# What may be asked for and is undone by asking for something else: no data is lost by it.
HARMLESS = {
    "node.admit", "node.cordon", "node.uncordon", "node.remove", "node.drain", "disk.reserve",
    "pool.form", "pool.grow", "pool.shrink", "pool.grow-thin", "volume.undelete",
    "volume.provision", "volume.grow", "volume.attach", "volume.detach", "volume.limit",
    "volume.label",
    "volume.follow-qos", "volume.restore", "volume.restore-backup", "volume.clone",
    "volume.hand-over", "volume.fail-over", "volume.set-failover", "volume.fence-peer",
    "volume.add-replica", "volume.migrate", "operation.cancel", "snapshot.create",
    "snapshot.grow", "group.create", "group.add", "group.take-out", "group.remove",
    "group.snapshot", "group.migrate", "group.hand-over", "group.add-replica",
    "schedule.create", "schedule.resume", "policy.resume", "target.add",
    "target.remove", "target.probe", "target.list", "target.back-up", "target.verify",
    "qos.create", "qos.change", "qos.delete", "approval.approve", "approval.reject",
    "protection.set", "protection.remove",
}  # fmt: skip


def name_of(word: type[Message]) -> str:
    return type_name(word).rpartition(".v")[0]


def asked(
    command: Message, *past: Event, actor: str = "alice", id_: str = "c1", at: datetime = NOON
) -> ClaimApproval | None:
    """Return what has to be decided first when *actor* says *command*."""
    world = given(*past).world
    facts = Facts(at=at, operation="", uid="", world=world, actor=actor)
    return condition(command, command_codec(type(command)).encode(command), id_, facts)


def claim(command: Message, *past: Event, actor: str = "alice", id_: str = "c1") -> ClaimApproval:
    found = asked(command, *past, actor=actor, id_=id_)
    assert found is not None
    return found


CLAIM = claim(DELETE, *PAST, GUARD)
R = CLAIM.approval
REQUESTED = ApprovalRequested(
    approval=R,
    round=1,
    actor="alice",
    word="volume.delete.v1",
    request='{"type":"volume.delete.v1","volume":"pg"}',
    objects=(f"volume/pg@{UID}",),
    protections=("guard",),
    until=NOON + DAY,
    good_for_s=3600,
)
GIVEN = ApprovalGiven(approval=R, round=1, by="bob", until=NOON + HOUR)
USED = ApprovalUsed(approval=R, round=1, command="c1", until=NOON + HOUR)
EXPIRED = ApprovalExpired(approval=R, round=1)


def says(actor: str, command: Message, *past: Event, at: datetime = NOON) -> When:
    """Return what is decided when *actor* says *command* after *past*."""
    world = given(*past).world
    facts = Facts(at=at, operation=OPERATION, uid=UID, world=world, actor=actor)
    return When(world.decide(command, facts))


@pytest.mark.parametrize("word", every_command(), ids=type_name)
def test_every_command_destroys_is_harmless_or_is_a_step_and_somebody_has_said_which(
    word: type[Message],
) -> None:
    if not issubclass(word, Request):
        return
    which = [word in ACTS, name_of(word) in HARMLESS, is_step(word)]
    assert sum(which) == 1, "aggregates/perils.py if it destroys, HARMLESS here if it cannot"


def test_an_act_is_called_as_its_command_and_meets_a_kind_that_can_be_protected() -> None:
    assert {name_of(word): act for word, act in ACTS.items()} == {act.value: act for act in Act}
    assert all(meets(act) for act in Act)


def test_what_is_called_a_step_is_one() -> None:
    told = {w for w in every_command() if issubclass(w, Request) and _step(w)}
    assert {w for w in every_command() if is_step(w)} - told <= {ClaimApproval, _pool_reserve()}
    assert told <= {w for w in every_command() if is_step(w)}


def _step(word: type[Message]) -> bool:
    return (inspect.getdoc(word) or "").startswith("Step of")


def _pool_reserve() -> type[Message]:
    return next(word for word in every_command() if name_of(word) == "pool.reserve")


def test_without_a_protection_nothing_takes_two() -> None:
    assert asked(DELETE, *PAST) is None


def test_a_covered_command_asks_with_all_that_the_other_has_to_know() -> None:
    says("alice", CLAIM, *PAST, GUARD).then(REQUESTED)
    no = unmet(CLAIM)
    assert no.code is Refusal.NEEDS_APPROVAL
    assert no.because == f"volume.delete of volume/pg needs approval, says guard: request {R}"
    assert R in no.fix


def test_of_many_objects_and_protections_the_first_are_named_and_all_of_them_count() -> None:
    pools = [event for n in range(80) for event in pool_ready("n1", f"p{n}")]
    guards = [replace(GUARD, protection=f"g{n:02}") for n in range(80)]
    found = claim(ForgetNode(node="n1"), *pools, *guards)
    assert (len(found.objects), len(found.protections)) == (64, 64)
    codec = command_codec(ClaimApproval)
    assert codec.decode(codec.encode(found)) == found
    assert unmet(found).because == (
        "node.forget of node/n1, pool/n1/p0, pool/n1/p1, and others needs approval, "
        f"says g00, g01, g02, and others: request {found.approval}"
    )
    assert claim(ForgetNode(node="n1"), *pools[:-8], *guards).approval != found.approval


def test_asked_again_while_it_waits_nothing_new_is_recorded() -> None:
    says("alice", CLAIM, *PAST, GUARD, REQUESTED).nothing()


@pytest.mark.parametrize(
    ("spec", "command", "covered"),
    [
        (SPEC, DELETE, True),
        (SPEC, GrowVolume(volume="pg", size_bytes=2 * GIB), False),
        (SPEC, RemoveReplicaOf(volume="pg", node="n1"), True),
        (SPEC, PurgeVolume(volume="pg"), True),
        (SPEC, VerifyVolume(volume="pg", repair=True), True),
        (SPEC, VerifyVolume(volume="pg"), False),
        (SPEC, RemovePool(pool="fast", node="n1"), True),
        (SPEC, ForgetNode(node="n1"), True),
        (SPEC, DeleteVolume(volume="pg", hold_s=86_400), False),
        (SPEC, DeleteVolume(volume="pg", hold_s=86_399), True),
        (SPEC, DeleteVolume(volume="pg", hold_s=86_400, wiping=Wiping.LOST), True),
        (replace(SPEC, hold_s=0), DeleteVolume(volume="pg", hold_s=8_640_000), True),
        (replace(SPEC, hold_s=60), DeleteVolume(volume="pg", hold_s=60), False),
        (replace(SPEC, names=("p?",)), DELETE, True),
        (replace(SPEC, names=("x*", "pg")), DELETE, True),
        (replace(SPEC, names=("pg-*",)), DELETE, False),
        (replace(SPEC, kinds=(ProtectedKind.NODE,)), DELETE, False),
        (replace(SPEC, kinds=(ProtectedKind.POOL,)), ForgetNode(node="n1"), True),
        (replace(SPEC, names=("n1/fast",)), RemovePool(pool="fast", node="n1"), True),
        (replace(SPEC, names=("n2/*",)), RemovePool(pool="fast", node="n1"), False),
        (replace(SPEC, acts=(Act.PURGE_VOLUME,)), DELETE, False),
        (replace(SPEC, acts=(Act.PURGE_VOLUME,)), PurgeVolume(volume="pg"), True),
        (SPEC, SweepTarget(target="s3", backup="monday"), True),
        (SPEC, SweepTarget(target="s3"), False),
        (replace(SPEC, kinds=(ProtectedKind.SNAPSHOT,)), DeleteSnapshot(snapshot="m"), True),
    ],
)
def test_a_protection_covers_what_its_kinds_names_and_acts_say(
    spec: ProtectionSpec, command: Message, covered: bool
) -> None:
    guard = replace(GUARD, spec=spec)
    assert (asked(command, *PAST, guard) is not None) is covered


@pytest.mark.parametrize("verb", Verb)
def test_a_finding_takes_two_if_what_was_there_is_given_up(verb: Verb) -> None:
    settle = SettleDrift(
        node="n1",
        drift=Drift.VOLUME_MISSING,
        object="replica/n1/pg",
        verb=verb,
        seen="0" * 64,
        volume="pg",
    )
    guard = replace(GUARD, spec=replace(SPEC, kinds=(ProtectedKind.VOLUME,), names=("pg",)))
    loses = verb in {Verb.ACCEPT, Verb.RECREATE}
    assert (asked(settle, *PAST, guard) is not None) is loses


def test_a_new_policy_takes_one_and_a_changed_one_two() -> None:
    spec = PolicySpec(kind=PolicyKind.DRAIN_DISKS)
    word = SetPolicy(policy="out", spec=spec)
    assert asked(word, GUARD) is None
    assert asked(word, GUARD, PolicyChanged(policy="out", uid=UID, spec=spec)) is not None


def test_the_shortest_of_several_protections_counts_and_all_are_named() -> None:
    other = ProtectionChanged(
        protection="also", uid=UID, spec=ProtectionSpec(waits_s=60, good_for_s=7200)
    )
    found = claim(DELETE, *PAST, GUARD, other)
    assert (found.protections, found.waits_s, found.good_for_s) == (("also", "guard"), 60, 3600)


def test_another_actor_another_text_and_another_volume_of_that_name_are_other_requests() -> None:
    again = volume_ready("n1")
    made_anew = [
        replace(e, uid="0" * 25 + "7") if getattr(e, "uid", "") == UID else e for e in again
    ]
    ids = {
        R,
        claim(DELETE, *PAST, GUARD, actor="bob").approval,
        claim(replace(DELETE, deadline_s=601), *PAST, GUARD).approval,
        claim(DELETE, *pool_ready("n1"), *made_anew, GUARD).approval,
    }
    assert len(ids) == 4
    assert claim(DELETE, *PAST, GUARD, id_="c2").approval == R


def test_another_approves_for_as_long_as_the_protection_says() -> None:
    says("bob", Approve(approval=R), REQUESTED).then(GIVEN)
    says("bob", Approve(approval=R), REQUESTED, GIVEN).nothing()


@pytest.mark.parametrize("actor", ["alice", "Alice", "ALICE"])
def test_whoever_asks_cannot_approve(actor: str) -> None:
    says(actor, Approve(approval=R), REQUESTED).refused(Refusal.SAME_ACTOR, actor)


@pytest.mark.parametrize("actor", ["", "anonymous", "hwbus", "policy:roomy", "schedule:nightly"])
def test_nobody_in_particular_cannot_approve(actor: str) -> None:
    says(actor, Approve(approval=R), REQUESTED).refused(Refusal.APPROVER_UNNAMED)


def test_what_nobody_asked_for_cannot_be_approved_or_rejected() -> None:
    for word in (Approve(approval=R), Reject(approval=R)):
        says("bob", word).refused(Refusal.UNKNOWN_APPROVAL)


@pytest.mark.parametrize("actor", ["bob", "alice", "anonymous"])
def test_anybody_rejects_before_and_after_the_approval(actor: str) -> None:
    word, rejected = Reject(approval=R), ApprovalRejected(approval=R, round=1, by=actor)
    says(actor, word, REQUESTED).then(rejected)
    says(actor, word, REQUESTED, GIVEN).then(rejected)
    says(actor, word, REQUESTED, GIVEN, rejected).refused(Refusal.APPROVAL_OVER, "rejected")
    asks_anew = replace(REQUESTED, round=2)
    says("alice", CLAIM, REQUESTED, GIVEN, rejected).then(asks_anew)


def test_an_approval_is_used_by_one_command_and_lets_only_that_through() -> None:
    says("alice", CLAIM, *PAST, GUARD, REQUESTED, GIVEN).then(USED)
    past = (*PAST, GUARD, REQUESTED, GIVEN, USED)
    assert asked(DELETE, *past) is None
    assert asked(DELETE, *past, id_="c2") is not None
    says("alice", replace(CLAIM, command="c2"), *past).then(replace(REQUESTED, round=2))


def test_a_later_request_does_not_take_the_approval_from_the_command_that_has_it() -> None:
    later = replace(REQUESTED, round=2)
    assert asked(DELETE, *PAST, GUARD, REQUESTED, GIVEN, USED, later) is None


def test_even_the_command_that_used_it_comes_through_in_time_only() -> None:
    past = (*PAST, GUARD, REQUESTED, GIVEN, USED)
    assert asked(DELETE, *past, at=NOON + HOUR - timedelta(seconds=1)) is None
    assert asked(DELETE, *past, at=NOON + HOUR) is not None


def test_a_request_waits_until_its_hour_noted_or_not() -> None:
    late = NOON + DAY
    says("bob", Approve(approval=R), REQUESTED, at=late).refused(Refusal.APPROVAL_OVER, "expired")
    asks_anew = replace(REQUESTED, round=2, until=late + DAY)
    says("alice", CLAIM, REQUESTED, at=late).then(EXPIRED, asks_anew)
    says("alice", CLAIM, REQUESTED, EXPIRED, at=late).then(asks_anew)


def test_an_approval_that_nobody_used_in_time_is_no_good() -> None:
    late = NOON + HOUR
    says("alice", CLAIM, REQUESTED, GIVEN, at=late).then(
        EXPIRED, replace(REQUESTED, round=2, until=late + DAY)
    )


@pytest.mark.parametrize(
    ("past", "at", "round_", "noted"),
    [
        ((REQUESTED,), NOON, 1, False),
        ((REQUESTED,), NOON + DAY, 1, True),
        ((REQUESTED,), NOON + DAY, 2, False),
        ((REQUESTED, GIVEN), NOON + HOUR, 1, True),
        ((REQUESTED, GIVEN, USED), NOON + DAY, 1, False),
        ((), NOON, 1, False),
    ],
)
def test_whoever_says_that_it_is_over_it_is_only_if_it_is(
    past: tuple[Event, ...], at: datetime, round_: int, noted: bool
) -> None:
    said = says("mallory", ReportApprovalExpired(approval=R, round=round_), *past, at=at)
    assert said.decision == ((EXPIRED,) if noted else ())


def test_a_protection_is_made_by_one_and_weakened_or_removed_by_two() -> None:
    changed = SetProtection(protection="guard", spec=replace(SPEC, names=("x",)))
    assert asked(SetProtection(protection="guard", spec=SPEC), *PAST) is None
    for word in (changed, RemoveProtection(protection="guard")):
        found = claim(word, GUARD)
        assert found.objects == (f"protection/guard@{UID}",)
        assert found.protections == ("guard",)
    given().when(SetProtection(protection="guard", spec=SPEC)).then(GUARD)
    given(GUARD).when(SetProtection(protection="guard", spec=SPEC)).nothing()
    given(GUARD).when(RemoveProtection(protection="guard")).then(
        ProtectionRemoved(protection="guard", uid=UID)
    )
    given().when(RemoveProtection(protection="guard")).refused(Refusal.UNKNOWN_PROTECTION)


def test_a_protection_that_could_protect_nothing_is_refused() -> None:
    spec = ProtectionSpec(kinds=(ProtectedKind.NODE,), acts=(Act.DELETE_VOLUME,))
    word = SetProtection(protection="guard", spec=spec)
    given().when(word).refused(Refusal.PROTECTS_NOTHING, "volume.delete", "node")


def test_what_is_over_may_be_forgotten_and_what_is_open_may_not() -> None:
    for past, over in (
        ((REQUESTED,), False),
        ((REQUESTED, GIVEN), False),
        ((REQUESTED, GIVEN, USED), True),
        ((REQUESTED, EXPIRED), True),
    ):
        world: World = given(*past).world
        assert world.is_over("approval", "-", R) is over


def test_a_refusal_for_other_reasons_comes_first() -> None:
    decision = given(GUARD).decide(DELETE)
    assert isinstance(decision, Refused)
    assert decision.code is Refusal.UNKNOWN_VOLUME
