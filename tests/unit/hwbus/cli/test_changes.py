"""Changing something: what is sent, what is told, and with which code it ends."""

import asyncio

import pytest

from hwbus.memory import MemoryLog
from hwbus.ports import Call
from schemas.answers import Accepted, Answer, Refused, Undecided, refuse
from schemas.operation import OperationEnded, OperationKind, Outcome
from schemas.pool import RoomReserved
from schemas.refusals import Refusal
from schemas.volume import VolumeProvisioningBegan
from tests.support.cli import OPERATION, UID, Stage, accepted, ago, append, commit
from tests.unit.hwbus.cli.rows import furnish

GIB = 1 << 30
CHANGES = [
    (("node", "cordon", "n1", "--because", "fan"), "node.cordon", {"node": "n1", "because": "fan"}),
    (("node", "uncordon", "n1"), "node.uncordon", {"node": "n1"}),
    (("node", "admit", "n1"), "node.admit", {"node": "n1"}),
    (("node", "remove", "n1", "--yes"), "node.remove", {"node": "n1"}),
    (("node", "drain", "node/n1"), "node.drain", {"node": "n1"}),
    (("node", "drain", "n1", "--at-once", "4", "--rate", "1GiB"), "node.drain",
     {"node": "n1", "at_once": 4, "resync_bytes_per_s": GIB}),
    (("node", "forget", "n1", "--yes"), "node.forget", {"node": "n1"}),
    (("disk", "reserve", "d", "--because", "m"), "disk.reserve", {"disk": "d", "because": "m"}),
    (("disk", "unreserve", "d"), "disk.unreserve", {"disk": "d"}),
    (("disk", "class", "d", "nvme"), "disk.override-class", {"disk": "d", "media": "nvme"}),
    (("disk", "class", "d", "auto"), "disk.override-class", {"disk": "d"}),
    (
        ("pool", "create", "fast", "--node", "n1", "--disk", "a", "disk/b", "--disk", "c",
         "--thin", "2GiB", "--thin-ratio", "1.5"),
        "pool.form",
        {"pool": "fast", "node": "n1", "disks": ["a", "b", "c"], "thin_bytes": 2 * GIB,
         "thin_ratio_percent": 150, "volumes_max": 4000},
    ),
    (
        ("pool", "grow", "n1/fast", "--disk", "a"),
        "pool.grow",
        {"pool": "fast", "node": "n1", "disks": ["a"]},
    ),
    (
        ("pool", "shrink", "n1/fast", "--disk", "a", "--deadline", "1h"),
        "pool.shrink",
        {"pool": "fast", "node": "n1", "disks": ["a"], "deadline_s": 3600},
    ),
    (
        ("pool", "remove", "fast", "--node", "n1", "-y"),
        "pool.remove",
        {"pool": "fast", "node": "n1"},
    ),
    (
        ("volume", "create", "pg", "5GiB", "--layout", "striped", "--stripes", "2", "--fs", "xfs",
         "--pool", "fast", "--node", "n1", "--deadline", "2m"),
        "volume.provision",
        {"volume": "pg", "size_bytes": 5 * GIB, "layout": "striped", "stripes": 2,
         "filesystem": "xfs", "pool": "fast", "node": "n1", "deadline_s": 120},
    ),
    (
        ("volume", "create", "pg", "5GiB", "--key-ref", "file:pg"),
        "volume.provision",
        {"volume": "pg", "size_bytes": 5 * GIB, "key_ref": "file:pg"},
    ),
    (
        ("volume", "create", "wal", "--disk", "disk/wwn-3", "--fs", "xfs"),
        "volume.provision",
        {"volume": "wal", "size_bytes": 1, "layout": "disk", "filesystem": "xfs", "disk": "wwn-3"},
    ),
    (
        ("volume", "create", "wal", "5GiB", "--class", "nvme", "--node", "n1"),
        "volume.provision",
        {"volume": "wal", "size_bytes": 5 * GIB, "layout": "disk", "media": "nvme", "node": "n1"},
    ),
    (
        ("volume", "create", "wal", "--layout", "disk"),
        "volume.provision",
        {"volume": "wal", "size_bytes": 1, "layout": "disk"},
    ),
    (
        ("volume", "delete", "wal", "--wipe", "zero", "--yes"),
        "volume.delete",
        {"volume": "wal", "hold_s": 86_400, "wiping": "zero"},
    ),
    (
        ("volume", "purge", "wal", "--wipe", "lost", "-y"),
        "volume.purge",
        {"volume": "wal", "wiping": "lost"},
    ),
    (
        ("volume", "rekey", "pg", "--key-ref", "vault:secret/data/pg#key"),
        "volume.rekey",
        {"volume": "pg", "key_ref": "vault:secret/data/pg#key"},
    ),
    (("vol", "grow", "pg", "6G"), "volume.grow", {"volume": "pg", "size_bytes": 6 * 10**9}),
    (
        ("volume", "delete", "pg", "--yes"),
        "volume.delete",
        {"volume": "pg", "hold_s": 86_400},
    ),
    (
        ("volume", "delete", "pg", "--hold", "7d", "--yes"),
        "volume.delete",
        {"volume": "pg", "hold_s": 7 * 86_400},
    ),
    (("volume", "delete", "pg", "--hold", "0s", "-y"), "volume.delete", {"volume": "pg"}),
    (("volume", "undelete", "pg"), "volume.undelete", {"volume": "pg"}),
    (("volume", "purge", "pg", "--yes"), "volume.purge", {"volume": "pg"}),
    (
        ("volume", "attach", "pg", "pod/shop/pg-0", "--mount", "/mnt/pg", "--read-only",
         "--cgroup", "shop/pg-0"),
        "volume.attach",
        {"volume": "pg", "consumer": "pod/shop/pg-0", "mount_point": "/mnt/pg",
         "read_only": True, "cgroup": "shop/pg-0"},
    ),
    (
        ("volume", "detach", "volume/pg", "--consumer", "host/backup"),
        "volume.detach",
        {"volume": "pg", "consumer": "host/backup"},
    ),
    (
        ("vol", "limit", "pg", "--read-iops", "100", "--write-bytes", "10MiB/s"),
        "volume.limit",
        {"volume": "pg", "limits": {"read_iops": 100, "write_bytes_per_s": 10 << 20}},
    ),
    (("volume", "limit", "pg", "--none"), "volume.limit", {"volume": "pg", "limits": {}}),
    (("volume", "create", "pg", "5GiB", "--qos", "gold"), "volume.provision",
     {"volume": "pg", "size_bytes": 5 * GIB, "qos": "gold"}),
    (("qos", "set", "volume/pg", "--class", "qos/gold"), "volume.limit",
     {"volume": "pg", "limits": {}, "qos": "gold"}),
    (("qos", "set", "pg", "--write-iops", "7", "--read-bytes", "1MiB"), "volume.limit",
     {"volume": "pg", "limits": {"write_iops": 7, "read_bytes_per_s": 1 << 20}}),
    (("qos", "unset", "pg"), "volume.limit", {"volume": "pg"}),
    (("qos", "class", "create", "gold", "--read-iops", "100", "--write-bytes", "10MiB/s"),
     "qos.create", {"qos": "gold", "limits": {"read_iops": 100, "write_bytes_per_s": 10 << 20}}),
    (("qos", "class", "set", "qos/gold", "--write-iops", "5"), "qos.change",
     {"qos": "gold", "limits": {"write_iops": 5}}),
    (("qos", "class", "delete", "gold"), "qos.delete", {"qos": "gold"}),
    (("snapshot", "create", "pg", "monday"), "snapshot.create",
     {"snapshot": "monday", "volume": "pg"}),
    (("snap", "create", "volume/pg", "monday", "--reserve", "1GiB"), "snapshot.create",
     {"snapshot": "monday", "volume": "pg", "reserve_bytes": GIB}),
    (("snapshot", "delete", "monday", "--yes"), "snapshot.delete", {"snapshot": "monday"}),
    (("snapshot", "rollback", "snapshot/monday", "-y"), "snapshot.roll-back",
     {"snapshot": "monday"}),
    (("group", "create", "shop", "pg", "volume/wal"), "group.create",
     {"group": "shop", "volumes": ["pg", "wal"]}),
    (("group", "add", "shop", "pg"), "group.add", {"group": "shop", "volumes": ["pg"]}),
    (("group", "add", "shop", "pg", "--apart"), "group.add",
     {"group": "shop", "volumes": ["pg"], "apart": True}),
    (("group", "migrate", "shop", "--from", "n2", "--to", "node/n3", "--rate", "1MiB"),
     "group.migrate",
     {"group": "shop", "source": "n2", "node": "n3", "resync_bytes_per_s": 1 << 20}),
    (("group", "hand-over", "group/shop", "n2"), "group.hand-over",
     {"group": "shop", "node": "n2"}),
    (("group", "add-replica", "shop", "--node", "n2", "--at-once", "4"), "group.add-replica",
     {"group": "shop", "node": "n2", "at_once": 4}),
    (("vol", "create", "pg", "5GiB", "--label", "team=shop", "--label", "tier="),
     "volume.provision",
     {"volume": "pg", "size_bytes": 5 * GIB, "labels": {"team": "shop", "tier": ""}}),
    (("volume", "label", "volume/pg", "team=shop", "a.b/tier-"), "volume.label",
     {"volume": "pg", "set": {"team": "shop"}, "remove": ["a.b/tier"]}),
    (("volume", "clone", "pg", "pg2", "--keep-labels", "--label", "a=b"), "volume.clone",
     {"volume": "pg2", "source": "pg", "labels": {"a": "b"},
      "keep_labels": True}),
    (("snapshot", "restore", "s", "pg2", "--keep-labels"), "volume.restore",
     {"volume": "pg2", "snapshot": "s", "keep_labels": True}),
    (("volume", "create", "pg", "5GiB", "--group", "shop"), "volume.provision",
     {"volume": "pg", "size_bytes": 5 * GIB, "group": "shop"}),
    (("volume", "migrate", "pg", "--to", "n3", "--apart"), "volume.migrate",
     {"volume": "pg", "node": "n3", "apart": True}),
    (("volume", "hand-over", "pg", "n2", "--apart"), "volume.hand-over",
     {"volume": "pg", "node": "n2", "apart": True}),
    (("group", "rm", "shop", "pg"), "group.take-out", {"group": "shop", "volumes": ["pg"]}),
    (("group", "rm", "group/shop", "--yes"), "group.remove", {"group": "shop"}),
    (("group", "snapshot", "shop", "monday", "--reserve", "1GiB"), "group.snapshot",
     {"group": "shop", "snapshot": "monday", "reserve_bytes": GIB}),
    (("schedule", "create", "nightly", "--group", "shop", "--every", "weekly@sun@03:30",
      "--keep-hourly", "1", "--keep-daily", "2", "--keep-weekly", "3"), "schedule.create",
     {"schedule": "nightly", "group": "shop", "keep": {"hourly": 1, "daily": 2, "weekly": 3},
      "rhythm": {"every_s": 604_800, "offset_s": 531_000}}),
    (("sched", "create", "often", "--volume", "pg", "--every", "30m", "--keep-hourly", "24",
      "--reserve", "1GiB"), "schedule.create",
     {"schedule": "often", "volume": "pg", "keep": {"hourly": 24}, "rhythm": {"every_s": 1800},
      "reserve_bytes": GIB}),
    (("schedule", "pause", "nightly"), "schedule.pause", {"schedule": "nightly"}),
    (("schedule", "resume", "schedule/nightly"), "schedule.resume", {"schedule": "nightly"}),
    (("schedule", "rm", "nightly", "-y"), "schedule.remove", {"schedule": "nightly"}),
    (("backup", "target", "add", "s3", "s3://b/p", "--endpoint", "https://h:1", "--credentials",
      "file:s3", "--cluster", "berlin"), "target.add",
     {"target": "s3", "url": "s3://b/p", "endpoint": "https://h:1", "credentials": "file:s3",
      "cluster": "berlin", "region": "us-east-1"}),
    (("backup", "target", "test", "s3"), "target.probe", {"target": "s3"}),
    (("backup", "target", "rm", "s3"), "target.remove", {"target": "s3"}),
    (("backup", "create", "volume/pg", "s3", "--name", "n", "--keep", "--full", "--rate", "5MiB"),
     "target.back-up",
     {"target": "s3", "volume": "pg", "backup": "n", "keep": True, "full": True,
      "rate_bytes_per_s": 5 << 20}),
    (("backup", "verify", "s3", "pg-1"), "target.verify", {"target": "s3", "backup": "pg-1"}),
    (("backup", "rm", "s3", "pg-1", "--grace", "1h", "-y"), "target.sweep",
     {"target": "s3", "backup": "pg-1", "grace_s": 3600}),
    (("backup", "sweep", "s3"), "target.sweep", {"target": "s3"}),
    (("volume", "create", "pg", "5GiB", "--replicas", "2", "--no-failover"), "volume.provision",
     {"volume": "pg", "size_bytes": 5 * GIB, "replicas": 2, "failover": False}),
    (("volume", "add-replica", "pg", "--node", "node/n2", "--pool", "fast", "--rate", "50MiB"),
     "volume.add-replica",
     {"volume": "pg", "node": "n2", "pool": "fast", "resync_bytes_per_s": 50 << 20}),
    (("volume", "remove-replica", "pg", "node/n2"), "volume.remove-replica",
     {"volume": "pg", "node": "n2"}),
    (("volume", "remove-replica", "pg", "n2", "--lost"), "volume.remove-replica",
     {"volume": "pg", "node": "n2", "lost": True}),
    (("volume", "hand-over", "volume/pg", "node/n2"), "volume.hand-over",
     {"volume": "pg", "node": "n2"}),
    (("volume", "fail-over", "pg"), "volume.fail-over", {"volume": "pg"}),
    (("volume", "fail-over", "pg", "--node", "n2"), "volume.fail-over",
     {"volume": "pg", "node": "n2"}),
    (("volume", "failover", "pg", "off"), "volume.set-failover", {"volume": "pg", "auto": False}),
    (("volume", "failover", "pg", "on"), "volume.set-failover", {"volume": "pg", "auto": True}),
    (("volume", "migrate", "pg"), "volume.migrate", {"volume": "pg"}),
    (("volume", "migrate", "pg", "--from", "node/n1", "--to", "node/n3", "--pool", "fast",
      "--rate", "1GiB"), "volume.migrate",
     {"volume": "pg", "source": "n1", "node": "n3", "pool": "fast", "resync_bytes_per_s": GIB}),
    (("volume", "verify", "pg"), "volume.verify", {"volume": "pg"}),
    (("volume", "verify", "volume/pg", "--repair", "--deadline", "1h"), "volume.verify",
     {"volume": "pg", "repair": True, "deadline_s": 3600}),
    (("volume", "settle-split", "pg", "--loses", "node/n2", "--yes"), "volume.settle-split",
     {"volume": "pg", "loses": "n2"}),
    (("volume", "attach", "pg", "host/a", "--node", "node/n2"), "volume.attach",
     {"volume": "pg", "consumer": "host/a", "node": "n2"}),
    (("op", "cancel", OPERATION), "operation.cancel", {"operation": OPERATION}),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "verb", "fields"), CHANGES)
