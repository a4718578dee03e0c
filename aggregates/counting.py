"""Bytes that consumers wrote and read, as nodes tell: each counts once, whoever says it again."""

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision
from aggregates.peers import member_on
from schemas.counting import ReportVolumeIo, VolumeIoCounted

if TYPE_CHECKING:
    from aggregates.volume import Volume


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What the book of one node said last, and what all its books have come to."""

    book: str = ""
    written_bytes: int = 0
    read_bytes: int = 0
    total_written_bytes: int = 0
    total_read_bytes: int = 0


NOTHING = Counted()


def note(volume: "Volume", report: ReportVolumeIo) -> Decision[VolumeIoCounted]:
    """Count what is more than that book has said before; of another volume nothing counts."""
    if not volume.uid or report.uid != volume.uid:
        return ()
    known = volume.counted.get(report.node, NOTHING)
    # Books begin one after another, and their names tell in which order. An earlier one is from a
    # memory that was put back to what it once was: what it says may have been counted by a later.
    if report.book < known.book:
        return ()
    since = known if report.book == known.book else NOTHING
    written_bytes = max(report.written_bytes, since.written_bytes)
    read_bytes = max(report.read_bytes, since.read_bytes)
    more_written_bytes = written_bytes - since.written_bytes
    more_read_bytes = read_bytes - since.read_bytes
    if not (more_written_bytes or more_read_bytes):
        return ()
    return (
        VolumeIoCounted(
            volume=report.volume,
            uid=report.uid,
            node=report.node,
            pool=_pool(volume, report.node),
            book=report.book,
            written_bytes=written_bytes,
            read_bytes=read_bytes,
            more_written_bytes=more_written_bytes,
            more_read_bytes=more_read_bytes,
        ),
    )


def _pool(volume: "Volume", node: str) -> str | None:
    """Return the pool of the leg on that node, if it has one there by now, and it is in a pool."""
    member = member_on(volume, node)
    if member is not None:
        return member.pool
    return volume.pool if volume.node == node and not volume.disk else None


def evolve(volume: "Volume", event: VolumeIoCounted) -> "Volume":
    """Apply what happened. Never refuses: the past cannot be wrong."""
    known = volume.counted.get(event.node, NOTHING)
    now = Counted(
        book=event.book,
        written_bytes=event.written_bytes,
        read_bytes=event.read_bytes,
        total_written_bytes=known.total_written_bytes + event.more_written_bytes,
        total_read_bytes=known.total_read_bytes + event.more_read_bytes,
    )
    return replace(volume, counted=volume.counted | {event.node: now})
