"""Opening an archive, whatever it is: one file, or a chain of segments in a folder or a bucket.

An archive in segments is fetched once, a segment at a time, into a file without a name, which goes
with whoever has it open. There it is verified, and read again as often as it takes.
"""

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import msgspec

from hwbus.archive import NoArchiveError, Reader, message_at, messages_in
from hwbus.chains import Spool, verify_segments
from hwbus.places import S3, Place, PlaceError, place_of
from hwbus.ports import Stored
from hwbus.streams import EVENTS
from hwbus.verifying import Verdict, Verifier, summary
from schemas.audit import HeadRecord

Source = Path | Place


class BrokenChainError(Exception):
    """The segments are no whole chain of what was signed; ``verdict`` says from where on."""

    def __init__(self, verdict: Verdict, place: Place) -> None:
        self.verdict = verdict
        first = verdict.findings[0]
        super().__init__(f"{place}: {summary(verdict)[0]} ({first.what}: {first.because})")


class Archive(msgspec.Struct, frozen=True):
    """An archive that is open: ``file`` has its messages, ``places`` where each of them begins.

    They are those of ``stream`` from 1 on, up to the first that is missing. A file can be
    ``damaged``: lines of it are none, or its end is missing.
    """

    stream: str
    verdict: Verdict
    file: BinaryIO
    places: Sequence[int]
    damaged: bool = False

    def messages(self) -> Iterator[Stored]:
        """Give all messages that can be read, also those behind one that is missing."""
        return messages_in(self.file)

    def last(self) -> Stored | None:
        """Return the last message of those that ``places`` knows."""
        return message_at(self.file, self.places[-1]) if self.places else None


def in_segments(where: str) -> bool:
    """Return whether *where* is a place for segments: s3://…, what ends in /, or is a folder."""
    return where.startswith(S3) or where.endswith("/") or Path(where).is_dir()


def source_of(where: str, endpoint: str, environment: Mapping[str, str]) -> Source:
    """Return the file, folder or bucket at *where*. Raises ``PlaceError``, as ``place_of``."""
    if in_segments(where):
        return place_of(where, endpoint, environment)
    if endpoint:
        raise PlaceError(f"an endpoint is for s3://BUCKET/PREFIX, and {where} is a file")
    return Path(where)


@contextmanager
def opened(
    source: Source, keys: Collection[str] = (), *, stream: str = EVENTS.name
) -> Iterator[Archive]:
    """Open the archive of *stream*, verified from its beginning to its end.

    *keys* are those of heads that count, with none all do. What a file holds is for its verdict to
    say; segments are a chain or nothing. Of the audit there may be no segments yet.

    Raises:
        NoArchiveError: there is none, or it holds another stream.
        BrokenChainError: segments are missing, or one is not as it was.
        PlaceError, OSError: it cannot be read.
    """
    if isinstance(source, Path):
        reader = Reader(source)
        if reader.stream != stream:
            raise NoArchiveError(f"{source} holds {reader.stream}, and not {stream}")
        verdict, places = read_file(reader, keys)
        broken = bool(reader.unreadable or not reader.whole)
        with source.open("rb") as file:
            yield Archive(stream, verdict, file, places, broken)
        return
    with TemporaryFile(prefix="hwbus-") as file:
        found = verify_segments(source, stream, keys=keys, spool=(spool := Spool(file)))
        if stream == EVENTS.name and not found.segments:
            raise NoArchiveError(f"there is no segment of {stream} in {source}")
        if found.verdict.first_bad is not None:
            raise BrokenChainError(found.verdict, source)
        yield Archive(stream, found.verdict, file, spool.places)


def read_file(
    reader: Reader, keys: Collection[str] = (), kept: Sequence[HeadRecord] = ()
) -> tuple[Verdict, Sequence[int]]:
    """Verify one file; return what came of it, and where its messages begin, from 1 on.

    Heads that were *kept* elsewhere count beside its own. Raises ``OSError``.
    """
    places = array("Q")

    def noted() -> Iterator[Stored]:
        for stored in reader.messages():
            if stored.seq == len(places) + 1:
                places.append(reader.place)
            yield stored

    heads = [*reader.heads, *kept]
    verifier = Verifier(heads, stream=reader.stream, keys=keys, until=reader.until)
    verifier.take(noted())
    if reader.unreadable:
        verifier.damaged(f"{reader.unreadable} lines of the archive are no messages")
    if not reader.whole:
        verifier.damaged("the end of the archive is missing")
    return verifier.finish(), places
