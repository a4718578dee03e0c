"""What consumers wrote and read: read off the kernel's counters, kept in books, told now and then.

The kernel counts from nought for each device it makes. A book adds these up over detaching,
restarts and reboots, on the node's own disk; what is told are its totals, so that a word which is
lost, late or said twice changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from hwbus.identity import Mint
from node_workers.observation import Observation
from node_workers.ports import Counters, DeviceIo
from node_workers.reports import Letter, command_id, letter
from node_workers.state import State
from node_workers.wanted import WantedAttachment
from schemas.attachment import ATTACHMENTS
from schemas.counting import ReportVolumeIo
from schemas.grammar import kind_and_verb
from schemas.replica import REPLICAS

_SAID = "io/"
MARK_BYTES = 1 << 30
APART = timedelta(minutes=10)
AT_LEAST_EVERY = timedelta(hours=1)


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one volume: totals so far, what was told of them, and the counters' state.

    ``life`` is the device that was read last, empty if that is known to be gone; it had counted
    ``seen`` then.
    """

    uid: str
    book: str
    life: str = ""
    seen_written_bytes: int = 0
    seen_read_bytes: int = 0
    written_bytes: int = 0
    read_bytes: int = 0
    told_written_bytes: int = 0
    told_read_bytes: int = 0
    told_at: datetime

    @property
    def untold_bytes(self) -> int:
        """How much nobody has been told of yet."""
        more = self.written_bytes - self.told_written_bytes
        return more + self.read_bytes - self.told_read_bytes

    def is_due(self, now: datetime) -> bool:
        """Whether it is time to tell: a whole GiB at most every ten minutes, else every hour."""
        passed = now - self.told_at
        if not self.untold_bytes:
            return False
        # A clock that was set back must not make it wait.
        long_ago = passed >= AT_LEAST_EVERY or passed < timedelta()
        return long_ago or (self.untold_bytes >= MARK_BYTES and passed >= APART)

    def told(self, now: datetime) -> "Book":
        """Return it with all of it told."""
        whole = {"told_written_bytes": self.written_bytes, "told_read_bytes": self.read_bytes}
        return replace(self, **whole, told_at=now)


_BOOK: msgspec.json.Decoder[Book] = msgspec.json.Decoder(Book)


def counted(book: Book, io: DeviceIo) -> Book:
    """Return the book with what the counters say by now.

    Of the same device only what is more than was seen counts, of another one all. The kernel never
    takes back what it has counted: where there is less, it is another device, too.
    """
    less = io.written_bytes < book.seen_written_bytes or io.read_bytes < book.seen_read_bytes
    same = io.life == book.life and not less
    return replace(
        book,
        life=io.life,
        seen_written_bytes=io.written_bytes,
        seen_read_bytes=io.read_bytes,
        written_bytes=book.written_bytes
        + io.written_bytes
        - (book.seen_written_bytes if same else 0),
        read_bytes=book.read_bytes + io.read_bytes - (book.seen_read_bytes if same else 0),
    )


class Counting:
    """Keeps the books of the volumes that were ever attached on this node, and have a leg here."""

    def __init__(
        self, state: State, counters: Counters, now: Callable[[], datetime], node: str
    ) -> None:
        self._state = state
        self._counters = counters
        self._now = now
        self._node = node
        self._mint = Mint()
        # Who has read the counters first writes them down first: what is less would count anew.
        self._one_at_a_time = asyncio.Lock()

    async def note(self, volume: str, uid: str, number: str) -> None:
        """Write down what the device of the volume, "254:3", has counted by now."""
        async with self._one_at_a_time:
            before = self._book(volume)
            book = await self._read(volume, uid, number)
            if book is not None and book != before:
                await self._keep(volume, book)

    def parting(self, volume: str, uid: str) -> Callable[[str], Awaitable[None]]:
        """Return what writes down the last that a device has counted, before it is removed."""

        async def note(number: str) -> None:
            await self.note(volume, uid, number)

        return note

    async def close(self, volume: str, uid: str, cause: str) -> None:
        """Know that the device of the volume is gone, and tell the rest."""
        async with self._one_at_a_time:
            book = self._book(volume)
            if book is None or book.uid != uid:
                return
            gone = replace(book, life="", seen_written_bytes=0, seen_read_bytes=0)
            if gone.untold_bytes:
                await self._tell(volume, gone, cause)
            elif gone != book:
                await self._keep(volume, gone)

    async def look(self, seen: Observation, cause: str) -> None:
        """Write down what all devices have counted, and tell what is due."""
        numbers = {device.volume: device.number for device in seen.devices}
        wanted = (one for one in self._state.wanted.values() if isinstance(one, WantedAttachment))
        uids = {one.volume: one.spec.volume_uid for one in wanted if one.present}
        for volume in sorted(numbers.keys() & uids.keys()):
            await self.note(volume, uids[volume], numbers[volume])
        async with self._one_at_a_time:
            for key in [key for key in self._state.said if key.startswith(_SAID)]:
                await self._settle(key.removeprefix(_SAID), cause)

    async def _settle(self, volume: str, cause: str) -> None:
        """Tell what is due; of a volume that has left the node all, and then forget it."""
        book = self._book(volume)
        if book is None:
            return
        stays = any(f"{kind}/{volume}" in self._state.wanted for kind in (REPLICAS, ATTACHMENTS))
        if book.is_due(self._now()) or (book.untold_bytes and not stays):
            await self._tell(volume, book, cause)
        if not stays:
            await self._state.say((), {_SAID + volume: None})

    async def _read(self, volume: str, uid: str, number: str) -> Book | None:
        io = await self._counters.io(number, uid)
        if io is None:
            return None
        book = self._book(volume)
        if book is not None and book.uid == uid:
            return counted(book, io)
        # Nobody knows who has counted what was there before: it must not count twice.
        return Book(
            uid=uid,
            book=self._mint(),
            life=io.life,
            seen_written_bytes=io.written_bytes,
            seen_read_bytes=io.read_bytes,
            told_at=self._now(),
        )

    def _book(self, volume: str) -> Book | None:
        kept = self._state.said.get(_SAID + volume)
        return None if kept is None else _BOOK.decode(kept)

    async def _keep(self, volume: str, book: Book) -> None:
        await self._state.say((), _entry(volume, book))

    async def _tell(self, volume: str, book: Book, cause: str) -> None:
        about = self._letter(volume, book, cause)
        await self._state.say((about,), _entry(volume, book.told(self._now())))

    def _letter(self, volume: str, book: Book, cause: str) -> Letter:
        report = ReportVolumeIo(
            volume=volume,
            uid=book.uid,
            node=self._node,
            book=book.book,
            written_bytes=book.written_bytes,
            read_bytes=book.read_bytes,
        )
        verb = kind_and_verb(report)[1]
        return letter(
            report,
            node=self._node,
            command_id=command_id(self._node, self._mint(), verb, volume),
            # Before the word that the attachment is gone: after that the volume may be deleted.
            lane=f"{ATTACHMENTS}/{volume}",
            cause=cause,
            newest_only=True,
        )


def _entry(volume: str, book: Book) -> Mapping[str, bytes]:
    return {_SAID + volume: msgspec.json.encode(book)}
