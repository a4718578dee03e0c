"""Segments of an archive: stretches of a stream, each with the signed head that it ends at.

A segment is a file of lines of JSON. The first tells what it is and what it follows; then come the
messages; the last holds the digest of all lines above. Its name says the same: stream, first and
last sequence, and the Merkle root over all that was written to the stream up to there.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence

import msgspec

from hwbus.archive import MessageLine
from hwbus.merkle import Tree, continued
from hwbus.ports import Stored
from hwbus.proof import gap_hash, leaf_hash
from schemas.audit import HeadRecord

FORMAT = "hwbus-segment.v1"
_NAME = re.compile(r"([0-9]{20})-([0-9]{20})-([0-9a-f]{64})\.jsonl")


class Span(msgspec.Struct, frozen=True, order=True):
    """Which messages a segment is of, and the root (hex) up to there: what its name says."""

    first: int
    last: int
    root: str

    @property
    def name(self) -> str:
        """The name, in the folder of its stream."""
        return f"{self.first:020}-{self.last:020}-{self.root}.jsonl"

    @classmethod
    def of(cls, name: str) -> "Span | None":
        """Return what *name* says, or None if it is no name of a segment."""
        match = _NAME.fullmatch(name)
        if match is None or not 0 < int(match[1]) <= int(match[2]):
            return None
        return cls(int(match[1]), int(match[2]), match[3])


class Before(msgspec.Struct, frozen=True):
    """What a segment follows: up to where that goes, its root and its digest; first of all: 0."""

    last: int = 0
    root: str = ""
    digest: str = ""


class Beginning(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="segment"):
    """The first line. ``head`` lists the leaves of just this segment.

    ``consistency`` shows that its tree continues the one before (RFC 9162, section 2.1.4), hex.
    """

    format: str
    stream: str
    first: int
    last: int
    before: Before
    consistency: tuple[str, ...]
    head: HeadRecord

    @property
    def span(self) -> Span:
        """What the name has to say."""
        return Span(self.first, self.last, self.head.root)


class Ending(msgspec.Struct, frozen=True, tag_field="line", tag="end"):
    """The last line: the SHA-256 (hex) of all above."""

    digest: str


_LINE: msgspec.json.Decoder[Beginning | MessageLine | Ending] = msgspec.json.Decoder(
    Beginning | MessageLine | Ending
)
_ENCODE = msgspec.json.Encoder().encode


class ChangedError(Exception):
    """What is to be archived is not what was signed."""


class UnreadableError(Exception):
    """This is no segment."""


def build(before: Before, tree: Tree, head: HeadRecord, messages: Sequence[Stored]) -> bytes:
    """Return the segment from behind *tree* to *head*; it is the same whoever makes it.

    Raises ``ChangedError``: these *messages* are not what *head* was signed over.
    """
    leaves, at = bytearray(), tree.size
    for one in messages:
        leaves += b"".join(map(gap_hash, range(at + 1, one.seq)))
        leaves += leaf_hash(one.subject, one.seq, one.data)
        at = one.seq
    leaves += b"".join(map(gap_hash, range(at + 1, head.seq + 1)))
    listed = bytes(leaves)
    grown = tree.copy()
    grown.extend(listed)
    if grown.size != head.seq or grown.root().hex() != head.root:
        raise ChangedError(
            f"messages {tree.size + 1} to {head.seq} of {head.stream} are not what was signed"
        )
    first = Beginning(
        format=FORMAT,
        stream=head.stream,
        first=tree.size + 1,
        last=head.seq,
        before=before,
        consistency=tuple(node.hex() for node in continued(tree, listed)) if tree.size else (),
        head=msgspec.structs.replace(head, leaves=listed, frontier=tuple(grown.frontier)),
    )
    lines = [_ENCODE(first)]
    lines += [_ENCODE(MessageLine(o.seq, o.at, o.subject, o.data)) for o in messages]
    above = b"".join(line + b"\n" for line in lines)
    return above + _ENCODE(Ending(hashlib.sha256(above).hexdigest())) + b"\n"


class Segment:
    """A segment that was read. ``whole``: no byte of it is other than it was written."""

    def __init__(self, data: bytes) -> None:
        """Read its beginning and its end. Raises ``UnreadableError``."""
        first, _, rest = data.partition(b"\n")
        beginning = _decoded(first)
        if not isinstance(beginning, Beginning) or beginning.format != FORMAT:
            raise UnreadableError(f"it does not begin as a {FORMAT}")
        self.beginning = beginning
        above, _, last = rest.removesuffix(b"\n").rpartition(b"\n")
        ending = _decoded(last)
        self.digest = ending.digest if isinstance(ending, Ending) else ""
        written = hashlib.sha256(data[: len(data) - len(last) - 1]).hexdigest()
        self.whole = data.endswith(b"\n") and written == self.digest
        self._lines = above if isinstance(ending, Ending) else rest

    def messages(self) -> Iterator[Stored]:
        """Give the messages that can be read and belong here."""
        return (stored for stored, _ in self.lines())

    def lines(self) -> Iterator[tuple[Stored, bytes]]:
        """Give the same messages, each with the line that it is, without the end of that."""
        for line in self._lines.split(b"\n"):
            one = _decoded(line)
            here = self.beginning
            if isinstance(one, MessageLine) and here.first <= one.seq <= here.last:
                yield Stored(one.seq, one.subject, one.data, one.at), line

    def tree(self) -> Tree:
        """Return the tree that it ends with. Raises ``UnreadableError``."""
        head = self.beginning.head
        try:
            tree = Tree(self.beginning.last, head.frontier)
        except ValueError as error:
            raise UnreadableError(str(error)) from error
        if tree.root().hex() != head.root:
            raise UnreadableError("what its tree is made of does not lead to its root")
        return tree

    def behind(self) -> Before:
        """Return what the one that follows this has to name."""
        return Before(self.beginning.last, self.beginning.head.root, self.digest)


def _decoded(line: bytes) -> Beginning | MessageLine | Ending | None:
    try:
        return _LINE.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