def test_every_change_says_one_word(
    stage: Stage, argv: tuple[str, ...], verb: str, fields: dict[str, object]
) -> None:
    stage.when(f"hwbus.cmd.{verb}", accepted(operation=""))
    done = stage.run(*argv)
    assert done.code == 0
    assert stage.heard[-1].subject == f"hwbus.cmd.{verb}"
    assert {k: v for k, v in stage.said().items() if k not in {"type", "deadline_s"}} == {
        k: v for k, v in fields.items() if k != "deadline_s"
    }
    assert "accepted  seq 1" in done.out


@pytest.mark.parametrize(
    "argv",
    [
        ("volume", "create", "pg", "5GiB", "--key-ref", "hunter2-hunter2"),
        ("volume", "rekey", "pg", "--key-ref", "hunter2-hunter2"),
        ("--show-call", "volume", "rekey", "pg", "--key-ref", "hunter2-hunter2"),
    ],
)
def test_what_may_be_a_key_is_neither_sent_nor_shown(stage: Stage, argv: tuple[str, ...]) -> None:
    done = stage.run(*argv)
    assert done.code == 2
    assert "HW-K001" in done.err
    assert "hunter2" not in done.err + done.out
    assert stage.heard == []


@pytest.mark.parametrize("more", [(), ("--none", "--read-iops", "5")])
def test_limits_are_not_lifted_by_mistake(stage: Stage, more: tuple[str, ...]) -> None:
    done = stage.run("volume", "limit", "pg", *more)
    assert done.code == 2
    assert "--none" in done.err
    assert stage.heard == []


