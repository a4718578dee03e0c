"""Is the log the one that was signed? Reads it once, from wherever it lies, and names what is not.

Three things are compared. Sequences: none may be missing, come twice or in another order. Signed
heads: each lists the hashes of the messages since the one before, and their Merkle root shows that
the list is the one that was signed; so a message that was changed is known by its number. Chains:
each commit names the hash of the one before it about the same object, which goes on where no head
has been signed yet.
"""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from hwbus.codec import hash_of
from hwbus.merkle import Tree
from hwbus.ports import Stored
from hwbus.proof import HASH_BYTES, ProofError, check_head, gap_hash, leaf_hash
from schemas.audit import HeadRecord

FINDINGS_MAX = 100
_UNBOUNDED = 1 << 63
_LACK_MAX = 1 << 22


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was: at ``seq``, or from there to ``until``.

    ``what`` is changed, missing, inserted, order, chain, unreadable, damaged or head.
    """

    seq: int
    until: int
    what: str
    because: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. ``first_bad`` is the lowest sequence of a finding, or None: all is well.

    Of ``stream``, ``messages`` were read, up to ``seq``; up to ``signed`` they are covered by the
    ``heads``, the last of which was signed at ``signed_at``, with ``keys``. ``unreadable`` were no
    commits when they were signed; ``untold`` findings were too many to be kept. What is before
    ``first`` was taken out, and that was recorded: ``before`` says where it is.
    """

    stream: str
    messages: int
    seq: int
    heads: int
    signed: int
    signed_at: str
    keys: tuple[str, ...]
    unreadable: int
    findings: tuple[Finding, ...]
    untold: int
    first_bad: int | None
    first: int = 1
    before: str = ""


class Before(msgspec.Struct, frozen=True):
    """What was taken out before the first message: the tree over it, and where that is."""

    tree: Tree
    said: str


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    version: int
    prev: str = ""


class _Link(msgspec.Struct, frozen=True, gc=False):
    """The last message about one object; ``good``: it is as it was signed, None: nobody knows."""

    seq: int
    hash: str
    version: int
    good: bool | None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


