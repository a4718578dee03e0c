"""The row of a snapshot, as people ask about it."""

from enum import StrEnum

from schemas.refusals import Refusal
from schemas.replica import Consistency
from schemas.units import Moment
from schemas.views import Tracked
from schemas.volume import Layout


class SnapshotState(StrEnum):
    """What is being done with a snapshot; ``failed``: it is lost, and can only be deleted."""

    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    ROLLING_BACK = "rolling-back"
    GROWING = "growing"


class SnapshotRow(Tracked, frozen=True, kw_only=True):
    """One snapshot of a volume that was ``size_bytes`` large when it was taken.

    ``reserve_bytes`` is the room of a thick one for what changes, ``fill_percent`` the last mark it
    passed; a thin one has no room of its own. ``lost``: it overflowed, and ``why`` says so. The
    leg of the volume was larger than it by ``header_bytes``. ``schedule`` took it, if it is named;
    those with the same ``group`` and ``together`` are of one instant.
    """

    name: str
    uid: str
    volume: str
    state: SnapshotState
    why: str = ""
    code: Refusal | None = None
    lost: bool = False
    size_bytes: int = 0
    reserve_bytes: int = 0
    header_bytes: int = 0
    fill_percent: int = 0
    consistency: Consistency | None = None
    layout: Layout = Layout.LINEAR
    node: str = ""
    pool: str = ""
    device: str = ""
    schedule: str = ""
    group: str = ""
    together: str = ""
    operation: str = ""
    deadline: Moment | None = None
