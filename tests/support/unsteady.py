"""A log on a bad day: slow, sometimes silent about what it stored, cut off in the middle."""

import asyncio
from random import Random

from hwbus.memory import MemoryLog
from hwbus.ports import Clock, OutcomeUnknownError


class UnsteadyLog(MemoryLog):
    """Stores like the log in memory, but takes its time and loses some acknowledgements.

    Whoever is cancelled while waiting may or may not have been stored, as with a real broker.
    """

    def __init__(self, clock: Clock, chance: Random, unknown_share: float = 0.02) -> None:
        super().__init__(clock)
        self._chance = chance
        self._unknown_share = unknown_share

    async def append(self, subject: str, data: bytes, *, after: int, message_id: str) -> int:
        await asyncio.sleep(self._chance.random() * 0.05)
        luck = self._chance.random()
        if luck < self._unknown_share / 2:
            raise OutcomeUnknownError("the request was lost")
        seq = await super().append(subject, data, after=after, message_id=message_id)
        await asyncio.sleep(self._chance.random() * 0.05)
        if luck < self._unknown_share:
            raise OutcomeUnknownError("the answer was lost")
        return seq
