"""The log of hwbus as the library sees it: read by anybody, written by the desk alone."""

import re
from collections.abc import Sequence
from typing import Any, NoReturn
from uuid import UUID

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    DataError,
    Mapper,
    MapperDeserialisationError,
    Notification,
    NotSupportedError,
    StoredEvent,
    Transcoder,
)

from hwbus.eventstore.bridge import Bridge
from hwbus.eventstore.link import Stored
from hwbus.eventstore.reader import Reader
from hwbus.eventstore.recorders import NotificationSource
from schemas.commit import Commit

_FILTER = "hwbus.evt.>"
_ORIGINATOR = re.compile(r"([a-z0-9-]+)/([a-z0-9-]+)/([a-z0-9-]+)")
_PARTS = 5


class LoggedCommit(msgspec.Struct, frozen=True, kw_only=True):
    """One decision in the log: where it stands, whom it is about, and the commit itself."""

    sequence: int
    kind: str
    place: str
    id: str
    commit: Commit[Any]

    @property
    def originator_id(self) -> str:
        """The aggregate, written ``kind/place/id``; the place of the cluster is ``-``."""
        return f"{self.kind}/{self.place}/{self.id}"

    @property
    def originator_version(self) -> int:
        """The number of the commit among those of its aggregate, from 1."""
        return self.commit.version


class _Version(msgspec.Struct, frozen=True):
    version: int


_version = msgspec.json.Decoder(_Version)


class HwbusLogRecorder(NotificationSource):
    """Reads the log: one notification is one commit, its id the sequence, its topic the kind.

    Nothing can be inserted: decisions are made at the desk.
    """

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge, bridge.settings.log_stream)
        self.reader = Reader(bridge.link, self.stream, _FILTER)

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],  # noqa: ARG002 - the library's signature
        **kwargs: Any,  # noqa: ARG002 - the same
    ) -> NoReturn:
        """Refuse. Raises ``NotSupportedError``, always."""
        raise NotSupportedError("the log of hwbus is written by its desk: send a command instead")

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[Notification]:
        """Return the commits of one aggregate, ``kind/place/id``, by version.

        Raises:
            DataError: *originator_id* is not written like that.
        """
        if _ORIGINATOR.fullmatch(str(originator_id)) is None:
            raise DataError(f"{str(originator_id)[:80]!r} is not kind/place/id")
        subject = f"hwbus.evt.{str(originator_id).replace('/', '.')}"
        commits = self.bridge.call(lambda: self._commits(subject))
        chosen = [
            commit
            for commit in commits
            if (gt is None or commit.originator_version > gt)
            and (lte is None or commit.originator_version <= lte)
        ]
        return (chosen[::-1] if desc else chosen)[:limit]

    async def _commits(self, subject: str) -> list[Notification]:
        commits: list[Notification] = []
        async for page in self.reader.subject_pages(subject, 1, 1000):
            commits += map(self._notification, page)
        return commits

    def _notification(self, message: Stored) -> Notification:
        parts = message.subject.split(".")
        if len(parts) != _PARTS:
            raise DataError(f"{message.subject} at {message.seq} is no subject of a commit")
        try:
            version = _version.decode(message.data).version
        except msgspec.MsgspecError as error:
            raise DataError(f"{message.subject} at {message.seq} is no commit: {error}") from error
        return Notification("/".join(parts[2:]), version, parts[2], message.data, message.seq)


class CommitMapper(Mapper[str]):
    """Maps notifications of the log to ``LoggedCommit``.

    ``words`` is the type of an event; with ``Any`` it stays a dictionary with its ``type`` and its
    fields, so that words nobody here has heard of can be read, too.
    """

    def __init__(self, transcoder: Transcoder, words: Any = Any) -> None:
        super().__init__(transcoder)
        self._decoder: msgspec.json.Decoder[Commit[Any]] = msgspec.json.Decoder(Commit[words])

    def to_stored_event(
        self,
        domain_event: DomainEventProtocol[str],  # noqa: ARG002 - the library's signature
    ) -> NoReturn:
        """Refuse. Raises ``NotSupportedError``, always."""
        raise NotSupportedError("the log of hwbus is written by its desk: send a command instead")

    def to_domain_event(self, stored_event: StoredEvent) -> LoggedCommit:
        """Return the commit in *stored_event*; its sequence is 0 unless that is a notification.

        Raises:
            MapperDeserialisationError: it is no commit, or has a word that is not in ``words``.
        """
        try:
            commit = self._decoder.decode(stored_event.state)
        except msgspec.MsgspecError as error:
            raise MapperDeserialisationError(
                f"commit {stored_event.originator_version} of {stored_event.originator_id}: {error}"
            ) from error
        kind, place, id_ = str(stored_event.originator_id).split("/")
        sequence = stored_event.id if isinstance(stored_event, Notification) else 0
        return LoggedCommit(sequence=sequence, kind=kind, place=place, id=id_, commit=commit)
