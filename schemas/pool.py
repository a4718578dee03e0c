"""What is said about pools: volume groups on nodes, and the ledger of their room."""

from typing import Annotated

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.refusals import Refusal
from schemas.units import Bytes, Count, Id, Moment, Name, Percent, Seconds, SomeBytes, Text

POOLS = "pool"
Disks = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=64)]


class PoolFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A volume group as LVM has it.

    ``size_bytes`` is all its extents; ``thin_bytes`` the data size of its thin pool and
    ``thin_overhead_bytes`` what that pool takes besides (its metadata and LVM's spare copy);
    ``metadata_bytes`` is how long LVM's text about it may become.
    """

    size_bytes: Bytes
    extent_bytes: Bytes
    metadata_bytes: Bytes
    disks: Disks
    thin_bytes: SomeBytes = 0
    thin_overhead_bytes: SomeBytes = 0


class FormPool(Request, frozen=True, kw_only=True, tag="pool.form.v1"):
    """Make a pool of blank disks of one node.

    ``thin_bytes`` sets that much aside for thin volumes, which may promise ``thin_ratio_percent``
    of it; ``volumes_max`` bounds how many volumes the pool may hold.
    """

    pool: Name
    node: Name
    disks: Disks
    thin_bytes: SomeBytes = 0
    thin_ratio_percent: Percent = 100
    volumes_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 4000
    deadline_s: Seconds = 600


class GrowPool(Request, frozen=True, kw_only=True, tag="pool.grow.v1"):
    """Add blank disks of the same node."""

    pool: Name
    node: Name
    disks: Disks
    deadline_s: Seconds = 600


class RemovePool(Request, frozen=True, kw_only=True, tag="pool.remove.v1"):
    """Take an empty pool apart and give its disks back, blank."""

    pool: Name
    node: Name
    deadline_s: Seconds = 600


class BuildPool(Request, frozen=True, kw_only=True, tag="pool.build.v1"):
    """Step of forming a pool: its disks are claimed, the node shall make it."""

    pool: Name
    node: Name
    operation: Id


class ExtendPool(Request, frozen=True, kw_only=True, tag="pool.extend.v1"):
    """Step of growing a pool: the new disks are claimed, the node shall add them."""

    pool: Name
    node: Name
    operation: Id


class TearDownPool(Request, frozen=True, kw_only=True, tag="pool.tear-down.v1"):
    """Step of removing a pool: the node shall take it apart."""

    pool: Name
    node: Name
    operation: Id


class AbandonPool(Report, frozen=True, kw_only=True, tag="pool.report-abandoned.v1"):
    """The running operation on the pool is given up: what it wanted is wanted no more."""

    pool: Name
    node: Name
    operation: Id
    code: Refusal
    because: Text


class ConcludePool(Report, frozen=True, kw_only=True, tag="pool.report-concluded.v1"):
    """The running operation on the pool has come to its end."""

    pool: Name
    node: Name
    operation: Id


class Reserve(Request, frozen=True, kw_only=True, tag="pool.reserve.v1"):
    """Set room aside for a volume before anything is made.

    ``claim`` is the volume's uid, ``size_bytes`` what is to be added to what it has; the ledger
    rounds up to whole extents, and to whole stripes. ``first`` says that the volume is new here.
    """

    pool: Name
    node: Name
    claim: Id
    size_bytes: Bytes
    operation: Id
    thin: bool = False
    stripes: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    first: bool = True


class ReportUnreserved(Report, frozen=True, kw_only=True, tag="pool.report-unreserved.v1"):
    """What was set aside for the claim, and not used, is free again."""

    pool: Name
    node: Name
    claim: Id


class ReportSettled(Report, frozen=True, kw_only=True, tag="pool.report-settled.v1"):
    """The claim takes exactly so much in LVM; what was set aside for it is free again."""

    pool: Name
    node: Name
    claim: Id
    size_bytes: Bytes
    thin: bool = False


class ReportReleased(Report, frozen=True, kw_only=True, tag="pool.report-released.v1"):
    """Nothing of the claim is left in LVM."""

    pool: Name
    node: Name
    claim: Id


class ReportPoolBuilt(Report, frozen=True, kw_only=True, tag="pool.report-built.v1"):
    """The node has the pool, made now or found made, like this."""

    pool: Name
    node: Name
    uid: Id
    facts: PoolFacts


class ReportPoolAbsent(Report, frozen=True, kw_only=True, tag="pool.report-absent.v1"):
    """Nothing of the pool that was to go is left on the node."""

    pool: Name
    node: Name
    uid: Id


class ReportPoolTrouble(Report, frozen=True, kw_only=True, tag="pool.report-trouble.v1"):
    """The node could not do what is wanted; ``permanent``: trying again will not help."""

    pool: Name
    node: Name
    uid: Id
    code: Refusal
    because: Text
    permanent: bool = False


class ReportThinFill(Report, frozen=True, kw_only=True, tag="pool.report-thin-fill.v1"):
    """The thin pool, then of ``thin_bytes``, has passed a mark (50, 55, ... 100), up or down."""

    pool: Name
    node: Name
    data_percent: Annotated[int, msgspec.Meta(ge=0, le=100)]
    metadata_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    thin_bytes: SomeBytes = 0


class PoolFormingBegan(Event, frozen=True, kw_only=True, tag="pool.forming-began.v1"):
    """A pool shall be made of these disks."""

    pool: Name
    node: Name
    uid: Id
    operation: Id
    deadline: Moment
    disks: Disks
    thin_bytes: SomeBytes = 0
    thin_ratio_percent: Percent = 100
    volumes_max: Count = 4000


class PoolBuildWanted(Event, frozen=True, kw_only=True, tag="pool.build-wanted.v1"):
    """The node shall have the pool: its disks are claimed."""

    pool: Name
    node: Name
    uid: Id
    disks: Disks
    thin_bytes: SomeBytes = 0


class PoolFormed(Event, frozen=True, kw_only=True, tag="pool.formed.v1"):
    """The node has the pool and it may be used."""

    pool: Name
    node: Name
    uid: Id
    facts: PoolFacts


class PoolGrowthBegan(Event, frozen=True, kw_only=True, tag="pool.growth-began.v1"):
    """These disks shall be added."""

    pool: Name
    node: Name
    operation: Id
    deadline: Moment
    disks: Disks


class PoolExtensionWanted(Event, frozen=True, kw_only=True, tag="pool.extension-wanted.v1"):
    """The node shall add the disks: they are claimed. ``disks`` is the whole set from now on."""

    pool: Name
    node: Name
    uid: Id
    disks: Disks


class PoolGrown(Event, frozen=True, kw_only=True, tag="pool.grown.v1"):
    """The pool has its new disks."""

    pool: Name
    node: Name
    uid: Id
    facts: PoolFacts


class PoolFactsChanged(Event, frozen=True, kw_only=True, tag="pool.facts-changed.v1"):
    """The node sees other figures of the pool than before, outside of any operation."""

    pool: Name
    node: Name
    uid: Id
    facts: PoolFacts


class PoolGrowthAbandoned(Event, frozen=True, kw_only=True, tag="pool.growth-abandoned.v1"):
    """The pool stays as it was: ``disks`` is the whole set again, ``dropped`` are not its own."""

    pool: Name
    node: Name
    uid: Id
    operation: Id
    code: Refusal
    because: str
    disks: Disks
    dropped: tuple[Name, ...] = ()


class PoolDisksDropped(Event, frozen=True, kw_only=True, tag="pool.disks-dropped.v1"):
    """The node confirms that these disks carry nothing of the pool."""

    pool: Name
    node: Name
    disks: tuple[Name, ...]


class PoolRemovalBegan(Event, frozen=True, kw_only=True, tag="pool.removal-began.v1"):
    """The pool takes nothing new: it is being removed."""

    pool: Name
    node: Name
    operation: Id
    deadline: Moment


class PoolRemovalWanted(Event, frozen=True, kw_only=True, tag="pool.removal-wanted.v1"):
    """Nothing of the pool shall be left on the node; ``because`` tells a failure undone."""

    pool: Name
    node: Name
    uid: Id
    operation: Id
    because: str = ""


class PoolRemovalAbandoned(Event, frozen=True, kw_only=True, tag="pool.removal-abandoned.v1"):
    """The pool stays: its removal was given up."""

    pool: Name
    node: Name
    uid: Id
    operation: Id
    code: Refusal
    because: str


class PoolRemoved(Event, frozen=True, kw_only=True, tag="pool.removed.v1"):
    """Nothing of the pool is left; these disks were its own."""

    pool: Name
    node: Name
    uid: Id
    disks: tuple[Name, ...]


class PoolOperationEnded(Event, frozen=True, kw_only=True, tag="pool.operation-ended.v1"):
    """No operation is running on the pool any longer."""

    pool: Name
    node: Name
    operation: Id


class RoomReserved(Event, frozen=True, kw_only=True, tag="pool.room-reserved.v1"):
    """So much is set aside for the claim."""

    pool: Name
    node: Name
    claim: Id
    size_bytes: Bytes
    operation: Id
    thin: bool = False


class RoomUnreserved(Event, frozen=True, kw_only=True, tag="pool.room-unreserved.v1"):
    """What was set aside for the claim is free again."""

    pool: Name
    node: Name
    claim: Id


class RoomSettled(Event, frozen=True, kw_only=True, tag="pool.room-settled.v1"):
    """The claim takes so much in LVM, and nothing is set aside for it."""

    pool: Name
    node: Name
    claim: Id
    size_bytes: Bytes
    thin: bool = False


class RoomReleased(Event, frozen=True, kw_only=True, tag="pool.room-released.v1"):
    """The claim takes nothing any longer."""

    pool: Name
    node: Name
    claim: Id


class PoolTroubled(Event, frozen=True, kw_only=True, tag="pool.troubled.v1"):
    """The node could not do what is wanted of the pool."""

    pool: Name
    node: Name
    code: Refusal
    because: str
    permanent: bool = False


class ThinPoolFilled(Event, frozen=True, kw_only=True, tag="pool.thin-filled.v1"):
    """The thin pool's data or metadata passed a mark, up or down: an alarm at 80 and more."""

    pool: Name
    node: Name
    data_percent: int
    metadata_percent: int = 0


PoolCommand = (
    FormPool
    | GrowPool
    | RemovePool
    | BuildPool
    | ExtendPool
    | TearDownPool
    | AbandonPool
    | ConcludePool
    | Reserve
    | ReportUnreserved
    | ReportSettled
    | ReportReleased
    | ReportPoolBuilt
    | ReportPoolAbsent
    | ReportPoolTrouble
    | ReportThinFill
)
PoolEvent = (
    PoolFormingBegan
    | PoolBuildWanted
    | PoolFormed
    | PoolGrowthBegan
    | PoolExtensionWanted
    | PoolGrown
    | PoolFactsChanged
    | PoolGrowthAbandoned
    | PoolDisksDropped
    | PoolRemovalBegan
    | PoolRemovalWanted
    | PoolRemovalAbandoned
    | PoolRemoved
    | PoolOperationEnded
    | RoomReserved
    | RoomUnreserved
    | RoomSettled
    | RoomReleased
    | PoolTroubled
    | ThinPoolFilled
)
