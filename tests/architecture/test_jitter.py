"""The delays of ``tests/jitter`` are where they say they are, and nowhere unless they are asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "jitter"
LOOK = """
import importlib, sitecustomize
for name, (class_, method) in sitecustomize.POINTS.items():
    found = getattr(getattr(importlib.import_module(name), class_), method)
    print(name, hasattr(found, "__wrapped__"))
"""


@pytest.mark.parametrize("asked", [False, True])
def test_each_point_is_late_if_and_only_if_that_is_asked(*, asked: bool) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE), "HWBUS_JITTER_S": "1" if asked else "0"}
    done = subprocess.run(
        (sys.executable, "-c", LOOK), env=environment, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) > 3
    assert {line.split()[1] for line in lines} == {str(asked)}
