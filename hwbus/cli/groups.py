"""Volume groups: volumes that belong together, on common nodes, and are kept at one instant."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli.changing import change, confirmed
from hwbus.cli.exits import Exit
from hwbus.cli.nouns import Apart, AtNode, GroupName, NodeName, VolumeNames, Yes
from hwbus.cli.options import (
    CHANGE,
    OPTIONS,
    VIEWING,
    Change,
    CopyDeadline,
    Deadline,
    Options,
    Size,
    Viewing,
    noun,
)
from hwbus.cli.output import heading, print_table
from hwbus.cli.reading import listing, one, rest, show_row
from hwbus.cli.replicating import FillRate
from hwbus.cli.session import conversation, print_call, run
from hwbus.cli.tables import TABLES
from hwbus.client import query_call
from schemas.group_moves import AddGroupReplica, HandGroupOver, MigrateGroup
from schemas.legs import SYNC_S
from schemas.volume_group import (
    AddToGroup,
    CreateGroup,
    RemoveGroup,
    SnapshotGroup,
    TakeOutOfGroup,
)

app = noun("group", "Volumes that belong together.")


@app.command(name="ls", alias="list")
def ls(*, options: Viewing = VIEWING) -> int:
    """List the volume groups."""
    return listing("groups", {}, options)


@app.command
def show(name: GroupName, /, *, options: Viewing = VIEWING) -> int:
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
    apart: Apart = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Have volumes belong together, on common nodes; a volume is in one group at most."""
    return change(CreateGroup(group=name, volumes=volumes, apart=apart), options, how)


@app.command
def add(
    name: GroupName,
    /,
    *volumes: VolumeNames,
    apart: Apart = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Put volumes into a group: such as are where the others are."""
    return change(AddToGroup(group=name, volumes=volumes, apart=apart), options, how)


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
        confirmed(
            name, f"This forgets the group {name[:80]!r}; its volumes stay", yes=yes or how.plan
        )
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
    single: Annotated[
        bool,
        Parameter(negative="", help="Of replicas, only the one that is written to."),
    ] = False,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Keep all volumes of a group as they are at one instant, or none of them."""
    word = SnapshotGroup(
        group=name, snapshot=snapshot, reserve_bytes=reserve, deadline_s=deadline, single=single
    )
    return change(word, options, how)


AtOnce = Annotated[int, Parameter(help="So many volumes move at one time.")]


@app.command
def migrate(
    name: GroupName,
    /,
    *,
    source: Annotated[
        AtNode,
        Parameter(
            name="--from",
            help="The node whose replicas move. [default: of each, the one that has it]",
        ),
    ] = None,
    node: Annotated[
        AtNode,
        Parameter(name="--to", help="The node that they move to. [default: one that takes all]"),
    ] = None,
    rate: FillRate = None,
    at_once: AtOnce = 2,
    deadline: CopyDeadline = SYNC_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Move all volumes of a group, or one replica of each, to one node; they stay in use."""
    word = MigrateGroup(
        group=name,
        source=source,
        node=node,
        at_once=at_once,
        resync_bytes_per_s=rate,
        deadline_s=deadline,
    )
    return change(word, options, how)


@app.command
def hand_over(
    name: GroupName,
    node: NodeName,
    /,
    *,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Have all volumes of a group written to on another of their nodes, consumers included."""
    return change(HandGroupOver(group=name, node=node, deadline_s=deadline), options, how)


@app.command
def add_replica(
    name: GroupName,
    /,
    *,
    node: AtNode = None,
    rate: FillRate = None,
    at_once: AtOnce = 2,
    deadline: CopyDeadline = SYNC_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Give each volume of a group a replica on one node, where it has none there yet."""
    word = AddGroupReplica(
        group=name,
        node=node,
        at_once=at_once,
        resync_bytes_per_s=rate,
        deadline_s=deadline,
    )
    return change(word, options, how)
