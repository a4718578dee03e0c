"""What LVM on a real kernel said, read; the outputs were recorded in the lab, LVM 2.03.16."""

from pathlib import Path

import msgspec
import pytest

from node_workers.lvm_report import Report, parse, tag_value
from node_workers.ports import Execution, ToolFailedError

MIB = 1 << 20
RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> Execution:
    return msgspec.json.decode((RECORDED / f"{name}.json").read_bytes(), type=Execution)


def report(name: str = "fullreport") -> Report:
    return parse(recorded(name))


def test_a_group_is_read_with_its_tag_and_its_room() -> None:
    (group,) = report().groups
    assert (group.name, group.uid, group.missing_disks) == ("fast", "01pool", 0)
    assert (group.extent_bytes, group.size_bytes) == (4 * MIB, 502 * 4 * MIB)
    assert group.free_bytes == group.free_extents * group.extent_bytes
    assert group.metadata_free_bytes > 8 * MIB


def test_members_have_their_stamps_and_a_pv_without_group_is_an_orphan() -> None:
    seen = report()
    (group,) = seen.groups
    assert [(one.path, one.disk) for one in group.physical] == [
        ("/dev/ubde", "wwn-5000e"),
        ("/dev/ubdf", "wwn-5000f"),
    ]
    assert [(one.path, one.disk) for one in seen.orphans] == [("/dev/ubdg", "")]


def test_snapshots_are_read_with_what_they_are_of_and_whether_they_are_lost() -> None:
    volumes = {lv.name: lv for lv in report("fullreport-snapshots").groups[0].logical}
    origins = {name: lv.origin for name, lv in volumes.items() if lv.origin}
    assert origins == {"s1": "v1", "s2": "v2", "s3": "v3"}
    assert [name for name, lv in volumes.items() if lv.is_thick_snapshot] == ["s1", "s2"]
    assert [name for name, lv in volumes.items() if lv.invalid] == ["s2"]
    assert not any(lv.merging for lv in volumes.values())
    assert volumes["s1"].size_bytes == 8 * MIB


def test_volumes_are_read_by_layout() -> None:
    volumes = {lv.name: lv for lv in report().groups[0].logical}
    assert {name: (lv.layout[0], lv.stripes) for name, lv in volumes.items()} == {
        "hwbus-thin": ("thin", 1),
        "theirs": ("linear", 1),
        "v1": ("linear", 1),
        "v2": ("striped", 2),
        "v3": ("thin", 0),
    }
    assert [name for name, lv in volumes.items() if lv.is_thin_pool] == ["hwbus-thin"]
    assert (volumes["v1"].uid, volumes["v1"].cause) == ("uid-v1", "01c")
    assert volumes["theirs"].uid == ""
    assert (volumes["v3"].open, volumes["v1"].open) == (True, False)
    assert volumes["v3"].thin_pool == "hwbus-thin"
    assert volumes["v3"].data_percent is not None
    assert volumes["v1"].data_percent is None
    assert volumes["hwbus-thin"].when_full == "error"
    assert volumes["hwbus-thin"].metadata_bytes == 8 * MIB


def test_a_missing_disk_shows_in_the_group_and_in_the_volumes_on_it() -> None:
    (group,) = report("fullreport-missing-disk").groups
    assert group.missing_disks == 1
    assert [one.missing for one in group.physical] == [False, True]
    health = {lv.name: lv.health for lv in group.logical}
    assert (health["v1"], health["v2"]) == ("", "partial")
    assert not any(lv.active for lv in group.logical)


def test_a_group_that_is_not_there_is_an_empty_report() -> None:
    assert report("fullreport-no-such-group") == Report(groups=(), orphans=())


@pytest.mark.parametrize(
    "output", ["", "no json", "[]", '{"report": 1}', '{"report": [{"vg": [{"vg_name": "x"}]}]}']
)
def test_what_is_no_report_is_a_failed_tool(output: str) -> None:
    broken = msgspec.structs.replace(recorded("fullreport"), stdout=output)
    with pytest.raises(ToolFailedError):
        parse(broken)


def test_a_tag_has_only_characters_that_lvm_allows() -> None:
    assert tag_value("01hz/volume.create#1") == "01hz/volume.create#1"
    assert tag_value("ein Bäcker, zwei") == "ein-B-cker--zwei"
    assert len(tag_value("x" * 10_000)) == 128


@pytest.mark.parametrize("path", ["/dev/hwbus/pg", "/dev/mapper/hwbus:pg"])
def test_what_a_consumer_makes_of_its_volume_is_no_group_of_ours(path: str) -> None:
    execution = recorded("fullreport")
    inside = msgspec.structs.replace(execution, stdout=execution.stdout.replace("/dev/ubde", path))
    assert parse(inside).groups == ()
    alone = msgspec.structs.replace(execution, stdout=execution.stdout.replace("/dev/ubdg", path))
    assert parse(alone).orphans == ()
    assert len(parse(alone).groups) == 1
