"""What the control plane does by itself: looks every second, and asks for what anybody could."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

import msgspec

from aggregates.world import World
from hwbus.asking import Asked
from hwbus.desk import CommandDesk
from hwbus.ports import Clock
from schemas.answers import Answer
from schemas.grammar import Message, kind_and_verb

LOOK_EVERY_S = 1.0


class Looking(ABC):
    """One of those that look. What they know is in the log, so whoever starts anew goes on."""

    def __init__(
        self, desk: CommandDesk, world: World, clock: Clock, mint: Callable[[], str]
    ) -> None:
        self._desk = desk
        self._world = world
        self._clock = clock
        self._mint = mint

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    @abstractmethod
    async def look(self) -> None:
        """Ask for what is due now."""

    async def ask(
        self, command: Message, *, cause: str, actor: str = "hwbus", id_: str | None = None
    ) -> Answer:
        """Have *command* decided, under an id of its own unless one is given."""
        kind, verb = kind_and_verb(command)
        wish = Asked(
            id=self._mint() if id_ is None else id_,
            actor=actor,
            kind=kind,
            verb=verb,
            data=msgspec.json.encode(command),
            cause=cause,
            within=True,
        )
        return await self._desk.settle(wish, command)
