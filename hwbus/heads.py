"""Reading the streams from one place to another, and the signed heads that lie on the audit."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

import msgspec

from hwbus.ports import EVENTS as EVERY_EVENT
from hwbus.ports import EventLog, Stored
from hwbus.streams import AUDIT, EVENTS
from schemas.audit import HeadRecord

HEADS_OF = {EVENTS.name: "hwbus.audit.head.*", AUDIT.name: "hwbus.audit.head-audit.*"}
HEADS = tuple(HEADS_OF.values())
HEAD = msgspec.json.Decoder(HeadRecord)


async def up_to(
    log: EventLog, until: int, subjects: Sequence[str] = (EVERY_EVENT,), *, after: int = 0
) -> AsyncGenerator[list[Stored], None]:
    """Yield what there is behind *after*, in stretches, up to and with the message at *until*."""
    newest = [await log.last(subject) for subject in subjects]
    until = min(until, max((one.seq for one in newest if one is not None), default=0))
    if until <= after:
        return
    async with log.follow(after=after, subjects=subjects) as batches:
        async for batch in batches:
            yield [stored for stored in batch if stored.seq <= until]
            if batch[-1].seq >= until:
                return


async def each_head(audit: EventLog, subjects: Sequence[str]) -> AsyncGenerator[HeadRecord, None]:
    """Yield the heads under *subjects* of the audit stream, oldest first.

    One that cannot be read is not there: what it alone vouched for is found to be missing.
    """
    async with aclosing(up_to(audit, await audit.head(), subjects)) as batches:
        async for batch in batches:
            for stored in batch:
                with suppress(msgspec.DecodeError, UnicodeDecodeError):
                    yield HEAD.decode(stored.data)


async def heads_in(audit: EventLog) -> list[HeadRecord]:
    """Return the heads of both streams that are on the audit stream, oldest first."""
    async with aclosing(each_head(audit, HEADS)) as heads:
        return [head async for head in heads]
