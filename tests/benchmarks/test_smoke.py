"""The figures are there, all of them, and none is nonsense; how good they are is not asked here."""

import math
from pathlib import Path

import msgspec
import pytest

from tests.benchmarks.__main__ import SECTIONS, Report, main

NAMES = {
    "commands": ("commands, 1 in", "commands, 64 in", "commands, 256 in", "p99, open loop 1,000/s"),
    "reading": ("replay into aggregates", "rebuild of all views from a million"),
    "holding": ("idle: RSS", "volumes: RSS", "a page of", "kill -9 to ready", "seen in a view"),
    "starting": ("hwbus version", "hwbus --help", "completion"),
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
}


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
@pytest.mark.parametrize("section", [name for name in SECTIONS if name != "lab"])
def test_every_figure_of_a_section_is_there_and_is_sane(section: str, tmp_path: Path) -> None:
    report = figures_of(section, tmp_path)
    sane(report)
    for name in NAMES[section]:
        assert any(name in row.name for row in report.figures), name


@pytest.mark.slow
@pytest.mark.lab
def test_every_figure_of_the_lab_is_there_and_is_sane(tmp_path: Path) -> None:
    report = figures_of("lab", tmp_path)
    sane(report)
    for name in NAMES["lab"]:
        assert any(name in row.name for row in report.figures), name
