"""Snapshots: keep a volume as it is, look at what was kept, go back to it, let it go."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli.changing import change, confirmed
from hwbus.cli.copying import restore
from hwbus.cli.exits import Exit
from hwbus.cli.nouns import (
    AtGroup,
    AtNode,
    AtPool,
    AtSchedule,
    AtVolume,
    SnapshotName,
    VolumeName,
    Yes,
)
from hwbus.cli.options import (
    CHANGE,
    OPTIONS,
    VIEWING,
    Change,
    Deadline,
    LongDeadline,
    Options,
    Size,
    Viewing,
    noun,
)
from hwbus.cli.reading import listing, one, show_row
from hwbus.cli.session import conversation, print_call, run
from hwbus.client import query_call
from schemas.growing import GrowSnapshot
from schemas.snapshot import ROLLBACK_S, CreateSnapshot, DeleteSnapshot, RollBackSnapshot

app = noun("snapshot", "Volumes as they were.", alias="snap")
app.command(restore)


@app.command(name="ls", alias="list")
def ls(
    *,
    volume: AtVolume = None,
    node: AtNode = None,
    pool: AtPool = None,
    group: AtGroup = None,
    schedule: AtSchedule = None,
    options: Viewing = VIEWING,
) -> int:
    """List the snapshots."""
    where = {"volume": volume, "node": node, "pool": pool, "group": group, "schedule": schedule}
    return listing("snapshots", where, options)


@app.command
def show(name: SnapshotName, /, *, options: Viewing = VIEWING) -> int:
    """Show one snapshot: what it caught, how full it is, where its device is."""
    if options.show_call:
        return print_call(query_call("snapshots", {"name": name}), options)
    return run(_show(name, options))


async def _show(name: str, options: Options) -> int:
    async with conversation(options) as client:
        where = {"name": name}
        page, _ = await one(client, "snapshots", where, f"snapshot {name[:80]!r}", options)
        show_row("snapshots", page, options)
    return Exit.OK


@app.command
def create(
    volume: VolumeName,
    name: Annotated[str, Parameter(help="What to call it; no volume may be called so.")],
    /,
    *,
    reserve: Annotated[
        Size | None,
        Parameter(help="Room for what changes in a thick volume. [default: a fifth of it]"),
    ] = None,
    single: Annotated[
        bool,
        Parameter(negative="", help="Of replicas, only the one that is written to."),
    ] = False,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Keep a volume as it is now; it stays in use."""
    word = CreateSnapshot(
        snapshot=name, volume=volume, reserve_bytes=reserve, deadline_s=deadline, single=single
    )
    return change(word, options, how)


@app.command
def grow(
    name: SnapshotName,
    reserve: Annotated[Size, Parameter(help="Room for what changes, in all.")],
    /,
    *,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Give a thick snapshot more room for what changes in its volume, while that is in use."""
    word = GrowSnapshot(snapshot=name, reserve_bytes=reserve, deadline_s=deadline)
    return change(word, options, how)


@app.command(alias="rm")
def delete(
    name: SnapshotName,
    /,
    *,
    deadline: Deadline = 600,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Remove a snapshot; its volume stays as it is."""
    if not options.show_call:
        confirmed(name, f"This deletes the snapshot {name[:80]!r}", yes=yes or how.plan)
    return change(DeleteSnapshot(snapshot=name, deadline_s=deadline), options, how)


@app.command
def rollback(
    name: SnapshotName,
    /,
    *,
    deadline: LongDeadline = ROLLBACK_S,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Make a volume that nobody uses what it was; this uses the snapshot up."""
    if not options.show_call:
        lost = "and what was written to its volume since"
        confirmed(
            name, f"This uses up the snapshot {name[:80]!r}, {lost} is lost", yes=yes or how.plan
        )
    return change(RollBackSnapshot(snapshot=name, deadline_s=deadline), options, how)
