from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Stage

GOLDEN = Path(__file__).with_name("golden")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def agreed() -> Callable[[str, str], None]:
    """Compare what was printed, word by word, with what was agreed under a name."""

    def compare(name: str, out: str) -> None:
        path = GOLDEN / f"{name}.txt"
        known = path.read_text(encoding="utf-8") if path.exists() else ""
        if out != known:
            path.with_suffix(".new").write_text(out, encoding="utf-8")
        assert out == known, f"if this is right: mv {path.with_suffix('.new')} {path}"

    return compare
