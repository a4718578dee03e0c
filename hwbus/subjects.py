"""How a subject is built and taken apart; the two are inverses."""

import re

import msgspec

ROOT = "hwbus"
CLUSTER = "-"
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_TOKEN = re.compile(_LABEL)
_EVENT = re.compile(rf"{ROOT}\.evt\.({_LABEL})\.({CLUSTER}|{_LABEL})\.({_LABEL})")


class BadNameError(ValueError):
    """A word that may not stand in a subject: dots, wildcards, spaces, capitals, too long."""


class Address(msgspec.Struct, frozen=True, order=True):
    """Where an aggregate's events live: its kind, its place (a node, or ``-``) and its id."""

    kind: str
    place: str
    id: str

    @property
    def subject(self) -> str:
        """The subject of its events."""
        return f"{ROOT}.evt.{self.kind}.{self.place}.{self.id}"

    def __str__(self) -> str:
        """Write the address as people read it: ``pool/node-1/fast``, ``volume/pg``."""
        where = "" if self.place == CLUSTER else f"{self.place}/"
        return f"{self.kind}/{where}{self.id}"


def token(text: str) -> str:
    """Return *text* if it is an RFC 1123 label of at most 63 characters.

    Raises:
        BadNameError: it is not, and would change the meaning of a subject.
    """
    if _TOKEN.fullmatch(text) is None:
        raise BadNameError(f"{text[:80]!r} is not a name: use a-z, 0-9 and '-', at most 63")
    return text


def address(kind: str, place: str, id_: str) -> Address:
    """Return the checked address of an aggregate. Raises ``BadNameError``."""
    return Address(token(kind), place if place == CLUSTER else token(place), token(id_))


def parse_event(subject: str) -> Address:
    """Return whose events *subject* carries. Raises ``BadNameError`` for any other subject."""
    found = _EVENT.fullmatch(subject)
    if found is None:
        raise BadNameError(f"{subject[:120]!r} is not an event subject")
    return Address(*found.groups())


def of_node(node: str) -> str:
    """Return the filter for the events of what lives on *node*."""
    return f"{ROOT}.evt.*.{token(node)}.>"


def command(kind: str, verb: str) -> str:
    """Return where a command is sent to be decided at once."""
    return f"{ROOT}.cmd.{token(kind)}.{token(verb)}"


def submit(kind: str, verb: str) -> str:
    """Return where a command is left to be decided when a desk is there."""
    return f"{ROOT}.submit.{token(kind)}.{token(verb)}"


def parse_command(subject: str) -> tuple[str, str]:
    """Return (kind, verb) of a command subject, direct or submitted.

    Raises:
        BadNameError: it is no command subject.
    """
    match subject.split("."):
        case [root, "cmd" | "submit", kind, verb] if root == ROOT:
            return token(kind), token(verb)
        case _:
            raise BadNameError(f"{subject[:120]!r} is not a command subject")


def audit(*words: str) -> str:
    """Return a subject of the audit stream, for example ``audit("executed", "node-1")``."""
    return ".".join((ROOT, "audit", *map(token, words)))


def query(view: str) -> str:
    """Return where a view is asked."""
    return f"{ROOT}.q.{token(view)}"


def views(*words: str) -> str:
    """Return where work on the views is asked for, for example ``views("fsck")``."""
    return ".".join((ROOT, "views", *map(token, words)))


def lend(node: str) -> str:
    """Return where a node is asked to let another one read what it has."""
    return f"{ROOT}.lend.{token(node)}"


def turn(node: str) -> str:
    """Return where a node is told that now is the moment to take its snapshots."""
    return f"{ROOT}.turn.{token(node)}"


def live(*words: str) -> str:
    """Return a subject for what is shown and not kept."""
    return ".".join((ROOT, "live", *map(token, words)))
