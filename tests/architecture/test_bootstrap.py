"""The set-up script makes what is missing, says so, and may be run twice or broken off anywhere."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A Python that notes what it is asked, and makes of itself what a virtual environment would hold.
STUB = """#!/bin/sh
printf '%s\\n' "$*" >>"$NOTES"
case "$*" in
*ensurepip*) [ ! -e "$NOTES.no-venv" ] ;;
*-venv*version_info*) echo python3.11-venv ;;
"-m venv --clear "*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
*"import pip"*) exit "${FITS:-0}" ;;
"-m pip install "*) sleep "${PIP_TAKES_S:-0}"; [ ! -e "$NOTES.no-pip" ] ;;
*) : ;;
esac
"""


class Tree:
    """A checkout with a stub for Python."""

    def __init__(self, root: Path) -> None:
        self.root = root / "tree"
        (self.root / "scripts").mkdir(parents=True)
        for name in ("scripts/bootstrap", "requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root / name)
        self.python = root / "python3"
        self.python.write_text(STUB)
        self.python.chmod(0o755)
        self.notes = root / "notes"
        self.environment = {
            **os.environ,
            "PYTHON": str(self.python),
            "NOTES": str(self.notes),
            "HWBUS_APT": "no",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / "scripts" / "bootstrap", *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, list[str]]:
        with self.start(*arguments, **environment) as process:
            _, said = process.communicate(timeout=60)
        return process.returncode, said.splitlines()

    def asked(self, what: str) -> int:
        return sum(what in line for line in self.notes.read_text().splitlines())

    def lacks(self, what: str) -> None:
        Path(f"{self.notes}.no-{what}").touch()

    def gets(self, what: str) -> None:
        Path(f"{self.notes}.no-{what}").unlink()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def processor_s() -> float:
    """Return what ended children have used, however many others were at work meanwhile."""
    used = os.times()
    return used.children_user + used.children_system


def test_the_first_run_makes_the_environment_and_says_so(tree: Tree) -> None:
    status, said = tree.run()
    assert status == 0, said
    assert any("making .venv" in line for line in said)
    assert any("is ready after" in line for line in said)
    assert tree.asked("--require-hashes") == 2
    assert tree.asked("--editable") == 1


def test_the_second_run_is_silent_asks_python_nothing_and_takes_no_time(tree: Tree) -> None:
    tree.run()
    tree.notes.write_text("")
    before_s = processor_s()
    assert tree.run() == (0, [])
    assert processor_s() - before_s < 0.3
    assert tree.notes.read_text() == ""


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml", "scripts/bootstrap"])
def test_a_change_of_what_it_is_made_from_makes_it_anew(tree: Tree, changed: str) -> None:
    tree.run()
    with (tree.root / changed).open("a") as file:
        file.write("\n# changed\n")
    assert tree.run()[0] == 0
    assert tree.asked("--editable") == 2


def test_a_copy_of_the_tree_does_not_use_the_environment_of_the_original(tree: Tree) -> None:
    tree.run()
    copy = tree.root.with_name("copy")
    shutil.copytree(tree.root, copy)
    tree.root = copy
    assert tree.run()[0] == 0
    assert tree.asked(f"-m venv --clear {copy}") == 1


def test_after_an_interruption_it_starts_over(tree: Tree) -> None:
    tree.lacks("pip")
    status, said = tree.run()
    assert status == 1
    assert said[-1] == "hwbus: pip could not install requirements.lock; run me again"
    tree.gets("pip")
    assert tree.run(PYTHON="", PATH=f"{tree.python.parent}:{os.environ['PATH']}")[0] == 0
    assert tree.asked("-m venv --clear") == 2
    assert tree.run() == (0, [])


def test_when_it_is_killed_in_the_middle_the_next_run_repairs_it(tree: Tree) -> None:
    with tree.start(PIP_TAKES_S="0.4") as process:
        while not (tree.notes.exists() and tree.asked("pip install")):
            assert process.poll() is None
            threading.Event().wait(0.01)
        process.kill()
        process.wait(timeout=10)
    assert not (tree.root / ".venv" / ".hwbus-ready").exists()
    assert tree.run()[0] == 0
    assert (tree.root / ".venv" / ".hwbus-ready").exists()


def test_of_two_at_once_one_works_and_the_other_waits(tree: Tree) -> None:
    with tree.start(PIP_TAKES_S="0.3") as first, tree.start(PIP_TAKES_S="0.3") as second:
        said = first.communicate(timeout=60)[1] + second.communicate(timeout=60)[1]
    assert (first.returncode, second.returncode) == (0, 0)
    assert "another set-up is running here" in said
    assert tree.asked("-m venv --clear") == 1
    assert tree.asked("--editable") == 1


def test_without_a_new_enough_python_it_says_which_one_it_needs(tree: Tree) -> None:
    status, said = tree.run(PYTHON="/nowhere/python3")
    assert status == 1
    assert len(said) == 1
    assert "Python 3.11 or newer is needed" in said[0]


def test_who_may_not_install_packages_is_told_the_one_to_install(tree: Tree) -> None:
    tree.lacks("venv")
    status, said = tree.run()
    assert status == 1
    assert len(said) == 1
    assert "as root, apt-get install python3.11-venv" in said[0]


PACKAGE = """#!/bin/sh
case "$*" in *download*) : >prometheus_2_any.deb ;; esac
[ ! -e "$NOTES.no-apt" ]
"""
UNPACK = """#!/bin/sh
mkdir -p "$NOTES.d/usr/bin"; printf '#!/bin/sh\n' >"$NOTES.d/usr/bin/promtool"
chmod 755 "$NOTES.d/usr/bin/promtool"; exec tar -c -C "$NOTES.d" ./usr/bin/promtool
"""


def with_packages(tree: Tree) -> dict[str, str]:
    """Let root find a package manager of its own, that brings promtool."""
    folder = tree.root.with_name("bin")
    folder.mkdir()
    names = {"apt-get": PACKAGE, "dpkg-deb": UNPACK, "id": "#!/bin/sh\necho 0\n"}
    for name, text in names.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {"HWBUS_APT": "yes", "PATH": f"{folder}:/usr/bin:/bin"}


def test_promtool_is_taken_out_of_its_package_once_and_nothing_is_installed(tree: Tree) -> None:
    environment = with_packages(tree)
    status, said = tree.run("--promtool", **environment)
    assert status == 0, said
    assert "getting promtool" in said[-1]
    promtool = tree.root / ".venv" / "bin" / "promtool"
    assert os.access(promtool, os.X_OK)
    assert sorted(promtool.parents[1].glob("promtool.*")) == []
    assert tree.run("--promtool", **environment) == (0, [])


def test_when_promtool_cannot_be_had_that_is_said_and_nothing_is_left_over(tree: Tree) -> None:
    environment = with_packages(tree)
    tree.lacks("apt")
    status, said = tree.run("--promtool", **environment)
    assert status == 1
    assert said[-1].startswith("hwbus: apt-get download prometheus failed")
    assert sorted((tree.root / ".venv").glob("promtool*")) == []


def test_an_option_nobody_knows_is_not_ignored(tree: Tree) -> None:
    status, said = tree.run("--labb")
    assert status == 1
    assert said[-1].startswith("hwbus: unknown option --labb")
