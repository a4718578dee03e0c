"""What reaches the node: the log, followed from where it left off, whenever there is a bus."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Protocol

import structlog

from hwbus import subjects
from hwbus.cancelling import apart, heed_cancellation
from hwbus.ports import ForbiddenError, NobodyThereError, OutcomeUnknownError
from node_workers.figures import Figures
from node_workers.lanes import backoff_s
from node_workers.outbox import Link, Outbox
from node_workers.presence import Presence
from node_workers.scans import Scans
from node_workers.state import State
from schemas.node import NODES

_LOG = structlog.get_logger("node_workers.feed")
_AWAY = (OutcomeUnknownError, NobodyThereError, ForbiddenError)
_LINK_RETRY_MAX_S = 5.0


class Linked(Protocol):
    """Whoever asks others over the bus, while there is one."""

    link: Link | None


class Desk(Protocol):
    """Whoever answers others over the bus, while there is one."""

    async def serve(self, link: Link, caught_up: Callable[[], bool]) -> None:
        """Answer until cancelled."""
        ...


Links = Callable[[], AbstractAsyncContextManager[Link]]


class LogTooShortError(Exception):
    """The log ends before what this node has read of it: it is another log, or it lost its end."""


class Feed:
    """Keeps the node linked, folds what comes, and tells *on_news* which objects it concerns."""

    def __init__(
        self,
        state: State,
        outbox: Outbox,
        presence: Presence,
        scans: Scans,
        on_news: Callable[[Iterable[str]], None],
        *,
        node: str,
        rng: Random,
        figures: Figures,
        linked: Sequence[Linked],
        desks: Sequence[Desk],
    ) -> None:
        self._state = state
        self._outbox = outbox
        self._presence = presence
        self._scans = scans
        self._on_news = on_news
        self._node = node
        self._rng = rng
        self._figures = figures
        self._linked = linked
        self._desks = desks
        self._link: Link | None = None
        self._caught_up = False

    @property
    def caught_up(self) -> bool:
        """Whether all that the log held has been folded since this process started.

        Before that nothing may be made or removed: a wish from the past may have been withdrawn.
        """
        return self._caught_up

    async def run(self, links: Links) -> None:
        """Be linked whenever that is possible, until cancelled."""
        attempt = 0
        while True:
            began_caught_up = self._caught_up
            try:
                await apart(self._attend_one(links))
            except* (ConnectionError, *_AWAY) as errors:
                _LOG.warning("no bus", because=str(_first(errors)))
            except* LogTooShortError as errors:
                self._figures.count("log_too_short_total")
                _LOG.critical("this is not the log we knew", because=str(_first(errors)))
            self._tell(None)
            self._figures.show("connected", 0)
            heed_cancellation()
            attempt = 0 if self._caught_up is not began_caught_up else attempt + 1
            await asyncio.sleep(backoff_s(attempt, self._rng, max_s=_LINK_RETRY_MAX_S))

    async def is_news_free(self, key: str) -> bool:
        """Ask the log whether all that was said of the object has reached us.

        What takes data away is not done on old news, and not without the log.
        """
        if self._link is None:
            return False
        kind, _, name = key.partition("/")
        try:
            newest = await self._link.log.last(subjects.address(kind, self._node, name).subject)
        except _AWAY as error:
            _LOG.info("nothing is removed without the log", key=key, because=str(error))
            return False
        return newest is not None and newest.seq <= self._state.position

    async def _attend_one(self, links: Links) -> None:
        async with links() as link:
            await self._attend(link)

    async def _attend(self, link: Link) -> None:
        self._tell(link)
        self._figures.show("connected", 1)
        await self._presence.join()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outbox.deliver(link), name="deliver")
            group.create_task(self._follow(link), name="follow")
            group.create_task(self._presence.beat(link, self._presence.join), name="beat")
            group.create_task(self._listen(link), name="listen")
            for desk in self._desks:
                group.create_task(desk.serve(link, lambda: self._caught_up), name="desk")

    def _tell(self, link: Link | None) -> None:
        self._link = link
        for one in self._linked:
            one.link = link

    async def _listen(self, link: Link) -> None:
        async with link.bus.listen(subjects.live("rescan", self._node)) as calls:
            async for _ in calls:
                self._scans.hint()

    async def _follow(self, link: Link) -> None:
        mine = (
            subjects.of_node(self._node),
            subjects.address(NODES, subjects.CLUSTER, self._node).subject,
        )
        head = await link.log.head()
        if head < self._state.position:
            raise LogTooShortError(
                f"it ends at {head}, {self._state.position} was read here; "
                "if it was replaced on purpose, start with an empty --state"
            )
        newest = [await link.log.last(subject) for subject in mine]
        target = max((stored.seq for stored in newest if stored is not None), default=0)
        async with link.log.follow(after=self._state.position, subjects=mine) as batches:
            self._note_position(target)
            async for batch in batches:
                news = await self._state.take(batch)
                if news.admitted:
                    await self._presence.join()
                    self._scans.repeat()
                if self._caught_up:
                    self._on_news(news.keys)
                self._note_position(target)

    def _note_position(self, target: int) -> None:
        if not self._caught_up and self._state.position >= target:
            self._caught_up = True
            _LOG.info("caught up", position=self._state.position)
            self._scans.hint()
            self._on_news(key for key, one in self._state.wanted.items() if one.open)


def _first(errors: BaseException) -> BaseException:
    """Return the innermost first of what went wrong at once."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors
