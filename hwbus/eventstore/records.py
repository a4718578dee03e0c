"""What one message of the store holds, and how an id becomes one token of a subject."""

import re
from typing import TypeVar
from uuid import UUID

import msgspec
from eventsourcing.persistence import DataError, StoredEvent

FORM = 1
S = TypeVar("S")
_TOKEN_MAX_BYTES = 255
_PLAIN = re.compile(rb"[A-Za-z0-9_-]")


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One stored event.

    ``write`` names the save it was part of; ``highest`` is the largest version of its originator
    so far, itself included.
    """

    form: int
    write: str
    originator_id: str
    is_uuid: bool
    version: int
    highest: int
    topic: str
    state: bytes

    def to_stored_event(self) -> StoredEvent:
        """Return the event as the library knows it, its id of the type it was stored with."""
        id_ = UUID(self.originator_id) if self.is_uuid else self.originator_id
        return StoredEvent(id_, self.version, self.topic, self.state)


class Position(msgspec.Struct, frozen=True, array_like=True):
    """How far something has read the notifications of ``application``."""

    form: int
    write: str
    application: str
    notification_id: int


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One row of a view; ``value`` is None when the row has been taken away."""

    form: int
    write: str
    key: str
    value: bytes | None


class _Head(msgspec.Struct, frozen=True, array_like=True):
    form: int
    write: str


_encoder = msgspec.msgpack.Encoder()
_record = msgspec.msgpack.Decoder(Record)
_position = msgspec.msgpack.Decoder(Position)
_row = msgspec.msgpack.Decoder(Row)
_head = msgspec.msgpack.Decoder(_Head)


def encode(record: Record | Position | Row) -> bytes:
    """Return *record* as the bytes of a message."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record:
    """Return the stored event in *data*. Raises ``DataError`` if there is none."""
    return _decode(_record, data)


def decode_position(data: bytes) -> Position:
    """Return the position in *data*. Raises ``DataError`` if there is none."""
    return _decode(_position, data)


def decode_row(data: bytes) -> Row:
    """Return the row in *data*. Raises ``DataError`` if there is none."""
    return _decode(_row, data)


def write_of(data: bytes) -> str:
    """Return the id of the save that wrote *data*. Raises ``DataError`` if nothing of ours did."""
    return _decode(_head, data).write


def subject_token(text: str) -> str:
    """Return *text* as one subject token; different texts give different tokens.

    Letters, digits, ``_`` and ``-`` stay; every other byte of the UTF-8 text is written ``=XX``.

    Raises:
        DataError: the token would be longer than 255 bytes, or the text cannot be encoded.
    """
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{text[:80]!r} is not encodable as UTF-8") from error
    token = "".join(chr(byte) if _PLAIN.match(bytes((byte,))) else f"={byte:02X}" for byte in raw)
    if len(token) > _TOKEN_MAX_BYTES:
        raise DataError(f"an id of {len(token)} bytes is too long for a subject: {text[:40]!r}…")
    return token or "="


def _decode(decoder: msgspec.msgpack.Decoder[S], data: bytes) -> S:
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise DataError(f"a message in the stream is not one of ours: {error}") from error