@pytest.mark.parametrize("more", [(), ("--class", "gold", "--read-iops", "5")])
def test_a_volume_is_given_a_class_or_limits_and_not_both(
    stage: Stage, more: tuple[str, ...]
) -> None:
    done = stage.run("qos", "set", "pg", *more)
    assert done.code == 2
    assert "--class" in done.err
    assert stage.heard == []


@pytest.mark.parametrize(("argv", "verb", "fields"), CHANGES)
def test_show_call_says_what_would_be_sent_and_does_nothing(
    stage: Stage, argv: tuple[str, ...], verb: str, fields: dict[str, object]
) -> None:
    done = stage.run("--show-call", *argv)
    assert done.code == 0
    assert f" request hwbus.cmd.{verb} " in done.out
    assert "Hwbus-Actor:ada" in done.out
    assert stage.heard == []


def test_the_command_id_version_and_actor_that_are_given_are_sent(stage: Stage) -> None:
    stage.when("hwbus.cmd.node.admit", accepted(operation=""))
    stage.run("node", "admit", "n1", "--id", "again", "--expect-version", "4", "--actor", "bob")
    assert stage.heard[0].headers == {
        "Hwbus-Command-Id": "again",
        "Hwbus-Actor": "bob",
        "Hwbus-Expected-Version": "4",
    }


