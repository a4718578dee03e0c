"""What is said about volumes with several replicas: more and fewer, who may write, and where to."""

from typing import Annotated

import msgspec

from schemas.attachment import AttachmentSpec
from schemas.grammar import Event, Report, Request
from schemas.handing import HandingCommand, HandingEvent
from schemas.keys import Encryption
from schemas.refusals import Refusal
from schemas.replication import Member
from schemas.units import Bytes, Id, Moment, Name, Rate, Seconds, SomeBytes, Text
from schemas.verifying import VerifyingCommand, VerifyingEvent
from schemas.volume import Candidate, Filesystem, Layout, Stripes

SYNC_S = 7 * 86_400
"""A first sync takes what it takes: this deadline is there so that none is forgotten."""

SyncSeconds = Annotated[Seconds, msgspec.Meta(description="A week unless it is given.")]


class AddReplica(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.add-replica.v1"
):
    """Have one replica more, on ``node`` and in ``pool`` if they are named, with the volume in use.

    ``resync_bytes_per_s`` bounds how fast it is filled. ``operation`` is the larger operation that
    it is a step of; while that makes the volume, it is so far ``made_on`` a node, and ``made_in`` a
    pool of it. ``apart``: of a volume in a group, it need not be where the others have theirs.
    """

    volume: Name
    node: Name | None = None
    pool: Name | None = None
    made_on: Name | None = None
    made_in: Name | None = None
    resync_bytes_per_s: Rate | None = None
    deadline_s: SyncSeconds = SYNC_S
    operation: Id | None = None
    apart: bool = False


class RemoveReplicaOf(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.remove-replica.v1"
):
    """Have the replica on ``node`` no more, with the volume in use; ``lost``: the node is."""

    volume: Name
    node: Name
    deadline_s: Seconds = 600
    lost: bool = False
    operation: Id | None = None


class MigrateVolume(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.migrate.v1"
):
    """Have the replica of ``source`` on another node instead: ``node``, or the best of all.

    Without ``source`` it is the one that is written to. The volume stays in use, but for the moment
    in which its consumer goes along. ``operation`` is the larger one that it is a part of.
    ``apart``: a volume of a group may go where the others are not.
    """

    volume: Name
    source: Name | None = None
    node: Name | None = None
    pool: Name | None = None
    resync_bytes_per_s: Rate | None = None
    deadline_s: SyncSeconds = SYNC_S
    operation: Id | None = None
    apart: bool = False


class SettleSplitBrain(Request, frozen=True, kw_only=True, tag="volume.settle-split.v1"):
    """End a split brain: the replica on ``loses`` gives up its data, and is filled anew."""

    volume: Name
    loses: Name
    deadline_s: Seconds = 600


class ConcludeReplicas(Report, frozen=True, kw_only=True, tag="volume.report-replicas.v1"):
    """The running change of replicas, or of who may write, has ended; a ``code``: it failed.

    ``members`` are the replicas now; none: one only, tied to nobody. ``node`` is the one that has
    none any more, ``attachment`` how the consumer of the volume has it now; ``kept``: as before.
    ``lost``: that node is lost, and the volume shall have a replica elsewhere instead.
    """

    volume: Name
    operation: Id
    members: tuple[Member, ...] = ()
    node: Name | None = None
    size_bytes: SomeBytes = 0
    attachment: AttachmentSpec | None = None
    kept: bool = False
    lost: bool = False
    code: Refusal | None = None
    because: Text = ""


class ReplicaAdditionBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.replica-addition-began.v1"
):
    """The volume, which is on ``node``, shall have a replica more: the first that keeps its word.

    ``size_bytes`` is that of the volume, ``leg_bytes`` of its leg. ``blank``: nothing was ever
    written to it, so that there is nothing to be copied. ``encryption`` is how its leg opens.
    """

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    node: Name
    pool: Name
    size_bytes: Bytes
    leg_bytes: Bytes
    candidates: tuple[Candidate, ...]
    members: tuple[Member, ...] = ()
    layout: Layout = Layout.LINEAR
    stripes: Stripes = 1
    header_bytes: SomeBytes = 0
    filesystem: Filesystem = Filesystem.NONE
    blank: bool = False
    resync_bytes_per_s: Rate | None = None
    encryption: Encryption | None = None


