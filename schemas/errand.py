"""What is said about errands: work that a node does once, and what came of it.

What is to be restored is no errand: it is part of a new leg, see ``schemas.replica``.
"""

import msgspec

from schemas.backups import BackupName, Digest, GraceSeconds, Place
from schemas.grammar import Event, Report, Request
from schemas.mending import SeenVolume
from schemas.refusals import Refusal
from schemas.units import Bytes, Id, Moment, Name, Rate, SomeBytes, Text
from schemas.volume import Filesystem, Layout

ERRANDS = "errand"


class Probe(msgspec.Struct, frozen=True, kw_only=True, tag_field="errand", tag="probe"):
    """Write an object, read it back, see that it is not overwritten, and delete it."""

    place: Place


class ListAll(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="errand", tag="list"
):
    """Read which backups there are, or whether there is one, or those of one volume."""

    place: Place
    backup: BackupName | None = None
    volume: Name | None = None


class Upload(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="errand",
    tag="upload",
):
    """Put what a snapshot holds under ``backup``, as docs/backup-format.md has it.

    ``parent`` is the backup to compare with, ``parent_snapshot`` the thin snapshot that it was
    made of, if that is still there.
    """

    place: Place
    backup: BackupName
    cluster: Name
    volume: Name
    volume_uid: Id
    size_bytes: Bytes
    layout: Layout
    filesystem: Filesystem
    pool: Name
    snapshot: Name
    snapshot_uid: Id
    consistency: Text
    at: Moment
    parent: BackupName | None = None
    parent_snapshot: Name | None = None
    parent_snapshot_uid: Id | None = None
    rate_bytes_per_s: Rate | None = None


class Verify(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="errand",
    tag="verify",
):
    """Read every chunk of ``backup`` and compare it with its name."""

    place: Place
    backup: BackupName
    rate_bytes_per_s: Rate | None = None


class Sweep(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="errand", tag="sweep"
):
    """Remove ``backup``, if given, and what no backup needs and is older than ``grace_s``."""

    place: Place
    backup: BackupName | None = None
    grace_s: GraceSeconds = 0


class PutAside(msgspec.Struct, frozen=True, kw_only=True, tag_field="errand", tag="put-aside"):
    """Keep everybody from using that volume of nobody's, if it is still as ``seen``."""

    seen: SeenVolume
    claim: Id


class PutBack(msgspec.Struct, frozen=True, kw_only=True, tag_field="errand", tag="put-back"):
    """Let that volume be used again by whoever made it; it stays inactive."""

    seen: SeenVolume
    claim: Id


class Compare(msgspec.Struct, frozen=True, kw_only=True, tag_field="errand", tag="compare"):
    """Compare the replica of that volume with its peers, block by block, by checksum."""

    volume: Name
    uid: Id


class EvenOut(msgspec.Struct, frozen=True, kw_only=True, tag_field="errand", tag="even-out"):
    """Have what is known to differ copied from the replica that is written to."""

    volume: Name
    uid: Id


Errand = Probe | ListAll | Upload | Verify | Sweep | PutAside | PutBack | Compare | EvenOut


class Probed(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="probed"):
    """All of it could be done."""


class Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A backup as its manifest tells of it; ``manifest`` is the digest of that."""

    backup: BackupName
    manifest: Digest
    cluster: Text
    volume: Text
    volume_uid: Text
    size_bytes: Bytes
    layout: Layout
    filesystem: Filesystem
    consistency: Text
    at: Moment
    chunks: SomeBytes
    stored_chunks: SomeBytes
    parent: Text = ""


class Listed(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="found", tag="listed"
):
    """The backups that are there, the newest first; ``damaged`` have no manifest one can read.

    ``part``: only some were asked for; ``more`` were not looked at.
    """

    backups: tuple[Stored, ...] = ()
    damaged: tuple[Text, ...] = ()
    more: SomeBytes = 0
    part: bool = False


class Uploaded(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="found", tag="uploaded"
):
    """All is there, the manifest last; ``parent`` is what it was compared with after all."""

    manifest: Digest
    chunks: SomeBytes
    stored_chunks: SomeBytes
    read_bytes: SomeBytes
    uploaded_bytes: SomeBytes
    parent: Text = ""


class BadChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that is ``damaged`` or ``missing``: its number in the volume, and its name."""

    index: SomeBytes
    chunk: Digest
    why: Text


class Verified(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="found", tag="verified"
):
    """All was read; ``bad`` names the first hundred of ``bad_chunks``."""

    chunks: SomeBytes
    bad_chunks: SomeBytes = 0
    bad: tuple[BadChunk, ...] = ()


class Swept(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="found", tag="swept"
):
    """What was removed; with ``writers`` at work, no chunk was."""

    chunks: SomeBytes = 0
    freed_bytes: SomeBytes = 0
    writers: SomeBytes = 0


class Put(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="put"):
    """It is where it shall be, or, to be put back, is nowhere any more."""


class Compared(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="compared"):
    """All was compared; so much of it is not the same."""

    differing_bytes: SomeBytes


class EvenedOut(msgspec.Struct, frozen=True, kw_only=True, tag_field="found", tag="evened-out"):
    """Nothing is known to differ any more."""


Found = Probed | Listed | Uploaded | Verified | Swept | Put | Compared | EvenedOut


class RunErrand(Request, frozen=True, kw_only=True, tag="errand.run.v1"):
    """Step of an operation: the node shall do this, once."""

    operation: Id
    node: Name
    errand: Errand


class StopErrand(Request, frozen=True, kw_only=True, tag="errand.stop.v1"):
    """Step of giving an operation up: the node shall leave off, and keep nothing of it."""

    operation: Id
    node: Name


class ReportErrandDone(Report, frozen=True, kw_only=True, tag="errand.report-done.v1"):
    """It is done, and this came of it."""

    operation: Id
    node: Name
    found: Found


class ReportErrandStopped(Report, frozen=True, kw_only=True, tag="errand.report-stopped.v1"):
    """The node works on it no more."""

    operation: Id
    node: Name


class ReportErrandTrouble(Report, frozen=True, kw_only=True, tag="errand.report-trouble.v1"):
    """The node could not do it; ``permanent``: trying again will not help."""

    operation: Id
    node: Name
    code: Refusal
    because: Text
    permanent: bool = False


class ErrandWanted(Event, frozen=True, kw_only=True, tag="errand.wanted.v1"):
    """The node shall do this."""

    operation: Id
    node: Name
    errand: Errand


class ErrandDone(Event, frozen=True, kw_only=True, tag="errand.done.v1"):
    """It is done, and this came of it."""

    operation: Id
    node: Name
    found: Found


class ErrandStopWanted(Event, frozen=True, kw_only=True, tag="errand.stop-wanted.v1"):
    """The node shall leave off."""

    operation: Id
    node: Name


class ErrandStopped(Event, frozen=True, kw_only=True, tag="errand.stopped.v1"):
    """The node works on it no more."""

    operation: Id
    node: Name


class ErrandTroubled(Event, frozen=True, kw_only=True, tag="errand.troubled.v1"):
    """The node could not do it."""

    operation: Id
    node: Name
    code: Refusal
    because: str
    permanent: bool = False


ErrandCommand = (
    RunErrand | StopErrand | ReportErrandDone | ReportErrandStopped | ReportErrandTrouble
)
ErrandEvent = ErrandWanted | ErrandDone | ErrandStopWanted | ErrandStopped | ErrandTroubled
