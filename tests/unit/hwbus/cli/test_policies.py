"""Policies on the command line: what is sent for what is said, and what is not understood."""

import msgspec
import pytest

from schemas.policy import SetPolicy
from tests.support.cli import Stage, accepted

GIB = 1 << 30
CHANGES = [
    (
        ("policy", "set", "roomy", "--kind", "grow-volumes", "--pool", "n1/fast", "--at", "80%",
         "--step", "20%", "--ceiling", "100GiB", "--cool-down", "5m"),
        "policy.set",
        {"policy": "roomy", "spec": {
            "kind": "grow-volumes", "selector": {"node": "n1", "pool": "fast"},
            "threshold_percent": 80, "step_percent": 20, "ceiling_bytes": 100 * GIB,
            "cool_down_s": 300}},
    ),
    (
        ("policy", "set", "snaps", "--kind", "grow-snapshots", "--volume", "volume/pg", "--at",
         "75", "--step", "2GiB"),
        "policy.set",
        {"policy": "snaps", "spec": {
            "kind": "grow-snapshots", "selector": {"volume": "pg"},
            "threshold_percent": 75, "step_bytes": 2 * GIB, "cool_down_s": 600}},
    ),
    (
        ("policy", "set", "spares", "--kind", "add-disks", "--pool", "fast", "--class", "ssd"),
        "policy.set",
        {"policy": "spares", "spec": {
            "kind": "add-disks", "selector": {"pool": "fast"}, "media": "ssd",
            "cool_down_s": 600}},
    ),
    (
        ("policy", "set", "out", "--kind", "drain-disks", "--node", "n1"),
        "policy.set",
        {"policy": "out", "spec": {
            "kind": "drain-disks", "selector": {"node": "n1"}, "cool_down_s": 600}},
    ),
    (
        ("policy", "set", "scrub", "--kind", "verify-replicas", "--group", "shop", "--every",
         "weekly@sun@03:30", "--at-once", "2", "--repair"),
        "policy.set",
        {"policy": "scrub", "spec": {
            "kind": "verify-replicas", "selector": {"group": "shop"}, "cool_down_s": 600,
            "rhythm": {"every_s": 7 * 86400, "offset_s": 6 * 86400 + 12600}, "at_once": 2,
            "repair": True}},
    ),
    (
        ("policy", "set", "scrub", "--kind", "verify-replicas", "--every", "daily@02:00"),
        "policy.set",
        {"policy": "scrub", "spec": {
            "kind": "verify-replicas", "selector": {}, "cool_down_s": 600,
            "rhythm": {"every_s": 86400, "offset_s": 7200}, "at_once": 1}},
    ),
    (
        ("policy", "pause", "policy/roomy", "--because", "moving"),
        "policy.pause",
        {"policy": "roomy", "because": "moving"},
    ),
    (("policy", "resume", "roomy"), "policy.resume", {"policy": "roomy"}),
    (("policy", "rm", "roomy", "--yes"), "policy.remove", {"policy": "roomy"}),
    (
        ("snapshot", "grow", "monday", "2GiB"),
        "snapshot.grow",
        {"snapshot": "monday", "reserve_bytes": 2 * GIB},
    ),
    (
        ("pool", "grow-thin", "n1/fast", "20GiB", "--metadata", "1GiB"),
        "pool.grow-thin",
        {"pool": "fast", "node": "n1", "thin_bytes": 20 * GIB, "metadata_bytes": GIB},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "verb", "fields"), CHANGES)
def test_every_change_says_one_word(
    stage: Stage, argv: tuple[str, ...], verb: str, fields: dict[str, object]
) -> None:
    stage.when(f"hwbus.cmd.{verb}", accepted(operation=""))
    done = stage.run(*argv)
    assert done.code == 0, done.err
    assert stage.heard[-1].subject == f"hwbus.cmd.{verb}"
    assert {k: v for k, v in stage.said().items() if k not in {"type", "deadline_s"}} == fields
    if verb == "policy.set":
        msgspec.json.decode(msgspec.json.encode(stage.said()), type=SetPolicy)


@pytest.mark.parametrize(
    "more",
    [
        ("--kind", "grow-everything"),
        ("--kind", "add-disks", "--class", "floppy"),
        ("--kind", "grow-volumes", "--at", "most"),
        ("--kind", "grow-volumes", "--step", "some"),
        ("--kind", "grow-volumes", "--cool-down", "soon"),
        (),
    ],
)
def test_what_is_not_understood_is_not_sent(stage: Stage, more: tuple[str, ...]) -> None:
    done = stage.run("policy", "set", "p", *more)
    assert done.code == 2
    assert stage.heard == []


def test_a_policy_is_not_removed_unasked(stage: Stage) -> None:
    done = stage.run("policy", "rm", "roomy")
    assert done.code == 2
    assert stage.heard == []
