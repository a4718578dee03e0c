"""What is said about backup targets: where they are, and what is put there, found and removed."""

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.backups import (
    BackupName,
    CredentialsRef,
    Endpoint,
    GraceSeconds,
    Place,
    Region,
    Url,
)
from schemas.copying import COPY_S
from schemas.errand import BadChunk, Found, Listed, Swept, Uploaded
from schemas.grammar import Event, Report, Request
from schemas.refusals import Refusal
from schemas.replica import Consistency
from schemas.units import Bytes, Id, Moment, Name, Rate, Seconds, SomeBytes, Text
from schemas.volume import Filesystem, Layout

TARGETS = "target"
GRACE_S = 86_400

Long = Annotated[Seconds, msgspec.Meta(description="A week unless it is given.")]


class Work(StrEnum):
    """What is done with a target besides backing up to it."""

    PROBE = "probe"
    LIST = "list"
    VERIFY = "verify"
    SWEEP = "sweep"


class AddTarget(Request, frozen=True, kw_only=True, omit_defaults=True, tag="target.add.v1"):
    """Know a place for backups. ``cluster`` is what this cluster is called in its manifests."""

    target: Name
    url: Url
    endpoint: Endpoint = ""
    region: Region = "us-east-1"
    credentials: CredentialsRef
    cluster: Name = "hwbus"


class RemoveTarget(Request, frozen=True, kw_only=True, tag="target.remove.v1"):
    """Know the place no longer; what lies there stays."""

    target: Name


class ProbeTarget(Request, frozen=True, kw_only=True, tag="target.probe.v1"):
    """See from a node whether backups could be written there, read and deleted."""

    target: Name
    node: Name | None = None
    deadline_s: Seconds = 120


class ListBackups(Request, frozen=True, kw_only=True, omit_defaults=True, tag="target.list.v1"):
    """Have a node read which backups lie there, whoever made them: the newest hundred.

    With ``backup`` only that one, with ``volume`` those of that volume.
    """

    target: Name
    backup: BackupName | None = None
    volume: Name | None = None
    node: Name | None = None
    deadline_s: Seconds = 600


class BackUpVolume(Request, frozen=True, kw_only=True, omit_defaults=True, tag="target.back-up.v1"):
    """Put what ``volume`` holds now there, by way of a snapshot of its own.

    What the last backup of it has already is not put again; with ``full`` that is not looked at.
    ``keep``: the snapshot of a thin volume stays, so that the next backup reads only what changed;
    the one that was kept before goes.
    """

    target: Name
    volume: Name
    backup: BackupName | None = None
    full: bool = False
    keep: bool = False
    reserve_bytes: Bytes | None = None
    rate_bytes_per_s: Rate | None = None
    deadline_s: Long = COPY_S


class VerifyBackup(Request, frozen=True, kw_only=True, omit_defaults=True, tag="target.verify.v1"):
    """Read every chunk of a backup there, and name those that are damaged or missing."""

    target: Name
    backup: BackupName
    node: Name | None = None
    rate_bytes_per_s: Rate | None = None
    deadline_s: Long = COPY_S


class SweepTarget(Request, frozen=True, kw_only=True, omit_defaults=True, tag="target.sweep.v1"):
    """Remove ``backup``, if given, and all that no backup there needs and is old enough."""

    target: Name
    backup: BackupName | None = None
    node: Name | None = None
    grace_s: GraceSeconds = GRACE_S
    deadline_s: Long = 86_400


class ConcludeTarget(
    Report, frozen=True, kw_only=True, omit_defaults=True, tag="target.report-concluded.v1"
):
    """The operation has come to its end: with what a node found, or with a ``code``."""

    target: Name
    operation: Id
    found: Found | None = None
    snapshot_uid: Id | None = None
    size_bytes: SomeBytes = 0
    consistency: Consistency | None = None
    code: Refusal | None = None
    because: Text = ""


class TargetAdded(Event, frozen=True, kw_only=True, tag="target.added.v1"):
    """There is a place for backups."""

    target: Name
    place: Place
    cluster: Name


