"""The figures are there, all of them, and none is nonsense; how good they are is not asked here."""

import math
from pathlib import Path

import msgspec
import pytest

from tests.benchmarks.__main__ import SECTIONS, Report, main
from tests.benchmarks.replicated import Samples, rows

NAMES = {
    "commands": ("commands, 1 in", "commands, 64 in", "commands, 256 in", "p99, open loop 1,000/s"),
    "reading": ("replay into aggregates", "rebuild of all views from a million"),
    "verifying": ("signing a past", "verify the log", "verify a copy", "verify an archive"),
    "holding": ("idle: RSS", "volumes: RSS", "a page of", "kill -9 to ready", "seen in a view"),
    "starting": ("hwbus version", "hwbus --help", "completion"),
    "travelling": ("past: median", "past: slowest", "all rows of a point", "usage of a"),
    "planning": ("plan of one", "plan of 300", "plan of a drain", "as of the past"),
    "lab": (
        "asked to ready",
        "desk and driver",
        "worker itself",
        "its tools",
        "worker, RSS",
        "snapshot",
        "copy of",
        "another node",
    ),
    "replicated": ("write while a replica is added", "left alone", "writes of 4k", "a plain LV"),
}
LABS = ("lab", "replicated")


def figures_of(section: str, folder: Path) -> Report:
    file = folder / "bench.json"
    assert main(["--quick", "--only", section, "--json", str(file)]) == 0
    return msgspec.json.decode(file.read_bytes(), type=Report)


def sane(report: Report) -> None:
    assert report.figures
    for row in report.figures:
        assert math.isfinite(row.value), row
        assert row.spread[0] <= row.value <= row.spread[1], row
        assert row.value > 0, row
        assert row.ratio is None or (row.floor and row.ratio == row.value / row.floor), row
        assert (row.reached is None) == (not row.target), row


def test_every_section_has_its_rows_named() -> None:
    assert NAMES.keys() == SECTIONS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("section", [name for name in SECTIONS if name not in LABS])
def test_every_figure_of_a_section_is_there_and_is_sane(section: str, tmp_path: Path) -> None:
    report = figures_of(section, tmp_path)
    sane(report)
    for name in NAMES[section]:
        assert any(name in row.name for row in report.figures), name


@pytest.mark.slow
@pytest.mark.lab
def test_every_figure_of_the_lab_is_there_and_is_sane(tmp_path: Path) -> None:
    """A quick run of the lab has those of replicated volumes among its own."""
    report = figures_of("lab", tmp_path)
    sane(report)
    for name in (one for section in LABS for one in NAMES[section]):
        assert any(name in row.name for row in report.figures), name


def test_what_a_quick_run_leaves_out_has_its_rows_too() -> None:
    runs, by_block = [3.0, 1.0, 2.0], {"4k": [1.0, 2.0], "64k": [3.0, 4.0]}
    whole = msgspec.convert(
        {name: by_block if name.endswith("fio") else runs for name in Samples.__struct_fields__},
        Samples,
    )
    assert not rows(Samples())
    found = {row.name.removeprefix("replicated: "): row for row in rows(whole)}
    assert all(row.floor for name, row in found.items() if "left alone" not in name)
    assert found["hand-over, mounted nowhere"].value == 2.0
    assert found["power cut to last write read elsewhere"].spread == (1.0, 3.0)
    assert found["random writes of 4k"].value == 384.0
    assert found["sequential writes of 64k"].value == 3.5
    assert len(found) == 10
