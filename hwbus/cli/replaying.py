"""The log from a file, played again where no cluster is: ``hwbus replay``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from cyclopts import Parameter

from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options, Point, PointInTime
from hwbus.cli.output import print_document, say
from hwbus.cli.paint import Pen, clean
from hwbus.cli.replayed import NoSuchError, found, object_lines, step, step_lines
from hwbus.cli.signing import Keys
from hwbus.cli.sources import Endpoint, Recorded, source
from hwbus.cli.stepping import HELP, Stepper
from hwbus.cli.verdicts import readable
from hwbus.cli.world import world
from hwbus.desk import taking_in_the_past
from hwbus.replaying.conditions import UnknownError, Until
from hwbus.replaying.opening import Opened, opened
from hwbus.replaying.player import Player
from hwbus.replaying.tape import Tape


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Stop:
    """Where to stop: at the first commit that is all of this."""

    until_event: Annotated[
        str | None, Parameter(help="Stop at such an event: volume.provisioning-failed.")
    ] = None
    until_object: Annotated[
        str | None, Parameter(help="Stop at a commit about this: volume/pg, pool/n1/fast.")
    ] = None
    until_code: Annotated[
        str | None, Parameter(help="Stop where an event gives this code as a reason: HW-P003.")
    ] = None
    until_actor: Annotated[str | None, Parameter(help="Stop at what this actor did.")] = None
    until_operation: Annotated[
        str | None, Parameter(help="Stop at what belongs to this operation.")
    ] = None

    def condition(self) -> Until:
        """Return it as a condition. Raises ``FailureError``: there is no such event or code."""
        try:
            return Until(
                event=self.until_event,
                object=self.until_object,
                code=self.until_code,
                actor=self.until_actor,
                operation=self.until_operation,
            ).check()
        except UnknownError as error:
            raise FailureError(Exit.USAGE, str(error)) from error


STOP = Stop()


def replay(
    file: Recorded,
    /,
    *,
    endpoint: Endpoint = "",
    to: Annotated[PointInTime | None, Parameter(help="Stop there: a sequence or a moment.")] = None,
    stop: Stop = STOP,
    steps: Annotated[
        bool, Parameter(negative=(), help="Print each commit, with what it changed.")
    ] = False,
    show: Annotated[
        list[str],
        Parameter(negative=(), help="Print this as it is then: volume/pg. May be repeated."),
    ] = [],  # noqa: B006 -- cyclopts reads the default, nobody writes to it
    key: Keys = [],  # noqa: B006
    options: Options = OPTIONS,
) -> int:
    """Play a log again, from an archive, without a cluster: all objects and views, at any commit.

    It is verified as it is read. At the end there is the hash of all that there is then: two
    people who have the same hash look at the same. With several --until all must hold. On a
    terminal, without --steps and --show, you go on from there by hand, forward and back.
    """
    if options.show_call:
        raise FailureError(Exit.USAGE, "a replay is no request: it reads a file")
    condition = stop.condition()
    with opening(file, endpoint, key) as what, taking_in_the_past():
        player = Player(what.tape)
        taken = _played(player, _end(what.tape, to), condition, options, steps=steps)
        _print(player, taken, [_found(player, name) for name in show], options, steps=steps)
        fits = what.fits(player)
        if fits is not None:
            say("that is what its writer had" if fits else "its writer had another hash here")
        by_hand = world().stdin.isatty() and not (steps or show) and options.output == "table"
        if by_hand:
            _by_hand(player)
        return Exit.OK if what.good and fits is not False else Exit.FAILED


@contextmanager
def opening(where: str, endpoint: str, keys: list[str]) -> Iterator[Opened]:
    """Open what is to be played, and say what it is. Raises ``FailureError``: it is nothing."""
    said = f"{where} cannot be played"
    with readable(said), opened(source(where, endpoint), keys) as what:
        for line in what.said:
            say(clean(line))
        yield what


def _end(tape: Tape, to: Point | None) -> int:
    """Return where to stop. Raises ``FailureError``: the file does not go there."""
    if to is None:
        return tape.last
    seq = to if isinstance(to, int) else tape.seq_of(datetime.fromisoformat(to))
    if not tape.after <= seq <= tape.last or (seq == tape.after and not isinstance(to, int)):
        there = f"{tape.after + 1} to {tape.last}"
        raise FailureError(Exit.USAGE, f"the file has the commits {there}, and not {to}")
    return seq


def _played(
    player: Player, until: int, condition: Until, options: Options, *, steps: bool
) -> list[dict[str, Any]]:
    """Play up to there, or to what is looked for; return the steps, if they are not printed yet."""
    items: list[dict[str, Any]] = []
    if not steps and not condition.given:
        player.go(until)
        return items
    pen = Pen(world(), world().out)
    for changed in player.steps(until):
        if steps and options.output in {"json", "yaml"}:
            items.append(step(player, changed))
        elif steps:
            for line in step_lines(step(player, changed)):
                pen.line(line)
        if condition.given and condition.meets(player):
            return items
    if condition.given:
        raise FailureError(Exit.NOT_FOUND, f"no commit up to {until} is what --until looks for")
    return items


def _found(player: Player, name: str) -> dict[str, Any]:
    try:
        return found(player, name)
    except NoSuchError as error:
        raise FailureError(Exit.NOT_FOUND, str(error)) from error


def _print(
    player: Player,
    taken: list[dict[str, Any]],
    shown: list[dict[str, Any]],
    options: Options,
    *,
    steps: bool,
) -> None:
    if options.output in {"json", "yaml"}:
        more = {"hash": player.hash(), "steps": taken}
        print_document("Replay", shown, options.output, seq=player.seq, **more)
        return
    pen = Pen(world(), world().out)
    if not (steps or shown):
        for line in step_lines(step(player, ())):
            pen.line(line)
    for item in shown:
        for line in object_lines(item):
            pen.line(line)
    pen.line(f"hash {player.seq} {player.hash()}")


def _by_hand(player: Player) -> None:
    """Let somebody go on from there, until they leave."""
    here, stepper = world(), Stepper(player)
    pen = Pen(here, here.out)
    for line in HELP:
        pen.line(line)
    while not stepper.over:
        here.out.write(stepper.prompt)
        here.out.flush()
        typed = here.stdin.readline()
        if not typed:
            return
        for line in stepper.do(typed):
            pen.line(line)
