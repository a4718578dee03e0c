"""Disks: what was found, what may be taken, what shall be left alone."""

from typing import Annotated, Literal

from cyclopts import Parameter

from hwbus.cli.changing import change
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import AtNode, AtPool, DiskId, Why
from hwbus.cli.options import CHANGE, OPTIONS, VIEWING, Change, Deadline, Options, Viewing, noun
from hwbus.cli.reading import listing, one, show_row
from hwbus.cli.session import conversation, print_call, run
from hwbus.client import query_call
from schemas.disk import DiskClass, OverrideDiskClass, ReserveDisk, UnreserveDisk
from schemas.shrinking import ShrinkPool

app = noun("disk", "The disks that were found on the nodes.")


@app.command(name="ls", alias="list")
def ls(
    *,
    node: AtNode = None,
    pool: AtPool = None,
    free: Annotated[
        bool, Parameter(name=["--free", "--blank"], negative=(), help="Only what can be taken.")
    ] = False,
    options: Viewing = VIEWING,
) -> int:
    """List the disks."""
    where = {"node": node, "pool": pool, "state": "free" if free else None}
    return listing("disks", where, options)


@app.command
def show(id_: DiskId, /, *, options: Viewing = VIEWING) -> int:
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


@app.command
def drain(
    id_: DiskId,
    /,
    *,
    deadline: Deadline = 21_600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Move all that lies on a disk of a pool elsewhere in it, and take the disk out, blank."""
    node, pool = _pool_of(id_, options)
    word = ShrinkPool(pool=pool, node=node, disks=(id_,), deadline_s=deadline)
    return change(word, options, how)


def _pool_of(disk: str, options: Options) -> tuple[str, str]:
    async def work() -> str:
        async with conversation(options) as client:
            _, row = await one(client, "disks", {"id": disk}, f"disk {disk[:80]!r}", options)
            if volume := row.get("volume"):
                whole = f"{disk} is the volume {volume}, and in no pool"
                raise FailureError(Exit.USAGE, whole, fix=f"hwbus volume show {volume}")
            return str(row["pool"])

    node, _, pool = run(work()).partition("/")
    if not pool:
        raise FailureError(
            Exit.USAGE, f"{disk} is in no pool, so nothing lies on it", fix="hwbus disk show ID"
        )
    return node, pool


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
