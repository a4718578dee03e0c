"""Four eyes: what takes two people, what waits for the second of them, and what that one says."""

from typing import Annotated, Literal

from cyclopts import Parameter

from hwbus.cli.changing import change, confirmed
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import ApprovalId, ProtectionName, Why, Yes
from hwbus.cli.options import (
    CHANGE,
    OPTIONS,
    VIEWING,
    Change,
    Options,
    Viewing,
    WholeSeconds,
    noun,
)
from hwbus.cli.reading import listing, one, show_row
from hwbus.cli.session import conversation, print_call, run
from hwbus.client import query_call
from schemas.approval import Approve, Reject
from schemas.protection import (
    DAY_S,
    HOUR_S,
    Act,
    ProtectedKind,
    ProtectionSpec,
    RemoveProtection,
    SetProtection,
)

app = noun("approval", "What waits for somebody else's word.")
protections = noun("protection", "What takes two people.")

_ACTS = ", ".join(act.value for act in Act)
Kinds = Annotated[
    list[Literal["volume", "snapshot", "pool", "node", "disk", "target", "policy", "schedule"]]
    | None,
    Parameter(
        name="--kind",
        negative=(),
        consume_multiple=True,
        help="Only objects of this kind, may be repeated. [default: all]",
    ),
]
Names = Annotated[
    list[str] | None,
    Parameter(
        name="--name",
        negative=(),
        consume_multiple=True,
        help="Only objects called so, such as 'pg-*'; may be repeated. [default: all]",
    ),
]
Acts = Annotated[
    list[str] | None,
    Parameter(
        name="--act",
        negative=(),
        consume_multiple=True,
        help=f"Only this, may be repeated: {_ACTS}. [default: all]",
    ),
]
Unless = Annotated[
    WholeSeconds,
    Parameter(
        name="--unless-held",
        show_default=False,
        help="A deletion that is held so long needs nobody else; 0s: each does. [default: 24h]",
    ),
]
Waits = Annotated[
    WholeSeconds,
    Parameter(name="--waits", show_default=False, help="So long a request waits. [default: 24h]"),
]
GoodFor = Annotated[
    WholeSeconds,
    Parameter(
        name="--good-for",
        show_default=False,
        help="So long after the approval the command may be said. [default: 1h]",
    ),
]


@protections.command(name="ls", alias="list")
def ls_protections(*, options: Viewing = VIEWING) -> int:
    """List what takes two people."""
    return listing("protections", {}, options)


@protections.command(name="show")
def show_protection(name: ProtectionName, /, *, options: Viewing = VIEWING) -> int:
    """Show one protection: which objects, which commands, and for how long one may wait."""
    return _shown("protections", "name", name, f"protection {name[:80]!r}", options)


@protections.command(name="set")
def set_(
    name: Annotated[str, Parameter(help="What to call it.")],
    /,
    *,
    kind: Kinds = None,
    names: Names = None,
    act: Acts = None,
    unless_held: Unless = DAY_S,
    waits: Waits = DAY_S,
    good_for: GoodFor = HOUR_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Have commands that destroy need a second person; to say one anew needs one already."""
    spec = ProtectionSpec(
        kinds=tuple(ProtectedKind(one) for one in kind or ()),
        names=tuple(names or ("*",)),
        acts=tuple(_act(one) for one in act or ()),
        hold_s=unless_held,
        waits_s=waits,
        good_for_s=good_for,
    )
    return change(SetProtection(protection=name, spec=spec), options, how)


def _act(text: str) -> Act:
    try:
        return Act(text)
    except ValueError:
        raise FailureError(
            Exit.USAGE,
            f"{text[:80]!r} never takes two people",
            fix=f"Say one of {_ACTS}.",
        ) from None


@protections.command(name="remove", alias=["rm", "delete"])
def remove(
    name: ProtectionName,
    /,
    *,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Protect this no more; it needs somebody else's approval."""
    if not options.show_call:
        confirmed(name, f"This removes the protection {name[:80]!r}", yes=yes)
    return change(RemoveProtection(protection=name), options, how)


@app.command(name="ls", alias="list")
def ls(
    *,
    all_: Annotated[
        bool, Parameter(name=["--all", "-a"], negative=(), help="Those that are over, too.")
    ] = False,
    options: Viewing = VIEWING,
) -> int:
    """List the requests that wait, and the approvals that were not used yet."""
    return listing("approvals", {"ended": None if all_ else False}, options)


@app.command
def show(id_: ApprovalId, /, *, options: Viewing = VIEWING) -> int:
    """Show one request: who asks, for exactly what, and what became of it."""
    return _shown("approvals", "id", id_, f"request {id_[:80]!r}", options)


def _shown(view: str, column: str, name: str, what: str, options: Viewing) -> int:
    if options.show_call:
        return print_call(query_call(view, {column: name}), options)
    return run(_show(view, {column: name}, what, options))


async def _show(view: str, where: dict[str, str], what: str, options: Options) -> int:
    async with conversation(options) as client:
        page, _ = await one(client, view, where, what, options)
        show_row(view, page, options)
    return Exit.OK


@app.command
def approve(
    id_: ApprovalId,
    /,
    *,
    because: Why = "",
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Let somebody else do what the request says, once; whoever asks has to repeat the command."""
    return change(Approve(approval=id_, because=because), options, how)


@app.command
def reject(
    id_: ApprovalId,
    /,
    *,
    because: Why = "",
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Do not let it be done; also takes back an approval, or a request of one's own."""
    return change(Reject(approval=id_, because=because), options, how)
