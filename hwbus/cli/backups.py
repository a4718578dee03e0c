"""Backups: put volumes where this cluster is not, look what lies there, and have it back."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli.backup_targets import BackupId, TargetName, looked
from hwbus.cli.backup_targets import app as targets
from hwbus.cli.changing import change, confirmed
from hwbus.cli.copying import NewName, NewSize, RateLimit, Reserve, Stripes
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.labelling import NewLabels, written
from hwbus.cli.nouns import AtNode, AtPool, AtVolume, VolumeName, Yes
from hwbus.cli.options import (
    CHANGE,
    OPTIONS,
    VIEWING,
    Change,
    CopyDeadline,
    Options,
    Viewing,
    WholeSeconds,
    noun,
)
from hwbus.cli.output import print_page
from hwbus.cli.reading import listing, one, show_row
from hwbus.cli.session import conversation, own_writes, print_call, run
from hwbus.client import Page, query_call
from schemas.copying import COPY_S, RestoreBackup
from schemas.target import GRACE_S, BackUpVolume, ListBackups, SweepTarget, VerifyBackup
from schemas.volume import Filesystem, Layout

app = noun("backup", "Volumes kept where this cluster is not.")
app.command(targets)

_SWEEP_S = 86_400
Full = Annotated[bool, Parameter(negative=(), help="Do not look at what the last backup has.")]
Keep = Annotated[
    bool,
    Parameter(
        negative=(),
        help="Keep the snapshot of a thin volume, so that the next backup reads only what changed.",
    ),
]
NameIt = Annotated[
    str | None, Parameter(name="--name", help="What to call it. [default: VOLUME-DATE-TIME]")
]
Grace = Annotated[
    WholeSeconds,
    Parameter(help="Leave what is younger than this: 24h. [default: 24h]", show_default=False),
]
AsLayout = Annotated[Layout, Parameter(name="--layout", help="How its extents lie.")]


@app.command
def create(
    volume: VolumeName,
    target: TargetName,
    /,
    *,
    name: NameIt = None,
    full: Full = False,
    keep: Keep = False,
    reserve: Reserve = None,
    rate: RateLimit = None,
    deadline: CopyDeadline = COPY_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Back a volume up as it is now; it stays in use. What the target has is not put again."""
    word = BackUpVolume(
        target=target,
        volume=volume,
        backup=name,
        full=full,
        keep=keep,
        reserve_bytes=reserve,
        rate_bytes_per_s=rate,
        deadline_s=deadline,
    )
    return change(word, options, how)


@app.command(name="ls", alias="list")
def ls(
    target: Annotated[TargetName | None, Parameter(help="Look what lies there.")] = None,
    /,
    *,
    volume: AtVolume = None,
    node: AtNode = None,
    options: Viewing = VIEWING,
) -> int:
    """List backups: those that lie in TARGET now, whoever made them, or all that are known."""
    if target is not None and options.at is not None:
        raise FailureError(
            Exit.USAGE,
            "what lies in a target is looked up now, not as it was",
            fix="Leave TARGET out: hwbus backup ls --at lists what was known of backups then.",
        )
    asked = {"target": target, "volume": volume}
    if target is None or options.show_call:
        return listing("backups", asked, options)
    where = {key: value for key, value in asked.items() if value is not None}
    print_page("backups", run(_listed(target, where, node, options)), options.output)
    return Exit.OK


async def _listed(target: str, where: dict[str, str], node: str | None, options: Options) -> Page:
    async with conversation(options) as client:
        word = ListBackups(target=target, volume=where.get("volume"), node=node)
        await looked(client, word, options)
        return await client.query_all("backups", where, min_seq=own_writes(options))


@app.command
def show(target: TargetName, name: BackupId, /, *, options: Viewing = VIEWING) -> int:
    """Show one backup: of what, how large, what it cost, and what of it is damaged."""
    if options.show_call:
        return print_call(query_call("backups", {"target": target, "name": name}), options)
    show_row("backups", run(_known(target, name, options)), options)
    return Exit.OK


async def _known(target: str, name: str, options: Options) -> Page:
    async with conversation(options) as client:
        where = {"target": target, "name": name}
        what = f"backup {name[:80]!r} in {target[:80]!r}"
        page, _ = await one(client, "backups", where, what, options)
    return page


@app.command
def restore(
    target: TargetName,
    name: BackupId,
    volume: NewName,
    /,
    *,
    size: NewSize = None,
    layout: AsLayout = Layout.LINEAR,
    stripes: Stripes = 1,
    pool: AtPool = None,
    node: AtNode = None,
    rate: RateLimit = None,
    label: NewLabels = None,
    deadline: CopyDeadline = COPY_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Make a new volume out of a backup, in this cluster or any other; the backup stays.

    It is there when every chunk is, and was what it was when it was put.
    """
    row = run(_found(target, name, node, options)).items[0]
    word = RestoreBackup(
        volume=volume,
        target=target,
        backup=name,
        manifest=str(row["manifest"]),
        backup_bytes=int(row["size_bytes"]),
        filesystem=Filesystem(row["filesystem"]),
        size_bytes=size,
        layout=layout,
        stripes=stripes,
        pool=pool,
        node=node,
        rate_bytes_per_s=rate,
        deadline_s=deadline,
        labels=written(label),
    )
    return change(word, options, how)


async def _found(target: str, name: str, node: str | None, options: Options) -> Page:
    """Return what is known of a backup; if that is not enough, a node looks."""
    where = {"target": target, "name": name}
    async with conversation(options) as client:
        page = await client.query("backups", where, min_seq=own_writes(options))
        if not page.items or not page.items[0]["manifest"]:
            await looked(client, ListBackups(target=target, backup=name, node=node), options)
        what = f"backup {name[:80]!r} in {target[:80]!r}"
        page, row = await one(client, "backups", where, what, options)
    if not row["manifest"]:
        raise FailureError(
            Exit.NOT_FOUND,
            f"there is no whole backup {name[:80]!r}: it is {row['state']}",
            fix=f"hwbus backup ls {target} shows what there is.",
        )
    return page


@app.command
def verify(
    target: TargetName,
    name: BackupId,
    /,
    *,
    node: AtNode = None,
    rate: RateLimit = None,
    deadline: CopyDeadline = COPY_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Read every chunk of a backup; with --wait the exit code is 1 if one is not what it was."""
    word = VerifyBackup(
        target=target, backup=name, node=node, rate_bytes_per_s=rate, deadline_s=deadline
    )
    return change(word, options, how)


@app.command(alias="rm")
def delete(
    target: TargetName,
    name: BackupId,
    /,
    *,
    grace: Grace = GRACE_S,
    node: AtNode = None,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Remove a backup, and what no other backup in the target needs and is old enough."""
    if not options.show_call:
        confirmed(name, f"This deletes the backup {name[:80]!r}", yes=yes or how.plan)
    word = SweepTarget(target=target, backup=name, node=node, grace_s=grace, deadline_s=_SWEEP_S)
    return change(word, options, how)


@app.command
def sweep(
    target: TargetName,
    /,
    *,
    grace: Grace = GRACE_S,
    node: AtNode = None,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Remove what no backup in the target needs and is old enough: what failed backups left."""
    word = SweepTarget(target=target, node=node, grace_s=grace, deadline_s=_SWEEP_S)
    return change(word, options, how)
