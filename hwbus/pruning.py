"""Taking out of a stream what is archived: how far that goes, and the purge itself."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from hwbus.merkle import Tree
from hwbus.ports import Bus, OutcomeUnknownError, Stored
from hwbus.proof import gap_hash, leaf_hash
from schemas.audit import HeadRecord

_TIMEOUT_S = 60.0


class OtherArchiveError(Exception):
    """The archive holds something else than what was signed; the message says where."""


class PurgeError(Exception):
    """The broker did not take it out; the message says why."""


class Prunable(msgspec.Struct, frozen=True):
    """All up to ``until`` is archived; the last is of ``newest``.

    ``root`` and ``frontier`` (hex) are those of the Merkle tree over it.
    """

    until: int
    root: str
    frontier: tuple[str, ...]
    newest: datetime


class _Error(msgspec.Struct):
    description: str = ""


class _Config(msgspec.Struct):
    deny_purge: bool = False


class _Answer(msgspec.Struct):
    success: bool = False
    purged: int = 0
    config: _Config = msgspec.field(default_factory=_Config)
    error: _Error | None = None


def furthest(
    archived: Iterable[Stored],
    heads: Mapping[int, HeadRecord],
    *,
    below: int,
    older_than: datetime,
) -> Prunable | None:
    """Return how far all is *archived*, signed with one of *heads*, and *older_than* that moment.

    It ends below the sequence *below*. *heads* are those of the stream as it is, by how many
    messages they are over; the roots are computed from what was read from the archive.

    Raises:
        OtherArchiveError: the archive has another root than one of the heads.
    """
    tree, found = Tree(), None
    newest: datetime | None = None
    for one in archived:
        for missing in range(tree.size + 1, one.seq):
            tree.append(gap_hash(missing))
        tree.append(leaf_hash(one.subject, one.seq, one.data))
        newest = one.at if newest is None else max(newest, one.at)
        if newest >= older_than or one.seq >= below:
            break
        head = heads.get(one.seq)
        if head is None:
            continue
        root = tree.root().hex()
        if root != head.root:
            raise OtherArchiveError(
                f"messages 1 to {one.seq} are signed with the root {head.root}, "
                f"and those in the archive have {root}"
            )
        frontier = tuple(node.hex() for node in tree.frontier)
        found = Prunable(one.seq, root, frontier, newest)
    return found


async def sealed(bus: Bus, stream: str) -> bool:
    """Return whether the broker takes nothing out of *stream*. Raises as ``purge``."""
    return (await _asked(bus, f"STREAM.INFO.{stream}", b"")).config.deny_purge


async def purge(bus: Bus, stream: str, until: int) -> int:
    """Take all messages up to and with *until* out; return how many there were.

    Taken out again, there are none. What comes behind is left as it is.

    Raises:
        PurgeError: the broker refuses.
        OutcomeUnknownError, NobodyThereError, ForbiddenError: it may be repeated.
    """
    # The broker takes out what is before the sequence that it is told.
    request = msgspec.json.encode({"seq": until + 1})
    answer = await _asked(bus, f"STREAM.PURGE.{stream}", request)
    if not answer.success:
        raise PurgeError(f"the broker took nothing out of {stream}, and does not say why")
    return answer.purged


async def _asked(bus: Bus, what: str, data: bytes) -> _Answer:
    said = await bus.request(f"$JS.API.{what}", data, headers={}, timeout_s=_TIMEOUT_S)
    try:
        answer = msgspec.json.decode(said, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OutcomeUnknownError(f"the broker said something else: {error}") from error
    if answer.error is not None:
        raise PurgeError(answer.error.description)
    return answer
