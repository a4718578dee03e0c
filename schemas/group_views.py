"""The rows of volume groups and schedules, as people ask about them."""

from enum import StrEnum

from schemas.refusals import Refusal
from schemas.rhythm import Keep
from schemas.units import Moment
from schemas.views import Tracked


class GroupState(StrEnum):
    """What is being done with a group; ``apart``: nothing, and its volumes are not together."""

    READY = "ready"
    SNAPSHOTTING = "snapshotting"
    MOVING = "moving"
    APART = "apart"


class GroupRow(Tracked, frozen=True, kw_only=True):
    """One volume group. ``why`` and ``code`` tell what became of what failed last.

    ``nodes`` are those that its volumes are written to on. If these are several, or if the other
    replicas are not on the same nodes, ``apart`` tells where each volume is.
    """

    name: str
    state: GroupState = GroupState.READY
    volumes: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    apart: str = ""
    last_snapshot: str = ""
    last_taken_at: Moment | None = None
    why: str = ""
    code: Refusal | None = None
    operation: str = ""
    deadline: Moment | None = None


class ScheduleState(StrEnum):
    """Whether a schedule takes anything; ``failing``: what was due last could not be taken."""

    ACTIVE = "active"
    RUNNING = "running"
    FAILING = "failing"
    PAUSED = "paused"


class ScheduleRow(Tracked, frozen=True, kw_only=True):
    """One schedule, of a volume or of a group.

    ``missed`` is how many times went by in all while nobody was there to act, ``failed`` how many
    could not be taken; ``why`` and ``code`` tell of the last of these, until one succeeds.
    """

    name: str
    uid: str
    state: ScheduleState
    every_s: int
    offset_s: int
    keep: Keep
    volume: str = ""
    group: str = ""
    reserve_bytes: int = 0
    last_due: Moment | None = None
    last_snapshot: str = ""
    taken: int = 0
    missed: int = 0
    failed: int = 0
    why: str = ""
    code: Refusal | None = None
    operation: str = ""