class TargetRemoved(Event, frozen=True, kw_only=True, tag="target.removed.v1"):
    """The place is no longer known."""

    target: Name


class BackupBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="target.backup-began.v1"
):
    """A volume shall be backed up by way of ``snapshot``, which is taken soon after ``at``.

    ``parent`` is the backup to compare with, ``parent_snapshot`` what was kept of that.
    """

    target: Name
    operation: Id
    at: Moment
    deadline: Moment
    backup: BackupName
    place: Place
    cluster: Name
    volume: Name
    volume_uid: Id
    node: Name
    pool: Name
    size_bytes: Bytes
    layout: Layout
    filesystem: Filesystem
    snapshot: Name
    keep: bool = False
    parent: BackupName | None = None
    parent_snapshot: Name | None = None
    parent_snapshot_uid: Id | None = None
    reserve_bytes: Bytes | None = None
    rate_bytes_per_s: Rate | None = None


class BackupMade(Event, frozen=True, kw_only=True, omit_defaults=True, tag="target.backup-made.v1"):
    """The backup is there, whole; ``kept`` is the snapshot that stays for the next one."""

    target: Name
    operation: Id
    backup: BackupName
    cluster: Name
    volume: Name
    volume_uid: Id
    size_bytes: Bytes
    layout: Layout
    filesystem: Filesystem
    consistency: Consistency
    at: Moment
    uploaded: Uploaded
    kept: Name | None = None
    kept_uid: Id | None = None


class BackupFailed(Event, frozen=True, kw_only=True, tag="target.backup-failed.v1"):
    """There is no such backup: an alarm, for what was to be kept safe is not."""

    target: Name
    operation: Id
    backup: BackupName
    volume: Name
    code: Refusal
    because: str


class TargetWorkBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="target.work-began.v1"
):
    """A node shall do something with what lies there."""

    target: Name
    operation: Id
    deadline: Moment
    work: Work
    node: Name
    place: Place
    backup: BackupName | None = None
    volume: Name | None = None
    grace_s: GraceSeconds = 0
    rate_bytes_per_s: Rate | None = None


class TargetProbed(Event, frozen=True, kw_only=True, tag="target.probed.v1"):
    """Backups can be written there, read and deleted."""

    target: Name
    operation: Id


class BackupsListed(Event, frozen=True, kw_only=True, tag="target.backups-listed.v1"):
    """These are the backups that lie there."""

    target: Name
    operation: Id
    listed: Listed


class BackupVerified(Event, frozen=True, kw_only=True, tag="target.backup-verified.v1"):
    """Every chunk of the backup was read and is what it was."""

    target: Name
    operation: Id
    backup: BackupName
    chunks: SomeBytes


class BackupFoundDamaged(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="target.backup-found-damaged.v1"
):
    """An alarm: the backup cannot be restored whole. ``bad`` names the first of ``bad_chunks``."""

    target: Name
    operation: Id
    backup: BackupName
    because: str
    code: Refusal
    bad_chunks: SomeBytes = 0
    bad: tuple[BadChunk, ...] = ()


class TargetSwept(Event, frozen=True, kw_only=True, omit_defaults=True, tag="target.swept.v1"):
    """What no backup needed is gone, and ``backup`` too, if one is named."""

    target: Name
    operation: Id
    backup: BackupName | None = None
    swept: Swept


class TargetWorkFailed(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="target.work-failed.v1"
):
    """It could not be done."""

    target: Name
    operation: Id
    work: Work
    backup: BackupName | None = None
    code: Refusal
    because: str


TargetCommand = (
    AddTarget
    | RemoveTarget
    | ProbeTarget
    | ListBackups
    | BackUpVolume
    | VerifyBackup
    | SweepTarget
    | ConcludeTarget
)
TargetEvent = (
    TargetAdded
    | TargetRemoved
    | BackupBegan
    | BackupMade
    | BackupFailed
    | TargetWorkBegan
    | TargetProbed
    | BackupsListed
    | BackupVerified
    | BackupFoundDamaged
    | TargetSwept
    | TargetWorkFailed
)
