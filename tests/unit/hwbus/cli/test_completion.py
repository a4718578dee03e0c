"""Completion knows the names that live, and remembers them when nobody answers."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.support.cli import OPERATION, Stage
from tests.unit.hwbus.cli.rows import furnish

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(stage: Stage, capsys: pytest.CaptureFixture[str]) -> Complete:
    def ask(*words: str) -> list[str]:
        stage.run("__complete", *words)
        lines = capsys.readouterr().out.split("\x1fbegin")[-1].splitlines()
        return [line.split("\t")[0] for line in lines if line]

    return ask


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("volume", "delete", ""), ["pg"]),
        (("volume", "grow", "p"), ["pg"]),
        (("snapshot", "rollback", ""), ["monday"]),
        (("snapshot", "create", ""), ["pg"]),
        (("node", "cordon", ""), ["n1"]),
        (("disk", "reserve", ""), ["wwn-1", "wwn-2"]),
        (("pool", "show", ""), ["fast"]),
        (("pool", "create", "new", "--node", ""), ["n1"]),
        (("pool", "create", "new", "--node", "n1", "--disk", ""), ["wwn-1", "wwn-2"]),
        (("op", "watch", ""), [OPERATION]),
    ],
)
def test_names_are_those_that_live(
    stage: Stage, complete: Complete, words: tuple[str, ...], names: list[str]
) -> None:
    furnish(stage)
    assert complete(*words) == names


def test_where_nobody_answers_the_last_names_are_offered(stage: Stage, complete: Complete) -> None:
    furnish(stage)
    stage.run("volume", "ls")
    stage.unreachable = True
    assert complete("volume", "delete", "") == ["pg"]


def test_where_nobody_ever_answered_there_are_no_names_and_no_noise(
    stage: Stage, complete: Complete
) -> None:
    stage.unreachable = True
    assert complete("volume", "delete", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_every_shell(stage: Stage, shell: str) -> None:
    script = stage.run("completion", "show", shell).out
    for word in ("volume", "cordon", "__complete"):
        assert word in script


def test_the_bash_script_is_bash(stage: Stage) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    script = stage.run("completion", "show", "bash").out
    subprocess.run([bash, "-n"], input=script, text=True, check=True)


def test_install_puts_the_script_where_the_shell_looks(stage: Stage) -> None:
    done = stage.run("completion", "install", env={"SHELL": "/usr/bin/fish"})
    assert done.code == 0
    assert (stage.home / ".config" / "fish" / "completions" / "hwbus.fish").exists()


def test_an_unknown_shell_must_be_named(stage: Stage) -> None:
    assert stage.run("completion", "show", env={"SHELL": "/bin/tcsh"}).code == 2
