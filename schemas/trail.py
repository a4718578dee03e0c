"""What is said about the trail: the audit stream, of which what is archived may be taken out."""

from typing import Annotated

import msgspec

from schemas.grammar import Event, Request
from schemas.units import Moment, Name, Text

TRAILS = "trail"
AUDIT_TRAIL = "audit"
"""The only one of which anything may go: the events are the state."""

Sequence = Annotated[
    int, msgspec.Meta(gt=0, le=(1 << 53) - 1, description="A sequence of the stream.")
]
Root = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9a-f]{64}$(?!\n)",
        description="The Merkle root over all messages up to there, as it was signed, hex.",
    ),
]

Frontier = Annotated[
    tuple[Root, ...],
    msgspec.Meta(
        max_length=53,
        description="The roots of the full subtrees of that tree, the largest first, hex.",
    ),
]


class PruneTrail(Request, frozen=True, kw_only=True, tag="trail.prune.v1"):
    """Let all up to ``until`` be taken out: all of it is archived at ``place``.

    Whoever says so has read it there and verified it; the last of it was stored at ``newest``.
    Taking it out of the stream is the administrator's.
    """

    trail: Name
    until: Sequence
    root: Root
    frontier: Frontier
    place: Text
    newest: Moment


class TrailReleased(Event, frozen=True, kw_only=True, tag="trail.released.v1"):
    """All up to ``until`` is in the archive at ``place``, and may be missing from now on.

    The last of it was stored at ``newest``.
    """

    trail: Name
    until: Sequence
    root: Root
    frontier: Frontier
    place: Text
    newest: Moment


TrailCommand = PruneTrail
TrailEvent = TrailReleased
