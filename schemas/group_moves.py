"""What is said about moves of volume groups: all volumes of one go together, by one operation."""

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.draining import AtOnce
from schemas.grammar import Event, Request
from schemas.legs import SYNC_S, SyncSeconds
from schemas.refusals import Refusal
from schemas.units import Bytes, Id, Moment, Name, Rate, Seconds

MOVED_MAX = 16


class Move(StrEnum):
    """What is done to each volume of a group."""

    MIGRATE = "migrate"
    HAND_OVER = "hand-over"
    ADD_REPLICA = "add-replica"


class Mover(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that moves, and how large it is."""

    volume: Name
    size_bytes: Bytes


Movers = Annotated[tuple[Mover, ...], msgspec.Meta(max_length=MOVED_MAX)]


class MigrateGroup(Request, frozen=True, kw_only=True, tag="group.migrate.v1"):
    """Have the replicas that the volumes have on ``source`` on ``node`` instead, all of them.

    Without ``source`` it is, of each, the one that is written to; without ``node`` a node is chosen
    that can take them all. Those that are there already stay.
    """

    group: Name
    source: Name | None = None
    node: Name | None = None
    at_once: AtOnce = 2
    resync_bytes_per_s: Rate | None = None
    deadline_s: SyncSeconds = SYNC_S


class HandGroupOver(Request, frozen=True, kw_only=True, tag="group.hand-over.v1"):
    """Have all volumes of the group written to on ``node``; their consumers go there too."""

    group: Name
    node: Name
    deadline_s: Seconds = 600


class AddGroupReplica(Request, frozen=True, kw_only=True, tag="group.add-replica.v1"):
    """Have a replica of each volume of the group on ``node``, or on one that can take them all.

    Those that have one there stay as they are.
    """

    group: Name
    node: Name | None = None
    at_once: AtOnce = 2
    resync_bytes_per_s: Rate | None = None
    deadline_s: SyncSeconds = SYNC_S


class GroupMoveBegan(Event, frozen=True, kw_only=True, tag="group.move-began.v1"):
    """``volumes`` shall be on ``node``, each by a move of its own, ``at_once`` at a time.

    Migrations are from ``source``, or of each from where it is written to. ``stay`` are those that
    are there already.
    """

    group: Name
    operation: Id
    deadline: Moment
    move: Move
    node: Name
    volumes: Movers
    stay: tuple[Name, ...] = ()
    source: Name | None = None
    at_once: AtOnce = 2
    resync_bytes_per_s: Rate | None = None


class GroupMoveEnded(Event, frozen=True, kw_only=True, tag="group.move-ended.v1"):
    """The move has ended; a ``code`` says that not all volumes are there, and why."""

    group: Name
    operation: Id
    code: Refusal | None = None
    because: str = ""


GroupMoveCommand = MigrateGroup | HandGroupOver | AddGroupReplica
GroupMoveEvent = GroupMoveBegan | GroupMoveEnded
