"""What other weights of placement would have made of the past, beside those of now."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from hwbus.cli.cells import Column, Row, Table, text
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options
from hwbus.cli.output import heading, print_data, print_table, say
from hwbus.cli.paint import clean
from hwbus.cli.session import conversation, run
from hwbus.cli.world import world

if TYPE_CHECKING:
    from hwbus.client import Client
    from hwbus.controller.backtesting import History, Place, Track
    from schemas.commit import Commit

_POINTS_MAX = 1_000_000_000
_SHOWN_MAX = 1000


def _weight(what: str) -> Any:
    return Parameter(help=f"Points {what}.", show_default=False)


def backtest(
    *,
    room: Annotated[int | None, _weight("for the share of a pool that stays free")] = None,
    crowd: Annotated[int | None, _weight("against each volume that a pool holds")] = None,
    near: Annotated[int | None, _weight("for the node of the source of a copy")] = None,
    shared: Annotated[int | None, _weight("for the pool of the source of a copy")] = None,
    zone: Annotated[int | None, _weight("for another zone than the first replica's")] = None,
    options: Options = OPTIONS,
) -> int:
    """Decide the whole past again with other weights of placement, and tell what would differ.

    The log is read and played here. What is not named weighs as it does. First the past is played
    with the weights of now: unless that gives what was, nothing is compared.
    """
    given = {"room": room, "crowd": crowd, "near": near, "shared": shared, "zone": zone}
    tried = {name: points for name, points in given.items() if points is not None}
    odd = next((name for name, points in tried.items() if not 0 <= points <= _POINTS_MAX), None)
    if odd is not None or not tried:
        what = f"--{odd} is {tried[odd]}" if odd is not None else "there is no weight to try"
        fix = f"Give one or more of --{', --'.join(given)}: 0 to {_POINTS_MAX:,} points."
        raise FailureError(Exit.USAGE, what, fix=fix)
    if options.show_call:
        raise FailureError(Exit.USAGE, "a backtest is no request: it reads the log and plays it")
    return _compared(run(_read(options)), tried, options)


async def _read(options: Options) -> tuple[int, list["Commit[Any]"]]:
    async with conversation(options) as client:
        return await _commits(client)


async def _commits(client: "Client") -> tuple[int, list["Commit[Any]"]]:
    """Return the whole log. Raises ``FailureError``: it does not begin with its beginning."""
    from hwbus.codec import UnreadableError, commit_codec
    from schemas.upcasts import UPCASTS
    from schemas.words import AnyEvent

    codec, found = commit_codec(AnyEvent, UPCASTS), list["Commit[Any]"]()
    head, seq = await client.log.head(), 0
    if not head:
        return 0, found
    async with client.log.follow(after=0) as batches:
        async for batch in batches:
            for stored in batch:
                if stored.seq != seq + 1:
                    lost = f"the log has lost the commits {seq + 1} to {stored.seq - 1}"
                    raise FailureError(Exit.FAILED, lost, fix="Without them nothing is compared.")
                seq = stored.seq
                try:
                    found.append(codec.decode(stored.data))
                except UnreadableError as error:
                    say(f"note: commit {seq} cannot be read and is left out: {error}")
            if seq >= head:
                break
    return head, found


def _compared(log: tuple[int, list["Commit[Any]"]], tried: Row, options: Options) -> int:
    from aggregates.placement import Weights
    from hwbus.controller.backtesting import differences, history, replayed

    head, past = log[0], history(log[1])
    control = replayed(past, Weights())
    lost, gained = differences(past.places, control.places)
    if lost or gained or control.failed != past.failed or control.moves != past.moves:
        raise FailureError(
            Exit.FAILED,
            f"the weights of now do not give what was: {len(lost)} of {len(past.places)} legs "
            f"would be elsewhere, {len(control.failed)} failures for {len(past.failed)}, "
            f"{control.moves} moves for {past.moves}",
            fix="The past was decided otherwise, by other rules or at other moments: nothing that "
            "is played on it could be relied on.",
        )
    weights = {name: tried.get(name, points) for name, points in _points(Weights()).items()}
    track = replayed(past, Weights(**weights))
    rows = _rows(differences(control.places, track.places))
    told = _told(past, control, track) | {"weights": weights, "differences": rows}
    if options.output in {"json", "yaml"}:
        print_data("Backtest", [told], options.output, seq=head)
    elif options.output == "name":
        names = dict.fromkeys(row["volume"] for row in rows)
        world().out.writelines(f"volume/{clean(name)}\n" for name in names)
    else:
        _print(told, head)
    return Exit.OK


def _points(weights: Any) -> dict[str, int]:
    return {name: getattr(weights, name) for name in weights.__struct_fields__}


def _told(past: "History", control: "Track", track: "Track") -> Row:
    def of(one: "Track", name: str) -> Row:
        return {
            "weights": name,
            "legs": len(one.places),
            "failed": list(one.failed),
            "moves": one.moves,
            "imbalance_percent": round(one.imbalance, 1),
            "imbalance_max_percent": round(one.imbalance_max, 1),
        }

    return {
        "tracks": [of(control, "now"), of(track, "tried")],
        "commands": len(past.asked),
        "left_out": past.left_out,
    }


def _rows(differing: tuple[Sequence["Place"], Sequence["Place"]]) -> list[Row]:
    """Return for each volume where its legs were made, and where they would be."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for side, places in enumerate(differing):
        for volume, node, pool in places:
            found.setdefault(volume, ([], []))[side].append(f"{node}/{pool}")
    return [{"volume": name, "was": was, "would_be": then} for name, (was, then) in found.items()]


def _print(told: Row, head: int) -> None:
    say(f"the log up to seq {head}: the weights of now give what was; nothing was changed")
    if told["left_out"]:
        say(f"{told['left_out']} commands came to nothing then, and are left out")
    print_table(_TRACKS, told["tracks"])
    for row in dict.fromkeys(told["tracks"][1]["failed"]):
        if row not in told["tracks"][0]["failed"]:
            say(f"would fail: {row}")
    rows = told["differences"]
    if not rows:
        say("every leg would be where it was")
        return
    heading("Differences")
    print_table(_DIFFERENCES, rows[:_SHOWN_MAX])
    if len(rows) > _SHOWN_MAX:
        say(f"{len(rows) - _SHOWN_MAX} more of {len(rows)} are not shown")


def _places(field: str, title: str) -> Column:
    return Column(title, lambda row, _brush: clean(", ".join(row[field]) or "-"))


_TRACKS = Table(
    columns=(
        text("weights"),
        Column("LEGS", lambda row, _brush: str(row["legs"]), right=True),
        Column("FAILED", lambda row, _brush: str(len(row["failed"])), right=True),
        Column("MOVES", lambda row, _brush: str(row["moves"]), right=True),
        Column("IMBALANCE", lambda row, _brush: f"{row['imbalance_percent']}%", right=True),
        Column("WORST", lambda row, _brush: f"{row['imbalance_max_percent']}%", right=True),
    ),
    name=lambda row: str(row["weights"]),
    none="nothing was played",
)
_DIFFERENCES = Table(
    columns=(text("volume"), _places("was", "WAS"), _places("would_be", "WOULD-BE")),
    name=lambda row: f"volume/{row['volume']}",
    none="nothing differs",
)
