"""What is said about new volumes that are not blank: restored from a snapshot, or cloned."""

from typing import Annotated

import msgspec

from schemas.backups import BackupName, Digest
from schemas.grammar import Event, Request
from schemas.labels import Labels
from schemas.refusals import Refusal
from schemas.units import Bytes, Id, Moment, Name, Rate, Seconds
from schemas.volume import Filesystem, Layout, Stripes

COPY_S = 7 * 86_400
"""Copies take what they take: this deadline is there so that none is forgotten."""

CopySeconds = Annotated[Seconds, msgspec.Meta(description="A week unless it is given.")]


class RestoreVolume(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.restore.v1"
):
    """Make a new volume with what ``snapshot`` holds, as near to that as there is room.

    Size and layout are those of the snapshot's volume unless they are given. A thin one out of a
    thin snapshot in the same pool is there at once; all else is copied, at most so fast as
    ``rate_bytes_per_s``. ``operation`` is the larger operation that it is a step of. It has
    ``labels``, and with ``keep_labels`` those that the snapshot's volume has now besides.
    """

    volume: Name
    snapshot: Name
    size_bytes: Bytes | None = None
    layout: Layout | None = None
    stripes: Stripes = 1
    pool: Name | None = None
    node: Name | None = None
    rate_bytes_per_s: Rate | None = None
    deadline_s: CopySeconds = COPY_S
    operation: Id | None = None
    labels: Labels = msgspec.field(default_factory=dict)
    keep_labels: bool = False


class RestoreBackup(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.restore-backup.v1"
):
    """Make a new volume with what ``backup`` in ``target`` holds, whoever made that, and whenever.

    What is said of the backup (``manifest``, ``backup_bytes``, ``filesystem``) was read from it
    before; its node fills the volume from the backup with just that manifest, or from none.
    """

    volume: Name
    target: Name
    backup: BackupName
    manifest: Digest
    backup_bytes: Bytes
    filesystem: Filesystem = Filesystem.NONE
    size_bytes: Bytes | None = None
    layout: Layout = Layout.LINEAR
    stripes: Stripes = 1
    pool: Name | None = None
    node: Name | None = None
    rate_bytes_per_s: Rate | None = None
    deadline_s: CopySeconds = COPY_S
    labels: Labels = msgspec.field(default_factory=dict)


class CloneVolume(Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.clone.v1"):
    """Make a new volume with what ``source`` holds now, by way of a snapshot of its own.

    ``reserve_bytes`` is the room for what changes in a thick ``source`` during the copy, a fifth of
    it unless it is given. If that is not enough the clone fails, and the source goes on. It has
    ``labels``, and with ``keep_labels`` those that ``source`` has now besides.
    """

    volume: Name
    source: Name
    size_bytes: Bytes | None = None
    layout: Layout | None = None
    stripes: Stripes = 1
    pool: Name | None = None
    node: Name | None = None
    reserve_bytes: Bytes | None = None
    rate_bytes_per_s: Rate | None = None
    deadline_s: CopySeconds = COPY_S
    labels: Labels = msgspec.field(default_factory=dict)
    keep_labels: bool = False


class VolumeCloneBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.clone-began.v1"
):
    """A volume shall be made with what ``source`` holds, by way of ``snapshot``."""

    volume: Name
    operation: Id
    deadline: Moment
    source: Name
    source_uid: Id
    snapshot: Name
    size_bytes: Bytes
    layout: Layout = Layout.LINEAR
    stripes: Stripes = 1
    pool: Name | None = None
    reserve_bytes: Bytes | None = None
    rate_bytes_per_s: Rate | None = None
    node: Name | None = None
    labels: Labels = msgspec.field(default_factory=dict)


class VolumeCloneFailed(Event, frozen=True, kw_only=True, tag="volume.clone-failed.v1"):
    """There is no such volume: cloning was given up before it was begun to be made."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


CopyingCommand = RestoreVolume | RestoreBackup | CloneVolume
CopyingEvent = VolumeCloneBegan | VolumeCloneFailed
