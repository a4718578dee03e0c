"""A view and how far it has read, in one stream, changed in one step or not at all."""

import asyncio
from collections.abc import Mapping

from eventsourcing.persistence import IntegrityError, Tracking, TrackingRecorder

from hwbus.eventstore import streams
from hwbus.eventstore.append import append
from hwbus.eventstore.bridge import Bridge
from hwbus.eventstore.link import OvertakenError, Write
from hwbus.eventstore.reader import Reader
from hwbus.eventstore.recorders import JetStreamRecorder
from hwbus.eventstore.records import FORM, Row, decode_row, encode, subject_token
from hwbus.eventstore.writer import Writer

_RACES_MAX = 5


class JetStreamTrackingRecorder(JetStreamRecorder, TrackingRecorder):
    """Base of views on JetStream: rows by key, and the positions they have been read up to.

    A subclass gives its rows meaning. Positions only grow; a save that comes too late is refused,
    rows and all, so that an event counts once however often it is delivered.
    """

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge, streams.stream_name(bridge.link, "tracking"))
        self._make(streams.tracking_stream(bridge.link))
        self._prefix = streams.subject_prefix(bridge.link, self.stream)
        self._rows = Reader(bridge.link, self.stream, f"{self._prefix}.row.*")
        self._writer = Writer(self._rows, self._prefix, must_grow=True)

    def insert_tracking(self, tracking: Tracking) -> None:
        """Record *tracking*. Raises ``IntegrityError`` if that, or more, has been read already."""
        self.insert_rows(tracking, {})

    def insert_rows(self, tracking: Tracking, rows: Mapping[str, bytes | None]) -> None:
        """Record *tracking* and write *rows*, all or none; None takes a row away.

        Raises:
            IntegrityError: that notification, or a later one, has been tracked already.
            DataError: more than 999 rows, or one too large for NATS.
            OperationalError: NATS does not answer.
        """
        self.bridge.call(lambda: self._save(tracking, rows))

    def max_tracking_id(self, application_name: str) -> int | None:
        """Return how far the named application has been read, or None."""
        return self.bridge.call(lambda: self._writer.max_tracking_id(application_name))

    def row(self, key: str) -> bytes | None:
        """Return the row at *key* as the stream's leader has it, or None."""
        subject = self._row_subject(key)
        found = self.bridge.call(lambda: self.bridge.link.last(self.stream, subject))
        return None if found is None else decode_row(found.data).value

    def rows(self) -> dict[str, bytes]:
        """Return all rows by key, in the order of their last change."""
        return self.bridge.call(self._all)

    async def _all(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        async for page in self._rows.pages(1, 1000):
            for message in page:
                row = decode_row(message.data)
                found.pop(row.key, None)
                if row.value is not None:
                    found[row.key] = row.value
        return found

    async def _save(self, tracking: Tracking, rows: Mapping[str, bytes | None]) -> None:
        link = self.bridge.link
        for race in range(_RACES_MAX):
            write_id = link.new_id()
            writes = [await self._writer.tracking(tracking, write_id)]
            writes += [
                Write(self._row_subject(key), encode(Row(FORM, write_id, key, value)), None)
                for key, value in rows.items()
            ]
            try:
                seqs = await append(link, self.stream, writes, write_id=write_id)
            except OvertakenError:
                await asyncio.sleep(0.005 * 2**race)
                continue
            if rows:
                self._rows.know(seqs[-1])
            return
        raise IntegrityError(f"overtaken {_RACES_MAX} times")

    def _row_subject(self, key: str) -> str:
        return f"{self._prefix}.row.{subject_token(key)}"
