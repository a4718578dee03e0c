"""What the desk remembers of one aggregate's past: where it stands and what was asked lately."""

from typing import Any

import msgspec

from hwbus.codec import hash_of
from schemas.commit import Commit

RECENT_MAX = 256


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


def digest_of(request: bytes) -> int:
    """Return a number that tells requests apart within this process."""
    return hash(request)
