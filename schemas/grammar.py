"""Four moods: ask in the imperative, report what was seen, record what happened, refuse."""

import re

import msgspec

WORD = re.compile(r"[a-z]+(-[a-z]+)*\.[a-z]+(-[a-z]+)*\.v[1-9][0-9]*")


class Message(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="type",
):
    """Anything that is said. Its tag is a promise; the name of its class is not."""


class Request(Message, frozen=True, kw_only=True):
    """A wish. It may be refused."""


class Report(Message, frozen=True, kw_only=True):
    """What somebody saw. It is never refused: the world needs no permission."""


class Event(Message, frozen=True, kw_only=True):
    """What has been decided or observed, for ever."""


def type_name(word: type[Message] | Message) -> str:
    """Return the written-out, versioned name of *word*, for example ``volume.provision.v1``."""
    tag = word.__struct_config__.tag
    if not isinstance(tag, str):
        raise TypeError(f"{word!r} has no tag and so cannot be said")
    return tag


def kind_and_verb(word: type[Message] | Message) -> tuple[str, str]:
    """Return ("volume", "provision") for ``volume.provision.v1``."""
    kind, verb, _version = type_name(word).split(".")
    return kind, verb
