"""All words there are, by kind: what the codecs are built from."""

from typing import get_args

from schemas.answers import Accepted, Refused, Undecided
from schemas.approval import APPROVALS, ApprovalCommand, ApprovalEvent
from schemas.attaching import AttachingCommand, AttachingEvent
from schemas.attachment import ATTACHMENTS, AttachmentCommand, AttachmentEvent
from schemas.commit import Commit
from schemas.copying import CopyingCommand, CopyingEvent
from schemas.counting import CountingCommand, CountingEvent
from schemas.disk import DISKS, DiskCommand, DiskEvent
from schemas.draining import DrainingCommand, DrainingEvent, ForgettingCommand, ForgettingEvent
from schemas.encrypting import EncryptingCommand, EncryptingEvent
from schemas.errand import ERRANDS, ErrandCommand, ErrandEvent
from schemas.filling import FillingCommand, FillingEvent
from schemas.grammar import Event, Message, Report, Request, kind_and_verb
from schemas.growing import (
    SnapshotGrowthCommand,
    SnapshotGrowthEvent,
    ThinGrowthCommand,
    ThinGrowthEvent,
)
from schemas.labels import LabellingCommand, LabellingEvent
from schemas.legs import LegsCommand, LegsEvent
from schemas.linking import LinkingCommand, LinkingEvent
from schemas.mending import MendCommand, MendEvent
from schemas.node import NODES, NodeCommand, NodeEvent
from schemas.operation import OPERATIONS, OperationCommand, OperationEvent
from schemas.policy import POLICIES, PolicyCommand, PolicyEvent
from schemas.pool import POOLS, PoolCommand, PoolEvent
from schemas.protection import PROTECTIONS, ProtectionCommand, ProtectionEvent
from schemas.qos import QOS, QosCommand, QosEvent
from schemas.replica import REPLICAS, ReplicaCommand, ReplicaEvent
from schemas.replication import ReplicationCommand, ReplicationEvent
from schemas.schedule import SCHEDULES, ScheduleCommand, ScheduleEvent
from schemas.settling import (
    SettlingCommand,
    SettlingEvent,
    VolumeSettlingCommand,
    VolumeSettlingEvent,
)
from schemas.shrinking import ShrinkCommand, ShrinkEvent
from schemas.snapshot import SNAPSHOTS, SnapshotCommand, SnapshotEvent
from schemas.target import TARGETS, TargetCommand, TargetEvent
from schemas.trail import TRAILS, TrailCommand, TrailEvent
from schemas.volume import VOLUMES, VolumeCommand, VolumeEvent
from schemas.volume_group import GROUPS, GroupCommand, GroupEvent

AnyCommand = (
    NodeCommand
    | DiskCommand
    | PoolCommand
    | ShrinkCommand
    | VolumeCommand
    | AttachingCommand
    | CopyingCommand
    | EncryptingCommand
    | ReplicaCommand
    | AttachmentCommand
    | OperationCommand
    | SnapshotCommand
    | FillingCommand
    | CountingCommand
    | SnapshotGrowthCommand
    | ThinGrowthCommand
    | PolicyCommand
    | GroupCommand
    | ScheduleCommand
    | TargetCommand
    | ErrandCommand
    | QosCommand
    | MendCommand
    | SettlingCommand
    | VolumeSettlingCommand
    | LabellingCommand
    | LegsCommand
    | LinkingCommand
    | DrainingCommand
    | ForgettingCommand
    | ReplicationCommand
    | ProtectionCommand
    | ApprovalCommand
    | TrailCommand
)
AnyEvent = (
    NodeEvent
    | DiskEvent
    | PoolEvent
    | ShrinkEvent
    | VolumeEvent
    | AttachingEvent
    | CopyingEvent
    | EncryptingEvent
    | ReplicaEvent
    | AttachmentEvent
    | OperationEvent
    | SnapshotEvent
    | FillingEvent
    | CountingEvent
    | SnapshotGrowthEvent
    | ThinGrowthEvent
    | PolicyEvent
    | GroupEvent
    | ScheduleEvent
    | TargetEvent
    | ErrandEvent
    | QosEvent
    | MendEvent
    | SettlingEvent
    | VolumeSettlingEvent
    | LabellingEvent
    | LegsEvent
    | LinkingEvent
    | DrainingEvent
    | ForgettingEvent
    | ReplicationEvent
    | ProtectionEvent
    | ApprovalEvent
    | TrailEvent
)
AnyCommit = Commit[AnyEvent]

COMMANDS: dict[str, tuple[type[Request | Report], ...]] = {
    NODES: get_args(NodeCommand | SettlingCommand | LinkingCommand | DrainingCommand),
    DISKS: get_args(DiskCommand),
    POOLS: get_args(PoolCommand | ShrinkCommand | ThinGrowthCommand | ForgettingCommand),
    VOLUMES: get_args(
        VolumeCommand
        | AttachingCommand
        | EncryptingCommand
        | CopyingCommand
        | FillingCommand
        | CountingCommand
        | VolumeSettlingCommand
        | LabellingCommand
        | LegsCommand
    ),
    REPLICAS: get_args(ReplicaCommand | MendCommand | ReplicationCommand),
    ATTACHMENTS: get_args(AttachmentCommand),
    OPERATIONS: get_args(OperationCommand),
    SNAPSHOTS: get_args(SnapshotCommand | SnapshotGrowthCommand),
    GROUPS: get_args(GroupCommand),
    SCHEDULES: get_args(ScheduleCommand),
    POLICIES: get_args(PolicyCommand),
    TARGETS: get_args(TargetCommand),
    ERRANDS: get_args(ErrandCommand),
    QOS: get_args(QosCommand),
    PROTECTIONS: get_args(ProtectionCommand),
    APPROVALS: get_args(ApprovalCommand),
    TRAILS: (TrailCommand,),
}
EVENTS: dict[str, tuple[type[Event], ...]] = {
    NODES: get_args(NodeEvent | SettlingEvent | LinkingEvent | DrainingEvent),
    DISKS: get_args(DiskEvent),
    POOLS: get_args(PoolEvent | ShrinkEvent | ThinGrowthEvent | ForgettingEvent),
    VOLUMES: get_args(
        VolumeEvent
        | AttachingEvent
        | EncryptingEvent
        | CopyingEvent
        | FillingEvent
        | CountingEvent
        | VolumeSettlingEvent
        | LabellingEvent
        | LegsEvent
    ),
    REPLICAS: get_args(ReplicaEvent | MendEvent | ReplicationEvent),
    ATTACHMENTS: get_args(AttachmentEvent),
    OPERATIONS: get_args(OperationEvent),
    SNAPSHOTS: get_args(SnapshotEvent | SnapshotGrowthEvent),
    GROUPS: get_args(GroupEvent),
    SCHEDULES: get_args(ScheduleEvent),
    POLICIES: get_args(PolicyEvent),
    TARGETS: get_args(TargetEvent),
    ERRANDS: get_args(ErrandEvent),
    QOS: get_args(QosEvent),
    PROTECTIONS: get_args(ProtectionEvent),
    APPROVALS: get_args(ApprovalEvent),
    TRAILS: (TrailEvent,),
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