def test_the_actor_is_the_user_and_the_id_is_minted(stage: Stage) -> None:
    stage.when("hwbus.cmd.node.admit", accepted(operation=""))
    stage.run("node", "admit", "n1")
    assert stage.heard[0].headers == {"Hwbus-Command-Id": "minted-1", "Hwbus-Actor": "ada"}


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (Refusal.UNKNOWN_VOLUME, 3),
        (Refusal.NOT_LARGER, 5),
        (Refusal.CAPACITY, 5),
        (Refusal.MALFORMED, 5),
        (Refusal.STALE_VERSION, 7),
        (Refusal.VOLUME_BUSY, 7),
        (Refusal.VOLUME_ATTACHED, 7),
        (Refusal.NODE_SILENT, 11),
    ],
)
def test_a_refusal_says_code_reason_fix_and_where_to_read_on(
    stage: Stage, code: Refusal, exit_code: int
) -> None:
    stage.when("hwbus.cmd.volume.grow", refuse(code, "because of the moon"))
    done = stage.run("volume", "grow", "pg", "1GiB")
    assert done.code == exit_code
    assert done.out == ""
    assert done.err.splitlines() == [
        f"{code} because of the moon",
        f"  {code.advice}",
        f"  More: hwbus explain {code}",
    ]


def test_a_refusal_is_data_where_json_was_asked_for(stage: Stage) -> None:
    stage.when("hwbus.cmd.volume.grow", refuse(Refusal.NOT_LARGER, "no", "ask for more"))
    shape = stage.run("volume", "grow", "pg", "1GiB", "-o", "json").json
    assert shape["kind"] == "Refused"
    assert shape["items"] == [
        {"code": "HW-V003", "because": "no", "fix": "ask for more", "command": ""}
    ]


