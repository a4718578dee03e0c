"""Keys by reference: where a node finds a key. The key itself is in no message and in no log."""

import re
from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.units import Count

HEADER_BYTES = 16 << 20
"""What the LUKS2 header takes at the start of an encrypted leg."""

KeyRef = Annotated[
    str,
    msgspec.Meta(
        max_length=255,
        description="Where a node finds a key: file:NAME, env:NAME or vault:PATH#FIELD.",
    ),
]
Keys = Annotated[tuple[KeyRef, ...], msgspec.Meta(min_length=1, max_length=4)]

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}"
_FORMS = {
    "file": re.compile(rf"(?P<name>{_NAME})"),
    "env": re.compile(r"(?P<name>[A-Z0-9][A-Z0-9_]{0,126})"),
    "vault": re.compile(rf"(?P<name>{_NAME}(/{_NAME})*)#(?P<field>{_NAME})"),
}


class KeySourceKind(StrEnum):
    """What a key can be had from."""

    FILE = "file"
    ENV = "env"
    VAULT = "vault"


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """A reference taken apart: a file's or variable's name, or a path in Vault and a field."""

    kind: KeySourceKind
    name: str
    field: str = ""


class Encryption(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """By which keys a leg opens: by each of ``keys``, and by none of ``dropped`` any longer.

    Until the node has said that it is so, each of both may open it. ``generation`` counts how
    often something else was wanted.
    """

    keys: Keys
    dropped: tuple[KeyRef, ...] = ()
    generation: Count = 1

    @property
    def known(self) -> tuple[str, ...]:
        """All references of which one opens the leg, the likeliest first."""
        return (*self.keys, *self.dropped)


def locate(reference: str) -> Located | None:
    """Return what *reference* says, or None if it is none. No name leads out of its place."""
    scheme, _, rest = reference.partition(":")
    match = _FORMS[scheme].fullmatch(rest) if scheme in _FORMS else None
    if match is None:
        return None
    parts = match.groupdict()
    return Located(kind=KeySourceKind(scheme), name=parts["name"], field=parts.get("field") or "")


def header_bytes(key_ref: str | None) -> int:
    """Return by how much a leg is larger than its volume: by its header, if it is encrypted."""
    return HEADER_BYTES if key_ref else 0
