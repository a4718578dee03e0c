"""A log in memory of which the beginning can be taken out, as an administrator of a broker can."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from hwbus.memory import MemoryLog
from hwbus.ports import EVENTS, Stored


class PurgedLog(MemoryLog):
    """``EventLog`` in a list that begins behind ``gone``."""

    gone = 0

    def purge(self, until: int) -> None:
        """Take out all messages up to and with *until*."""
        self.gone = max(self.gone, until)
        left = {name: [s for s in seqs if s > until] for name, seqs in self._by_subject.items()}
        self._by_subject = {name: seqs for name, seqs in left.items() if seqs}

    async def first(self) -> int:
        """As ``EventLog.first``."""
        return self.gone + 1

    async def get(self, seq: int) -> Stored | None:
        """As ``EventLog.get``."""
        return None if seq <= self.gone else await super().get(seq)

    @asynccontextmanager
    async def follow(
        self, *, after: int, subjects: Sequence[str] = (EVENTS,), batch_max: int = 500
    ) -> AsyncIterator[AsyncIterator[list[Stored]]]:
        """As ``EventLog.follow``."""
        after = max(after, self.gone)
        following = super().follow(after=after, subjects=subjects, batch_max=batch_max)
        async with following as batches:
            yield batches
