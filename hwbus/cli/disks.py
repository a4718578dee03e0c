"""Disks: what was found, what may be taken, what shall be left alone."""

from typing import Annotated, Literal

from cyclopts import Parameter

from hwbus.cli.changing import change
from hwbus.cli.exits import Exit
from hwbus.cli.nouns import AtNode, AtPool, DiskId, Why
from hwbus.cli.options import CHANGE, OPTIONS, Change, Options, noun
from hwbus.cli.reading import listing, one, show_row
from hwbus.cli.session import conversation, print_call, run
from hwbus.client import query_call
from schemas.disk import DiskClass, OverrideDiskClass, ReserveDisk, UnreserveDisk

app = noun("disk", "The disks that were found on the nodes.")


@app.command(name="ls", alias="list")
def ls(
    *,
    node: AtNode = None,
    pool: AtPool = None,
    free: Annotated[
        bool, Parameter(name=["--free", "--blank"], negative=(), help="Only what can be taken.")
    ] = False,
    options: Options = OPTIONS,
) -> int:
    """List the disks."""
    where = {"node": node, "pool": pool, "state": "free" if free else None}
    return listing("disks", where, options)


@app.command
def show(id_: DiskId, /, *, options: Options = OPTIONS) -> int:
    """Show one disk."""
    if options.show_call:
        return print_call(query_call("disks", {"id": id_}), options)
    return run(_show(id_, options))


async def _show(id_: str, options: Options) -> int:
    async with conversation(options) as client:
        page, _ = await one(client, "disks", {"id": id_}, f"disk {id_[:80]!r}", options)
        show_row("disks", page, options)
    return Exit.OK


@app.command
def reserve(
    id_: DiskId, /, *, because: Why = "", options: Options = OPTIONS, how: Change = CHANGE
) -> int:
    """Leave a disk alone: it will be put in no pool."""
    return change(ReserveDisk(disk=id_, because=because), options, how)


@app.command
def unreserve(id_: DiskId, /, *, options: Options = OPTIONS, how: Change = CHANGE) -> int:
    """Allow a disk to be used again."""
    return change(UnreserveDisk(disk=id_), options, how)


@app.command(name="class")
def class_(
    id_: DiskId,
    media: Annotated[
        Literal["hdd", "ssd", "nvme", "auto"],
        Parameter(help="What the disk is; auto believes the node again."),
    ],
    /,
    *,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Say what a disk is, whatever its node believes."""
    word = OverrideDiskClass(disk=id_, media=None if media == "auto" else DiskClass(media))
    return change(word, options, how)
