"""What is said about settling drift: somebody decides what shall become of one finding."""

import hashlib
from enum import StrEnum

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.mending import Mend, SeenVolume
from schemas.node import Drift, Finding
from schemas.refusals import Refusal
from schemas.units import Id, Moment, Name, Seconds, SomeBytes, Text
from schemas.volume import Filesystem, Stripes

MARK_CHARACTERS = 12


class Verb(StrEnum):
    """How a finding can be settled. Nothing is ever deleted for it.

    ``adopt``: it becomes a volume, with its data. ``accept``: what was done by hand is what was
    wanted. ``undo``: it is again as decided. ``recreate``: it is made anew, empty. ``quarantine``:
    nobody shall use it, and its room counts as taken. ``release``: it is out of quarantine.
    """

    ADOPT = "adopt"
    ACCEPT = "accept"
    UNDO = "undo"
    RECREATE = "recreate"
    QUARANTINE = "quarantine"
    RELEASE = "release"


WAYS: dict[Drift, tuple[Verb, ...]] = {
    Drift.VOLUME_MISSING: (Verb.ACCEPT, Verb.RECREATE),
    Drift.VOLUME_RESIZED: (Verb.ACCEPT, Verb.UNDO),
    Drift.VOLUME_RENAMED: (Verb.UNDO,),
    Drift.VOLUME_FOREIGN: (Verb.ADOPT, Verb.QUARANTINE),
    Drift.VOLUME_QUARANTINED: (Verb.RELEASE,),
}
"""What settles which kind by a command of ours; the others are settled where they were made."""


EXPLAINED: dict[Drift, tuple[str, str]] = {
    Drift.VOLUME_MISSING: (
        "No logical volume bears the tag of a volume that shall be there.",
        (
            "vgcfgrestore may bring back what was removed by mistake. accept gives the volume up, "
            "recreate makes it anew, empty."
        ),
    ),
    Drift.VOLUME_RESIZED: (
        "A logical volume is larger or smaller than was decided.",
        (
            "accept takes a larger size over; undo makes a smaller one as large as it was, but "
            "what was cut off is not in it any more."
        ),
    ),
    Drift.VOLUME_RENAMED: (
        "A volume of ours bears another name in LVM, or is in another volume group.",
        "undo gives it its name back, in use or not.",
    ),
    Drift.VOLUME_FOREIGN: (
        "A logical volume in a pool of ours is none of ours.",
        (
            "adopt makes a volume of it, with its data; quarantine keeps everybody from it, and "
            "counts its room as taken. Only a person removes it: lvremove."
        ),
    ),
    Drift.VOLUME_QUARANTINED: (
        "A logical volume that is none of ours is in quarantine: inactive, its room counted.",
        "release makes it a finding as before.",
    ),
    Drift.POOL_MISSING: (
        "The volume group of a pool is not there, or bears another name.",
        "Plug its disks in again, or vgrename it; else remove its volumes, then the pool.",
    ),
    Drift.POOL_DISK_MISSING: (
        "A disk of a pool is not there.",
        "Plug it in again. hwbus disk ls shows where it was seen last.",
    ),
    Drift.VOLUME_DISK_MISSING: (
        "A disk that a volume lies on is missing or cannot be read.",
        "Plug it in again, or look at its cables and the kernel log. What is whole stays in use.",
    ),
    Drift.ATTACHMENT_MISSING: (
        "The device or the mount of an attached volume is not there, and could not be made again.",
        "hwbus volume show NAME tells why; detach it, or settle what is in the way.",
    ),
}
"""What each kind of finding means, and what can be done about it."""


def mark(finding: Finding) -> str:
    """Return what tells this state of a finding from every other one of the same object."""
    sides = (finding.drift, finding.object, finding.wanted, finding.observed, finding.lv)
    return hashlib.sha256(msgspec.json.encode(sides)).hexdigest()[:MARK_CHARACTERS]


def line(finding: Finding, verb: Verb, more: str = "") -> str:
    """Return the command line that settles *finding* so, and only while it is as it is."""
    what = f"{finding.object} {more}".rstrip()
    return f"hwbus drift {verb.value} {what} --seen {mark(finding)}"


