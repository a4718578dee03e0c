"""The rooms have no doors between them: the tree keeps the rules, and the rules have teeth."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "hwbus", "aggregates", "node_workers", "projectors")
LINTER = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]


def linted(tree: Path) -> tuple[int, str]:
    done = subprocess.run(
        LINTER, cwd=tree, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def contracts() -> list[dict[str, Any]]:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed: list[dict[str, Any]] = whole["tool"]["importlinter"]["contracts"]
    return listed


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


@pytest.fixture
def violated(copy: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    module, statement = request.param
    path = copy / module
    before = path.read_text() if path.exists() else None
    path.write_text((before or "") + f"\n{statement}\n")
    yield copy
    if before is None:
        path.unlink()
    else:
        path.write_text(before)


def test_the_tree_keeps_every_rule() -> None:
    status, said = linted(ROOT)
    assert status == 0, said


@pytest.mark.parametrize(
    ("violated", "broken"),
    [
        (("schemas/volume.py", "import hwbus.subjects"), "words"),
        (("schemas/units.py", "import time"), "words"),
        (("hwbus/desk.py", "import schemas.volume"), "wires"),
        (("hwbus/codec.py", "from schemas.words import KINDS"), "wires"),
        (("hwbus/memory.py", "import aggregates.volume"), "wires"),
        (("node_workers/plan.py", "import aggregates.volume"), "rooms"),
        (("projectors/usage.py", "import node_workers.plan"), "rooms"),
        (("aggregates/volume.py", "import random"), "decisions"),
        (("aggregates/pool.py", "import asyncio"), "decisions"),
        (("aggregates/placement.py", "import hwbus.identity"), "decisions"),
        (("projectors/usage.py", "import nats"), "ports"),
        (("node_workers/worker.py", "import hwbus.jetstream_log"), "ports"),
        (("hwbus/desk.py", "import hwbus.cli.app"), "front-doors"),
        (("node_workers/plan.py", "import projectors.__main__"), "front-doors"),
        (("hwbus/desk.py", "import nats"), "nats"),
        (("hwbus/desk.py", "import eventsourcing"), "eventsourcing"),
        (("node_workers/backup_upload.py", "import obstore"), "obstore"),
        (("projectors/volumes.py", "import aiosqlite"), "sqlite"),
    ],
    indirect=["violated"],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_an_import_that_must_not_be_breaks_its_rule(violated: Path, broken: str) -> None:
    status, said = linted(violated)
    name = next(contract["name"] for contract in contracts() if contract["id"] == broken)
    assert status == 1, said
    assert f"{name} BROKEN" in " ".join(said.split()), said


def test_every_part_of_hwbus_is_either_a_wire_or_a_front_door() -> None:
    lists = {contract["id"]: contract for contract in contracts()}
    known = {*lists["wires"]["source_modules"], *lists["front-doors"]["protected_modules"]}
    there = {
        f"hwbus.{path.stem}"
        for path in (ROOT / "hwbus").iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }
    assert there - known - {"hwbus.__init__", "hwbus.__main__"} == set(), (
        "name it in the contract `wires` or `front-doors` of pyproject.toml"
    )


PURE = ("asyncio", "hwbus", "nats", "random", "secrets", "socket", "sqlite3", "subprocess", "uuid")


def test_a_decider_alone_in_an_interpreter_brings_no_outside_along() -> None:
    aggregates = sorted((ROOT / "aggregates").rglob("*.py"))
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in aggregates
        if path.stem not in {"__main__", "__init__"}
    ]
    assert len(names) > 5
    program = (
        "import sys\nimport msgspec\nimport schemas.words\n"
        "before = set(sys.modules)\n"
        + "".join(f"import {name}\n" for name in names)
        + "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    brought = {name.split(".")[0] for name in done.stdout.split()}
    assert brought & set(PURE) == set()
    assert "aggregates" in brought
