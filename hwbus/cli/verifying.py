"""Verifying the streams as they are, or a copy of the broker's store: what `audit verify` does."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path

import msgspec

from hwbus.archives import Archive, Source, opened
from hwbus.blocks import DamagedError, blocks_of, read_block
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import Options
from hwbus.cli.output import say
from hwbus.cli.released import SUBJECT, Remains, releases_in, releases_of, remains
from hwbus.cli.session import linked
from hwbus.cli.world import Link
from hwbus.heads import HEAD, heads_in, up_to
from hwbus.ports import Stored
from hwbus.streams import AUDIT, EVENTS, Stream
from hwbus.verifying import Verdict, Verifier
from schemas.audit import HeadRecord

_HEAD_SUBJECTS = ("hwbus.audit.head.", "hwbus.audit.head-audit.")


def kept_heads(path: Path) -> list[HeadRecord]:
    """Return the heads in a file of lines. Raises ``OSError`` and ``msgspec.DecodeError``."""
    return [HEAD.decode(line) for line in path.read_bytes().splitlines() if line.strip()]


async def verify_live(
    kept: Sequence[HeadRecord], keys: Sequence[str], beside: Source | None, options: Options
) -> list[Verdict]:
    """Check both streams, that of the events first; *beside* has what was taken out of the audit.

    Raises:
        FailureError: the audit was pruned while it was read; also as ``hwbus.archives.opened``.
    """
    with ExitStack() as stack:
        archive = None
        if isinstance(beside, Path):
            raise FailureError(Exit.USAGE, f"{beside} is one file, and has no audit: name segments")
        if beside is not None:
            archive = stack.enter_context(opened(beside, keys, stream=AUDIT.name))
        async with linked(options) as link:
            left = remains(await link.audit.first(), await releases_in(link))
            verdicts = await _verify(link, left, kept, keys, archive)
            if await link.audit.first() != left.first:
                again = "Repeat it: what was read is no verdict."
                raise FailureError(Exit.FAILED, "the audit was pruned meanwhile", fix=again)
    return verdicts


async def _verify(
    link: Link,
    left: Remains,
    kept: Sequence[HeadRecord],
    keys: Sequence[str],
    archive: Archive | None,
) -> list[Verdict]:
    # The heads first: what is signed meanwhile would be missed in what is read before.
    found = [*_heads_in(() if archive is None else archive.messages()), *await heads_in(link.audit)]
    _tell(left, kept, joined=archive is not None)
    verdicts = []
    for stream, log in ((EVENTS, link.log), (AUDIT, link.audit)):
        head = await log.head()
        if archive is None:
            verifier = _verifier([*found, *kept], stream, keys, left)
        else:
            verifier = _verifier([*found, *kept], stream, keys, Remains(1))
            if stream is AUDIT:
                verifier.take(one for one in archive.messages() if one.seq < left.first)
        async with aclosing(up_to(log, head, stream.subjects)) as batches:
            async for batch in batches:
                verifier.take(batch)
        verdicts.append(verifier.finish(head))
    return verdicts


def _tell(left: Remains, kept: Sequence[HeadRecord], *, joined: bool) -> None:
    """Say what is not verified here, and what was begun and not done."""
    if left.undone is not None:
        say(
            f"note: messages 1 to {left.undone.until} of {AUDIT.name} may be taken out, said "
            f"{left.undone.by}, and some of them are here; they are verified, too"
        )
    gone = 0 if left.release is None or joined else left.release.until
    before = sum(head.stream == AUDIT.name and head.seq < gone for head in kept)
    if before:
        say(
            f"note: {before} of the heads that were kept are of what was pruned: "
            f"--with-archive {left.release.place if left.release else ''} compares them"
        )


def _verifier(
    heads: Sequence[HeadRecord], stream: Stream, keys: Sequence[str], left: Remains
) -> Verifier:
    if stream is EVENTS:
        # Heads lie on the audit: those that listed the first events went with its beginning.
        unlisted = left.release is not None
        return Verifier(heads, stream=stream.name, keys=keys, unlisted=unlisted)
    before = left.before()
    return Verifier(heads, stream=stream.name, keys=keys, chained=False, before=before)


def verify_store(store: Path, kept: Sequence[HeadRecord], keys: Sequence[str]) -> list[Verdict]:
    """Check a copy of the broker's files. Raises ``OSError`` and ``NoStoreError``."""
    found = [*kept, *_heads_in(_readable(store, AUDIT))]
    first = next((one.seq for one in _readable(store, AUDIT)), 1)
    about = (one for one in _readable(store, EVENTS) if one.subject == SUBJECT)
    left = remains(first, list(releases_of(about)))
    _tell(left, kept, joined=False)
    verdicts = []
    for stream in (EVENTS, AUDIT):
        verifier = _verifier(found, stream, keys, left)
        for path in blocks_of(store, stream.name):
            try:
                verifier.take(read_block(path))
            except DamagedError as error:
                verifier.damaged(str(error))
        verdicts.append(verifier.finish())
    return verdicts


def _readable(store: Path, stream: Stream) -> Iterator[Stored]:
    """Give what can be read; what cannot is found when the stream itself is verified."""
    for path in blocks_of(store, stream.name):
        with suppress(DamagedError):
            yield from read_block(path)


def _heads_in(messages: Iterable[Stored]) -> Iterator[HeadRecord]:
    for one in messages:
        if one.subject.startswith(_HEAD_SUBJECTS):
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                yield HEAD.decode(one.data)
