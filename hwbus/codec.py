"""Messages to bytes and back; refuses to write what it could not read."""

import functools
import hashlib
import json
import operator
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from schemas.commit import Commit
from schemas.grammar import Message

T = TypeVar("T")
COMMAND_BYTES_MAX = 64 * 1024
COMMIT_BYTES_MAX = 1024 * 1024

Upcasts = Mapping[type[Message], Callable[[Any], Message]]
NO_UPCASTS: Upcasts = MappingProxyType({})

_STEP = re.compile(r"\.([a-z_]+)|\[(\d+)\]")
_EXCERPT_CHARACTERS_MAX = 60

_PLACE = re.compile(r"(?s)(?P<because>.*?)(?: - at `(?P<path>[^`]*)`| \((?P<byte>byte \d+)\))?")


class UnreadableError(ValueError):
    """These bytes are not what they should be.

    ``because`` says what is wrong, ``where`` the place: ``$.size_bytes`` or ``byte 31``; empty
    when it is the whole.
    """

    def __init__(self, because: str, where: str = "") -> None:
        super().__init__(f"{because} (at {where})" if where else because)
        self.because = because
        self.where = where


class TooLargeError(UnreadableError):
    """There are more bytes than a message of this sort may have; they were not looked at."""


class UnwritableError(ValueError):
    """The message breaks its own schema: it could not be read again, so it was not written."""


class Codec(Generic[T]):
    """Bytes for one type or union of types, and back."""

    def __init__(
        self,
        readable: Any,
        *,
        writable: Any = None,
        renew: Callable[[T], T] | None = None,
        bytes_max: int = COMMIT_BYTES_MAX,
        unique_keys: bool = False,
    ) -> None:
        """Read *readable*, write *writable* (the same, if not given), of at most *bytes_max*.

        *renew* turns what was read into its newest form. With *unique_keys* an object that names
        a field twice is unreadable: otherwise the last one counts here, and perhaps the first one
        elsewhere. Ask for it wherever strangers write; what we wrote ourselves has no such thing.
        """
        self._encoder = msgspec.json.Encoder()
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(readable)
        self._proof: msgspec.json.Decoder[T] = (
            self._decoder if writable is None else msgspec.json.Decoder(writable)
        )
        self._renew = renew
        self._bytes_max = bytes_max
        self._unique_keys = unique_keys

    def encode(self, message: T) -> bytes:
        """Return *message* as JSON that has been read back and found equal.

        msgspec checks its constraints when it decodes and not when a struct is made; so a bad
        message stops here, and not in the log, where it would stay for ever.

        Raises:
            UnwritableError: it breaks its schema, is retired, too large, or reads back as
                something else.
        """
        try:
            data = self._encoder.encode(message)
            again = self._proof.decode(data)
        except (
            msgspec.MsgspecError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:
            raise UnwritableError(f"{type(message).__name__}: {error}") from error
        if again != message:
            raise UnwritableError(f"{type(message).__name__} reads back as something else: {again}")
        if len(data) > self._bytes_max:
            raise UnwritableError(
                f"{type(message).__name__} takes {len(data)} bytes of at most {self._bytes_max}"
            )
        return data

    def decode(self, data: bytes) -> T:
        """Return what *data* says, in its newest form.

        Raises:
            TooLargeError: it is longer than allowed.
            UnreadableError: it is not JSON, has something behind its end, is of no known type,
                or breaks the schema.
        """
        if len(data) > self._bytes_max:
            raise TooLargeError(f"{len(data)} bytes are more than {self._bytes_max}")
        try:
            message = self._decoder.decode(data)
        except UnicodeDecodeError as error:
            raise UnreadableError(f"text is not UTF-8: {error.reason}") from error
        except RecursionError as error:
            raise UnreadableError("nested too deeply") from error
        except msgspec.DecodeError as error:
            raise _unreadable(str(error)) from error
        if self._unique_keys and not _plainly_distinct(data):
            _LOOKS_AT_KEYS.decode(data.decode())
        return message if self._renew is None else self._renew(message)


def command_codec(word: type[Message]) -> Codec[Any]:
    """Return the codec for the text of a command that strangers send; ``type`` may be left out."""
    return Codec(word, bytes_max=COMMAND_BYTES_MAX, unique_keys=True)


def word_codec(words: Any, upcasts: Upcasts = NO_UPCASTS) -> Codec[Any]:
    """Return the codec for a union of words; those that *upcasts* retires are read, not written."""
    return Codec(
        _with_retired(words, upcasts),
        writable=words,
        renew=functools.partial(renewed, upcasts=upcasts) if upcasts else None,
    )


def commit_codec(events: Any, upcasts: Upcasts = NO_UPCASTS) -> Codec[Commit[Any]]:
    """Return the codec for commits of a union of events; retired events are read, not written."""

    def renew(commit: Commit[Any]) -> Commit[Any]:
        if upcasts.keys().isdisjoint(map(type, commit.events)):
            return commit
        events = tuple(renewed(event, upcasts=upcasts) for event in commit.events)
        return msgspec.structs.replace(commit, events=events)

    return Codec(
        Commit[_with_retired(events, upcasts)],  # type: ignore[misc]  # a union made at run time
        writable=Commit[events],
        renew=renew if upcasts else None,
    )


def renewed(word: Message, *, upcasts: Upcasts) -> Message:
    """Return the newest form of *word*, one upcast after another.

    Raises:
        ValueError: the upcasts go round in a circle.
    """
    for _ in range(len(upcasts) + 1):
        upcast = upcasts.get(type(word))
        if upcast is None:
            return word
        word = upcast(word)
    raise ValueError(f"the upcasts of {type(word).__name__} go round in a circle")


def hash_of(data: bytes) -> str:
    """Return the SHA-256 of a message as hex: what the next one names as its ``prev``."""
    return hashlib.sha256(data).hexdigest()


def _with_retired(words: Any, upcasts: Upcasts) -> Any:
    return functools.reduce(operator.or_, upcasts, words)


def _unreadable(text: str) -> UnreadableError:
    found = _PLACE.fullmatch(text)
    if found is None:
        return UnreadableError(text)
    return UnreadableError(found["because"], found["path"] or found["byte"] or "")


def _plainly_distinct(data: bytes) -> bool:
    """Say whether a flat object clearly names no field twice, at a tenth of the price of looking.

    Every field has a colon; so as many fields as colons are as many fields as were written. False
    says nothing: the object is nested, or there is a colon or a brace in a text.
    """
    return data.count(b"{") == 1 and data.count(b":") == len(_FIELDS.decode(data))


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) == len(pairs):
        return
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise UnreadableError(f"Object contains field `{twice[:80]}` more than once")


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LOOKS_AT_KEYS = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=str, parse_float=str)


def excerpt(data: bytes, where: str) -> str:
    """Return what stands in the JSON *data* at *where* (``$.disks[0]``), cut to what one reads."""
    value: Any = msgspec.json.decode(data)
    for field, index in _STEP.findall(where):
        value = value[field] if field else value[int(index)]
    text = repr(value)
    return text if len(text) <= _EXCERPT_CHARACTERS_MAX else f"{text[:_EXCERPT_CHARACTERS_MAX]}..."
