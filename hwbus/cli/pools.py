"""Pools: disks of one node put together, and the ledger of their room."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.token import Token

from hwbus.cli.changing import change, confirmed
from hwbus.cli.exits import Exit
from hwbus.cli.nouns import AtNode, DiskIds, LeavingIds, NodeName, PoolName, Yes
from hwbus.cli.options import (
    CHANGE,
    OPTIONS,
    VIEWING,
    Change,
    Deadline,
    Options,
    Size,
    Viewing,
    noun,
)
from hwbus.cli.output import heading, print_table
from hwbus.cli.reading import listing, node_of_pool, one, rest, show_row
from hwbus.cli.session import conversation, print_call, run
from hwbus.cli.tables import TABLES
from hwbus.client import query_call
from schemas.growing import GrowThinPool
from schemas.pool import FormPool, GrowPool, RemovePool
from schemas.shrinking import ShrinkPool

app = noun("pool", "The pools that volumes are made in.")
_RATIO = re.compile(r"([0-9]{1,5})%|([0-9]{1,3}(?:\.[0-9]{1,2})?)x?")


def _percent(_type: Any, tokens: Sequence[Token]) -> int:
    match = _RATIO.fullmatch(tokens[0].value.strip())
    if match is None:
        raise ValueError(f"{tokens[0].value[:80]!r} is no ratio: write it like 150% or 1.5")
    return int(match[1]) if match[1] else round(float(match[2]) * 100)


@app.command(name="ls", alias="list")
def ls(*, node: AtNode = None, options: Viewing = VIEWING) -> int:
    """List the pools."""
    return listing("pools", {"node": node}, options)


@app.command
def show(name: PoolName, /, *, node: AtNode = None, options: Viewing = VIEWING) -> int:
    """Show one pool, its disks, volumes and snapshots."""
    node, name = node_of_pool(name, node, options)
    if options.show_call:
        return print_call(query_call("pools", {"name": name, "node": node}), options)
    return run(_show(name, node, options))


_PARTS = (("disks", "Disks"), ("volumes", "Volumes"), ("snapshots", "Snapshots"))


async def _show(name: str, node: str, options: Options) -> int:
    where = {"name": name, "node": node}
    async with conversation(options) as client:
        page, _ = await one(client, "pools", where, f"pool {name[:80]!r} on {node!r}", options)
        if show_row("pools", page, options):
            for view, title in _PARTS:
                further = await rest(client, view, {"node": node, "pool": name}, page)
                if further.items:
                    heading(title)
                    print_table(TABLES[view], further.items)
    return Exit.OK


@app.command
def create(
    name: Annotated[str, Parameter(help="What to call it.")],
    /,
    *,
    node: NodeName,
    disk: DiskIds,
    thin: Annotated[
        Size | None, Parameter(help="Set so much aside for thin volumes: 20GiB.")
    ] = None,
    thin_ratio: Annotated[
        int,
        Parameter(
            converter=_percent,
            n_tokens=1,
            show_default=False,
            help="How much thin volumes may be promised of it: 150%. [default: 100%]",
        ),
    ] = 100,
    volumes_max: Annotated[int, Parameter(help="How many volumes it may hold.")] = 4000,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Make a pool of blank disks of one node."""
    word = FormPool(
        pool=name,
        node=node,
        disks=tuple(disk),
        thin_bytes=thin or 0,
        thin_ratio_percent=thin_ratio,
        volumes_max=volumes_max,
        deadline_s=deadline,
    )
    return change(word, options, how)


@app.command
def grow(
    name: PoolName,
    /,
    *,
    disk: DiskIds,
    node: AtNode = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Add blank disks of the same node to a pool."""
    node, name = node_of_pool(name, node, options)
    word = GrowPool(pool=name, node=node, disks=tuple(disk), deadline_s=deadline)
    return change(word, options, how)


@app.command(name="grow-thin")
def grow_thin(
    name: PoolName,
    size: Annotated[Size, Parameter(help="How much to set aside for thin volumes, in all.")],
    /,
    *,
    metadata: Annotated[
        Size | None,
        Parameter(help="Its metadata, in all. [default: what the data needs]"),
    ] = None,
    node: AtNode = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Give the thin pool more of its pool, data and metadata, while it is in use."""
    node, name = node_of_pool(name, node, options)
    word = GrowThinPool(
        pool=name, node=node, thin_bytes=size, metadata_bytes=metadata or 0, deadline_s=deadline
    )
    return change(word, options, how)


@app.command
def shrink(
    name: PoolName,
    /,
    *,
    disk: LeavingIds,
    node: AtNode = None,
    deadline: Deadline = 21_600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Take disks out of a pool: what lies on them is moved first, while it is in use."""
    node, name = node_of_pool(name, node, options)
    word = ShrinkPool(pool=name, node=node, disks=tuple(disk), deadline_s=deadline)
    return change(word, options, how)


@app.command(alias=["rm", "delete"])
def remove(
    name: PoolName,
    /,
    *,
    node: AtNode = None,
    deadline: Deadline = 600,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Take an empty pool apart and give its disks back, blank."""
    node, name = node_of_pool(name, node, options)
    if not options.show_call:
        confirmed(name, f"This takes the pool {name!r} on {node!r} apart", yes=yes or how.plan)
    return change(RemovePool(pool=name, node=node, deadline_s=deadline), options, how)
