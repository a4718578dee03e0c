"""What is said about attachments: one volume in use on its node, by whom, where, and how fast."""

from typing import Annotated

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.refusals import Refusal
from schemas.units import BYTES_MAX, Id, Name, Path, Text
from schemas.volume import Filesystem

ATTACHMENTS = "attachment"
STABLE_DEVICES = "/dev/hwbus"
IOPS_MAX = 1_000_000_000

Consumer = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9][-a-z0-9]*(/[A-Za-z0-9._-]+)+$(?!\n)",
        max_length=255,
        description="Who uses a volume: a kind and a name, such as pod/shop/pg-0 or host/backup.",
    ),
]
MountPoint = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(/(?!\.{1,2}(/|$))[^/\x00\n]+)+$(?!\n)",
        max_length=255,
        description="An absolute path below the root, without '.' and '..'.",
    ),
]
Cgroup = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?!\.{1,2}(/|$))[^/\x00\n]+(/(?!\.{1,2}(/|$))[^/\x00\n]+)*$(?!\n)",
        max_length=255,
        description="A control group, as its path below /sys/fs/cgroup.",
    ),
]
# The kernel knows no limit of nothing, and takes 1 for a mistake.
Iops = Annotated[int, msgspec.Meta(ge=2, le=IOPS_MAX, description="Operations a second, over 1.")]
Rate = Annotated[int, msgspec.Meta(ge=2, le=BYTES_MAX, description="Bytes a second, over 1.")]


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How fast a volume may be used, reading and writing apart; None: as fast as it goes."""

    read_iops: Iops | None = None
    write_iops: Iops | None = None
    read_bytes_per_s: Rate | None = None
    write_bytes_per_s: Rate | None = None

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return self != Limits()


class AttachmentSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an attachment shall be like.

    ``uid`` is its own, ``volume_uid`` that of the volume, whose logical volume is in ``pool``.
    Without a mount point the device alone is given. Limits hold for what runs in ``cgroup``.
    """

    uid: Id
    volume_uid: Id
    pool: Name
    consumer: Consumer
    filesystem: Filesystem = Filesystem.NONE
    mount_point: MountPoint | None = None
    read_only: bool = False
    cgroup: Cgroup | None = None
    limits: Limits = Limits()


def stable_device(volume: str) -> str:
    """Return where its node shows an attached volume, whatever is below it."""
    return f"{STABLE_DEVICES}/{volume}"


class WantAttachment(Request, frozen=True, kw_only=True, tag="attachment.want.v1"):
    """Step of attaching: the node shall have the device, and the mount if one is asked for."""

    volume: Name
    node: Name
    operation: Id
    spec: AttachmentSpec


class LimitAttachment(Request, frozen=True, kw_only=True, tag="attachment.limit.v1"):
    """Step of limiting: these limits shall hold instead of those that do."""

    volume: Name
    node: Name
    operation: Id
    limits: Limits = Limits()


class RemoveAttachment(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="attachment.remove.v1"
):
    """Step of detaching, or of undoing an attachment: mount and device shall go.

    ``forced``: also from whoever uses them, who gets I/O errors: the volume is written elsewhere.
    """

    volume: Name
    node: Name
    operation: Id
    forced: bool = False


class KeepAttachment(Request, frozen=True, kw_only=True, tag="attachment.keep.v1"):
    """Step of undoing a detachment: mount and device shall be there again."""

    volume: Name
    node: Name
    operation: Id


class ReportAttachmentPresent(
    Report, frozen=True, kw_only=True, tag="attachment.report-present.v1"
):
    """The node has the attachment with all that is asked for, and these limits hold."""

    volume: Name
    node: Name
    uid: Id
    device: Path
    limits: Limits = Limits()


class ReportAttachmentAbsent(Report, frozen=True, kw_only=True, tag="attachment.report-absent.v1"):
    """Neither mount nor device of the attachment is left on the node."""

    volume: Name
    node: Name
    uid: Id


class ReportAttachmentTrouble(
    Report, frozen=True, kw_only=True, tag="attachment.report-trouble.v1"
):
    """The node could not do what is wanted; ``permanent``: trying again will not help."""

    volume: Name
    node: Name
    uid: Id
    code: Refusal
    because: Text
    permanent: bool = False


class AttachmentWanted(Event, frozen=True, kw_only=True, tag="attachment.wanted.v1"):
    """The node shall have this attachment."""

    volume: Name
    node: Name
    operation: Id
    spec: AttachmentSpec


class AttachmentLimitsWanted(Event, frozen=True, kw_only=True, tag="attachment.limits-wanted.v1"):
    """These limits shall hold."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    limits: Limits = Limits()


class AttachmentRemovalWanted(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="attachment.removal-wanted.v1"
):
    """Mount and device shall go; ``forced``: also from whoever uses them."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    forced: bool = False


class AttachmentRemovalWithdrawn(
    Event, frozen=True, kw_only=True, tag="attachment.removal-withdrawn.v1"
):
    """Mount and device shall be there again."""

    volume: Name
    node: Name
    operation: Id
    uid: Id


class AttachmentMade(Event, frozen=True, kw_only=True, tag="attachment.made.v1"):
    """The node has the attachment as it was wanted last."""

    volume: Name
    node: Name
    uid: Id
    device: Path
    limits: Limits = Limits()


class AttachmentRemoved(Event, frozen=True, kw_only=True, tag="attachment.removed.v1"):
    """Nothing of the attachment is left on the node."""

    volume: Name
    node: Name
    uid: Id


class AttachmentTroubled(Event, frozen=True, kw_only=True, tag="attachment.troubled.v1"):
    """The node could not do what is wanted of the attachment."""

    volume: Name
    node: Name
    uid: Id
    code: Refusal
    because: str
    permanent: bool = False


AttachmentCommand = (
    WantAttachment
    | LimitAttachment
    | RemoveAttachment
    | KeepAttachment
    | ReportAttachmentPresent
    | ReportAttachmentAbsent
    | ReportAttachmentTrouble
)
AttachmentEvent = (
    AttachmentWanted
    | AttachmentLimitsWanted
    | AttachmentRemovalWanted
    | AttachmentRemovalWithdrawn
    | AttachmentMade
    | AttachmentRemoved
    | AttachmentTroubled
)
