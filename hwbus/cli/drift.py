"""Findings: where nodes differ from what was decided, and what shall become of each."""

from typing import Annotated, Any

from cyclopts import Parameter

from hwbus.cli.changing import change, confirmed
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import AtNode, Yes
from hwbus.cli.options import CHANGE, OPTIONS, VIEWING, Change, Deadline, Options, Viewing, noun
from hwbus.cli.output import heading, print_data, print_table
from hwbus.cli.reading import listing, note_behind, note_point, rest, show_row
from hwbus.cli.session import conversation, own_writes, print_call, run
from hwbus.cli.tables import TABLES
from hwbus.client import Page, query_call
from schemas.node import Drift
from schemas.settling import WAYS, SettleDrift, Verb
from schemas.volume import Filesystem

app = noun("drift", "Where nodes differ from what was decided.")
Object = Annotated[
    str, Parameter(help="What it is about: replica/n1/pg or lv/n1/fast/x; hwbus drift ls.")
]
Kind = Annotated[Drift | None, Parameter(name="--kind", help="Which finding, if it has several.")]
Seen = Annotated[
    str | None,
    Parameter(name="--seen", help="Only if it is still what bears this mark. [default: as now]"),
]


@app.default
def show_all(*, node: AtNode = None, options: Viewing = VIEWING) -> int:
    """Show where nodes differ from what was decided, and what would settle it."""
    return listing("drift", {"node": node}, options)


@app.command(name="ls", alias="list")
def ls(
    *,
    node: AtNode = None,
    kind: Kind = None,
    past: Annotated[
        bool, Parameter(negative=(), help="Those that are no more, and who settled them.")
    ] = False,
    options: Viewing = VIEWING,
) -> int:
    """List the findings, and what would settle each; the last 200 a node with --past."""
    view = "drift-past" if past else "drift"
    return listing(view, {"node": node, "drift": None if kind is None else kind.value}, options)


@app.command
def show(object_: Object, /, *, kind: Kind = None, options: Viewing = VIEWING) -> int:
    """Show one finding: both sides, since when, and the commands that would settle it."""
    where = _where(object_, kind)
    if options.show_call:
        return print_call(query_call("drift", where), options)
    return run(_show(where, options))


async def _show(where: dict[str, Any], options: Options) -> int:
    async with conversation(options) as client:
        page = await client.query("drift", where, min_seq=own_writes(options))
        note_behind(page)
        note_point(page, options)
        if len(page.items) > 1 and options.output in {"json", "yaml"}:
            print_data(page.kind, page.items, options.output, seq=page.seq)
            return Exit.OK
        if len(page.items) > 1:
            print_table(TABLES["drift"], page.items)
            return Exit.OK
        if not page.items:
            raise _none_about(where)
        if show_row("drift", page, options):
            past = await rest(client, "drift-past", {"object": where["object"]}, page)
            if past.items:
                heading("Before")
                print_table(TABLES["drift-past"], past.items)
    return Exit.OK


@app.command
def adopt(
    object_: Object,
    /,
    *,
    as_: Annotated[
        str | None, Parameter(name="--as", help="How the volume is called. [default: as it is]")
    ] = None,
    filesystem: Annotated[
        Filesystem, Parameter(name=["--filesystem", "--fs"], help="What is on it; it is checked.")
    ] = Filesystem.NONE,
    seen: Seen = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Make a volume of what somebody else made in a pool, with all that is on it."""
    about = {"volume": as_, "filesystem": filesystem, "deadline_s": deadline}
    return _settle(Verb.ADOPT, object_, None, seen, options, how, **about)


@app.command
def accept(
    object_: Object,
    /,
    *,
    kind: Kind = None,
    seen: Seen = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Take over a larger size, or give up a volume that is gone: what was done is what counts."""
    return _settle(Verb.ACCEPT, object_, kind, seen, options, how, deadline_s=deadline)


@app.command
def undo(
    object_: Object,
    /,
    *,
    kind: Kind = None,
    seen: Seen = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Give a volume its name back, or its size if it was made smaller; nothing is cut off."""
    return _settle(Verb.UNDO, object_, kind, seen, options, how, deadline_s=deadline)


@app.command
def recreate(
    object_: Object,
    /,
    *,
    volume: Annotated[
        str | None, Parameter(help="The name of the volume once more, instead of being asked.")
    ] = None,
    seen: Seen = None,
    deadline: Deadline = 600,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Make a lost volume anew, empty, if it is really nowhere on its node."""
    name = object_.rpartition("/")[2]
    if volume is None and not options.show_call:
        lost = f"This makes {name[:80]!r} anew, empty: what was in it will not come back"
        confirmed(name, lost, yes=yes or how.plan)
    about = {"volume": volume or name, "deadline_s": deadline}
    return _settle(Verb.RECREATE, object_, None, seen, options, how, **about)


@app.command
def quarantine(
    object_: Object,
    /,
    *,
    seen: Seen = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Leave what somebody made alone, keep everybody from it, and count its room as taken."""
    return _settle(Verb.QUARANTINE, object_, None, seen, options, how, deadline_s=deadline)


@app.command
def release(
    object_: Object,
    /,
    *,
    seen: Seen = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Take what is in quarantine out of it again; it is a finding as before."""
    return _settle(Verb.RELEASE, object_, None, seen, options, how, deadline_s=deadline)


def _settle(
    verb: Verb,
    object_: str,
    kind: Drift | None,
    seen: str | None,
    options: Options,
    how: Change,
    **more: Any,
) -> int:
    where = _where(object_, kind)
    row = _chosen(run(_rows(where, options)), verb, seen, where)
    word = SettleDrift(
        node=row["node"],
        drift=Drift(row["drift"]),
        object=row["object"],
        verb=verb,
        seen=seen or row["seen"],
        **more,
    )
    return change(word, options, how)


async def _rows(where: dict[str, Any], options: Options) -> Page:
    async with conversation(options) as client:
        page = await client.query("drift", where, min_seq=own_writes(options))
    note_behind(page)
    return page


def _chosen(page: Page, verb: Verb, seen: str | None, where: dict[str, Any]) -> dict[str, Any]:
    """Return the finding that is meant. Raises ``FailureError`` if there is none, or several."""
    about = where["object"]
    marked = [row for row in page.items if row.get("seen") == seen]
    fit = [row for row in page.items if verb in WAYS.get(Drift(row["drift"]), ())]
    rows = marked or fit or list(page.items)
    if len(rows) == 1:
        return rows[0]
    if rows:
        raise FailureError(
            Exit.USAGE,
            f"there are {len(rows)} findings about {about[:80]!r}",
            fix="Say which one with --kind, or with the mark that is meant: --seen.",
        )
    raise _none_about(where)


def _none_about(where: dict[str, Any]) -> FailureError:
    return FailureError(
        Exit.NOT_FOUND,
        f"there is no finding about {where['object'][:80]!r}",
        fix="hwbus drift ls shows those that are open, hwbus drift ls --past those that were.",
    )


def _where(object_: str, kind: Drift | None) -> dict[str, Any]:
    """Take ``volume-missing/replica/n1/pg``, as ``-o name`` prints it, for its two parts."""
    first, _, further = object_.partition("/")
    if first in set(Drift):
        return {"object": further, "drift": first}
    return {"object": object_} if kind is None else {"object": object_, "drift": kind.value}
