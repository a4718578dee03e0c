"""Are the segments of an archive one chain, and its messages what was signed? Asks nobody else.

Each segment is looked at by itself and beside the one before it; then the messages of all of them
are read as one log, with the heads that the segments end at.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import BinaryIO

import msgspec

from hwbus.archive import messages_in
from hwbus.places import Place
from hwbus.ports import Stored
from hwbus.proof import ProofError, check_consistency
from hwbus.segments import Beginning, Segment, Span, UnreadableError
from hwbus.streams import EVENTS
from hwbus.verifying import FINDINGS_MAX, Finding, Verdict, Verifier
from schemas.audit import HeadRecord

_OF_MESSAGES = frozenset({"changed", "missing", "inserted", "order"})


class Chained(msgspec.Struct, frozen=True):
    """What came of it, from how many segments, and how many names there are of something else."""

    verdict: Verdict
    segments: int
    others: int


class Spool:
    """The messages of segments in one file, so that none is fetched twice.

    ``places`` says where each begins, from message 1 on, up to the first that is missing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.places = array("Q")
        self._file = file
        self._ends = 0

    def add(self, segment: Segment) -> None:
        """Take in the messages of one more."""
        for stored, line in segment.lines():
            if stored.seq == len(self.places) + 1:
                self.places.append(self._ends)
            self._ends += self._file.write(line + b"\n")

    def messages(self) -> Iterator[Stored]:
        """Give what was taken in."""
        return messages_in(self._file)


def verify_segments(
    place: Place,
    stream: str,
    kept: Iterable[HeadRecord] = (),
    keys: Collection[str] = (),
    *,
    spool: Spool | None = None,
) -> Chained:
    """Check all segments of *stream* at *place* as one chain, from message 1 on.

    Heads that were *kept* elsewhere must all be in it; *keys* (hex) are those that count, with
    none all do. Reads each segment twice, one at a time; with a *spool* once, and what it says is
    there afterwards. Raises ``PlaceError``; ``OSError`` of the spool.
    """
    names = place.names(stream)
    spans = sorted(span for name in names if (span := Span.of(name)) is not None)
    links = Links(stream, keys)
    for span in spans:
        segment = links.take(span, place.get(f"{stream}/{span.name}"))
        if spool is not None and segment is not None:
            spool.add(segment)
    chained = stream == EVENTS.name
    verifier = Verifier([*links.heads, *kept], stream=stream, keys=keys, chained=chained)
    if spool is None:
        _read_again(place, stream, links.sound, verifier)
    else:
        verifier.take(spool.messages())
    verdict = _together(verifier.finish(), links)
    return Chained(verdict, len(spans), len(names) - len(spans))


def _read_again(place: Place, stream: str, spans: Iterable[Span], verifier: Verifier) -> None:
    for span in spans:
        try:
            verifier.take(Segment(place.get(f"{stream}/{span.name}")).messages())
        except UnreadableError as error:
            verifier.damaged(f"it could be read a moment ago: {error}")


class Links:
    """Looks at segments one after the other; keeps their heads (32 bytes a message)."""

    def __init__(self, stream: str, keys: Collection[str]) -> None:
        self.heads: list[HeadRecord] = []
        self.sound: list[Span] = []
        self.findings: list[Finding] = []
        self.damaged: list[Span] = []
        self._stream = stream
        self._keys = keys
        self._torn: list[tuple[Span, Span, bool]] = []
        self._last: tuple[Span, Segment] | None = None

    def take(self, span: Span, data: bytes) -> Segment | None:
        """Look at the next one, which is named as *span* and reads as *data*.

        Return it, if its messages belong to the chain.
        """
        try:
            segment = Segment(data)
        except UnreadableError as error:
            self._find(span, "damaged", f"no segment: {error}")
            return None
        beginning = segment.beginning
        if (beginning.stream, beginning.span) != (self._stream, span):
            if not segment.whole:
                self._find(span, "damaged", "its first line does not say what its name does")
            else:
                self._find(span, "replaced", f"it is the segment {beginning.span.name}")
            return None
        if self._last is not None and span.first <= self._last[0].last:
            self._find(span, "order", f"it begins before {self._last[0].last + 1}")
            return None
        if not segment.whole:
            self.damaged.append(span)
        elif self._last is not None and self._last[0].last + 1 == span.first:
            self._look_back(span, beginning, *self._last)
        self.heads.append(beginning.head)
        self.sound.append(span)
        self._last = span, segment
        return segment

    def _look_back(self, span: Span, here: Beginning, before: Span, segment: Segment) -> None:
        if here.before != segment.behind() and (segment.whole or here.before.root != before.root):
            self._torn.append((before, span, bool(self._keys) and here.head.key not in self._keys))
        elif not _continues(here):
            self._find(span, "chain", "it does not show that it continues the one before")

    def finish(self) -> list[Finding]:
        """Return what was found, now that nothing follows.

        Of two that do not go together the later one is to blame if it goes with nothing behind it
        either, or if its key does not count; else the earlier one, which the later one names.
        """
        befores = {before for before, _, _ in self._torn}
        for before, span, strange in self._torn:
            if strange or span in befores:
                self._find(span, "replaced", f"it does not follow the one up to {before.last}")
            else:
                because = f"it is not what {span.first} follows: one of the two was replaced"
                self._find(before, "replaced", because)
        return self.findings

    def _find(self, span: Span, what: str, because: str) -> None:
        finding = Finding(seq=span.first, until=span.last, what=what, because=because)
        self.findings.append(finding)


def _continues(here: Beginning) -> bool:
    try:
        old, new = (bytes.fromhex(root) for root in (here.before.root, here.head.root))
        path = [bytes.fromhex(node) for node in here.consistency]
        check_consistency(here.before.last, here.last, old, new, path)
    except (ProofError, ValueError):
        return False
    return True


def _together(verdict: Verdict, links: Links) -> Verdict:
    """Return the verdict with what was found about segments as a whole."""
    more = [*links.finish(), *_unexplained(links.damaged, verdict.findings)]
    found = sorted((*verdict.findings, *more), key=lambda one: one.seq)
    return msgspec.structs.replace(
        verdict,
        findings=tuple(found[:FINDINGS_MAX]),
        untold=verdict.untold + max(0, len(found) - FINDINGS_MAX),
        first_bad=found[0].seq if found else None,
    )


def _unexplained(damaged: Iterable[Span], findings: Sequence[Finding]) -> Iterator[Finding]:
    """Give those that are damaged although none of their messages is: elsewhere, then."""
    told = [one for one in findings if one.what in _OF_MESSAGES]
    for span in damaged:
        if not any(one.seq <= span.last and span.first <= one.until for one in told):
            because = "not as it was written, or its end is missing"
            yield Finding(seq=span.first, until=span.last, what="damaged", because=because)