class ReplicaAdded(Event, frozen=True, kw_only=True, tag="volume.replica-added.v1"):
    """The volume has these replicas, all of them up to date."""

    volume: Name
    operation: Id
    members: tuple[Member, ...]


class ReplicaAdditionFailed(
    Event,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag="volume.replica-addition-failed.v1",
):
    """The volume has the replicas of before: adding one was given up and undone.

    ``size_bytes`` is how large the volume is by now, if its only leg has grown for another; 0: as
    before.
    """

    volume: Name
    operation: Id
    code: Refusal
    because: str
    size_bytes: SomeBytes = 0


class ReplicaRemovalBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.replica-removal-began.v1"
):
    """The replica on that node shall go; ``members`` are all there are, ``lost``: the node is.

    It is written to at ``home``; ``size_bytes`` is that of the replicated device.
    """

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    node: Name
    pool: Name
    size_bytes: Bytes
    members: tuple[Member, ...]
    home: Name
    header_bytes: SomeBytes = 0
    lost: bool = False


class VolumeReplicaRemoved(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.replica-removed.v1"
):
    """The replica on that node is no more. Left are ``members``; none: one, tied to nobody.

    ``lost``: its node is, and the volume shall have a replica elsewhere instead.
    """

    volume: Name
    operation: Id
    node: Name
    members: tuple[Member, ...]
    size_bytes: Bytes
    lost: bool = False


class ReplicaRemovalFailed(
    Event, frozen=True, kw_only=True, tag="volume.replica-removal-failed.v1"
):
    """The replica stays: its removal was given up."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


class MigrationBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.migration-began.v1"
):
    """The replica on ``source`` shall be on another node instead, ``node`` if one is named.

    ``members`` are the replicas now; none: there is one, tied to nobody.
    """

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    home: Name
    source: Name
    node: Name | None = None
    pool: Name | None = None
    members: tuple[Member, ...] = ()
    resync_bytes_per_s: Rate | None = None
    apart: bool = False


class VolumeMigrated(Event, frozen=True, kw_only=True, tag="volume.migrated.v1"):
    """The replica of ``source`` is there instead."""

    volume: Name
    operation: Id
    source: Name


class MigrationFailed(Event, frozen=True, kw_only=True, tag="volume.migration-failed.v1"):
    """The migration was given up; the volume has the replicas that its events tell."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


class SplitSettlingBegan(Event, frozen=True, kw_only=True, tag="volume.split-settling-began.v1"):
    """The split brain shall end: the replica on ``loses`` gives up its data."""

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    node: Name
    loses: Name


class SplitSettled(Event, frozen=True, kw_only=True, tag="volume.split-settled.v1"):
    """The replicas hold the same again."""

    volume: Name
    operation: Id


class SplitSettlingFailed(Event, frozen=True, kw_only=True, tag="volume.split-settling-failed.v1"):
    """Ending the split brain was given up."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


LegsCommand = (
    HandingCommand
    | VerifyingCommand
    | AddReplica
    | RemoveReplicaOf
    | MigrateVolume
    | SettleSplitBrain
    | ConcludeReplicas
)
LegsEvent = (
    HandingEvent
    | VerifyingEvent
    | ReplicaAdditionBegan
    | ReplicaAdded
    | ReplicaAdditionFailed
    | ReplicaRemovalBegan
    | VolumeReplicaRemoved
    | ReplicaRemovalFailed
    | MigrationBegan
    | VolumeMigrated
    | MigrationFailed
    | SplitSettlingBegan
    | SplitSettled
    | SplitSettlingFailed
)
