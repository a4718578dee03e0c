"""The notary: signs how far a stream had grown, and what was in it, so that nobody can unsay it.

It remembers nothing but its key. Where it goes on is its own last head, on the audit stream; and
before it does, it looks whether the log is still the one that it signed.
"""

import asyncio
from contextlib import aclosing

import msgspec
import structlog

from hwbus.controller.notary_key import NotaryKey
from hwbus.heads import each_head
from hwbus.merkle import Tree
from hwbus.ports import (
    Clock,
    EventLog,
    ForbiddenError,
    LogFullError,
    NobodyThereError,
    OutcomeUnknownError,
    Outlet,
)
from hwbus.proof import HASH_BYTES, ProofError, check_head, gap_hash, leaf_hash, signed_text
from hwbus.streams import AUDIT, EVENTS, Stream
from hwbus.subjects import audit
from schemas.audit import HeadRecord

SIGN_EVERY_S = 60.0
LEAVES_MAX = 8192
HEADS_OF = {EVENTS.name: "head", AUDIT.name: "head-audit"}
_HEADS = tuple(audit(word) + "." for word in HEADS_OF.values())
_GOODBYE_S = 5.0
_READ_S = 30.0
_TROUBLES = (OutcomeUnknownError, NobodyThereError, LogFullError, ForbiddenError)
_HEAD = msgspec.json.Decoder(HeadRecord)
_LOG = structlog.get_logger("hwbus.notary")


class OtherLogError(Exception):
    """The log is not the one of which the last head was signed: nothing more can be vouched for."""