def test_an_undecided_command_tells_how_to_repeat_it(stage: Stage) -> None:
    stage.when("hwbus.cmd.volume.grow", Undecided(command="minted-1", because="the log is away"))
    done = stage.run("volume", "grow", "pg", "1GiB")
    assert done.code == 4
    assert "--id minted-1" in done.err


@pytest.mark.parametrize(
    ("form", "out"),
    [
        ("table", f"volume/pg accepted  seq 1  op {OPERATION}\n"),
        ("name", "volume/pg\n"),
    ],
)
def test_what_was_accepted_is_told(stage: Stage, form: str, out: str) -> None:
    stage.when("hwbus.cmd.volume.delete", accepted())
    assert stage.run("volume", "delete", "pg", "--yes", "-o", form).out == out


def test_what_was_accepted_is_data_where_json_was_asked_for(stage: Stage) -> None:
    stage.when("hwbus.cmd.volume.delete", accepted(seq=9))
    shape = stage.run("volume", "delete", "pg", "--yes", "-o", "json").json
    assert (shape["kind"], shape["seq"]) == ("Accepted", 9)
    assert shape["items"][0]["operation"] == OPERATION


def test_nothing_to_change_is_said_so(stage: Stage) -> None:
    stage.when("hwbus.cmd.node.admit", Accepted(command="c", seq=0, version=1))
    assert stage.run("node", "admit", "n1").out == "node/n1 accepted  nothing to change\n"


