"""The command line starts fast, because it imports almost nothing."""

import subprocess
import sys

import pytest

from hwbus.cli.tree import COMMANDS, root_help
from tests.support.cli import Stage

_ONLY_WITH_A_BUS = {"nats", "structlog", "hwbus.jetstream", "aggregates", "projectors"}


def imported_by(*argv: str) -> set[str]:
    """Return the modules that ``hwbus *argv`` imports."""
    probe = (
        "import sys; sys.argv = ['hwbus', *sys.argv[1:]]\n"
        "from hwbus.__main__ import main\n"
        "main()\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *argv], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_help_imports_neither_nats_nor_cyclopts_nor_rich() -> None:
    assert not {"nats", "cyclopts", "rich", "asyncio", "msgspec"} & imported_by("--help")


@pytest.mark.parametrize("argv", [("volume", "--help"), ("version",), ("explain", "HW-P003")])
def test_what_needs_no_bus_does_not_import_it(argv: tuple[str, ...]) -> None:
    loaded = imported_by(*argv)
    assert not _ONLY_WITH_A_BUS & loaded


def test_a_command_imports_its_own_family_and_what_it_waits_for() -> None:
    loaded = imported_by("volume", "create", "--help")
    assert not _ONLY_WITH_A_BUS & loaded
    families = {f"hwbus.cli.{where.partition(':')[0]}" for _, where, _, _ in COMMANDS}
    assert families & loaded == {"hwbus.cli.volumes", "hwbus.cli.operations"}


def test_help_names_every_command(stage: Stage) -> None:
    text = root_help()
    assert stage.run("--help").out == text
    for name, _, _, _ in COMMANDS:
        assert f"\n  {name} " in text


@pytest.mark.parametrize("name", [name for name, _, _, _ in COMMANDS])
def test_every_command_has_help_of_its_own(
    stage: Stage, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.run(name, "--help").code == 0
    assert f"Usage: hwbus {name}" in capsys.readouterr().out
