"""How long the command line takes to start, beside a Python that does nothing."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.figures import Figure, figure
from tests.benchmarks.system import ROOT

_RUNS = 9


def _ms(argv: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=30)
    return (time.perf_counter() - began) * 1e3


async def starting(*, rounds: int, quick: bool) -> list[Figure]:
    """Measure what people wait for most often: the version, the help, the TAB key."""
    hwbus = str(Path(sys.executable).with_name("hwbus"))
    ways = {
        "hwbus version": [hwbus, "version"],
        "hwbus --help": [hwbus, "--help"],
        "hwbus volume --help": [hwbus, "volume", "--help"],
        "hwbus volume create --help": [hwbus, "volume", "create", "--help"],
        "completion of a name": [hwbus, "__complete", "node", "cordon", ""],
    }
    bare = [sys.executable, "-c", "pass"]
    runs = 3 if quick else _RUNS
    times: dict[str, list[float]] = {name: [] for name in ways}
    floor: list[float] = []
    with tempfile.TemporaryDirectory(prefix="hwbus-bench-") as home:
        environment = {**os.environ, "HOME": home, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": home}
        for argv in (bare, *ways.values()):
            _ms(argv, environment)
        for _ in range(runs):
            floor.append(_ms(bare, environment))
            for name, argv in ways.items():
                times[name].append(_ms(argv, environment))
    return [
        figure(name, took, "ms", floor=floor, floor_is="python -c pass", at_most=250.0)
        for name, took in times.items()
    ]