def _works(outcome: Outcome, code: Refusal | None = None, because: str = "") -> object:
    """Return a desk that begins an operation, lets it do a step, and ends it."""

    def reply(call: Call, log: MemoryLog) -> Answer:
        began = VolumeProvisioningBegan(
            volume="pg", uid=UID, operation=OPERATION, deadline=ago(), size_bytes=GIB, candidates=()
        )
        room = RoomReserved(pool="fast", node="n1", claim=UID, size_bytes=GIB, operation=OPERATION)
        end = OperationEnded(
            operation=OPERATION,
            kind=OperationKind.VOLUME_PROVISION,
            object="volume/pg",
            outcome=outcome,
            code=code,
            because=because,
            leftovers=("pool/n1/fast",) if code else (),
        )

        async def happen() -> None:
            await append(log, "hwbus.evt.volume.-.pg", commit(began, correlation=OPERATION))
            await append(log, "hwbus.evt.volume.-.pg", commit(correlation="another"))
            await append(log, "hwbus.evt.volume.-.pg", commit(room, correlation=OPERATION))
            await append(
                log, f"hwbus.evt.operation.-.{OPERATION}", commit(end, correlation=OPERATION)
            )

        stage_task.append(asyncio.ensure_future(happen()))
        return accepted()

    stage_task: list[asyncio.Future[None]] = []
    return reply


def test_wait_follows_the_operation_to_its_end(stage: Stage) -> None:
    stage.when("hwbus.cmd.volume.provision", _works(Outcome.COMPLETED))  # type: ignore[arg-type]
    done = stage.run("volume", "create", "pg", "1GiB", "--wait")
    assert done.code == 0
    assert done.out == f"volume/pg volume-provision completed  seq 4  op {OPERATION}\n"
    assert done.err.splitlines() == [
        f"volume/pg accepted  seq 1  op {OPERATION}",
        "  volume provisioning began, 1GiB  volume/pg  seq 1",
        "  pool room reserved, 1GiB  volume/pg  seq 3",
        "  operation ended, completed  seq 4",
    ]


def test_progress_on_a_terminal_leaves_nothing_behind_on_stdout(stage: Stage) -> None:
    stage.when("hwbus.cmd.volume.provision", _works(Outcome.COMPLETED))  # type: ignore[arg-type]
    done = stage.run("volume", "create", "pg", "1GiB", "--wait", tty=True, env={"NO_COLOR": "1"})
    assert done.out == f"● volume/pg volume-provision completed  seq 4  op {OPERATION}\n"


