"""Volumes: make, look at, grow, wait for, delete and bring back; their use is next door."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from hwbus.cli import attaching, copying, encrypting, labelling, replicating
from hwbus.cli.cells import Row
from hwbus.cli.changing import change, confirmed, ended
from hwbus.cli.encrypting import KeyReference
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.following import follow_to_end
from hwbus.cli.nouns import (
    Apart,
    AsClass,
    AsDisk,
    AtNode,
    AtPool,
    OfClass,
    OfGroup,
    VolumeName,
    Wipe,
    Yes,
)
from hwbus.cli.operations import patience_s
from hwbus.cli.options import (
    CHANGE,
    FOLLOWING,
    OPTIONS,
    VIEWING,
    Change,
    Deadline,
    Following,
    Hold,
    Options,
    Size,
    Viewing,
    noun,
)
from hwbus.cli.output import heading, print_data, print_table, say
from hwbus.cli.paint import clean
from hwbus.cli.placing import print_candidates
from hwbus.cli.reading import listing, note_behind, one, rest, show_row
from hwbus.cli.session import conversation, own_writes, print_call, run
from hwbus.cli.sizes import format_size
from hwbus.cli.tables import TABLES
from hwbus.cli.world import world
from hwbus.client import Client, Page, query_call
from schemas.deleting import DeleteVolume, PurgeVolume, UndeleteVolume
from schemas.disk import DiskClass, Wiping
from schemas.volume import Filesystem, GrowVolume, Layout, ProvisionVolume

_HOLD_S = 24 * 3600
NewSize = Annotated[
    Size | None, Parameter(help="How large: 50GiB, 500G (10^9); a whole disk: at least.")
]
AsLayout = Annotated[
    Literal["linear", "striped", "thin", "disk"] | None,
    Parameter(help="How its extents lie; disk: it is a whole one. [default: linear]"),
]
AsFilesystem = Annotated[
    Literal["none", "ext4", "xfs"], Parameter(help="Make this filesystem on it.")
]

app = noun("volume", "What is given to those who need room.", alias="vol")
_NEXT_DOOR = (
    attaching.attach,
    attaching.detach,
    attaching.limit,
    copying.clone,
    encrypting.rekey,
    labelling.label,
    replicating.add_replica,
    replicating.remove_replica,
    replicating.hand_over,
    replicating.fail_over,
    replicating.failover,
    replicating.migrate,
    replicating.settle_split,
    replicating.verify,
)
_OF_SEVERAL = ("replicas", "replicas_wanted", "health", "survives", "epoch", "failover", "compared")
for _verb in _NEXT_DOOR:
    app.command(_verb)
# They bring the views along: whoever does not name them does not wait for those.
for _name in ("blame", "why"):
    app.command(f"hwbus.cli.blaming:{_name}", name=_name)


@app.command(name="ls", alias="list")
def ls(
    *,
    node: AtNode = None,
    pool: AtPool = None,
    selector: labelling.Selector = None,
    options: Viewing = VIEWING,
) -> int:
    """List the volumes."""
    return listing("volumes", {"node": node, "pool": pool, "selector": selector}, options)


@app.command
def show(name: VolumeName, /, *, options: Viewing = VIEWING) -> int:
    """Show one volume, its legs and snapshots, and why it was put where it is."""
    if options.show_call:
        return print_call(query_call("volume", {"name": name}), options)
    return run(_show(name, options))


async def _show(name: str, options: Options) -> int:
    async with conversation(options) as client:
        page, row = await one(client, "volume", {"name": name}, f"volume {name[:80]!r}", options)
        several = row.get("replicas") or row.get("replicas_wanted", 1) > 1
        hide = ("replicas",) if several else _OF_SEVERAL
        if show_row("volumes", page, options, hide=hide):
            legs = await rest(client, "replicas", {"volume": name}, page)
            if legs.items:
                heading("Replicas")
                print_table(TABLES["replicas"], legs.items)
            kept = await rest(client, "snapshots", {"volume": name}, page)
            if kept.items:
                heading("Snapshots")
                print_table(TABLES["snapshots"], kept.items)
            if row.get("candidates"):
                heading("Where it could have been put, best first")
                print_candidates(row["candidates"])
    return Exit.OK


@app.command
def create(
    name: Annotated[str, Parameter(help="What to call it.")],
    size: NewSize = None,
    /,
    *,
    layout: AsLayout = None,
    stripes: Annotated[int, Parameter(help="Over so many disks, if striped.")] = 1,
    fs: AsFilesystem = "none",
    key_ref: KeyReference = None,
    qos: OfClass = None,
    replicas: replicating.Replicas = 1,
    failover: replicating.Failover = True,
    group: OfGroup = None,
    apart: Apart = False,
    pool: AtPool = None,
    node: AtNode = None,
    disk: AsDisk = None,
    media: AsClass = None,
    label: labelling.NewLabels = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Make a volume; where it is put is chosen and recorded, unless a pool or node is named.

    With --disk ID it is that disk, whole; with --class or --layout disk the smallest blank one.
    """
    whole = layout == "disk" or (layout is None and bool(disk or media))
    word = ProvisionVolume(
        volume=name,
        size_bytes=1 if whole and size is None else _said(size),
        layout=Layout.DISK if whole else Layout(layout or "linear"),
        stripes=stripes,
        filesystem=Filesystem(fs),
        pool=pool,
        node=node,
        deadline_s=deadline,
        key_ref=encrypting.checked(key_ref),
        disk=disk,
        media=None if media is None else DiskClass(media),
        qos=qos,
        replicas=replicas,
        failover=failover,
        group=group,
        apart=apart,
        labels=labelling.written(label),
    )
    return change(word, options, how)


