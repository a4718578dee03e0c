"""What is said about the use of volumes: who has one attached, and how fast it may be used."""

from schemas.attachment import AttachmentSpec, Cgroup, Consumer, Limits, MountPoint
from schemas.grammar import Event, Request
from schemas.refusals import Refusal
from schemas.units import Id, Moment, Name, Seconds


class AttachVolume(Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.attach.v1"):
    """Give the volume to ``consumer`` on its node, mounted if a mount point is named.

    With ``node`` on that one, if it has a replica that is up to date.

    Again for the same consumer, in the same way, it is the same attachment.
    """

    volume: Name
    consumer: Consumer
    mount_point: MountPoint | None = None
    read_only: bool = False
    cgroup: Cgroup | None = None
    deadline_s: Seconds = 600
    node: Name | None = None


class DetachVolume(Request, frozen=True, kw_only=True, tag="volume.detach.v1"):
    """Take the volume back from whoever has it; a ``consumer``, where named, must be the one."""

    volume: Name
    consumer: Consumer | None = None
    deadline_s: Seconds = 600


class LimitVolume(Request, frozen=True, kw_only=True, tag="volume.limit.v1"):
    """Let these limits hold instead of all others: at once while attached, and ever after.

    With ``qos`` those of that class, now and whenever it is changed; then ``limits`` stay unset.
    """

    volume: Name
    limits: Limits = Limits()
    deadline_s: Seconds = 600
    qos: Name | None = None


class FollowQosClass(Request, frozen=True, kw_only=True, tag="volume.follow-qos.v1"):
    """Let the present limits of the volume's own class hold on its node.

    So the control plane carries the change of a class to its volumes. For one that is not
    attached, or has no class by now, nothing is to be done.
    """

    volume: Name
    uid: Id
    deadline_s: Seconds = 600


class VolumeAttachingBegan(Event, frozen=True, kw_only=True, tag="volume.attaching-began.v1"):
    """The volume shall be attached to its consumer on that node."""

    volume: Name
    operation: Id
    deadline: Moment
    node: Name
    attachment: AttachmentSpec


class VolumeAttached(Event, frozen=True, kw_only=True, tag="volume.attached.v1"):
    """The consumer has the volume."""

    volume: Name
    operation: Id
    attachment: AttachmentSpec


class VolumeAttachingFailed(Event, frozen=True, kw_only=True, tag="volume.attaching-failed.v1"):
    """Nobody has the volume: attaching it was given up and undone."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


class VolumeDetachingBegan(Event, frozen=True, kw_only=True, tag="volume.detaching-began.v1"):
    """The volume shall be taken back from its consumer."""

    volume: Name
    operation: Id
    deadline: Moment
    node: Name
    consumer: Consumer


class VolumeDetached(Event, frozen=True, kw_only=True, tag="volume.detached.v1"):
    """Nobody has the volume any longer."""

    volume: Name
    operation: Id
    consumer: Consumer


class VolumeDetachingFailed(Event, frozen=True, kw_only=True, tag="volume.detaching-failed.v1"):
    """The consumer still has the volume: taking it back was given up."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


class VolumeLimitingBegan(Event, frozen=True, kw_only=True, tag="volume.limiting-began.v1"):
    """Other limits than ``before`` shall hold on the node where the volume is attached.

    With ``qos`` they are those that this class has now.
    """

    volume: Name
    operation: Id
    deadline: Moment
    node: Name
    limits: Limits = Limits()
    before: Limits = Limits()
    qos: Name | None = None


class VolumeLimited(Event, frozen=True, kw_only=True, tag="volume.limited.v1"):
    """These limits hold, or will as soon as the volume is attached.

    With ``qos`` the volume has that class, and whoever gets it has the limits of the class then.
    """

    volume: Name
    limits: Limits = Limits()
    operation: Id | None = None
    qos: Name | None = None


class VolumeLimitingFailed(Event, frozen=True, kw_only=True, tag="volume.limiting-failed.v1"):
    """The limits are those of before: changing them was given up."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


AttachingCommand = AttachVolume | DetachVolume | LimitVolume | FollowQosClass
AttachingEvent = (
    VolumeAttachingBegan
    | VolumeAttached
    | VolumeAttachingFailed
    | VolumeDetachingBegan
    | VolumeDetached
    | VolumeDetachingFailed
    | VolumeLimitingBegan
    | VolumeLimited
    | VolumeLimitingFailed
)
