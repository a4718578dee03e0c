"""Looking after the views: which there are, and work that compares or remakes them.

``hwbus.views.fsck`` and ``hwbus.views.rebuild`` take a :class:`Work` and begin; a :class:`Job` is
answered at once, and asked for again at its ``ask`` with a :class:`WhichJob` until it has ended.
Each control plane keeps views of its own: the one that answers looks after its own.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.units import Moment
from schemas.views import Row

DIFFERENCES_MAX = 100
JOB_WAIT_MAX_MS = 20_000
_Name = Annotated[str, msgspec.Meta(max_length=64)]


class ViewRow(Row, frozen=True, kw_only=True):
    """One view: how many rows it has, how many versions of them are kept, and how far it is.

    An ``inner`` one cannot be asked: others are made with it.
    """

    name: str
    inner: bool = False
    rows: int = 0
    versions: int = 0
    position: int = 0
    lag_events: int = 0
    lag_s: float = 0.0


class WorkKind(StrEnum):
    """What is done with views."""

    FSCK = "fsck"
    REBUILD = "rebuild"


class JobState(StrEnum):
    """How it is with such work. ``failed`` says nothing about the views; ``because`` says why."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Work(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compare these views with the log, or make them anew from it; without names all of them."""

    views: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=100)] = ()


class WhichJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tell of this job, when it has ended or after *wait_ms* at the latest."""

    job: Annotated[str, msgspec.Meta(max_length=64)]
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=JOB_WAIT_MAX_MS)] = 0


class RowDiffers(msgspec.Struct, frozen=True, kw_only=True):
    """One row that is not what the log makes it: as it is kept, and as it was made anew.

    None: there is none. ``past`` is the mark at which a kept version of a row is wrong, 0 for
    the row itself. Sides that are the same differ only in the columns by which the row is found.
    """

    view: str
    key: str
    past: int = 0
    kept: str | None = None
    made: str | None = None


class Job(Row, frozen=True, kw_only=True):
    """Work on the views. It ends as done or failed; ``seq`` is up to where was compared.

    ``differing`` counts all rows that differ, ``found`` holds the first of them.
    """

    job: str
    ask: str
    kind: WorkKind
    views: tuple[str, ...]
    state: JobState
    began: Moment
    ended: Moment | None = None
    seq: int = 0
    rows: int = 0
    differing: int = 0
    found: tuple[RowDiffers, ...] = ()
    because: str = ""
