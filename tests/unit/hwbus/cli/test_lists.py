"""Every list, in every form: what is printed is compared word by word."""

from pathlib import Path

import pytest

from tests.support.cli import OPERATION, Stage
from tests.unit.hwbus.cli.rows import furnish

GOLDEN = Path(__file__).with_name("golden")
UTC = {"TZ": "UTC"}
LISTS = {
    "node": ("node", "ls"),
    "disk": ("disk", "ls"),
    "pool": ("pool", "ls"),
    "volume": ("volume", "ls"),
    "replica": ("replica", "ls"),
    "snapshot": ("snapshot", "ls"),
    "policy": ("policy", "ls"),
    "group": ("group", "ls"),
    "schedule": ("schedule", "ls"),
    "class": ("qos", "class", "ls"),
    "target": ("backup", "target", "ls"),
    "backup": ("backup", "ls"),
    "op": ("op", "ls"),
    "audit": ("audit",),
    "usage": ("usage",),
    "drift": ("drift",),
    "node-show": ("node", "show", "n1"),
    "disk-show": ("disk", "show", "wwn-2"),
    "pool-show": ("pool", "show", "fast"),
    "volume-show": ("volume", "show", "pg"),
    "snapshot-show": ("snapshot", "show", "monday"),
    "policy-show": ("policy", "show", "roomy"),
    "class-show": ("qos", "class", "show", "gold"),
    "qos-show": ("qos", "show", "pg"),
    "target-show": ("backup", "target", "show", "s3"),
    "backup-show": ("backup", "show", "s3", "pg-1"),
    "op-show": ("op", "show", OPERATION),
    "explain": ("explain", "HW-P003"),
}
NAMES = {
    "node": "node/n1\n",
    "disk": "disk/wwn-1\ndisk/wwn-2\n",
    "pool": "pool/n1/fast\n",
    "volume": "volume/pg\n",
    "replica": "replica/n1/pg\n",
    "snapshot": "snapshot/monday\n",
    "policy": "policy/roomy\npolicy/spares\n",
    "group": "group/shop\n",
    "schedule": "schedule/nightly\nschedule/often\n",
    "class": "qos/gold\n",
    "target": "target/s3\n",
    "backup": "backup/s3/pg-1\n",
    "op": f"operation/{OPERATION}\n",
    "audit": "audit/accepted/5\naudit/refused/2\naudit/tool/3\n",
    "usage": "pool/n1/fast\n",
    "drift": "volume-foreign/lv/n1/fast/scratch\n",
}


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize("form", ["table", "wide", "json"])
@pytest.mark.parametrize("name", LISTS)
def test_what_is_printed_is_what_was_agreed(stage: Stage, name: str, form: str) -> None:
    furnish(stage)
    done = stage.run(*LISTS[name], "-o", form)
    assert done.code == 0
    path = GOLDEN / f"{name}.{form}.txt"
    agreed = path.read_text(encoding="utf-8") if path.exists() else ""
    if done.out != agreed:
        path.with_suffix(".new").write_text(done.out, encoding="utf-8")
    assert done.out == agreed, f"if this is right: mv {path.with_suffix('.new')} {path}"


@pytest.mark.parametrize("name", NAMES)
def test_names_are_addresses_one_a_line(stage: Stage, name: str) -> None:
    furnish(stage)
    assert stage.run(*LISTS[name], "-o", "name").out == NAMES[name]


@pytest.mark.parametrize("name", NAMES)
def test_json_has_one_shape_for_every_list(stage: Stage, name: str) -> None:
    furnish(stage)
    shape = stage.run(*LISTS[name], "-o", "json").json
    assert list(shape) == ["kind", "apiVersion", "seq", "items"]
    assert shape["seq"] == 7


@pytest.mark.parametrize("name", NAMES)
def test_yaml_says_the_same_as_json(stage: Stage, name: str) -> None:
    import yaml

    furnish(stage)
    in_json = stage.run(*LISTS[name], "-o", "json").json
    assert yaml.safe_load(stage.run(*LISTS[name], "-o", "yaml").out) == in_json


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_list_says_on_stderr_what_to_do(stage: Stage, name: str) -> None:
    done = stage.run(*LISTS[name])
    assert (done.code, done.out) == (0, "")
    assert done.err.strip()


