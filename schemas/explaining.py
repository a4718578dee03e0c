"""The page on refusals, made from their explanations: `python -m schemas.explaining` writes it."""

from pathlib import Path

from schemas.refusals import Refusal

PAGE = Path(__file__).parents[1] / "docs" / "refusals.md"

_TITLES = {
    "G": "Any command",
    "N": "Nodes",
    "D": "Disks",
    "P": "Pools",
    "V": "Volumes",
    "R": "Replicas",
    "S": "Snapshots",
    "K": "Keys",
    "Y": "Policies",
    "T": "Volume groups: volumes taken together",
    "C": "Schedules: snapshots by the clock",
    "B": "Backups",
    "Q": "QoS classes: limits with a name",
    "E": "Four eyes: protections and approvals",
    "F": "Findings: what was changed by hand",
    "H": "The past, and the views of it",
    "A": "The audit: what may be taken out of it",
    "O": "Operations",
    "W": "What a node could not do",
}
_HEAD = """# Refusals

A refused command changed nothing, and is kept in the audit. Its code is permanent: it is never
renumbered and never used for something else, so scripts may rely on it. `hwbus explain CODE` prints
what stands here.
"""


def page() -> str:
    """Return the page as it stands in ``docs/refusals.md``."""
    return _HEAD + "".join(_section(letter, title) for letter, title in _TITLES.items())


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


def _section(letter: str, title: str) -> str:
    rows = (
        f"| `{code}` | {code.meaning} | {code.advice} |\n"
        for code in Refusal
        if code.startswith(f"HW-{letter}")
    )
    return f"\n## {title}\n\n| code | meaning | what to do |\n|---|---|---|\n{''.join(rows)}"


if __name__ == "__main__":
    main()
