"""What is said about disks: which there are, what is on them, whose they are."""

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.units import Bytes, Id, Name, Path, Text

DISKS = "disk"


class DiskClass(StrEnum):
    """What a disk is made of."""

    HDD = "hdd"
    SSD = "ssd"
    NVME = "nvme"


class Content(StrEnum):
    """What was found on a disk."""

    BLANK = "blank"
    OURS = "ours"
    SYSTEM = "system"
    PARTITIONS = "partitions"
    FILESYSTEM = "filesystem"
    RAID = "raid"
    FOREIGN_LVM = "foreign-lvm"
    OTHER = "other"
    IN_USE = "in-use"


class Health(StrEnum):
    """What a disk says of itself by SMART; ``unknown``: it does not say, as virtual ones do not."""

    HEALTHY = "healthy"
    FAILING = "failing"
    UNKNOWN = "unknown"


class Wiping(StrEnum):
    """What is done to a whole disk before it is free again.

    ``discard``: what it can be told to forget it is told, and its ends are written over; ``zero``:
    every byte is written over; ``lost``: it is gone for good, and nothing is waited for.
    """

    DISCARD = "discard"
    ZERO = "zero"
    LOST = "lost"


Reasons = Annotated[tuple[Text, ...], msgspec.Meta(max_length=16)]


class Sighting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A disk as one node sees it now. ``detail`` says more of the content (``ext4``, ``gpt``)."""

    path: Path
    size_bytes: Bytes
    media: DiskClass
    content: Content
    detail: Text = ""
    serial: Text = ""
    wwn: Text = ""
    model: Text = ""


class ReserveDisk(Request, frozen=True, kw_only=True, tag="disk.reserve.v1"):
    """Leave the disk alone."""

    disk: Name
    because: Text = ""


class UnreserveDisk(Request, frozen=True, kw_only=True, tag="disk.unreserve.v1"):
    """The disk may be used again."""

    disk: Name


class OverrideDiskClass(Request, frozen=True, kw_only=True, tag="disk.override-class.v1"):
    """Say what the disk is, whatever the node believes; None: believe the node again."""

    disk: Name
    media: DiskClass | None = None


class ClaimDisk(Request, frozen=True, kw_only=True, omit_defaults=True, tag="disk.claim.v1"):
    """Step of forming or growing a pool: the disk is that pool's from now on.

    With ``volume`` the disk is to be that volume, whole; ``pool`` is then the group on it that
    nobody else has.
    """

    disk: Name
    node: Name
    pool: Name
    operation: Id
    volume: Name | None = None


class ReportDiskReleased(Report, frozen=True, kw_only=True, tag="disk.report-released.v1"):
    """Step of removing a pool, or of undoing a claim: the disk is nobody's again."""

    disk: Name
    node: Name
    pool: Name


class ReportDiskForgotten(Report, frozen=True, kw_only=True, tag="disk.report-forgotten.v1"):
    """Step of removing a node: its sighting of the disk no longer counts."""

    disk: Name
    node: Name


class ReportDiskSeen(Report, frozen=True, kw_only=True, tag="disk.report-seen.v1"):
    """The node sees the disk like this."""

    disk: Name
    node: Name
    sighting: Sighting


class ReportDiskGone(Report, frozen=True, kw_only=True, tag="disk.report-gone.v1"):
    """The node no longer sees the disk."""

    disk: Name
    node: Name


class ReportDiskHealth(Report, frozen=True, kw_only=True, tag="disk.report-health.v1"):
    """The disk says this of its health, and why it is failing."""

    disk: Name
    node: Name
    health: Health
    reasons: Reasons = ()


class DiskFound(Event, frozen=True, kw_only=True, tag="disk.found.v1"):
    """The disk is at this node now: new, returned, or moved there from ``moved_from``."""

    disk: Name
    node: Name
    sighting: Sighting
    moved_from: str = ""


class DiskChanged(Event, frozen=True, kw_only=True, tag="disk.changed.v1"):
    """The node sees something else of the disk than before."""

    disk: Name
    node: Name
    sighting: Sighting


class DiskSeenTwice(Event, frozen=True, kw_only=True, tag="disk.seen-twice.v1"):
    """A second node sees a disk of the same identity: neither is trusted."""

    disk: Name
    node: Name
    sighting: Sighting


class DiskGone(Event, frozen=True, kw_only=True, tag="disk.gone.v1"):
    """The node no longer sees the disk."""

    disk: Name
    node: Name


class DiskReserved(Event, frozen=True, kw_only=True, tag="disk.reserved.v1"):
    """hwbus leaves the disk alone."""

    disk: Name
    because: str = ""


class DiskUnreserved(Event, frozen=True, kw_only=True, tag="disk.unreserved.v1"):
    """The disk may be used again."""

    disk: Name


class DiskClassOverridden(Event, frozen=True, kw_only=True, tag="disk.class-overridden.v1"):
    """The operator says what the disk is; None: the node's word counts again."""

    disk: Name
    media: DiskClass | None = None


class DiskClaimed(Event, frozen=True, kw_only=True, omit_defaults=True, tag="disk.claimed.v1"):
    """The disk is that pool's; with ``volume`` it is that volume's, whole."""

    disk: Name
    node: Name
    pool: Name
    operation: Id
    volume: Name | None = None


class DiskReleased(Event, frozen=True, kw_only=True, tag="disk.released.v1"):
    """The disk is nobody's."""

    disk: Name
    node: Name
    pool: Name


class DiskHealthChanged(Event, frozen=True, kw_only=True, tag="disk.health-changed.v1"):
    """The disk's health is another than before, or is failing for other reasons."""

    disk: Name
    node: Name
    health: Health
    reasons: Reasons = ()


class DiskForgotten(Event, frozen=True, kw_only=True, tag="disk.forgotten.v1"):
    """No node that counts sees the disk any longer; it is no longer shown."""

    disk: Name
    node: Name


DiskCommand = (
    ReserveDisk
    | UnreserveDisk
    | OverrideDiskClass
    | ClaimDisk
    | ReportDiskReleased
    | ReportDiskForgotten
    | ReportDiskSeen
    | ReportDiskGone
    | ReportDiskHealth
)
DiskEvent = (
    DiskFound
    | DiskChanged
    | DiskSeenTwice
    | DiskGone
    | DiskReserved
    | DiskUnreserved
    | DiskClassOverridden
    | DiskClaimed
    | DiskReleased
    | DiskHealthChanged
    | DiskForgotten
)
