"""A view is a function of events: it knows no database, no loop, no clock and no network."""

import ast
from pathlib import Path

import pytest

import projectors

VIEWS = (
    "accounts",
    "approvals",
    "attaching",
    "audit",
    "backups",
    "disks",
    "drift",
    "fold",
    "groups",
    "health",
    "holdings",
    "legs",
    "nodes",
    "operations",
    "policies",
    "pools",
    "qos",
    "reading",
    "replicas",
    "rows",
    "snapshots",
    "tables",
    "usage",
    "volumes",
)
KNOWN = {"collections.abc", "datetime", "functools", "operator", "typing", "msgspec"}
KNOWN |= {"msgspec.structs", "hwbus", "hwbus.codec", "hwbus.ports", "hwbus.subjects"}


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "projectors":
            found |= {f"projectors.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_imports_words_and_other_views_and_nothing_that_acts(view: str) -> None:
    path = Path(str(projectors.__file__)).with_name(f"{view}.py")
    allowed = KNOWN | {f"projectors.{name}" for name in VIEWS}
    strange = {name for name in _imported(path) - allowed if not name.startswith("schemas.")}
    assert strange == set()
