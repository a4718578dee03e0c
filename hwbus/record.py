"""What the desk remembers of one aggregate's past: where it stands and what was asked lately."""

from typing import Any

import msgspec

from hwbus.codec import hash_of
from hwbus.subjects import Address
from schemas.commit import Commit

RECENT_MAX = 256
OVER_MAX = 10_000


class Settled(msgspec.Struct, frozen=True, gc=False):
    """How one command was decided; ``digest`` tells the same wish from another one."""

    seq: int
    version: int
    digest: int
    operation: str


class Record(msgspec.Struct):
    """The end of one subject: the sequence and hash of its last message, and recent commands."""

    seq: int = 0
    version: int = 0
    last_hash: str = ""
    recent: dict[str, Settled] = msgspec.field(default_factory=dict)

    def note(self, seq: int, data: bytes, commit: Commit[Any], operation: str) -> None:
        """Remember one more commit."""
        self.seq = seq
        self.version = commit.version
        self.last_hash = hash_of(data)
        digest = digest_of(bytes(commit.request))
        self.recent[commit.command] = Settled(seq, commit.version, digest, operation)
        if len(self.recent) > RECENT_MAX:
            del self.recent[next(iter(self.recent))]

    def skip(self, seq: int, data: bytes) -> None:
        """Remember a message that nobody can read: it holds its place in the chain."""
        self.seq = seq
        self.last_hash = hash_of(data)


class Records:
    """The records of all addresses; of those that are over only the latest are kept.

    What was forgotten is read again from the log when somebody asks: the first append to it loses
    against its expectation, and a refusal looks before it is said.
    """

    def __init__(self, over_max: int = OVER_MAX) -> None:
        self._records: dict[Address, Record] = {}
        self._over: dict[Address, None] = {}
        self._over_max = over_max

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._records)

    def get(self, address: Address) -> Record:
        """Return what is remembered of *address*: an empty record if nothing is."""
        return self._records.get(address) or Record()

    def of(self, address: Address) -> Record:
        """Return the record of *address*, to be written to."""
        record = self._records.get(address)
        if record is None:
            record = self._records[address] = Record()
        return record

    def mark(self, address: Address, *, over: bool) -> Address | None:
        """Note whether *address* is over; return one that is forgotten for it, if any."""
        self._over.pop(address, None)
        if not over:
            return None
        self._over[address] = None
        if len(self._over) <= self._over_max:
            return None
        oldest = next(iter(self._over))
        del self._over[oldest], self._records[oldest]
        return oldest


def digest_of(request: bytes) -> int:
    """Return a number that tells requests apart within this process."""
    return hash(request)
