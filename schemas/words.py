"""All words there are, by kind: what the codecs are built from."""

from typing import get_args

from schemas.answers import Accepted, Refused, Undecided
from schemas.attaching import AttachingCommand, AttachingEvent
from schemas.attachment import ATTACHMENTS, AttachmentCommand, AttachmentEvent
from schemas.commit import Commit
from schemas.copying import CopyingCommand, CopyingEvent
from schemas.disk import DISKS, DiskCommand, DiskEvent
from schemas.errand import ERRANDS, ErrandCommand, ErrandEvent
from schemas.grammar import Event, Message, Report, Request, kind_and_verb
from schemas.node import NODES, NodeCommand, NodeEvent
from schemas.operation import OPERATIONS, OperationCommand, OperationEvent
from schemas.pool import POOLS, PoolCommand, PoolEvent
from schemas.replica import REPLICAS, ReplicaCommand, ReplicaEvent
from schemas.shrinking import ShrinkCommand, ShrinkEvent
from schemas.snapshot import SNAPSHOTS, SnapshotCommand, SnapshotEvent
from schemas.target import TARGETS, TargetCommand, TargetEvent
from schemas.volume import VOLUMES, VolumeCommand, VolumeEvent

AnyCommand = (
    NodeCommand
    | DiskCommand
    | PoolCommand
    | ShrinkCommand
    | VolumeCommand
    | AttachingCommand
    | CopyingCommand
    | ReplicaCommand
    | AttachmentCommand
    | OperationCommand
    | SnapshotCommand
    | TargetCommand
    | ErrandCommand
)
AnyEvent = (
    NodeEvent
    | DiskEvent
    | PoolEvent
    | ShrinkEvent
    | VolumeEvent
    | AttachingEvent
    | CopyingEvent
    | ReplicaEvent
    | AttachmentEvent
    | OperationEvent
    | SnapshotEvent
    | TargetEvent
    | ErrandEvent
)
AnyCommit = Commit[AnyEvent]

COMMANDS: dict[str, tuple[type[Request | Report], ...]] = {
    NODES: get_args(NodeCommand),
    DISKS: get_args(DiskCommand),
    POOLS: get_args(PoolCommand | ShrinkCommand),
    VOLUMES: get_args(VolumeCommand | AttachingCommand | CopyingCommand),
    REPLICAS: get_args(ReplicaCommand),
    ATTACHMENTS: get_args(AttachmentCommand),
    OPERATIONS: get_args(OperationCommand),
    SNAPSHOTS: get_args(SnapshotCommand),
    TARGETS: get_args(TargetCommand),
    ERRANDS: get_args(ErrandCommand),
}
EVENTS: dict[str, tuple[type[Event], ...]] = {
    NODES: get_args(NodeEvent),
    DISKS: get_args(DiskEvent),
    POOLS: get_args(PoolEvent | ShrinkEvent),
    VOLUMES: get_args(VolumeEvent | AttachingEvent | CopyingEvent),
    REPLICAS: get_args(ReplicaEvent),
    ATTACHMENTS: get_args(AttachmentEvent),
    OPERATIONS: get_args(OperationEvent),
    SNAPSHOTS: get_args(SnapshotEvent),
    TARGETS: get_args(TargetEvent),
    ERRANDS: get_args(ErrandEvent),
}
KINDS = tuple(COMMANDS)
ANSWERS = (Accepted, Refused, Undecided)


def every_command() -> tuple[type[Request | Report], ...]:
    """Return all requests and reports."""
    return tuple(word for words in COMMANDS.values() for word in words)


def every_event() -> tuple[type[Event], ...]:
    """Return all events."""
    return tuple(word for words in EVENTS.values() for word in words)


def every_word() -> tuple[type[Message], ...]:
    """Return all that can be said."""
    return (*every_command(), *every_event())


def command_for(kind: str, verb: str) -> type[Request | Report] | None:
    """Return the word that is asked for under that kind and verb, or None."""
    return _BY_VERB.get((kind, verb))


_BY_VERB = {kind_and_verb(word): word for word in every_command()}
