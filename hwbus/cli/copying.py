"""New volumes with what others hold: cloned from a volume, restored from a snapshot."""

from typing import Annotated, Literal

from cyclopts import Parameter

from hwbus.cli.changing import change
from hwbus.cli.labelling import KeepLabels, NewLabels, written
from hwbus.cli.nouns import AtNode, AtPool, SnapshotName, VolumeName
from hwbus.cli.options import CHANGE, OPTIONS, Change, CopyDeadline, Options, Size
from schemas.copying import COPY_S, CloneVolume, RestoreVolume
from schemas.volume import Layout

NewName = Annotated[str, Parameter(help="What to call the new volume.")]
NewSize = Annotated[
    Size | None, Parameter(help="How large it shall be. [default: as large as the source]")
]
NewLayout = Annotated[
    Literal["linear", "striped", "thin"] | None,
    Parameter(name="--layout", help="How its extents lie. [default: thin if the source is]"),
]
Stripes = Annotated[int, Parameter(help="Over so many disks.")]
RateLimit = Annotated[
    Size | None, Parameter(help="Copy at most so much a second: 50MiB. [default: no limit]")
]
Reserve = Annotated[
    Size | None,
    Parameter(help="Room for what changes in a thick source meanwhile. [default: a fifth of it]"),
]


def clone(
    source: VolumeName,
    name: NewName,
    /,
    *,
    size: NewSize = None,
    layout: NewLayout = None,
    stripes: Stripes = 1,
    pool: AtPool = None,
    node: AtNode = None,
    reserve: Reserve = None,
    rate: RateLimit = None,
    label: NewLabels = None,
    keep_labels: KeepLabels = False,
    deadline: CopyDeadline = COPY_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Make a new volume with what this one holds now; it stays in use.

    In the same thin pool that is done at once; else all is copied, verified, and shown as it goes.
    """
    word = CloneVolume(
        volume=name,
        source=source,
        size_bytes=size,
        layout=None if layout is None else Layout(layout),
        stripes=stripes,
        pool=pool,
        node=node,
        reserve_bytes=reserve,
        rate_bytes_per_s=rate,
        labels=written(label),
        keep_labels=keep_labels,
        deadline_s=deadline,
    )
    return change(word, options, how)


def restore(
    snapshot: SnapshotName,
    name: NewName,
    /,
    *,
    size: NewSize = None,
    layout: NewLayout = None,
    stripes: Stripes = 1,
    pool: AtPool = None,
    node: AtNode = None,
    rate: RateLimit = None,
    label: NewLabels = None,
    keep_labels: KeepLabels = False,
    deadline: CopyDeadline = COPY_S,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Make a new volume with what the snapshot holds; the snapshot and its volume stay.

    In the same thin pool that is done at once; else all is copied, verified, and shown as it goes.
    """
    word = RestoreVolume(
        volume=name,
        snapshot=snapshot,
        size_bytes=size,
        layout=None if layout is None else Layout(layout),
        stripes=stripes,
        pool=pool,
        node=node,
        rate_bytes_per_s=rate,
        labels=written(label),
        keep_labels=keep_labels,
        deadline_s=deadline,
    )
    return change(word, options, how)
