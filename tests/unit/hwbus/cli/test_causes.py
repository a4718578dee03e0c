"""Why, up to who wanted it; what came of it, down to the tools; and who made a volume as it is."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from schemas.deleting import VolumeDeleted
from schemas.operation_views import AuditKind, AuditRow
from schemas.replica import ReplicaCreated
from schemas.volume import (
    Candidate,
    Filesystem,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeProvisioned,
    VolumeProvisioningBegan,
)
from tests.support.cli import OPERATION, UID, Stage, ago

GIB = 1 << 30
GROWTH = "01j0000000000000000000000g"
DELETED = VolumeDeleted(volume="pg", uid=UID, operation=GROWTH)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def row(kind: AuditKind, seq: int, **fields: Any) -> AuditRow:
    """Return a row a second younger than the one with the sequence before."""
    return AuditRow(kind=kind, seq=seq, at=ago(minutes=5) + timedelta(seconds=seq), **fields)


def commit(seq: int, event: str, **fields: Any) -> AuditRow:
    return row(AuditKind.ACCEPTED, seq, events=(f"{event}.v1",), **fields)


def tool(seq: int, *argv: str, **fields: Any) -> AuditRow:
    return row(
        AuditKind.TOOL, seq, argv=argv, exit_status=0, node="n1", actor="worker:n1", **fields
    )


def story() -> tuple[AuditRow, ...]:
    """A volume that ada wanted, with a step that was refused once, and a look of the node."""
    of = {"correlation": OPERATION}
    step = {**of, "actor": "hwbus", "cause": f"operation:{OPERATION}"}
    return (
        commit(
            1, "volume.provisioning-began", actor="ada", command="wish", object="volume/pg", **of
        ),
        commit(2, "operation.started", command="op.start.0", **step),
        row(AuditKind.REFUSED, 7, command="op.room.0", word="pool.reserve-room.v1", **step),
        commit(3, "operation.step-refused", cause="command:op.room.0", actor="hwbus", **of),
        commit(4, "replica.wanted", command="op.leg.0", object="replica/n1/pg", **step),
        tool(8, "lvcreate", "--name", "pg", cause="event:4", **of),
        commit(5, "replica.created", actor="worker:n1", cause="event:4", **of),
        commit(6, "pool.room-settled", actor="hwbus", cause="event:5", **of),
        commit(9, "operation.ended", actor="hwbus", cause="rule", **of),
        tool(10, "lsblk", "-J", cause="scan:3"),
        commit(11, "disk.changed", actor="worker:n1", cause="scan:3"),
        tool(12, "lvs", cause="event:99"),
        tool(13, "dmsetup", cause=f"loan:{OPERATION}"),
    )


@pytest.fixture
def told(stage: Stage) -> Stage:
    stage.rows = {"audit": story()}
    for _ in range(12):
        stage.write("hwbus.evt.volume.-.pg", DELETED)
    return stage


def causes(stage: Stage, seq: int) -> tuple[list[int], dict[str, Any]]:
    [item] = stage.run("events", "show", str(seq), "--causes", "-o", "json").json["items"]
    return [one["seq"] for one in item["causes"]["rows"]], item["causes"]["root"]


@pytest.mark.parametrize(
    ("seq", "above", "root"),
    [
        (1, [1], ("ada", "")),
        (2, [2, 1], ("ada", "")),
        (3, [3, 7, 1], ("ada", "")),
        (6, [6, 5, 4, 1], ("ada", "")),
        (9, [9, 1], ("ada", "")),
        (11, [11], ("worker:n1", "scan:3")),
    ],
)
def test_every_commit_leads_up_to_who_wanted_it(
    told: Stage, seq: int, above: list[int], root: tuple[str, str]
) -> None:
    rows, found = causes(told, seq)
    assert (rows, (found["actor"], found["why"]), found["lost"]) == (above, root, False)


def effects(stage: Stage, seq: int) -> list[tuple[int, int]]:
    [item] = stage.run("event", "show", str(seq), "--effects", "-o", "json").json["items"]
    return [(one["depth"], one["row"]["seq"]) for one in item["effects"]]


def test_what_came_of_a_wish_is_a_tree_down_to_the_tools(told: Stage) -> None:
    first = [(1, 2), (1, 4), (2, 5), (3, 6), (2, 8), (1, 7), (2, 3), (1, 9), (1, 13)]
    assert effects(told, 1) == first
    assert effects(told, 4) == [(1, 5), (2, 6), (1, 8)]
    assert effects(told, 6) == []


def test_the_tree_is_drawn_with_commands_in_one_line_each(
    told: Stage, agreed: Callable[[str, str], None]
) -> None:
    out = told.run("event", "show", "1", "--effects", "--causes").out
    agreed("event-tree.table", out)
    assert "Because of\n          ada\n" in out
    assert "    tool  2026-01-01 11:55:08    lvcreate --name pg: exit 0 in 0 ms  worker:n1\n" in out
    assert "refused" in out
    assert told.run("event", "show", "6", "--effects").out.endswith("What came of it\nnothing\n")


def test_a_cause_that_is_not_in_the_record_is_said_to_be_lost(told: Stage) -> None:
    told.rows["audit"] = (*told.rows["audit"], commit(12, "x.y", cause="command:nobody"))
    _, root = causes(told, 12)
    assert (root["lost"], root["why"]) == (True, "command:nobody")
    assert "not in the record: command:nobody" in told.run("event", "show", "12", "--causes").out


def test_causes_that_go_round_in_a_circle_come_to_an_end(told: Stage) -> None:
    told.rows["audit"] = (commit(1, "a.b", cause="event:2"), commit(2, "b.a", cause="event:1"))
    assert causes(told, 1)[1]["lost"]
    assert effects(told, 1) == [(1, 2)]


def test_a_commit_that_the_audit_does_not_have_yet_is_no_riddle(told: Stage) -> None:
    done = told.run("event", "show", "10", "--causes")
    assert (done.code, "has not reached 10" in done.err) == (1, True)


CANDIDATES = (
    Candidate(node="n1", pool="fast", score=9, room_bytes=20 * GIB),
    Candidate(node="n2", pool="slow", code="HW-P003", because="full"),  # type: ignore[arg-type]
)


def grown(stage: Stage) -> None:
    """A volume that was made by ada and grown by a policy."""
    about: dict[str, Any] = {"volume": "pg", "operation": OPERATION}
    stage.write(
        "hwbus.evt.volume.-.pg",
        VolumeProvisioningBegan(
            **about,
            uid=UID,
            deadline=ago(),
            size_bytes=GIB,
            filesystem=Filesystem.EXT4,
            candidates=CANDIDATES,
        ),
        correlation=OPERATION,
    )
    placed: dict[str, Any] = {"uid": UID, "node": "n1", "pool": "fast"}
    stage.write(
        "hwbus.evt.replica.n1.pg",
        ReplicaCreated(volume="pg", **placed, size_bytes=GIB, device="/dev/fast/pg"),
        actor="worker:n1",
        correlation=OPERATION,
    )
    stage.write(
        "hwbus.evt.volume.-.pg",
        VolumeProvisioned(**about, **placed, size_bytes=GIB),
        correlation=OPERATION,
    )
    stage.write(
        "hwbus.evt.volume.-.pg",
        VolumeGrowthBegan(
            volume="pg",
            operation=GROWTH,
            **placed,
            deadline=ago(),
            from_bytes=GIB,
            size_bytes=2 * GIB,
        ),
        actor="policy:roomy",
        correlation=GROWTH,
    )
    stage.write(
        "hwbus.evt.volume.-.pg",
        VolumeGrown(volume="pg", operation=GROWTH, size_bytes=2 * GIB),
        actor="hwbus",
        correlation=GROWTH,
    )
    of, growth = {"correlation": OPERATION}, {"correlation": GROWTH}
    stage.rows["audit"] = (
        commit(1, "volume.provisioning-began", actor="ada", command="wish", **of),
        commit(2, "replica.created", actor="worker:n1", cause="event:1", **of),
        commit(3, "volume.provisioned", cause=f"operation:{OPERATION}", actor="hwbus", **of),
        commit(4, "volume.growth-began", actor="policy:roomy", cause="event:9", **growth),
        commit(5, "volume.grown", actor="hwbus", cause=f"operation:{GROWTH}", **growth),
        commit(9, "volume.filled", actor="worker:n1", cause="scan:7"),
    )


def test_each_field_of_a_volume_names_who_made_it_so(stage: Stage) -> None:
    grown(stage)
    items = stage.run("volume", "blame", "pg", "-o", "json").json["items"]
    found = {
        one["field"]: (one["value"], one["seq"], one["wanted_by"], one["policy"]) for one in items
    }
    assert found["filesystem"] == ("ext4", 1, "ada", "")
    assert found["device"] == ("/dev/fast/pg", 2, "ada", "")
    assert found["wanted_bytes"] == (2 * GIB, 4, "policy:roomy", "roomy")
    assert found["state"][:2] == ("ready", 5)
    assert found["state"][2:] == ("policy:roomy", "roomy")
    assert found["limits"] == ({}, 1, "ada", "")
    assert {"created_at", "seq", "version"}.isdisjoint(found)


def test_each_field_has_its_maker_also_as_it_was_and_when_it_is_gone(stage: Stage) -> None:
    grown(stage)
    stage.write("hwbus.evt.volume.-.pg", DELETED)
    items = stage.run("volume", "blame", "pg", "--at", "3", "-o", "json").json["items"]
    then = {one["field"]: (one["value"], one["seq"]) for one in items}
    assert then["state"] == ("ready", 3)
    assert then["wanted_bytes"] == (GIB, 1)
    assert stage.run("volume", "blame", "pg", "--at", "5").code == 0
    gone = stage.run("volume", "blame", "pg", "--at", "6")
    assert (gone.code, "hwbus volume ls --at 6" in gone.err) == (3, True)
    to_come = stage.run("volume", "blame", "pg", "--at", "99")
    assert (to_come.code, "1 to 6" in to_come.err) == (2, True)


def test_blame_is_a_table_of_the_fields_that_say_something(stage: Stage) -> None:
    grown(stage)
    table = stage.run("volume", "blame", "pg").out.splitlines()
    assert table[0].split() == [
        *("FIELD", "VALUE", "SEQ", "AT", "EVENT", "COMMAND", "WANTED-BY", "POLICY")
    ]
    assert not any(line.startswith(("consumer", "encrypted", "used")) for line in table)
    wide = stage.run("volume", "blame", "pg", "-o", "wide").out.splitlines()
    assert len(wide) > len(table)
    assert stage.run("volume", "blame", "pg", "-o", "name").out.splitlines()[0] == "uid"


def test_a_volume_of_the_same_name_inherits_nothing(stage: Stage) -> None:
    grown(stage)
    stage.write("hwbus.evt.volume.-.pg", DELETED)
    done = stage.run("volume", "blame", "pg")
    assert (done.code, "no volume" in done.err) == (3, True)
    again = VolumeProvisioningBegan(
        volume="pg",
        operation=GROWTH,
        uid=GROWTH,
        deadline=ago(),
        size_bytes=3 * GIB,
        candidates=(),
    )
    stage.write("hwbus.evt.volume.-.pg", again)
    items = stage.run("volume", "blame", "pg", "-o", "json").json["items"]
    assert {one["seq"] for one in items} == {7}


@pytest.mark.parametrize("verb", ["blame", "why"])
def test_blame_and_why_are_printed_as_was_agreed(
    stage: Stage, agreed: Callable[[str, str], None], verb: str
) -> None:
    grown(stage)
    agreed(f"volume-{verb}.table", stage.run("volume", verb, "pg").out)


def test_why_it_is_where_it_is_is_told_from_the_event_for_ever(stage: Stage) -> None:
    grown(stage)
    stage.write("hwbus.evt.volume.-.pg", DELETED)
    out = stage.run("volume", "why", "pg").out
    assert "n1/fast  20GiB      9" in out
    assert "HW-P003 full" in out
    [item] = stage.run("volume", "why", "pg", "-o", "json").json["items"]
    assert (item["seq"], len(item["event"]["candidates"])) == (1, 2)
    assert stage.run("volume", "why", "nobody").code == 3


def test_show_call_of_blame_and_why_reads_the_log(stage: Stage) -> None:
    for verb in ("blame", "why"):
        assert "hwbus.evt.volume.-.pg" in stage.run("volume", verb, "pg", "--show-call").out