class Notary:
    """Signs the head of one stream at intervals, if it has grown.

    Heads are on the audit stream, so that grows by being signed: of it they are no news.
    """

    def __init__(
        self,
        log: EventLog,
        audit_log: EventLog,
        outlet: Outlet,
        clock: Clock,
        key: NotaryKey,
        *,
        stream: Stream = EVENTS,
        every_s: float = SIGN_EVERY_S,
    ) -> None:
        self.key = key
        self.trouble = ""
        self._log = log
        self._audit_log = audit_log
        self._outlet = outlet
        self._clock = clock
        self._every_s = every_s
        self.stream = stream
        self._subject = audit(HEADS_OF[stream.name], key.short)
        self._tree: Tree | None = None
        self._turn = asyncio.Lock()

    @property
    def signed(self) -> int:
        """The sequence up to which the log is signed, as far as is known here."""
        return 0 if self._tree is None else self._tree.size

    async def run(self) -> None:
        """Sign until cancelled. What cannot be signed is told, and tried again."""
        _LOG.info("heads are signed", stream=self.stream.name, key=self.key.public)
        while True:
            # Not at once: a control plane that starts has more urgent things to read.
            await asyncio.sleep(self._every_s)
            await self.try_sign()

    async def close(self) -> None:
        """Sign what has come since, if that can be done in a moment."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self.try_sign()
        except TimeoutError:
            _LOG.warning("the last head is not signed", signed=self.signed)

    async def try_sign(self) -> None:
        """Sign what has come since; say in ``trouble`` and in the log why not, if not."""
        try:
            await self.sign()
        except _TROUBLES as error:
            because = str(error) or type(error).__name__
            # Once: it is tried again every minute, for as long as a full audit stays full.
            if because != self.trouble:
                _LOG.warning("the head is not signed yet", because=because)
            self.trouble = because
        except OtherLogError as error:
            self.trouble = str(error)
            _LOG.error("the log is not signed any more", because=self.trouble)
        else:
            self.trouble = ""

    async def sign(self) -> int:
        """Sign up to the end of the log as it is now, and return the sequence of that head.

        Raises:
            OtherLogError: the log is not the one that was signed before.
            OutcomeUnknownError, NobodyThereError, LogFullError, ForbiddenError: ask again.
        """
        async with self._turn:
            if self._tree is None:
                self._tree = await self._where_we_were()
            head = await self._log.head()
            if head < self._tree.size:
                raise OtherLogError(f"the log ends at {head}, and {self._tree.size} was signed")
            while self._tree.size < head:
                until = min(head, self._tree.size + LEAVES_MAX)
                leaves, news = await self._leaves(self._tree.size, until)
                if await self._log.first() > self._tree.size + 1:
                    # What is archived and taken out is no gap: find out anew where to go on.
                    self._tree = None
                    raise OutcomeUnknownError("messages that were not signed here are gone")
                if until == head and not news:
                    break
                self._tree = await self._sign_to(until, self._tree, leaves)
            return self._tree.size

    async def _where_we_were(self) -> Tree:
        stored = await self._audit_log.last(self._subject)
        first = await self._log.first()
        if stored is None:
            return Tree() if first == 1 else await self._where_it_begins(first)
        try:
            last = _HEAD.decode(stored.data)
            check_head(msgspec.to_builtins(last))
            tree = Tree(last.seq, last.frontier)
        except (msgspec.DecodeError, ProofError, ValueError) as error:
            raise OtherLogError(f"audit {stored.seq} is no head of ours: {error}") from error
        if last.key != self.key.public or tree.root().hex() != last.root:
            raise OtherLogError(f"audit {stored.seq} is no head of ours")
        if last.seq < first - 1:
            return await self._where_it_begins(first)
        if last.seq == first - 1:
            return tree  # the message itself is archived, and gone
        here = await self._log.get(last.seq)
        leaf = gap_hash(last.seq) if here is None else leaf_hash(here.subject, here.seq, here.data)
        if leaf != last.leaves[-HASH_BYTES:]:
            raise OtherLogError(f"message {last.seq} is not the one that was signed")
        return tree

    async def _where_it_begins(self, first: int) -> Tree:
        """Return the tree before what is left of the log, as whoever signed it there left it."""
        subject = f"{audit(HEADS_OF[self.stream.name])}.*"
        async with aclosing(each_head(self._audit_log, (subject,))) as heads:
            async for head in heads:
                if head.seq == first - 1 and (tree := _tree_of(head)) is not None:
                    return tree
        raise OtherLogError(
            f"{self.stream.name} begins at {first}, and there is no signed head of {first - 1}: "
            "nobody can vouch for what was before"
        )

    async def _sign_to(self, seq: int, tree: Tree, leaves: bytes) -> Tree:
        grown = tree.copy()
        grown.extend(leaves)
        record = HeadRecord(
            at=self._clock.now().replace(microsecond=0),
            stream=self.stream.name,
            seq=seq,
            root=grown.root().hex(),
            key=self.key.public,
            signature="",
            leaves=leaves,
            frontier=tuple(grown.frontier),
        )
        text = signed_text(msgspec.to_builtins(record))
        record = msgspec.structs.replace(record, signature=self.key.sign(text))
        # Signed twice, of one log: whichever is stored says the same of the same messages.
        message_id = f"{self._subject}.{seq}.{record.root[:16]}"
        await self._outlet.keep(self._subject, msgspec.json.encode(record), message_id=message_id)
        _LOG.info("head signed", stream=self.stream.name, seq=seq, root=record.root)
        return grown

    async def _leaves(self, after: int, until: int) -> tuple[bytes, bool]:
        """Return the leaves up to *until*, and whether one is of something else than a head."""
        leaves, news = bytearray(), False
        at = after
        try:
            async with (
                asyncio.timeout(_READ_S),
                self._log.follow(after=after, subjects=self.stream.subjects) as batches,
            ):
                async for batch in batches:
                    for stored in batch:
                        if stored.seq > until:
                            break
                        leaves += _missing(at, stored.seq)
                        leaves += leaf_hash(stored.subject, stored.seq, stored.data)
                        at = stored.seq
                        news = news or not stored.subject.startswith(_HEADS)
                    if batch[-1].seq >= until:
                        break
        except TimeoutError as error:
            raise OutcomeUnknownError(f"the log could not be read to {until}") from error
        return bytes(leaves + _missing(at, until + 1)), news or at < until


def _tree_of(head: HeadRecord) -> Tree | None:
    """Return the tree that *head* was signed over, if it is a head, and of that tree."""
    try:
        check_head(msgspec.to_builtins(head))
        tree = Tree(head.seq, head.frontier)
    except (ProofError, ValueError):
        return None
    return tree if tree.root().hex() == head.root else None


def _missing(after: int, before: int) -> bytes:
    """Return leaves for what is missing between two sequences: that, too, is vouched for."""
    gaps = range(after + 1, before)
    if gaps:
        _LOG.error("messages are missing in the log", first=gaps[0], last=gaps[-1])
    return b"".join(gap_hash(seq) for seq in gaps)
