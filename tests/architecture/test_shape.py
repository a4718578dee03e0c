"""A function fits into one look and a module into one sitting; each exception says why."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("schemas", "hwbus", "aggregates", "node_workers", "projectors")
LINES_MAX = {"function": 45, "module": 420}  # "around" 40 and 400
LINES_MAX_OF_A_TEST = {"function": 60, "module": 650}  # a contract is read as one list of sentences

LONGER = {  # why it is better in one piece
    "tests/unit/hwbus/cli/rows.py:furnish": "one row of every view, to be read as a table",
}

modules = [path for package in (*CODE, "tests") for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name_of(path)}:{node.name}", _lines_without_docstring(node)


def _lines_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    documented = ast.get_docstring(node) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def lines_max(name: str, of: str) -> int:
    return (LINES_MAX_OF_A_TEST if name.startswith("tests/") else LINES_MAX)[of]


def test_every_function_fits_into_one_look_and_every_module_into_one_sitting() -> None:
    long_functions = {
        name: lines
        for path in modules
        for name, lines in functions(path)
        if lines > lines_max(name, "function")
    }
    long_modules = {
        name_of(path): lines
        for path in modules
        if (lines := len(path.read_text().splitlines())) > lines_max(name_of(path), "module")
    }
    long = long_functions | long_modules
    assert long.keys() - LONGER.keys() == set(), long


def test_no_module_is_held_together_by_banners() -> None:
    banners = ("# ---", "# ===", "####")
    assert [
        f"{name_of(path)}: {line}"
        for path in modules
        for line in path.read_text().splitlines()
        if line.lstrip().startswith(banners)
    ] == []
