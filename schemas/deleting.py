"""What is said about volumes that go: at once, or after a hold, in which they can come back."""

from schemas.disk import Wiping
from schemas.grammar import Event, Request
from schemas.refusals import Refusal
from schemas.units import HoldSeconds, Id, Moment, Name, Seconds


class DeleteVolume(Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.delete.v1"):
    """Remove the volume and its data, at once or after ``hold_s``.

    Until then it is held: out of use, its name and room taken, and it can be undeleted. What is
    ``lost`` is not held.
    """

    volume: Name
    deadline_s: Seconds = 600
    hold_s: HoldSeconds = 0
    wiping: Wiping = Wiping.DISCARD


class UndeleteVolume(Request, frozen=True, kw_only=True, tag="volume.undelete.v1"):
    """Bring a held volume back as it was."""

    volume: Name
    deadline_s: Seconds = 600


class PurgeVolume(Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.purge.v1"):
    """Remove a held volume and its data now.

    With ``until``: only the hold that ends then. So the control plane purges what is over.
    """

    volume: Name
    deadline_s: Seconds = 600
    until: Moment | None = None
    wiping: Wiping = Wiping.DISCARD


class VolumeHoldBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.hold-began.v1"
):
    """The volume shall be out of use, and held with its data ``until`` then."""

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    node: Name
    pool: Name
    until: Moment
    wiping: Wiping = Wiping.DISCARD
    others: tuple[Name, ...] = ()


class VolumeHeld(Event, frozen=True, kw_only=True, tag="volume.held.v1"):
    """The volume is deleted for everybody, but can be undeleted ``until`` then."""

    volume: Name
    uid: Id
    operation: Id
    until: Moment


class VolumeUndeletionBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.undeletion-began.v1"
):
    """The held volume shall be in use again."""

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    node: Name
    pool: Name
    others: tuple[Name, ...] = ()


class VolumeUndeleted(Event, frozen=True, kw_only=True, tag="volume.undeleted.v1"):
    """The volume is back, as it was."""

    volume: Name
    uid: Id
    operation: Id


class VolumeUndeletionFailed(Event, frozen=True, kw_only=True, tag="volume.undeletion-failed.v1"):
    """The volume is held as before: bringing it back was given up."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


class VolumeDeletionBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.deletion-began.v1"
):
    """The volume and its data shall go from that pool; ``held``: it was out of use already.

    Its other replicas are on the nodes ``others``.
    """

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    node: Name
    pool: Name
    held: bool = False
    wiping: Wiping = Wiping.DISCARD
    others: tuple[Name, ...] = ()


class VolumeDeleted(Event, frozen=True, kw_only=True, tag="volume.deleted.v1"):
    """The volume is gone."""

    volume: Name
    uid: Id
    operation: Id


class VolumeDeletionFailed(Event, frozen=True, kw_only=True, tag="volume.deletion-failed.v1"):
    """The volume stays, in use or held as before: its deletion was given up."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


DeletingCommand = DeleteVolume | UndeleteVolume | PurgeVolume
DeletingEvent = (
    VolumeHoldBegan
    | VolumeHeld
    | VolumeUndeletionBegan
    | VolumeUndeleted
    | VolumeUndeletionFailed
    | VolumeDeletionBegan
    | VolumeDeleted
    | VolumeDeletionFailed
)
