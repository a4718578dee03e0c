"""The index of the decision records, made from their titles; run it to write the index."""

import re
from pathlib import Path

DECISIONS = Path(__file__).parents[1] / "docs" / "decisions"

_HEAD = """# Decisions

What was decided, why, and what would change our mind. A record is not rewritten when the mind
changes: a new one supersedes it. For a new one, copy the headings of
[0003](0003-one-decision-one-message.md) and run `make derive`.

| no. | decision |
|---|---|
"""


def index() -> str:
    """Return the index as it stands in ``docs/decisions/README.md``."""
    return _HEAD + "".join(_row(path) for path in sorted(DECISIONS.glob("[0-9]*.md")))


def _row(path: Path) -> str:
    title = re.sub(r"^# \d+\. ", "", path.read_text().splitlines()[0])
    return f"| [{path.name[:4]}]({path.name}) | {title} |\n"


if __name__ == "__main__":
    (DECISIONS / "README.md").write_text(index())
