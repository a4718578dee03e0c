"""What is said when what snapshots and thin pools have of their pool is made more, while in use."""

from schemas.grammar import Event, Request
from schemas.pool import PoolFacts
from schemas.refusals import Refusal
from schemas.units import Bytes, Id, Moment, Name, Seconds, SomeBytes


class GrowSnapshot(Request, frozen=True, kw_only=True, tag="snapshot.grow.v1"):
    """Give a thick snapshot more room for what changes: ``reserve_bytes`` in all.

    It never gets more than it could use if its volume changed everywhere.
    """

    snapshot: Name
    reserve_bytes: Bytes
    deadline_s: Seconds = 600


class SnapshotGrowthBegan(Event, frozen=True, kw_only=True, tag="snapshot.growth-began.v1"):
    """The reserve shall be ``reserve_bytes`` instead of ``from_bytes``."""

    snapshot: Name
    uid: Id
    operation: Id
    deadline: Moment
    volume: Name
    volume_uid: Id
    node: Name
    pool: Name
    from_bytes: Bytes
    reserve_bytes: Bytes


class SnapshotGrown(Event, frozen=True, kw_only=True, tag="snapshot.grown.v1"):
    """The snapshot has so much room; how full it is will be told anew."""

    snapshot: Name
    operation: Id
    reserve_bytes: Bytes


class SnapshotGrowthFailed(Event, frozen=True, kw_only=True, tag="snapshot.growth-failed.v1"):
    """Growing was given up; ``reserve_bytes`` is what the snapshot has now."""

    snapshot: Name
    operation: Id
    reserve_bytes: SomeBytes
    code: Refusal
    because: str


class GrowThinPool(Request, frozen=True, kw_only=True, tag="pool.grow-thin.v1"):
    """Give the thin pool more of its pool: ``thin_bytes`` for data in all.

    Its metadata grows with the data; ``metadata_bytes`` asks for more than that, in all.
    """

    pool: Name
    node: Name
    thin_bytes: Bytes
    metadata_bytes: SomeBytes = 0
    deadline_s: Seconds = 600


class ExtendThinPool(Request, frozen=True, kw_only=True, tag="pool.extend-thin.v1"):
    """Step of growing a thin pool: the room is set aside, the node shall extend it."""

    pool: Name
    node: Name
    operation: Id


class ThinPoolGrowthBegan(Event, frozen=True, kw_only=True, tag="pool.thin-growth-began.v1"):
    """The thin pool shall be so large; ``reserved_bytes`` are promised to nobody else now."""

    pool: Name
    node: Name
    operation: Id
    deadline: Moment
    from_bytes: Bytes
    thin_bytes: Bytes
    metadata_bytes: SomeBytes
    reserved_bytes: Bytes


class ThinPoolGrowthWanted(Event, frozen=True, kw_only=True, tag="pool.thin-growth-wanted.v1"):
    """The node shall have the thin pool so large, data and metadata."""

    pool: Name
    node: Name
    uid: Id
    thin_bytes: Bytes
    metadata_bytes: SomeBytes


class ThinPoolGrown(Event, frozen=True, kw_only=True, tag="pool.thin-grown.v1"):
    """The thin pool is so large; how full it is will be told anew."""

    pool: Name
    node: Name
    uid: Id
    facts: PoolFacts


class ThinPoolGrowthAbandoned(
    Event, frozen=True, kw_only=True, tag="pool.thin-growth-abandoned.v1"
):
    """Growing was given up: what the node has extended stays, and it is asked what that is."""

    pool: Name
    node: Name
    uid: Id
    operation: Id
    code: Refusal
    because: str
    thin_bytes: Bytes


class ThinPoolKept(Event, frozen=True, kw_only=True, tag="pool.thin-kept.v1"):
    """The node has said how large the thin pool is: nothing is set aside for it any longer."""

    pool: Name
    node: Name
    uid: Id
    facts: PoolFacts


SnapshotGrowthCommand = GrowSnapshot
SnapshotGrowthEvent = SnapshotGrowthBegan | SnapshotGrown | SnapshotGrowthFailed
ThinGrowthCommand = GrowThinPool | ExtendThinPool
ThinGrowthEvent = (
    ThinPoolGrowthBegan
    | ThinPoolGrowthWanted
    | ThinPoolGrown
    | ThinPoolGrowthAbandoned
    | ThinPoolKept
)
