"""From bytes to what was said; what cannot be read is told from what has no word yet."""

from typing import Any

import msgspec

from hwbus import codec
from hwbus.codec import commit_codec, word_codec
from hwbus.ports import Stored
from hwbus.subjects import Address, BadNameError, parse_event
from schemas.audit import AuditRecord, ParkedRecord
from schemas.commit import Commit
from schemas.grammar import Event, type_name
from schemas.units import Moment
from schemas.upcasts import UPCASTS
from schemas.words import AnyEvent, every_event

_COMMIT = commit_codec(AnyEvent, UPCASTS)
_LOOSE: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    Commit[msgspec.Raw]  # type: ignore[type-var]
)
_EVENT = word_codec(AnyEvent, UPCASTS)
_RECORD: msgspec.json.Decoder[AuditRecord] = msgspec.json.Decoder(AuditRecord)
_SET_ASIDE = "hwbus.audit.parked."
DATA_MAX = 1024
_KNOWN = frozenset(type_name(word) for word in (*every_event(), *UPCASTS))


class UnreadableError(Exception):
    """A message that is not what its stream carries; its text says why."""


class Unknown(msgspec.Struct, frozen=True):
    """An event whose word this version does not have, as it was written."""

    word: str
    text: str


class Seen(msgspec.Struct, frozen=True):
    """One commit as the log keeps it: where it stands, about what, and what it says.

    ``at`` is the desk's clock, ``stored_at`` the broker's. ``unknown`` holds the events that only
    a newer version can read.
    """

    seq: int
    stored_at: Moment
    address: Address
    commit: Commit[Event]
    events: tuple[Event, ...]
    unknown: tuple[Unknown, ...] = ()

    @property
    def at(self) -> Moment:
        """When it was decided."""
        return self.commit.at


class _Tagged(msgspec.Struct):
    type: str


_TAG = msgspec.json.Decoder(_Tagged)


def read_commit(stored: Stored) -> Seen:
    """Return what a message of the events stream says.

    Raises:
        UnreadableError: its subject is no address, or its text is no commit.
    """
    try:
        address = parse_event(stored.subject)
    except BadNameError as error:
        raise UnreadableError(str(error)) from error
    try:
        commit = _COMMIT.decode(stored.data)
    except codec.UnreadableError:
        return _read_loosely(stored, address)
    return Seen(stored.seq, stored.at, address, commit, commit.events)


def _read_loosely(stored: Stored, address: Address) -> Seen:
    events: list[Event] = []
    unknown: list[Unknown] = []
    try:
        commit = _LOOSE.decode(stored.data)
        for raw in commit.events:
            word = _TAG.decode(raw).type
            if word in _KNOWN:
                events.append(_EVENT.decode(bytes(raw)))
            else:
                unknown.append(Unknown(word, bytes(raw).decode()))
    except (codec.UnreadableError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(str(error)) from error
    return Seen(stored.seq, stored.at, address, commit, tuple(events), tuple(unknown))


def read_record(stored: Stored) -> AuditRecord:
    """Return what a message of the audit stream says. Raises ``UnreadableError``.

    What a queue could not deal with is set aside there as it came: that is a record, too.
    """
    try:
        return _RECORD.decode(stored.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        consumer = stored.subject.removeprefix(_SET_ASIDE)
        if consumer == stored.subject:
            raise UnreadableError(str(error)) from error
        return ParkedRecord(
            at=stored.at,
            consumer=consumer,
            subject=stored.subject,
            seq=stored.seq,
            because="set aside as it came",
            data=stored.data[:DATA_MAX].decode("utf-8", "replace"),
        )
