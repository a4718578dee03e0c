"""The archivist archives by the clock, goes on after trouble, and tells how far it is."""

import asyncio

from prometheus_client import CollectorRegistry

from hwbus.archiving import Archiver
from hwbus.controller.archivist import ArchiveFigures, Archivist
from hwbus.places import PlaceError
from hwbus.streams import AUDIT, EVENTS
from tests.support.archives import Shelf, Story
from tests.support.clock import NOON, ManualClock
from tests.support.nats import until


class Moody(Shelf):
    """A place that does not answer while it is told not to."""

    silent = False

    def names(self, folder: str) -> list[str]:
        """As ``Place.names``."""
        if self.silent:
            raise PlaceError("it does not answer")
        return super().names(folder)


class House:
    """An archivist of both streams, and its figures."""

    def __init__(self, every_s: float = 600) -> None:
        self.story, self.shelf, self.clock = Story(20), Moody(), ManualClock(NOON)
        log, audit = self.story.signed.log, self.story.signed.audit
        archivers = [
            Archiver(log, audit, self.shelf, EVENTS),
            Archiver(audit, audit, self.shelf, AUDIT),
        ]
        self.archivist = Archivist(archivers, self.clock, every_s=every_s)
        self.registry = CollectorRegistry()
        self.registry.register(ArchiveFigures(self.archivist))

    def figure(self, name: str, stream: str = EVENTS.name) -> float | None:
        return self.registry.get_sample_value(f"hwbus_archive_{name}", {"stream": stream})


def test_it_tells_how_far_it_is_and_for_how_long_it_was_not_up_to_date() -> None:
    async def tale() -> None:
        here = House()
        assert (here.figure("position"), here.figure("age_seconds")) == (None, 0)
        await here.story.sign(4)
        assert await here.archivist.archive()
        assert (here.figure("position"), here.figure("position", AUDIT.name)) == (4, 0)
        here.shelf.silent = True
        here.clock.move(1200)
        await here.story.sign(9)
        assert not await here.archivist.archive()
        assert (here.figure("position"), here.figure("age_seconds")) == (4, 1200)
        assert (here.figure("trouble"), here.figure("every_seconds")) == (1, 600)
        here.shelf.silent = False
        assert await here.archivist.archive()
        told = [here.figure(name) for name in ("position", "age_seconds", "trouble")]
        assert told == [9, 0, 0]

    asyncio.run(tale())


def test_what_was_changed_is_a_trouble_of_its_own_stream_alone() -> None:
    async def tale() -> None:
        here = House()
        await here.story.sign(4)
        await here.archivist.archive()
        name = here.shelf.name_of(1)
        here.shelf.kept[name] = here.shelf.kept[name][:-1]
        assert not await here.archivist.archive()
        assert (here.figure("trouble"), here.figure("trouble", AUDIT.name)) == (1, 0)
        assert "cannot be continued" in here.archivist.trouble[EVENTS.name]

    asyncio.run(tale())


def test_it_archives_by_the_clock_until_it_is_told_to_stop() -> None:
    async def tale() -> None:
        here = House(every_s=0.005)
        running = asyncio.create_task(here.archivist.run())
        for seq in (4, 9):
            await here.story.sign(seq)
            await until(lambda seq=seq: here.archivist.until.get(EVENTS.name) == seq)  # type: ignore[misc]
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()

    asyncio.run(tale())


def test_without_an_archivist_there_are_figures_and_no_values() -> None:
    registry = CollectorRegistry()
    registry.register(ArchiveFigures(None))
    assert [family.samples for family in registry.collect()] == [[]] * 4