class Verifier:
    """Takes the messages of one stream in their order. What it keeps does not grow with them.

    It keeps the heads (32 bytes a message) and one hash for each object there ever was.
    """

    def __init__(
        self,
        heads: Iterable[HeadRecord],
        *,
        stream: str,
        keys: Collection[str] = (),
        until: int = _UNBOUNDED,
        chained: bool = True,
        before: Before | None = None,
        unlisted: bool = False,
    ) -> None:
        """Compare with *heads* of *stream*; *keys* (hex) are those that count, with none all do.

        What follows after *until* is not expected to be there. Messages of a stream that is not
        *chained* are no commits. What was taken out is *before*: messages of it are passed over.
        *unlisted*: the heads that listed the first messages are no more; their root is compared.
        """
        self._stream = stream
        self._chained = chained
        self._findings: list[Finding] = []
        self._untold = 0
        self._until = until
        self._all = tuple(self._trusted(heads, stream, keys))
        self._before = before
        self._unlisted = unlisted
        self._tree = Tree() if before is None else before.tree.copy()
        self._heads, self._bare = self._sorted_out()
        self._head: HeadRecord | None = None
        # What the tree has ahead of what was read: hashes of leaves up to ``_span_ends``.
        self._listed = b""
        self._span_begins = 1
        self._span_ends = 0
        self._next = self._tree.size + 1
        self._messages = 0
        self._unreadable = 0
        self._links: dict[str, _Link] = {}

    @property
    def signed(self) -> int:
        """The sequence up to which heads were signed."""
        return self._all[-1].seq if self._all else 0

    def _sorted_out(self) -> tuple[list[HeadRecord], list[HeadRecord]]:
        """Return the heads at which spans end, and those that are looked at in passing."""
        gone = self._tree.size
        for head in self._all:
            if head.seq == gone and gone and head.root != self._tree.root().hex():
                self._find(gone, "head", f"two heads of {gone} messages differ")
        left = [head for head in self._all if head.seq > gone]
        listing = [head for head in left if head.leaves]
        listed_to = listing[-1].seq if listing else 0
        from_ = _listed_from(listing[0]) if listing and self._unlisted else 0
        spans: list[HeadRecord] = []
        bare: list[HeadRecord] = []
        for head in left:
            # Heads that were kept elsewhere come without a list.
            passing = not head.leaves and from_ <= head.seq <= listed_to
            (bare if passing else spans).append(head)
        return spans, bare

    def take(self, messages: Iterable[Stored]) -> None:
        """Look at some more messages."""
        for message in messages:
            if self._before is not None and message.seq <= self._before.tree.size:
                continue
            self._messages += 1
            if message.seq < self._next:
                because = f"{message.seq} stands behind {self._next - 1}"
                self._find(message.seq, "order", because)
                continue
            self._lack(message.seq)
            leaf = leaf_hash(message.subject, message.seq, message.data)
            good = self._compare(message.seq, leaf)
            if self._chained:
                self._follow_chain(message, good=good)

    def damaged(self, because: str) -> None:
        """Note that nothing could be read behind the last message, in its part of the store."""
        self._find(self._next, "damaged", because)

    def finish(self, head: int = 0) -> Verdict:
        """Say what came of it; nothing follows, although the log says that it goes up to *head*."""
        last = self._next - 1
        self._lack(max(head, min(self.signed, self._until)) + 1)
        found = sorted(self._findings, key=lambda one: one.seq)
        return Verdict(
            stream=self._stream,
            messages=self._messages,
            seq=last,
            heads=len(self._all),
            signed=min(self.signed, self._until),
            signed_at=msgspec.to_builtins(self._all[-1].at) if self._all else "",
            keys=tuple(dict.fromkeys(head.key for head in self._all)),
            unreadable=self._unreadable,
            findings=tuple(found),
            untold=self._untold,
            first_bad=found[0].seq if found else None,
            first=1 if self._before is None else self._before.tree.size + 1,
            before="" if self._before is None else self._before.said,
        )

    def _trusted(
        self, heads: Iterable[HeadRecord], stream: str, keys: Collection[str]
    ) -> list[HeadRecord]:
        good = []
        for head in heads:
            if head.stream != stream:
                continue
            try:
                check_head(msgspec.to_builtins(head))
            except ProofError as error:
                self._find(head.seq, "head", str(error))
                continue
            if keys and head.key not in keys:
                self._find(head.seq, "head", f"the head at {head.seq} is signed by {head.key}")
            else:
                good.append(head)
        return sorted(good, key=lambda head: head.seq)

    def _lack(self, seq: int) -> None:
        """Note that what should stand before *seq* is not there."""
        signed = min(seq - 1, self.signed)
        if signed - self._next > _LACK_MAX:
            # A head of a log that never was: nobody waits until so many are counted.
            self._heads, self._listed, self._span_ends = [], b"", _UNBOUNDED
            signed = 0
        while self._next <= signed:
            self._compare(self._next, gap_hash(self._next), missing=True)
        if self._next < seq:
            self._find(self._next, "missing", "not there", until=seq - 1)
            self._next = seq

    def _compare(self, seq: int, leaf: bytes, *, missing: bool = False) -> bool | None:
        """Compare the hash of one message with what was signed; None: no list tells."""
        if seq > self._span_ends:
            self._begin_span(seq)
        self._next = seq + 1
        if self._listed:
            at = (seq - self._span_begins) * HASH_BYTES
            return self._judge(seq, leaf, self._listed[at : at + HASH_BYTES], missing=missing)
        if self._span_ends != _UNBOUNDED:
            self._tree.append(leaf)
            if missing:
                self._find(seq, "missing", "not there")
            if seq == self._span_ends:
                self._end_span()
        return None

    def _judge(self, seq: int, leaf: bytes, signed: bytes, *, missing: bool) -> bool:
        if missing:
            was = "not there, and was not when it was signed" if leaf == signed else "not there"
            self._find(seq, "missing", was)
        elif leaf != signed and signed == gap_hash(seq):
            self._find(seq, "inserted", "there, and was not when it was signed")
        elif leaf != signed:
            self._find(seq, "changed", "not what was signed")
        return leaf == signed

    def _begin_span(self, seq: int) -> None:
        """Find out what is signed from *seq* on: a list of leaves, only a root, or nothing."""
        self._listed, self._span_begins = b"", seq
        while self._heads and self._heads[0].seq < seq:
            twin = self._heads.pop(0)
            if twin.seq == self._tree.size and twin.root != self._tree.root().hex():
                self._find(twin.seq, "head", f"two heads of {twin.seq} messages differ")
        if not self._heads:
            self._span_ends = _UNBOUNDED
            return
        head = self._head = self._heads.pop(0)
        self._span_ends = head.seq
        if not head.leaves:
            return
        begins = _listed_from(head)
        if begins > seq and seq == 1 and self._unlisted:
            return
        if begins > seq:
            because = f"a head that listed messages {seq} to {begins - 1} is missing"
            self._find(seq, "head", because, until=begins - 1)
            return
        listed = head.leaves[(seq - begins) * HASH_BYTES :]
        grown = self._grown(listed)
        if grown.size == head.seq and grown.root().hex() == head.root:
            self._listed, self._tree = listed, grown
        else:
            because = f"the head at {head.seq} does not continue those before it"
            self._find(head.seq, "head", because)

    def _grown(self, listed: bytes) -> Tree:
        """Return the tree with *listed* leaves more; compare heads without a list on its way."""
        grown = self._tree.copy()
        ends = grown.size + len(listed) // HASH_BYTES
        while self._bare and self._bare[0].seq <= ends:
            bare = self._bare.pop(0)
            there = max(0, bare.seq - self._tree.size) * HASH_BYTES
            grown.extend(listed[(grown.size - self._tree.size) * HASH_BYTES : there])
            if bare.seq != grown.size or bare.root != grown.root().hex():
                because = f"a head of {bare.seq} messages was signed that is not of this log"
                self._find(bare.seq, "head", because)
        grown.extend(listed[(grown.size - self._tree.size) * HASH_BYTES :])
        return grown

    def _end_span(self) -> None:
        """Compare the root at the end of a span of which the leaves are not known one by one."""
        head = self._head
        if head is None or self._tree.root().hex() == head.root:
            return
        because = f"something in it is not what was signed with the head at {head.seq}"
        self._find(self._span_begins, "changed", because, until=head.seq)
        try:
            signed = Tree(head.seq, head.frontier)
        except ValueError:
            return
        if signed.root().hex() == head.root:
            self._tree = signed

    def _follow_chain(self, message: Stored, *, good: bool | None) -> None:
        before = self._links.get(message.subject)
        try:
            envelope = _ENVELOPE.decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._note_unreadable(message, before, good=good)
            return
        if before is None:
            if envelope.prev:
                self._find(message.seq, "chain", "the commit before it is not there")
        elif envelope.prev != before.hash:
            self._break(before, message.seq, good=good)
        elif envelope.version != before.version + 1:
            because = f"version {envelope.version} follows {before.version}"
            self._find(message.seq, "chain", because)
        hash_ = hash_of(message.data)
        self._links[message.subject] = _Link(message.seq, hash_, envelope.version, good)

    def _note_unreadable(self, message: Stored, before: _Link | None, *, good: bool | None) -> None:
        """A message that is no commit holds its place in the chain, as the desk lets it."""
        self._unreadable += 1
        if good is None and message.seq > self.signed:
            self._find(message.seq, "unreadable", "no commit, and not signed yet")
        version = 0 if before is None else before.version
        hash_ = hash_of(message.data)
        self._links[message.subject] = _Link(message.seq, hash_, version, good)

    def _break(self, before: _Link, seq: int, *, good: bool | None) -> None:
        """A commit does not follow the one before it: say which of the two is to blame."""
        if any(f.what == "missing" and before.seq < f.seq < seq for f in self._findings):
            return
        if before.good is None:
            because = f"what {seq} follows is not this: one of the two was changed"
            self._find(before.seq, "chain", because)
        elif before.good and good is not False:
            self._find(seq, "chain", f"it does not follow {before.seq}")
        # Otherwise the heads have named the one that was changed.

    def _find(self, seq: int, what: str, because: str, *, until: int = 0) -> None:
        finding = Finding(seq=seq, until=until or seq, what=what, because=because)
        if self._findings and what == "missing":
            last = self._findings[-1]
            if (last.what, last.because, last.until + 1) == (what, because, seq):
                self._findings[-1] = msgspec.structs.replace(last, until=finding.until)
                return
        if len(self._findings) >= FINDINGS_MAX:
            self._untold += 1
            return
        self._findings.append(finding)


def _listed_from(head: HeadRecord) -> int:
    """Return the first message of which *head* lists the hash."""
    return head.seq - len(head.leaves) // HASH_BYTES + 1


def summary(verdict: Verdict) -> Sequence[str]:
    """Return what a verdict says, a line each; the first one is the answer."""
    signed = min(verdict.seq, verdict.signed)
    since = f" from {verdict.first} on" if verdict.first > 1 else ""
    if verdict.first_bad is not None:
        said = f"the first that is not as it was is {verdict.first_bad}"
    elif not verdict.heads:
        said = f"{verdict.messages} messages, and no head is signed"
    elif signed == verdict.seq:
        said = f"all {verdict.messages} messages{since} are as they were signed"
    else:
        many = f"{signed - verdict.first + 1} of {verdict.messages} messages{since}"
        said = f"the first {many} are as they were signed"
    heads = "1 head" if verdict.heads == 1 else f"{verdict.heads} heads"
    covered = f"{heads}, the last one of {verdict.signed} messages, signed {verdict.signed_at}"
    return (
        f"{verdict.stream}: {said}",
        *((verdict.before,) if verdict.before else ()),
        *((covered,) if verdict.heads else ()),
        *(f"signed by {key}" for key in verdict.keys),
        *((f"{verdict.unreadable} are no commits",) if verdict.unreadable else ()),
        *((f"{verdict.untold} more findings",) if verdict.untold else ()),
    )
