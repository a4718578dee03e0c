"""One text for one state, whoever writes it and whenever: what the hash of a state is made of.

The hash is the SHA-256 of these lines, each ended by a newline, sorted by their bytes:

    state KIND PLACE ID DIGEST      of every aggregate that is not as if it had never been
    row TABLE KEY DIGEST            of every row of every view, but of audit and parked

A digest is the SHA-256, in hex, of the state or row as JSON: no blanks, the fields of every object
sorted by name, those that have their default left out, sets sorted, moments in UTC. The rows of
audit and parked are written once and never changed: they are what a message says, and no state.
"""

import hashlib
import operator
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any

import msgspec

_ENCODE = msgspec.json.Encoder(order="sorted").encode
_PLAIN = (str, int, float, bytes)


def digest(value: Any) -> str:
    """Return the SHA-256 of *value*'s canonical text, in hex."""
    return hashlib.sha256(text(value)).hexdigest()


def text(value: Any) -> bytes:
    """Return the canonical text of *value*."""
    return _ENCODE(_simple(value))


def hash_of(digests: Iterable[tuple[tuple[str, ...], str]]) -> str:
    """Return the hash of a whole, of which the parts are named and have these digests."""
    lines = sorted(f"{' '.join(name)} {of}\n".encode() for name, of in digests)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _simple(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, msgspec.Struct):
        return _fields(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, list | tuple):
        return [_simple(one) for one in value]
    if isinstance(value, dict):
        return {str(_simple(key)): _simple(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_simple(one) for one in value), key=_ENCODE)
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value)
    raise TypeError(f"{type(value).__name__} has no canonical text")


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    tag, fields = _shape(type(value))
    found = dict(tag)
    for name, get, default in fields:
        one = get(value)
        if one != default:
            found[name] = _simple(one)
    return found


@cache
def _shape(
    of: type[msgspec.Struct],
) -> tuple[dict[str, Any], tuple[tuple[str, Callable[[Any], Any], Any], ...]]:
    """Return the tag of a type, and of each field its name, how to get it, and its default."""
    config = of.__struct_config__
    tag = {} if config.tag is None else {str(config.tag_field): config.tag}
    fields = []
    for field in msgspec.structs.fields(of):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        fields.append((field.encode_name, operator.attrgetter(field.name), default))
    return tag, tuple(fields)