def test_wait_ends_as_data_where_json_was_asked_for(stage: Stage) -> None:
    stage.when("hwbus.cmd.volume.provision", _works(Outcome.COMPLETED))  # type: ignore[arg-type]
    shape = stage.run("volume", "create", "pg", "1GiB", "--wait", "-o", "json").json
    assert shape["kind"] == "Operation"
    assert shape["seq"] == 4
    assert shape["items"][0]["outcome"] == "completed"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (Refusal.CAPACITY, 5),
        (Refusal.NO_PLACE, 5),
        (Refusal.TOOL_FAILED, 1),
        (Refusal.DEADLINE, 1),
        (Refusal.NODE_SILENT, 11),
    ],
)
def test_an_operation_that_failed_ends_with_the_code_of_its_reason(
    stage: Stage, code: Refusal, exit_code: int
) -> None:
    stage.when("hwbus.cmd.volume.provision", _works(Outcome.FAILED, code, "moon"))  # type: ignore[arg-type]
    done = stage.run("volume", "create", "pg", "1GiB", "--wait")
    assert (done.code, done.out) == (exit_code, "")
    tail = done.err.splitlines()[-5:]
    assert tail[0] == f"volume/pg volume-provision failed  seq 4  op {OPERATION}"
    assert tail[1] == f"  {code} moon"
    assert tail[2] == "  left over: pool/n1/fast"
    assert tail[4] == f"  More: hwbus explain {code}"


def test_waiting_longer_than_the_timeout_detaches_and_cancels_nothing(stage: Stage) -> None:
    stage.when("hwbus.cmd.volume.provision", accepted())
    done = stage.run("volume", "create", "pg", "1GiB", "--wait", "--timeout", "0.05s")
    assert done.code == 4
    assert f"hwbus op watch {OPERATION}" in done.err
    assert [call.subject for call in stage.heard] == ["hwbus.cmd.volume.provision"]


def test_ctrl_c_detaches_and_says_how_to_look_again(stage: Stage) -> None:
    import os
    import signal

    def reply(call: Call, log: MemoryLog) -> Answer:
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
        return accepted()

    stage.when("hwbus.cmd.volume.provision", reply)
    done = stage.run("volume", "create", "pg", "1GiB", "--wait")
    assert done.code == 130
    assert f"operation {OPERATION} goes on" in done.err
    assert f"hwbus op watch {OPERATION}" in done.err
    assert [call.subject for call in stage.heard] == ["hwbus.cmd.volume.provision"]


def test_delete_asks_for_the_name_and_tells_what_is_lost(stage: Stage) -> None:
    furnish(stage)
    stage.when("hwbus.cmd.volume.delete", accepted())
    done = stage.run("volume", "delete", "pg", typed="pg\n", typed_on_tty=True)
    assert done.code == 0
    assert "This deletes the volume 'pg' (5GiB, on n1); its data is kept for 1 day." in done.err
    assert stage.heard[-1].subject == "hwbus.cmd.volume.delete"


def test_deleting_at_once_and_purging_ask_for_the_name_and_tell_that_the_data_goes(
    stage: Stage,
) -> None:
    furnish(stage)
    for verb, what, more in (("delete", "deletes", ("--hold", "0s")), ("purge", "purges", ())):
        stage.when(f"hwbus.cmd.volume.{verb}", accepted())
        done = stage.run("volume", verb, "pg", *more, typed="pg\n", typed_on_tty=True)
        assert done.code == 0
        assert f"This {what} the volume 'pg' (5GiB, on n1), and its data" in done.err
        assert stage.heard[-1].subject == f"hwbus.cmd.volume.{verb}"


@pytest.mark.parametrize("typed", ["", "y\n", "PG\n"])
def test_delete_does_nothing_if_another_name_is_typed(stage: Stage, typed: str) -> None:
    furnish(stage)
    done = stage.run("volume", "delete", "pg", typed=typed, typed_on_tty=True)
    assert done.code == 2
    assert all(not call.subject.startswith("hwbus.cmd") for call in stage.heard)


