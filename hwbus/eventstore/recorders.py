"""The library's recorders on JetStream: one event is one message, its notification id the sequence.

One concrete subject an aggregate, so that an expectation about its last message is exact on one
server and on five.
"""

import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    ListenNotifySubscription,
    Notification,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    Tracking,
)
from nats.js import api

from hwbus.eventstore import streams
from hwbus.eventstore.bridge import Bridge
from hwbus.eventstore.link import Stored
from hwbus.eventstore.reader import Reader
from hwbus.eventstore.records import decode_record
from hwbus.eventstore.writer import Mark, Writer

_FILTERED_PAGE = 500
_OUTAGE_MAX_S = 300.0


class JetStreamRecorder:
    """What all recorders have: a bridge to NATS and a stream."""

    def __init__(self, bridge: Bridge, stream: str) -> None:
        self.bridge = bridge
        self.stream = stream

    def _make(self, config: api.StreamConfig) -> None:
        if self.bridge.settings.create:
            self.bridge.call(lambda: streams.ensure(self.bridge.link, config))

    def close(self) -> None:
        """Disconnect. Every recorder of the same factory is disconnected with it."""
        self.bridge.close()


class JetStreamAggregateRecorder(JetStreamRecorder, AggregateRecorder):
    """Keeps the events, or with purpose "snapshots" the snapshots, of aggregates.

    An event's version may be any that its originator has not used: snapshots of the past may be
    taken late.
    """

    _must_grow = False

    def __init__(self, bridge: Bridge, purpose: str = "events") -> None:
        super().__init__(bridge, streams.stream_name(bridge.link, purpose))
        self._make(streams.events_stream(bridge.link, purpose))
        prefix = streams.subject_prefix(bridge.link, self.stream)
        self.reader = Reader(bridge.link, self.stream, f"{prefix}.evt.*")
        self.writer = Writer(self.reader, prefix, must_grow=self._must_grow)

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Store *stored_events*, all or none.

        Raises:
            IntegrityError: a version is in the record already; nothing was stored.
            DataError: more than 1000 events, or one too large for NATS.
            OperationalError: NATS does not answer; the message says whether they may be stored.
        """
        self._insert(stored_events, **kwargs)
        return None

    def _insert(
        self, stored_events: Sequence[StoredEvent], tracking: Tracking | None = None, **_: Any
    ) -> list[int]:
        if not stored_events and tracking is None:
            return []
        return self.bridge.call(lambda: self.writer.save(stored_events, tracking))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Return the events of one originator with versions above *gt* up to *lte*, by version."""
        return self.bridge.call(lambda: self._select(originator_id, gt, lte, desc=desc, top=limit))

    async def _select(
        self,
        originator_id: UUID | str,
        gt: int | None,
        lte: int | None,
        *,
        desc: bool,
        top: int | None,
    ) -> list[StoredEvent]:
        subject = self.writer.subject(originator_id)
        if desc and top == 1:  # how the library looks for a snapshot, before every command
            newest = await self.bridge.link.last(self.stream, subject)
            if newest is None:
                return []
            record = decode_record(newest.data)
            if record.version == record.highest and (lte is None or record.version <= lte):
                return [record.to_stored_event()] if gt is None or record.version > gt else []
        known = self.writer.mark_of(subject).seq
        records = []
        async for page in self.reader.subject_pages(subject, 1, 1000, known=known):
            records += [decode_record(message.data) for message in page]
            self.writer.note(subject, Mark(page[-1].seq, records[-1].highest))
        chosen = [
            record
            for record in records
            if (gt is None or record.version > gt) and (lte is None or record.version <= lte)
        ]
        chosen.sort(key=lambda record: record.version, reverse=desc)
        return [record.to_stored_event() for record in chosen[:top]]


