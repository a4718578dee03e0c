"""What is said about nodes that are emptied, and about those that are lost for good."""

from typing import Annotated

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.refusals import Refusal
from schemas.units import Id, Moment, Name, Rate, Seconds, Text

AT_ONCE_MAX = 64
DRAIN_S = 7 * 86_400

AtOnce = Annotated[int, msgspec.Meta(ge=1, le=AT_ONCE_MAX, description="So many moves at once.")]
DrainSeconds = Annotated[Seconds, msgspec.Meta(description="A week unless it is given.")]


class DrainNode(Request, frozen=True, kw_only=True, omit_defaults=True, tag="node.drain.v1"):
    """Have no replica on the node any more: each moves to another, ``at_once`` at a time.

    Nothing new is placed on it from that moment on.
    """

    node: Name
    at_once: AtOnce = 2
    resync_bytes_per_s: Rate | None = None
    deadline_s: DrainSeconds = DRAIN_S


class ForgetNode(Request, frozen=True, kw_only=True, tag="node.forget.v1"):
    """Have nothing named after a node that is lost for good. Refused while it is needed."""

    node: Name
    deadline_s: Seconds = 600


class ConcludeDrain(
    Report, frozen=True, kw_only=True, omit_defaults=True, tag="node.report-drained.v1"
):
    """The drain has ended; what is still there is in ``left``."""

    node: Name
    operation: Id
    left: tuple[Name, ...] = ()


class Stuck(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that cannot move, and why."""

    volume: Name
    code: Refusal
    because: Text


class DrainBegan(Event, frozen=True, kw_only=True, omit_defaults=True, tag="node.drain-began.v1"):
    """Each of ``volumes`` shall have its replica elsewhere; the ``stuck`` ones cannot.

    Those of one group go to one node: ``targets`` has it for each of them.
    """

    node: Name
    operation: Id
    deadline: Moment
    volumes: tuple[Name, ...]
    at_once: AtOnce = 2
    stuck: tuple[Stuck, ...] = ()
    resync_bytes_per_s: Rate | None = None
    targets: dict[Name, Name] = msgspec.field(default_factory=dict)


class DrainEnded(Event, frozen=True, kw_only=True, omit_defaults=True, tag="node.drain-ended.v1"):
    """The drain has ended; it still has replicas of ``left``."""

    node: Name
    operation: Id
    left: tuple[Name, ...] = ()


class ForgettingBegan(Event, frozen=True, kw_only=True, tag="node.forgetting-began.v1"):
    """Nothing shall be named after the node any more: neither these pools nor these disks.

    ``volumes`` do without their replica there; the ``legs`` are of nothing that is left elsewhere.
    """

    node: Name
    operation: Id
    deadline: Moment
    pools: tuple[Name, ...]
    disks: tuple[Name, ...]
    legs: tuple[Name, ...]
    volumes: tuple[Name, ...]


class ForgetPool(Report, frozen=True, kw_only=True, tag="pool.report-forgotten.v1"):
    """Step of forgetting a node: its pool is lost with it."""

    pool: Name
    node: Name
    operation: Id


class PoolForgotten(Event, frozen=True, kw_only=True, tag="pool.forgotten.v1"):
    """The pool is lost with its node, and with all that was on these disks."""

    pool: Name
    node: Name
    disks: tuple[Name, ...]


ForgettingCommand = ForgetPool
ForgettingEvent = PoolForgotten
DrainingCommand = DrainNode | ForgetNode | ConcludeDrain
DrainingEvent = DrainBegan | DrainEnded | ForgettingBegan
