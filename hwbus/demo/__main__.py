"""``python -m hwbus.demo``: the whole story, on real kernels where they can be had."""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable

from hwbus.cli.quiet import silence
from hwbus.client import RefusedQueryError
from hwbus.demo import (
    copying,
    draining,
    ending,
    failing,
    forming,
    limiting,
    recalling,
    serving,
    surviving,
    undoing,
)
from hwbus.demo.place import Place, PlaceError
from hwbus.demo.real import RealPlace
from hwbus.demo.simulated import SimulatedPlace
from hwbus.demo.stage import Stage, stage
from hwbus.demo.teller import NotSoError, Teller
from hwbus.lab.requirements import why_not
from hwbus.ports import NobodyThereError, OutcomeUnknownError

OK, NOT_SO, INTERRUPTED = 0, 1, 130
_NARROW = 180
_STORY: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    forming.disks_are_found,
    forming.pools_are_formed,
    draining.a_disk_is_drained,
    forming.volumes_are_provisioned,
    serving.a_mounted_volume_grows,
    serving.too_much_is_asked_for,
    failing.a_worker_is_killed,
    failing.somebody_meddles,
    undoing.mistakes_are_undone,
    copying.a_volume_is_cloned_in_use,
    limiting.a_class_limits,
    surviving.a_volume_gets_a_replica_in_use,
    surviving.a_node_loses_power,
    ending.volumes_are_deleted,
    ending.the_record_tells,
    recalling.the_past_answers,
)


def main(argv: list[str] | None = None) -> int:
    """Tell the story; returns 0 if all of it is so, 1 if something is not."""
    parser = argparse.ArgumentParser(prog="python -m hwbus.demo", description=__doc__)
    parser.add_argument(
        "--simulated", action="store_true", help="on simulated nodes, even where real ones run"
    )
    given = parser.parse_args(argv)
    silence()
    teller = _teller()
    place = _place(teller, simulated=given.simulated)
    try:
        asyncio.run(_until_told(_tell(place, teller)))
    except (
        *(NotSoError, PlaceError, NobodyThereError),
        *(OutcomeUnknownError, RefusedQueryError, ConnectionError),
    ) as error:
        teller.fail(f"NOT SO, {teller.place}: {error}")
        return NOT_SO
    except (KeyboardInterrupt, asyncio.CancelledError):
        teller.fail("interrupted; everything is down again")
        return INTERRUPTED
    left = place.left_behind()
    if left:
        teller.fail(f"NOT SO: nothing is left behind ({left} is still there)")
        return NOT_SO
    teller.say("Everything is down again, and nothing is left behind.")
    return OK


def _teller() -> Teller:
    terminal = sys.stdout.isatty()
    colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size().columns if terminal else _NARROW
    return Teller(sys.stdout, colours=colours, width=width)


def _place(teller: Teller, *, simulated: bool) -> Place:
    reason = "you asked for it" if simulated else why_not()
    if reason is None:
        return RealPlace(teller.say)
    teller.say(f"The story is told on simulated nodes: {reason}.")
    return SimulatedPlace(teller.say)


async def _until_told(work: Awaitable[None]) -> None:
    """Do *work*; a polite request to end undoes all of it first."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task


async def _tell(place: Place, teller: Teller) -> None:
    began_s = time.monotonic()
    teller.say(f"Setting up: {place.what}.")
    async with place, stage(place, teller) as actors:
        try:
            await _chapters(actors, began_s)
        except NotSoError:
            teller.output(await place.evidence())
            raise


async def _chapters(actors: Stage, began_s: float) -> None:
    teller = actors.teller
    try:
        await forming.until_seen(actors)
    except TimeoutError as error:
        raise NotSoError("all nodes and disks are seen in time") from error
    set_up_s = time.monotonic() - began_s
    for chapter in _STORY:
        await chapter(actors)
    told_s = teller.elapsed_s()
    teller.end(
        f"All of it is so: {len(_STORY)} chapters, {teller.checked} checks, {told_s:.0f} s "
        f"(after {set_up_s:.0f} s of set-up)."
    )


if __name__ == "__main__":
    sys.exit(main())
