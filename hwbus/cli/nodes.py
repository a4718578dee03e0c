"""Nodes: who is in the cluster, and who shall take nothing new."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli.changing import change, confirmed
from hwbus.cli.exits import Exit
from hwbus.cli.nouns import NodeName, Why, Yes
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
from hwbus.cli.session import conversation, print_call, run
from hwbus.cli.tables import TABLES
from hwbus.client import query_call
from schemas.draining import DRAIN_S, DrainNode, ForgetNode
from schemas.node import AdmitNode, CordonNode, RemoveNode, UncordonNode

RateLimit = Annotated[
    Size | None, Parameter(help="Fill each with at most so much a second. [default: no limit]")
]

app = noun("node", "The machines that carry the disks.")


@app.command(name="ls", alias="list")
def ls(*, options: Viewing = VIEWING) -> int:
    """List the nodes."""
    return listing("nodes", {}, options)


@app.command
def show(name: NodeName, /, *, options: Viewing = VIEWING) -> int:
    """Show one node, its pools, its disks, and what drifted there."""
    if options.show_call:
        return print_call(query_call("nodes", {"name": name}), options)
    return run(_show(name, options))


async def _show(name: str, options: Options) -> int:
    async with conversation(options) as client:
        page, _ = await one(client, "nodes", {"name": name}, f"node {name[:80]!r}", options)
        if show_row("nodes", page, options):
            for view, title in (("pools", "Pools"), ("disks", "Disks"), ("drift", "Drift")):
                further = await rest(client, view, {"node": name}, page)
                if further.items:
                    heading(title)
                    print_table(TABLES[view], further.items)
    return Exit.OK


@app.command
def cordon(
    name: NodeName,
    /,
    *,
    because: Why = "",
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Place nothing new on a node; what is there stays and works."""
    return change(CordonNode(node=name, because=because), options, how)


@app.command
def uncordon(name: NodeName, /, *, options: Options = OPTIONS, how: Change = CHANGE) -> int:
    """Place things on a node again."""
    return change(UncordonNode(node=name), options, how)


@app.command
def admit(name: NodeName, /, *, options: Options = OPTIONS, how: Change = CHANGE) -> int:
    """Let a removed node in again."""
    return change(AdmitNode(node=name), options, how)


@app.command
def drain(
    name: NodeName,
    /,
    *,
    at_once: Annotated[int, Parameter(help="So many volumes move at one time.")] = 2,
    rate: RateLimit = None,
    deadline: CopyDeadline = DRAIN_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Cordon a node and move all volumes from it, in use; what cannot move is named."""
    word = DrainNode(node=name, at_once=at_once, resync_bytes_per_s=rate, deadline_s=deadline)
    return change(word, options, how)


@app.command
def forget(
    name: NodeName,
    /,
    *,
    deadline: Deadline = 600,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Give up a silent node for good: its replicas, pools and disks are gone; others replace it."""
    if not options.show_call:
        what = f"This gives up the node {name!r}, its pools and disks for good"
        confirmed(name, what, yes=yes or how.plan)
    return change(ForgetNode(node=name, deadline_s=deadline), options, how)


@app.command(alias="rm")
def remove(
    name: NodeName,
    /,
    *,
    deadline: Deadline = 600,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Take a node out of the cluster; it must carry no pool."""
    if not options.show_call:
        confirmed(name, f"This takes the node {name!r} out of the cluster", yes=yes or how.plan)
    return change(RemoveNode(node=name, deadline_s=deadline), options, how)
