"""Volume groups: volumes that belong together, and are kept as they are at one instant."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli.changing import change, confirmed
from hwbus.cli.exits import Exit
from hwbus.cli.nouns import GroupName, VolumeNames, Yes
from hwbus.cli.options import CHANGE, OPTIONS, Change, Deadline, Options, Size, noun
from hwbus.cli.output import heading, print_table
from hwbus.cli.reading import listing, one, rest, show_row
from hwbus.cli.session import conversation, print_call, run
from hwbus.cli.tables import TABLES
from hwbus.client import query_call
from schemas.volume_group import (
    AddToGroup,
    CreateGroup,
    RemoveGroup,
    SnapshotGroup,
    TakeOutOfGroup,
)

app = noun("group", "Volumes that belong together.")


@app.command(name="ls", alias="list")
def ls(*, options: Options = OPTIONS) -> int:
    """List the volume groups."""
    return listing("groups", {}, options)


@app.command
def show(name: GroupName, /, *, options: Options = OPTIONS) -> int:
    """Show one group, its volumes and their snapshots of one instant."""
    if options.show_call:
        return print_call(query_call("groups", {"name": name}), options)
    return run(_show(name, options))


async def _show(name: str, options: Options) -> int:
    async with conversation(options) as client:
        where = {"name": name}
        page, _ = await one(client, "groups", where, f"group {name[:80]!r}", options)
        if show_row("groups", page, options):
            kept = await rest(client, "snapshots", {"group": name}, page)
            if kept.items:
                heading("Snapshots")
                print_table(TABLES["snapshots"], kept.items)
    return Exit.OK


@app.command
def create(
    name: Annotated[str, Parameter(help="What to call it.")],
    /,
    *volumes: VolumeNames,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Have volumes belong together; a volume is in one group at most."""
    return change(CreateGroup(group=name, volumes=volumes), options, how)


@app.command
def add(
    name: GroupName,
    /,
    *volumes: VolumeNames,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Put volumes into a group."""
    return change(AddToGroup(group=name, volumes=volumes), options, how)


@app.command(alias="remove")
def rm(
    name: GroupName,
    /,
    *volumes: VolumeNames,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Take volumes out of a group; without volumes, forget the group. No data is touched."""
    if volumes:
        return change(TakeOutOfGroup(group=name, volumes=volumes), options, how)
    if not options.show_call:
        confirmed(name, f"This forgets the group {name[:80]!r}; its volumes stay", yes=yes)
    return change(RemoveGroup(group=name), options, how)


@app.command
def snapshot(
    name: GroupName,
    snapshot: Annotated[str, Parameter(help="What to call it; each is called NAME-VOLUME.")],
    /,
    *,
    reserve: Annotated[
        Size | None,
        Parameter(help="Room for what changes in each thick volume. [default: a fifth of it]"),
    ] = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Keep all volumes of a group as they are at one instant, or none of them."""
    word = SnapshotGroup(group=name, snapshot=snapshot, reserve_bytes=reserve, deadline_s=deadline)
    return change(word, options, how)
