"""Saving events so that nobody's decision is overwritten: every save states what it has seen."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from eventsourcing.persistence import DataError, IntegrityError, StoredEvent, Tracking

from hwbus.eventstore.append import append
from hwbus.eventstore.link import BATCH_MESSAGES_MAX, OvertakenError, Write
from hwbus.eventstore.reader import Reader
from hwbus.eventstore.records import (
    FORM,
    Position,
    Record,
    decode_position,
    decode_record,
    encode,
    subject_token,
)

_RACES_MAX = 5
_REMEMBERED_MAX = 10_000
_NONE_YET = -(2**63)


class Mark(NamedTuple):
    """Where a subject ends: the sequence of its last message and its highest version."""

    seq: int
    highest: int


_NEW = Mark(seq=0, highest=_NONE_YET)


class Writer:
    """Saves events, and positions beside them, under ``<prefix>.evt.<id>``, ``<prefix>.pos.<app>``.

    Where *must_grow*, the versions of an originator only ever grow; otherwise any version may be
    written once, in any order, as snapshots of the past are.
    """

    def __init__(self, reader: Reader, prefix: str, *, must_grow: bool) -> None:
        self._reader = reader
        self._link = reader.link
        self._stream = reader.stream
        self._prefix = prefix
        self._must_grow = must_grow
        self._marks: OrderedDict[str, Mark] = OrderedDict()

    def subject(self, originator_id: UUID | str) -> str:
        """Return where the events of *originator_id* are."""
        return f"{self._prefix}.evt.{subject_token(str(originator_id))}"

    def mark_of(self, subject: str) -> Mark:
        """Return the last known end of *subject*; it may have grown since."""
        return self._marks.get(subject, _NEW)

    def note(self, subject: str, mark: Mark) -> None:
        """Remember the end of *subject*, and forget the one not used for longest."""
        self._marks[subject] = mark
        self._marks.move_to_end(subject)
        if len(self._marks) > _REMEMBERED_MAX:
            self._marks.popitem(last=False)

    async def save(
        self, events: Sequence[StoredEvent], tracking: Tracking | None = None
    ) -> list[int]:
        """Store *events*, and how far their author has read, all or none; return the sequences.

        Raises:
            IntegrityError: a version, or a later position, is in the record already.
            DataError: it is too much for one save.
            OperationalError: the outcome is unknown, or the stream cannot be reached.
        """
        if len(events) + (tracking is not None) > BATCH_MESSAGES_MAX:
            raise DataError(f"{len(events)} events are too many for one save")
        for race in range(_RACES_MAX):
            write_id = self._link.new_id()
            writes, marks = await self._compose(events, write_id)
            if tracking is not None:
                writes.append(await self.tracking(tracking, write_id))
            try:
                seqs = await append(self._link, self._stream, writes, write_id=write_id)
            except OvertakenError:
                # Not yet a conflict: what was remembered may have been old, and on a replicated
                # stream a write that has not been settled yet is in the way as well.
                for subject in marks:
                    self._marks.pop(subject, None)
                await asyncio.sleep(0.005 * 2**race)
                continue
            self._remember(writes[: len(events)], marks, seqs)
            return seqs[: len(events)]
        raise IntegrityError(f"overtaken {_RACES_MAX} times")

    async def max_tracking_id(self, application: str) -> int | None:
        """Return how far *application* has been read, or None."""
        found = await self._link.last(self._stream, self._position_subject(application))
        return None if found is None else decode_position(found.data).notification_id

    async def _compose(
        self, events: Sequence[StoredEvent], write_id: str
    ) -> tuple[list[Write], dict[str, int]]:
        subjects = [self.subject(event.originator_id) for event in events]
        distinct = list(dict.fromkeys(subjects))
        marks = dict(zip(distinct, await asyncio.gather(*map(self._mark, distinct)), strict=True))
        highest: dict[str, int] = {}
        mine: dict[str, set[int]] = {subject: set() for subject in distinct}
        writes = []
        for subject, event in zip(subjects, events, strict=True):
            after = None if subject in highest else marks[subject].seq
            top = highest.get(subject, marks[subject].highest)
            version = event.originator_version
            if version <= top and await self._is_taken(subject, version, mine[subject]):
                raise IntegrityError(
                    f"version {version} of {event.originator_id} is or may be in the record "
                    f"already: the highest is {top}"
                )
            mine[subject].add(version)
            highest[subject] = max(top, version)
            record = _record(event, write_id, highest[subject])
            writes.append(Write(subject, encode(record), after))
        return writes, highest

    async def _is_taken(self, subject: str, version: int, mine: set[int]) -> bool:
        if self._must_grow or version in mine:
            return True
        known = self._marks.get(subject, _NEW).seq
        async for page in self._reader.subject_pages(subject, 1, 1000, known=known):
            if any(decode_record(message.data).version == version for message in page):
                return True
        return False

    async def _mark(self, subject: str) -> Mark:
        if subject in self._marks:
            return self._marks[subject]
        found = await self._link.last(self._stream, subject)
        mark = _NEW if found is None else Mark(found.seq, decode_record(found.data).highest)
        self.note(subject, mark)
        return mark

    async def tracking(self, tracking: Tracking, write_id: str) -> Write:
        """Return what records *tracking*. Raises ``IntegrityError`` if it comes too late."""
        subject = self._position_subject(tracking.application_name)
        found = await self._link.last(self._stream, subject)
        if found is not None:
            reached = decode_position(found.data).notification_id
            if reached >= tracking.notification_id:
                raise IntegrityError(
                    f"{tracking.application_name} has been read up to {reached} already, "
                    f"so {tracking.notification_id} comes too late"
                )
        position = Position(FORM, write_id, tracking.application_name, tracking.notification_id)
        return Write(subject, encode(position), 0 if found is None else found.seq)

    def _position_subject(self, application: str) -> str:
        return f"{self._prefix}.pos.{subject_token(application)}"

    def _remember(
        self, writes: Sequence[Write], highest: dict[str, int], seqs: Sequence[int]
    ) -> None:
        for write, seq in zip(writes, seqs, strict=False):
            self.note(write.subject, Mark(seq, highest[write.subject]))
            self._reader.know(seq)


def _record(event: StoredEvent, write_id: str, highest: int) -> Record:
    return Record(
        form=FORM,
        write=write_id,
        originator_id=str(event.originator_id),
        is_uuid=isinstance(event.originator_id, UUID),
        version=event.originator_version,
        highest=highest,
        topic=event.topic,
        state=event.state,
    )