class JetStreamSubscription(ListenNotifySubscription["NotificationSource"]):
    """Yields notifications as they are stored. Leave its context, or call ``stop``, to end it.

    It outlasts the broker's absence for five minutes; then it raises what it last heard.
    """

    _failing_since: float | None = None

    def __init__(
        self, recorder: "NotificationSource", gt: int | None, topics: Sequence[str]
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._is_listening = True
        bridge, watch, event = recorder.bridge, recorder.reader.watch, self._has_been_notified
        try:
            bridge.call(lambda: watch.listen(event))
        except BaseException:
            super().stop()
            self._pull_thread.join()
            raise
        event.set()  # what was stored between the first pull and now was announced to nobody

    def _pull(self) -> None:
        try:
            super()._pull()
        except OperationalError:
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            if now - self._failing_since > _OUTAGE_MAX_S:
                raise
            # The watch wakes this thread again, every second.
        else:
            self._failing_since = None

    def stop(self) -> None:
        """End the iteration. Safe to repeat, and after the connection has been closed."""
        super().stop()
        if getattr(self, "_is_listening", False):
            self._is_listening = False
            bridge, watch = self._recorder.bridge, self._recorder.reader.watch
            event = self._has_been_notified
            if not bridge.is_closed:
                bridge.call(lambda: watch.unlisten(event))


class NotificationSource(JetStreamRecorder, ApplicationRecorder):
    """Reads a stream as the library's application sequence; ids have gaps where others write."""

    reader: Reader

    @abstractmethod
    def _notification(self, message: Stored) -> Notification:
        """Return *message* as a notification."""

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Return at most *limit* notifications from *start* to *stop*, both included."""
        first = 1 if start is None else start + (0 if inclusive_of_start else 1)
        return self.bridge.call(lambda: self._notifications(first, limit, stop, topics))

    async def _notifications(
        self, first: int, limit: int, stop: int | None, topics: Sequence[str]
    ) -> list[Notification]:
        chosen: list[Notification] = []
        page_max = max(limit, _FILTERED_PAGE) if topics else limit
        pages = self.reader.pages(first, page_max, stop=stop)
        async with aclosing(pages):
            async for page in pages:
                for message in page:
                    if stop is not None and message.seq > stop:
                        return chosen
                    notification = self._notification(message)
                    if not topics or notification.topic in topics:
                        chosen.append(notification)
                    if len(chosen) == limit:
                        return chosen
        return chosen

    def max_notification_id(self) -> int | None:
        """Return the id of the newest notification, or None if there is none."""
        return self.bridge.call(self.reader.max_seq)

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> JetStreamSubscription:
        """Return an iterator over all notifications above *gt*, those to come included."""
        return JetStreamSubscription(self, gt, topics)


class JetStreamApplicationRecorder(JetStreamAggregateRecorder, NotificationSource):
    """Keeps the events of an application in the order in which they were stored.

    The versions of an aggregate only ever grow.
    """

    _must_grow = True

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge, "events")

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Store *stored_events*, all or none and side by side; return their notification ids.

        Raises:
            As ``JetStreamAggregateRecorder.insert_events``.
        """
        return self._insert(stored_events, **kwargs)

    def _notification(self, message: Stored) -> Notification:
        event = decode_record(message.data).to_stored_event()
        return Notification(
            event.originator_id, event.originator_version, event.topic, event.state, message.seq
        )


class JetStreamProcessRecorder(JetStreamApplicationRecorder, ProcessRecorder):
    """Keeps events and how far their author had read, in one stream and one save.

    Positions take sequences of the stream, so the ids of its notifications have gaps.
    """

    def insert_tracking(self, tracking: Tracking) -> None:
        """Record *tracking*. Raises ``IntegrityError`` if that, or more, has been read already."""
        self._insert([], tracking)

    def max_tracking_id(self, application_name: str) -> int | None:
        """Return how far the named application has been read, or None."""
        return self.bridge.call(lambda: self.writer.max_tracking_id(application_name))
