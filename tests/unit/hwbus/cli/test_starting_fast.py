"""The command line starts fast, because it imports almost nothing."""

import resource
import subprocess
import sys

import pytest

from hwbus.cli.tree import COMMANDS, root_help
from tests.support.cli import Stage

_LIMIT_S = 0.5
_LIBRARIES = "import asyncio, cyclopts, msgspec, rich.console"
_TIMES_THE_LIBRARIES = 2.5


def imported_by(*argv: str) -> set[str]:
    """Return the modules that ``hwbus *argv`` imports."""
    probe = (
        "import sys; sys.argv = ['hwbus', *sys.argv[1:]]\n"
        "from hwbus.__main__ import main\n"
        "main()\n"
        "print('\\n', *sys.modules, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *argv], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_help_imports_neither_nats_nor_cyclopts_nor_rich() -> None:
    assert not {"nats", "cyclopts", "rich", "asyncio", "msgspec"} & imported_by("--help")


@pytest.mark.parametrize("argv", [("volume", "--help"), ("version",), ("explain", "HW-P003")])
def test_what_needs_no_bus_does_not_import_it(argv: tuple[str, ...]) -> None:
    loaded = imported_by(*argv)
    assert not {"nats", "structlog", "hwbus.jetstream", "aggregates", "projectors"} & loaded


@pytest.mark.parametrize("argv", [("--help",), ("version",), ("volume", "create", "--help")])
def test_it_starts_in_half_a_second(argv: tuple[str, ...]) -> None:
    # Processor time, and the best of a few: a busy machine must not make us look slow. Where two
    # programs share one core that is not enough: then the libraries alone are the measure.
    ours = min(_processor_s("-m", "hwbus", *argv) for _ in range(3))
    libraries = min(_processor_s("-c", _LIBRARIES) for _ in range(3))
    assert ours < max(_LIMIT_S, _TIMES_THE_LIBRARIES * libraries)


def _processor_s(*argv: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


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
