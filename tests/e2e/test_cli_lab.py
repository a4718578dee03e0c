"""The command line in front of real kernels: what it says is what LVM has."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.machine import Machine

pytestmark = pytest.mark.lab


@pytest.fixture
def box() -> Iterator[Machine]:
    # The path of a socket must not be long, and pytest's own folders are.
    with TemporaryDirectory(prefix="hwbus-") as home:
        box = Machine(Path(home))
        box.run("lab", "up", "--nodes", "2", "--disks", "1", "--disk-size", "2GiB")
        try:
            yield box
        finally:
            box.run("lab", "down")


def test_commands_reach_the_lab_without_flags_and_real_lvm_behind_it(box: Machine) -> None:
    assert box.names("node", "ls") == ["node/n1", "node/n2"]
    disks = box.names("disk", "ls", "--free", "--node", "n1")
    box.run("pool", "create", "fast", "--node", "n1", "--disk", *disks, "--wait")
    box.run("volume", "create", "pg", "1GiB", "--wait")

    shown = box.run(
        *("lab", "exec", "n1", "--", "lvs", "--noheadings", "--units", "b", "--nosuffix"),
        *("-o", "lv_name,lv_size,lv_tags", "fast"),
    ).stdout.split()
    [volume] = box.items("volume", "ls")
    assert shown[:2] == ["pg", str(volume["size_bytes"])]
    assert f"hwbus.volume={volume['uid']}" in shown[2]

    box.run("lab", "kill", "n2")
    box.run("lab", "exec", "n2", "--", "true", code=11)
    box.run("lab", "boot", "n2")
    assert box.run("lab", "exec", "n2", "--", "sh", "-c", "exit 3", code=3).stdout == ""
    box.run("volume", "delete", "pg", "--hold", "0s", "--yes", "--wait")
    assert "pg" not in box.run("lab", "exec", "n1", "--", "lvs", "--noheadings").stdout
