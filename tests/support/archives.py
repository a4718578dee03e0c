"""A place for archives made of data, which fails, lies or lets others in when it is told to."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import pytest

from hwbus.archiving import Archived, Archiver
from hwbus.controller.notary import Notary
from hwbus.memory import Kept
from hwbus.places import Place, PlaceError
from hwbus.ports import Stored
from hwbus.segments import Span
from hwbus.streams import AUDIT, EVENTS
from tests.support.signing import Signed, chained


class KilledError(Exception):
    """Whoever used the place is gone."""


class Shelf:
    """``Place`` in a dict. The process dies *before* or behind the put of that number."""

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        self.kept = dict(kept or {})
        self.puts = 0
        self.dies_at: int | None = None
        self.dies_before = True
        self.meanwhile: Callable[[], None] | None = None
        self.meanwhile_at = 1
        self.garbles = False

    def names(self, folder: str) -> list[str]:
        """As ``Place.names``."""
        here = f"{folder}/"
        return [name.removeprefix(here) for name in self.kept if name.startswith(here)]

    def get(self, name: str) -> bytes:
        """As ``Place.get``."""
        if name not in self.kept:
            raise PlaceError(f"there is no {name}")
        return self.kept[name]

    def put(self, name: str, data: bytes) -> bool:
        """As ``Place.put``."""
        self.puts += 1
        dies = self.puts == self.dies_at
        if self.meanwhile is not None and self.puts == self.meanwhile_at:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        if dies and self.dies_before:
            raise KilledError
        new = name not in self.kept
        if new:
            self.kept[name] = data[:-1] if self.garbles else data
        if dies:
            raise KilledError
        return new

    def segments(self, stream: str = EVENTS.name) -> list[str]:
        """Return the names of the segments, in their order."""
        return sorted(f"{stream}/{name}" for name in self.names(stream))

    def name_of(self, seq: int, stream: str = EVENTS.name) -> str:
        """Return the name of the segment that message *seq* is in."""
        for name in self.segments(stream):
            span = Span.of(name.rpartition("/")[2])
            if span is not None and span.first <= seq <= span.last:
                return name
        raise AssertionError(f"{seq} is in no segment")


class Story:
    """A log that grows, is signed and archived, as often as it is told."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.signed = Signed(seed)
        self._past = chained(count)
        self._grown = 0

    async def sign(self, seq: int) -> None:
        """Let the log grow to *seq*, and sign it."""
        await self.signed.grow(self._past[self._grown : seq])
        self._grown = seq
        await self.signed.notary.sign()

    async def archive(self, place: Place) -> Archived:
        """Archive it, as a process that has just begun."""
        return await Archiver(self.signed.log, self.signed.audit, place, EVENTS).archive()


def in_segments(past: Sequence[Stored], kept: Sequence[Kept], place: Place, *at: int) -> None:
    """Archive *past* at *place*, each time it has grown to one of *at*; last what was *kept*."""

    async def tale() -> None:
        signed, grown = Signed(), 0
        for seq in at:
            await signed.grow(list(past[grown:seq]))
            grown = seq
            await signed.notary.sign()
            await Archiver(signed.log, signed.audit, place, EVENTS).archive()
        for number, one in enumerate(kept):
            await signed.audit.keep(one.subject, one.data, message_id=f"kept-{number}")
        audit = signed.audit
        await Notary(audit, audit, audit, signed.clock, signed.key, stream=AUDIT).sign()
        await Archiver(signed.audit, signed.audit, place, AUDIT).archive()

    asyncio.run(tale())


def archived(*at: int, seed: int = 1) -> dict[str, bytes]:
    """Return what lies in a place where a log was archived whenever it was signed."""
    shelf = Shelf()

    async def tale() -> None:
        story = Story(max(at), seed)
        for seq in at:
            await story.sign(seq)
            await story.archive(shelf)

    asyncio.run(tale())
    return shelf.kept


def spans(names: Iterable[str]) -> list[tuple[int, int]]:
    """Return first and last of these segments."""
    found = (Span.of(name.rpartition("/")[2]) for name in names)
    return sorted((span.first, span.last) for span in found if span is not None)


def keep_a_promise(place: Place) -> None:
    """What is put is there whole, is listed and read, and is never overwritten."""
    assert place.names("a") == []
    with pytest.raises(PlaceError):
        place.get("a/one")
    assert place.put("a/one", b"1")
    assert not place.put("a/one", b"2")
    assert place.get("a/one") == b"1"
    assert place.put("a/two", b"")
    assert place.put("b/c/one", b"3" * 5_000_000)
    assert sorted(place.names("a")) == ["one", "two"]
    assert place.names("b/c") == ["one"]
    assert len(place.get("b/c/one")) == 5_000_000