@pytest.mark.parametrize(
    "argv",
    [
        ("volume", "delete", "pg"),
        ("volume", "purge", "pg"),
        ("pool", "remove", "n1/fast"),
        ("node", "remove", "n1"),
    ],
)
def test_where_nobody_can_be_asked_yes_must_be_said(stage: Stage, argv: tuple[str, ...]) -> None:
    furnish(stage)
    done = stage.run(*argv)
    assert done.code == 2
    assert "--yes" in done.err
    assert all(not call.subject.startswith("hwbus.cmd") for call in stage.heard)


@pytest.mark.parametrize(
    "name", ["a.b", "*", ">", "a b", "UPPER", "x" * 10_000, "ünïcode", "a/b", "\n", ""]
)
def test_odd_names_are_sent_as_they_are_and_the_refusal_is_shown(stage: Stage, name: str) -> None:
    stage.when("hwbus.cmd.volume.provision", refuse(Refusal.BAD_NAME, "no label"))
    done = stage.run("volume", "create", name, "1GiB")
    assert stage.said()["volume"] == name
    assert done.code == 5
    assert "HW-G003 no label" in done.err


def test_an_odd_name_that_looks_like_an_option_is_sent_after_two_dashes(stage: Stage) -> None:
    stage.when("hwbus.cmd.volume.provision", refuse(Refusal.BAD_NAME, "no label"))
    stage.run("volume", "create", "--", "-x", "1GiB")
    assert stage.said()["volume"] == "-x"


def test_a_name_that_is_no_text_cannot_be_sent(stage: Stage) -> None:
    done = stage.run("volume", "create", "a\udce4", "1GiB")
    assert done.code == 2
    assert "cannot be sent" in done.err


def test_what_the_bus_cannot_carry_is_not_sent(stage: Stage) -> None:
    done = stage.run("volume", "create", "x" * 1_000_000, "1GiB")
    assert done.code == 2
    assert "more than the bus carries" in done.err


@pytest.mark.parametrize("id_", ["a\nb", "ü"])
def test_a_command_id_must_fit_into_a_header(stage: Stage, id_: str) -> None:
    done = stage.run("node", "admit", "n1", "--id", id_)
    assert done.code == 2
    assert stage.heard == []


@pytest.mark.parametrize(
    ("argv", "verb", "field", "value"),
    [
        (("node", "admit", "node/n1"), "node.admit", "node", "n1"),
        (("disk", "unreserve", "disk/d"), "disk.unreserve", "disk", "d"),
        (("volume", "delete", "volume/pg", "-y"), "volume.delete", "volume", "pg"),
        (("pool", "remove", "pool/n1/fast", "-y"), "pool.remove", "pool", "fast"),
        (("op", "cancel", f"operation/{OPERATION}"), "operation.cancel", "operation", OPERATION),
    ],
)
def test_what_o_name_prints_may_be_given_back(
    stage: Stage, argv: tuple[str, ...], verb: str, field: str, value: str
) -> None:
    stage.when(f"hwbus.cmd.{verb}", accepted(operation=""))
    assert stage.run(*argv).code == 0
    assert stage.said()[field] == value


def test_a_pool_on_one_node_needs_no_node(stage: Stage) -> None:
    furnish(stage)
    stage.when("hwbus.cmd.pool.grow", accepted(operation=""))
    stage.run("pool", "grow", "fast", "--disk", "a")
    assert stage.said()["node"] == "n1"


def test_a_pool_on_two_nodes_needs_the_node_named(stage: Stage) -> None:
    import msgspec

    furnish(stage)
    [pool] = stage.rows["pools"]
    stage.rows["pools"] = (pool, msgspec.structs.replace(pool, node="n2"))
    done = stage.run("pool", "grow", "fast", "--disk", "a")
    assert done.code == 2
    assert "n1, n2" in done.err


def test_a_pool_nobody_has_is_not_found(stage: Stage) -> None:
    assert stage.run("pool", "grow", "fast", "--disk", "a").code == 3


def test_refused_is_an_answer_without_a_traceback(stage: Stage) -> None:
    stage.when("hwbus.cmd.node.admit", Refused(code=Refusal.NODE_KNOWN, because="known"))
    assert "Traceback" not in stage.run("node", "admit", "n1").err
