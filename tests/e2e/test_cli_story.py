"""The whole story on one machine: a real broker, real processes, simulated storage."""

import json
import stat
from collections.abc import Iterator

import pytest

from tests.support.machine import Machine, machine

GIB = 1 << 30

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("story")) as box:
        box.run("up")
        yield box


def test_up_says_what_runs_and_that_storage_is_simulated(box: Machine) -> None:
    again = box.run("up").stdout
    assert again.startswith("already up since ")
    status = box.run("status").stdout
    for name in ("supervisor", "nats-server", "control plane", "node worker laptop"):
        assert name in status
    assert "storage is simulated" in status
    assert stat.S_IMODE(box.state.stat().st_mode) == 0o700


def deleted_brought_back_and_purged(box: Machine) -> None:
    box.run("volume", "delete", "pg", "--yes", "--wait")
    [held] = box.items("volume", "ls")
    assert (held["state"], held["held_until"] is not None) == ("held", True)
    box.run("volume", "wait", "pg", code=1)
    box.run("volume", "grow", "pg", "4GiB", code=5)
    box.run("volume", "undelete", "pg", "--wait")
    assert box.run("volume", "wait", "pg").stdout == "volume/pg ready\n"
    box.run("volume", "purge", "pg", "--yes", code=5)
    box.run("volume", "delete", "pg", "--hold", "7d", "--yes", "--wait")
    box.run("volume", "purge", "pg", "--yes", "--wait")


def test_from_disks_to_a_volume_and_back(box: Machine) -> None:
    disks = box.names("disk", "ls", "--free")
    assert len(disks) == 3
    assert "simulated" in box.run("disk", "ls").stderr

    box.run("pool", "create", "fast", "--node", "laptop", "--disk", *disks, "--wait")
    [pool] = box.items("pool", "ls")
    assert (pool["state"], pool["allocated_bytes"]) == ("ready", 0)
    assert box.items("disk", "ls", "--free") == []

    made = box.run("volume", "create", "pg", "2GiB", "--fs", "ext4", "--wait", "-o", "json")
    [ending] = json.loads(made.stdout)["items"]
    assert ending["outcome"] == "completed"
    [volume] = box.items("volume", "ls")
    assert (volume["name"], volume["state"], volume["size_bytes"]) == ("pg", "ready", 2 * GIB)
    assert box.run("volume", "wait", "pg").stdout == "volume/pg ready\n"

    box.run("vol", "grow", "pg", "3GiB", "-w")
    assert box.items("volume", "ls")[0]["size_bytes"] == 3 * GIB

    [usage] = box.items("usage", "--level", "cluster")
    assert usage["allocated_bytes"] == 3 * GIB
    assert usage["capacity_bytes"] == usage["allocated_bytes"] + usage["free_bytes"]

    refused = box.run("volume", "create", "big", "1TiB", "--wait", code=5)
    assert "HW-" in refused.stderr
    box.run("volume", "grow", "pg", "1GiB", code=5)
    box.run("volume", "create", "pg", "1GiB", code=5)
    box.run("volume", "create", "a.b", "1GiB", code=5)
    box.run("volume", "grow", "nobody", "1GiB", code=3)
    box.run("volume", "grow", "pg", "4GiB", "--expect-version", "1", code=7)
    box.run("volume", "delete", "pg", code=2)

    deleted_brought_back_and_purged(box)
    assert box.items("volume", "ls") == []
    assert box.items("usage", "--level", "cluster")[0]["allocated_bytes"] == 0

    trail = box.items("audit", "--object", "volume/pg")
    words = [event for row in reversed(trail) for event in row.get("events", ())]
    assert words == [
        "volume.provisioning-began.v1",
        "volume.provisioned.v1",
        "volume.growth-began.v1",
        "volume.grown.v1",
        *("volume.hold-began.v1", "volume.held.v1"),
        *("volume.undeletion-began.v1", "volume.undeleted.v1"),
        *("volume.hold-began.v1", "volume.held.v1"),
        "volume.deletion-began.v1",
        "volume.deleted.v1",
    ]
    codes = {row.get("code") for row in box.items("audit", "--kind", "refused")}
    assert {"HW-V003", "HW-V002", "HW-G004"} <= codes
    tools = [row["argv"][:2] for row in box.items("audit", "--kind", "tool", "--limit", "500")]
    assert any("lvcreate" in word for argv in tools for word in argv)


def test_a_volume_in_use_is_kept_until_it_is_taken_back(box: Machine) -> None:
    box.run("volume", "create", "used", "1GiB", "--fs", "xfs", "--wait")
    box.run("volume", "attach", "used", "host/me", "--mount", "/mnt/used", "--wait")
    shown = box.run("volume", "show", "used").stdout
    for what in ("host/me", "/dev/hwbus/used", "/mnt/used"):
        assert what in shown
    box.run("volume", "attach", "used", "host/me", "--mount", "/mnt/used", "--wait")
    assert "host/me" in box.run("volume", "attach", "used", "host/you", code=7).stderr
    assert "HW-V010" in box.run("volume", "delete", "used", "--yes", code=7).stderr
    assert "HW-V013" in box.run("volume", "limit", "used", "--read-iops", "9", code=5).stderr
    box.run("volume", "grow", "used", "2GiB", "--wait")
    box.run("volume", "detach", "used", "--wait")
    box.run("volume", "limit", "used", "--read-iops", "9")
    [volume] = box.items("volume", "ls")
    assert (volume["consumer"], volume["limits"]) == ("", {"read_iops": 9})
    box.run("volume", "delete", "used", "--yes", "--wait")


def test_the_same_command_id_is_one_decision(box: Machine) -> None:
    [first] = box.items("node", "cordon", "laptop", "--id", "once")
    [second] = box.items("node", "cordon", "laptop", "--id", "once")
    assert (second["seq"], second["version"]) == (first["seq"], first["version"])
    box.run("node", "uncordon", "laptop")


def test_show_call_is_what_the_nats_tool_would_send_and_does_nothing(box: Machine) -> None:
    head = box.names("events", "tail", "-n", "1")
    box.run("--show-call", "volume", "create", "never", "1GiB")
    assert box.names("events", "tail", "-n", "1") == head


def test_events_can_be_followed_from_the_record(box: Machine) -> None:
    [last] = box.names("events", "tail", "-n", "1")
    [commit] = box.items("events", "show", last)
    assert commit["seq"] == int(last)
    assert commit["commit"]["events"]


def test_doctor_finds_the_control_plane_well(box: Machine) -> None:
    findings = {f["what"]: f["state"] for f in box.items("doctor")}
    assert findings["control plane"] == "ok"
    assert findings["nodes"] == "ok"
    assert findings["clocks"] == "ok"
    assert "trouble" not in findings.values()


def test_live_names_are_completed(box: Machine) -> None:
    done = box.run("__complete", "node", "cordon", "")
    assert "laptop" in done.stdout.split("\x1fbegin")[1]
