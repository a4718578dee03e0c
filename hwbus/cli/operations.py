"""Operations: long work, with steps, a deadline, and an end."""

from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from hwbus.cli.cells import Row
from hwbus.cli.changing import SLACK_S, change, ended
from hwbus.cli.exits import Exit
from hwbus.cli.following import Ending, follow_to_end
from hwbus.cli.nouns import OperationId, Why
from hwbus.cli.options import (
    CHANGE,
    FOLLOWING,
    OPTIONS,
    VIEWING,
    Change,
    Following,
    Options,
    Viewing,
    noun,
)
from hwbus.cli.output import heading, print_fields, print_table
from hwbus.cli.paint import clean, moment
from hwbus.cli.reading import listing, one, show_row
from hwbus.cli.session import conversation, print_call, run
from hwbus.cli.tables import TABLES
from hwbus.cli.world import world
from hwbus.client import query_call
from schemas.operation import CancelOperation, Outcome

app = noun("op", "Work that is going on, or has ended.")


@app.command(name="ls", alias="list")
def ls(
    *,
    all_: Annotated[
        bool, Parameter(name=["--all", "-a"], negative=(), help="Ended ones too.")
    ] = False,
    object_: Annotated[
        str | None, Parameter(name="--object", help="Done to this, such as volume/pg.")
    ] = None,
    options: Viewing = VIEWING,
) -> int:
    """List the operations that are going on."""
    return listing("operations", {"ended": None if all_ else False, "object": object_}, options)


@app.command
def show(id_: OperationId, /, *, options: Viewing = VIEWING) -> int:
    """Show one operation, step by step, with the tools that were run for it."""
    if options.show_call:
        return print_call(query_call("operation", {"id": id_}), options)
    return run(_show(id_, options))


async def _show(id_: str, options: Options) -> int:
    async with conversation(options) as client:
        page, row = await one(client, "operation", {"id": id_}, f"operation {id_[:80]!r}", options)
    if show_row("operations", page, options) and row.get("steps"):
        heading("Steps")
        print_table(TABLES["audit"], row["steps"], wide=options.output == "wide")
        for step in row["steps"]:
            if step.get("exit_status") and step.get("stderr"):
                heading(clean(" ".join(step.get("argv", ()))))
                print_fields({"exit_status": step["exit_status"], "stderr": step["stderr"]})
    return Exit.OK


@app.command
def watch(id_: OperationId, /, *, options: Options = OPTIONS, how: Following = FOLLOWING) -> int:
    """Follow an operation to its end, from its beginning; Ctrl-C leaves off and cancels nothing."""
    return run(_watch(id_, options, how))


async def _watch(id_: str, options: Options, how: Following) -> int:
    return ended(await follow_by_id(id_, options, how), options)


async def follow_by_id(id_: str, options: Options, how: Following) -> Ending:
    """Follow an operation of which only the id is known, and return how it ended.

    Raises ``FailureError``: there is none, or it did not end in time.
    """
    async with conversation(options) as client:
        _, row = await one(client, "operation", {"id": id_}, f"operation {id_[:80]!r}", options)
        return await follow_to_end(
            client,
            id_,
            title=clean(str(row["object"])),
            object_=str(row["object"]),
            after=0,
            timeout_s=patience_s(row, how),
        )


def patience_s(row: Row, how: Following) -> float:
    """Return how long to wait: as was said, or a little longer than the operation may take."""
    if how.timeout is not None:
        return how.timeout
    deadline = moment(row.get("deadline"))
    left = (deadline - world().clock.now()).total_seconds() if deadline is not None else 0.0
    return max(0.0, left) + SLACK_S


@app.command
def cancel(
    id_: OperationId, /, *, because: Why = "", options: Options = OPTIONS, how: Change = CHANGE
) -> int:
    """Give an operation up, and undo what it has done; --wait until it is undone."""
    word = CancelOperation(operation=id_, because=because)
    code = change(word, options, replace(how, wait=False))
    if code is not Exit.OK or not how.wait or options.show_call or how.plan:
        return code
    ending = run(follow_by_id(id_, options, how))
    code = ended(ending, options)
    return Exit.OK if ending.outcome == Outcome.CANCELLED else code
