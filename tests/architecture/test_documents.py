"""What is written down leads somewhere, is numbered, and names no place that only we can see."""

import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<to>[^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted|registry\.npmjs|deb\.debian|archive\.ubuntu|--index-url|--extra-index"
    r"|find-links|-docker\.pkg|\.pkg\.dev|npm\.pkg",
)


def tracked() -> list[Path]:
    listed = subprocess.run(
        [
            "git",
            "-c",
            "safe.directory=*",
            "-C",
            str(ROOT),
            "ls-files",
            "-z",
            "-co",
            "--exclude-standard",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


documents = [path for path in tracked() if path.suffix == ".md"]
decisions = sorted(DECISIONS.glob("[0-9]*.md"))


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.*)$", FENCED.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_in_a_document_leads_somewhere(document: Path) -> None:
    for link in LINK.finditer(FENCED.sub("", document.read_text())):
        to, _, anchor = link["to"].partition("#")
        if "://" in to or to.startswith("mailto:"):
            continue
        target = (document.parent / to).resolve() if to else document
        assert target.exists(), f"{link[0]} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link[0]}: no such heading"


@pytest.mark.parametrize("decision", decisions, ids=lambda path: path.stem)
def test_a_decision_says_when_it_was_taken_and_what_would_change_our_mind(decision: Path) -> None:
    text = decision.read_text()
    assert re.match(rf"# 0*{int(decision.name[:4])}\. [A-Z]", text), "begins with number and title"
    assert re.search(r"^Date: \d{4}-\d\d-\d\d\b", text, re.MULTILINE)
    assert re.search(r"\bStatus: (accepted|superseded by \[\d{4}\])", text)
    assert "\n## What would change our mind\n" in text


def test_decisions_are_numbered_without_gap_or_double() -> None:
    numbers = [int(path.name[:4]) for path in decisions]
    missing = set(range(1, numbers[-1] + 1)) - set(numbers)
    assert len(set(numbers)) == len(numbers)
    assert missing == set()


def test_the_index_of_the_decisions_is_up_to_date() -> None:
    index = runpy.run_path(str(ROOT / "scripts" / "index_decisions.py"))["index"]
    assert (DECISIONS / "README.md").read_text() == index(), "run: make derive"


def test_no_file_names_the_host_of_a_registry() -> None:
    this = Path(__file__).resolve()
    naming = [
        path
        for path in tracked()
        if path.resolve() != this and REGISTRY.search(path.read_text(errors="replace"))
    ]
    assert naming == []


def dependencies() -> set[str]:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [whole["project"]["dependencies"], *whole["dependency-groups"].values()]
    wanted = [one for group in groups for one in group if isinstance(one, str)]
    return {re.split(r"[^\w-]", one)[0] for one in wanted}


def test_every_dependency_is_argued_for() -> None:
    argued = (DECISIONS / "0002-dependencies.md").read_text()
    assert len(dependencies()) > 15
    assert {name for name in dependencies() if f"| {name} |" not in argued} == set()


def test_every_dependency_is_in_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    missing = {name for name in dependencies() if f"\n{name.lower()}==" not in lock}
    assert missing == set(), "run: scripts/lock"


def test_every_requirement_is_pinned_by_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^[a-z0-9][a-z0-9._-]*==\S+", lock, re.MULTILINE)
    named = re.findall(r"^[a-z0-9].*$", lock, re.MULTILINE)
    assert len(pinned) == len(named) > 30
    assert lock.count(" \\\n    --hash=sha256:") >= len(pinned)


def test_the_make_file_explains_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    explained = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert targets == explained
    assert targets >= {"help", "demo", "test", "check", "bench", "lab-packages", "clean"}
