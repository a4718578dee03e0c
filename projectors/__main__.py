"""The front door of the memory: keep the views, check them, or make them anew."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from hwbus.cancelling import apart, heed_cancellation
from hwbus.identity import SystemClock
from hwbus.jetstream import connect
from hwbus.streams import AUDIT
from projectors.composition import Projectors
from projectors.projector import Projector, Sources, StreamRemadeError

_LOG = structlog.get_logger("projectors")
_DIFFERENT = 1
_UNREACHABLE = 10
_AGAIN_S = 1.0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m projectors", description=__doc__)
    parser.add_argument(
        "--server",
        default=os.environ.get("HWBUS_SERVER", "nats://127.0.0.1:4222"),
        help="where the broker is (HWBUS_SERVER)",
    )
    parser.add_argument(
        "--views",
        type=Path,
        default=Path(os.environ.get("HWBUS_VIEWS", "views.sqlite")),
        help="the database, made if it is not there (HWBUS_VIEWS)",
    )
    parser.add_argument(
        "--check", action="store_true", help="compare the rows with newly made ones, and end"
    )
    parser.add_argument("--rebuild", action="store_true", help="make the rows anew, and end")
    return parser.parse_args(argv)


async def _run(arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connect(arguments.server, name="hwbus-projectors") as wires:
        projectors = Projectors(
            arguments.views,
            sources=Sources(wires.log, wires.log_of(AUDIT.name)),
            outlet=wires.outlet,
            bus=wires.bus,
            clock=SystemClock(),
        )
        if arguments.check or arguments.rebuild:
            async with projectors.projector.running() as projector:
                return await _once(projector, rebuild=arguments.rebuild)
        while not stop.is_set():
            try:
                await apart(_project(projectors, stop))
            except* StreamRemadeError as errors:
                _LOG.warning("beginning anew", because=str(errors.exceptions[0]))
                heed_cancellation()
                await asyncio.sleep(_AGAIN_S)
    return 0


async def _project(projectors: Projectors, stop: asyncio.Event) -> None:
    async with projectors.running():
        await stop.wait()


async def _once(projector: Projector, *, rebuild: bool) -> int:
    await projector.caught_up.wait()
    if rebuild:
        await projector.rebuild()
    difference = await projector.check()
    for table in difference.tables:
        sys.stderr.write(f"{table}: the rows differ from those made anew\n")
    sys.stdout.write(f"checked up to {difference.positions}\n")
    return _DIFFERENT if difference.tables else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; return the exit status."""
    try:
        return asyncio.run(_run(_arguments(sys.argv[1:] if argv is None else argv)))
    except ConnectionError as error:
        sys.stderr.write(f"{error}\n")
        return _UNREACHABLE


if __name__ == "__main__":
    sys.exit(main())
