"""Verdicts on a log and its copies: how they are printed, and how a command ends with them."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hwbus.archive import NoArchiveError
from hwbus.archives import BrokenChainError
from hwbus.blocks import NoStoreError
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import Options
from hwbus.cli.output import heading, print_cells, print_data, say
from hwbus.cli.paint import clean
from hwbus.cli.world import world
from hwbus.places import PlaceError
from hwbus.verifying import Verdict, summary


@contextmanager
def readable(said: str = "") -> Iterator[None]:
    """Say of what cannot be read that it cannot be, after what is *said*.

    Raises ``FailureError``.
    """
    before = f"{said}: " if said else ""
    try:
        yield
    except BrokenPipeError:
        raise  # of whoever reads us, and not of what we read
    except BrokenChainError as error:
        tells = "hwbus audit verify --from-archive tells all of it."
        raise FailureError(Exit.FAILED, f"{before}{error}", fix=tells) from error
    except (OSError, NoStoreError, NoArchiveError, PlaceError) as error:
        raise FailureError(Exit.USAGE, f"{before}{error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FailureError(Exit.USAGE, f"no heads, a JSON object a line: {error}") from error


def judge(verdicts: list[Verdict], options: Options, *, wanted: bool = False) -> int:
    """Print verdicts, that of the events first, and return how to end.

    Where heads are *wanted*, a stream that has none is not well: whoever could take them away did.
    """
    if options.output in {"json", "yaml"}:
        items = [msgspec.to_builtins(verdict) for verdict in verdicts]
        print_data("Verdict", items, options.output, seq=verdicts[0].seq)
    else:
        for verdict in verdicts:
            _print(verdict)
    # An audit stream that holds nothing but heads of the events has none of its own yet.
    heads = verdicts[0].heads
    bare = [one for one in verdicts if wanted and not one.heads and one.messages > heads]
    for one in bare:
        say(f"there is no head of {one.stream} that counts")
    well = all(verdict.first_bad is None for verdict in verdicts)
    return Exit.OK if well and not bare else Exit.FAILED


def _print(verdict: Verdict) -> None:
    world().out.writelines(f"{clean(line)}\n" for line in summary(verdict))
    if verdict.findings:
        heading("What is not as it was")
        rows = [
            (
                str(one.seq) if one.until == one.seq else f"{one.seq}-{one.until}",
                one.what,
                clean(one.because),
            )
            for one in verdict.findings
        ]
        print_cells(("SEQ", "WHAT", "WHY"), rows, right=(0,))
        world().out.write("\n")
