"""What is said when disks leave a pool that is in use: emptied first, then taken out, blank."""

from schemas.grammar import Event, Request
from schemas.pool import Disks, PoolFacts
from schemas.refusals import Refusal
from schemas.units import Bytes, Id, Moment, Name, Seconds


class ShrinkPool(Request, frozen=True, kw_only=True, tag="pool.shrink.v1"):
    """Move all that lies on these disks to the others, then give them back, blank.

    The volumes stay in use meanwhile. By default it may take six hours.
    """

    pool: Name
    node: Name
    disks: Disks
    deadline_s: Seconds = 21_600


class DrainDisks(Request, frozen=True, kw_only=True, tag="pool.drain-disks.v1"):
    """Step of shrinking a pool: the room is there, the node shall empty the disks."""

    pool: Name
    node: Name
    operation: Id


class PoolShrinkBegan(Event, frozen=True, kw_only=True, tag="pool.shrink-began.v1"):
    """These disks shall leave; their ``leaving_bytes`` are promised to nobody from now on."""

    pool: Name
    node: Name
    operation: Id
    deadline: Moment
    disks: Disks
    leaving_bytes: Bytes


class PoolShrinkWanted(Event, frozen=True, kw_only=True, tag="pool.shrink-wanted.v1"):
    """The node shall empty ``leaving`` and take them out; ``disks`` are those that stay."""

    pool: Name
    node: Name
    uid: Id
    disks: Disks
    leaving: Disks


class PoolShrunk(Event, frozen=True, kw_only=True, tag="pool.shrunk.v1"):
    """The pool is without those disks, and nothing that it held is lost."""

    pool: Name
    node: Name
    uid: Id
    facts: PoolFacts


class PoolShrinkAbandoned(Event, frozen=True, kw_only=True, tag="pool.shrink-abandoned.v1"):
    """The disks stay: ``disks`` is the whole set again, ``kept`` those that were to leave.

    What was moved stays where it is now; it is the same pool.
    """

    pool: Name
    node: Name
    uid: Id
    operation: Id
    code: Refusal
    because: str
    disks: Disks
    kept: Disks


class PoolDisksKept(Event, frozen=True, kw_only=True, tag="pool.disks-kept.v1"):
    """The node confirms that these disks are in the pool, and may be written to."""

    pool: Name
    node: Name
    disks: Disks


ShrinkCommand = ShrinkPool | DrainDisks
ShrinkEvent = PoolShrinkBegan | PoolShrinkWanted | PoolShrunk | PoolShrinkAbandoned | PoolDisksKept
