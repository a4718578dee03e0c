"""Archives that go on: what was signed since the last segment becomes the next one.

Whoever begins a segment first leaves a claim: which head it will end at. A claim is no lock.
Whoever finds one, because two run at once or because one died, writes just that segment, byte by
byte the same, and goes on. So there is one chain of segments, whoever wrote which of them.
"""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from hashlib import sha256

import msgspec
import structlog

from hwbus.heads import HEAD, HEADS_OF, each_head, up_to
from hwbus.merkle import Tree
from hwbus.places import Place, PlaceError
from hwbus.ports import EventLog, OutcomeUnknownError, Stored
from hwbus.proof import ProofError, check_head
from hwbus.segments import Before, ChangedError, Segment, Span, UnreadableError, build
from hwbus.streams import Stream
from schemas.audit import HeadRecord

# A segment ends at the first head behind so many messages, if more than that wait.
MESSAGES_MAX = 4096
CLAIMS = "claims"
_READ_S = 120.0
_LOG = structlog.get_logger("hwbus.archiving")


class ArchiveError(Exception):
    """The archive and the log do not go together, or a segment is missing; somebody must look."""


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stream is archived: up to ``until``; ``segments`` of ``messages`` were added."""

    stream: str
    until: int
    segments: tuple[str, ...] = ()
    messages: int = 0


class Claim(msgspec.Struct, frozen=True, tag_field="line", tag="claim"):
    """Where a segment that was begun will end: ``head``, without what it lists."""

    head: HeadRecord


_CLAIM = msgspec.json.Decoder(Claim)


class Chain:
    """The segments that are there, in their order from message 1 on."""

    def __init__(self, names: Iterable[str]) -> None:
        self.last: Span | None = None
        self._behind: dict[int, Span] = {}
        for span in sorted(span for name in names if (span := Span.of(name)) is not None):
            self._behind.setdefault(span.first, span)
        self._advance()

    def add(self, span: Span) -> None:
        """Take in one more."""
        self._behind[span.first] = span
        self._advance()

    @property
    def torn(self) -> bool:
        """Whether there are segments behind one that is missing."""
        return bool(self._behind)

    def _advance(self) -> None:
        at = self.last.last if self.last else 0
        while (following := self._behind.pop(at + 1, None)) is not None:
            self.last, at = following, following.last


class Archiver:
    """Brings the archive of one stream up to its newest signed head. Nothing leaves the log."""

    def __init__(self, log: EventLog, audit: EventLog, place: Place, stream: Stream) -> None:
        self.stream = stream
        self._log = log
        self._audit = audit
        self._place = place
        self._before = Before()
        self._tree = Tree()

    async def archive(self) -> Archived:
        """Write what is signed and not archived yet; say how far that is. May be repeated.

        Raises:
            ArchiveError: what is there cannot be continued, or the log is not what was signed.
            PlaceError: the place does not answer, or not as it should.
            OutcomeUnknownError, NobodyThereError, ForbiddenError: the log cannot be read.
        """
        chain = Chain(await asyncio.to_thread(self._place.names, self.stream.name))
        await self._stand_behind(chain.last)
        cuts = await self._cuts()
        written: list[str] = []
        messages = 0
        while (
            cut := next((head for head in cuts if head.seq > self._tree.size), None)
        ) is not None:
            head = await self._claimed(cut, torn=chain.torn)
            stored = await self._stored(head.seq)
            span = Span(self._tree.size + 1, head.seq, head.root)
            if await self._write(span, head, stored):
                told = {"stream": self.stream.name, "first": span.first, "last": span.last}
                _LOG.info("segment archived", **told)
                written.append(span.name)
                messages += len(stored)
            chain.add(span)
            await self._stand_behind(chain.last)
        return Archived(
            stream=self.stream.name,
            until=self._tree.size,
            segments=tuple(written),
            messages=messages,
        )

    async def _stand_behind(self, span: Span | None) -> None:
        """Read what the next segment has to follow."""
        if span is None:
            self._before, self._tree = Before(), Tree()
            return
        name = f"{self.stream.name}/{span.name}"
        try:
            segment = Segment(await asyncio.to_thread(self._place.get, name))
            tree = segment.tree()
        except UnreadableError as error:
            raise ArchiveError(f"{name} cannot be continued: {error}") from error
        beginning = segment.beginning
        if not segment.whole or (beginning.stream, beginning.span) != (self.stream.name, span):
            raise ArchiveError(f"{name} cannot be continued: it is not what was written there")
        self._before, self._tree = segment.behind(), tree

    async def _cuts(self) -> list[HeadRecord]:
        """Return the heads that segments shall end at, the newest last; few, however many wait."""
        after, subject = self._tree.size, HEADS_OF[self.stream.name]
        newest = await self._audit.last(subject)
        if newest is None:
            return []
        head = _head(newest)
        if head is not None and after <= head.seq <= after + MESSAGES_MAX and _signed(head):
            return [head]
        kept: dict[int, HeadRecord] = {}
        async with aclosing(each_head(self._audit, (subject,))) as heads:
            async for head in heads:
                stretch = (head.seq - after - 1) // MESSAGES_MAX
                later = stretch not in kept or kept[stretch].seq < head.seq
                if stretch >= 0 and later and _signed(head):
                    kept[stretch] = _bare(head)
        return [kept[stretch] for stretch in sorted(kept)]

    async def _claimed(self, cut: HeadRecord, *, torn: bool) -> HeadRecord:
        """Return the head that the next segment ends at: *cut*, or what was claimed before."""
        first = self._tree.size + 1
        folder = f"{CLAIMS}/{self.stream.name}"
        name = f"{first:020}.json"
        if torn and name not in await asyncio.to_thread(self._place.names, folder):
            raise ArchiveError(f"the segment of {self.stream.name} from {first} on is missing")
        claim = msgspec.json.encode(Claim(_bare(cut)))
        if await asyncio.to_thread(self._place.put, f"{folder}/{name}", claim):
            return cut
        try:
            head = _CLAIM.decode(await asyncio.to_thread(self._place.get, f"{folder}/{name}")).head
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ArchiveError(f"{folder}/{name} is no claim: {error}") from error
        if head.stream != self.stream.name or head.seq < first or not _signed(head):
            raise ArchiveError(f"{folder}/{name} claims what nobody can write")
        return head

    async def _stored(self, until: int) -> list[Stored]:
        found: list[Stored] = []
        batches = up_to(self._log, until, self.stream.subjects, after=self._tree.size)
        try:
            async with asyncio.timeout(_READ_S), aclosing(batches):
                async for batch in batches:
                    found += batch
        except TimeoutError as error:
            raise OutcomeUnknownError(f"the log could not be read to {until}") from error
        return found

    async def _write(self, span: Span, head: HeadRecord, messages: list[Stored]) -> bool:
        """Have the segment there, and see that it is. False: somebody else had written it."""
        name = f"{self.stream.name}/{span.name}"
        try:
            data = await asyncio.to_thread(build, self._before, self._tree, head, messages)
        except ChangedError as error:
            first = await self._log.first()
            if span.first < first:
                gone = f"messages {span.first} to {first - 1} of {self.stream.name} are no more"
                where = "go on where they are archived, or copy that archive here"
                raise ArchiveError(f"{gone} in the log: {where}") from error
            raise ArchiveError(str(error)) from error
        put = await asyncio.to_thread(self._place.put, name, data)
        back = await asyncio.to_thread(self._place.get, name)
        if sha256(back).digest() != sha256(data).digest():
            if put:
                raise PlaceError(f"{name} was put to {self._place}, and something else came back")
            raise ArchiveError(f"{name} is there already, and is something else")
        return put


def _head(stored: Stored) -> HeadRecord | None:
    try:
        return HEAD.decode(stored.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _bare(head: HeadRecord) -> HeadRecord:
    return msgspec.structs.replace(head, leaves=b"", frontier=())


def _signed(head: HeadRecord) -> bool:
    try:
        check_head(msgspec.to_builtins(head))
    except ProofError:
        return False
    return True