def _said(size: int | None) -> int:
    if size is None:
        raise FailureError(
            Exit.USAGE,
            "SIZE is missing: how large shall it be?",
            fix="hwbus volume create NAME 1GiB",
        )
    return size


@app.command
def grow(
    name: VolumeName,
    size: Size,
    /,
    *,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Make a volume, and a filesystem on it, so large; it stays in use."""
    return change(GrowVolume(volume=name, size_bytes=size, deadline_s=deadline), options, how)


@app.command(alias="rm")
def delete(
    name: VolumeName,
    /,
    *,
    hold: Hold = _HOLD_S,
    wipe: Wipe = "discard",
    deadline: Deadline = 600,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Delete a volume: its data goes after the hold, and until then it can be undeleted."""
    if not (options.show_call or how.plan or yes):
        span = str(timedelta(seconds=hold)).removesuffix(", 0:00:00")
        kept = hold and wipe != "lost"
        data = f"; its data is kept for {span}" if kept else ", and its data"
        confirmed(name, f"This deletes {_what(name, options)}{data}", yes=False)
    word = DeleteVolume(volume=name, deadline_s=deadline, hold_s=hold, wiping=Wiping(wipe))
    return change(word, options, how)


@app.command
def undelete(
    name: VolumeName,
    /,
    *,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Bring a deleted volume back, as it was, while it is held."""
    return change(UndeleteVolume(volume=name, deadline_s=deadline), options, how)


@app.command
def purge(
    name: VolumeName,
    /,
    *,
    wipe: Wipe = "discard",
    deadline: Deadline = 600,
    yes: Yes = False,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Remove a deleted volume and its data now, before its hold is over."""
    if not (options.show_call or how.plan or yes):
        confirmed(name, f"This purges {_what(name, options)}, and its data", yes=False)
    word = PurgeVolume(volume=name, deadline_s=deadline, wiping=Wiping(wipe))
    return change(word, options, how)


def _what(name: str, options: Options) -> str:
    async def work() -> Page:
        async with conversation(options) as client:
            return await client.query("volumes", {"name": name}, min_seq=own_writes(options))

    if not world().stdin.isatty():
        return f"the volume {name[:80]!r}"
    rows = run(work()).items
    if not rows:
        raise FailureError(
            Exit.NOT_FOUND, f"there is no volume {name[:80]!r}", fix="hwbus volume ls shows them."
        )
    row = rows[0]
    nodes = ", ".join(str(leg["node"]) for leg in row.get("replicas") or (row,))
    return f"the volume {name[:80]!r} ({format_size(row['size_bytes'])}, on {nodes})"


@app.command
def wait(
    name: VolumeName,
    /,
    *,
    for_: Annotated[
        Literal["ready", "gone"], Parameter(name="--for", help="What to wait for.")
    ] = "ready",
    options: Options = OPTIONS,
    how: Following = FOLLOWING,
) -> int:
    """Wait until a volume is ready (or gone), following the operation that runs on it."""
    return run(_wait(name, for_, options, how))


async def _wait(name: str, for_: str, options: Options, how: Following) -> int:
    async with conversation(options) as client:
        row = await _row(client, name, own_writes(options))
        if row is not None and row.get("operation"):
            operation = str(row["operation"])
            say(f"volume/{clean(name)} is {row['state']}: operation {operation}")
            ending = await follow_to_end(
                client,
                operation,
                title=f"volume/{clean(name)}",
                object_=f"volume/{name}",
                after=0,
                timeout_s=patience_s(row, how),
            )
            code = ended(ending, options)
            if code is not Exit.OK:
                return code
            row = await _row(client, name, ending.seq)
        elif row is not None and options.output in {"json", "yaml"}:
            print_data("Volume", [row], options.output)
    return _arrived(name, row, for_, told=options.output in {"json", "yaml"})


async def _row(client: Client, name: str, min_seq: int) -> dict[str, Any] | None:
    page = await client.query("volumes", {"name": name}, min_seq=min_seq)
    note_behind(page)
    return page.items[0] if page.items else None


def _arrived(name: str, row: Row | None, for_: str, *, told: bool) -> int:
    held = row is not None and row["state"] == "held"
    if held or (row is None) != (for_ == "gone"):
        state = f"is {row['state']}" if row is not None else "does not exist"
        raise FailureError(
            Exit.NOT_FOUND if row is None else Exit.FAILED,
            f"the volume {name[:80]!r} {state}, and no operation runs on it",
            fix="hwbus volume ls shows the volumes; hwbus op ls --all what was done.",
        )
    if not told:
        world().out.write(f"volume/{clean(name)} {'gone' if row is None else row['state']}\n")
    return Exit.OK