class SettleDrift(Request, frozen=True, kw_only=True, tag="node.settle-drift.v1"):
    """Settle a finding, if it is still what bears the mark ``seen``.

    ``volume``: how what is adopted shall be called, with the ``filesystem`` that is on it; to
    recreate a volume its name is said once more.
    """

    node: Name
    drift: Drift
    object: Text
    verb: Verb
    seen: Text
    volume: Name | None = None
    filesystem: Filesystem = Filesystem.NONE
    deadline_s: Seconds = 600


class ConcludeSettling(Report, frozen=True, kw_only=True, tag="node.report-settling-concluded.v1"):
    """The operation has ended; a ``code`` says that the finding is not settled."""

    node: Name
    operation: Id
    code: Refusal | None = None
    because: Text = ""


class DriftSettlingBegan(Event, frozen=True, kw_only=True, tag="node.drift-settling-began.v1"):
    """The finding shall be settled so. ``uid`` is a new identity for what comes of it."""

    node: Name
    operation: Id
    deadline: Moment
    uid: Id
    verb: Verb
    finding: Finding
    volume: Name | None = None
    filesystem: Filesystem = Filesystem.NONE


class DriftSettlingEnded(Event, frozen=True, kw_only=True, tag="node.drift-settling-ended.v1"):
    """What was to be done about the finding is done, or, with a ``code``, was given up."""

    node: Name
    operation: Id
    verb: Verb
    finding: Finding
    code: Refusal | None = None
    because: str = ""


class ForeignQuarantined(Event, frozen=True, kw_only=True, tag="node.foreign-quarantined.v1"):
    """That volume is in quarantine, and its room is taken under ``claim``."""

    node: Name
    object: Text
    pool: Name
    claim: Id


class ForeignReleased(Event, frozen=True, kw_only=True, tag="node.foreign-released.v1"):
    """That volume is in quarantine no more, or is no more: its room is free."""

    node: Name
    object: Text
    pool: Name
    claim: Id


class SettleVolume(Request, frozen=True, kw_only=True, tag="volume.settle.v1"):
    """Step of settling drift: nothing else is done to the volume while its leg is put right."""

    volume: Name
    node: Name
    operation: Id
    mend: Mend
    seen: SeenVolume | None = None


class AdoptVolume(Request, frozen=True, kw_only=True, tag="volume.adopt.v1"):
    """Step of settling drift: what is there under another name, or none, becomes this volume."""

    volume: Name
    node: Name
    operation: Id
    deadline: Moment
    uid: Id
    seen: SeenVolume
    filesystem: Filesystem = Filesystem.NONE


class VolumeSettlingBegan(Event, frozen=True, kw_only=True, tag="volume.settling-began.v1"):
    """The leg of the volume is to be put right. Both sizes are those of the leg."""

    volume: Name
    uid: Id
    operation: Id
    node: Name
    pool: Name
    mend: Mend
    from_bytes: SomeBytes
    size_bytes: SomeBytes
    thin: bool = False
    stripes: Stripes = 1
    header_bytes: SomeBytes = 0


class VolumeSettled(Event, frozen=True, kw_only=True, tag="volume.settled.v1"):
    """The volume may be used again."""

    volume: Name
    operation: Id
    size_bytes: SomeBytes


class VolumeSettlingFailed(Event, frozen=True, kw_only=True, tag="volume.settling-failed.v1"):
    """The leg of the volume is as it was: putting it right was given up."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


class VolumeLost(Event, frozen=True, kw_only=True, tag="volume.lost.v1"):
    """The volume was lost by what somebody did by hand, and is missed no more."""

    volume: Name
    uid: Id
    operation: Id
    node: Name
    pool: Name
    size_bytes: SomeBytes


SettlingCommand = SettleDrift | ConcludeSettling
SettlingEvent = DriftSettlingBegan | DriftSettlingEnded | ForeignQuarantined | ForeignReleased
VolumeSettlingCommand = SettleVolume | AdoptVolume
VolumeSettlingEvent = VolumeSettlingBegan | VolumeSettled | VolumeSettlingFailed | VolumeLost
