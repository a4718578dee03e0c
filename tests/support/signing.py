"""A log that was signed, as data: commits in chains, and the heads a notary made of them."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from hwbus.codec import hash_of
from hwbus.controller.notary import Notary
from hwbus.controller.notary_key import NotaryKey
from hwbus.memory import MemoryLog
from hwbus.ports import Stored
from schemas.audit import HeadRecord
from schemas.commit import Commit
from schemas.node import NodeCordoned
from tests.support.clock import NOON, ManualClock
from tests.support.purged import PurgedLog

SUBJECTS = tuple(f"hwbus.evt.node.-.n{n}" for n in range(3))
STREAM = "HWBUS_EVENTS"
_HEADS = ("hwbus.audit.head.", "hwbus.audit.head-audit.")
_HEAD = msgspec.json.Decoder(HeadRecord)


class AuditLog(PurgedLog):
    """The audit stream in memory, an outlet and a log; while it has a *trouble* it raises it."""

    trouble: Exception | None = None

    async def keep(
        self,
        subject: str,
        data: bytes,
        *,
        message_id: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        assert headers is None
        if self.trouble is not None:
            raise self.trouble
        last = await self.last(subject)
        await self.append(subject, data, after=last.seq if last else 0, message_id=message_id)

    async def heads(self) -> list[HeadRecord]:
        stored = [await self.get(seq) for seq in range(1, await self.head() + 1)]
        return [_HEAD.decode(o.data) for o in stored if o and o.subject.startswith(_HEADS)]


def commit(version: int, prev: str, text: str) -> bytes:
    """Return a commit of that version as the desk writes it."""
    return msgspec.json.encode(
        Commit[Any](
            id=f"c{version}",
            at=NOON,
            actor="ada",
            command=f"{text}-{version}",
            word="node.cordon.v1",
            correlation="",
            version=version,
            prev=prev,
            events=(NodeCordoned(node="n1", because=text),),
        )
    )


def chained(count: int) -> list[Stored]:
    """Return *count* commits about three nodes in turn, each naming the one before it."""
    past: list[Stored] = []
    last: dict[str, tuple[int, str]] = {}
    for seq in range(1, count + 1):
        subject = SUBJECTS[seq * seq % len(SUBJECTS)]
        version, prev = last.get(subject, (0, ""))
        data = commit(version + 1, prev, f"text {seq}")
        last[subject] = (version + 1, hash_of(data))
        past.append(Stored(seq, subject, data, NOON))
    return past


class Signed:
    """A log in memory with a notary; ``heads`` are those that it signed."""

    def __init__(self, seed: int = 1) -> None:
        clock = self.clock = ManualClock(NOON)
        self.log = MemoryLog(clock)
        self.audit = AuditLog(clock)
        self.key = NotaryKey(bytes([seed]) * 32)
        self.notary = Notary(self.log, self.audit, self.audit, clock, self.key)

    async def grow(self, past: list[Stored]) -> None:
        for one in past:
            before = await self.log.last(one.subject)
            after = before.seq if before else 0
            self.clock.move((one.at - self.clock.now()).total_seconds())
            await self.log.append(one.subject, one.data, after=after, message_id=str(one.seq))


def signed(count: int, *at: int, seed: int = 1) -> tuple[list[Stored], list[HeadRecord]]:
    """Return *count* commits, and the heads of a notary that signed at these sequences."""

    async def tale() -> list[HeadRecord]:
        here = Signed(seed)
        done = 0
        for seq in at:
            await here.grow(past[done:seq])
            assert await here.notary.sign() == seq
            done = seq
        return await here.audit.heads()

    past = chained(count)
    return past, asyncio.run(tale())
