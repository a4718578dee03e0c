"""Four eyes on the command line: what is sent, what is said of a refusal, and waiting for it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.answers import Answer, refuse
from schemas.approval import ApprovalGiven, ApprovalRequested
from schemas.approval_view import ApprovalRow, ApprovalState, ProtectionRow
from schemas.protection import ProtectedKind
from schemas.refusals import Refusal
from tests.support.cli import UID, Stage, accepted, ago

R = "0" * 25 + "r"
AT = datetime(2026, 1, 1, 13, tzinfo=UTC)
STAMPS: Any = {"created_at": ago(hours=5), "changed_at": ago(minutes=3), "seq": 7}
REQUESTED = ApprovalRequested(
    approval=R,
    round=1,
    actor="alice",
    word="volume.purge.v1",
    request='{"type":"volume.purge.v1","volume":"pg"}',
    objects=(f"volume/pg@{UID}",),
    protections=("orders",),
    until=AT,
    good_for_s=3600,
)
GIVEN = ApprovalGiven(approval=R, round=1, by="bob", until=AT)
NO = refuse(
    Refusal.NEEDS_APPROVAL,
    f"volume.purge of volume/pg needs approval, says orders: request {R}",
    f"Somebody else: hwbus approval approve {R}; then repeat the same command.",
)
CHANGES = [
    (
        ("protection", "set", "orders", "--kind", "volume", "--kind", "snapshot", "--name", "pg-*",
         "--act", "volume.delete", "--unless-held", "7d", "--waits", "2d", "--good-for", "10m"),
        "protection.set",
        {"protection": "orders", "spec": {
            "kinds": ["volume", "snapshot"], "names": ["pg-*"], "acts": ["volume.delete"],
            "hold_s": 604_800, "waits_s": 172_800, "good_for_s": 600}},
    ),
    (
        ("protection", "set", "all"),
        "protection.set",
        {"protection": "all", "spec": {"names": ["*"]}},
    ),
    (("protection", "rm", "all", "--yes"), "protection.remove", {"protection": "all"}),
    (
        ("approval", "approve", f"approval/{R}", "--because", "4711"),
        "approval.approve",
        {"approval": R, "because": "4711"},
    ),
    (("approval", "reject", R), "approval.reject", {"approval": R}),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "verb", "fields"), CHANGES)
def test_every_change_says_one_word(
    stage: Stage, argv: tuple[str, ...], verb: str, fields: dict[str, object]
) -> None:
    stage.when(f"hwbus.cmd.{verb}", accepted(operation=""))
    done = stage.run(*argv)
    assert done.code == 0, done.err
    assert {k: v for k, v in stage.said().items() if k != "type"} == fields


def test_what_destroys_nothing_cannot_be_protected_from(stage: Stage) -> None:
    done = stage.run("protection", "set", "p", "--act", "volume.grow")
    assert done.code == 2
    assert "'volume.grow' never takes two people" in done.err
    assert stage.heard == []


def test_a_protection_is_not_removed_unasked(stage: Stage) -> None:
    assert stage.run("protection", "rm", "all").code == 2
    assert stage.heard == []


def test_a_refusal_says_who_has_to_do_what(stage: Stage) -> None:
    stage.when("hwbus.cmd.volume.purge", NO)
    done = stage.run("volume", "purge", "pg", "--yes")
    assert done.code == 5
    assert f"HW-E001 volume.purge of volume/pg needs approval, says orders: request {R}" in done.err
    assert f"hwbus approval approve {R}" in done.err


def test_who_waits_says_it_again_when_another_has_spoken(stage: Stage) -> None:
    stage.write(f"hwbus.evt.approval.-.{R}", REQUESTED)
    stage.write(f"hwbus.evt.approval.-.{R}", GIVEN, actor="bob")
    answers: list[Answer] = [NO, accepted(operation="")]
    stage.when("hwbus.cmd.volume.purge", lambda _call, _log: answers.pop(0))
    done = stage.run("volume", "purge", "pg", "--yes", "--wait", "--timeout", "5s")
    assert done.code == 0, done.err
    assert f"Waiting for somebody else: hwbus approval approve {R}" in done.err
    ids = {call.headers["Hwbus-Command-Id"] for call in stage.heard}
    assert (len(stage.heard), len(ids)) == (2, 1)


def test_nobody_is_waited_for_without_end(stage: Stage) -> None:
    stage.write(f"hwbus.evt.approval.-.{R}", REQUESTED)
    stage.when("hwbus.cmd.volume.purge", NO)
    done = stage.run("volume", "purge", "pg", "--yes", "--wait", "--timeout", "0.1s")
    assert done.code == 5
    assert len(stage.heard) == 1


def test_what_waits_and_what_is_protected_can_be_seen(stage: Stage) -> None:
    stage.rows["protections"] = (
        ProtectionRow(
            name="orders",
            uid=UID,
            kinds=(ProtectedKind.VOLUME,),
            names=("pg-*",),
            hold_s=86_400,
            waits_s=86_400,
            good_for_s=3600,
            **STAMPS,
        ),
    )
    stage.rows["approvals"] = (
        ApprovalRow(
            id=R,
            state=ApprovalState.WAITING,
            ended=False,
            actor="alice",
            word=REQUESTED.word,
            objects=REQUESTED.objects,
            protections=REQUESTED.protections,
            request=REQUESTED.request,
            round=1,
            good_until=AT,
            **STAMPS,
        ),
    )
    assert "pg-*" in stage.run("protection", "ls").out
    assert "orders" in stage.run("protection", "show", "orders").out
    line = stage.run("approval", "ls").out.splitlines()[1]
    for word in (R, "waiting", "alice", "volume.purge", "volume/pg"):
        assert word in line
    shown = stage.run("approval", "show", R).out
    assert '{"type":"volume.purge.v1","volume":"pg"}' in shown
    assert stage.run("approval", "ls", "-o", "name").out == f"approval/{R}\n"