def test_state_has_a_glyph_and_a_colour_on_a_terminal(stage: Stage) -> None:
    furnish(stage)
    assert "\x1b[32m●\x1b[0m \x1b[32mready\x1b[0m" in stage.run("node", "ls", tty=True).out


def test_no_color_keeps_the_glyph_and_drops_the_colour(stage: Stage) -> None:
    furnish(stage)
    out = stage.run("node", "ls", tty=True, env={"NO_COLOR": "1"}).out
    assert "● ready" in out
    assert "\x1b[" not in out


def test_lines_are_cut_to_a_narrow_terminal_and_nowhere_else(stage: Stage) -> None:
    furnish(stage)
    narrow = stage.run("disk", "ls", tty=True, env={"COLUMNS": "30", "NO_COLOR": "1"})
    assert max(map(len, narrow.out.splitlines())) == 30
    assert "ext4" in stage.run("disk", "ls", env={"COLUMNS": "30"}).out


def test_simulated_storage_is_called_simulated(stage: Stage) -> None:
    furnish(stage)
    for noun in ("disk", "pool", "volume", "replica", "snapshot"):
        assert "the storage of n1 is simulated" in stage.run(noun, "ls").err
    assert "simulated" in stage.run("node", "ls").out


def test_a_disk_that_is_a_volume_says_which(stage: Stage) -> None:
    import msgspec

    furnish(stage)
    [row, _] = stage.rows["disks"]
    stage.rows["disks"] = (msgspec.structs.replace(row, pool="", volume="wal"),)
    assert stage.run("disk", "ls").out.splitlines()[1].endswith("volume/wal")
    drained = stage.run("disk", "drain", "wwn-1")
    assert drained.code == 2
    assert "is the volume wal, and in no pool" in drained.err


def test_what_others_wrote_cannot_move_the_cursor(stage: Stage) -> None:
    import msgspec

    furnish(stage)
    [row, _] = stage.rows["disks"]
    stage.rows["disks"] = (msgspec.structs.replace(row, model="\x1b[2J\nroot", detail="\x07"),)
    out = stage.run("disk", "ls", "-o", "wide").out
    assert "\x1b" not in out
    assert "\\x1b[2J\\nroot" in out


@pytest.mark.parametrize(
    ("argv", "view", "where"),
    [
        (("disk", "ls", "--free"), "disks", {"state": "free"}),
        (("disk", "ls", "--blank", "--node", "n1"), "disks", {"state": "free", "node": "n1"}),
        (("pool", "list", "--node", "n1"), "pools", {"node": "n1"}),
        (("vol", "ls", "--pool", "fast"), "volumes", {"pool": "fast"}),
        (("snap", "ls", "--volume", "volume/pg"), "snapshots", {"volume": "pg"}),
        (("snap", "ls", "--schedule", "nightly"), "snapshots", {"schedule": "nightly"}),
        (("sched", "ls", "--group", "group/shop"), "schedules", {"group": "shop"}),
        (("op", "ls"), "operations", {"ended": False}),
        (("op", "ls", "--all", "--object", "volume/pg"), "operations", {"object": "volume/pg"}),
        (("usage", "--level", "cluster"), "usage", {"level": "cluster"}),
        (("usage", "--level", "all"), "usage", {}),
        (
            ("audit", "--by", "bob", "--object", "volume/pg", "--code", "HW-V004", "--text", "x"),
            "audit",
            {"actor": "bob", "object": "volume/pg", "code": "HW-V004", "text": "x"},
        ),
        (("audit", "--since", "2h"), "audit", {"since": "2026-01-01T10:00:00Z"}),
        (
            ("audit", "--correlation", "c", "--kind", "tool"),
            "audit",
            {"correlation": "c", "kind": "tool"},
        ),
    ],
)
def test_filters_are_asked_of_the_view(
    stage: Stage, argv: tuple[str, ...], view: str, where: dict[str, object]
) -> None:
    stage.run(*argv)
    assert stage.heard[0].subject == f"hwbus.q.{view}"
    assert stage.said(0)["where"] == where
