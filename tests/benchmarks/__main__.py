"""All figures in one table: ``make bench``, or ``python -m tests.benchmarks --only commands``."""

import argparse
import asyncio
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import structlog
from rich.console import Console

from hwbus.identity import SystemClock
from tests.benchmarks.commands import commands
from tests.benchmarks.figures import Figure, show
from tests.benchmarks.holding import holding
from tests.benchmarks.lab import lab
from tests.benchmarks.planning import planning
from tests.benchmarks.replay import reading
from tests.benchmarks.replicated import replicated
from tests.benchmarks.starting import starting
from tests.benchmarks.system import ROOT
from tests.benchmarks.travelling import travelling
from tests.benchmarks.verifying import verifying

ROUNDS = 3
SECTIONS: dict[str, Callable[..., Awaitable[list[Figure]]]] = {
    "commands": commands,
    "reading": reading,
    "verifying": verifying,
    "holding": holding,
    "starting": starting,
    "travelling": travelling,
    "planning": planning,
    "lab": lab,
    "replicated": replicated,
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` writes."""

    at: str
    version: str
    python: str
    machine: str
    cores: int
    load: tuple[float, float, float]
    rounds: int
    quick: bool
    took_s: float
    figures: tuple[Figure, ...]


async def measure(names: Sequence[str], *, rounds: int, quick: bool, say: Console) -> list[Figure]:
    """Run the sections one after another, so that none is in another's way."""
    found: list[Figure] = []
    for name in names:
        began = time.monotonic()
        found += await SECTIONS[name](rounds=rounds, quick=quick)
        say.print(f"{name} measured in {time.monotonic() - began:.0f} s", style="dim")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; a target that is not reached is said and is no failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*SECTIONS], help="may be repeated")
    parser.add_argument("--quick", action="store_true", help="once and small: under a minute")
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench.json")
    given = parser.parse_args(argv)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    out = Console(width=None if sys.stdout.isatty() else 150)
    names = [name for name in SECTIONS if not given.only or name in given.only]
    rounds = 1 if given.quick else ROUNDS
    began, load = time.monotonic(), os.getloadavg()
    figures = asyncio.run(
        measure(names, rounds=rounds, quick=given.quick, say=Console(stderr=True))
    )
    report = Report(
        at=SystemClock().now().isoformat(timespec="seconds"),
        version=importlib.metadata.version("hwbus"),
        python=platform.python_version(),
        machine=platform.platform(),
        cores=os.cpu_count() or 0,
        load=load,
        rounds=rounds,
        quick=given.quick,
        took_s=time.monotonic() - began,
        figures=tuple(figures),
    )
    show(figures, out)
    judged = [row for row in figures if row.reached is not None]
    missed = [row.name for row in judged if not row.reached]
    out.print(
        f"{len(judged) - len(missed)} of {len(judged)} targets reached; {report.cores} cores, load "
        f"{load[0]:.1f} at the start, medians of {rounds}, {report.took_s:.0f} s."
    )
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    out.print(f"Written to {given.json}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
