"""A group in words: volumes of a workload, each with one or several replicas."""

from collections.abc import Iterable

import msgspec

from schemas.grammar import Event
from schemas.volume_group import GroupCreated, Member
from schemas.words import AnyEvent
from tests.support.given import NOON, UID
from tests.support.legs_words import replicated
from tests.support.words import volume_ready

UIDS = {name: "0" * 24 + f"5{n}" for n, name in enumerate(("a", "b", "c", "d"))}
_READ = msgspec.json.Decoder(tuple[AnyEvent, ...])


def called(name: str, events: Iterable[Event]) -> tuple[Event, ...]:
    """Return what was told of pg as if it had been told of the volume of that name."""
    text = msgspec.json.encode(tuple(events)).decode()
    text = text.replace('"pg"', f'"{name}"').replace(UID, UIDS[name])
    return _READ.decode(text.replace("/dev/fast/pg", f"/dev/fast/{name}"))


def plain(name: str, node: str) -> tuple[Event, ...]:
    """A volume of 1 GiB is on that node."""
    return called(name, volume_ready(node))


def pair(name: str, *nodes: str) -> tuple[Event, ...]:
    """A volume of 1 GiB has a replica on each of *nodes*, and is written to on the first."""
    return called(name, replicated(*nodes))


def group(*names: str) -> GroupCreated:
    """These volumes are the group shop."""
    members = tuple(Member(volume=name, uid=UIDS[name]) for name in names)
    return GroupCreated(group="shop", at=NOON, members=members)
