"""What is said about volume groups: volumes that belong together, and are kept at one instant.

They are ours. What LVM calls a volume group is called a pool here.
"""

from typing import Annotated

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.group_moves import MOVED_MAX, GroupMoveCommand, GroupMoveEvent
from schemas.refusals import Refusal
from schemas.rhythm import BySchedule
from schemas.snapshot import Part
from schemas.units import Bytes, Id, Moment, Name, Seconds, Text

GROUPS = "group"
MEMBERS_MAX = MOVED_MAX
Volumes = Annotated[tuple[Name, ...], msgspec.Meta(max_length=MEMBERS_MAX)]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A volume of a group; the uid tells it from a later one of the same name."""

    volume: Name
    uid: Id


class CreateGroup(Request, frozen=True, kw_only=True, tag="group.create.v1"):
    """Have these volumes belong together. A volume is in one group at most.

    They have to be on common nodes, unless they may be ``apart``.
    """

    group: Name
    volumes: Volumes = ()
    apart: bool = False


class AddToGroup(Request, frozen=True, kw_only=True, tag="group.add.v1"):
    """Have these volumes in the group too: where the others are, unless they may be ``apart``."""

    group: Name
    volumes: Volumes
    apart: bool = False


class JoinGroup(Request, frozen=True, kw_only=True, tag="group.join.v1"):
    """Step of making a volume: it belongs to the group from the beginning."""

    group: Name
    volume: Name
    uid: Id
    operation: Id


class TakeOutOfGroup(Request, frozen=True, kw_only=True, tag="group.take-out.v1"):
    """Have these volumes in no group; nothing else changes for them."""

    group: Name
    volumes: Volumes


class RemoveGroup(Request, frozen=True, kw_only=True, tag="group.remove.v1"):
    """Forget the group; its volumes and their snapshots stay."""

    group: Name


class SnapshotGroup(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="group.snapshot.v1"
):
    """Keep all volumes of the group as they are at one instant.

    The snapshots are called ``<snapshot>-<volume>``. ``reserve_bytes`` is the room for each thick
    volume, a fifth of it if it is not given. ``by`` is set by schedules. Of replicated volumes
    each replica that has all that was written is kept, unless it is to be a ``single`` one.
    """

    group: Name
    snapshot: Name
    reserve_bytes: Bytes | None = None
    deadline_s: Seconds = 600
    by: BySchedule | None = None
    single: bool = False


class ConcludeGroup(Report, frozen=True, kw_only=True, tag="group.report-concluded.v1"):
    """The running operation has come to its end; a ``code`` says that it failed."""

    group: Name
    operation: Id
    code: Refusal | None = None
    because: Text = ""


class ReportVolumeLeft(Report, frozen=True, kw_only=True, tag="group.report-volume-left.v1"):
    """A volume has left the group by itself, for the reason given."""

    group: Name
    volume: Name
    uid: Id
    because: Text


class GroupCreated(Event, frozen=True, kw_only=True, tag="group.created.v1"):
    """These volumes belong together from ``at`` on."""

    group: Name
    at: Moment
    members: tuple[Member, ...] = ()


class GroupVolumesAdded(Event, frozen=True, kw_only=True, tag="group.volumes-added.v1"):
    """These volumes belong to the group too, from ``at`` on."""

    group: Name
    at: Moment
    members: tuple[Member, ...]


class GroupVolumesLeft(Event, frozen=True, kw_only=True, tag="group.volumes-left.v1"):
    """These volumes belong to the group no more."""

    group: Name
    volumes: tuple[Name, ...]
    because: str = ""


class GroupRemoved(Event, frozen=True, kw_only=True, tag="group.removed.v1"):
    """There is no such group any more."""

    group: Name


class GroupSnapshotBegan(Event, frozen=True, kw_only=True, tag="group.snapshot-began.v1"):
    """All ``parts`` shall be made at one instant, or none of them."""

    group: Name
    snapshot: Name
    operation: Id
    deadline: Moment
    node: Name
    parts: tuple[Part, ...]
    by: BySchedule | None = None


class GroupSnapshotTaken(Event, frozen=True, kw_only=True, tag="group.snapshot-taken.v1"):
    """All volumes of the group are kept as they were at one instant."""

    group: Name
    snapshot: Name
    operation: Id


class GroupSnapshotFailed(Event, frozen=True, kw_only=True, tag="group.snapshot-failed.v1"):
    """No snapshot was kept of any volume: what had been made was undone."""

    group: Name
    snapshot: Name
    operation: Id
    code: Refusal
    because: str


GroupCommand = (
    GroupMoveCommand
    | CreateGroup
    | AddToGroup
    | JoinGroup
    | TakeOutOfGroup
    | RemoveGroup
    | SnapshotGroup
    | ConcludeGroup
    | ReportVolumeLeft
)
GroupEvent = (
    GroupMoveEvent
    | GroupCreated
    | GroupVolumesAdded
    | GroupVolumesLeft
    | GroupRemoved
    | GroupSnapshotBegan
    | GroupSnapshotTaken
    | GroupSnapshotFailed
)
