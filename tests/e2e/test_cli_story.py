"""The whole story on one machine: a real broker, real processes, simulated storage."""

import asyncio
import json
import os
import pwd
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwbus.cli.causes import Causes, Chain
from hwbus.client import Client
from hwbus.identity import Mint
from hwbus.jetstream import connect
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


def test_the_past_is_shown_and_the_views_are_as_the_log_says(box: Machine) -> None:
    [made] = box.items("volume", "create", "was", "1GiB", "--wait")
    [grown] = box.items("volume", "grow", "was", "2GiB", "--wait")
    before, after = str(made["seq"]), str(grown["seq"])
    assert box.items("volume", "show", "was", "--at", before)[0]["size_bytes"] == GIB
    assert box.items("volume", "show", "was", "--at", after)[0]["size_bytes"] == 2 * GIB
    [change] = box.items("diff", "--from", before, "--to", after, "--kind", "volume")
    assert {"field": "size_bytes", "before": GIB, "after": 2 * GIB} in change["fields"]
    assert "HW-H001" in box.run("volume", "ls", "--at", "999999", code=5).stderr
    assert "HW-H002" in box.run("volume", "ls", "--at", "9w", code=5).stderr
    box.run("projector", "rebuild", "volumes")
    assert "all are as the log says" in box.run("projector", "fsck").stderr
    box.run("volume", "delete", "was", "--hold", "0s", "--yes", "--wait")


def test_the_log_is_played_again_elsewhere_and_rehearsed(box: Machine, tmp_path: Path) -> None:
    log, rows, bundle = (str(tmp_path / name) for name in ("log", "rows", "bundle"))
    [made] = box.items("volume", "create", "again", "1GiB", "--wait")
    box.run("projector", "export", "--to", rows)
    box.run("audit", "archive", "--before", "1000000", "--to", log)
    nowhere = ("--server", "nats://127.0.0.1:1")
    rehearsed = box.run("rehearse", log, "--views", rows, *nowhere).stderr
    assert "all is as it was" in rehearsed
    assert " 0 rows compared" not in rehearsed
    played = box.run("replay", log, "--until-operation", made["operation"], "--steps", *nowhere)
    assert "volume/again  volume.provisioning-began" in played.stdout
    written = box.run("support-bundle", "--around", made["operation"], "--to", bundle)
    again = box.run("replay", bundle, "--steps", *nowhere)
    assert again.stdout.splitlines()[-1] == written.stdout.strip()
    assert re.search(r"ran on node-1-\w+: lvcreate .*: exit 0", again.stdout)
    assert "volume/again  volume.provisioned" in again.stdout
    assert "laptop" not in again.stdout + Path(bundle).read_text()
    box.run("volume", "delete", "again", "--hold", "0s", "--yes", "--wait")


def test_a_plan_changes_nothing_and_is_what_happens(box: Machine) -> None:
    [head] = box.names("events", "tail", "-n", "1")
    wish = ("volume", "create", "planned", "1GiB")
    [plan] = box.items(*wish, "--plan")
    [move] = plan["moves"]
    assert plan["events"]
    assert "HW-P003" in box.run("volume", "create", "big", "9TiB", "--plan", code=5).stdout
    assert box.items(*wish, "--plan", "--at", head)[0]["moves"] == [move]
    assert box.run(*wish, "--plan", "--at", "1", code=5).stdout
    assert box.names("events", "tail", "-n", "1") == [head]
    box.run(*wish, "--wait")
    row = next(v for v in box.items("volume", "ls") if v["name"] == "planned")
    assert move["target"] == f"{row['node']}/{row['pool']}"
    box.run("volume", "delete", "planned", "--hold", "0s", "--yes", "--wait")


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


CHANGING = ("lvcreate", "lvextend", "lvremove", "lvrename", "pvcreate", "vgcreate", "mkfs.ext4")


async def walked(url: str) -> list[tuple[str, Chain]]:
    """Return each tool that ran with the chain of its causes.

    The two streams are read side by side: a tool may be seen before the event that it was run for.
    """
    async with connect(url, name="test") as wires:
        client = Client(wires.bus, wires.log, actor="test", mint=Mint())
        chains: list[tuple[str, Chain]] = []
        for _ in range(100):
            causes = Causes(client)
            tools = (await client.query_all("audit", {"kind": "tool"})).items
            chains = [(tool["argv"][0], await causes.chain(tool)) for tool in tools]
            if not any(chain.root.lost for _, chain in chains):
                break
            await asyncio.sleep(0.2)
        return chains


def test_no_tool_ran_without_a_cause_that_leads_to_somebody(box: Machine) -> None:
    chains = asyncio.run(walked(box.report()["nats_url"]))
    assert [(tool, chain.root) for tool, chain in chains if chain.root.lost] == []
    assert all(chain.root.actor for _, chain in chains)
    me = pwd.getpwuid(os.getuid()).pw_name
    by_people = [chain for tool, chain in chains if tool in CHANGING]
    assert len(by_people) >= 8
    assert {chain.root.actor for chain in by_people} == {me}
    assert {len(chain.rows) > 1 for chain in by_people} == {True}
    others = {(c.root.actor, c.root.why.partition(":")[0]) for _, c in chains if c.root.actor != me}
    assert others <= {("worker:laptop", why) for why in ("scan", "health", "start")}


def test_doctor_finds_the_control_plane_well(box: Machine) -> None:
    findings = {f["what"]: f["state"] for f in box.items("doctor")}
    assert findings["control plane"] == "ok"
    assert findings["nodes"] == "ok"
    assert findings["clocks"] == "ok"
    assert "trouble" not in findings.values()


def test_live_names_are_completed(box: Machine) -> None:
    done = box.run("__complete", "node", "cordon", "")
    assert "laptop" in done.stdout.split("\x1fbegin")[1]
