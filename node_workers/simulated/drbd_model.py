"""What DRBD 8.4 keeps of a leg, on its disk and in the kernel, as plain data."""

import msgspec

BLOCK_BYTES = 4096
EXTENT_BLOCKS = 1024  # what one entry of the activity log stands for: 4 MiB
SECTOR_BYTES = 512
JUST_CREATED = 4

# The words of DRBD, in its own order: what is good comes last.
DISKLESS, INCONSISTENT, OUTDATED = "Diskless", "Inconsistent", "Outdated"
UNKNOWN, CONSISTENT, UP_TO_DATE = "DUnknown", "Consistent", "UpToDate"
ORDER = (DISKLESS, INCONSISTENT, OUTDATED, UNKNOWN, CONSISTENT, UP_TO_DATE)
STANDALONE, CONNECTING, CONNECTED = "StandAlone", "Connecting", "Connected"
ESTABLISHED, SOURCE, TARGET = "Established", "SyncSource", "SyncTarget"
VERIFY_SOURCE, VERIFY_TARGET = "VerifyS", "VerifyT"
VERIFYING = frozenset({VERIFY_SOURCE, VERIFY_TARGET})


class Metadata(msgspec.Struct, kw_only=True):
    """What lies in the end of a leg. Generations are numbers without the bit that says "primary".

    ``sectors`` 0: DRBD has not seen how large the leg is. Out of sync are ``blocks``, or with
    ``everything`` all of them; ``active`` are extents that may have been written to.
    """

    device_uuid: int = 0
    current: int = JUST_CREATED
    bitmap: int = 0
    history: tuple[int, int] = (0, 0)
    consistent: bool = False
    was_up_to_date: bool = False
    peer_outdated: bool = False
    was_primary: bool = False
    crashed_primary: bool = False
    sectors: int = 0
    everything: bool = False
    blocks: list[int] = []
    active: list[int] = []

    @property
    def bits(self) -> int:
        """How many blocks are out of sync."""
        total = self.sectors * SECTOR_BYTES // BLOCK_BYTES
        return total if self.everything else len(self.blocks)

    def mark(self, blocks: set[int]) -> None:
        """Have these blocks out of sync, too."""
        self.blocks = sorted({*self.blocks, *blocks})

    def new_current(self, number: int) -> None:
        """Begin a generation: from here on the peer misses what is written."""
        self.bitmap, self.current = self.current, number

    def rotate(self) -> None:
        """Have what the bitmap was of lie in the past."""
        if self.bitmap:
            self.history = (self.bitmap, self.history[0])
        self.bitmap = 0


class Options(msgspec.Struct, kw_only=True, frozen=True):
    """What the kernel was told by the resource file: where the peer is, how large, how fast."""

    sectors: int = 0
    rate_bytes_per_s: int = 0
    here: str = ""
    there: str = ""
    peer: str = ""
    secret: str = ""


class Leg(msgspec.Struct, kw_only=True):
    """A resource in the kernel, with its one volume; it is gone when the machine starts anew.

    ``backing`` is the uuid of the mapped device it lies on, ``end_bytes`` where its metadata is.
    ``link`` numbers the connection it has, ``losses`` those that it lost. ``known`` is what DRBD
    knows to lie on it, by block; ``unsent`` are blocks that were written and not acknowledged.
    ``room_sectors`` is how large the peer said that it could be.
    """

    name: str
    options: Options = Options()
    minor: int | None = None
    primary: bool = False
    disk: str = DISKLESS
    backing: str = ""
    end_bytes: int = 0
    sectors: int = 0
    connection: str = STANDALONE
    link: int = 0
    losses: int = 0
    peer_disk: str = UNKNOWN
    peer_primary: bool = False
    suspended: bool = False
    answered: bool = False
    discard: bool = False
    replication: str = ESTABLISHED
    room_sectors: int = 0
    total_bytes: int = 0
    done_bytes: float = 0
    since_s: float = 0
    missed_since_s: float | None = None
    last_sync_bytes: int = 0
    known: dict[int, str] = {}
    unsent: list[int] = []

    @property
    def connected(self) -> bool:
        """Whether its peer is there."""
        return self.connection == CONNECTED

    @property
    def attached(self) -> bool:
        """Whether it has its disk."""
        return self.disk != DISKLESS


def older(disk: str, than: str) -> bool:
    """Return whether a state of a disk is a worse one."""
    return ORDER.index(disk) < ORDER.index(than)


def metadata_bytes(leg_bytes: int) -> int:
    """Return how much of a leg is metadata: superblock, activity log, and a bit for each block."""
    bitmap_bytes = -(-leg_bytes // (BLOCK_BYTES * 8))
    return (4 + 32) * 1024 + -(-bitmap_bytes // BLOCK_BYTES) * BLOCK_BYTES


def room_sectors(leg_bytes: int) -> int:
    """Return how large a device a leg of that size can be."""
    return (leg_bytes - metadata_bytes(leg_bytes)) // SECTOR_BYTES
